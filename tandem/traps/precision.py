"""Traps: precision and devices."""

from unittest.mock import patch

from tandem.traps.symbols import Code
from tandem.traps.trap import (
    KERAS,
    PADDLE,
    PADDLE_ENGINE,
    TENSORFLOW,
    TENSORFLOW_ENGINE,
    describe,
    enter,
)

THEME = "Precision and devices"


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Conv2D"),
    paddle=(
        "A convolution whose input and weight have different types raises an error. A sum or product of two tensors "
        "takes the wider type, with a warning."
    ),
    tensorflow=(
        "A Keras layer casts its inputs to its own type without a warning. A layer made with `dtype='float32'`, or "
        "before `set_dtype_policy('float64')`, computes in float32 in the middle of a float64 network."
    ),
    tandem="The policy is set before the network is built.",
    sources=(KERAS + "keras/src/layers/layer.py",),
    code={
        "paddle": Code(PADDLE_ENGINE, "configure", "paddle.set_default_dtype("),
        "tensorflow": Code(TENSORFLOW_ENGINE, "configure", "set_dtype_policy("),
    },
)
def layer_float32():
    """A layer left in float32."""
    from tandem.frameworks.tensorflow import kernels

    import tensorflow as tf

    original = kernels.conv2d

    def conv2d(x, kernel, *arguments):
        return tf.cast(original(tf.cast(x, tf.float32), tf.cast(kernel, tf.float32), *arguments), x.dtype)

    return patch.object(kernels, "conv2d", conv2d)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("images", ""),
    paddle=(
        "`x * 0.1` and `x / 0.7` with Python numbers are exact in float64. The exponent of `x ** 0.7` becomes a "
        "float32."
    ),
    tensorflow=(
        "`keras.layers.Rescaling(1e-4)` rounds its constant to float32, even in float64. Images that a layer of the "
        "network normalises are off by up to 6e-8."
    ),
    tandem="Mean and std are tensors of the run's type. The division is done on the device.",
    sources=(KERAS + "keras/src/layers/preprocessing/rescaling.py",),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine.__init__", "self.std = "),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine.__init__", "self.std = "),
    },
)
def normalisation_float32():
    """Normalisation constants kept as float32."""
    from tandem.frameworks.tensorflow import engine

    import tensorflow as tf

    original = engine.Engine.__init__

    def init(self, *arguments, **options):
        original(self, *arguments, **options)
        self.std = tf.cast(tf.cast(self.std, tf.float32), self.dtype)

    return patch.object(engine.Engine, "__init__", init)


@enter(
    THEME,
    "paddle",
    None,
    None,
    not_probed=(
        "Certificates are made in float64 and float32, and Tandem refuses 16 bits on a CPU for Paddle. A test removes "
        "that check and finds Paddle's bfloat16 step equal to its float32 step, bit for bit."
    ),
    paddle=(
        "On a CPU, `paddle.amp.auto_cast` only warns, and computes in float32. A 'bfloat16' benchmark there measures "
        "float32."
    ),
    tensorflow="`mixed_bfloat16` computes in bfloat16 on a CPU, too.",
    tandem="Paddle's engine refuses 16 bits on a CPU, and on a GPU that does not support them.",
    sources=(PADDLE + "python/paddle/amp/auto_cast.py",),
    code={
        "paddle": Code(PADDLE_ENGINE, "configure", "if capability < "),
        "tensorflow": Code(TENSORFLOW_ENGINE, "configure", "policies = "),
    },
)
def bfloat16_pretended():
    """bfloat16 and float16 on a CPU."""
    from tandem.frameworks.paddle import engine

    return patch.dict(engine.CAPABILITY, bfloat16=(0, 0), float16=(0, 0))


describe(
    THEME,
    "tf32",
    "TF32 on GPUs",
    "It takes a GPU with TF32. The command is `python -m tandem certify --device gpu --precision float32`.",
    paddle="By default, convolutions (cuDNN) use TF32 and matrix products (cuBLAS) do not.",
    tensorflow="By default, both use TF32: float32 products keep 10 bits of the mantissa.",
    tandem="One setting, `tf32`, is applied on both sides. It is off by default, and each run records it.",
    sources=(TENSORFLOW + "tensorflow/python/framework/config.py",),
    code={
        "paddle": Code(PADDLE_ENGINE, "configure", "set_cudnn_switch("),
        "tensorflow": Code(TENSORFLOW_ENGINE, "configure", "enable_tensor_float_32_execution("),
    },
)
