"""The command line that trains: its options, what it refuses before it loads a framework, what it says first."""

import subprocess
import sys
from pathlib import Path

from tandem.commands import cli, train
from tandem.config.load import load_config
from tandem.core.errors import UserError
from tandem.core.paths import ROOT
from tandem.training import checkpoint
from tandem.training import loop as training

import pytest
import typer
from checkpoints import metadata

CONFIG = ROOT / "configs" / "quickstart.yaml"


class Run:
    """In place of the real one: loads nothing, and says what it was made with."""

    made = []  # noqa: RUF012
    finished = True

    def __init__(self, *arguments):
        self.made.append(arguments)

    def train(self):
        return self.finished


@pytest.fixture
def runs(monkeypatch):
    """The arguments of each `Run` that was made: settings, framework, folder, the checkpoint, console."""
    monkeypatch.setattr(training, "Run", Run)
    monkeypatch.setattr(Run, "made", [])
    return Run.made


def refused(*, framework="paddle", config=CONFIG, overrides=(), resume=None, run_dir=None, script=None):
    """The error of `train_from`, which must come before any framework is loaded."""
    with pytest.raises(UserError) as caught:
        train.train_from(framework, config, list(overrides), resume, run_dir, script)
    assert "paddle" not in sys.modules
    return str(caught.value)


def write_checkpoint(folder, overrides=(), **position):
    """The file of a checkpoint of the quickstart, without weights."""
    config = load_config(CONFIG, overrides).model_dump(mode="json")
    path = folder / "checkpoints" / checkpoint.file_name(5)
    checkpoint.write(path, {}, metadata(**{"config": config, "steps_per_epoch": 43} | position))
    return path


def test_errors_that_need_no_framework(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no such config" in refused(config=tmp_path / "x.yaml")
    assert "CONFIG: missing" in refused(config=None)
    assert "did you mean epochs?" in refused(overrides=["epoch=3"])
    assert "no such checkpoint" in refused(resume=tmp_path / "x.safetensors")
    assert "not a run folder with a checkpoint" in refused(resume=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_old_run_is_not_overwritten(tmp_path, runs):
    (tmp_path / "metrics.jsonl").touch()
    (tmp_path / "curves.png").touch()
    assert "holds something already" in refused(run_dir=tmp_path)
    assert runs == []


def test_a_run_that_failed_before_its_first_checkpoint_can_be_begun_again(tmp_path, runs):
    (tmp_path / "metrics.jsonl").touch()
    assert "has no checkpoint yet; train it again" in refused(resume=tmp_path)
    train.train_from("paddle", CONFIG, [], None, tmp_path)
    assert [run[2] for run in runs] == [tmp_path]


def test_a_folder_that_cannot_be_written_is_refused_before_the_wait(tmp_path, runs, capsys):
    (tmp_path / "file").touch()
    assert "file/run: cannot be written" in refused(run_dir=tmp_path / "file" / "run")
    assert capsys.readouterr().out == "" and runs == []


def test_so_is_an_empty_folder_on_a_disk_that_takes_nothing(tmp_path, runs, monkeypatch):
    def full(dir):
        raise OSError(30, "Read-only file system", str(dir))

    monkeypatch.setattr(train.tempfile, "TemporaryFile", full)
    assert "cannot be written (Read-only file system); choose another --run-dir" in refused(run_dir=tmp_path)
    assert runs == [] and tmp_path.is_dir()


def test_a_folder_is_there_for_the_run_and_goes_if_that_fails(tmp_path, monkeypatch):
    def fail(settings, framework, folder, *_):
        assert folder.is_dir()
        raise UserError("device: gpu is not here")

    monkeypatch.setattr(training, "Run", fail)
    assert "gpu is not here" in refused(run_dir=tmp_path / "runs" / "one")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_which_a_run_began_stays(tmp_path, monkeypatch):
    def fail(settings, framework, folder, *_):
        (folder / "metrics.jsonl").touch()
        raise UserError("the loss is not finite")

    monkeypatch.setattr(training, "Run", fail)
    refused(run_dir=tmp_path / "runs" / "one")
    assert (tmp_path / "runs" / "one" / "metrics.jsonl").exists()


def test_a_single_checkpoint_goes_on_in_a_new_folder_only(tmp_path, monkeypatch, runs):
    monkeypatch.chdir(tmp_path)
    old = write_checkpoint(tmp_path / "old")
    train.train_from("paddle", None, [], old, None)
    assert runs[0][2] == Path("runs/step-000000005-paddle")
    assert "holds something already" in refused(config=None, resume=old, run_dir=tmp_path / "old")
    train.train_from("paddle", None, [], tmp_path / "old", tmp_path / "old" / ".." / "old")
    assert len(runs) == 2


def test_no_network_and_no_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nowhere = ["data.source=cifar10", "data.mirrors=[http://127.0.0.1:9/cifar-10-python.tar.gz]"]
    message = refused(overrides=nowhere, run_dir=tmp_path / "run")
    assert "127.0.0.1:9" in message and "data.archive" in message
    assert not (tmp_path / "run").exists()


def test_default_run_folders_are_new(tmp_path, monkeypatch, runs):
    monkeypatch.chdir(tmp_path)
    assert train._new_folder("small-paddle") == Path("runs/small-paddle")
    Path("runs/small-paddle").mkdir(parents=True)
    Path("runs/small-paddle-2").mkdir()
    assert train._new_folder("small-paddle") == Path("runs/small-paddle-3")
    train.train_from("paddle", "quickstart", [], None, None)
    assert runs[0][2] == Path("runs/quickstart-paddle")


def test_stopped_is_exit_code_130(tmp_path, monkeypatch, runs, capsys):
    monkeypatch.setattr(Run, "finished", False)
    with pytest.raises(typer.Exit) as stopped:
        train.train_from("paddle", CONFIG, [], None, tmp_path / "a run")
    assert stopped.value.exit_code == 130
    assert f"Stopped; go on with --resume '{tmp_path / 'a run'}'" in capsys.readouterr().out


def test_what_is_trained_is_said_before_anything_is_loaded(tmp_path):
    """By a process of its own, which stops where the loop would be imported, and with it matplotlib."""
    code = f"""
import sys
from tandem.commands.train import train_from
sys.modules["tandem.training.loop"] = None
train_from("tensorflow", "quickstart", ["threads=3"], None, __import__("pathlib").Path({str(tmp_path / "run")!r}))
"""
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "import of tandem.training.loop halted" in finished.stderr
    assert finished.stdout.splitlines() == [
        f"network se_resnext  framework TensorFlow  device auto  threads 3  precision float32  "
        f"run folder {tmp_path / 'run'}",
        "Loading TensorFlow, reading the digits ...",
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (["epochs=8"], [], "Schedule stretched: 12 epochs, the checkpoint was made for 8"),
        (["epochs=14"], [], "Schedule compressed: 12 epochs, the checkpoint was made for 14"),
        (["epochs=8", "schedule.name=constant"], ["schedule.name=constant"], None),  # nothing to stretch
        ([], ["optimizer.learning_rate=0.2"], "Schedule changed: optimizer.learning_rate 0.2 (was 0.1)"),
        (["schedule.peak=0.5"], [], "Schedule changed: schedule.peak 0.3 (was 0.5)"),
        (["epochs=8"], ["schedule.name=cosine"], "schedule cosine (was one_cycle), epochs 12 (was 8)"),
        ([], [], None),
    ],
)
def test_a_resumed_run_says_how_its_schedule_differs(tmp_path, capsys, runs, before, after, expected):
    path = write_checkpoint(tmp_path / "old", before, batch=7)
    train.train_from("tensorflow", CONFIG, after, path, tmp_path / "new")
    said = capsys.readouterr().out
    assert f"Resuming from {path} (written by paddle): 1 epoch done, and 7 of 43 steps of the next\n" in said
    lines = [line for line in said.splitlines() if line.startswith("Schedule")]
    assert len(lines) == (expected is not None) and (expected or "") in "".join(lines)
    assert len(runs) == 1


def test_a_finished_run_has_nothing_left_to_do(tmp_path, capsys, runs):
    write_checkpoint(tmp_path, epoch=12)
    train.train_from("paddle", None, [], tmp_path, None)
    *_, resuming, line = capsys.readouterr().out.splitlines()
    assert resuming.endswith(": 12 epochs done")
    assert line == "Nothing left to do: the run has 12 epochs; go on with -o epochs=N"
    assert runs == []  # and no framework is waited for
    train.train_from("paddle", None, ["epochs=3"], tmp_path, None)
    said = capsys.readouterr().out
    assert "the run has 3 epochs" in said and "Schedule" not in said and runs == []
    train.train_from("paddle", None, ["epochs=13"], tmp_path, None)
    assert "Nothing left" not in capsys.readouterr().out and len(runs) == 1


def test_a_finished_run_with_other_settings_is_checked(tmp_path, runs):
    """Its `Run` tells whether they fit the checkpoint."""
    write_checkpoint(tmp_path, epoch=12)
    train.train_from("paddle", None, ["network.depth=4"], tmp_path, None)
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("framework", "config", "script", "expected"),
    [
        (
            "paddle",
            "vgg16",
            "alexnet.py",
            "is of the network vgg, which alexnet.py does not hold; use vgg.py or python -m",
        ),
        ("paddle", "quickstart", "vgg.py", "use se_resnext_fluid.py or python -m tandem train"),
        ("tensorflow", "quickstart", "vgg.py", "use se_resnext_tensorflow.py or python -m tandem train"),
        ("tensorflow", "own.yaml", "lenet.py", "is of a network of your own, lenet.py, which"),
    ],
)
def test_a_script_trains_only_networks_of_its_own_file(
    tmp_path, monkeypatch, capsys, runs, framework, config, script, expected
):
    monkeypatch.chdir(tmp_path)
    own = "network: {name: own, file: lenet.py}\nschedule: {name: constant}\nepochs: 1\n"
    (tmp_path / "own.yaml").write_text(own)
    message = refused(framework=framework, config=config, script=script)
    assert message.startswith(f"{config}: ") or message.startswith(f"{ROOT / 'configs' / config}.yaml: ")
    assert expected in message and "python -m tandem train" in message
    train.train_from(framework, config, [], None, tmp_path / "run")  # tandem train does
    assert len(runs) == 1
    network = "network lenet.py  " if config == "own.yaml" else "network "
    assert capsys.readouterr().out.startswith(network)


def test_a_script_trains_all_networks_of_its_file(tmp_path, runs):
    for config in ("lenet5", "simple_cnn"):
        train.train_from("paddle", config, [], None, tmp_path / config, "lenet.py")
    assert len(runs) == 2


def test_a_script_resumes_only_networks_of_its_own_file(tmp_path):
    write_checkpoint(tmp_path)
    assert "use se_resnext_fluid.py or" in refused(config=None, resume=tmp_path, script="alexnet.py")


@pytest.fixture
def passed(monkeypatch, capsys):
    """passed(start, *arguments): what this command line passes to `train_from`, or its exit code and what it says."""

    def passed(start, *arguments):
        found = []
        monkeypatch.setattr(train, "train_from", lambda *arguments: found.append(arguments))
        monkeypatch.setattr(sys, "argv", ["x", *arguments])
        with pytest.raises(SystemExit) as stopped:
            start()
        said = capsys.readouterr()
        return found[0] if found else (stopped.value.code, said.out + said.err)

    return passed


def alexnet():
    train.train_script("/somewhere/alexnet.py", "alexnet")


def se_resnext():
    train.train_script("/somewhere/se_resnext_tensorflow.py", "se_resnext", only="tensorflow")


def command():
    app = cli.make_app()
    app.command()(train.train)
    cli.run(app)


def test_a_script_of_both_frameworks_asks_for_one(passed):
    code, said = passed(alexnet)
    assert code == 2 and "--framework" in said
    assert passed(alexnet, "--framework", "keras")[0] == 2
    code, said = passed(alexnet, "--help")
    assert "--framework" in said and "Default: alexnet" in " ".join(said.split())
    assert passed(alexnet, "--framework", "paddle") == ("paddle", "alexnet", [], None, None, "alexnet.py", 1)


def test_a_script_of_one_framework_takes_no_other(passed):
    assert "--framework" not in passed(se_resnext, "--help")[1]
    assert passed(se_resnext)[:2] == ("tensorflow", "se_resnext")
    assert "this script has tensorflow only" in passed(se_resnext, "--framework", "paddle")[1]


def test_the_command_takes_its_config_as_an_argument(passed):
    arguments = ("mine.yaml", "--framework", "tensorflow", "--run-dir", "here")
    assert passed(command, *arguments) == ("tensorflow", "mine.yaml", [], None, Path("here"), None, 1)
    assert passed(command, "mine.yaml")[0] == 2  # without a framework


@pytest.mark.parametrize("start", [alexnet, command])
def test_resuming_needs_no_config(passed, start):
    found = passed(start, "--framework", "tensorflow", "--resume", "runs/vgg")
    assert found[:5] == ("tensorflow", None, [], Path("runs/vgg"), None)


@pytest.mark.parametrize("start", [alexnet, se_resnext, command])
def test_short_forms_come_after_what_they_are_short_for(passed, start):
    short = ("--epochs", "3", "--lr", "1e-5", "--batch-size", "64", "--seed", "7", "--device", "cpu")
    overrides = passed(start, "--framework", "tensorflow", *short, "-o", "threads=2", "-o", "epochs=9")[2]
    assert overrides[:2] == ["threads=2", "epochs=9"]
    settings = load_config(CONFIG, overrides)
    assert (settings.threads, settings.epochs, settings.optimizer.learning_rate) == (2, 3, 1e-5)
    assert (settings.batch_size, settings.seed, settings.device) == (64, 7, "cpu")


def test_zero_is_given_too(passed):
    assert passed(command, "x", "--framework", "paddle", "--seed", "0", "--epochs", "0")[2] == ["epochs=0", "seed=0"]
