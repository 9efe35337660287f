"""Traps: batch norm."""

from unittest.mock import patch

from tandem.traps.trap import (
    KERAS,
    PADDLE,
    PADDLE_ENGINE,
    PADDLE_LAYERS,
    TENSORFLOW,
    TENSORFLOW_ENGINE,
    TENSORFLOW_LAYERS,
    enter,
    paddle_modules,
    tensorflow_modules,
)

THEME = "Batch norm"

EPSILON_CODE = {
    "paddle": (PADDLE_LAYERS, "BATCH_NORM_EPSILON = 1e-5"),
    "tensorflow": (TENSORFLOW_LAYERS, "BATCH_NORM_EPSILON = float(np.float32(1e-5))"),
}
MOMENTUM_CODE = {
    "paddle": (PADDLE_LAYERS, "BATCH_NORM_MOMENTUM = 0.9"),
    "tensorflow": (TENSORFLOW_LAYERS, "BATCH_NORM_MOMENTUM = float(np.float32(0.9))"),
}
BATCH_NORM_SOURCES = (
    PADDLE + "python/paddle/nn/layer/norm.py",
    KERAS + "keras/src/layers/normalization/batch_normalization.py",
)
BATCH_NORM_KERNEL = PADDLE + "paddle/phi/kernels/batch_norm_kernel.h"


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "BatchNorm2D"),
    paddle="`nn.BatchNorm2D` adds 1e-5 to the variance unless told otherwise.",
    tensorflow=(
        "`keras.layers.BatchNormalization` adds 1e-3. With a variance of 1 the outputs differ by 5e-4 of their size; "
        "with a variance of 1e-3, by 29 %."
    ),
    here="1e-5, written out on both sides.",
    sources=BATCH_NORM_SOURCES,
    code=EPSILON_CODE,
)
def bn_epsilon():
    """Batch norm's epsilon left at Keras' default."""
    _, layers, _ = tensorflow_modules()
    return patch.object(layers, "BATCH_NORM_EPSILON", 1e-3)


@enter(
    THEME,
    "tensorflow",
    "extremes",
    ("layer outputs", "BatchNorm2D"),
    paddle=(
        "The kernel takes epsilon as a C++ `float`, in float64 too: 1e-5 is 9.99999974737875e-06. Where the variance "
        "is far below epsilon, the outputs are off by 1.3e-8."
    ),
    tensorflow="A Python number stays a double in a float64 computation.",
    here="Rounded to float32 once, on TensorFlow's side. The probe feeds its batch norm inputs of about 1e-4.",
    sources=(BATCH_NORM_KERNEL,),
    code=EPSILON_CODE,
)
def bn_epsilon_double():
    """Batch norm's epsilon kept as a double."""
    _, layers, _ = tensorflow_modules()
    return patch.object(layers, "BATCH_NORM_EPSILON", 1e-5)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("statistics", "BatchNorm2D"),
    paddle="`momentum=0.9` by default: running = 0.9 * running + 0.1 * batch.",
    tensorflow=(
        "`momentum=0.99` by default, with the same meaning. Nothing differs in training, but the statistics that "
        "evaluation uses lag ten times as long: a short run looks as if it had learnt nothing."
    ),
    here="0.9, written out on both sides.",
    sources=BATCH_NORM_SOURCES,
    code=MOMENTUM_CODE,
)
def bn_momentum():
    """Batch norm's momentum left at Keras' default."""
    _, layers, _ = tensorflow_modules()
    return patch.object(layers, "BATCH_NORM_MOMENTUM", 0.99)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("statistics", "BatchNorm2D"),
    paddle="The momentum is the part of the old statistic that is kept: 0.9.",
    tensorflow=(
        "In Keras, too. In PyTorch it is the part of the new one, 0.1 by default: who ports a network from there, "
        "number by number, replaces nine tenths of the statistics at every step."
    ),
    here="0.9 is what is kept, on both sides.",
    sources=BATCH_NORM_SOURCES,
    code=MOMENTUM_CODE,
)
def bn_momentum_reversed():
    """Batch norm's momentum taken for one minus itself."""
    _, layers, _ = tensorflow_modules()
    return patch.object(layers, "BATCH_NORM_MOMENTUM", 0.1)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("statistics", "BatchNorm2D"),
    paddle="The kernel takes the momentum as a C++ `float`, in float64 too: 0.9 is 0.8999999761581421.",
    tensorflow="A Python number stays a double in a float64 computation.",
    here="Rounded to float32 once, on TensorFlow's side.",
    sources=(BATCH_NORM_KERNEL,),
    code=MOMENTUM_CODE,
)
def bn_momentum_double():
    """Batch norm's momentum kept as a double."""
    _, layers, _ = tensorflow_modules()
    return patch.object(layers, "BATCH_NORM_MOMENTUM", 0.9)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("statistics", "BatchNorm2D"),
    paddle="The running variance averages sum / n, the biased variance that also normalises.",
    tensorflow=(
        "Keras 3 averages the biased one, too. `tf.compat.v1.nn.fused_batch_norm`, which is faster in float32, "
        "gives back sum / (n - 1) for the running average and still normalises by sum / n. PyTorch does the same. With "
        "a batch of 128 and one pixel it is 0.8 % more; with 8x8 pixels, 0.01 %."
    ),
    here="Biased: what the fused kernel gives is multiplied by (n - 1) / n.",
    sources=(
        TENSORFLOW + "tensorflow/core/kernels/fused_batch_norm_op.cc",
        PADDLE + "paddle/phi/kernels/cpu/batch_norm_kernel.cc",
        KERAS + "keras/src/layers/normalization/batch_normalization.py",
    ),
    code={
        "paddle": (PADDLE_LAYERS, "class BatchNorm2D(nn.BatchNorm2D)"),
        "tensorflow": (TENSORFLOW_LAYERS, "variance *= (count - 1) / count"),
    },
)
def bn_unbiased_variance():
    """The running variance with Bessel's correction."""
    tf, layers, _ = tensorflow_modules()
    original = layers.BatchNorm2D.call

    def call(self, x, training=False):
        y = original(self, x, training)
        if training:
            _, variance = tf.nn.moments(x, [0, 1, 2])
            others = tf.cast(tf.size(x) // self.channels - 1, x.dtype)
            self.moving_variance.assign_add((1 - layers.BATCH_NORM_MOMENTUM) * variance / others)
        return y

    return patch.object(layers.BatchNorm2D, "call", call)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "BatchNorm2D"),
    paddle="A new layer is in training mode, and stays there until `eval()`.",
    tensorflow=(
        "A Keras model that is called outside `fit` is in inference mode unless it gets `training=True`. A training "
        "loop written by hand that forgets it normalises by the running statistics, never updates them, and drops "
        "nothing out. No error says so."
    ),
    here="`training=True` is passed down to every layer.",
    sources=(KERAS + "keras/src/layers/layer.py", PADDLE + "python/paddle/nn/layer/layers.py"),
    code={
        "paddle": (PADDLE_ENGINE, "self.model.train()"),
        "tensorflow": (TENSORFLOW_ENGINE, "logits, losses, metrics = self._losses(images, labels, training=True)"),
    },
)
def training_forgotten():
    """A Keras model called without training=True."""
    _, _, engine = tensorflow_modules()
    original = engine.Engine._losses

    def losses(self, images, labels, training):
        return original(self, images, labels, training=False)

    return patch.object(engine.Engine, "_losses", losses)


@enter(
    THEME,
    "paddle",
    "plain",
    ("evaluation: layer outputs", "BatchNorm2D"),
    paddle=(
        "A model that was trained is still in training mode when it is called on test images, unless `eval()` came "
        "first: batch norm goes by the test batch and lets it into its statistics, and dropout goes on dropping."
    ),
    tensorflow="A Keras model that is called is in inference mode, as is right here.",
    here="`eval()` comes before every evaluation. The certificate compares evaluation after the last step.",
    sources=(PADDLE + "python/paddle/nn/layer/layers.py", KERAS + "keras/src/layers/layer.py"),
    code={
        "paddle": (PADDLE_ENGINE, "self.model.eval()  # it stays in training mode otherwise"),
        "tensorflow": (
            TENSORFLOW_ENGINE,
            "logits, losses, _ = self._losses(batch.images, batch.labels, training=False)",
        ),
    },
)
def eval_forgotten():
    """A Paddle model evaluated without eval()."""
    paddle, _, _ = paddle_modules()
    return patch.object(paddle.nn.Layer, "eval", lambda self: None)
