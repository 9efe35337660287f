"""One framework's activations beside the other's: channels first or last, with or without axes of length 1."""

import numpy as np


def views(array, shape):
    """The ways to read `array` as one of `shape`: as it is, with channels first, and with channels last.

    Axes of length 1 do not count: [N, C, 1, 1] is read as [N, C].

    Returns:
        A dict from the way, where an axis moves from and to, to the array.
    """
    ways = {(): array}
    if array.ndim > 2:
        ways |= {way: np.moveaxis(array, *way) for way in ((-1, 1), (1, -1))}
    wanted = [length for length in shape if length != 1]
    return {way: x.reshape(shape) for way, x in ways.items() if [length for length in x.shape if length != 1] == wanted}


def way_to(array, other, known=None):
    """That of the `views` of `array` which has the shape of the array `other`: its way; None if none has.

    Of several, `known` if it is one of them, or else the closest to `other`.
    """
    found = views(array, other.shape)
    if known in found or len(found) < 2:
        return known if known in found else next(iter(found), None)
    return min(found, key=lambda way: np.abs(found[way] - other).max(initial=0.0))


def viewed_like(array, other, known=None):
    """`array` in the way that `way_to` finds, or None where none has the shape of `other`."""
    way = way_to(array, other, known)
    return None if way is None else views(array, other.shape)[way]
