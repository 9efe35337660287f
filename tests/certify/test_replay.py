"""What differs where each layer computes by itself."""

from types import SimpleNamespace

from tandem.certify.replay import compared

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
