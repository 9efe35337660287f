"""The certificate: whether two networks compute the same, at every training step and in every element.

Two workers, one for each framework, take each step from the same state: Paddle's weights, velocities and statistics
after the previous step. A free run would not do, because training is chaotic: rounding alone drives any two correct
implementations apart, and even one from itself. The certificate also shows a free run, but does not judge it.
"""

import dataclasses
import hashlib
import importlib.util
import itertools
import math
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import data_utils
from tandem.certify.pairing import Pairing, check_names, pair
from tandem.certify.replay import judged
from tandem.certify.sameness import STATE_KINDS, Difference, compare, of_kind
from tandem.config import networks
from tandem.config.load import check_config, load_config
from tandem.core import files
from tandem.core.errors import UserError
from tandem.core.initial_weights import WHITENING_IMAGES
from tandem.core.machine import available_memory
from tandem.core.paths import CONFIGS, ROOT
from tandem.core.random import random_bits
from tandem.core.views import viewed_like
from tandem.data.batches import Batch, training_batches
from tandem.data.images import Dataset, fill_color, load_dataset, normalization
from tandem.frameworks.base import FRAMEWORKS, TITLES
from tandem.frameworks.workers import WorkerStopped
from tandem.training import checkpoint, trust

import numpy as np

TOLERANCES = {
    "float64": {"forward": 1e-10, "backward": 1e-10},
    "float32": {"forward": 1e-4, "backward": 0.2},
    "float16": {"forward": 3e-2, "backward": 0.5},
    "bfloat16": {"forward": 0.1, "backward": 1.0},
}
"""The largest error that passes, by precision. Below float64, gradients need loose ones: where rounding moves an
activation across a ReLU's kink, its whole contribution to the gradient appears or vanishes. This is so in float64 too:
weights changed by 1e-7 to 1e-6 of their size, as float32 does, change some gradient of `configs/se_resnext_best.yaml`
by 0.01 to 0.11."""

UP_TO_CONSTANTS = {"forward": 1e-4, "backward": 1e-2}
"""The largest error that passes where rounding explains the difference: see `_replay`."""

GROWN = ("layer outputs", "output gradients", "gradients", "evaluation: layer outputs")
"""The phases in which many layers make rounding grow, which no layer by itself shows."""

BACKWARD = ("output gradients", "gradients", "velocities", "parameters", "EMA")
"""The phases, or the ends of their names, that depend on gradients."""

SUMS = ("loss", "hits", "hits in the top 5")
"""What `Engine.train_step` and `Engine.evaluate` return."""

WORKER = "tandem.certify.worker"
"""The module that a framework's process runs: see `Workers`."""

STEPS, FEWEST_STEPS, SECONDS = 8, 3, 15.0
"""Training steps from the initial state, by default; a large network takes fewer, once so many seconds are over."""

DRAWN_STEPS = 2
"""Training steps after those, from a drawn state: see `drawn_state`."""

BATCH_SIZE = 5
"""Images in a step, by default: odd, as the last batch of an epoch may be."""

EVALUATED = 11
"""Images that are evaluated: enough for each rank of the right one among ten classes."""

LARGE_SECONDS = 8.0
"""How long the step of the configured batch size may take; else it takes fewer images."""

OUTPUT_COPIES = 8
"""How many times the layers' outputs a training step takes in memory, in both frameworks together."""

FREE_STEPS = 5
"""Steps of the free run."""

FREE_DRIFT = 1e4
"""A free run fails if it drifts this many times as far as the nudged one, and beyond the tolerance. The right twins
here drift no further than the nudged run."""

CIFAR_SIZE = 32
"""Pixels on a side of CIFAR-10's images. A network for others is certified on random ones."""

LATE = 2**20
"""The numbers of the drawn steps begin so late, which decide the dropout masks: a small integer type would show."""

LEARNING_RATES = (1.0, 0.5, 1e-3, 0.25, 0.6)
"""The configured learning rate is multiplied by these in turn: some mistakes show only when it changes or is small."""


@dataclasses.dataclass
class Certificate:
    """What was compared, and the result.

    Attributes:
        network: what was certified: a name, a config or a file.
        settings: the config, as a dict.
        steps, batch_size: how many training steps, of how many images each.
        tolerances: the largest error that passes, by `forward` and `backward` (the phases in `BACKWARD`).
        made, machine: when (ISO 8601), and on which system.
        sources: by file name, the SHA-256 of the files that hold the networks, layers, engines and dropout masks.
        records: by framework, the device settings in force.
        layers: by name, the types of the layers.
        table: by layer, in the order of computation, the worst errors of its `output`, of the loss's gradient by that
            output (`backward`) and of the gradients of its `parameters`; words where they cannot be compared; None for
            what it does not have.
        phases: by phase, how many arrays were `compared` in all, the `errors` (the worst of each step), and the worst
            error: `error`, `name`, `step`. Phases are in the order in which a mistake shows.
        first: where the two first differ: `step`, `phase`, `name`, `layer` (its type), `error` (None if it is not
            finite) and `what`, in words; or None.
        trained: by framework and phase, how far a step of the training path is from the certified one: `precision`,
            worst `error`, `name`, `tolerance`, and whether it `passed`.
        unsupported: by framework, why it has no training path in the configured precision.
        notes: what else to know, in words.
        rounded: like `first`, where they first differ by what rounding explains: see `_replay`; or None.
        pairing: of your own network, which layers and arrays are the same: see tandem/certify/pairing.py; else None.
        apart: of your own network, the layers that differ by themselves: see `Apart` in tandem/certify/replay.py.
        free_run: for each step, the error between two free runs: of the `frameworks`, and of Paddle against itself
            after all weights were `nudged` by one unit in the last place.
        step_seconds: how long the last step took on the slower training path.
        seconds: how long it took.
    """

    network: str
    settings: dict
    steps: int
    batch_size: int
    tolerances: dict
    made: str
    machine: str
    sources: dict
    records: dict = dataclasses.field(default_factory=dict)
    layers: dict = dataclasses.field(default_factory=dict)
    table: dict = dataclasses.field(default_factory=dict)
    phases: dict = dataclasses.field(default_factory=dict)
    first: dict | None = None
    trained: dict = dataclasses.field(default_factory=dict)
    unsupported: dict = dataclasses.field(default_factory=dict)
    notes: list = dataclasses.field(default_factory=list)
    rounded: dict | None = None
    pairing: Pairing | None = None
    apart: list = dataclasses.field(default_factory=list)
    free_run: list = dataclasses.field(default_factory=list)
    step_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def total_steps(self):
        """Training steps in all: those from the initial state, and those from a drawn one."""
        return self.steps + DRAWN_STEPS

    @property
    def passed(self):
        """Whether the two agree, and the training path of each agrees with its certified one."""
        trained = all(phase["passed"] for path in self.trained.values() for phase in path.values())
        return self.first is None and trained and self.verdict != "different"

    @property
    def verdict(self):
        """The two networks are "identical", "same up to float32 constants", or "different"."""
        if self.first is not None or not all(entry.constant for entry in self.apart):
            return "different"
        return "same up to float32 constants" if self.apart else "identical"

    def tolerance(self, phase):
        """The largest error of a phase that passes."""
        own = " trains: " in phase or " evaluates: " in phase  # a framework against itself
        tolerances = TOLERANCES[self.settings["precision"]] if own else self.tolerances
        return tolerances["backward" if phase.endswith(BACKWARD) else "forward"]

    def judge(self, step, phase, differences):
        """Enter the `differences` (see sameness.py) of one phase of a step. Without any, the phase is left out."""
        if not differences:
            return
        tolerance = self.tolerance(phase)
        entry = self.phases.setdefault(phase, {"compared": 0, "errors": [], "error": -1.0, "name": "", "step": step})
        entry["compared"] += len(differences)
        worst = max(differences, key=lambda difference: difference.error)
        entry["errors"].append(_finite(worst.error))
        if entry["error"] is not None and worst.error > entry["error"]:
            entry |= {"error": _finite(worst.error), "name": worst.name, "step": step}
        for difference in differences:
            if self.first is None and difference.error > tolerance:
                error, layer = _finite(difference.error), self._layer(difference.name)
                self.first = {"step": step, "phase": phase, "name": difference.name, "layer": layer}
                self.first |= {"error": error, "what": difference.what}

    def judge_step(self, step, traces, states):
        """Enter a training step, phase by phase in the order in which a mistake shows.

        Args:
            step: its number.
            traces: by framework, the result of `Engine.trace`.
            states: by framework, the result of `Engine.state` after the step.
        """
        precision = self.settings["precision"]
        for phase, prefix in FORWARD:
            differences = compare(self._part(traces, prefix), phase, precision)
            self.judge(step, phase, differences)
            if phase == "layer outputs":
                self._tabulate("output", differences)
        # In reverse, the order in which gradients are computed.
        outputs = self._part(traces, "output_gradient/")
        found = without_gradient(outputs, compare(outputs, "output gradients", precision)[::-1])
        self._tabulate("backward", found)
        self.judge(step, "output gradients", [self._at_culprit(difference, traces) for difference in found])
        gradients, least = self._part(traces, "gradient/"), _terms(traces[FRAMEWORKS[0]])
        found = without_gradient(gradients, compare(gradients, "gradients", precision, least)[::-1])
        self._tabulate("parameters", found)
        self.judge(step, "gradients", found)
        trained = [name.removeprefix("velocity/") for name in states[FRAMEWORKS[0]] if name.startswith("velocity/")]
        unused = [name for name in trained if not any(name in part for part in gradients.values())]
        note = f"Parameters that the loss does not depend on, in both: {', '.join(unused)}"
        if unused and note not in self.notes:
            self.notes.append(note)
        for kind in STATE_KINDS:
            # A velocity begins as a gradient.
            terms = least if kind == "velocities" else {}
            self.judge(step, kind, compare(of_kind(states, kind), kind, precision, terms))

    def judge_path(self, step, answers):
        """Enter what each framework's `train_step` left behind, compared with its own trace."""
        for framework, answer in answers.items():
            for kind, differences in answer.items():
                self.judge(step, f"{framework} trains: {kind}", _read(differences, kind))

    def judge_evaluation(self, step, traces, answers):
        """Enter `Engine.trace_evaluation` by framework, and how each one's `evaluate` and the like differ from it."""
        for what, prefix in FORWARD:
            phase = f"evaluation: {what}"
            self.judge(step, phase, compare(self._part(traces, prefix), phase, self.settings["precision"]))
        for framework, different in answers.items():
            for what, differences in different.items():
                self.judge(step, f"{framework} evaluates: {what}", _read(differences, what))

    def judge_free_run(self, step, apart, nudged):
        """Enter how far the frameworks, and Paddle and its nudged self, have drifted apart in a free run."""
        self.free_run.append({"frameworks": _finite(apart), "nudged": _finite(nudged)})
        # Not where constants differ: chaos makes any drift of them.
        drift = max(self.tolerances["backward"], FREE_DRIFT * nudged)
        if self.first is None and self.rounded is None and apart > drift:
            what = f"the two are {apart:.1e} apart, Paddle and its nudged self {nudged:.1e}"
            self.first = {"step": step, "phase": "free run", "name": "parameters", "layer": "", "error": _finite(apart)}
            self.first["what"] = what

    def to_dict(self):
        """As plain values, for JSON."""
        apart = [{**dataclasses.asdict(entry), "error": _finite(entry.error)} for entry in self.apart]
        return {"passed": self.passed, "verdict": self.verdict, **dataclasses.asdict(self), "apart": apart}

    def _part(self, traces, prefix):
        """By framework, what a trace has of `prefix`: of your own network, what is paired, in Paddle's axes."""
        parts = {}
        for framework, trace in traces.items():
            parts[framework] = {name.split("/")[-1]: x for name, x in trace.items() if name.startswith(prefix)}
        if self.pairing is not None and prefix in ("output/", "output_gradient/", "gradient/"):
            known = self.pairing.arrays if prefix == "gradient/" else {*self.pairing.layers, *self.pairing.containers}
            parts = {
                framework: {name: x for name, x in part.items() if name.partition("#")[0] in known}
                for framework, part in parts.items()
            }
            ours, theirs = parts.values()
            for name in ours.keys() & theirs.keys():
                last = self.pairing.last.get(name.partition("#")[0])
                view = viewed_like(theirs[name], ours[name], {True: (1, -1), False: ()}.get(last))
                theirs[name] = theirs[name] if view is None else view
        if self.pairing is not None and prefix == "output_gradient/":
            outputs = self._part(traces, "output/")
            for name in ours.keys() & theirs.keys() & outputs[FRAMEWORKS[0]].keys() & outputs[FRAMEWORKS[1]].keys():
                if name.partition("#")[0] in self.pairing.rectifying and ours[name].shape == theirs[name].shape:
                    passes = np.any([part[name] != 0 for part in outputs.values()], axis=0)
                    ours[name], theirs[name] = ours[name] * passes, theirs[name] * passes
        return parts

    def _tabulate(self, column, differences):
        """Enter the differences of one step into `table`."""
        for difference in differences:
            name = difference.name if column != "parameters" else difference.name.rpartition(".")[0]
            row = self.table.setdefault(name, {"output": None, "backward": None, "parameters": None})
            if not math.isfinite(difference.error):
                row[column] = difference.what
            elif not isinstance(row[column], str):
                row[column] = max(row[column] or 0.0, difference.error)

    def _at_culprit(self, difference, traces):
        """A difference of the gradient by an output, at the layer that passes this gradient back: one that took it in.

        Where the network itself did, outside of its layers, at the layer that comes next.
        """
        trace = traces[FRAMEWORKS[0]]
        names = [name.removeprefix("output/") for name in trace if name.startswith("output/")]
        taken = {name: [names[index] for index in trace.get(f"taken/{name}", ())] for name in names}
        readers = [name for name in names if difference.name in taken[name]]
        readers = [name for name in readers if self.layers.get(name.partition("#")[0]) != "Sequential"]
        if not readers and difference.name in names:
            readers = names[names.index(difference.name) + 1 :][:1]
        if not readers:
            return difference
        by = difference.what or f"error {difference.error:.1e}"
        what = f"what {' or '.join(readers) if len(readers) > 1 else 'it'} passes back to {difference.name}: {by}"
        return difference._replace(name=readers[0], what=what)

    def _layer(self, name):
        """The type of the layer `name`, or of the layer that holds the parameter `name`."""
        return self.layers.get(name) or self.layers.get(name.rpartition(".")[0], "")


FORWARD = (
    ("images", "images"),
    ("layer outputs", "output/"),
    ("logits", "logits"),
    ("loss", "loss"),
    ("loss and hits", "sums"),
)
"""The phases of the forward pass, and what their names in a trace begin with."""


def drawn_state(state, seed, step):
    """A harder state to start `step` from than the initial one: like `state`, by name, but large and nowhere zero.

    Each such step has its own: what a step leaves of it may be so large that float32 overflows.
    Activations go beyond 6, no bias, velocity or statistic is zero, no scale is one. All values are float32 numbers.
    """
    drawn = {}
    for name, array in state.items():
        last = name.rpartition(".")[2]
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
        bits = random_bits(seed, "certificate", key, step, array.size)
        uniform = ((bits >> np.uint64(11)) * 2.0**-52 - 1).reshape(array.shape)  # -1 to 1
        if name.startswith("velocity/"):
            value = 0.01 * uniform
        elif last == "running_var":
            value = 1.25 + 0.75 * uniform
        elif array.ndim in (2, 4):
            fan_in = math.prod(array.shape[1:]) if array.ndim == 4 else array.shape[0]
            value = 1.5 * math.sqrt(6 / fan_in) * uniform
        elif last == "weight":
            value = 1.75 + 1.25 * uniform
        else:
            value = np.where(uniform < 0, -0.25, 0.25) + uniform
        drawn[name] = value.astype(np.float32).astype(array.dtype)
    return drawn


def drawn_images(seed, size):
    """Random pixels in place of CIFAR-10, of `size` pixels, a `Dataset`.

    Grey or flat images would not do: where elements of a max pool are equal but for rounding, or a channel is constant,
    right twins differ.
    """
    pixels = random_bits(seed, "certificate images", 0, 0, (500, 3, size, size)) >> np.uint64(56)
    split = data_utils.Split(pixels.astype(np.uint8), np.arange(500) % data_utils.CLASSES)
    return Dataset(split, None, split, tuple(map(str, range(data_utils.CLASSES))))


def without_gradient(sides, differences):
    """`differences` of gradients, in words where one side has none, or only zeros."""
    told = []
    for difference in differences:
        for side, gradients in sides.items():
            gradient = gradients.get(difference.name)
            if gradient is None:
                told.append(difference._replace(what=f"no gradient in {side} (None)"))
                break
            if difference.error > 0 and not np.any(gradient):
                told.append(difference._replace(what=f"the gradient in {side} is zero everywhere"))
                break
        else:
            told.append(difference)
    return told


def subject(network, overrides=(), warn=print):
    """Resolve `network`: a known name, a config file, your own Python file, a checkpoint or a run folder.

    Returns:
        The checked config, and the state (canonical name to array) if it is a checkpoint or run folder, otherwise None.

    Raises:
        UserError: it is none of these, or the config is wrong.
    """
    network = str(network)
    if network.endswith((".yaml", ".yml")):
        return load_config(network, overrides), None
    if network.endswith(".safetensors") or Path(network, "checkpoints").is_dir():
        path, arrays, metadata = checkpoint.find(network, warn)
        return trust.settings_of(path, arrays, metadata, overrides), arrays
    names = networks.names()
    shipped = CONFIGS / f"{network}.yaml"
    if network not in names and shipped.is_file():
        return load_config(shipped, overrides), None
    if network.endswith(".py"):
        described = {"name": "own", "file": network}
    elif network in names:
        described = {"name": network}
    else:
        kinds = "a config, a checkpoint, a run folder, or a file mynet.py"
        raise UserError(f"{network}: unknown network; use one of {', '.join(names)}; or {kinds}")
    values = {"network": described, "schedule": {"name": "constant"}, "epochs": 1}
    return check_config(values, network, overrides), None


def certify(
    network,
    settings,
    workers,
    steps=None,
    batch_size=BATCH_SIZE,
    precision="float64",
    state=None,
    traps=None,
    report=None,
    names=None,
):
    """Certify a network; return a `Certificate`.

    Args:
        network: its name in the certificate.
        settings: a `tandem.config.schema.Config`. If its CIFAR-10 is not on the disk, see `drawn_images`.
        workers: a `tandem.frameworks.workers.Workers`.
        steps: training steps from the initial state, by default `STEPS` or fewer. `DRAWN_STEPS` more follow.
        batch_size: images in a step.
        precision: of the comparison, a key of `TOLERANCES`.
        state: the weights, velocities and statistics to start from, by name; by default the initial ones.
        traps: by framework, the name of a trap to switch on (tandem/traps/trap.py).
        report: called with how many steps are done; or None.
        names: of your own network, a map of layers from Paddle's names to TensorFlow's: see `pair` of pairing.py.

    Raises:
        UserError: bad data or device, or a network that cannot be built.
    """
    started = time.monotonic()
    values = settings.model_dump(mode="json")
    data = values["data"]
    here = data["archive"] or not data_utils.missing_files(data["directory"])
    available = data["source"] != "cifar10" or (here and data["image_size"] == CIFAR_SIZE)
    values |= {"precision": precision, "batch_size": batch_size}
    trained_precision, trained_size = settings.precision, settings.batch_size
    settings = check_config(values, str(network))
    certificate = Certificate(
        network=str(network),
        settings=values,
        steps=steps or STEPS,
        batch_size=batch_size,
        tolerances=TOLERANCES[precision],
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=platform.platform(),
        sources=_sources(settings.network),
    )
    if available:
        dataset = load_dataset(settings.data, settings.seed)
    else:
        dataset = drawn_images(settings.seed, data["image_size"])
        of_size = "here: see data.directory" if data["image_size"] == CIFAR_SIZE else f"of {data['image_size']} pixels"
        certificate.notes.append(f"The images are random pixels, since CIFAR-10 is not {of_size}")
    mean, std = normalization(dataset.train.images, settings.data.normalization)
    files.write_arrays(workers.folder / "preprocessing", {"mean": mean, "std": std})
    files.write_arrays(workers.folder / "images", {"images": dataset.train.images[:WHITENING_IMAGES]})
    try:
        calls = _start(certificate, workers, values, len(dataset.class_names), state, traps or {}, names)
        if certificate.first is None:
            _take_steps(certificate, workers, settings, dataset, trained_precision, steps is None, report)
        if calls and certificate.first is not None and precision == "float64":
            _replay(certificate, workers, settings, dataset, calls)
            if certificate.first is None:  # rounding explains it: once more, within wider limits
                _take_steps(certificate, workers, settings, dataset, trained_precision, steps is None, report)
        if certificate.first is None:
            _take_large_step(certificate, workers, settings, dataset, trained_size)
    except WorkerStopped as stopped:
        workers.drain()
        certificate.first = {"step": stopped.step, "phase": "running", "name": stopped.framework, "layer": ""}
        certificate.first |= {"error": None, "what": stopped.what}
    certificate.seconds = time.monotonic() - started
    return certificate


def _start(certificate, workers, values, num_classes, state, traps, names):
    """Build both networks. Returns, of your own network, the calls of its layers: see inspection.py; else None."""
    workers.step = None
    if state is not None:
        files.write_arrays(workers.folder / "checkpoint", state)
    arguments = {"settings": values, "num_classes": num_classes, "resumed": state is not None}
    answers = workers.ask("start", by_framework={"trap": traps}, **arguments)
    certificate.records = {framework: answers[framework]["record"] for framework in FRAMEWORKS}
    if values["network"]["name"] == "own":
        return _pair(certificate, workers, answers, names)
    for framework in reversed(FRAMEWORKS):
        certificate.layers |= answers[framework]["types"]
    states = workers.read("state")
    certificate.judge(0, "initial state", compare(states, "initial state"))
    if state is not None:
        kept = {name: array for name, array in state.items() if name in states["paddle"]}
        certificate.judge(
            0, "initial state", compare({"checkpoint": kept, "paddle": states["paddle"]}, "initial state")
        )
    return None


def _pair(certificate, workers, answers, names):
    """Pair the layers of your own networks, and have TensorFlow's take on Paddle's names. Returns their calls."""
    calls = workers.ask("layers")
    types, shapes = ({framework: answers[framework][what] for framework in FRAMEWORKS} for what in ("types", "shapes"))
    if names is None and answers[FRAMEWORKS[0]]["names"] is not None:
        names = check_names(answers[FRAMEWORKS[0]]["names"], certificate.settings["network"]["file"])
    pairing = certificate.pairing = pair(calls, names)
    renamed = pairing.renamed(types[FRAMEWORKS[1]], shapes[FRAMEWORKS[1]])
    # Containers of layers are compared, too, where they have the same name.
    computing = {framework: {call["name"] for call in calls[framework]} for framework in FRAMEWORKS}
    containers = (types[framework].keys() - computing[framework] for framework in FRAMEWORKS)
    pairing.containers = sorted(set.intersection(*map(set, containers)))
    certificate.layers = {renamed[0][name]: kind for name, kind in types[FRAMEWORKS[1]].items()} | types[FRAMEWORKS[0]]
    paired = {"layers": list(pairing.layers), "arrays": list(pairing.arrays)}
    paired |= {"last": pairing.last, "rectifying": pairing.rectifying}
    workers.ask("pair", by_framework={"names": {FRAMEWORKS[1]: renamed}}, paired=paired)
    certificate.judge(0, "initial state", pairing.without_partner())
    if all(name == theirs for name, (theirs, _) in pairing.arrays.items()):
        certificate.judge(0, "initial state", compare(workers.read("state"), "initial state"))
    for framework, layers in pairing.weightless.items():
        if layers:
            listed = ", ".join(f"{name} ({kind})" for name, kind in layers.items())
            certificate.notes.append(f"Layers without weights that only {TITLES[framework]} has: {listed}")
    return calls


def _replay(certificate, workers, settings, dataset, calls):
    """Find all layers that differ by themselves. Where rounding explains all of it, forget the difference.

    That is where they differ by constants only; or not at all, so that what differs is rounding that many layers have
    made grow.
    """
    first = certificate.first
    if workers.step is None:
        _write_batch(workers, next(_batches(settings, dataset.train)))
        workers.ask("load")
    for step in (workers.step or 0, None):  # a training step; or in evaluation mode
        workers.ask("record", learning_rate=settings.optimizer.learning_rate, step=step)
        certificate.apart = judged(workers.ask("replay", step=step)[FRAMEWORKS[1]], calls, certificate.pairing)
        if certificate.apart or not first["phase"].startswith("evaluation: "):
            break
    if certificate.apart:
        own = any(does in first["phase"] for does in (" trains: ", " evaluates: "))
        explained = first["phase"] != "images" and not own and all(entry.constant for entry in certificate.apart)
    else:
        limit = UP_TO_CONSTANTS["backward" if first["phase"].endswith(BACKWARD) else "forward"]
        explained = first["phase"] in GROWN and first["error"] is not None and first["error"] <= limit
    if explained:
        certificate.first, certificate.rounded, certificate.tolerances = None, first, UP_TO_CONSTANTS
        certificate.phases, certificate.table, certificate.free_run, certificate.trained = {}, {}, [], {}
        if not certificate.apart:
            certificate.notes.append(
                f"Rounding grows from layer to layer, to {first['error']:.1e} at {first['name']} ({first['phase']}); "
                f"each layer by itself agrees within {TOLERANCES['float64']['forward']:g}"
            )


def _take_steps(certificate, workers, settings, dataset, trained_precision, hurry, report):
    """All steps, until the first difference. With `hurry` a slow network takes fewer from the initial state."""
    batches, classes = _batches(settings, dataset.train), len(dataset.class_names)
    began = time.monotonic()
    for step in itertools.count():
        if step == certificate.total_steps:
            break
        workers.step = step
        rate = settings.optimizer.learning_rate * LEARNING_RATES[step % len(LEARNING_RATES)]
        drawn = step >= certificate.steps
        how = {"learning_rate": rate, "step": step + LATE if drawn else step}
        if step == certificate.steps:
            _evaluate(certificate, workers, dataset, trained_precision)
            if certificate.first is not None:
                return
        if drawn:
            _draw_state(workers, settings.seed, step)
        batch = next(batches)
        size = len(batch.labels)
        if drawn:  # not grey, as digits are
            pixels = random_bits(settings.seed, "certificate images", 0, step, batch.images.shape) >> np.uint64(56)
            batch = batch._replace(images=pixels.astype(np.uint8))
        # All classes, one after the other: images are as the loop makes them, labels need not be true.
        _write_batch(workers, batch._replace(labels=(step * size + np.arange(size)) % classes))
        workers.ask("load")
        workers.send("train", **how)
        workers.send("trace", **how)
        low = trained_precision != settings.precision and step in (0, certificate.steps)
        if low:
            workers.send("train_in", precision=trained_precision, **how)
        twice = step == certificate.steps
        if twice:
            workers.send("train_twice", **how)
        slow = time.monotonic() - began > SECONDS
        free = step < min(certificate.steps, FREE_STEPS) and not (step > 1 and slow)
        if free:
            workers.send("free_step", by_framework={"nudge": {FRAMEWORKS[0]: True}}, **how)
        certificate.step_seconds = max(workers.receive().values())
        different = workers.receive()
        certificate.judge_step(step, workers.read("trace"), workers.read("state"))
        certificate.judge_path(step, different)
        if low:
            _judge_training_path(certificate, workers.receive(), trained_precision)
        if twice:
            certificate.judge_path(step, workers.receive())
        if free:
            nudged = workers.receive()[FRAMEWORKS[0]]
            apart = max(difference.error for difference in compare(workers.read("free"), "free run"))
            certificate.judge_free_run(step, apart, nudged)
        if certificate.first is not None:
            return
        if hurry and slow and FEWEST_STEPS <= step + 1 < certificate.steps:
            certificate.steps = step + 1
        if report:
            report(step + 1)
    _draw_state(workers, settings.seed, certificate.total_steps)
    _evaluate(certificate, workers, dataset, trained_precision)


def _draw_state(workers, seed, step):
    state = {name: np.array(array) for name, array in workers.read("state")[FRAMEWORKS[0]].items()}
    files.write_arrays(workers.folder / f"{FRAMEWORKS[0]}-state", drawn_state(state, seed, step))


def _evaluate(certificate, workers, dataset, trained_precision):
    """Evaluate in the state after the last step: traced, in every way that the commands do, and as it is trained."""
    images = dataset.train.images[:EVALUATED]
    labels = np.zeros(len(images), np.int64)
    _write_batch(workers, Batch(images, labels))
    workers.ask("load")
    workers.ask("predict")
    ranked = np.argsort(-workers.read("predicted")[FRAMEWORKS[0]]["logits"], axis=1, kind="stable")
    # Labels of every rank in turn, so that a wrong count of hits shows.
    labels = ranked[np.arange(len(images)), np.arange(len(images)) % ranked.shape[1]]
    _write_batch(workers, Batch(images, labels))
    answers = workers.ask("evaluate")
    certificate.judge_evaluation(workers.step, workers.read("trace"), answers)
    if trained_precision != certificate.settings["precision"]:
        for framework, different in workers.ask("evaluate_in", precision=trained_precision).items():
            for what, differences in different.items():
                path, trained = {}, certificate.trained[framework]
                _enter_path(path, what, _read(differences, what), trained_precision)
                trained[what] = max(path[what], trained.get(what, path[what]), key=_error)


def _take_large_step(certificate, workers, settings, dataset, size):
    """One step of the configured batch size through both training paths, where memory and time allow."""
    configured = min(size, len(dataset.train.labels))
    outputs = [array for name, array in workers.read("trace")[FRAMEWORKS[0]].items() if name.startswith("output/")]
    per_image = OUTPUT_COPIES * sum(array.nbytes for array in outputs) / EVALUATED
    fitting, in_time = available_memory() / per_image, LARGE_SECONDS / certificate.step_seconds * certificate.batch_size
    size = int(min(configured, fitting, in_time))
    if configured > certificate.batch_size and size < configured:
        why = "take too long" if in_time < fitting else "need too much memory"
        taken = f"The large batch has {size} images" if size > certificate.batch_size else "No large batch was tried"
        certificate.notes.append(f"{taken}: the configured {configured} would {why} here")
    if size <= certificate.batch_size:
        return
    workers.step += 1
    large = check_config({**certificate.settings, "batch_size": size}, certificate.network)
    _write_batch(workers, next(_batches(large, dataset.train)))
    workers.ask("load")
    workers.ask("train_only", learning_rate=settings.optimizer.learning_rate, step=workers.step)
    states, phase = workers.read("trained"), f"batch of {size}"
    sums = {side: dict(zip(SUMS, state.pop("sums"), strict=True)) for side, state in states.items()}
    certificate.judge(workers.step, f"{phase}: loss and hits", compare(sums, phase))
    for kind in STATE_KINDS:
        certificate.judge(workers.step, f"{phase}: {kind}", compare(of_kind(states, kind), phase))
    workers.ask("evaluate_only")
    certificate.judge(workers.step, f"{phase}: evaluation", compare(workers.read("evaluated"), phase))


def _write_batch(workers, batch):
    arrays = {name: np.asarray(value) for name, value in batch._asdict().items() if value is not None}
    files.write_arrays(workers.folder / "batch", arrays)


def _batches(settings, split):
    """Training batches as the training loop makes them, epoch after epoch."""
    fill = fill_color(split.images)
    for epoch in itertools.count():
        yield from training_batches(split, settings.batch_size, settings.seed, epoch, settings.data.augmentation, fill)


def _judge_training_path(certificate, answers, precision):
    """Compare each framework's step in the configured precision with its own certified one.

    Of two steps the better counts, phase by phase, where gradients matter: rounding may take an activation across a
    ReLU's kink. Of the forward pass the worse.
    """
    for framework, answer in answers.items():
        if "unsupported" in answer:
            certificate.unsupported[framework] = answer["unsupported"]
            continue
        path = {}
        for phase, differences in answer["differences"].items():
            _enter_path(path, phase, _read(differences, phase), precision)
        known = certificate.trained.setdefault(framework, {})
        for phase, entry in path.items():
            choose = min if phase in BACKWARD else max
            known[phase] = choose(known.get(phase, entry), entry, key=_error)


def _enter_path(path, phase, differences, precision):
    """Enter the worst of `differences` into `path`, one framework's entry of `Certificate.trained`."""
    if differences:
        worst = max(differences, key=lambda difference: difference.error)
        tolerance = TOLERANCES[precision]["backward" if phase in BACKWARD else "forward"]
        path[phase] = {"precision": precision, "error": _finite(worst.error), "name": worst.name}
        path[phase] |= {"tolerance": tolerance, "passed": worst.error <= tolerance}


def _read(differences, phase):
    """Differences as a worker sends them."""
    return [Difference(phase, *difference) for difference in differences]


def _terms(trace):
    """By name of a bias, the sum of its gradient's terms without their signs: what rounding is relative to.

    The true gradient of a bias before batch norm is zero.
    """
    terms = {}
    for name in trace:
        layer = name.removeprefix("gradient/").removesuffix(".bias")
        if name == f"gradient/{layer}.bias" and f"output_gradient/{layer}" in trace:
            terms[f"{layer}.bias"] = float(np.abs(trace[f"output_gradient/{layer}"]).sum())
    return terms


def _error(entry):
    """The error of an entry as a number: infinity where it is None."""
    return math.inf if entry["error"] is None else entry["error"]


def _finite(error):
    """`error`, or None for infinity, which JSON lacks."""
    return error if math.isfinite(error) else None


def _sources(network):
    """The SHA-256 of the files that hold the networks, layers, engines and dropout masks."""
    paths = {ROOT / "tandem" / "core" / "dropout.py"}
    for framework in FRAMEWORKS:
        parts = ("layers", "kernels", "engine")
        paths |= {ROOT / "tandem" / "frameworks" / framework / f"{part}.py" for part in parts}
    for builder in network.builders.values():
        where = builder.rpartition(":")[0]
        paths.add(Path(where if where.endswith(".py") else importlib.util.find_spec(where).origin))
    try:
        return {_shown(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; check the path of the network's file") from error


def _shown(path):
    """Tandem's own files relative to its root, others by name only."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
