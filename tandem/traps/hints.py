"""Hints: which traps a certificate's first difference looks like.

By the phase and the layer in which each trap was seen, by what kind of difference it made, and by its size: seen.json,
which `tandem traps --output` writes.
"""

import json
import math
from pathlib import Path

SEEN = Path(__file__).with_name("seen.json")

MOST = 3
"""At most so many hints."""

NEAR = 2.5
"""An error is near a trap's own if it is within so many powers of ten."""

PHASES = {"output": "layer outputs", "running_mean": "statistics", "running_var": "statistics"}
"""Quantities of a layer by itself (see `Apart`), and the phase of a certificate in which they show."""

DIMENSIONS = ("1D", "2D", "3D")

FAMILIES = (
    {
        *(f"{kind}{d}" for kind in ("Conv", "DepthwiseConv", "SeparableConv") for d in DIMENSIONS),
        *(f"Conv{d}Transpose" for d in DIMENSIONS),
    },
    {"BatchNorm", *(f"BatchNorm{d}" for d in DIMENSIONS), "BatchNormalization", "SyncBatchNorm"},
    {"Linear", "Dense", "EinsumDense"},
    {
        *(f"{where}MaxPool{d}" for where in ("", "Adaptive") for d in DIMENSIONS),
        *(f"{where}MaxPooling{d}" for where in ("", "Global") for d in DIMENSIONS),
        "GlobalMaxPool",
    },
    {
        *(f"{where}AvgPool{d}" for where in ("", "Adaptive") for d in DIMENSIONS),
        *(f"{where}AveragePooling{d}" for where in ("", "Global") for d in DIMENSIONS),
        "GlobalAveragePool",
        "AveragePoolPad",
    },
    {"Dropout", "Dropout2D", "Dropout3D", *(f"SpatialDropout{d}" for d in DIMENSIONS)},
    {"Flatten", "Reshape"},
    # Each activation has constants of its own; Keras' `Activation` may be any.
    {"LeakyReLU", "Activation"},
    {"Hardsigmoid", "HardSigmoid", "Activation"},
    {"SELU", "Activation"},
    {"GELU", "Activation"},
    {"ReLU", "ReLU6", "Activation"},
)
"""Types of layers, of both frameworks and Tandem's own, in which the same mistakes are made."""


def known(first, traps):
    """The names of the traps, the best first, that show as a certificate's `first` difference does; or none.

    Args:
        first: `Certificate.first`, or None.
        traps: the `Trap`s to choose from.
    """
    if first is None:
        return []
    seen = json.loads(SEEN.read_text(encoding="utf-8"))
    ranked = sorted((rank, trap.name) for trap in traps if (rank := _rank(first, trap, seen.get(trap.name))))
    return [name for _, name in ranked[:MOST]]


def of_layer(entry, traps):
    """The names of the traps, the best first, that a layer which differs by itself looks like; or none.

    By the settings that differ. Without any: by the first quantity that differs, and how much.

    Args:
        entry: an `Apart` of tandem/certify/replay.py.
        traps: the `Trap`s to choose from.
    """
    if entry.constant:
        return []
    if "in another order" in entry.why:
        return ["flatten_order"]
    akin = [trap for trap in traps if trap.shows and _kinship(entry.type, trap.shows[1]) in (0, 1)]
    if entry.settings:
        return [trap.name for trap in akin if trap.setting in entry.settings][:MOST]
    quantity, what = next(iter(entry.what.items()), ("", ""))
    phase = "gradients" if what.startswith("is missing") else PHASES.get(quantity)
    if entry.why or phase is None:
        return []
    first = {"step": 0, "phase": phase, "layer": entry.type, "error": entry.error, "what": what}
    return known(first, akin)


def kind(first):
    """What kind of difference `first` is: "number", if it has an error; "shape", "missing", "not finite", "stopped"."""
    what = first["what"]
    if first["phase"] in ("building", "running"):
        return "stopped"
    if "has the shape" in what:
        return "shape"
    if what.startswith(("only in", "is missing")) or "no gradient in" in what or "is zero everywhere" in what:
        return "missing"
    return "not finite" if first["error"] is None else "number"


def _rank(first, trap, own):
    """How well `first` fits what was seen of `trap`, less is better; None where it does not fit."""
    if own is None or _phase(first) != _phase(own):
        return None
    kinship = _kinship(first["layer"], trap.shows[1])
    distance = _distance(first, own, trap.varies)
    if kinship is None or distance is None or distance > NEAR:
        return None
    # A trap that shows at the first step would not wait for the second. The other way round it may: a run goes on
    # from a checkpoint.
    return kinship, (first["step"] > 0) != (own["step"] > 0), distance


def _phase(first):
    """The phase without the framework: that a compiled step differs from the traced one is the same in either."""
    return first["phase"].removeprefix("paddle ").removeprefix("tensorflow ")


def _kinship(layer, own):
    """How near the type of a layer is to that of a trap: 0 the same, 1 the same family, 2 any will do; or None."""
    if own is None:
        return 2
    if layer == own:
        return 0
    return 1 if any(layer in family and own in family for family in FAMILIES) else None


def _distance(first, own, varies):
    """How many powers of ten are between two errors; 0 if neither has any; None if they are not of a kind."""
    if varies:  # anything from 1 up, and what is not finite
        return max(0.0, -math.log10(first["error"] or 1.0)) if kind(first) in ("number", "not finite") else None
    if kind(first) != own["kind"]:
        return None
    return abs(math.log10(first["error"] / own["error"])) if first["error"] and own["error"] else 0.0
