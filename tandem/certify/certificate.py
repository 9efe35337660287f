"""The certificate: whether two networks compute the same thing, at every step of a training, in every element.

Two workers, one a framework, take each step from one state: the weights, velocities and statistics that Paddle had
after the step before. A free run would not do, for training is chaotic: rounding alone drives any two correct
implementations apart, and one from itself. Such a run is shown beside, and not judged.
"""

import contextlib
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
from tandem.certify.sameness import compare
from tandem.config import networks
from tandem.config.load import check_config, load_config, overridden
from tandem.core import files
from tandem.core.errors import UserError
from tandem.core.files import ROOT
from tandem.core.initial_weights import WHITENING_IMAGES
from tandem.data.batches import training_batches
from tandem.data.images import fill_color, load_dataset, normalization
from tandem.frameworks.base import FRAMEWORKS
from tandem.frameworks.workers import WorkerStopped
from tandem.training import checkpoint

import numpy as np

TOLERANCES = {
    "float64": {"forward": 1e-10, "backward": 1e-10},
    "float32": {"forward": 1e-4, "backward": 0.2},
    "float16": {"forward": 3e-2, "backward": 0.5},
    "bfloat16": {"forward": 0.1, "backward": 1.0},
}
"""The largest error that passes, by precision. Below float64 the gradients need room: where rounding takes one
activation over a ReLU's kink, its part of the gradient comes or goes as a whole. In float64, too: weights moved by 1e-7
to 1e-6 of their size, as float32 does, move some gradient of `configs/se_resnext_best.yaml` by 0.01 to 0.11."""

BACKWARD = ("gradients", "velocities", "parameters", "averages")
"""The phases that hang on gradients."""

STATE_PHASES = ("statistics", "velocities", "parameters", "averages")
"""What a step leaves behind, in the order in which a mistake shows."""

WORKER = "tandem.certify.worker"
"""What a framework's process runs: see `Workers`."""

STEPS = 10
"""Training steps, where nobody says how many."""

LEARNING_RATES = (1.0, 0.5, 0.8, 0.25, 0.6)
"""The configured learning rate is multiplied by these in turn: some mistakes show only where it changes."""


@dataclasses.dataclass
class Certificate:
    """What was compared, and what came of it.

    Attributes:
        network: what was certified: a name, a config or a file.
        settings: the config in force, as a dict.
        steps, batch_size: how many training steps of how many images.
        tolerances: the largest error that passes, `forward` and `backward` (the phases of `BACKWARD`).
        made, machine: when (ISO 8601), and on what.
        sources: by file name, the SHA-256 of the files that hold the networks, layers and engines.
        records: by framework, the device settings in force.
        layers: by name, the types of the layers.
        phases: by phase: how many arrays were `compared` in all, `errors` (the worst of each step), and the worst of
            all: `error`, `name`, `step`. Phases are in the order in which a mistake shows.
        first: where the two first differ: `step`, `phase`, `name`, `layer` (the type), `error` (None where there is
            nothing to compare) and `what` in words; or None.
        trained: by framework and phase, how far a step of the training path is from the certified one: `precision`,
            worst `error`, `name`, `tolerance`, and whether it `passed`.
        free_run: for each step the error between two runs that nothing brings back: of the `frameworks`, and of Paddle
            and itself with all weights `nudged` by one unit in the last place.
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
    phases: dict = dataclasses.field(default_factory=dict)
    first: dict | None = None
    trained: dict = dataclasses.field(default_factory=dict)
    free_run: list = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self):
        """Whether the two are the same, and what is trained is what was certified."""
        return self.first is None and all(phase["passed"] for path in self.trained.values() for phase in path.values())

    def judge(self, step, phase, differences):
        """Enter the `differences` (see sameness.py) of a phase of a step, if there are any arrays in it."""
        if not differences:
            return
        tolerance = self.tolerances["backward" if phase in BACKWARD else "forward"]
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
        """Enter a training step, each phase in the order in which a mistake shows.

        Args:
            step: its number.
            traces: by framework, what `Engine.trace` gave.
            states: by framework, what `Engine.state` gave after it.
        """
        precision = self.settings["precision"]
        for phase, prefix in (("layer outputs", "output/"), ("logits", "logits"), ("loss", "loss")):
            self.judge(step, phase, compare(_part(traces, prefix), phase, precision))
        # Backwards, as they are computed.
        self.judge(step, "gradients", compare(_part(traces, "gradient/"), "gradients", precision)[::-1])
        for phase in STATE_PHASES:
            self.judge(step, phase, compare(_of_kind(states, phase), phase, precision))

    def judge_evaluation(self, traces):
        """Enter what `Engine.trace_evaluation` gave, by framework."""
        for what, prefix in (("layer outputs", "output/"), ("logits", "logits"), ("loss", "loss")):
            phase = f"evaluation: {what}"
            self.judge(self.steps, phase, compare(_part(traces, prefix), phase, self.settings["precision"]))

    def to_dict(self):
        """As plain values, for JSON."""
        return {"passed": self.passed, **dataclasses.asdict(self)}

    def _layer(self, name):
        """The type of the layer that `name` is, or that the parameter `name` is in."""
        return self.layers.get(name) or self.layers.get(name.rpartition(".")[0], "")


def subject(network, overrides=(), warn=print):
    """What `network` stands for: a known name, a config file, a Python file of one's own, a checkpoint or a run folder.

    Returns:
        The checked config; and of a checkpoint the state, as canonical names and arrays, otherwise None.

    Raises:
        UserError: it is none of these, or the config is wrong.
    """
    network = str(network)
    if network.endswith((".yaml", ".yml")):
        return load_config(network, overrides), None
    if network.endswith(".safetensors") or Path(network, "checkpoints").is_dir():
        path, arrays, metadata = checkpoint.find(network, warn)
        return check_config(overridden(metadata["config"], overrides), str(path)), arrays
    names = networks.names()
    if network.endswith(".py"):
        described = {"name": "own", "file": network}
    elif network in names:
        described = {"name": network}
    else:
        kinds = "a config, a checkpoint, a run folder, or a file mynet.py"
        raise UserError(f"{network}: no known network; use one of {', '.join(names)}; or {kinds}")
    values = {"network": described, "schedule": {"name": "constant"}, "epochs": 1}
    return check_config(overridden(values, overrides), network), None


def certify(
    network, settings, workers, steps=STEPS, batch_size=4, precision="float64", state=None, traps=None, report=None
):
    """Certify a network: a `Certificate`.

    Args:
        network: what to call it.
        settings: a `tandem.config.schema.Config`. Where its CIFAR-10 is not there, digits take its place.
        workers: a `tandem.frameworks.workers.Workers`.
        steps: training steps.
        batch_size: images in a step.
        precision: what to compare in, a key of `TOLERANCES`.
        state: the weights, velocities and statistics to begin with, by name; by default the initial ones.
        traps: by framework, the name of a trap to switch on (tandem/traps/trap.py).
        report: called with how many steps are done; or None.

    Raises:
        UserError: bad data or device, or a network that cannot be built.
    """
    started = time.monotonic()
    values = settings.model_dump(mode="json")
    data = values["data"]
    there = data["source"] != "cifar10" or data["archive"] or Path(data["directory"], data_utils.FOLDER).is_dir()
    values |= {"precision": precision, "batch_size": batch_size}
    values["data"] = data if there else {**data, "source": "digits"}
    trained_precision, settings = settings.precision, check_config(values, str(network))
    certificate = Certificate(
        network=str(network),
        settings=values,
        steps=steps,
        batch_size=batch_size,
        tolerances=TOLERANCES[precision],
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=platform.platform(),
        sources=_sources(settings.network),
    )
    dataset = load_dataset(settings.data, settings.seed)
    mean, std = normalization(dataset.train.images, settings.data.normalization)
    files.write_arrays(workers.folder / "preprocessing", {"mean": mean, "std": std})
    files.write_arrays(workers.folder / "images", {"images": dataset.train.images[:WHITENING_IMAGES]})
    try:
        _start(certificate, workers, values, len(dataset.class_names), state, traps or {})
        if certificate.first is None:
            _take_steps(certificate, workers, settings, dataset, trained_precision, report)
    except WorkerStopped as stopped:
        certificate.first = {"step": stopped.step, "phase": "running", "name": stopped.framework, "layer": ""}
        certificate.first |= {"error": None, "what": stopped.what}
    certificate.seconds = time.monotonic() - started
    return certificate


def _start(certificate, workers, values, num_classes, state, traps):
    workers.step = None
    if state is not None:
        files.write_arrays(workers.folder / "checkpoint", state)
    arguments = {"settings": values, "num_classes": num_classes, "resumed": state is not None}
    answers = workers.ask("start", by_framework={"trap": traps}, **arguments)
    certificate.records = {framework: answers[framework]["record"] for framework in FRAMEWORKS}
    for framework in reversed(FRAMEWORKS):
        certificate.layers |= answers[framework]["types"]
    states = workers.read("state")
    certificate.judge(0, "initial state", compare(states, "initial state"))
    if state is not None:
        kept = {name: array for name, array in state.items() if name in states["paddle"]}
        certificate.judge(
            0, "initial state", compare({"checkpoint": kept, "paddle": states["paddle"]}, "initial state")
        )


def _take_steps(certificate, workers, settings, dataset, trained_precision, report):
    workers.ask("start_free", by_framework={"nudge": {"paddle": True}})
    batches = _batches(settings, dataset.train)
    for step, batch in zip(range(certificate.steps), batches, strict=False):
        workers.step = step
        arrays = {name: np.asarray(value) for name, value in batch._asdict().items() if value is not None}
        files.write_arrays(workers.folder / "batch", arrays)
        arguments = {"learning_rate": settings.optimizer.learning_rate * LEARNING_RATES[step % len(LEARNING_RATES)]}
        arguments["step"] = step
        workers.ask("load")
        last = step == certificate.steps - 1
        if last:
            workers.ask("trained_step", precision=trained_precision, **arguments)
        workers.send("trace", **arguments)
        workers.send("free_step", **arguments)  # begun by each when its trace is done, and while that is compared
        try:
            workers.receive()
        except WorkerStopped:
            with contextlib.suppress(WorkerStopped):  # or the next command would get the free step's answer
                workers.receive()
            raise
        states = workers.read("state")
        certificate.judge_step(step, workers.read("trace"), states)
        if certificate.first is not None:
            with contextlib.suppress(WorkerStopped):  # what differs may fail later, too
                workers.receive()
            return
        drift = workers.receive()["paddle"]
        apart = max(difference.error for difference in compare(workers.read("free"), "free run"))
        certificate.free_run.append({"frameworks": _finite(apart), "nudged": _finite(drift)})
        if last:
            _judge_training_path(certificate, states, workers.read("trained"), trained_precision)
        if report:
            report(step + 1)
    workers.ask("load")
    workers.ask("trace_evaluation")
    certificate.judge_evaluation(workers.read("trace"))


def _batches(settings, split):
    """Training batches as the training loop makes them, one epoch after another."""
    fill = fill_color(split.images)
    for epoch in itertools.count():
        yield from training_batches(split, settings.batch_size, settings.seed, epoch, settings.data.augmentation, fill)


def _judge_training_path(certificate, states, trained, precision):
    """A step in the configured precision and with training's kernels, against that framework's own certified one."""
    for framework in FRAMEWORKS:
        certificate.trained[framework] = {}
        for phase in STATE_PHASES:
            sides = {"certified": states[framework], "trained": trained[framework]}
            differences = compare(_of_kind(sides, phase), phase, precision)
            worst = max(differences, key=lambda difference: difference.error, default=None)
            if worst is not None:
                tolerance = TOLERANCES[precision]["backward" if phase in BACKWARD else "forward"]
                certificate.trained[framework][phase] = {
                    "precision": precision,
                    "error": _finite(worst.error),
                    "name": worst.name,
                    "tolerance": tolerance,
                    "passed": worst.error <= tolerance,
                }


def _of_kind(states, kind):
    """Of each side's state one of `STATE_PHASES`; velocities and averages by the name of what they belong to."""

    def kind_of(name):
        if name.startswith("velocity/"):
            return "velocities"
        if name.startswith("ema/"):
            return "averages"
        return "statistics" if name.endswith((".running_mean", ".running_var")) else "parameters"

    return {
        side: {name.rpartition("/")[2]: array for name, array in state.items() if kind_of(name) == kind}
        for side, state in states.items()
    }


def _part(traces, prefix):
    return {
        framework: {name.split("/")[-1]: array for name, array in trace.items() if name.startswith(prefix)}
        for framework, trace in traces.items()
    }


def _finite(error):
    """JSON knows no infinity."""
    return error if math.isfinite(error) else None


def _sources(network):
    """The SHA-256 of each file that decides what is computed."""
    paths = {ROOT / "tandem" / "core" / "dropout.py"}
    for framework in FRAMEWORKS:
        paths |= {ROOT / "tandem" / "frameworks" / framework / f"{part}.py" for part in ("layers", "engine")}
    for builder in network.builders.values():
        where = builder.rpartition(":")[0]
        paths.add(Path(where if where.endswith(".py") else importlib.util.find_spec(where).origin))
    try:
        return {_shown(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; check the path of the network's file") from error


def _shown(path):
    """A file of Tandem's by its place in it, any other by its name alone."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
