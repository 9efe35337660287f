"""Names and shapes of a state, and the kinds of parameters."""

from tandem.config.schema import Optimizer, ParameterGroups
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
        ({"c.bias": np.zeros(1)}, "1 unexpected: c.bias"),
        ({"a.weight": np.zeros((3, 2))}, r"1 of another shape: a.weight \(3, 2\) for \(2, 3\)"),
    ],
)
def test_differences_are_listed(changes, expected):
    with pytest.raises(UserError, match=expected):
        state.check(arrays(**changes), SHAPES, "x")


PARAMETERS = {
    "fc.weight": (2, 3),
    "fc.bias": (3,),
    "first.weight": (8, 3, 5, 5),
    "first.bias": (8,),
    "second.weight": (8, 8, 3, 3),
    "bn.weight": (8,),
    "bn.bias": (8,),
    "act.slope": (8,),
}
STATE = PARAMETERS | {"bn.running_mean": (8,), "bn.running_var": (8,)}
STATE |= {f"velocity/{name}": shape for name, shape in PARAMETERS.items()}
STATE |= {f"ema/{name}": shape for name, shape in STATE.items() if "/" not in name}


def test_kinds_of_parameters():
    assert [state.kind(name, STATE) for name in PARAMETERS] == [
        *("dense", "bias", "first_convolution", "bias", "convolution", "batch_norm_scale", "batch_norm_bias", None)
    ]
    assert state.first_convolution({"fc.weight": (2, 3)}) is None


def test_grouped_parameters_have_their_own_rate_and_decay():
    groups = ParameterGroups(bias={"weight_decay": 0}, batch_norm_scale={"learning_rate_factor": 0.5})
    found = state.grouped(Optimizer(weight_decay=0.25, parameter_groups=groups), STATE)
    assert found == {"fc.bias": (1, 0), "first.bias": (1, 0), "bn.weight": (0.5, 0.25)}
    assert state.grouped(Optimizer(), STATE) == {}
