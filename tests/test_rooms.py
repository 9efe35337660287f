"""The rooms of the house: no import runs upwards or in a circle, and only few rooms load a framework."""

import ast
import functools
import subprocess
import sys
import tomllib
from typing import NamedTuple

from tandem.core.paths import ROOT
from tandem.frameworks.base import FRAMEWORKS

import pytest

ROOMS = (
    "networks",  # the scripts at the top
    "tandem.__main__",
    "tandem.commands",
    "tandem.compare",
    "tandem.benchmark",
    "tandem.use",
    "tandem.certify",
    "tandem.traps",
    "tandem.training",
    "tandem.frameworks",
    "tandem.report",
    "tandem.data",
    "tandem.config",
    "data_utils",
    "tandem.core",
    "tandem",  # the version
)
"""From top to bottom: each may import from itself and from those below."""

PACKAGES = {"paddle": "paddle", "tensorflow": "tensorflow", "keras": "tensorflow"}
"""What loads which framework."""

CLASSES = {"se_resnext_fluid": "paddle", "se_resnext_tensorflow": "tensorflow"}
"""The modules of a network that is written as a class, which are of one framework."""

IN_FUNCTIONS = ("tandem.traps", "tandem.certify.zoo", "tandem.use.convert", "tandem.use.export")
"""Where functions may load one framework each: a trap's mutation changes it; the zoo's builders are of one each; what
writes a format of its own runs in a process that has loaded it."""


class Import(NamedTuple):
    """`name`, imported by `module` at `line`, within the functions `inside`."""

    module: str
    line: int
    name: str
    inside: tuple

    def __str__(self):
        return f"{self.module}:{self.line} imports {self.name}"


def files():
    """The source files by the name of their module: the package's and those beside it."""
    paths = [*ROOT.glob("*.py"), *(ROOT / "tandem").rglob("*.py")]
    named = {path: path.relative_to(ROOT).with_suffix("").parts for path in sorted(paths)}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for path, parts in named.items()}


def imports_of(module, source, modules):
    """Every `Import` in `source`, those within functions and import_module("...") included."""
    found = []

    def walk(node, inside):
        if isinstance(node, ast.FunctionDef):
            inside = (*inside, node.name)
        for name in imported(node):
            found.append(Import(module, node.lineno, name, inside))
        for child in ast.iter_child_nodes(node):
            walk(child, inside)

    def imported(node):
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno} is relative; write the whole name"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            return sorted({name if name in modules else node.module for name in whole})
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
            argument = node.args[0]
            if isinstance(argument, ast.JoinedStr):  # as far as it is constant
                argument = argument.values[0]
            if isinstance(argument, ast.Constant):
                return [argument.value.rstrip(".")]
        return []

    walk(ast.parse(source), ())
    return found


@functools.cache
def all_imports():
    """Of all files."""
    modules = files()
    return [
        one for name, path in modules.items() for one in imports_of(name, path.read_text(encoding="utf-8"), modules)
    ]


def room(module):
    """The index in `ROOMS` of a module's room; None for what is not Tandem's."""
    if module == "data_utils":
        return ROOMS.index(module)
    top, _, below = module.partition(".")
    if top != "tandem":
        return ROOMS.index("networks") if module in files() else None
    return ROOMS.index(f"tandem.{below.partition('.')[0]}" if below else "tandem")


def framework(module):
    """Whose folder a module lies in."""
    return next((name for name in FRAMEWORKS if f"{module}.".startswith(f"tandem.frameworks.{name}.")), None)


def upwards(imports):
    """Those that run against the order."""
    pairs = [(one, room(one.module), room(one.name)) for one in imports]
    return [str(one) for one, here, there in pairs if there is not None and there < here]


def between_frameworks(imports):
    """Those of one framework's folder by the other's, or by what both stand on: that one's registry takes a name."""
    found = []
    for one in imports:
        own, other = framework(one.module), framework(one.name)
        if one.module.startswith("tandem.frameworks.") and other and own != other:
            found.append(str(one))
    return found


def circles(imports):
    """Groups of modules that import each other, by whatever way round."""
    graph = {}
    for one in imports:
        if room(one.name) is not None:
            graph.setdefault(one.module, set()).add(one.name)

    def reached(start):
        seen, waiting = set(), [start]
        while waiting:
            for name in graph.get(waiting.pop(), ()):
                if name not in seen:
                    seen.add(name)
                    waiting.append(name)
        return seen

    within = {name: reached(name) for name in graph}
    rounds = {frozenset(other for other in seen if name in within.get(other, ())) for name, seen in within.items()}
    return sorted(" <-> ".join(sorted(one)) for one in rounds if one)


def strangers(imports):
    """Those that load a framework where none is to be loaded.

    At home is one in its own folder of tandem/frameworks, and in a builder: a network's function NAME_paddle or
    NAME_tensorflow, or the module of a class.
    """
    found, taken = [], {}
    for one in imports:
        loaded = PACKAGES.get(one.name.partition(".")[0]) or framework(one.name)
        function = one.inside[0] if one.inside else ""
        homes = [framework(one.module), CLASSES.get(one.module)]
        if one.module == "tandem.traps.probes" or room(one.module) == ROOMS.index("networks"):
            homes.append(function.rpartition("_")[2])
        elif loaded and function and one.module.startswith(IN_FUNCTIONS):
            homes.append(taken.setdefault((one.module, function), loaded))
        if loaded and loaded not in homes:
            found.append(str(one))
    return found


def test_every_file_has_a_room():
    assert all(room(module) is not None for module in files())
    top = {module for module in files() if "." not in module} - {"tandem", "data_utils"}
    assert {"alexnet", "vgg", "resnet_cifar", "resnet_fast", "lenet", *CLASSES} == top


def test_no_import_runs_upwards():
    assert upwards(all_imports()) == []


def test_the_frameworks_do_not_know_each_other():
    assert between_frameworks(all_imports()) == []


def test_there_is_no_circle():
    assert circles(all_imports()) == []


def test_only_the_frameworks_rooms_and_the_builders_load_a_framework():
    assert strangers(all_imports()) == []


@pytest.mark.parametrize(
    ("check", "module", "source"),
    [
        (upwards, "tandem.core.state", "import tandem.config.load"),
        (upwards, "tandem.core.state", "def f():\n    from tandem.config import load"),
        (upwards, "tandem.config.networks", "importlib.import_module('alexnet')"),
        (upwards, "tandem.data.images", "import_module(f'tandem.frameworks.{name}.engine')"),
        (upwards, "data_utils", "from tandem.data.images import load_dataset"),
        (upwards, "tandem.use.convert", "from tandem import compare"),
        (between_frameworks, "tandem.frameworks.paddle.engine", "from tandem.frameworks.tensorflow import kernels"),
        (between_frameworks, "tandem.frameworks.base", "def f():\n    import tandem.frameworks.paddle.engine"),
        (strangers, "tandem.use.inference", "def f_paddle():\n    import paddle"),
        (strangers, "tandem.use.convert", "import paddle"),
        (strangers, "tandem.traps.loss", "def f():\n    import paddle\n    import keras"),
        (strangers, "tandem.frameworks.base", "from tensorflow import keras"),
        (strangers, "tandem.frameworks.paddle.engine", "import tensorflow as tf"),
        (strangers, "alexnet", "def alexnet_paddle():\n    import keras"),
        (strangers, "alexnet", "from tandem.frameworks.paddle.layers import Conv2D"),
        (strangers, "se_resnext_fluid", "import tensorflow"),
    ],
)
def test_each_check_finds_what_it_is_for(check, module, source):
    assert len(check(imports_of(module, source, files()))) == 1


def test_a_circle_is_found_however_long():
    modules = files()
    sources = {"core.state": "core.random", "core.random": "core.files", "core.files": "core.state", "data": "core"}
    imports = [
        one
        for module, other in sources.items()
        for one in imports_of(f"tandem.{module}", f"import tandem.{other}", modules)
    ]
    assert circles(imports) == ["tandem.core.files <-> tandem.core.random <-> tandem.core.state"]
    assert circles(imports[1:]) == []


def test_imports_need_no_exception():
    """Tandem's own come first everywhere, as pyproject.toml has it: its layers set what the frameworks read."""
    sources = [*files().values(), *(ROOT / "tests").rglob("*.py")]
    mark = "isort" + ": "
    assert [path.name for path in sources if f"{mark}skip" in path.read_text(encoding="utf-8")] == []
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    own = settings["tool"]["ruff"]["lint"]["isort"]["known-first-party"]
    assert {module for module in files() if "." not in module} == set(own)


def test_the_networks_of_both_frameworks_load_neither():
    """Also: nothing slow."""
    networks = [module for module in files() if room(module) == ROOMS.index("networks") and module not in CLASSES]
    code = f"import sys, {', '.join(networks)}; print([name for name in {(*PACKAGES, 'numpy')} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert finished.stdout == "[]\n", finished.stderr
