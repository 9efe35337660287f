"""The certificate: whether two networks compute the same, at every training step and in every element.

Two workers, one for each framework, take each step from the same state: Paddle's weights, velocities and statistics
after the previous step. A free run would not do, because training is chaotic: rounding alone drives any two correct
implementations apart, and even one from itself. The certificate also shows a free run, but does not judge it.
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
from tandem.core.initial_weights import WHITENING_IMAGES
from tandem.core.paths import CONFIGS, ROOT
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
"""The largest error that passes, by precision. Below float64, gradients need loose ones: where rounding moves an
activation across a ReLU's kink, its whole contribution to the gradient appears or vanishes. This is so in float64 too:
weights changed by 1e-7 to 1e-6 of their size, as float32 does, change some gradient of `configs/se_resnext_best.yaml`
by 0.01 to 0.11."""

BACKWARD = ("gradients", "velocities", "parameters", "EMA")
"""The phases that depend on gradients."""

STATE_PHASES = ("statistics", "velocities", "parameters", "EMA")
"""The phases of the state after a step, in the order in which a mistake shows."""

WORKER = "tandem.certify.worker"
"""The module that a framework's process runs: see `Workers`."""

STEPS = 10
"""Training steps, by default."""

LEARNING_RATES = (1.0, 0.5, 0.8, 0.25, 0.6)
"""The configured learning rate is multiplied by these in turn: some mistakes show only when it changes."""


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
        phases: by phase, how many arrays were `compared` in all, the `errors` (the worst of each step), and the worst
            error: `error`, `name`, `step`. Phases are in the order in which a mistake shows.
        first: where the two first differ: `step`, `phase`, `name`, `layer` (its type), `error` (None if it is not
            finite) and `what`, in words; or None.
        trained: by framework and phase, how far a step of the training path is from the certified one: `precision`,
            worst `error`, `name`, `tolerance`, and whether it `passed`.
        free_run: for each step, the error between two free runs: of the `frameworks`, and of Paddle against itself
            after all weights were `nudged` by one unit in the last place.
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
        """Whether the two agree, and the training path of each agrees with its certified one."""
        return self.first is None and all(phase["passed"] for path in self.trained.values() for phase in path.values())

    def judge(self, step, phase, differences):
        """Enter the `differences` (see sameness.py) of one phase of a step. Without any, the phase is left out."""
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
        """Enter a training step, phase by phase in the order in which a mistake shows.

        Args:
            step: its number.
            traces: by framework, the result of `Engine.trace`.
            states: by framework, the result of `Engine.state` after the step.
        """
        precision = self.settings["precision"]
        for phase, prefix in (("layer outputs", "output/"), ("logits", "logits"), ("loss", "loss")):
            self.judge(step, phase, compare(_part(traces, prefix), phase, precision))
        # In reverse, the order in which gradients are computed.
        self.judge(step, "gradients", compare(_part(traces, "gradient/"), "gradients", precision)[::-1])
        for phase in STATE_PHASES:
            self.judge(step, phase, compare(_of_kind(states, phase), phase, precision))

    def judge_evaluation(self, traces):
        """Enter the results of `Engine.trace_evaluation`, by framework."""
        for what, prefix in (("layer outputs", "output/"), ("logits", "logits"), ("loss", "loss")):
            phase = f"evaluation: {what}"
            self.judge(self.steps, phase, compare(_part(traces, prefix), phase, self.settings["precision"]))

    def to_dict(self):
        """As plain values, for JSON."""
        return {"passed": self.passed, **dataclasses.asdict(self)}

    def _layer(self, name):
        """The type of the layer `name`, or of the layer that holds the parameter `name`."""
        return self.layers.get(name) or self.layers.get(name.rpartition(".")[0], "")


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
        return check_config(overridden(metadata["config"], overrides), str(path)), arrays
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
    return check_config(overridden(values, overrides), network), None


def certify(
    network, settings, workers, steps=STEPS, batch_size=4, precision="float64", state=None, traps=None, report=None
):
    """Certify a network; return a `Certificate`.

    Args:
        network: its name in the certificate.
        settings: a `tandem.config.schema.Config`. If its CIFAR-10 is not on the disk, digits are used instead.
        workers: a `tandem.frameworks.workers.Workers`.
        steps: training steps.
        batch_size: images in a step.
        precision: of the comparison, a key of `TOLERANCES`.
        state: the weights, velocities and statistics to start from, by name; by default the initial ones.
        traps: by framework, the name of a trap to switch on (tandem/traps/trap.py).
        report: called with how many steps are done; or None.

    Raises:
        UserError: bad data or device, or a network that cannot be built.
    """
    started = time.monotonic()
    values = settings.model_dump(mode="json")
    data = values["data"]
    available = data["source"] != "cifar10" or data["archive"] or Path(data["directory"], data_utils.FOLDER).is_dir()
    values |= {"precision": precision, "batch_size": batch_size}
    values["data"] = data if available else {**data, "source": "digits"}
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
        workers.send("free_step", **arguments)  # runs after the trace, while the traces are compared
        try:
            workers.receive()
        except WorkerStopped:
            with contextlib.suppress(WorkerStopped):  # otherwise the next command would get the free step's answer
                workers.receive()
            raise
        states = workers.read("state")
        certificate.judge_step(step, workers.read("trace"), states)
        if certificate.first is not None:
            with contextlib.suppress(WorkerStopped):  # a network that differs may also fail in the free step
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
    """Compare each framework's step in the configured precision, on its training path, with its own certified step."""
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
    """The arrays of one of `STATE_PHASES` in each side's state; velocities and EMA without their prefix."""

    def kind_of(name):
        if name.startswith("velocity/"):
            return "velocities"
        if name.startswith("ema/"):
            return "EMA"
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
    """`error`, or None for infinity, which JSON lacks."""
    return error if math.isfinite(error) else None


def _sources(network):
    """The SHA-256 of the files that hold the networks, layers, engines and dropout masks."""
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
    """Tandem's own files relative to its root, others by name only."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
