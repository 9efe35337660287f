"""The training loop over an engine in NumPy: quick enough to stop it everywhere."""

import contextlib
import io
import json
import os
import re
import signal
import sys
import time
import types
from collections import namedtuple

import data_utils
from tandem.commands.cli import Voice
from tandem.config import schedules
from tandem.config.load import check_config, load_config
from tandem.core import patience
from tandem.core.errors import UserError
from tandem.core.initial_weights import dirac, whitened
from tandem.core.signals import STOPPING
from tandem.data.images import Dataset
from tandem.frameworks.base import ALONE, Alone
from tandem.training import checkpoint, recorder
from tandem.training import loop as training
from tandem.training.loop import Run
from tandem.training.recorder import read_metrics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

Value = namedtuple("Value", "array")
Value.numpy = lambda self: self.array


class Engine:
    """Softmax regression by momentum, with the engines' interface. Fails or stops where a test says."""

    record = {"version": "0", "device": "cpu"}  # noqa: RUF012
    without_gradient = ()
    after_step = staticmethod(lambda step: None)

    def __init__(self, config, num_classes, mean, std, replicas):
        self.mean, self.std, self.momentum = mean, std, config.optimizer.momentum
        self.arrays = {"fc.weight": np.zeros((3 * 8 * 8, num_classes))}
        self.arrays["velocity/fc.weight"] = np.zeros_like(self.arrays["fc.weight"])
        self.decay = config.evaluation.ema_decay
        if self.decay is not None:
            self.arrays["ema/fc.weight"] = self.arrays["fc.weight"]
        self.shapes = {name: array.shape for name, array in self.arrays.items()}
        self.steps = 0
        self.asked = []  # (learning rate, step) of each call

    def _losses(self, batch):
        x = ((batch.images - self.mean) / self.std).reshape(len(batch.labels), -1)
        logits = x @ self.arrays["fc.weight"]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        right = (p.argmax(1) == batch.labels).sum()
        losses = -np.log(p[np.arange(len(p)), batch.labels])
        p[np.arange(len(p)), batch.labels] -= 1
        return x.T @ p / len(p), Value(np.array([losses.sum(), right, len(p)], float))

    def train_step(self, batch, learning_rate, step):
        gradient, sums = self._losses(batch)
        velocity = self.arrays["velocity/fc.weight"] = self.momentum * self.arrays["velocity/fc.weight"] + gradient
        self.arrays["fc.weight"] = self.arrays["fc.weight"] - learning_rate * velocity
        if self.decay is not None:
            mean = self.arrays["ema/fc.weight"]
            self.arrays["ema/fc.weight"] = self.decay * mean + (1 - self.decay) * self.arrays["fc.weight"]
        self.steps += 1
        self.asked.append((learning_rate, step))
        Engine.after_step(self.steps)
        return sums

    def evaluate(self, batch, flip=False):
        return self._losses(batch._replace(images=batch.images[..., ::-1]) if flip else batch)[1]

    @contextlib.contextmanager
    def averaged(self):
        kept = self.arrays["fc.weight"]
        self.arrays["fc.weight"] = self.arrays["ema/fc.weight"]
        yield
        self.arrays["fc.weight"] = kept

    def peak_memory(self):
        return None

    def state(self):
        return dict(self.arrays)

    def load_state(self, arrays, origin):
        self.arrays = dict(arrays)


def engine_module(replicas):
    return types.SimpleNamespace(Engine=Engine, join=lambda config: replicas)


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    rng = np.random.default_rng(0)

    def split(count):
        labels = rng.integers(0, 3, count)
        images = rng.integers(0, 128, (count, 3, 8, 8)) + 40 * labels[:, None, None, None]
        return data_utils.Split(images.astype(np.uint8), labels)

    dataset = Dataset(split(70), None, split(30), ("a", "b", "c"))
    monkeypatch.setitem(sys.modules, "tandem.frameworks.numpy.engine", engine_module(ALONE))
    monkeypatch.setattr(training, "load_dataset", lambda data, seed: dataset)
    monkeypatch.setattr(Engine, "after_step", staticmethod(lambda step: None))
    monkeypatch.setattr(training.Recorder, "draw", lambda self: None)


class Killed(BaseException):
    pass


def settings_of(**changes):
    values = {
        "network": {"name": "se_resnext"},
        "schedule": {"name": "cosine"},
        "optimizer": {"learning_rate": 0.01},
        "data": {"augmentation": {"crop_padding": 1}},
        "epochs": 3,
        "batch_size": 16,  # five batches of 70 images
        "evaluation": {"ema_decay": 0.9, "flip_tta": True},
        "log_period": 2,
        "checkpoints": {"keep": 2, "every_minutes": 1e-9},
    }
    return check_config(values | changes, "test")


def train(folder, resume=False, **changes):
    resumed = checkpoint.newest(folder / "checkpoints", print) if resume else None
    run = Run(settings_of(**changes), "numpy", folder, resumed)
    return run, run.train()


def figures(folder):
    """All records without what differs in every run."""
    return [
        {
            name: value
            for name, value in record.items()
            if name not in ("time", "seconds", "images_per_second", "peak_memory")
        }
        for record in read_metrics(folder / "metrics.jsonl")
    ]


@pytest.mark.parametrize("whitening", [False, True])
def test_kernels_begin_as_the_settings_say(tmp_path, monkeypatch, whitening):
    rng = np.random.default_rng(0)
    shapes = {
        "first.weight": (9, 3, 3, 3),
        "conv.weight": (8, 9, 1, 1),
        "even.weight": (4, 8, 2, 2),
        "fc.weight": (4, 3),
    }
    drawn = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    others = {f"velocity/{name}": np.zeros_like(array) for name, array in drawn.items()}

    class Convolutional(Engine):
        def __init__(self, *arguments):
            self.shapes = shapes
            self.arrays = {**drawn, **others, **{f"ema/{name}": array for name, array in drawn.items()}}

    monkeypatch.setattr(sys.modules["tandem.frameworks.numpy.engine"], "Engine", Convolutional)
    run = Run(settings_of(initial_weights={"dirac": True, "whitening": whitening}), "numpy", tmp_path)
    expected = {**drawn, "conv.weight": dirac(drawn["conv.weight"])}
    expected["first.weight"] = dirac(drawn["first.weight"])
    if whitening:
        images = (run.data.train.images - run.mean) / run.std
        expected["first.weight"] = whitened(drawn["first.weight"], images)
    expected |= {f"ema/{name}": array for name, array in expected.items()}
    assert run.engine.arrays.keys() == {**expected, **others}.keys()
    for name, array in {**expected, **others}.items():
        assert (run.engine.arrays[name] == array).all(), name


def test_two_processes_do_not_train_in_one_folder(tmp_path, monkeypatch):
    run = Run(settings_of(), "numpy", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert {"config.yaml", "environment.json"} <= {path.name for path in before}
    with monkeypatch.context() as patched, pytest.raises(UserError, match="another process is training in it"):
        patched.setattr(training, "load_dataset", None)  # it is found before the wait
        Run(settings_of(threads=1), "numpy", tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    assert run.train()
    assert train(tmp_path, resume=True)[1]  # it is free again


def test_no_time_of_training_is_lost_by_a_stop(tmp_path, monkeypatch):
    def stop_late(step):
        if step == 3:  # after the line of step 2, before that of step 4
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Engine, "after_step", staticmethod(stop_late))
    assert train(tmp_path)[1] is False
    monkeypatch.setattr(Engine, "after_step", staticmethod(lambda step: None))
    assert train(tmp_path, resume=True)[1]
    lasted = [record["seconds"] for record in read_metrics(tmp_path / "metrics.jsonl") if record["kind"] == "batch"]
    assert 0.5 < sum(lasted) < 2


@settings(max_examples=25)
@given(kills=st.lists(st.integers(1, 15), max_size=3))
def test_a_run_killed_anywhere_and_resumed_is_the_uninterrupted_one(tmp_path_factory, kills):
    whole, folder = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed")
    expected, _ = train(whole)

    def kill(at, step):
        if step == at:
            raise Killed

    for number, at in enumerate(kills):
        Engine.after_step = staticmethod(lambda step, at=at: kill(at, step))
        try:
            resume = number > 0 and any((folder / "checkpoints").glob("step-*"))
            train(folder, resume)
        except Killed:
            pass
        finally:
            Engine.after_step = staticmethod(lambda step: None)
    actual, finished = train(folder, resume=any((folder / "checkpoints").glob("step-*")))
    assert finished
    for name, array in expected.engine.state().items():
        assert array.tobytes() == actual.engine.state()[name].tobytes(), name
    assert figures(folder) == figures(whole)
    assert actual.best == expected.best


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "cosine", "warmup_epochs": 1},
        {"name": "discexp", "a": 0.5, "b": 50},
        {"name": "step", "every_epochs": 1},
    ],
    ids=lambda schedule: schedule["name"],
)
def test_every_step_has_its_number_and_its_learning_rate(tmp_path, schedule):
    """The number decides the dropout masks. Resumed in mid-epoch, both count on."""
    Engine.after_step = staticmethod(lambda step: os.kill(os.getpid(), signal.SIGINT) if step == 7 else None)
    first, _ = train(tmp_path, schedule=schedule)
    Engine.after_step = staticmethod(lambda step: None)
    second, _ = train(tmp_path, resume=True, schedule=schedule)
    places = [(epoch, batch) for epoch in range(3) for batch in range(5)]  # 70 images an epoch, 16 a batch
    expected = [
        (schedules.learning_rate(first.settings.schedule, 0.01, step, 5, 3, 70 * epoch + 16 * batch), step)
        for step, (epoch, batch) in enumerate(places)
    ]
    assert first.engine.asked + second.engine.asked == expected


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_stops_between_steps_and_the_run_goes_on(tmp_path, number):
    before = signal.getsignal(number)  # ignored, where the tests themselves run in a shell's background
    Engine.after_step = staticmethod(lambda step: os.kill(os.getpid(), number) if step == 7 else None)
    run, finished = train(tmp_path, checkpoints={"keep": 2, "every_minutes": 1000})
    assert not finished and (run.epoch, run.batch) == (1, 2)
    Engine.after_step = staticmethod(lambda step: None)
    run, finished = train(tmp_path, resume=True)
    assert finished and run.epoch == 3
    assert signal.getsignal(number) is before


def test_a_stdout_that_is_closed_stops_the_run_like_a_signal(tmp_path, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        console = Console(file=Voice(), soft_wrap=True)
        run = Run(settings_of(log_period=1), "numpy", tmp_path, None, console)
        assert run.train() is False
        console.print("nobody reads this")
    assert checkpoint.newest(tmp_path / "checkpoints", print)[2]["step"] == run.step <= 2


def test_a_run_is_resumed_from_its_best_if_that_is_all_there_is(tmp_path):
    run, _ = train(tmp_path, epochs=1)
    for path in checkpoint.newest_first(tmp_path / "checkpoints"):
        path.unlink()
    run, finished = train(tmp_path, resume=True)
    assert finished and run.epoch == 3


@pytest.mark.parametrize("again", [False, True])
def test_a_run_folder_that_is_removed_stops_the_run(tmp_path, again):
    def remove(step):
        if step == 7:
            os.rename(tmp_path / "run", tmp_path / "gone")
            if again:
                (tmp_path / "run").mkdir()

    Engine.after_step = staticmethod(remove)
    with pytest.raises(UserError, match="run: was removed while the run wrote into it; begin the run again"):
        train(tmp_path / "run")
    assert not again or not list((tmp_path / "run").iterdir())
    assert again or not (tmp_path / "run").exists()


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


def test_records_and_files_of_a_run(tmp_path):
    run, _ = train(tmp_path)
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [(r["epoch"], r["step"]) for r in records if r["kind"] == "epoch"] == [(1, 5), (2, 10), (3, 15)]
    assert [r["step"] for r in records if r["kind"] == "batch"] == [1, 2, 4, 5, 7, 9, 10, 12, 14, 15]
    last = records[-1]
    assert last["test"]["accuracy"] > 0.5 and last["test"]["top5"] == 1
    assert load_config(tmp_path / "config.yaml") == run.settings
    names = sorted(file.name for file in (tmp_path / "checkpoints").iterdir())
    assert names == ["best.safetensors", "step-000000014.safetensors", "step-000000015.safetensors"]
    _, metadata = checkpoint.read(tmp_path / "checkpoints" / "best.safetensors")
    best = max(r["test"]["accuracy"] for r in records if r["kind"] == "epoch")
    assert metadata["metrics"]["test"]["accuracy"] == metadata["best"]["accuracy"] == best
    assert metadata["class_names"] == ["a", "b", "c"]


def test_averages_and_mirror_images_are_tested_apart(tmp_path):
    run, _ = train(tmp_path)
    *others, last = [record for record in read_metrics(tmp_path / "metrics.jsonl") if record["kind"] == "epoch"]
    names = ["test", "test_flip", "test_ema", "test_ema_flip"]
    assert [name for name in last if name.startswith("test")] == names
    assert all([name for name in record if name.startswith("test")] == ["test", "test_ema"] for record in others)
    assert len({last[name]["loss"] for name in names}) == 4
    # The state is that of training again, and an engine with the averages as weights gives the same figures.
    assert last["test"] == run._evaluate(run.data.test)
    run.engine.arrays["fc.weight"] = run.engine.arrays["ema/fc.weight"]
    assert last["test_ema"] == run._evaluate(run.data.test)
    assert last["test_ema_flip"] == run._evaluate(run.data.test, flip=True)


def test_only_every_so_many_epochs_are_tested_and_the_last_one(tmp_path, monkeypatch):
    data = training.load_dataset(None, 0)
    monkeypatch.setattr(training, "load_dataset", lambda *_: data._replace(validation=data.test))
    run, _ = train(tmp_path, evaluation={"period": 3, "ema_decay": 0.9}, epochs=4)
    records = [record for record in read_metrics(tmp_path / "metrics.jsonl") if record["kind"] == "epoch"]
    assert all("train" in record for record in records)
    for part in ("test", "test_ema", "validation"):
        assert [record["epoch"] for record in records if part in record] == [3, 4]
    tested = {record["validation"]["accuracy"]: record["epoch"] for record in reversed(records[2:])}
    assert run.best == {"accuracy": max(tested), "epoch": tested[max(tested)]}
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3  # after every epoch, of which two stay, and the best


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


def test_a_plain_run_tests_only_its_weights(tmp_path):
    train(tmp_path, evaluation={})
    assert "test" in (last := read_metrics(tmp_path / "metrics.jsonl")[-1])
    assert not {"test_flip", "test_ema", "test_ema_flip"} & last.keys()


def test_a_checkpoint_from_before_a_setting_was_known_is_resumed(tmp_path):
    train(tmp_path, epochs=1, evaluation={})
    path, arrays, metadata = checkpoint.newest(tmp_path / "checkpoints", print)
    del metadata["config"]["evaluation"]
    assert Run(settings_of(evaluation={}), "numpy", tmp_path, (path, arrays, metadata)).train()


def test_events_say_what_the_metrics_say(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    train(tmp_path)
    train(tmp_path, resume=True, epochs=4)
    (path,) = tmp_path.glob("events.out.tfevents.*")
    content, scalars = path.read_bytes(), []
    while content:  # TFRecord: length, its checksum, data, its checksum
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        scalars += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        content = content[16 + length :]
    losses = [(step, value) for step, tag, value in scalars if tag == "loss/test"]
    records = [r for r in read_metrics(tmp_path / "metrics.jsonl") if r["kind"] == "epoch"]
    assert [step for step, _ in losses] == [r["step"] for r in records] == [5, 10, 15, 20]
    assert [value for _, value in losses] == pytest.approx([r["test"]["loss"] for r in records])


def test_the_training_average_is_over_images_not_batches(tmp_path):
    """The last batch has 6 images, the others 16."""
    seen = []
    original = Engine._losses

    def spy(self, batch):
        gradient, sums = original(self, batch)
        seen.append((sums.numpy()[0], len(batch.labels)))
        return gradient, sums

    Engine._losses = spy
    try:
        train(tmp_path, epochs=1)
    finally:
        Engine._losses = original
    record = read_metrics(tmp_path / "metrics.jsonl")[-1]
    losses, images = np.sum(seen[:5], axis=0)
    assert images == 70
    assert record["train"]["loss"] == pytest.approx(losses / 70)


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_loss_that_is_not_finite_is_an_error_that_keeps_checkpoints(tmp_path):
    with pytest.raises(UserError, match=r"loss is not finite by step .*lower optimizer\.learning_rate"):
        train(tmp_path, optimizer={"learning_rate": 1e38}, schedule={"name": "constant"})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"batch_size": 15}, "was made with batch_size: 16, not 15"),  # as many steps an epoch
        ({"seed": 1}, "was made with seed: 0, not 1"),
        ({"data": {"validation_fraction": 0.2}}, r"was made with data\.validation_fraction: 0\.0, not 0\.2"),
        ({"evaluation": {}}, r"was made with evaluation\.ema_decay: 0\.9, not None"),
        ({"data": {"normalization": "none"}}, r"was made with data\.normalization: channel, not none"),
    ],
)
def test_other_images_or_batches_than_the_checkpoints_are_refused(tmp_path, change, expected):
    train(tmp_path, epochs=1)
    with pytest.raises(UserError, match=expected):
        train(tmp_path, resume=True, **change)


def test_a_chosen_checkpoint_goes_on_in_a_folder_of_its_own(tmp_path):
    train(tmp_path / "old", checkpoints={"keep": 99, "every_minutes": 1e-9})
    path = tmp_path / "old" / "checkpoints" / checkpoint.file_name(5)
    run = Run(settings_of(), "numpy", tmp_path / "new", (path, *checkpoint.read(path)))
    assert run.train()
    assert run.best["epoch"] in (2, 3)
    assert (tmp_path / "new" / "checkpoints" / checkpoint.BEST).exists()
    assert [r["step"] for r in figures(tmp_path / "new") if r["kind"] == "epoch"] == [10, 15]


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    def poison(step):
        if step == 15:
            runs[0].engine.arrays["velocity/fc.weight"][0, 0] = np.inf

    runs = [Run(settings_of(), "numpy", tmp_path)]
    Engine.after_step = staticmethod(poison)
    with pytest.raises(UserError, match=r"velocity/fc\.weight is not finite by step 15"):
        runs[0].train()
    assert checkpoint.newest(tmp_path / "checkpoints", print)[2]["step"] == 14


def test_a_picture_that_cannot_be_drawn_does_not_end_the_run(tmp_path, monkeypatch):
    def fail(self):
        raise UserError("curves.png: cannot be written")

    monkeypatch.setattr(training.Recorder, "draw", fail)
    assert train(tmp_path)[1]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("file", ["_file", "_events"])
def test_metrics_on_a_full_disk_are_one_line(tmp_path, file):
    run = Run(settings_of(), "numpy", tmp_path)
    full = open("/dev/full", "w" if file == "_file" else "wb")  # noqa: SIM115
    if file == "_file":
        run.recorder._file = full
    else:
        run.recorder._events._py_recordio_writer._writer = full
    with pytest.raises(UserError, match="No space left on device"):
        run.train()


def test_a_validation_split_chooses_the_best(tmp_path, monkeypatch):
    dataset = training.load_dataset(None, 0)
    wrong = dataset.test._replace(labels=(dataset.test.labels + 1) % 3)
    monkeypatch.setattr(training, "load_dataset", lambda data, seed: dataset._replace(validation=wrong))
    run, _ = train(tmp_path)
    epochs = [r for r in read_metrics(tmp_path / "metrics.jsonl") if r["kind"] == "epoch"]
    assert run.best["accuracy"] == max(r["validation"]["accuracy"] for r in epochs)


def test_a_full_disk_loses_no_checkpoint(tmp_path, monkeypatch):
    train(tmp_path, epochs=1)
    before = {file.name: file.read_bytes() for file in (tmp_path / "checkpoints").iterdir()}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        train(tmp_path, resume=True)
    monkeypatch.undo()
    assert {file.name: file.read_bytes() for file in (tmp_path / "checkpoints").iterdir()} == before


def test_a_torn_last_line_of_metrics_is_left_out(tmp_path):
    train(tmp_path, epochs=1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "batch", "step": 6})[:10])
    train(tmp_path, resume=True, epochs=2)
    assert [r["epoch"] for r in read_metrics(tmp_path / "metrics.jsonl") if r["kind"] == "epoch"] == [1, 2]


def test_a_run_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        Run(settings_of(), "numpy", tmp_path / "file" / "run")


def test_what_the_engine_received_is_recorded(tmp_path, monkeypatch):
    """Two runs with one digest received the same; another image, order or learning rate is another digest."""

    def received(folder, **changes):
        train(folder, epochs=2, **changes)
        return {record["step"]: record["received"] for record in read_metrics(folder / "metrics.jsonl")}

    first = received(tmp_path / "first")
    assert len(set(first.values())) == len(first) > 5  # the record of an epoch has that of its last step
    assert received(tmp_path / "again") == first
    for name, changes in {"rate": {"optimizer": {"learning_rate": 0.02}}, "seed": {"seed": 1}}.items():
        assert not set(received(tmp_path / name, **changes).values()) & set(first.values())
    original = training.training_batches

    def flipped(*arguments):
        for batch in original(*arguments):
            yield batch._replace(images=batch.images[..., ::-1])

    monkeypatch.setattr(training, "training_batches", flipped)
    assert not set(received(tmp_path / "flipped").values()) & set(first.values())


def test_a_run_that_would_go_on_with_other_batches_is_refused(tmp_path, monkeypatch):
    train(tmp_path, epochs=1)
    original = training.training_batches
    monkeypatch.setattr(training, "training_batches", lambda *arguments: original(*arguments[:2], 7, *arguments[3:]))
    with pytest.raises(UserError, match="its last batch is not what this data, seed and Tandem make of it"):
        train(tmp_path, resume=True, epochs=2)
    # Other augmentation is asked for: that is another batch, and allowed.
    train(tmp_path, resume=True, epochs=2, data={"augmentation": {"crop_padding": 2}})


class Second(Alone):
    """In rank 1 of two processes. Rank 0 has the same facts, and is asked to stop after `stops` steps."""

    rank, count, stops, asked = 1, 2, None, 0

    def gather(self, numbers):
        if len(numbers) > 1:
            return np.array([numbers, numbers], float)
        self.asked += 1
        return np.array([[self.asked == self.stops], numbers], float)


@pytest.fixture
def second(monkeypatch):
    """What `Run` gets as rank 1 of two."""
    replicas = Second()
    monkeypatch.setitem(sys.modules, "tandem.frameworks.numpy.engine", engine_module(replicas))
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}')
    return replicas


def test_only_rank_0_writes(tmp_path, second):
    run, done = train(tmp_path / "run")
    assert done and run.step == 15
    assert list(tmp_path.iterdir()) == []


def test_all_processes_stop_after_the_same_step(tmp_path, second):
    second.stops = 7
    run, done = train(tmp_path / "run")
    assert not done and run.step == 7


def test_processes_that_do_not_do_the_same_are_refused(tmp_path, second, monkeypatch):
    def gather(numbers):
        return np.array([numbers, numbers], float) - [[0], [1]]

    monkeypatch.setattr(second, "gather", gather)
    with pytest.raises(UserError, match="worker 1: differs from worker 0 in the settings; give all workers the same"):
        train(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
