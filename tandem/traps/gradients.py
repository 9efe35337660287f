"""Traps: gradients."""

from unittest.mock import patch

from tandem.traps.symbols import Code
from tandem.traps.trap import KERAS, PADDLE, PADDLE_LAYERS, TENSORFLOW, TENSORFLOW_LAYERS, enter

THEME = "Gradients"

FLATTEN_CODE = {
    "paddle": Code(PADDLE_LAYERS, "Flatten.forward", "return"),
    "tensorflow": Code(TENSORFLOW_LAYERS, "Flatten.call", "return"),
}


@enter(
    THEME,
    "paddle",
    "plain",
    ("output gradients", None),
    paddle=(
        "`detach()`, `paddle.no_grad()` and a way through NumPy (`paddle.to_tensor(x.numpy())`) cut the gradient. So "
        "does a tensor made by `paddle.to_tensor`, whose `stop_gradient` is true unless it says otherwise. The layers "
        "before the cut get no gradient, and Paddle's optimizer leaves them as they are, without an error."
    ),
    tensorflow=(
        "`tf.stop_gradient` cuts it, as does an operation on integers. The tape then returns None. `keras.optimizers` "
        "warn of it; they raise an error only if no variable has a gradient."
    ),
    tandem="Nothing is cut. A certificate compares the gradient by each layer's output, so the cut has a place.",
    sources=(
        PADDLE + "python/paddle/tensor/creation.py",
        PADDLE + "python/paddle/optimizer/optimizer.py",
        KERAS + "keras/src/optimizers/base_optimizer.py",
    ),
    code=FLATTEN_CODE,
)
def gradient_stopped():
    """A stopped gradient."""
    from tandem.frameworks.paddle import layers

    original = layers.Flatten.forward
    return patch.object(layers.Flatten, "forward", lambda self, x: original(self, x.detach()))


@enter(
    THEME,
    "tensorflow",
    "averages",
    ("output gradients", None),
    paddle="`x.detach()` on one of several paths cuts that path only.",
    tensorflow=(
        "`tf.stop_gradient(x)` does the same. All layers still get a gradient, and the network trains, but on wrong "
        "numbers."
    ),
    tandem="Neither path of a block is cut. The probe's mistake cuts the way from the shortcut to its input.",
    sources=(
        PADDLE + "paddle/fluid/pybind/eager_method.cc",
        TENSORFLOW + "tensorflow/python/ops/array_ops.py",
    ),
    code={
        "paddle": Code(PADDLE_LAYERS, "Residual.forward", "shortcut = x"),
        "tensorflow": Code(TENSORFLOW_LAYERS, "Residual.call", "shortcut = x"),
    },
)
def gradient_stopped_on_one_path():
    """A gradient stopped on one of two paths."""
    from tandem.frameworks.tensorflow import layers

    import tensorflow as tf

    def call(self, x, training=False):
        shortcut = self.shortcut(tf.stop_gradient(x), training=training)
        return tf.nn.relu(self.body(x, training=training) + shortcut)

    return patch.object(layers.Residual, "call", call)


@enter(
    THEME,
    "paddle",
    "plain",
    ("output gradients", "MaxPool2D"),
    varies=True,
    paddle=(
        "On a CPU, the gradients of `paddle.max`, `amax`, `min` and `amin` over two or more axes of a tensor with five "
        "or six dimensions are uninitialised memory; values up to 1e286 were seen. The cases for these are commented "
        "out in the kernel 'for accelerating compiling'. The output is right, and there is no error. Up to four "
        "dimensions, over one axis, and over all axes, the gradient is right."
    ),
    tensorflow="`tf.reduce_max` is right for any axes.",
    tandem=(
        "Both sides use their framework's pool; the global max pool is over two of four dimensions. The probe's "
        "mistake writes a 2x2 max pool as a maximum over axes 3 and 5 of [N, C, H/2, 2, W/2, 2]."
    ),
    sources=(PADDLE + "paddle/phi/kernels/funcs/reduce_functor.h", TENSORFLOW + "tensorflow/python/ops/math_grad.py"),
    code={
        "paddle": Code(PADDLE_LAYERS, "GlobalMaxPool.forward", "return"),
        "tensorflow": Code(TENSORFLOW_LAYERS, "GlobalMaxPool.call", "return"),
    },
)
def max_of_axes():
    """The gradient of Paddle's maximum over several axes."""
    from tandem.frameworks.paddle import layers

    def forward(self, x):
        number, channels, height, width = x.shape
        return x.reshape([number, channels, height // 2, 2, width // 2, 2]).max(axis=[3, 5])

    return patch.object(layers.MaxPool2D, "forward", forward)
