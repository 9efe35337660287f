"""What differs where each layer computes by itself."""

from types import SimpleNamespace

from tandem.certify.pairing import pair
from tandem.certify.replay import compared, judged

import numpy as np
import pytest


@pytest.mark.parametrize(("variance", "differ"), [(2.0, []), (2.1, ["bn.running_var"])])
def test_a_mean_that_is_zero_in_truth_is_no_difference(variance, differ):
    """A batch norm over what another one made zero on average: its means are rounding, in each framework its own."""
    logits = np.ones((2, 3))
    state = {"bn.running_mean": np.full(3, 1e-17), "bn.running_var": np.full(3, 2.0)}
    theirs = {"bn.running_mean": np.full(3, -3e-17), "bn.running_var": np.full(3, variance)}
    engine = SimpleNamespace(replay=lambda *arguments: {"logits": logits}, state=lambda: theirs)
    record = {"logits": logits, **{f"state/{name}": x for name, x in state.items()}}
    found = compared(engine, None, 0, record, {"layers": ["bn"], "arrays": list(state), "last": {}})
    assert [name for _, name, error, _ in found if error > 1e-10] == differ


@pytest.mark.parametrize(("of_bias", "found"), [(1.0, [("bn.bias", "is missing in Paddle")]), (0.0, []), (None, [])])
def test_a_gradient_that_only_tensorflow_has_is_a_difference(of_bias, found):
    """Of a bias that Paddle does not train. What TensorFlow has may be zeros, which train nothing either."""
    of_weight = {"gradient/bn.weight": np.ones(3)}
    replayed = of_weight if of_bias is None else {**of_weight, "gradient/bn.bias": np.full(3, of_bias)}
    replayed = {**replayed, "logits": np.ones((2, 3))}
    engine = SimpleNamespace(replay=lambda *arguments: replayed, state=dict)
    record = {**of_weight, "logits": np.ones((2, 3))}
    arrays = ["bn.weight", "bn.bias"]
    compared_ones = compared(engine, None, 0, record, {"layers": ["bn"], "arrays": arrays, "last": {}})
    assert [(name, words) for _, name, error, words in compared_ones if error > 1e-10] == found


@pytest.mark.parametrize(("error", "constant"), [(4e-9, True), (0.1, False)])
def test_zeros_before_an_average_pool_are_its_padding(error, constant):
    """Paddle's pool pads; in Keras a layer before it. Only the gradient's constant is left, or it is a mistake."""
    pool = {"name": "pool", "kind": "average pool", "type": "AvgPool2D", "shape": [3, 8, 8], "sources": [-1]}
    pool["container"] = False
    ours = {**pool, "arrays": {}, "settings": {"padding": 1, "exclusive": False}}
    theirs = {**pool, "arrays": {}, "settings": {"padding": 0, "exclusive": True}}
    calls = {"paddle": [ours], "tensorflow": [theirs]}
    (entry,) = judged([["output", "pool", error, ""]], calls, pair(calls))
    assert (entry.constant, bool(entry.settings)) == (constant, not constant)
    assert entry.why == ("Paddle multiplies the gradient by 1/n as float32" if constant else "")
