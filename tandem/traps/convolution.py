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
    describe,
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
    setting="padding",
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


describe(
    THEME,
    "onednn_narrow_1x1",
    "oneDNN writes beyond its memory for narrow 1x1 convolutions with a stride",
    "It ends the process, at once or at a later step, or leaves a wrong gradient; no certificate can count on either.",
    paddle="Its own convolutions are not oneDNN's, unless one asks for them.",
    tensorflow=(
        "oneDNN's float32 gradient of the weight of a 1x1 convolution with a stride writes beyond its memory, where "
        "the input has fewer channels than a register holds numbers: 16 with AVX-512, 8 with AVX2. So stock Keras "
        "layers with `fit` die of SIGABRT or SIGSEGV while training a ResNet of narrow odd widths. With "
        "`TF_ENABLE_ONEDNN_OPTS=0` they do not. Its bfloat16 convolutions with a stride gave garbage on images of 9x1 "
        "and 9x2 pixels."
    ),
    tandem=(
        "With fewer than 16 channels the pixels that the kernel sees are gathered first, and the convolution has no "
        "stride. From 16 channels on that would be slower, and there is no need. Images are square, so none has 9x1. "
        "The same is done in a `keras.layers.Conv2D` of a network of your own. Where yours calls `tf.nn.conv2d` "
        "itself, set `TF_ENABLE_ONEDNN_OPTS=0`."
    ),
    sources=("https://github.com/uxlfoundation/oneDNN/issues/6035",),
    code={
        "paddle": Code(PADDLE_LAYERS, "Conv2D.forward"),
        "tensorflow": Code(TENSORFLOW_KERNELS, "valid_conv2d", "x, stride = "),
    },
)
