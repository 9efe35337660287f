"""Several workers compute the same as one process: dropout, batch norm, mixup, unequal slices and empty ones."""

from tandem.certify import replicas
from tandem.config.load import check_config
from tandem.frameworks.base import FRAMEWORKS
from tandem.traps import probes

import pytest

VALUES = {
    "network": {"name": "own", "file": probes.__file__, "options": {"kind": "plain"}},
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
    wrong = {"passed": False, "count": 2, "sizes": [5], "phases": phases, "equal": False}
    (line,) = replicas.to_lines({"paddle": wrong})
    assert line.startswith("FAIL") and "worst error inf of 1e-10 (training: EMA, fc.bias)" in line
    assert line.endswith("; the workers do not end with equal weights")
    assert replicas.to_lines({"paddle": {"passed": False, "failed": "worker 1 died"}}) == [
        "FAIL  Paddle: worker 1 died"
    ]


def test_one_worker_has_nothing_to_compare():
    assert replicas.certify_workers(None, 1) == {}
