"""Own networks: how their builders are called, and one line for whatever is wrong, without a framework."""

import sys

from tandem.config import networks, user_file
from tandem.config.load import check_config
from tandem.core.errors import UserError

import numpy as np
import pytest

FILE = """
import tensorflow as tf
import paddle

class Net(tf.keras.Model):
    pass

def net_paddle({parameters}):
    {body}
"""


@pytest.fixture(autouse=True)
def left(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    user_file.leave()


@pytest.fixture
def build(tmp_path):
    """build(parameters, body): what the builder of net.py returns."""

    def build(parameters, body, **options):
        (tmp_path / "net.py").write_text(FILE.format(parameters=parameters, body=body))
        network = networks.Own(name="own", file=str(tmp_path / "net.py"), options=options)
        return networks.build(network, "paddle", 7)

    (tmp_path / "paddle.py").write_text("nn = 1")  # beside the file; the real one would take seconds
    return build


@pytest.mark.parametrize(
    ("parameters", "options", "result"),
    [
        ("num_classes", {}, {"num_classes": 7}),
        ("num_classes=10, kind='right'", {"kind": "other"}, {"num_classes": 7, "kind": "other"}),
        ("kind='right'", {}, {"kind": "right"}),
        ("", {}, {}),
        ("**more", {"kind": 3}, {"more": {"num_classes": 7, "kind": 3}}),
        ("*, num_classes", {}, {"num_classes": 7}),
    ],
)
def test_a_builder_gets_what_it_takes(build, parameters, options, result):
    assert build(parameters, "return dict(locals())", **options) == result


def test_a_class_may_be_the_builder(build):
    built = build("", "pass\nclass net_paddle:\n    def __init__(self, width):\n        self.width = width", width=3)
    assert built.width == 3


@pytest.mark.parametrize(
    ("parameters", "body", "options", "message"),
    [
        (
            "num_classes, kind=1",
            "pass",
            {"kin": 2},
            "options: got an unexpected keyword argument 'kin'; net_paddle takes",
        ),
        (
            "num_classes, kind",
            "pass",
            {},
            "net.py: network.options: missing a required argument: 'kind'; net",
        ),
        (
            "num_classes, kind=1",
            "return {}[kind]",
            {"kind": 2},
            "net.py, line 9: KeyError: 2; network.options is {'kind': 2}, and net_paddle takes (num_classes, kind=1)",
        ),
        ("num_classes", "raise ValueError('a\\nb')", {}, "net.py, line 9: ValueError: b"),
        ("num_classes", "import json; json.loads('')", {}, "net.py, line 9: JSONDecodeError: Expecting value"),
        ("num_classes", "import sys; sys.exit(3)", {}, "net.py, line 9: SystemExit: 3"),
        ("num_classes", "return 1 +", {}, "net.py, line 9: SyntaxError: invalid syntax"),
        (
            "num_classes",
            "import net_blocks_not_there",
            {},
            "net.py, line 9: ModuleNotFoundError: No module",
        ),
        (
            "num_classes",
            "return tf.nn.relu(paddle.Tensor())",
            {},
            "net.py, line 9: RuntimeError: tensorflow.nn.relu ",
        ),
    ],
)
def test_what_goes_wrong_is_one_line(build, tmp_path, parameters, body, options, message):
    (tmp_path / "paddle.py").write_text("class Tensor: pass")
    with pytest.raises(UserError) as refused:
        build(parameters, body, **options)
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("1net.py", {}, "a valid identifier"),
        ("class.py", {}, "a valid identifier"),
        ("random.py", {}, "random.py would hide Python's own module random; rename it"),
        ("my/keras.py", {}, "keras.py would hide"),
        ("net.py", {"num_classes": 3}, "leave out num_classes"),
    ],
)
def test_settings_that_cannot_be(file, options, message):
    network = {"name": "own", "file": file, "options": options}
    with pytest.raises(UserError, match=message):
        check_config({"network": network, "schedule": {"name": "constant"}, "epochs": 1}, "test")


class Layer:
    """Stands for the framework's."""


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.zeros((2, 7)), None),
        (
            [np.zeros((2, 7))] * 2,
            "net.py: the network of net_paddle returns a list of 2 for 2 images; return one",
        ),
        ({"logits": np.zeros((2, 7))}, "returns a dict of 1 for 2 images"),
        (np.zeros((2, 7, 1, 1)), "returns shape [2, 7, 1, 1] for 2 images; return one tensor [2, 7]"),
        (np.zeros(7), "returns shape [7] for 2 images"),
        (None, "returns None for 2 images"),
    ],
)
def test_a_network_returns_one_tensor(output, message):
    network = networks.Own(name="own", file="net.py")
    arguments = network, "paddle", 7, Layer(), (Layer, np.ndarray), lambda: output
    if message is None:
        networks.check_output(*arguments)
        return
    with pytest.raises(UserError) as refused:
        networks.check_output(*arguments)
    assert message in str(refused.value)


def test_a_builder_returns_a_network():
    network = networks.Own(name="own", file="net.py")
    with pytest.raises(UserError, match=r"net.py: net_paddle returns a tuple of 1; return a test_own_networks Layer"):
        networks.check_output(network, "paddle", 7, (Layer(),), (Layer, np.ndarray), None)


def test_a_network_that_raises_is_one_line(tmp_path):
    network = networks.Own(name="own", file=str(tmp_path / "net.py"))
    with pytest.raises(UserError, match=r"^net.py, in net_paddle: ZeroDivisionError: division by zero$"):
        networks.check_output(network, "paddle", 7, Layer(), (Layer, np.ndarray), lambda: 1 / 0)
