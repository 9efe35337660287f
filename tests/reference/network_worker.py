"""One framework's part of test_networks.py, in a process of its own: python network_worker.py FRAMEWORK FOLDER.

Reads cases from stdin, one a line as JSON, of which the empty one stands for single layers; writes what was computed
to FOLDER/FRAMEWORK, a file an array; and answers each with a line of JSON. It goes on only when it is asked, so that no
more than one case is on the disk.
"""

import importlib
import json
import sys
import traceback
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tandem.config import networks
from tandem.config.load import check_config
from tandem.data.batches import Batch
from tandem.frameworks.base import load_engine

COUNT, CLASSES = 4, 10
LEARNING_RATE = 0.01


def settings(case):
    values = {
        "network": case["network"],
        "data": {"image_size": case["image_size"]},
        "optimizer": {"nesterov": True, "weight_decay": 0.01},
        "schedule": {"name": "constant"},
        "epochs": 1,
        "precision": "float64",
        "device": "cpu",
    }
    return check_config(values, "test")


def batch(size):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, 3, size, size), dtype=np.uint8)
    return Batch(images, rng.integers(0, CLASSES, COUNT))


def unsettled(state):
    """A state in which nothing is 0 or 1, as biases, velocities and statistics are at first."""
    arrays = {}
    for name, array in state.items():
        if name.startswith("velocity/"):
            arrays[name] = 0.01 * state[name.removeprefix("velocity/")][::-1]
        elif array.ndim == 1:
            arrays[name] = array + 0.2 * np.random.default_rng(zlib.crc32(name.encode())).random(array.shape) - 0.1
        else:
            arrays[name] = array
    return arrays


def digest(state):
    """Of all names and bits."""
    return {name: zlib.crc32(np.ascontiguousarray(array)) for name, array in state.items()}


def write(folder, arrays):
    """A file an array: not .npz, for the checksums of a zip file take longer than the writing."""
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / (name.replace("/", "|") + ".npy"), array)


def native_saving(twin, network, size, framework, folder):
    """Does the framework's own saving and loading give the same logits?"""
    images = np.random.default_rng(0).normal(size=(2, 3, size, size))
    if framework == "paddle":
        import paddle

        paddle.save(twin.model.state_dict(), str(folder / "model.pdparams"))
        again = networks.build(network, framework, CLASSES)
        again.set_state_dict(paddle.load(str(folder / "model.pdparams")))
        twin.model.eval(), again.eval()
        x, real = paddle.to_tensor(images), isinstance(again, paddle.nn.Layer)
    else:
        import tensorflow as tf

        twin.model.save(folder / "model.keras")
        again = tf.keras.models.load_model(folder / "model.keras")
        x, real = images.transpose(0, 2, 3, 1), isinstance(again, tf.keras.Model)
    return real and bool((twin.model(x).numpy() == again(x).numpy()).all())


def run(engine, framework, folder, case):
    """Evaluate, take one step and look at everything."""
    checked = settings(case)
    channels = (3, 1, 1)
    mean, std = np.array([120.0, 110, 100]).reshape(channels), np.array([60.0, 70, 80]).reshape(channels)
    twin = engine.Engine(checked, CLASSES, mean, std)
    start = unsettled(twin.state())
    twin.load_state(start, "test")
    evaluated = twin.trace_evaluation(batch(case["image_size"]))
    traced = twin.trace(batch(case["image_size"]), LEARNING_RATE, 3)
    traced = {name: array for name, array in traced.items() if not name.startswith("taken/")}
    arrays = {f"evaluation/{name}": array for name, array in evaluated.items()}
    arrays |= traced | {f"after/{name}": array for name, array in twin.state().items()}
    write(folder / framework, arrays)
    native = case["native"] and native_saving(twin, checked.network, case["image_size"], framework, folder)
    return {
        "start": digest(start),
        "shapes": {name: np.shape(array) for name, array in traced.items()},
        "idle": [name for name, array in traced.items() if name.startswith("gradient/") and not np.any(array)],
        "native": native,
        "parameters": sum(int(np.prod(parameter.shape)) for parameter in twin.parameters),
    }


def layers(framework, folder):
    """What single layers give, in NCHW; test_networks.py compares it with NumPy's."""
    module = importlib.import_module(f"tandem.frameworks.{framework}.layers")
    results = {}

    def apply(name, layer, x, training=False):
        if framework == "paddle":
            import paddle

            layer.train() if training else layer.eval()
            y = layer(paddle.to_tensor(x)).numpy()
        else:
            options = {"training": True} if training else {}
            y = layer(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x, **options).numpy()
            y = y.transpose(0, 3, 1, 2) if y.ndim == 4 else y
        results[f"{name}/x"], results[f"{name}/y"] = x, y

    rng = np.random.default_rng(0)
    for size in range(1, 9):
        apply(f"ceil/{size}", module.MaxPool2D(3, 2, ceil_mode=True), rng.normal(size=(2, 3, size, size + 1)) - 9)
    apply("floor", module.MaxPool2D(3, 2), rng.normal(size=(2, 3, 8, 9)))
    for size in (4, 5):
        apply(f"lrn/{size}", module.LocalResponseNorm(size, alpha=0.5, beta=0.75), 3 * rng.normal(size=(2, 7, 3, 4)))
    apply("flatten", module.Flatten(), rng.normal(size=(2, 3, 4, 5)))
    apply("average", module.GlobalAveragePool(), rng.normal(size=(2, 3, 4, 5)))
    apply("kept", module.Dropout(0.4), rng.normal(size=(2, 3, 4, 5)))
    apply("dropped", module.Dropout(0.4), np.ones((50, 200)), training=True)

    for dtype in ("float64", "float32"):
        if framework == "paddle":
            import paddle

            paddle.set_default_dtype(dtype)
            norm = module.BatchNorm1D(5)
        else:
            norm = module.BatchNorm1D(5, dtype=dtype)
        apply(f"norm/{dtype}", norm, (3 + rng.normal(size=(6, 5))).astype(dtype), training=True)
        running = [norm._mean, norm._variance] if framework == "paddle" else [norm.moving_mean, norm.moving_variance]
        results[f"running/{dtype}"] = np.stack([statistic.numpy() for statistic in running])
        if framework == "tensorflow":
            import tensorflow as tf

            tf.keras.Sequential([tf.keras.Input((5,), dtype=dtype), norm]).save(folder / "norm.keras")
            again = tf.keras.models.load_model(folder / "norm.keras")
            results[f"loaded/{dtype}"] = again(results[f"norm/{dtype}/x"], training=False).numpy()

    key = np.array([0x9E3779B9, 0xFFFFFFFF], np.uint32)
    for shape in ((2, 3, 4, 5), (7, 11)):
        if framework == "tensorflow":
            import tensorflow as tf

            where = [shape[axis] for axis in (0, 2, 3, 1)] if len(shape) == 4 else shape
            mask = module.dropout_mask(key, tf.constant(where), 0.3).numpy()
            results[f"mask/{len(shape)}"] = mask.transpose(0, 3, 1, 2) if len(shape) == 4 else mask
        else:
            from unittest import mock

            results[f"mask/{len(shape)}"] = module.dropout_mask(key, shape, 0.3).numpy()
            with mock.patch.object(module.paddle, "get_device", return_value="gpu:0"):
                results[f"mask/{len(shape)}/gpu"] = module.dropout_mask(key, shape, 0.3).numpy()
    write(folder / framework, results)
    return {}


if __name__ == "__main__":
    framework, folder = sys.argv[1], Path(sys.argv[2])
    engine = load_engine(framework)
    for line in sys.stdin:
        try:
            case = json.loads(line)
            answer = run(engine, framework, folder, case) if case else layers(framework, folder)
        except Exception:
            answer = {"failed": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
