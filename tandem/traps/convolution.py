"""Traps: convolution and padding."""

from unittest.mock import patch

from tandem.traps.trap import (
    BOOK,
    KERAS,
    PADDLE,
    PADDLE_LAYERS,
    TENSORFLOW,
    TENSORFLOW_LAYERS,
    enter,
    tensorflow_modules,
)

THEME = "Convolution and padding"

CONVOLUTION_CODE = {
    "paddle": (PADDLE_LAYERS, "return F.conv2d(x, weight, bias=None"),
    "tensorflow": (TENSORFLOW_LAYERS, "x = tf.pad(x, [[0, 0], [padding, padding], [padding, padding], [0, 0]])"),
}


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Conv2D"),
    paddle="`padding=1` puts one row and one column of zeros on every side, whatever the stride.",
    tensorflow=(
        "`padding='SAME'` pads as little as the output size needs. With a 3x3 kernel at stride 2 and an even image "
        "that is nothing before and one pixel after, so every window lies one pixel off. At stride 1 the two agree, "
        "which is why a port often passes its first layers. At an odd image they agree, too."
    ),
    here="Zeros are padded explicitly, then only whole windows count (`VALID`); at stride 1 `SAME` is that.",
    sources=(
        TENSORFLOW + "tensorflow/python/ops/nn_ops.py",
        TENSORFLOW + "tensorflow/core/framework/common_shape_fns.cc",
        PADDLE + "python/paddle/nn/functional/conv.py",
    ),
    code=CONVOLUTION_CODE,
)
def same_padding():
    """SAME padding at stride 2."""
    tf, layers, _ = tensorflow_modules()

    def conv2d(x, kernel, stride, padding, groups):
        return tf.nn.conv2d(x, kernel, strides=stride, padding="SAME" if padding else "VALID")

    return patch.object(layers, "grouped_conv2d", conv2d)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("initial state", "Conv2D"),
    paddle=(
        "`nn.Conv2D` has a bias unless `bias_attr=False`. Published networks switch it off before a batch norm, which "
        "takes the mean away again; PaddlePaddle's tutorial on CIFAR-10, since mid-2018, for one convolution of a "
        "residual block and not for the other."
    ),
    tensorflow=(
        "`keras.layers.Conv2D` has one unless `use_bias=False`; `tf.nn.conv2d` never has. Forgotten on one side, the "
        "outputs still agree, for the bias begins at zero and its gradient before a batch norm is zero; but the "
        "weights no longer pair off, and where no batch norm follows, the networks part."
    ),
    here="`bias` is written out on both sides. A name that only one side has is an error before the first step.",
    sources=(
        KERAS + "keras/src/layers/convolutional/conv2d.py",
        PADDLE + "python/paddle/nn/layer/conv.py",
        BOOK + "6c30c1edbce4a9df70ecf4179ecaff8219dacffb/03.image_classification/resnet.py",
    ),
    code={
        "paddle": (PADDLE_LAYERS, "bias_attr = None if bias else False"),
        "tensorflow": (TENSORFLOW_LAYERS, 'self.bias = self.add_weight(name="bias"'),
    },
)
def conv_bias():
    """A convolution's bias on one side."""
    _, layers, _ = tensorflow_modules()
    original = layers.Conv2D.__init__

    def init(self, *arguments, **options):
        original(self, *arguments, **options)
        self.use_bias = True

    return patch.object(layers.Conv2D, "__init__", init)
