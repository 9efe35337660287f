"""The package: what a wheel holds, that it works where it is unpacked, and that its requirements are one."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import tandem
from tandem.config.load import check_config
from tandem.core.paths import ROOT
from tandem.frameworks.base import load_engine
from tandem.training import checkpoint
from tandem.use import convert

import numpy as np
import pytest
from packaging.requirements import Requirement

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this checkout, made without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob(f"tandem-{tandem.__version__}-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder in which it is unpacked, as pip would; with a space in its name."""
    folder = tmp_path_factory.mktemp("site") / "site packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(code, where, folder, *arguments):
    """What Python says to `code`, with Tandem in `where`, from `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(where)}
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_a_wheel_holds_all_files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = archive.read(f"tandem-{tandem.__version__}.dist-info/entry_points.txt").decode()
        assert f"tandem-{tandem.__version__}.dist-info/licenses/LICENSE" in archive.namelist()
    inside = [path for path in (ROOT / "tandem").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    beside = {path: f"tandem/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    beside |= {path: path.name for path in ROOT.glob("*.py")}
    assert held == {path.relative_to(ROOT).as_posix() for path in inside} | set(beside.values())
    assert "tandem = tandem.__main__:main" in entry_points


def test_it_works_where_it_is_installed(installed, tmp_path):
    code = """
import sys
import alexnet, se_resnext_fluid
from tandem import __main__
print(alexnet.__file__)
sys.argv = sys.argv[:1] + ["--version"]
__main__.main()
"""
    file, version = run(code, installed, tmp_path).splitlines()
    assert Path(file) == installed / "alexnet.py"
    assert version == f"tandem {tandem.__version__}"


def test_the_version_is_the_changelogs_newest():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changes, re.MULTILINE).group(1) == tandem.__version__


def test_the_command_and_python_m_tandem_are_the_same(tmp_path):
    code = "import sys; from tandem.__main__ import main; sys.argv = ['tandem', *sys.argv[1:]]; main()"
    command = [sys.executable, "-m", "tandem", "--help"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    of_module, of_command = finished.stdout, run(code, ROOT, tmp_path, "--help")
    assert of_module.partition("Commands:")[2] == of_command.partition("Commands:")[2] != ""
    assert "--install-completion" in of_command and "--install-completion" not in of_module


@pytest.mark.parametrize(
    ("words", "completed"), [("tandem cer", "certify"), ("tandem certify lenet5 --preci", "--precision")]
)
def test_a_shell_completes(tmp_path, monkeypatch, words, completed):
    code = "import sys; from tandem.__main__ import main; sys.argv = ['tandem']; main()"
    monkeypatch.setenv("_TANDEM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert run(code, ROOT, tmp_path).split() == [completed]


def requirements_of(file):
    """The requirements in a file and those that it includes, by name and marker."""
    found = {}
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            found |= requirements_of(line.removeprefix("-r "))
        elif line and not line.startswith(("#", "--")):
            one = Requirement(line)
            found[one.name.lower(), str(one.marker)] = one
    return found


def extra(name):
    """The requirements of the package with an extra, likewise."""
    found = {}
    for line in PROJECT["optional-dependencies"][name] if name else PROJECT["dependencies"]:
        one = Requirement(line)
        if one.name == PROJECT["name"]:
            found |= {key: value for other in one.extras for key, value in extra(other).items()}
        else:
            found[one.name.lower(), str(one.marker)] = one
    return found if name is None else found | extra(None)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (None, "requirements-common.txt"),
        ("cpu", "requirements.txt"),
        ("export", "requirements-export.txt"),
        ("dev", "requirements-dev.txt"),
    ],
)
def test_the_requirements_files_pin_what_the_package_asks_for(name, file):
    ranges, pins = extra(name), requirements_of(file)
    assert ranges.keys() == pins.keys()
    for key, pin in pins.items():
        (version,) = pin.specifier
        assert version.operator == "==" and ranges[key].specifier.contains(version.version), str(pin)


# Keras loads nothing but itself


NETWORKS = (
    {"name": "resnet_cifar", "depth": 8, "widths": [2, 2, 4]},
    {"name": "se_resnext", "num_block": 1, "depth": 2, "cardinality": 2, "out_dims": [4], "reduction_ratio": 2},
)
"""Each has a class from a module that those before it need not."""


def write_checkpoint(settings, path):
    engine = load_engine("tensorflow").Engine(settings, 10, np.zeros((3, 1, 1)), np.ones((3, 1, 1)))
    arrays, metadata = convert._for_resuming(settings, "tensorflow")
    checkpoint.write(path, engine.state() | arrays, metadata)


@pytest.fixture(scope="module")
def keras_files(run_in, tmp_path_factory):
    """Of each network a .keras, and the line that `convert` gives to load it."""
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "_in_process", run_in)
        for network in NETWORKS:
            folder = tmp_path_factory.mktemp(network["name"])
            values = {
                "network": network,
                "data": {"source": "digits", "image_size": 32},
                "schedule": {"name": "constant"},
                "epochs": 1,
            }
            settings = check_config(values, "test")
            run_in("tensorflow", write_checkpoint, settings, folder / "a.safetensors")
            said = convert.convert(folder / "a.safetensors", folder / "a model.keras")
            made.append((folder / "a model.keras", said.splitlines()[1].partition("in Python: ")[2]))
    return made


def test_a_keras_file_loads_by_the_line_that_convert_prints(keras_files, tmp_path):
    """And not without it: should Keras learn to, the line has no use any more."""
    code = """
import sys, keras
for path, line in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        keras.models.load_model(path)
    except TypeError as error:
        print("Make sure custom classes" in str(error))
    exec(line)
    print(model.count_params())
"""
    said = run(code, ROOT, tmp_path, *(part for pair in keras_files for part in pair)).splitlines()
    assert said[::2] == ["True"] * len(NETWORKS)
    assert all(int(count) > 100 for count in said[1::2])
    assert "import tandem.frameworks.tensorflow.layers, keras;" in keras_files[0][1]
    assert "import se_resnext_tensorflow, keras;" in keras_files[1][1]


def test_stock_layers_need_no_line(tmp_path):
    layer = {"module": "keras.layers", "class_name": "Dense", "config": {}, "registered_name": None}
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({**layer, "config": {"layers": [layer]}}))
    assert convert._modules_of_keras(tmp_path / "x.keras") == []
