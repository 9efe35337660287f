"""The lock of a run folder, and what is taken for a record. What is recorded is tested with the loop: test_loop.py."""

import json
import os

from tandem.core.errors import UserError
from tandem.training.recorder import LARGEST, LONGEST, Recorder, check_free, read_metrics

import pytest
import records


def test_a_folder_is_taken_while_it_is_recorded_in(tmp_path):
    check_free(tmp_path / "not there yet")
    check_free(tmp_path)
    recorder = Recorder(tmp_path, "numpy", -1)  # the check has left it free
    recorder.add(records.steps())
    for another in (lambda: check_free(tmp_path), lambda: Recorder(tmp_path, "numpy", -1)):
        with pytest.raises(UserError, match="another process is training in it"):
            another()
    assert read_metrics(tmp_path / "metrics.jsonl") == [records.steps()]
    recorder.close()
    check_free(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "it is no JSON"),
        ("[" * 9_000, "it is nested too deep"),
        ("x" * LONGEST, "is longer than 10,000 bytes"),
        ("[]", "should be a map"),
        ("{}", "the record has no kind"),
        (json.dumps(records.steps(loss=float("nan"))), "loss: .*finite"),
        (json.dumps(records.steps()).replace("0.5", "1e400"), "finite"),
        (json.dumps(records.steps(epoch=-1)), "epoch: "),
        (json.dumps(records.steps(step=2**64)), "step: "),
        (json.dumps(records.steps(step="1")), "step: "),
        (json.dumps(records.steps(framework="\x1b[2J")), "framework: "),
        (json.dumps(records.steps() | {"\x1b[2J": 1}), r"\\x1b\[2J: "),
        (json.dumps(records.epoch(test=[])), "test: "),
    ],
)
def test_what_is_no_record_is_one_line_that_names_it(tmp_path, line, message):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{json.dumps(records.epoch())}\n{line}\n")
    with pytest.raises(UserError, match=rf"metrics.jsonl: line 2: .*{message}"):
        read_metrics(path)
    path.write_text(f"{json.dumps(records.epoch())}\n{line[:5]}")  # which a kill may leave
    assert read_metrics(path) == [records.epoch()]


def test_what_is_no_file_of_records(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"metrics.jsonl: is a FIFO"):
        read_metrics(path)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(UserError, match=r"metrics.jsonl: is longer than 256 MiB"):
        read_metrics(path)
