"""Several workers compute the same as one process: dropout, batch norm, mixup, unequal slices and empty ones.

A framework's own batch norm, too. What workers do wrong, tests/traps/test_traps.py tries.
"""

import types
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from tandem.certify import replicas
from tandem.config.load import check_config
from tandem.frameworks.base import FRAMEWORKS

import numpy as np
import pytest

VALUES = {
    "network": {"name": "own", "file": str(Path(__file__).with_name("norms_net.py"))},
    "data": {"source": "digits", "image_size": 16, "augmentation": {"mixup": 0.4}},
    "optimizer": {"nesterov": True, "parameter_groups": {"bias": {"learning_rate_factor": 2}}},
    "schedule": {"name": "constant"},
    "evaluation": {"ema_decay": 0.9},
    "label_smoothing": 0.1,
    "epochs": 1,
}


@pytest.fixture(scope="module")
def found():
    return replicas.certify_workers(check_config(VALUES, "test"), 2)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_two_workers_compute_the_same_as_one_process(found, framework):
    result = found[framework]
    assert "failed" not in result, result
    assert set(result["sizes"]) == {1, 4, 5}  # one image and none; two each; three and two
    phases = result["phases"]
    kinds = ("loss and hits", "statistics", "velocities", "parameters", "EMA")
    assert phases.keys() == {
        f"{phase}: {kind}"
        for phase in ("training", *(f"evaluation of {size}{flip}" for size in (11, 1) for flip in ("", " with flip")))
        for kind in kinds
    }
    # The drawn states are large, and yet both agree far better than they must.
    assert max(phase["error"] for phase in phases.values()) < 1e-11
    assert result["equal"] and result["passed"]


def test_the_verdict_is_a_line_for_each_framework(found):
    lines = replicas.to_lines(found)
    assert [line.partition(":")[0] for line in lines] == ["PASS  Paddle", "PASS  TensorFlow"]
    assert all("2 workers against one process, batches of 5, 5, 1, 4, " in line for line in lines)
    phases = {"training: EMA": {"error": None, "name": "fc.bias", "step": 0}}
    wrong = {"passed": False, "count": 2, "sizes": [5], "phases": phases, "first": None, "equal": False}
    (line,) = replicas.to_lines({"paddle": wrong})
    assert line.startswith("FAIL") and "worst error inf of 1e-10 (training: EMA, fc.bias)" in line
    assert line.endswith("; the workers do not end with equal weights")
    assert replicas.to_lines({"paddle": {"passed": False, "failed": "worker 1 died"}}) == [
        "FAIL  Paddle: worker 1 died"
    ]


def test_a_hint_names_the_trap_that_shows_there():
    first = {
        "step": 0,
        "phase": "training: velocities",
        "name": "fc.weight",
        "layer": "Linear",
        "error": 0.3,
        "what": "",
    }
    phases = {"training: velocities": {"error": 0.3, "name": "fc.weight", "step": 0}}
    wrong = {"passed": False, "count": 2, "sizes": [5], "phases": phases, "first": first, "equal": True}
    assert replicas.to_lines({"paddle": wrong})[1:] == [
        "Known mistakes that look like this:",
        "  The mean of means over slices of unequal size: docs/differences.md#mean_of_means",
    ]


def test_one_worker_has_nothing_to_compare():
    assert replicas.certify_workers(None, 1) == {}


class Counted:
    """An engine that adds `amount` to its weights at each step."""

    def __init__(self, amount):
        self.arrays, self.amount = {"fc.bias": np.zeros(2), "velocity/fc.bias": np.ones(2)}, amount

    def state(self):
        return dict(self.arrays)

    def load_state(self, arrays, origin):
        self.arrays = dict(arrays)

    def layer_types(self):
        return {"fc": "Linear"}

    def train_step(self, batch, learning_rate, step):
        self.arrays["fc.bias"] = self.arrays["fc.bias"] + self.amount
        sums = np.array([1.0, 2.0, 3.0])
        return types.SimpleNamespace(numpy=lambda: sums)


def test_the_others_wait_for_the_step_of_one_process_before_theirs(tmp_path):
    """A sum waits for 30 seconds at most, and that step may take longer."""
    first = replicas._Comparison(Counted(1.0), Counted(1.0), tmp_path / "mark")
    other = replicas._Comparison(Counted(1.0), None, tmp_path / "mark")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other.take, 0, "training", "train_step", None, 0.1, 0)
        assert wait([waiting], timeout=0.1).not_done
        first.take(0, "training", "train_step", None, 0.1, 0)
        waiting.result()
    assert other.state.keys() == first.state.keys() and not other.phases


@pytest.mark.parametrize(("amount", "error"), [(1.0, 0.0), (1.5, 0.5), (np.nan, None)])
def test_what_workers_compute_otherwise_is_found(amount, error, tmp_path):
    comparison = replicas._Comparison(Counted(amount), Counted(1.0), tmp_path / "mark")
    for step in range(2):
        comparison.take(step, "training", "train_step", None, 0.1, step)
        if not np.isfinite(amount):
            break
    assert comparison.phases["training: velocities"]["error"] == 0
    found = comparison.phases["training: parameters"]
    assert found == {"error": error, "name": "fc.bias", "step": 0}
    assert comparison.phases["training: loss and hits"]["error"] == 0
    if error == 0:
        assert comparison.first is None
    else:
        first = {"step": 0, "phase": "training: parameters", "name": "fc.bias", "layer": "Linear", "error": error}
        assert comparison.first == first | {"what": "" if error else "not finite"}
    # They go on from what the workers computed.
    assert np.array_equal(comparison.state["fc.bias"], np.full(2, amount * (step + 1)), equal_nan=True)
