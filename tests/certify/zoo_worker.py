"""One framework's part of test_zoo.py, in a process of its own: python zoo_worker.py FRAMEWORK FOLDER.

Goes forward once in training mode, in float64, through each adapted network. As a layer begins, its tensors get values
by their place in the order. Writes to FOLDER/FRAMEWORK-NETWORK.npz the logits, and the statistics of batch norm after
it; prints as JSON the shapes of all tensors in order, as Paddle has them.
"""

import functools
import importlib
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))


CLASSES, BATCH, SIZE = 7, 4, 34


def drawn(index, shape):
    """The tensor at place `index`, float32: activations neither vanish nor grow."""
    values = np.random.default_rng(index).random(shape, np.float32)
    if len(shape) == 1:
        return values + 0.5
    fan_in = np.prod(shape[1:]) if len(shape) == 4 else shape[0]
    values -= 0.5
    values *= np.sqrt(24 / fan_in)
    return values


def images(size):
    return np.random.default_rng(0).standard_normal((BATCH, 3, size, size))


def run_paddle(build, size):
    """The shapes of all tensors, the logits, and the statistics."""
    import paddle

    paddle.set_default_dtype("float64")
    model = build(CLASSES)
    tensors = []

    def fill(layer, inputs):
        for name in ("weight", "bias", "_mean", "_variance"):
            tensor = getattr(layer, name, None)
            if tensor is not None:
                tensor.set_value(drawn(len(tensors), tensor.shape).astype(np.float64))
                tensors.append(tensor)

    for layer in model.sublayers():
        layer.register_forward_pre_hook(fill)
    model.train()
    with paddle.no_grad():
        logits = model(paddle.to_tensor(images(size))).numpy()
    return [tensor.shape for tensor in tensors], logits, [tensor.numpy() for tensor in tensors if tensor.stop_gradient]


def run_tensorflow(build, size):
    """The shapes of all tensors, the logits, and the statistics."""
    import keras

    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    model = build(CLASSES, size)
    shapes, variables = [], []

    def fill(layer, call, *inputs, **options):
        axes = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (2, 3, 1, 0)
        for variable in layer.variables:
            shape = list(variable.shape)
            if len(shape) == 4:
                shape = [shape[axis] for axis in np.argsort(axes)]
            value = drawn(len(shapes), shape)
            variable.assign(value.transpose(axes) if len(shape) == 4 else value)
            shapes.append(shape)
            variables.append(variable)
        return call(*inputs, **options)

    for layer in model._flatten_layers():
        if not list(layer._flatten_layers(include_self=False)):
            layer.call = functools.partial(fill, layer, layer.call)
    logits = model(images(size).transpose(0, 2, 3, 1), training=True).numpy()
    return shapes, logits, [variable.numpy() for variable in variables if not variable.trainable]


def main(framework, folder):
    run = {"paddle": run_paddle, "tensorflow": run_tensorflow}[framework]
    shapes = {}
    for network in ("mobilenet", "mobilenet_v2", "mobilenet_v3_small"):
        module = importlib.import_module(f"tandem.certify.zoo.{network}_adapted")
        build = getattr(module, f"{network}_adapted_{framework}")
        shapes[network], logits, statistics = run(build, SIZE)
        np.savez(
            Path(folder, f"{framework}-{network}.npz"), logits=logits, statistics=np.concatenate([*statistics, [0]])
        )
    print(json.dumps(shapes))


if __name__ == "__main__":
    main(*sys.argv[1:])
