"""Traps: convolution and padding."""

from unittest.mock import patch

from tandem.traps.symbols import Code
from tandem.traps.trap import (
    BOOK,
    KERAS,
    PADDLE,
    PADDLE_KERNELS,
    PADDLE_LAYERS,
    TENSORFLOW,
    TENSORFLOW_KERNELS,
    TENSORFLOW_LAYERS,
    enter,
)

THEME = "Convolution and padding"


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Conv2D"),
    paddle="`padding=1` adds one row and one column of zeros on every side, at any stride.",
    tensorflow=(
        "`padding='SAME'` adds only what the output size needs. For a 3x3 kernel at stride 2 and an even image, it "
        "adds nothing before the first pixel and one after the last, so every window is shifted by one pixel. At "
        "stride 1, and for an odd image, the two agree. This is why a port often passes its first layers."
    ),
    tandem=(
        "TensorFlow's twin pads explicitly, then convolves with `VALID`. Its fast kernel takes `SAME` at stride 1, "
        "where the two are equal."
    ),
    sources=(
        TENSORFLOW + "tensorflow/python/ops/nn_ops.py",
        TENSORFLOW + "tensorflow/core/framework/common_shape_fns.cc",
        PADDLE + "python/paddle/nn/functional/conv.py",
    ),
    code={
        "paddle": Code(PADDLE_KERNELS, "plain_conv2d", "F.conv2d("),
        "tensorflow": Code(TENSORFLOW_KERNELS, "_pad", "tf.pad("),
    },
)
def same_padding():
    """SAME padding at stride 2."""
    from tandem.frameworks.tensorflow import kernels

    import tensorflow as tf

    def conv2d(x, kernel, stride, padding, groups):
        return tf.nn.conv2d(x, kernel, strides=stride, padding="SAME" if padding else "VALID")

    return patch.object(kernels, "conv2d", conv2d)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("initial state", "Conv2D"),
    paddle=(
        "`nn.Conv2D` has a bias unless `bias_attr=False`. Published networks leave it out before a batch norm, which "
        "subtracts the mean anyway. PaddlePaddle's CIFAR-10 tutorial, since mid-2018, leaves it out in one convolution "
        "of a residual block and not in the other."
    ),
    tensorflow=(
        "`keras.layers.Conv2D` has a bias unless `use_bias=False`; `tf.nn.conv2d` never has one. If one side has an "
        "extra bias before a batch norm, the outputs still agree: the bias starts at zero, and its gradient is zero. "
        "But the parameters no longer pair off, and without a batch norm the networks drift apart."
    ),
    tandem="Both sides write `bias` out. A parameter that only one side has is an error before the first step.",
    sources=(
        KERAS + "keras/src/layers/convolutional/conv2d.py",
        PADDLE + "python/paddle/nn/layer/conv.py",
        BOOK + "6c30c1edbce4a9df70ecf4179ecaff8219dacffb/03.image_classification/resnet.py",
    ),
    code={
        "paddle": Code(PADDLE_LAYERS, "Conv2D.__init__", "bias_attr = "),
        "tensorflow": Code(TENSORFLOW_LAYERS, "Conv2D.build", "self.bias = "),
    },
)
def conv_bias():
    """A convolution bias on one side only."""
    from tandem.frameworks.tensorflow import layers

    original = layers.Conv2D.__init__

    def init(self, *arguments, **options):
        original(self, *arguments, **options)
        self.use_bias = True

    return patch.object(layers.Conv2D, "__init__", init)
