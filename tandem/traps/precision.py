"""Traps: precision and devices."""

from unittest.mock import patch

from tandem.traps.trap import (
    KERAS,
    PADDLE,
    PADDLE_ENGINE,
    PADDLE_LAYERS,
    TENSORFLOW,
    TENSORFLOW_ENGINE,
    TENSORFLOW_LAYERS,
    describe,
    enter,
    paddle_modules,
    tensorflow_modules,
)

THEME = "Precision and devices"


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Conv2D"),
    paddle=(
        "A convolution whose input and weight have different types raises an error. Sums and products of tensors are "
        "computed in the wider type, with a warning."
    ),
    tensorflow=(
        "A Keras layer casts its inputs to its own type, without a word: a layer that was made with `dtype='float32'`, "
        "or before `set_dtype_policy('float64')`, computes in float32 amid a float64 network."
    ),
    here="The policy is set before the network is built.",
    sources=(KERAS + "keras/src/layers/layer.py",),
    code={
        "paddle": (PADDLE_ENGINE, 'paddle.set_default_dtype("float64"'),
        "tensorflow": (TENSORFLOW_ENGINE, "tf.keras.config.set_dtype_policy("),
    },
)
def layer_float32():
    """A layer left in float32."""
    tf, layers, _ = tensorflow_modules()
    original = layers.grouped_conv2d

    def conv2d(x, kernel, *arguments):
        return tf.cast(original(tf.cast(x, tf.float32), tf.cast(kernel, tf.float32), *arguments), x.dtype)

    return patch.object(layers, "grouped_conv2d", conv2d)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Conv2D"),
    paddle="`x * 0.1` and `x / 0.7` with Python numbers are exact in float64; the exponent of `x ** 0.7` is a float32.",
    tensorflow=(
        "`keras.layers.Rescaling(1e-4)` multiplies by a float32 in float64, too: its constant goes through float32 on "
        "its way. So images that are normalised by a layer of the network are off by up to 6e-8."
    ),
    here="Mean and deviation are tensors of the run's type, and divide on the device.",
    sources=(KERAS + "keras/src/layers/preprocessing/rescaling.py",),
    code={
        "paddle": (PADDLE_ENGINE, "self.deviation = paddle.to_tensor(deviation, dtype=self.dtype)"),
        "tensorflow": (TENSORFLOW_ENGINE, "self.deviation = tf.constant(deviation, self.dtype)"),
    },
)
def normalisation_float32():
    """Constants of the normalisation kept as float32."""
    tf, _, engine = tensorflow_modules()
    original = engine.Engine.__init__

    def init(self, *arguments, **options):
        original(self, *arguments, **options)
        self.deviation = tf.cast(tf.cast(self.deviation, tf.float32), self.dtype)

    return patch.object(engine.Engine, "__init__", init)


@enter(
    THEME,
    "paddle",
    None,
    None,
    not_probed=(
        "Certificates are made in float64 and float32. A run in 16 bits on a CPU is refused. A test removes the "
        "refusal, and finds Paddle's step in bfloat16 equal to its step in float32, bit for bit."
    ),
    paddle=(
        "`paddle.amp.auto_cast` on a CPU only warns, and computes in float32. A benchmark of 'bfloat16' there measures "
        "float32."
    ),
    tensorflow="`mixed_bfloat16` computes in bfloat16 on a CPU, too.",
    here="Paddle's engine refuses 16 bits on a CPU, and on a GPU that is too old, in one line.",
    sources=(PADDLE + "python/paddle/amp/auto_cast.py",),
    code={
        "paddle": (PADDLE_ENGINE, "if capability < CAPABILITY.get(config.precision, (0, 0)):"),
        "tensorflow": (TENSORFLOW_ENGINE, '"bfloat16": "mixed_bfloat16"'),
    },
)
def bfloat16_pretended():
    """bfloat16 and float16 on a CPU."""
    _, _, engine = paddle_modules()
    return patch.dict(engine.CAPABILITY, bfloat16=(0, 0), float16=(0, 0))


describe(
    THEME,
    "tf32",
    "TF32 on GPUs",
    "It takes a GPU with TF32; `python -m tandem certify --device gpu --precision float32` is the command for one.",
    paddle="Convolutions (cuDNN) use TF32 by default, matrix products (cuBLAS) do not.",
    tensorflow="Both use it by default: float32 products keep 10 bits of the mantissa.",
    here="Set on both sides from one setting, `tf32`, which is off; recorded with each run.",
    sources=(TENSORFLOW + "tensorflow/python/framework/config.py",),
    code={
        "paddle": (PADDLE_ENGINE, "paddle.base.core.set_cudnn_switch(config.tf32)"),
        "tensorflow": (TENSORFLOW_ENGINE, "tf.config.experimental.enable_tensor_float_32_execution(config.tf32)"),
    },
)

describe(
    THEME,
    "sync_batch_norm",
    "Batch norm over several replicas",
    "It takes several replicas; the certificate runs one process a framework.",
    paddle=(
        "`nn.BatchNorm2D` normalises by each replica's own part of the batch; `nn.SyncBatchNorm` by the whole, but it "
        "has no CPU kernel."
    ),
    tensorflow="`BatchNormalization` the same, unless it is made with `synchronized=True`.",
    here="One process so far. In trials, local statistics were 0.04 away from a single process'; synchronised, 3e-14.",
    sources=(
        PADDLE + "paddle/phi/kernels/gpu/sync_batch_norm_kernel.cu",
        KERAS + "keras/src/layers/normalization/batch_normalization.py",
    ),
    code={
        "paddle": (PADDLE_LAYERS, "class BatchNorm2D(nn.BatchNorm2D)"),
        "tensorflow": (TENSORFLOW_LAYERS, "mean, variance = tf.nn.moments(x, [0, 1, 2])"),
    },
)
