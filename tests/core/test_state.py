from tandem.core import state
from tandem.core.errors import UserError

import numpy as np
import pytest

SHAPES = {"a.weight": (2, 3), "a.bias": (3,), "b.weight": (3,)}


def arrays(**changes):
    made = {name: np.zeros(shape) for name, shape in SHAPES.items()} | changes
    return {name: array for name, array in made.items() if array is not None}


def test_the_same_names_and_shapes_pass():
    state.check(arrays(), SHAPES, "x")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"a.bias": None}, "1 missing: a.bias"),
        ({"c.bias": np.zeros(1)}, "1 left over: c.bias"),
        ({"a.weight": np.zeros((3, 2))}, r"1 of another shape: a.weight \(3, 2\) for \(2, 3\)"),
    ],
)
def test_differences_are_listed(changes, expected):
    with pytest.raises(UserError, match=expected):
        state.check(arrays(**changes), SHAPES, "x")


def test_the_first_convolution_is_found_or_missed():
    convolutions = {"b.weight": (8, 3, 5, 5), "c.weight": (8, 8, 3, 3)}
    assert state.first_convolution({**SHAPES, **convolutions}) == "b.weight"
    with pytest.raises(UserError, match="whitening: the network has no convolution"):
        state.first_convolution(SHAPES)
