"""One framework's part of test_reference.py, in a process of its own: python reference_worker.py FRAMEWORK FOLDER.

For each network of `NETWORKS` writes into FOLDER the shapes of its state as JSON; and as NumPy files what a step from
`state_of(shapes)` computed, the state after it, and what evaluation gives in the state before.
"""

import json
import math
import sys
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tandem.config.load import check_config
from tandem.data.batches import Batch
from tandem.frameworks.base import load_engine

IMAGES, CLASSES, LEARNING_RATE, STEP = 5, 7, 0.05, 3
MEAN, DEVIATION = np.array([120.0, 110, 100]).reshape(3, 1, 1), np.array([60.0, 70, 80]).reshape(3, 1, 1)

SE_RESNEXT = {"num_block": 2, "depth": 3, "cardinality": 2, "out_dims": [8, 16], "reduction_ratio": 2}
FROZEN = {
    "nesterov": True,
    "weight_decay": 0.01,
    "parameter_groups": {"first_convolution": {"learning_rate_factor": 0}},
}
GROUPS = {
    "batch_norm_scale": {"learning_rate_factor": 0},
    "batch_norm_bias": {"learning_rate_factor": 0.3, "weight_decay": 0.02},
    "convolution": {"weight_decay": 0.03},
    "dense": {"learning_rate_factor": 2},
    "bias": {"weight_decay": 0},
}
RESNET = {"name": "resnet_cifar", "widths": [4, 6, 8]}
NETWORKS = {
    "se_resnext": {"network": {"name": "se_resnext"} | SE_RESNEXT, "data": {"image_size": 13}},
    "mixed_net": {
        "network": {"name": "own", "file": str(Path(__file__).parents[1] / "certify" / "mixed_net.py")},
        "data": {"image_size": 25},
        "optimizer": {"nesterov": False, "weight_decay": 0.01},
    },
    "resnet": {"network": RESNET | {"depth": 14}, "data": {"image_size": 9}, "optimizer": FROZEN},
    "resnet_fast": {
        "network": {"name": "resnet_fast", "blocks": 2, "widths": [4, 6, 8]},
        "data": {"image_size": 17},
        "optimizer": {"nesterov": True, "weight_decay": 0.01, "parameter_groups": GROUPS},
    },
    "resnet_bottleneck": {"network": RESNET | {"depth": 11, "bottleneck": True}, "data": {"image_size": 9}},
    "lenet5": {"network": {"name": "lenet5"}},
    "simple_cnn": {"network": {"name": "simple_cnn"}},
    "alexnet": {"network": {"name": "alexnet"}},
    "vgg": {"network": {"name": "vgg", "depth": 11}},
}
"""The part of the config in which each differs."""

FORWARD_ONLY = ("alexnet", "vgg")
"""Networks of ten million parameters and more, of which only outputs and statistics are written."""


def settings(name):
    values = {
        "optimizer": {"nesterov": True, "weight_decay": 0.01},
        "schedule": {"name": "constant"},
        "epochs": 1,
        "label_smoothing": 0.1,
        "precision": "float64",
        "device": "cpu",
        "threads": 1,
    }
    return check_config(values | NETWORKS[name], name)


def batch(size):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (IMAGES, 3, size, size), dtype=np.uint8)
    return Batch(images, rng.integers(0, CLASSES, IMAGES))


def state_of(shapes):
    """Random values for all of `shapes`: no bias, velocity or running mean is 0, no scale or running variance 1."""
    return {name: _values(name, shape) for name, shape in shapes.items()}


def _values(name, shape):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.startswith("velocity/") or name.endswith((".bias", ".running_mean")):
        return rng.uniform(-0.3, 0.3, shape)
    if len(shape) == 1:
        return rng.uniform(0.7, 1.3, shape)
    return rng.uniform(-1, 1, shape) * math.sqrt(6 / (math.prod(shape[1:]) if len(shape) == 4 else shape[0]))


def written(name, arrays):
    """What is written of `arrays`."""
    if name in FORWARD_ONLY:
        parameters = ("gradient/", "velocity/")
        return {key: a for key, a in arrays.items() if not key.startswith(parameters) and "weight" not in key}
    return arrays


if __name__ == "__main__":
    framework, folder = sys.argv[1], Path(sys.argv[2])
    engine = load_engine(framework)
    for name in NETWORKS:
        twin = engine.Engine(settings(name), CLASSES, MEAN, DEVIATION)
        images = batch(settings(name).data.image_size)
        (folder / f"{framework}-{name}.json").write_text(json.dumps(twin.shapes))
        twin.load_state(state_of(twin.shapes), name)
        evaluation = twin.trace_evaluation(images)
        training = twin.trace(images, LEARNING_RATE, STEP)
        for what, arrays in (("evaluation", evaluation), ("training", training), ("after", twin.state())):
            np.savez(folder / f"{framework}-{name}-{what}.npz", **written(name, arrays))
