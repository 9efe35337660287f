"""The lock of a run folder. What is recorded is tested with the loop: see test_loop.py."""

from tandem.core.errors import UserError
from tandem.training.recorder import Recorder, check_free, read_metrics

import pytest

RECORD = {"kind": "batch", "epoch": 1, "step": 1, "time": 0.0}
RECORD |= {"loss": 1.0, "accuracy": 0.5, "learning_rate": 0.1, "images_per_second": 9.0}


def test_a_folder_is_taken_while_it_is_recorded_in(tmp_path):
    check_free(tmp_path / "not there yet")
    check_free(tmp_path)
    recorder = Recorder(tmp_path, "numpy", -1)  # the check has left it free
    recorder.add(RECORD)
    for another in (lambda: check_free(tmp_path), lambda: Recorder(tmp_path, "numpy", -1)):
        with pytest.raises(UserError, match="another process is training in it"):
            another()
    assert read_metrics(tmp_path / "metrics.jsonl") == [RECORD]
    recorder.close()
    check_free(tmp_path)
