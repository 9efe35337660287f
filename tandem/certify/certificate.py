"""The certificate: what was compared at each step, and the verdict. tandem/certify/steps.py takes the steps."""

import dataclasses
import math

from tandem.certify.pairing import Pairing
from tandem.certify.sameness import STATE_KINDS, Difference, compare, of_kind
from tandem.core.views import viewed_like
from tandem.frameworks.base import FRAMEWORKS

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

FORWARD = (
    ("images", "images"),
    ("layer outputs", "output/"),
    ("logits", "logits"),
    ("loss", "loss"),
    ("loss and hits", "sums"),
)
"""The phases of the forward pass, and what their names in a trace begin with."""

BACKWARD = ("output gradients", "gradients", "velocities", "parameters", "EMA")
"""The phases, or the ends of their names, that depend on gradients."""

DRAWN_STEPS = 2
"""Training steps from a drawn state, after those from the initial one: see `drawn_state` in tandem/certify/drawn.py."""

FREE_DRIFT = 1e4
"""A free run fails if it drifts this many times as far as the nudged one, and beyond the tolerance. The right twins
here drift no further than the nudged run."""


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
        rounded: like `first`, where they first differ by what rounding explains (see tandem/certify/steps.py); or None.
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

    def judge_trained(self, answers, precision):
        """Enter how each framework's step in the configured `precision` differs from its own certified one.

        Of two steps the better counts, phase by phase, where gradients matter: rounding may take an activation across a
        ReLU's kink. Of the forward pass the worse.
        """
        for framework, answer in answers.items():
            if "unsupported" in answer:
                self.unsupported[framework] = answer["unsupported"]
                continue
            for phase, differences in answer["differences"].items():
                choose = min if phase in BACKWARD else max
                self._enter_trained(framework, phase, differences, precision, choose)

    def judge_trained_evaluation(self, answers, precision):
        """Enter how each framework's evaluation in the configured `precision` differs from its own certified one."""
        for framework, different in answers.items():
            for what, differences in different.items():
                self._enter_trained(framework, what, differences, precision, max)

    def judge_free_run(self, step, apart, nudged):
        """Enter how far the frameworks, and Paddle and its nudged self, have drifted apart in a free run."""
        self.free_run.append({"frameworks": _finite(apart), "nudged": _finite(nudged)})
        # Not where constants differ: chaos makes any drift of them.
        drift = max(self.tolerances["backward"], FREE_DRIFT * nudged)
        if self.first is None and self.rounded is None and apart > drift:
            what = f"the two are {apart:.1e} apart, Paddle and its nudged self {nudged:.1e}"
            self.first = {"step": step, "phase": "free run", "name": "parameters", "layer": "", "error": _finite(apart)}
            self.first["what"] = what

    def _enter_trained(self, framework, phase, differences, precision, choose):
        """Enter the worst of `differences` into `trained`; `choose` decides between it and what is there already."""
        if not differences:
            return
        worst = max(_read(differences, phase), key=lambda difference: difference.error)
        tolerance = TOLERANCES[precision]["backward" if phase in BACKWARD else "forward"]
        entry = {"precision": precision, "error": _finite(worst.error), "name": worst.name}
        entry |= {"tolerance": tolerance, "passed": worst.error <= tolerance}
        known = self.trained.setdefault(framework, {})
        known[phase] = choose(known.get(phase, entry), entry, key=_error)

    def to_dict(self):
        """As plain values, for JSON."""
        apart = [{**dataclasses.asdict(entry), "error": _finite(entry.error)} for entry in self.apart]
        return {"passed": self.passed, "verdict": self.verdict, **dataclasses.asdict(self), "apart": apart}

    def _part(self, traces, prefix):
        """By framework, what a trace has of `prefix`: of your own network, what is paired, in Paddle's axes."""
        parts = {}
        for framework, trace in traces.items():
            parts[framework] = {name.split("/")[-1]: x for name, x in trace.items() if name.startswith(prefix)}
        if self.pairing is None or prefix not in ("output/", "output_gradient/", "gradient/"):
            return parts
        known = self.pairing.arrays if prefix == "gradient/" else {*self.pairing.layers, *self.pairing.containers}
        parts = {
            framework: {name: x for name, x in part.items() if name.partition("#")[0] in known}
            for framework, part in parts.items()
        }
        ours, theirs = parts.values()
        both = ours.keys() & theirs.keys()
        for name in both:
            last = self.pairing.last.get(name.partition("#")[0])
            # A trace has images channels first, and other outputs as Keras has them.
            ways = {True: (1, -1), False: ()} if theirs[name].ndim == 4 else {True: (), False: (-1, 1)}
            view = viewed_like(theirs[name], ours[name], ways.get(last))
            theirs[name] = theirs[name] if view is None else view
        if prefix == "output_gradient/":  # what comes back where both gave 0 passes no further: see `rectifying`
            outputs = self._part(traces, "output/")
            for name in both.intersection(*outputs.values()):
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
