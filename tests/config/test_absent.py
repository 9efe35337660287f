"""Stand-ins for the absent framework: what a user's file may do with it at its top, and what its network may not."""

import importlib.util
import sys

from tandem.config.absent import Absent, StandIns

import pytest

TOP = """
import abc
import functools
from typing import Optional

import {package}
import {package}.nn.functional as F
import {package}.deeply.nested.module
from {package} import nn, keras
from {package}.keras import layers as L, optimizers
from {package}.nn import *

assert {package}.__version__.split(".") >= ["2", "0"] and int({package}.__version__[0]) >= 2
if {package}.version.VERSION < "2.0" or not {package}.executing_eagerly():
    raise RuntimeError("too old")
for gpu in {package}.config.list_physical_devices("GPU"):
    {package}.config.experimental.set_memory_growth(gpu, True)
{package}.set_device("gpu" if {package}.is_compiled_with_cuda() else "cpu")
{package}.keras.backend.clear_session()
L.Conv2D.padding = "same"
CONV = functools.partial(L.Conv2D, padding="same")
SCALE = 2 * {package}.constant(1.0) / (1 + {package}.constant(3)) - -{package}.ones([2])[0]
with {package}.device("/cpu:0"), {package}.no_grad():
    START = {package}.zeros([1])


class Net({package}.keras.Model):
    def __init__(self, width):
        super().__init__(name="net")
        self.conv = L.Conv2D(width)

    @{package}.function
    def call(self, x: {package}.Tensor | None, training: Optional[{package}.Tensor] = None):
        return self.conv(x)


@keras.saving.register_keras_serializable(package="mine")
class Block(Layer, abc.ABC):
    @{package}.function(input_signature=[{package}.TensorSpec([None])])
    def call(self, x):
        return helped(x), Linear


class Both(L.Layer, {package}.Module, dynamic=True):
    pass


class Deeper(L.Layer, Both):
    pass


@{package}.jit.to_static
def helped(x):
    return 7 if isinstance(x, {package}.Tensor) else 8


def used(x):
    return F.relu(x)


def imports():
    import {package}.nn


NET = Net(3)
NET.summary()
"""


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """loaded(source, framework): a module made of that source, with stand-ins for the other framework."""

    def load(source, framework="tensorflow"):
        path = tmp_path / "source.py"
        path.write_text(source)
        specification = importlib.util.spec_from_file_location("source", path)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize(("framework", "package"), [("paddle", "tensorflow"), ("tensorflow", "paddle")])
def test_a_file_does_at_its_top_what_files_do(loaded, framework, package):
    before = {*sys.modules}
    with StandIns(framework):
        module = loaded(TOP.format(package=package))
        assert package in sys.modules and f"{package}.nn.functional" in sys.modules
    assert {*sys.modules} <= before | {"abc", "functools", "typing"} and sys.meta_path[0].__class__ is not StandIns
    assert module.helped(1) == 8  # decorators give back what they decorate
    assert module.Block().call(1)[0] == 8
    assert isinstance(module.NET, module.Net) and module.Net.__mro__[1] is Absent
    assert module.NET.conv.kernel.shape and issubclass(module.Deeper, module.Both)
    for call, what in ((lambda: module.used(1), f"{package}.nn.functional.relu is called"), (module.NET, "is called")):
        with pytest.raises(RuntimeError, match=what):
            call()
    with pytest.raises(RuntimeError):
        module.NET.call(1)


def test_keras_is_absent_too_and_its_star_gives_what_the_file_uses(loaded):
    star = (
        "from tensorflow.keras.layers import *\nimport keras, tf_keras\nlen = len\ndef f(): return Dense(3), len([])\n"
    )
    with StandIns("paddle"):
        module = loaded(star)
        assert isinstance(module.Dense, Absent) and module.len is len and module.keras.__version__ > "3"
        assert "f" in vars(module) and module.f()[1] == 0


def test_the_framework_that_is_there_and_other_modules_are_themselves(loaded):
    with StandIns("paddle"):
        assert "json" in repr(loaded("import json, wave").json)
        assert importlib.util.find_spec("paddle").loader.__class__ is not StandIns
        assert importlib.util.find_spec("keras_blocks_of_mine") is None


def test_the_network_that_runs_may_not_import_it(loaded):
    with StandIns("tensorflow") as stand_ins:
        module = loaded(TOP.format(package="paddle"))
        stand_ins.end()
        assert "paddle" not in sys.modules
        with pytest.raises(ModuleNotFoundError, match=r"paddle is imported in the other framework's network"):
            module.imports()


def test_a_tensor_of_ones_own_is_nothing_for_it(loaded):
    class Tensor:
        __module__ = "keras.src.something"

    with StandIns("tensorflow"):
        module = loaded("import paddle")
        module.paddle.to_tensor(3), module.paddle.jit.to_static(Tensor)
        with pytest.raises(RuntimeError, match=r"paddle.nn.ReLU\(...\) is called in the other framework's network"):
            module.paddle.nn.ReLU()(Tensor())
