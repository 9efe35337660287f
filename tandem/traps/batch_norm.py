"""Traps: batch norm."""

from unittest.mock import patch

from tandem.traps.symbols import Code
from tandem.traps.trap import (
    KERAS,
    PADDLE,
    PADDLE_ENGINE,
    PADDLE_LAYERS,
    TENSORFLOW,
    TENSORFLOW_ENGINE,
    TENSORFLOW_KERNELS,
    TENSORFLOW_LAYERS,
    enter,
)

THEME = "Batch norm"

EPSILON_CODE = {
    "paddle": Code(PADDLE_LAYERS, "BATCH_NORM_EPSILON"),
    "tensorflow": Code(TENSORFLOW_LAYERS, "BATCH_NORM_EPSILON"),
}
MOMENTUM_CODE = {
    "paddle": Code(PADDLE_LAYERS, "BATCH_NORM_MOMENTUM"),
    "tensorflow": Code(TENSORFLOW_LAYERS, "BATCH_NORM_MOMENTUM"),
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
    paddle="`nn.BatchNorm2D` adds 1e-5 to the variance by default.",
    tensorflow=(
        "`keras.layers.BatchNormalization` adds 1e-3 by default. At a variance of 1, the outputs differ by 5e-4 of "
        "their size; at a variance of 1e-3, by 29 %."
    ),
    tandem="1e-5, written out on both sides.",
    sources=BATCH_NORM_SOURCES,
    code=EPSILON_CODE,
    setting="epsilon",
)
def bn_epsilon():
    """Batch norm's epsilon at Keras' default."""
    from tandem.frameworks.tensorflow import layers

    return patch.object(layers, "BATCH_NORM_EPSILON", 1e-3)


@enter(
    THEME,
    "tensorflow",
    "extremes",
    ("layer outputs", "BatchNorm2D"),
    paddle=(
        "The kernel takes epsilon as a C++ `float`, even in float64: 1e-5 becomes 9.99999974737875e-06. Where the "
        "variance is far below epsilon, the outputs are off by 1.3e-8."
    ),
    tensorflow="A Python number stays a double in a float64 computation.",
    tandem="TensorFlow's side rounds epsilon to float32 once. The probe's batch norm sees inputs of about 1e-4.",
    sources=(BATCH_NORM_KERNEL,),
    code=EPSILON_CODE,
)
def bn_epsilon_double():
    """Batch norm's epsilon kept as a double."""
    from tandem.frameworks.tensorflow import layers

    return patch.object(layers, "BATCH_NORM_EPSILON", 1e-5)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("statistics", "BatchNorm2D"),
    paddle="`momentum=0.9` by default: `running = 0.9*running + 0.1*batch`.",
    tensorflow=(
        "`momentum=0.99` by default, with the same meaning. Training is the same, but the running statistics lag ten "
        "times as long. Evaluated after a short run, the network seems to have learned nothing."
    ),
    tandem="0.9, written out on both sides.",
    sources=BATCH_NORM_SOURCES,
    code=MOMENTUM_CODE,
    setting="momentum",
)
def bn_momentum():
    """Batch norm's momentum at Keras' default."""
    from tandem.frameworks.tensorflow import layers

    return patch.object(layers, "BATCH_NORM_MOMENTUM", 0.99)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("statistics", "BatchNorm2D"),
    paddle="The momentum is the weight of the old statistic: 0.9.",
    tensorflow=(
        "Keras agrees. In PyTorch the momentum is the weight of the new one, 0.1 by default. A port that copies "
        "PyTorch's number replaces 90 % of the running statistics at every step."
    ),
    tandem="0.9 is the weight of the old statistic on both sides.",
    sources=BATCH_NORM_SOURCES,
    code=MOMENTUM_CODE,
)
def bn_momentum_reversed():
    """Batch norm's momentum mistaken for one minus the momentum."""
    from tandem.frameworks.tensorflow import layers

    return patch.object(layers, "BATCH_NORM_MOMENTUM", 0.1)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("statistics", "BatchNorm2D"),
    paddle="The kernel takes the momentum as a C++ `float`, even in float64: 0.9 becomes 0.8999999761581421.",
    tensorflow="A Python number stays a double in a float64 computation.",
    tandem="TensorFlow's side rounds the momentum to float32 once.",
    sources=(BATCH_NORM_KERNEL,),
    code=MOMENTUM_CODE,
)
def bn_momentum_double():
    """Batch norm's momentum kept as a double."""
    from tandem.frameworks.tensorflow import layers

    return patch.object(layers, "BATCH_NORM_MOMENTUM", 0.9)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("statistics", "BatchNorm2D"),
    paddle="The running variance averages sum / n, the biased variance, which also normalises the batch.",
    tensorflow=(
        "Keras 3 averages the biased variance, too. `tf.compat.v1.nn.fused_batch_norm`, which is faster in float32, "
        "normalises with sum / n but returns sum / (n - 1) for the running average. So does PyTorch. The unbiased "
        "variance is 0.8 % larger at a batch of 128 with one pixel, and 0.01 % larger with 8x8 pixels."
    ),
    tandem="The biased variance: TensorFlow's twin multiplies the fused kernel's by (n - 1) / n.",
    sources=(
        TENSORFLOW + "tensorflow/core/kernels/fused_batch_norm_op.cc",
        PADDLE + "paddle/phi/kernels/cpu/batch_norm_kernel.cc",
        KERAS + "keras/src/layers/normalization/batch_normalization.py",
    ),
    code={
        "paddle": Code(PADDLE_LAYERS, "BatchNorm2D"),
        "tensorflow": Code(TENSORFLOW_KERNELS, "batch_norm", "(count - 1) / count"),
    },
)
def bn_unbiased_variance():
    """The running variance with Bessel's correction."""
    from tandem.frameworks.tensorflow import layers

    import tensorflow as tf

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
    paddle="A new layer is in training mode until `eval()`.",
    tensorflow=(
        "Outside `fit`, a Keras model runs in inference mode unless it is called with `training=True`. A custom "
        "training loop that forgets this normalises with the running statistics, never updates them, and applies no "
        "dropout. There is no error."
    ),
    tandem="The training step calls the model with `training=True`.",
    sources=(KERAS + "keras/src/layers/layer.py", PADDLE + "python/paddle/nn/layer/layers.py"),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine._backward", "self.model.train()"),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._backward", "training=True"),
    },
)
def training_forgotten():
    """A Keras model called without training=True."""
    from tandem.frameworks.tensorflow import engine

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
        "A trained model stays in training mode until `eval()`. Without it, batch norm normalises test images with the "
        "statistics of their batch and adds them to the running ones, and dropout stays on."
    ),
    tensorflow="A Keras model that is called without `training=True` is in inference mode, which is right here.",
    tandem="`eval()` comes before every evaluation. The certificate compares evaluation after the last step.",
    sources=(PADDLE + "python/paddle/nn/layer/layers.py", KERAS + "keras/src/layers/layer.py"),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine.trace_evaluation", "self.model.eval()"),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine.trace_evaluation", "training=False"),
    },
)
def eval_forgotten():
    """A Paddle model evaluated without eval()."""
    from tandem.frameworks.paddle import layers

    return patch.object(layers.nn.Layer, "eval", lambda self: None)


@enter(
    THEME,
    "tensorflow",
    "activations",
    ("layer outputs", "BatchNorm2D"),
    paddle=(
        "Freezing a batch norm (`stop_gradient = True` of its parameters) keeps its weight and bias as they are. In "
        "training mode it still normalises with the statistics of the batch, and still updates the running ones. Only "
        "`eval()` or `use_global_stats=True` changes that."
    ),
    tensorflow=(
        "`keras.layers.BatchNormalization` with `trainable = False` runs in inference mode, even when called with "
        "`training=True`: it normalises with its statistics and leaves them alone. Other Keras layers do not change "
        "their mode when they are frozen. Before TensorFlow 2, this one did not either."
    ),
    tandem=(
        "`trainable` decides what the optimizer changes; the mode decides the rest. The probe's batch norm is frozen "
        "on both sides, and Keras' own takes its place."
    ),
    sources=(*BATCH_NORM_SOURCES, "https://github.com/keras-team/keras/pull/9965"),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine.__init__", "parameter.trainable"),
        "tensorflow": Code(TENSORFLOW_LAYERS, "BatchNorm2D.call", "kernels.batch_norm("),
    },
    setting="trainable",
)
def bn_frozen():
    """A frozen batch norm, which in Keras uses its own statistics."""
    from tandem.frameworks.tensorflow import layers

    import tensorflow as tf

    original = layers.BatchNorm2D

    def batch_norm(channels, **options):
        if options.get("trainable", True):
            return original(channels, **options)
        constants = {"momentum": layers.BATCH_NORM_MOMENTUM, "epsilon": layers.BATCH_NORM_EPSILON}
        return tf.keras.layers.BatchNormalization(**constants, **options)

    return patch.object(layers, "BatchNorm2D", batch_norm)


@enter(
    THEME,
    "paddle",
    "activations",
    ("gradients", "BatchNorm2D"),
    paddle=(
        "On a CPU the gradient's kernel computes the gradients of weight and bias if both are wanted. Where one is "
        "frozen (`stop_gradient = True`, `trainable=False`) or left out (`weight_attr=False`, `bias_attr=False`, None "
        "in `F.batch_norm`), the other gets none, in training and in evaluation mode. The optimizer leaves it as it "
        "is, and there is no error. (On a GPU it was made an error in 2022; nothing was run there.) "
        "`nn.InstanceNorm2D` is the same; `nn.LayerNorm` and `nn.GroupNorm` are right. "
        "`ParamAttr(learning_rate=0.0)` freezes one and leaves the other its gradient."
    ),
    tensorflow=(
        "`scale=False` and `center=False` leave one out; `gamma.trainable = False` freezes it. The other is trained."
    ),
    tandem=(
        "Either is trained by itself: Paddle's kernel gets a copy of the frozen one, which takes the gradient that "
        "nobody reads. Paddle's own layers in your network are left as they are: the certificate shows what they miss, "
        "and training warns of it."
    ),
    sources=(
        PADDLE + "paddle/phi/kernels/cpu/batch_norm_grad_kernel.cc",
        PADDLE + "paddle/phi/kernels/cpu/instance_norm_grad_kernel.cc",
        "https://github.com/PaddlePaddle/Paddle/issues/32331",
        "https://github.com/PaddlePaddle/Paddle/pull/47634",
    ),
    code={
        "paddle": Code(PADDLE_LAYERS, "_BatchNorm.forward", "one_frozen ="),
        "tensorflow": Code(TENSORFLOW_LAYERS, "BatchNorm2D.call", "kernels.batch_norm("),
    },
)
def bn_one_frozen():
    """A batch norm of which one of weight and bias is frozen, and in Paddle both are."""
    from tandem.frameworks.paddle import layers

    return patch.object(layers.BatchNorm2D, "apart", False)
