"""All differences between two networks at once: each layer computes by itself, from inputs that are right.

A mistake changes all that follows it. So in TensorFlow each layer passes on what Paddle's layer had: it computes from
right inputs, together with what lies between it and the layers before it, such as an addition or a padding. Backward it
passes on Paddle's gradient by its output. What then differs is wrong by itself, in as many places as there are.
"""

import dataclasses
import math

from tandem.certify.sameness import FLOORS, relative_error
from tandem.core.state import is_statistic
from tandem.core.views import viewed_like
from tandem.frameworks.base import FRAMEWORKS, TITLES

import numpy as np

SAME = 1e-10
"""The largest error that rounding to float64 explains."""

CONSTANT = 2e-6
"""The largest error of a layer by itself that a constant of its kind explains, rounded to float32: see below."""

UNKNOWN = 5e-7
"""The same for what has no kind: what lies between layers, and classes of the user's. A few times 2**-23."""

PADDING = ("padding", "exclusive")
"""Settings that a layer of zeros before a convolution or an average pool stands for."""

KEPT_IN_FLOAT32 = {
    "batch norm": "Paddle keeps momentum and epsilon as float32: 0.9 is 0.8999999762",
    "layer norm": "Paddle keeps epsilon as float32",
    "group norm": "Paddle keeps epsilon as float32",
    "instance norm": "Paddle keeps epsilon as float32",
    "leaky ReLU": "Paddle keeps the slope as float32",
    "ELU": "Paddle keeps alpha as float32",
    "SELU": "Paddle keeps scale and alpha as float32",
    "GELU": "the constants of GELU are float32 on one side",
    "hard sigmoid": "Paddle's slope is 0.1666667, as float32; Keras' is 1/6",
    "hard swish": "Paddle's scale and offset are float32",
    "average pool": "Paddle multiplies the gradient by 1/n as float32",
    "global average pool": "Paddle multiplies the gradient by 1/n as float32",
    "mish": "Paddle keeps the threshold as float32",
    "upsampling": "TensorFlow resizes in float32",
    "softplus": "Paddle keeps beta and the threshold as float32",
}
"""By kind, the constant behind a small error where it is known (paddle/phi/kernels, and tandem/traps)."""


@dataclasses.dataclass
class Apart:
    """A layer that differs by itself.

    Attributes:
        layer, type: its name and class in Paddle; `theirs` the same in TensorFlow: (name, class).
        error: the largest, infinite where tensors cannot be compared.
        what: which tensors differ, in words, by name of the quantity.
        settings: those that differ, by name: Paddle's and TensorFlow's.
        why: the reason in words, or empty.
        constant: whether a constant rounded to float32 explains all of it.
    """

    layer: str
    type: str
    theirs: tuple
    error: float = 0.0
    what: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)
    why: str = ""
    constant: bool = False

    def __str__(self):
        """The difference in one line."""
        kind = self.type if self.theirs[1] in (self.type, "") else f"{self.type}, in TensorFlow {self.theirs[1]}"
        parts = [f"{name} {ours} against {theirs}" for name, (ours, theirs) in self.settings.items()]
        parts += [f"{name} {error}" for name, error in self.what.items()]
        return f"{self.layer} ({kind}): {'; '.join([*parts, *([self.why] if self.why else [])])}"


def compared(engine, batch, step, record, paired):
    """Run in the second framework's worker: what differs where each layer computes by itself.

    Args:
        engine: of the second framework, in the state that `record` began with.
        batch, step: as for `Engine.train_step`; `step` is None in evaluation mode, which has no gradients.
        record: what the first framework computed, as `Worker.record` writes it, or `Engine.trace_evaluation`.
        paired: the names that both have, of `layers` and `arrays`; `last` and `rectifying` of a `Pairing`.

    Returns:
        A list of [quantity, name, error, words]: of each paired `output`, with "before" in place of words where what
        lies before the layer is to blame; the `output gradient` that what reads an output passes back; the `gradient`
        of each array; the `statistic`s; and the `logits`.
    """
    parts = {"output": {}, "output_gradient": {}, "gradient": {}, "input": {}, "state": {}}
    for name, array in record.items():
        what, _, rest = name.partition("/")
        if what in parts and (what in ("gradient", "state") or rest.partition("#")[0] in paired["layers"]):
            parts[what][rest] = array
    if step is None:
        replayed = engine.replay_evaluation(batch, parts["output"], paired["last"])
    else:
        replayed = engine.replay(batch, step, parts["output"], parts["output_gradient"], paired["last"])
    after = engine.state()
    found = []

    def enter(quantity, name, expected, actual, least, passes=True):
        last = paired["last"].get(name.partition("#")[0]) if "output" in quantity else None
        way = {True: (), False: (-1, 1)}.get(last)
        actual = None if actual is None else viewed_like(actual, expected, way)
        if actual is None:
            found.append([quantity, name, math.inf, "has another shape, or is not there"])
            return math.inf
        error = relative_error(actual * passes, expected * passes, least)
        error = error if math.isfinite(error) else math.inf
        if error > 0:
            found.append([quantity, name, error, ""])
        return error

    for quantity, part in (("output", "output"), ("output gradient", "output_gradient")):
        least = FLOORS["float64"] * _largest(parts[part])
        for name, expected in parts[part].items():
            actual = replayed.get(f"{part}/{name}")
            stops = part == "output_gradient" and name.partition("#")[0] in paired["rectifying"]
            passes = parts["output"][name] != 0 if stops else True
            if enter(quantity, name, expected, actual, least, passes) > SAME and quantity == "output":
                inputs = parts["input"].get(name), replayed.get(f"input/{name}")
                found[-1][3] = _blame(engine, name, expected, *inputs, training=step is not None)
    arrays = {name: x for name, x in parts["gradient"].items() if name in paired["arrays"]}
    least = FLOORS["float64"] * _largest(arrays)
    for name, expected in arrays.items():
        layer, _, last = name.rpartition(".")
        # The gradient of a bias is a sum, whose terms may cancel.
        terms = np.abs(parts["output_gradient"][layer]).sum() if last == "bias" and layer in parts["output"] else 0.0
        actual = replayed.get(f"gradient/{name}", np.zeros_like(expected))
        enter("gradient", name, expected, actual, max(least, terms))
    theirs = {name: replayed.get(f"gradient/{name}") for name in paired["arrays"] if name not in arrays}
    for name, actual in theirs.items():
        if actual is not None and np.abs(actual).max(initial=0.0) > SAME * least:
            found.append(["gradient", name, math.inf, f"is missing in {TITLES[FRAMEWORKS[0]]}"])
    statistics = {name: x for name, x in parts["state"].items() if name in paired["arrays"] and is_statistic(name)}
    # The true mean of a channel is zero where batch norm came before.
    least = FLOORS["float64"] * _largest(statistics)
    for name, expected in statistics.items():
        enter("statistic", name, expected, after[name], least)
    enter("logits", "logits", record["logits"], replayed["logits"], 0.0)
    return found


def judged(found, calls, pairing):
    """The layers that differ by themselves, each an `Apart`: from what `compared` found.

    Args:
        found: what `compared` returned.
        calls: by framework, what `layer_calls` of inspection.py returned.
        pairing: a `tandem.certify.pairing.Pairing`.
    """
    first, second = ({call["name"]: call for call in reversed(calls[framework])} for framework in FRAMEWORKS)
    before, behind = _neighbours(calls[FRAMEWORKS[0]], pairing)
    apart = {}

    def of(layer):
        theirs = pairing.layers.get(layer, "")
        types = (first.get(layer, {}).get("type", ""), second.get(theirs, {}).get("type", ""))
        return apart.setdefault(layer, Apart(layer, types[0], (theirs, types[1])))

    passed_back, elsewhere = [], []
    for quantity, name, error, words in found:
        if error <= SAME:
            continue
        number = name.partition("#")[0]
        if quantity == "output gradient":
            passed_back.append((name, error, words))
            continue
        if name in pairing.elsewhere:
            elsewhere.append((name, error))
            continue
        if quantity == "logits":
            entry, quantity = of("the logits"), "from what comes last"
        elif quantity == "output":
            entry = of(number)
            if words.startswith("before"):
                entry.why = f"what lies between {_listed(before[number])} and {number}{words[6:]}"
                words = ""
        else:
            layer, _, last = name.rpartition(".")
            entry, quantity = of(layer), f"gradient of {last}" if quantity == "gradient" else last
            if entry.why:
                continue  # its input is wrong
        _enter(entry, quantity, error, words)
    for name, error, words in passed_back:
        readers = behind.get(name.partition("#")[0], ["the logits"])
        # Of several, one that is known to differ, or else one with a constant that may explain it.
        known = [
            reader for reader in readers if reader in apart and (apart[reader].error > CONSTANT or error <= CONSTANT)
        ]
        if not known:
            likely = [x for x in readers if x in first and error <= CONSTANT and first[x]["kind"] in KEPT_IN_FLOAT32]
            _enter(of(" or ".join(likely[:1] or readers)), f"the gradient that it passes back to {name}", error, words)
    # Their layers have no partners, so what comes back to them is wrong wherever a layer behind them is.
    for name, error in elsewhere if not apart else ():
        layer, _, last = name.rpartition(".")
        _enter(of(layer), f"gradient of {last}", error, "")
    for entry in apart.values():
        kinds = ("own", "own")
        if entry.theirs[0]:
            kinds = _explain(entry, first[entry.layer], second[entry.theirs[0]])
        if entry.error <= CONSTANT:  # then another layer pads
            entry.settings = {name: values for name, values in entry.settings.items() if name not in PADDING}
        entry.constant = entry.error <= _explained(entry, kinds) and not entry.settings
        if entry.constant and not entry.why:
            entry.why = KEPT_IN_FLOAT32.get(kinds[0], "")
    for framework, layers in pairing.alone.items():
        for name, shapes in layers.items():
            entry = apart.setdefault(name, Apart(name, shapes, ("", ""), math.inf))
            entry.why = f"only in {TITLES[framework]}"
    for framework, arrays in pairing.alone_arrays.items():
        for name in arrays:
            layer, _, last = name.rpartition(".")
            entry = of(layer)
            entry.error, entry.constant = math.inf, False
            entry.what[last] = f"only in {TITLES[framework]}"
    order = {call["name"]: number for number, call in enumerate(calls[FRAMEWORKS[0]])}
    return sorted(apart.values(), key=lambda entry: order.get(entry.layer, len(order)))


def _enter(entry, quantity, error, words):
    entry.error = max(entry.error, error)
    entry.what[quantity] = words or f"{error:.1e}"


def _explain(entry, ours, theirs):
    """Enter the settings that differ, and what else is known of these two layers. Returns their kinds."""
    for name, value in ours["settings"].items():
        values = value, theirs["settings"].get(name, value)
        if not _equal(name, *values):
            entry.settings[name] = values
    kinds = ours["kind"], theirs["kind"]
    # Nothing is known of a class of the user's, or of a Lambda.
    known = not any(kind.startswith(("own ", "Tandem's ")) for kind in kinds)
    if known and kinds[0] != kinds[1] and set(kinds) != {"convolution", "dense"}:
        entry.settings["kind"] = kinds
    frozen = all(call["settings"].get("trainable") is False for call in (ours, theirs))
    if ours["kind"] == "batch norm" and frozen:
        entry.why = "frozen batch norm uses its statistics in Keras, and the batch's in Paddle"
    return kinds


def _explained(entry, kinds):
    """The largest error that float32 constants explain, of two layers of these `kinds`."""
    if any(kind.startswith("Tandem's ") for kind in kinds):
        return SAME
    if kinds[0] in KEPT_IN_FLOAT32:
        return CONSTANT
    between = entry.why.startswith("what lies") or all(name.startswith("the gradient that") for name in entry.what)
    return UNKNOWN if between or any(kind.startswith("own") for kind in kinds) else SAME


def _equal(name, ours, theirs):
    """Whether two values of a setting are the same, numbers as float32."""
    if name == "padding" and not isinstance(ours, str) and not isinstance(theirs, str):
        return _pads(ours) == _pads(theirs)
    if isinstance(ours, (int, float)) and isinstance(theirs, (int, float)):
        return np.float32(ours) == np.float32(theirs)
    return ours == theirs


def _pads(value):
    """Top, bottom, left and right."""
    if isinstance(value, int):
        return [value] * 4
    return [value[0], value[0], value[1], value[1]] if len(value) == 2 else list(value)


def _blame(engine, name, expected, ours, theirs, training):
    """Whether the layer `name` or what lies before it makes its output differ: "before" or nothing, and a guess why.

    `ours` and `theirs` are the inputs that it got in the two frameworks.
    """
    if ours is None or theirs is None:
        return ""
    theirs = viewed_like(theirs, ours)
    if theirs is not None and relative_error(theirs, ours, 0.0) <= SAME:
        return ""
    outputs = [viewed_like(output, expected) for output in engine.apply(name, ours, training)]
    right = any(output is not None and relative_error(output, expected, 0.0) <= SAME for output in outputs)
    if theirs is not None and relative_error(np.sort(theirs, axis=None), np.sort(ours, axis=None), 0.0) <= SAME:
        return "before: the same values in another order, as of a concatenation or of flattened channels"
    return "before" if right else ""


def _largest(arrays):
    return max((float(np.abs(x).max(initial=0.0)) for x in arrays.values() if x.dtype.kind == "f"), default=0.0)


def _neighbours(calls, pairing):
    """By Paddle's name, the paired layers right before each one, and right behind it."""
    before, behind = {}, {}
    for call in calls:
        seen, waiting = set(), list(call["sources"])
        near = before.setdefault(call["name"], [])
        while waiting:
            source = waiting.pop()
            if source in seen:
                continue
            seen.add(source)
            name = calls[source]["name"] if source >= 0 else "the images"
            if source >= 0 and name not in pairing.layers:
                waiting += calls[source]["sources"]
            elif name not in near:
                near.append(name)
                if call["name"] in pairing.layers:
                    behind.setdefault(name, []).append(call["name"])
    return before, behind


def _listed(names):
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
