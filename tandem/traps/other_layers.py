"""Traps: response normalisation, flatten, residuals."""

from unittest.mock import patch

from tandem.traps.pooling import PADDLE_POOL_KERNEL
from tandem.traps.trap import (
    BOOK,
    KERAS,
    PADDLE,
    PADDLE_LAYERS,
    TENSORFLOW,
    TENSORFLOW_LAYERS,
    enter,
    paddle_modules,
    tensorflow_modules,
)

THEME = "Response normalisation, flatten, residuals"

LRN_CODE = {
    "paddle": (PADDLE_LAYERS, "return x * (1.0 + self.alpha / self.size * total) ** -self.beta"),
    "tensorflow": (TENSORFLOW_LAYERS, "return x * (1.0 + self.alpha / self.size * total) ** -beta"),
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
        "`F.local_response_norm` multiplies alpha by the *mean* of the squares over the window, as its code says; the "
        "formula in its documentation has the sum."
    ),
    tensorflow=(
        "`tf.nn.lrn` multiplies alpha by their sum, as the paper does. With a window of 5, alpha=1e-4 there is "
        "alpha=5e-4 in Paddle. It has no float64 kernel."
    ),
    here="alpha / size, of the same plain operations on both sides.",
    sources=LRN_SOURCES,
    code=LRN_CODE,
)
def lrn_alpha():
    """LRN's alpha not divided by the window."""
    _, layers, _ = tensorflow_modules()
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
        "`depth_radius=5`, the default, is what lies on one side: a window of 11. Paddle's size 5 is the radius 2. The "
        "other defaults differ, too: alpha 1 and beta 0.5, against 1e-4 and 0.75."
    ),
    here="`size` is the whole window, and nothing has a default.",
    sources=LRN_SOURCES,
    code=LRN_CODE,
)
def lrn_radius():
    """LRN's window taken for its radius."""
    _, layers, _ = tensorflow_modules()
    original = layers.LocalResponseNorm.__init__

    def init(self, size, alpha, beta, **options):
        window = 2 * size + 1
        original(self, window, alpha / size * window, beta, **options)

    return patch.object(layers.LocalResponseNorm, "__init__", init)


@enter(
    THEME,
    "paddle",
    "plain",
    ("gradients", "Conv2D"),
    paddle=(
        "`F.local_response_norm` averages the squares by an average pool, so its gradient has that pool's float32 1/n. "
        "The exponent of `paddle.pow` is a float32 as well: 0.75 is exact, 0.7 would be off by 1e-8."
    ),
    tensorflow="The same operations in float64 are exact to rounding.",
    here="Composed of a sum of slices, a division and a power with an exponent that float32 holds.",
    sources=(LRN_SOURCES[0], PADDLE_POOL_KERNEL),
    code=LRN_CODE,
)
def lrn_gradient_float32():
    """The gradient of Paddle's own LRN."""
    _, layers, _ = paddle_modules()

    def forward(self, x):
        return layers.F.local_response_norm(x, self.size, self.alpha, self.beta, k=1.0)

    return patch.object(layers.LocalResponseNorm, "forward", forward)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Flatten"),
    paddle="Images are [N, C, H, W]; flattened, a channel's pixels lie together.",
    tensorflow=(
        "Images are [N, H, W, C]; flattened, a pixel's channels lie together. The sizes are equal, and the network "
        "trains as well; only the weights of the next layer are permuted, so weights that are carried over are wrong."
    ),
    here="TensorFlow's twin transposes first, so that a dense layer's rows mean the same.",
    sources=(KERAS + "keras/src/layers/reshaping/flatten.py",),
    code={
        "paddle": (PADDLE_LAYERS, "return x.flatten(1)"),
        "tensorflow": (TENSORFLOW_LAYERS, "return tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [-1, channels * height"),
    },
)
def flatten_order():
    """Flatten in each framework's own order."""
    tf, layers, _ = tensorflow_modules()

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
        "No layer of Paddle's own: a residual block is written by hand. The first version of PaddlePaddle's tutorial "
        "on CIFAR-10 adds `[ipt, short]`: the block's input beside the shortcut, and its convolutions not at all. "
        "Later ones add the convolutions and the shortcut."
    ),
    tensorflow=(
        "Nor of TensorFlow's. A block that computes a shortcut by a 1x1 convolution and adds its input as well fits "
        "wherever the shapes do, and trains. The probe has one whose shortcut keeps the shape."
    ),
    here="The body and the shortcut are added, or the body and the input; never all three.",
    sources=(
        BOOK + "4a1433cbe4186aac8913133c9e01baf6268335f0/image_classification/README.md",
        "https://arxiv.org/abs/1512.03385",
    ),
    code={
        "paddle": (PADDLE_LAYERS, "shortcut = x if self.shortcut is None else self.shortcut(x)"),
        "tensorflow": (TENSORFLOW_LAYERS, "shortcut = x if self.shortcut is None else self.shortcut(x, training"),
    },
)
def residual_adds_input():
    """A block that adds its input beside the shortcut."""
    tf, layers, _ = tensorflow_modules()

    def call(self, x, training=False):
        shortcut = 0 if self.shortcut is None else self.shortcut(x, training=training)
        return tf.nn.relu(self.body(x, training=training) + shortcut + x)

    return patch.object(layers.Residual, "call", call)
