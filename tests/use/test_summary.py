"""The layers of both twins side by side, and where they differ."""

from pathlib import Path

from tandem.config.load import check_config
from tandem.core.errors import UserError
from tandem.frameworks.layer_table import totals
from tandem.training import checkpoint
from tandem.use import summary

import pytest
from checkpoints import metadata

# By hand. A convolution: out * (in * side^2 + 1) parameters, out * in * side^2 MACs at each place of its
# output; a dense layer: in * out, and out more parameters.
LENET5 = {
    "conv1": ([6, 28, 28], 6 * (3 * 25 + 1), 6 * 3 * 25 * 28 * 28),
    "relu1": ([6, 28, 28], 0, 0),
    "pool1": ([6, 14, 14], 0, 0),
    "conv2": ([16, 10, 10], 16 * (6 * 25 + 1), 16 * 6 * 25 * 10 * 10),
    "relu2": ([16, 10, 10], 0, 0),
    "pool2": ([16, 5, 5], 0, 0),
    "flatten": ([400], 0, 0),
    "fc3": ([120], 400 * 120 + 120, 400 * 120),
    "relu3": ([120], 0, 0),
    "fc4": ([84], 120 * 84 + 84, 120 * 84),
    "relu4": ([84], 0, 0),
    "fc5": ([10], 84 * 10 + 10, 84 * 10),
}
ODD = """
def odd_paddle(num_classes):
    from tandem.frameworks.paddle.layers import BatchNorm2D
    from tandem.frameworks.paddle.layers import Conv2D
    from tandem.frameworks.paddle.layers import GlobalAveragePool
    from paddle import nn

    relu = nn.ReLU()
    return nn.Sequential(
        ("conv1", Conv2D(3, 4, 3, 2, 1)), ("bn1", BatchNorm2D(4)), ("group2", Conv2D(4, 8, 3, 1, 1, groups=2)),
        ("mine", nn.ReLU()), ("pool", GlobalAveragePool()), ("fc", nn.Linear(8, num_classes)),
    )


def odd_tensorflow(num_classes):
    from tandem.frameworks.tensorflow.layers import BatchNorm2D
    from tandem.frameworks.tensorflow.layers import Conv2D
    from tandem.frameworks.tensorflow.layers import GlobalAveragePool
    from tensorflow import keras

    return keras.Sequential([
        Conv2D(3, 4, 3, 2, 1, name="conv1"), BatchNorm2D(4, name="bn1"),
        Conv2D(4, 8, 3, 1, 1, groups=4, name="group2"), keras.layers.ReLU(name="its"),
        GlobalAveragePool(name="pool"), keras.layers.Dense(num_classes, name="fc"),
    ])
"""

USERS = """
import keras
import paddle
import tensorflow as tf
from paddle import nn

from blocks_of_mine import WIDTH


@keras.saving.register_keras_serializable()
class Twin(tf.keras.Model):
    def __init__(self, kind):
        super().__init__()
        self.fc = keras.layers.Dense(WIDTH, name="fc")
        self.kind = kind

    def call(self, x):
        if self.kind == "other":
            x = paddle.flatten(x, 1)
        return self.fc(tf.reshape(x, [-1, 3 * 81]))


def users_paddle(kind="right"):
    net = nn.Sequential(("flatten", nn.Flatten()), ("fc", nn.Linear(3 * 81, WIDTH)))
    return {"forward": net.forward, "wide": nn.Sequential(net, nn.Unflatten(1, [2, 5]))}.get(kind, net)


def users_tensorflow(kind="right"):
    if kind == "functional":
        inputs = keras.Input((9, 9, 3))
        assert inputs.dtype == keras.config.floatx() == "float32"
        return keras.Model(inputs, keras.layers.Dense(WIDTH, name="fc")(keras.layers.Flatten(name="flatten")(inputs)))
    return Twin(kind)
"""
"""Both frameworks and a module beside it at its top; builders without num_classes; a subclassed model."""


def test_lenet5_by_hand(workers):
    found = summary.summarize("lenet5", (), workers)
    for rows in found.values():
        assert {row["name"]: (row["shape"], row["parameters"], row["macs"]) for row in rows} == LENET5
        assert [row["name"] for row in rows] == list(LENET5)
        assert totals(rows) == {"parameters": 62_006, "statistics": 0, "macs": 651_720}
    assert summary.differing(found) == []
    table = summary.to_table(found, "lenet5")
    assert table.row_count == len(LENET5) + 1
    assert [list(column.cells)[-1] for column in table.columns] == ["total", *["", "62,006", "651,720"] * 2]
    assert "agree in every row" in summary.verdict(found)[-1]


def test_rows_that_differ(workers, tmp_path):
    """And batch norm, a grouped convolution and another size, by hand."""
    path = tmp_path / "odd.py"
    path.write_text(ODD)
    found = summary.summarize(str(path), ["data.source=digits", "data.image_size=9"], workers, num_classes=3)
    rows = {framework: {row["name"]: row for row in rows} for framework, rows in found.items()}
    for framework, groups in (("paddle", 2), ("tensorflow", 4)):
        assert rows[framework]["conv1"]["shape"] == [4, 5, 5]
        assert rows[framework]["conv1"]["macs"] == 4 * 3 * 9 * 25
        norm = {"shape": [4, 5, 5], "parameters": 8, "statistics": 8, "macs": 0}
        assert rows[framework]["bn1"] == {"name": "bn1", **norm}
        assert rows[framework]["group2"]["parameters"] == 8 * 4 // groups * 9
        assert rows[framework]["group2"]["macs"] == 8 * 4 // groups * 9 * 25
        assert rows[framework]["fc"]["shape"] == [3]
    assert summary.differing(found) == ["group2", "mine", "its"]
    table = summary.to_table(found, "odd")
    assert list(table.columns[0].cells) == ["conv1", "bn1", "group2", "mine", "pool", "fc", "its", "total"]
    assert [bool(mark) for mark in table.columns[-1].cells] == [False, False, True, True, False, False, True, False]
    assert "differ in 3 rows: group2, mine, its" in summary.verdict(found)[-1]


def test_a_file_as_users_write_it(workers, tmp_path):
    (tmp_path / "users.py").write_text(USERS)
    (tmp_path / "blocks_of_mine.py").write_text("WIDTH = 10")

    def summarized(kind):
        options = ["data.source=digits", "data.image_size=9", f"network.options.kind={kind}"]
        return summary.summarize(str(tmp_path / "users.py"), options, workers)

    for kind in ("right", "functional"):
        for rows in summarized(kind).values():
            assert (rows[-1]["name"], rows[-1]["shape"], rows[-1]["parameters"]) == ("fc", [10], 2440)
    for kind, message in (
        ("forward", r"^paddle: .*users.py: users_paddle returns a method; return a paddle Layer$"),
        ("wide", r"^paddle: .* the network of users_paddle returns shape \[2, 2, 5\] for 2 images; return one tensor "),
        ("other", r"^tensorflow: users.py, line 19: RuntimeError: paddle.flatten is called in the other framework"),
    ):
        with pytest.raises(UserError, match=message):
            summarized(kind)


def test_a_checkpoint_says_how_many_classes(workers, tmp_path):
    values = {
        "network": {"name": "resnet_cifar", "depth": 8, "widths": [2, 2, 2]},
        "data": {"source": "folder", "directory": "gone", "image_size": 8},
        "schedule": {"name": "constant"},
        "epochs": 1,
        "precision": "bfloat16",
        "evaluation": {"ema_decay": 0.9},
    }
    config = check_config(values, "test").model_dump(mode="json")
    checkpoint.write(tmp_path / "x.safetensors", {}, metadata(config=config, class_names=list("abcd")))
    found = summary.summarize(tmp_path / "x.safetensors", (), workers)
    assert summary.differing(found) == []
    last = found["tensorflow"][-1]
    assert (last["name"], last["shape"], last["parameters"]) == ("fc", [4], 2 * 4 + 4)
    assert not any(row["name"] in ("stage1", "stage1.block1.body") for row in found["paddle"])  # containers


def test_networks_that_cannot_be(workers, tmp_path):
    for network, message in (
        ("lenet6", "unknown network"),
        (str(tmp_path / "x.yaml"), "no such config"),
        (str(tmp_path / "x.py"), "no such file"),
        (str(tmp_path / "x.safetensors"), "no such checkpoint"),
        (str(Path(tmp_path)), "unknown network"),
    ):
        with pytest.raises(UserError, match=message):
            summary.summarize(network, (), workers)
