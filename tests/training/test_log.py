"""What a run says while it trains: lines of a log, or a progress bar."""

import io
import os
import re
import signal
import time

from tandem.core import patience
from tandem.training import loop as training
from tandem.training import recorder
from tandem.training.loop import Run
from tandem.training.recorder import read_metrics

import pytest
from numpy_engine import Engine, figures, settings_of, train
from rich.console import Console

pytestmark = pytest.mark.usefixtures("numpy_engine")

STEP = re.compile(
    r"epoch (\d+)/3  step (\d)/5  loss \d\.\d{4}  acc [ \d]\d\.\d %  lr 0\.\d+"
    r"(?:  (?P<speed>[\d,]+(?:\.\d)?) images/s  ETA (?P<left>\d+:\d\d))?"
)


def test_the_log_says_what_was_built_and_how_each_stretch_went(tmp_path, capsys):
    train(tmp_path)
    first, second, *lines = capsys.readouterr().out.splitlines()
    assert first == "parameters 576  device CPU  training images 70  test images 30"
    assert second == "Waiting for the first step, which takes longer than the others ..."
    steps = [STEP.fullmatch(line) for line in lines if "done" not in line]
    assert [match.groups()[:2] for match in steps] == [
        (str(epoch), str(step)) for epoch in (1, 2, 3) for step in (1, 2, 4, 5) if (epoch, step) not in ((2, 1), (3, 1))
    ]
    assert [match["speed"] is None for match in steps] == [True] + 9 * [False]  # the first step compiles
    assert [lines.index(line) for line in lines if "done" in line] == [4, 8, 12]


def test_a_line_shows_what_its_record_holds(tmp_path, capsys):
    train(tmp_path, log_period=5)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch 2/3  step 5/5"))
    (record,) = (r for r in read_metrics(tmp_path / "metrics.jsonl") if r["kind"] == "batch" and r["step"] == 10)
    speed = record["images_per_second"]
    assert (
        f"loss {record['loss']:.4f}  acc {100 * record['accuracy']:4.1f} %  lr {record['learning_rate']:#.3g}" in line
    )
    assert f"  {speed:,.0f} images/s" in line and speed > 1000 and "," in line


def test_the_end_of_an_epoch_says_what_was_tested(tmp_path, capsys):
    train(tmp_path, epochs=1)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "done" in line)
    last = read_metrics(tmp_path / "metrics.jsonl")[-1]
    titles = {"train": "train", **recorder.TESTED}
    figures = [
        f"{title} loss {last[name]['loss']:.4f} acc {100 * last[name]['accuracy']:.2f} % "
        f"top-5 {100 * last[name]['top5']:.2f} %"
        for name, title in titles.items()
    ]
    assert line == "  ".join(["epoch 1/1 done", *figures, "0:00"])


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0:00"), (59.6, "1:00"), (80, "1:20"), (3599.4, "59:59"), (3600, "1:00:00"), (100 * 3600 + 61, "100:01:01")],
)
def test_durations(seconds, expected):
    assert training._duration(seconds) == expected


def test_the_time_left_counts_steps_at_the_speed_of_late_and_tests(tmp_path):
    run = Run(settings_of(evaluation={"period": 2}, epochs=5), "numpy", tmp_path)
    run.epoch, run.batch, run.evaluation_seconds = 2, 2, 100.0  # 13 steps to go, and tests after epochs 4 and 5
    run.laps.extend([(7.0, 2), (1.0, 2)])
    assert run._seconds_left() == 13 * 2 + 200


def test_the_first_step_of_a_process_is_no_measure_of_the_others(tmp_path, monkeypatch):
    def step(seconds):
        return staticmethod(lambda step: time.sleep(seconds if step == 1 else 0))

    laps = []
    original = Run._log
    monkeypatch.setattr(
        Run, "_log", lambda self, *arguments: (laps.append(list(self.laps)), original(self, *arguments))
    )
    monkeypatch.setattr(Engine, "after_step", step(0.5))
    train(tmp_path, epochs=1)
    assert laps[0] == [] and sum(steps for _, steps in laps[-1]) == 4
    train(tmp_path, resume=True, epochs=2)  # it compiles again
    assert max(seconds for lap in laps for seconds, _ in lap) < 0.4
    records = [r for r in read_metrics(tmp_path / "metrics.jsonl") if r["kind"] == "batch"]
    assert sum(record["seconds"] > 0.5 for record in records) == 2  # but its time is recorded


def test_a_resumed_run_speaks_after_its_first_step(tmp_path, capsys, monkeypatch):
    def stop(step):
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Engine, "after_step", staticmethod(stop))
    train(tmp_path, log_period=5)
    monkeypatch.setattr(Engine, "after_step", staticmethod(lambda step: None))
    capsys.readouterr()
    train(tmp_path, resume=True, log_period=5)
    lines = [line for line in capsys.readouterr().out.splitlines() if "step " in line and "Waiting" not in line]
    assert [line.partition("  loss")[0] for line in lines[:2]] == ["epoch 2/3  step 3/5", "epoch 2/3  step 5/5"]
    steps = [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl") if r["kind"] == "batch"]
    assert steps == [1, 5, 10, 15]  # that line is no record


def test_a_log_is_not_silent_for_long(tmp_path, capsys, monkeypatch):
    train(tmp_path / "usual", log_period=5)
    usual = capsys.readouterr().out
    assert "testing" not in usual and "step 3/5" not in usual
    monkeypatch.setattr(training, "SILENCE", 0)
    train(tmp_path / "impatient", log_period=5)
    lines = capsys.readouterr().out.splitlines()
    for epoch in (1, 2, 3):
        for step in (1, 2, 3, 4, 5):
            assert sum(line.startswith(f"epoch {epoch}/3  step {step}/5  loss") for line in lines) == 1
        assert f"epoch {epoch}/3  testing 16/30 images" in lines
    assert figures(tmp_path / "impatient") == figures(tmp_path / "usual")  # such lines are no records


def test_a_terminal_has_a_progress_bar_and_is_silent_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SILENCE", 0)
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=200, highlight=False)
    Run(settings_of(log_period=5), "numpy", tmp_path, None, console).train()
    assert "━" in file.getvalue() and "step 5/5" in file.getvalue()
    assert "step 3/5" not in file.getvalue() and "testing 16/30" not in file.getvalue()


def test_a_step_that_takes_long_is_spoken_of(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(patience, "SILENCE", 0.1)
    Engine.after_step = staticmethod(lambda step: time.sleep(0.2) if step == 7 else None)
    train(tmp_path, log_period=100, checkpoints={})
    assert "... epoch 2/3  step 1/5 is done, and the work goes on (0 s)" in capsys.readouterr().out


def test_a_run_says_once_what_it_cannot_train(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Engine, "without_gradient", ["fc.weight", "a.bias", "b.bias", "c.bias"])
    train(tmp_path)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: "))
    assert line.startswith(
        "warning: no gradient for fc.weight, a.bias, b.bias, 1 more; what gets none stays as it is. "
    )
