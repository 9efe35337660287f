"""Traps: response normalisation, flatten, residuals."""

from unittest.mock import patch

from tandem.traps.symbols import Code
from tandem.traps.trap import (
    BOOK,
    KERAS,
    PADDLE,
    PADDLE_LAYERS,
    PADDLE_POOL_KERNEL,
    TENSORFLOW,
    TENSORFLOW_LAYERS,
    enter,
)

THEME = "Response normalisation, flatten, residuals"

LRN_CODE = {
    "paddle": Code(PADDLE_LAYERS, "LocalResponseNorm.forward", "return"),
    "tensorflow": Code(TENSORFLOW_LAYERS, "LocalResponseNorm.call", "return"),
}
LRN_SOURCES = (
    PADDLE + "python/paddle/nn/functional/norm.py",
    TENSORFLOW + "tensorflow/core/kernels/lrn_op.cc",
)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "LocalResponseNorm"),
    paddle=(
        "`F.local_response_norm` multiplies alpha by the *mean* of the squares over the window. The formula in its "
        "documentation has the sum; its code has the mean."
    ),
    tensorflow=(
        "`tf.nn.lrn` multiplies alpha by the sum, as the paper does. With a window of 5, its alpha=1e-4 is Paddle's "
        "alpha=5e-4. It has no float64 kernel."
    ),
    tandem="alpha / size, composed of the same plain operations on both sides.",
    sources=LRN_SOURCES,
    code=LRN_CODE,
)
def lrn_alpha():
    """LRN's alpha not divided by the window size."""
    from tandem.frameworks.tensorflow import layers

    original = layers.LocalResponseNorm.__init__

    def init(self, size, alpha, beta, **options):
        original(self, size, alpha * size, beta, **options)

    return patch.object(layers.LocalResponseNorm, "__init__", init)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "LocalResponseNorm"),
    paddle="`size=5` is the whole window.",
    tensorflow=(
        "`depth_radius=5`, the default, is one side of it: a window of 11. Paddle's `size=5` is `depth_radius=2`. The "
        "other defaults differ, too: alpha 1 and beta 0.5 in TensorFlow, 1e-4 and 0.75 in Paddle."
    ),
    tandem="`size` is the whole window. Nothing has a default.",
    sources=LRN_SOURCES,
    code=LRN_CODE,
)
def lrn_radius():
    """LRN's window size taken as its radius."""
    from tandem.frameworks.tensorflow import layers

    original = layers.LocalResponseNorm.__init__

    def init(self, size, alpha, beta, **options):
        window = 2 * size + 1
        original(self, window, alpha / size * window, beta, **options)

    return patch.object(layers.LocalResponseNorm, "__init__", init)


@enter(
    THEME,
    "paddle",
    "plain",
    ("output gradients", "LocalResponseNorm"),
    paddle=(
        "`F.local_response_norm` averages the squares with an average pool, whose gradient has a float32 1/n. The "
        "exponent of `paddle.pow` is a float32 as well: 0.75 is exact, 0.7 would be off by 1e-8."
    ),
    tensorflow="The same operations in float64 are exact up to rounding.",
    tandem="A sum of slices, a division, and a power whose exponent float32 represents exactly.",
    sources=(LRN_SOURCES[0], PADDLE_POOL_KERNEL),
    code=LRN_CODE,
)
def lrn_gradient_float32():
    """The gradient of Paddle's own LRN."""
    from tandem.frameworks.paddle import layers

    def forward(self, x):
        return layers.F.local_response_norm(x, self.size, self.alpha, self.beta, k=1.0)

    return patch.object(layers.LocalResponseNorm, "forward", forward)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Flatten"),
    paddle="Images are [N, C, H, W]. Flattening keeps the pixels of a channel together.",
    tensorflow=(
        "Images are [N, H, W, C]. Flattening keeps the channels of a pixel together. The sizes are equal, and the "
        "network trains just as well. But the rows of the next layer's weight are permuted, so weights carried over "
        "from the other framework are wrong."
    ),
    tandem="TensorFlow's twin transposes first, so that the rows of a dense layer's weight mean the same.",
    sources=(KERAS + "keras/src/layers/reshaping/flatten.py",),
    code={
        "paddle": Code(PADDLE_LAYERS, "Flatten.forward", "return"),
        "tensorflow": Code(TENSORFLOW_LAYERS, "Flatten.call", "return"),
    },
)
def flatten_order():
    """Flatten in each framework's own order."""
    from tandem.frameworks.tensorflow import layers

    import tensorflow as tf

    def call(self, x):
        height, width, channels = x.shape[1:]
        return tf.reshape(x, [-1, height * width * channels])

    return patch.object(layers.Flatten, "call", call)


@enter(
    THEME,
    "tensorflow",
    "averages",
    ("layer outputs", "Residual"),
    paddle=(
        "Paddle has no residual layer, so everyone writes the block by hand. The first version of PaddlePaddle's "
        "CIFAR-10 tutorial adds `[ipt, short]`: the block's input and the shortcut, without its convolutions. Later "
        "versions add the convolutions and the shortcut."
    ),
    tensorflow=(
        "TensorFlow has none either. A block that computes a shortcut with a 1x1 convolution and adds its input as "
        "well runs wherever the shapes fit, and trains. The probe's shortcut keeps the shape."
    ),
    tandem="A block adds its body to its shortcut, or to its input if it has no shortcut; never to both.",
    sources=(
        BOOK + "4a1433cbe4186aac8913133c9e01baf6268335f0/image_classification/README.md",
        "https://arxiv.org/abs/1512.03385",
    ),
    code={
        "paddle": Code(PADDLE_LAYERS, "Residual.forward", "shortcut = x"),
        "tensorflow": Code(TENSORFLOW_LAYERS, "Residual.call", "shortcut = x"),
    },
)
def residual_adds_input():
    """A residual block that adds its input besides its shortcut."""
    from tandem.frameworks.tensorflow import layers

    import tensorflow as tf

    def call(self, x, training=False):
        shortcut = 0 if self.shortcut is None else self.shortcut(x, training=training)
        return tf.nn.relu(self.body(x, training=training) + shortcut + x)

    return patch.object(layers.Residual, "call", call)
