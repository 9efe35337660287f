"""What it means that two sets of tensors are the same: every element of every name, and nothing missing."""

from typing import NamedTuple

import numpy as np

FLOORS = {"float64": 1e-4, "float32": 1e-2, "float16": 1e-1, "bfloat16": 1e-1}
"""A tensor's error is relative to its largest entry, but at least to this part of the largest entry of its phase: the
gradient of a bias before batch norm is zero in truth, and what is computed for it is noise."""


class Difference(NamedTuple):
    """By how much one tensor differs.

    Attributes:
        phase: of `phase_of`, or what else was compared.
        name: the tensor's.
        error: see `relative_error`; infinite where there is nothing to compare.
        what: in words, where it is more than a number: missing, of another shape, not finite.
    """

    phase: str
    name: str
    error: float
    what: str = ""


def relative_error(ours, theirs, least):
    """max|ours - theirs| / max(max|theirs|, least); 0 where both are all zero."""
    if ours.size == 0:
        return 0.0
    distance = float(np.abs(np.subtract(ours, theirs, dtype=np.float64)).max())
    scale = max(float(np.abs(theirs).max()), least)
    if distance == 0:
        return 0.0
    return distance / scale if scale > 0 else np.inf


def compare(sides, phase, precision="float64"):
    """A `Difference` for each name that either side has, in the order of the first and then of the second.

    Args:
        sides: what to call each of the two sides, to a dict from name to array. Errors are relative to the first.
        phase: what these arrays are.
        precision: what they were computed in; decides on the floor of an error (see `FLOORS`).
    """
    (first, expected), (second, actual) = sides.items()
    least = FLOORS[precision] * max((_largest(array) for array in expected.values()), default=0.0)
    differences = []
    for name in [*expected, *(name for name in actual if name not in expected)]:
        error, what = np.inf, ""
        if name not in actual:
            what = f"only in {first}"
        elif name not in expected:
            what = f"only in {second}"
        elif expected[name].shape != actual[name].shape:
            what = f"{first} has the shape {expected[name].shape}, {second} {actual[name].shape}"
        elif not np.isfinite(expected[name]).all() or not np.isfinite(actual[name]).all():
            what = "not finite"
        else:
            error = relative_error(actual[name], expected[name], least)
        differences.append(Difference(phase, name, error, what))
    return differences


def _largest(array):
    """The largest entry, or 0 where there is none, or one that is not finite: that is found anyway."""
    largest = float(np.abs(array).max(initial=0.0))
    return largest if np.isfinite(largest) else 0.0
