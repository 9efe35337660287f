"""Weights of a user's own pair, from one framework to the other: what the file then has, and what is refused."""

import contextlib
import pickle
import shutil

from tandem.certify.pairing import read_names
from tandem.core.errors import UserError
from tandem.frameworks import workers as frameworks_workers
from tandem.frameworks.workers import Workers
from tandem.use.port import WORKER, port
from tandem.use.port_worker import flattened_channels, hwc_order

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import command

# No names given: a depthwise convolution, batch norm before and after a flatten, dense layers, a dropout.
MIXED = """
def mixed_paddle(epsilon=1e-5, bias=False):
    from paddle import nn

    return nn.Sequential(
        nn.Conv2D(3, 4, 3, padding=1), nn.BatchNorm2D(4, epsilon=epsilon), nn.ReLU(),
        nn.Conv2D(4, 4, 3, padding=1, groups=4, bias_attr=None if bias else False), nn.MaxPool2D(2), nn.Flatten(),
        nn.BatchNorm1D(64), nn.Linear(64, 64), nn.Dropout(0.5), nn.Linear(64, 10),
    )


def mixed_tensorflow(epsilon=1e-5, bias=False):
    from keras import Sequential, layers

    return Sequential([
        layers.Input([8, 8, 3]), layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization(epsilon=1e-5),
        layers.ReLU(), layers.DepthwiseConv2D(3, padding="same", use_bias=False), layers.MaxPooling2D(2),
        layers.Flatten(), layers.BatchNormalization(epsilon=1e-5), layers.Dense(64), layers.Dropout(0.5),
        layers.Dense(10),
    ])
"""

# Only the names tell which convolution is which: they have the same neighbours, and run in another order.
CROSSED = """
def crossed_paddle():
    from paddle import nn

    class Net(nn.Layer):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.fc = nn.Conv2D(3, 4, 3), nn.Conv2D(3, 4, 3), nn.Linear(4, 10)

        def forward(self, x):
            two = self.two(x)
            return self.fc((nn.functional.relu(self.one(x)) + two).mean([2, 3]))

    return Net()


def crossed_tensorflow():
    import keras

    images = keras.Input([8, 8, 3])
    second = keras.layers.Conv2D(4, 3, name="second")(images)
    first = keras.layers.Conv2D(4, 3, name="first")(images)
    x = keras.ops.mean(keras.ops.relu(first) + second, [1, 2])
    return keras.Model(images, keras.layers.Dense(10)(x))
"""

SIZE = ["data.image_size=8"]


@pytest.fixture(scope="module")
def workers():
    with Workers(WORKER) as workers:
        yield workers


@pytest.fixture(scope="module")
def made(tmp_path_factory, workers):
    """A folder with both networks, and m.pdparams -> m.keras -> mk.pdparams, m.pdparams -> m.weights.h5."""
    folder = tmp_path_factory.mktemp("port")
    (folder / "mixed.py").write_text(MIXED)
    (folder / "crossed.py").write_text(CROSSED)
    weights = {"0.weight": (4, 3, 3, 3), "0.bias": (4,), "3.weight": (4, 1, 3, 3)}
    weights |= {"7.weight": (64, 64), "7.bias": (64,), "9.weight": (64, 10), "9.bias": (10,)}
    for norm, channels in (("1", 4), ("6", 64)):
        weights |= {f"{norm}.{name}": (channels,) for name in ("weight", "bias", "_mean", "_variance")}
    save(folder / "m.pdparams", weights)
    save(
        folder / "c.pdparams",
        {"one.weight": (4, 3, 3, 3), "one.bias": (4,), "two.weight": (4, 3, 3, 3)}
        | {"two.bias": (4,), "fc.weight": (4, 10), "fc.bias": (10,)},
    )
    for source, target in (("m.pdparams", "m.keras"), ("m.keras", "mk.pdparams"), ("m.pdparams", "m.weights.h5")):
        converted = port(folder / source, folder / target, folder / "mixed.py", workers, SIZE)
        assert converted.passed and converted.written and (converted.arrays, converted.lone["paddle"]) == (15, [])
        assert converted.errors["float32"] <= 1e-5 and converted.rows == {"6": [64, 4], "7": [64, 4]}
    return folder


def save(path, shapes):
    rng = np.random.default_rng(0)
    arrays = {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {name: x - 1 for name, x in arrays.items() if x.ndim > 1}
    path.write_bytes(pickle.dumps(arrays, protocol=2))


def read(path):
    return pickle.loads(path.read_bytes())


@given(st.integers(2, 5), st.integers(1, 5), st.integers(1, 4))
def test_the_order_of_flattened_channels_is_found(channels, height, width):
    x = np.random.default_rng(0).normal(size=(3, channels, height, width))
    ours, theirs = x.reshape(3, -1), np.moveaxis(x, 1, -1).reshape(3, -1)
    np.testing.assert_array_equal(ours[:, hwc_order(ours.shape[1], channels)], theirs)
    assert flattened_channels(ours, theirs) == (None if height * width == 1 else channels)
    assert flattened_channels(ours, theirs + 1) is None


def test_a_round_trip_is_equal_bit_for_bit(made):
    before, after = read(made / "m.pdparams"), read(made / "mk.pdparams")
    after.pop("StructuredToParameterName@@", None)
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(array.view(np.uint32), after[name].view(np.uint32), name)


def test_keras_gets_its_own_layouts_and_the_rows_of_its_own_flatten(made):
    ours = read(made / "m.pdparams")
    with h5py.File(made / "m.weights.h5") as file:
        theirs = {name: np.array(file[f"layers/{name}/vars/0"]) for name in ("conv2d", "depthwise_conv2d", "dense")}
        norm = np.array(file["layers/batch_normalization_1/vars/0"])
    np.testing.assert_array_equal(theirs["conv2d"], ours["0.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(theirs["depthwise_conv2d"], ours["3.weight"].transpose(2, 3, 0, 1))
    rows = ours["7.weight"].reshape(4, 4, 4, 64).transpose(1, 2, 0, 3).reshape(64, 64)
    np.testing.assert_array_equal(theirs["dense"], rows)
    np.testing.assert_array_equal(norm, ours["6.weight"].reshape(4, 4, 4).transpose(1, 2, 0).ravel())


def test_what_keras_adds_as_it_trains_is_left_and_a_layer_more_is_not(made, workers, tmp_path):
    source, network = tmp_path / "m.weights.h5", made / "mixed.py"
    shutil.copy(made / "m.weights.h5", source)
    with h5py.File(source, "a") as file:
        file["optimizer/vars/1"] = np.ones(3, np.float32)
    port(source, tmp_path / "x.pdparams", network, workers, SIZE)
    assert all(np.array_equal(x, read(tmp_path / "x.pdparams")[name]) for name, x in read(made / "m.pdparams").items())
    with h5py.File(source, "a") as file:
        file["layers/conv2d_1/vars/0"] = np.ones(3, np.float32)
    with pytest.raises(UserError, match=r"m\.weights\.h5: holds 5,\d+ numbers, but the network of"):
        port(source, tmp_path / "y.pdparams", network, workers, SIZE)


def test_networks_that_differ(made, workers, tmp_path, monkeypatch):
    """By the command: the layers that differ are named, nothing is written, and the exit code is 1."""
    monkeypatch.setattr(frameworks_workers, "Workers", lambda module: contextlib.nullcontext(workers))
    target = tmp_path / "x.pdparams"
    options = ["--network", made / "mixed.py", *("-o", *SIZE), *("-o", "network.options.epsilon=0.01")]
    code, said, errors = command("convert", made / "m.keras", target, *options, "-o", "network.options.bias=true")
    assert code == 1 and not said and not list(tmp_path.iterdir())
    assert "1 (BatchNorm2D, in TensorFlow BatchNormalization): epsilon 0.01 against 1e-05" in errors
    assert "3 (Conv2D, in TensorFlow DepthwiseConv2D): bias only in Paddle" in errors
    assert len(errors.splitlines()) == 6  # two lines first, and two on the order of rows
    code, said, errors = command("convert", made / "m.keras", target, *options, "--anyway")
    assert code == 0 and "15 arrays" in said and "epsilon" in errors
    assert np.array_equal(read(target)["7.weight"], read(made / "m.pdparams")["7.weight"])


def test_layers_that_only_names_tell_apart(made, workers, tmp_path):
    source, target, network = made / "c.pdparams", tmp_path / "c.weights.h5", made / "crossed.py"
    guessed = port(source, target, network, workers, SIZE)
    assert not guessed.written and "paired by the order of execution only: two" in guessed.lines()[-1]
    (tmp_path / "names.yaml").write_text("one: first\n")
    told = port(source, target, network, workers, SIZE, read_names(tmp_path / "names.yaml"))
    assert told.written and told.errors["float32"] <= 1e-5


def test_files_that_are_none(made, workers, tmp_path):
    def refused(source, target="x.pdparams"):
        with pytest.raises(UserError) as raised:
            port(source, tmp_path / target, made / "mixed.py", workers, SIZE)
        assert not list(tmp_path.glob("*x.*"))
        return str(raised.value)

    (tmp_path / "cut.weights.h5").write_bytes((made / "m.weights.h5").read_bytes()[:3000])
    assert "cut.weights.h5: cannot be read as a Keras model" in refused(tmp_path / "cut.weights.h5")
    shutil.copy(made / "m.weights.h5", tmp_path / "linked.weights.h5")
    with h5py.File(tmp_path / "linked.weights.h5", "a") as file:
        file["layers/dense_2"] = h5py.ExternalLink("elsewhere.h5", "/")
    assert "its weights are not in it" in refused(tmp_path / "linked.weights.h5")
    with h5py.File(tmp_path / "large.weights.h5", "w") as file:
        file.create_dataset("layers/dense/vars/0", [1 << 30], np.float32, compression="gzip")
    assert "too large" in refused(tmp_path / "large.weights.h5")
    save(tmp_path / "other.pdparams", {"0.weight": (4, 3, 3, 3)})
    assert "does not fit the configured network (14 missing" in refused(tmp_path / "other.pdparams", "x.keras")
    assert "is of the same framework" in refused(made / "m.weights.h5", "x.keras")
    assert "with --network use .pdparams, .keras or .weights.h5" in refused(made / "m.keras", "x.h5")
