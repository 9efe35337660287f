"""When two sets of tensors are the same: the same names, and every element of each within an error."""

import sys
from typing import NamedTuple

import numpy as np

FLOORS = {"float64": 1e-4, "float32": 1e-2, "float16": 1e-1, "bfloat16": 1e-1}
"""A tensor's error is relative to its largest entry, or to this fraction of the largest entry of its phase if that is
more. For example, the true gradient of a bias before batch norm is zero, and the computed one is noise."""


class Difference(NamedTuple):
    """By how much one tensor differs.

    Attributes:
        phase: what the tensor is, for example "gradients".
        name: the tensor's.
        error: see `relative_error`; infinite if the tensor is missing, of another shape or not finite.
        what: which of these, in words; otherwise empty.
    """

    phase: str
    name: str
    error: float
    what: str = ""


def relative_error(ours, theirs, least):
    """max|ours - theirs| / max(max|theirs|, least): 0 if both are equal, not finite if either is not."""
    return _relative_error(ours, theirs, max(_magnitude(theirs), least, sys.float_info.min))


def _relative_error(ours, theirs, scale):
    # One framework's two paths are mostly equal, which is four times as quick to tell.
    alike = np.array_equal(ours.ravel()[:64], theirs.ravel()[:64])
    if alike and np.array_equal(ours, theirs) and np.isfinite(scale):
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        distance = _magnitude(np.subtract(ours, theirs, dtype=np.float64))
    return 0.0 if distance == 0 else distance / scale


SUMS = ("loss", "hits", "hits in the top 5")
"""What `Engine.train_step` and `Engine.evaluate` return."""

STATE_KINDS = ("statistics", "velocities", "parameters", "EMA")
"""The kinds of arrays in a state, in the order in which a mistake shows after a step."""


def of_kind(states, kind):
    """The arrays of one of `STATE_KINDS` in each side's state; velocities and EMA without their prefix."""

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


def compare(sides, phase, precision="float64", least_of=None):
    """A `Difference` for each name that either side has: first in the order of the first side, then of the second.

    Args:
        sides: from the name of each of the two sides to its arrays by name. Errors are relative to the first side.
        phase: what these arrays are.
        precision: what they were computed in; decides the floor of an error (see `FLOORS`).
        least_of: by name, what an error is relative to where that is more.
    """
    (first, expected), (second, actual) = sides.items()
    of_arrays = {id(array): _magnitude(array) for array in {id(x): x for x in expected.values()}.values()}
    magnitudes = {name: of_arrays[id(array)] for name, array in expected.items()}
    largest = max((magnitude for magnitude in magnitudes.values() if np.isfinite(magnitude)), default=0.0)
    least = max(FLOORS[precision] * largest, sys.float_info.min)
    errors = {}  # of two arrays: a container has the array of its last layer
    differences = []
    for name in [*expected, *(name for name in actual if name not in expected)]:
        error, what = np.inf, ""
        if name not in actual:
            what = f"only in {first}"
        elif name not in expected:
            what = f"only in {second}"
        elif expected[name].shape != actual[name].shape:
            what = f"{first} has the shape {expected[name].shape}, {second} {actual[name].shape}"
        else:
            both = id(actual[name]), id(expected[name])
            if both not in errors:
                scale = max(magnitudes[name], least, (least_of or {}).get(name, 0.0))
                errors[both] = _relative_error(actual[name], expected[name], scale)
            error = errors[both]
            if not np.isfinite(error):
                error, what = np.inf, "not finite"
        differences.append(Difference(phase, name, error, what))
    return differences


def _magnitude(array):
    """The largest absolute value, without a copy of the array; NaN if the array has one."""
    return float(np.maximum(array.max(initial=0.0), -array.min(initial=0.0)))
