"""The command line: one line for a mistake, how signals end it, and that no --help waits for a framework."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

from tandem.commands import cli
from tandem.config.load import find_config, load_config, overridden
from tandem.core.errors import UserError
from tandem.core.paths import ROOT

import pytest
import typer

PAIRS = ("alexnet", "vgg", "resnet_cifar", "resnet_fast", "lenet")
CLASSES = {"se_resnext_fluid": "paddle", "se_resnext_tensorflow": "tensorflow"}
SLOW = ("paddle", "tensorflow", "keras", "matplotlib", "sklearn", "pydantic", "rich", "numpy")


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


@pytest.mark.parametrize("argument", ["~/here", "--output=~/here", ""])
def test_an_argument_means_what_its_user_meant(capsys, monkeypatch, argument):
    def show(file: Annotated[Path | None, typer.Argument()] = None, output: Path | None = None):
        print(output or file)

    app = cli.make_app()
    app.command()(show)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(sys, "argv", ["x", argument])
    with pytest.raises(SystemExit) as stopped:
        cli.run(app)
    if argument:
        assert (stopped.value.code, capsys.readouterr().out) == (0, "/home/me/here\n")
    else:
        assert stopped.value.code == 2
        assert capsys.readouterr().err == "error: an argument is empty; is a variable of your shell not set?\n"


@pytest.mark.parametrize("file", ["mynet.py", "my net: #1.py", '"quoted".py', "猫.py"])
def test_a_named_network_is_an_override_whatever_its_name(file):
    overrides = cli.with_network(["epochs=2"], Path(file))
    assert overridden({}, overrides) == {"epochs": 2, "network": {"file": file}}
    assert cli.with_network(None, None) == []


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml"])
def test_a_shipped_config_is_found_by_its_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert load_config(find_config(name)) == load_config(ROOT / "configs" / "quickstart.yaml")
    (tmp_path / name).write_text("mine")
    assert find_config(name) == Path(name)  # a file comes first


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("quikstart", "quikstart: no such config; did you mean quickstart?"),
        ("configs/resnet_20.yaml", "did you mean resnet20"),
        ("other/quickstart.yaml", "did you mean quickstart?"),  # of another folder, it is not taken for the shipped one
        ("mine/smal.yaml", "did you mean mine/small.yaml?"),
        ("mine", "mine: no such config; give a YAML file, or one of alexnet, alexnet_32, lenet5"),
    ],
)
def test_a_name_that_is_no_config_is_one_line_with_near_ones(tmp_path, monkeypatch, name, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "small.yaml").touch()
    with pytest.raises(UserError) as refused:
        find_config(name)
    assert expected in str(refused.value)


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_a_signal_ends_cleans_up_behind_it(tmp_path, number):
    code = f"""
import sys, tempfile, time
from tandem.commands import cli
app = cli.make_app()
@app.command()
def work():
    with tempfile.TemporaryDirectory(dir={str(tmp_path)!r}):
        print(flush=True)
        time.sleep(60)
cli.run(app)
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes) as process:
        process.stdout.readline()
        assert len([*tmp_path.iterdir()]) == 1
        process.send_signal(number)
        assert process.stderr.read() == b""
    assert process.returncode == -number and not [*tmp_path.iterdir()]


def test_what_does_not_end_for_a_signal_is_killed():
    """Something may swallow the exception, and native code may go on for long before it is raised."""
    code = """
import contextlib, time
from tandem.commands import cli
from tandem.core import signals
signals.CLEANING = 0.2
app = cli.make_app()
@app.command()
def work():
    while True:
        with contextlib.suppress(BaseException):
            print(flush=True)
            time.sleep(60)
cli.run(app)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.terminate()
    assert process.returncode == -signal.SIGKILL


def in_python(code):
    """What a Python process of its own says and its errors, which ends without one."""
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout, finished.stderr


def test_no_help_loads_anything_slow():
    """But for pydantic, with which typer reads the values of options."""
    code = f"""
import sys
from tandem.__main__ import app
names = [command.name or command.callback.__name__ for command in app.registered_commands]
assert "train" in names
for arguments in [[], *([name] for name in names)]:
    try:
        app([*arguments, "--help"])
    except SystemExit as stopped:
        assert stopped.code == 0
    print(arguments, [name for name in {SLOW} if name in sys.modules and name != "pydantic"], file=sys.stderr)
"""
    said, loaded = in_python(code)
    assert "KEY=VALUE" in said
    assert [line for line in loaded.splitlines() if not line.endswith(" []")] == []


@pytest.mark.parametrize("script", [*PAIRS, *CLASSES])
def test_the_help_of_a_script_loads_nothing_slow(script):
    code = f"""
import runpy, sys
sys.argv = ["{script}.py", "--help"]
try:
    runpy.run_path("{script}.py", run_name="__main__")
except SystemExit as stopped:
    assert stopped.code == 0
print([name for name in {SLOW} if name in sys.modules], file=sys.stderr)
"""
    said, loaded = in_python(code)
    assert "--resume" in said and loaded == "[]\n"


@pytest.mark.parametrize(
    "module", ["tandem.training.loop", "tandem.benchmark.measure", "tandem.config.networks", "data_utils", *PAIRS]
)
def test_modules_that_load_no_framework(module):
    code = f"import {module}, sys; print([name for name in ('paddle', 'tensorflow', 'keras') if name in sys.modules])"
    assert in_python(code)[0] == "[]\n"


@pytest.mark.parametrize(("module", "own"), CLASSES.items())
def test_the_module_of_a_class_loads_only_its_own_framework(module, own):
    code = f"""
import sys
from {module} import SE_ResNeXt
assert SE_ResNeXt.__module__ == {module!r}
print([name for name in ("paddle", "tensorflow") if name in sys.modules])
"""
    assert in_python(code)[0] == f"[{own!r}]\n"


@pytest.mark.parametrize(("module", "own"), CLASSES.items())
def test_the_script_of_a_class_trains_and_ends_before_the_class(module, own):
    """Training imports the module by its name: it would be run twice."""
    code = f"""
import runpy, sys
from tandem.commands import train
train.train_from = lambda framework, *_: print(framework)
sys.argv = ["{module}.py"]
try:
    runpy.run_path("{module}.py", run_name="__main__")
except SystemExit as stopped:
    assert stopped.code == 0
print({own!r} in sys.modules)
"""
    assert in_python(code)[0] == f"{own}\nFalse\n"


@pytest.mark.parametrize(("framework", "other"), [("paddle", "tensorflow"), ("tensorflow", "paddle")])
def test_builders_load_only_their_own_framework(framework, other):
    names = {script: script for script in PAIRS} | {"lenet": "lenet5"}
    builders = "; ".join(f"{script}.{name}_{framework}()" for script, name in names.items())
    code = f"import sys, {', '.join(names)}; {builders}; print({{{other!r}, *UNUSED}} & sys.modules.keys())"
    # What Keras is kept from loading can be imported afterwards.
    code = f"from tandem.frameworks.environment import UNUSED; {code}; import matplotlib, sklearn"
    assert in_python(code)[0] == "set()\n"
