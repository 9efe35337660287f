import subprocess
import sys
from pathlib import Path

from tandem.commands import cli, train
from tandem.config.load import load_config
from tandem.core.errors import UserError
from tandem.core.files import ROOT
from tandem.training import checkpoint

import pytest
import typer

CONFIG = ROOT / "configs" / "quickstart.yaml"
PAIRS = ("alexnet", "vgg", "resnet_cifar", "lenet")


def test_a_user_error_is_one_line_and_exit_code_2(capsys):
    def fail():
        raise UserError("my.yaml: epochs: bad\n  value; use a number")

    app = cli.make_app()
    app.command()(fail)
    sys.argv, before = ["x"], sys.argv
    try:
        with pytest.raises(SystemExit) as stopped:
            cli.run(app)
    finally:
        sys.argv = before
    assert stopped.value.code == 2
    assert capsys.readouterr() == ("", "error: my.yaml: epochs: bad value; use a number\n")


def refused(*, config=CONFIG, overrides=(), resume=None, run_dir=None):
    """The error of `train_from`, which must come before any framework is loaded."""
    with pytest.raises(UserError) as caught:
        train.train_from("paddle", config, list(overrides), resume, run_dir)
    assert "paddle" not in sys.modules
    return str(caught.value)


def test_errors_that_need_no_framework(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no such config" in refused(config=tmp_path / "x.yaml")
    assert "did you mean epochs?" in refused(overrides=["epoch=3"])
    assert "no such checkpoint" in refused(resume=tmp_path / "x.safetensors")
    assert "no whole checkpoint to resume from" in refused(resume=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_old_run_is_not_overwritten(tmp_path):
    (tmp_path / "metrics.jsonl").touch()
    assert "holds something already" in refused(run_dir=tmp_path)


def test_a_single_checkpoint_goes_on_in_a_new_folder_only(tmp_path, monkeypatch):
    from tandem.training import loop as training

    made = []
    monkeypatch.setattr(training, "Run", lambda *arguments: made.append(arguments) or sys.exit(0))
    monkeypatch.chdir(tmp_path)
    metadata = {"config": load_config(CONFIG).model_dump(mode="json"), "framework": "paddle", "epoch": 1, "batch": 0}
    old = tmp_path / "old" / "checkpoints" / checkpoint.file_name(5)
    checkpoint.write(old, {}, metadata)
    with pytest.raises(SystemExit):
        train.train_from("paddle", None, [], old, None)
    assert made[0][2] == Path("runs/step-000000005-paddle")
    assert "holds something already" in refused(config=None, resume=old, run_dir=tmp_path / "old")
    with pytest.raises(SystemExit):
        train.train_from("paddle", None, [], tmp_path / "old", tmp_path / "old" / ".." / "old")


def test_a_file_that_cannot_be_had_is_one_line(capsys, monkeypatch):
    def fail():
        raise PermissionError(13, "Permission denied", "data_batch_1")

    app = cli.make_app()
    app.command()(fail)
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as stopped:
        cli.run(app)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: data_batch_1: Permission denied; check the path and its permissions\n"


def test_an_error_of_paddles_is_not_taken_for_one_of_a_file(monkeypatch):
    def fail():
        raise OSError("(External) an exception in a PyLayer's backward pass")

    app = cli.make_app()
    app.command()(fail)
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(OSError, match="External"):
        cli.run(app)


def test_no_network_and_no_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nowhere = ["data.source=cifar10", "data.mirrors=[http://127.0.0.1:9/cifar-10-python.tar.gz]"]
    message = refused(overrides=nowhere, run_dir=tmp_path / "run")
    assert "127.0.0.1:9" in message and "data.archive" in message
    assert not (tmp_path / "run").exists()


def test_default_run_folders_are_new(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train._new_folder("small-paddle") == Path("runs/small-paddle")
    Path("runs/small-paddle").mkdir(parents=True)
    Path("runs/small-paddle-2").mkdir()
    assert train._new_folder("small-paddle") == Path("runs/small-paddle-3")


def test_stopped_is_exit_code_130(tmp_path, monkeypatch):
    from tandem.training import loop as training

    class Stopped:
        def __init__(self, *arguments):
            pass

        def train(self):
            return False

    monkeypatch.setattr(training, "Run", Stopped)
    with pytest.raises(typer.Exit) as stopped:
        train.train_from("paddle", CONFIG, [], None, tmp_path / "run")
    assert stopped.value.exit_code == 130


def test_help_loads_neither_framework_nor_anything_slow():
    code = """
import sys
from tandem.__main__ import app
try:
    app(["--help"])
except SystemExit:
    pass
print([name for name in ("paddle", "tensorflow", "keras", "matplotlib", "sklearn", "pydantic") if name in sys.modules])
"""
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert finished.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "module", ["tandem.training.loop", "tandem.benchmark.measure", "tandem.config.networks", "data_utils", *PAIRS]
)
def test_modules_that_load_no_framework(module):
    code = f"import {module}, sys; print([name for name in ('paddle', 'tensorflow', 'keras') if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert finished.stdout == "[]\n", finished.stderr


@pytest.mark.parametrize(("module", "other"), [("se_resnext_fluid", "tensorflow"), ("se_resnext_tensorflow", "paddle")])
def test_a_network_loads_only_its_own_framework(module, other):
    finished = subprocess.run(
        [sys.executable, "-c", f"import {module}, sys; print({other!r} in sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert finished.stdout == "False\n", finished.stderr


@pytest.mark.parametrize(("framework", "other"), [("paddle", "tensorflow"), ("tensorflow", "paddle")])
def test_builders_load_only_their_own_framework(framework, other):
    names = {"alexnet": "alexnet", "vgg": "vgg", "resnet_cifar": "resnet_cifar", "lenet": "lenet5"}
    builders = "; ".join(f"{script}.{name}_{framework}()" for script, name in names.items())
    code = f"import sys, {', '.join(names)}; {builders}; print({other!r} in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert finished.stdout == "False\n", finished.stderr


def script(monkeypatch, capsys, default, only, *arguments):
    """What a script passes to `train_from`, or its exit code and what it says."""
    passed = []
    monkeypatch.setattr(train, "train_from", lambda *arguments: passed.append(arguments))
    monkeypatch.setattr(sys, "argv", ["x", *arguments])
    with pytest.raises(SystemExit) as stopped:
        train.train_script(default, only)
    said = capsys.readouterr()
    return passed[0] if passed else (stopped.value.code, said.out + said.err)


def test_a_script_of_both_frameworks_asks_for_one(monkeypatch, capsys):
    def run(*arguments):
        return script(monkeypatch, capsys, "alexnet.yaml", None, *arguments)

    code, said = run()
    assert code == 2 and "--framework" in said
    assert run("--framework", "keras")[0] == 2
    assert "--framework" in run("--help")[1] and "configs/alexnet.yaml" in run("--help")[1].replace("\n", "")
    chosen = run("--framework", "paddle", "-o", "epochs=3", "--device", "cpu")
    assert chosen == ("paddle", ROOT / "configs" / "alexnet.yaml", ["epochs=3", "device=cpu"], None, None)


def test_a_script_of_one_framework_takes_no_other(monkeypatch, capsys):
    def run(*arguments):
        return script(monkeypatch, capsys, "se_resnext.yaml", "tensorflow", *arguments)

    assert "--framework" not in run("--help")[1]
    assert run()[:2] == ("tensorflow", ROOT / "configs" / "se_resnext.yaml")
    assert "this script has tensorflow only" in run("--framework", "paddle")[1]


def test_resuming_needs_no_config(monkeypatch, capsys):
    """Whatever network it is of."""
    arguments = ("--framework", "tensorflow", "--resume", "runs/vgg")
    assert script(monkeypatch, capsys, "alexnet.yaml", None, *arguments) == (
        "tensorflow",
        None,
        [],
        Path("runs/vgg"),
        None,
    )


@pytest.mark.parametrize("script", PAIRS)
def test_the_help_of_a_script_loads_nothing_slow(script):
    code = f"""
import atexit, runpy, sys
slow = ("paddle", "tensorflow", "keras", "matplotlib", "sklearn", "pydantic")
atexit.register(lambda: print([name for name in slow if name in sys.modules]))
sys.argv = ["{script}.py", "--help"]
runpy.run_path("{script}.py", run_name="__main__")
"""
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0 and finished.stdout.splitlines()[-1] == "[]"
