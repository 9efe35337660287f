"""Traps: pooling."""

from unittest.mock import patch

from tandem.traps.symbols import Code
from tandem.traps.trap import (
    KERAS,
    PADDLE,
    PADDLE_LAYERS,
    PADDLE_POOL_KERNEL,
    TENSORFLOW,
    TENSORFLOW_LAYERS,
    enter,
)

THEME = "Pooling"

MAX_POOL_CODE = {
    "paddle": Code(PADDLE_LAYERS, "MaxPool2D.forward", "F.max_pool2d("),
    "tensorflow": Code(TENSORFLOW_LAYERS, "MaxPool2D.call", "after = "),
}
MAX_POOL_SOURCES = (
    PADDLE + "python/paddle/nn/functional/pooling.py",
    KERAS + "keras/src/layers/pooling/max_pooling2d.py",
)
AVERAGE_POOL_CODE = {
    "paddle": Code(PADDLE_LAYERS, "AveragePoolPad.forward", "F.avg_pool2d("),
    "tensorflow": Code(TENSORFLOW_LAYERS, "AveragePoolPad.call", "tf.nn.avg_pool2d("),
}
AVERAGE_POOL_SOURCES = (
    PADDLE + "python/paddle/nn/functional/pooling.py",
    TENSORFLOW + "tensorflow/python/ops/nn_ops.py",
)


@enter(
    THEME,
    "tensorflow",
    "pools",
    ("layer outputs", "MaxPool2D"),
    paddle=(
        "`ceil_mode=True` keeps the windows that the lower and the right edge cut. The default, `ceil_mode=False`, "
        "drops them."
    ),
    tensorflow="`VALID` keeps whole windows only: a 3x3 pool at stride 2 turns 14x14 pixels into 6x6, not 7x7.",
    tandem="`ceil_mode` is written out, and means the same on both sides.",
    sources=MAX_POOL_SOURCES,
    code=MAX_POOL_CODE,
    setting="ceil_mode",
)
def max_pool_floor():
    """A max pool whose output size is rounded down."""
    from tandem.frameworks.tensorflow import layers

    return patch.object(layers.MaxPool2D, "_beyond", lambda self, size: 0)


@enter(
    THEME,
    "tensorflow",
    "pools",
    ("layer outputs", "MaxPool2D"),
    paddle="Without padding and without `ceil_mode`, a 3x3 pool at stride 2 turns 7x7 pixels into 3x3.",
    tensorflow=(
        "`SAME` turns them into 4x4. It does not replace `ceil_mode` either: it pads at both edges, and rounds size / "
        "stride up instead of (size - kernel) / stride. At even sizes the two are equal, as in the probe's first pool."
    ),
    tandem="No max pool uses `SAME`. `ceil_mode` pads after the last pixel only.",
    sources=(TENSORFLOW + "tensorflow/python/ops/nn_ops.py", MAX_POOL_SOURCES[0]),
    code=MAX_POOL_CODE,
    setting="padding",
)
def max_pool_same():
    """SAME for a max pool."""
    from tandem.frameworks.tensorflow import layers

    import tensorflow as tf

    def call(self, x):
        return tf.nn.max_pool2d(x, self.kernel_size, strides=self.stride, padding="SAME")

    return patch.object(layers.MaxPool2D, "call", call)


@enter(
    THEME,
    "tensorflow",
    "pools",
    ("layer outputs", "MaxPool2D"),
    paddle="The part of a window outside the image is never its maximum.",
    tensorflow=(
        "`SAME` does the same. But explicit padding by `tf.pad` or `keras.layers.ZeroPadding2D` adds zeros, and zero "
        "is larger than any negative pixel. After a ReLU nobody sees it."
    ),
    tandem="TensorFlow's twin pads with the smallest number of the type.",
    sources=(PADDLE + "paddle/phi/kernels/funcs/pooling.h", MAX_POOL_SOURCES[1]),
    code={**MAX_POOL_CODE, "tensorflow": Code(TENSORFLOW_LAYERS, "MaxPool2D.call", "constant_values=x.dtype.min")},
)
def max_pool_zeros():
    """A max pool padded with zeros."""
    from tandem.frameworks.tensorflow import layers

    original = layers.tf.pad

    def pad(x, paddings, constant_values=0):
        return original(x, paddings)

    return patch.object(layers.tf, "pad", pad)


@enter(
    THEME,
    "tensorflow",
    "pools",
    ("output gradients", "MaxPool2D"),
    paddle=(
        "If several pixels of a window are the largest, `F.max_pool2d` gives the whole gradient to the first of them "
        "in row-major order. `paddle.max` divides it: at [1, 1, 0] the gradient is [0.5, 0.5, 0], though its "
        "documentation says that each gets all of it."
    ),
    tensorflow=(
        "`tf.nn.max_pool2d` and `tf.reduce_max` do the same as Paddle's. But a handwritten max pool with the mask `x "
        "== max` gives the whole gradient to every tied pixel. Flat regions of an image tie all the time."
    ),
    tandem=(
        "Both twins use their framework's own pool. Which of the tied pixels gets the gradient changes no weight's "
        "gradient if they tie because the convolution sees equal pixels. Counting them more than once does."
    ),
    sources=(
        PADDLE_POOL_KERNEL,
        PADDLE + "python/paddle/tensor/math.py",
        TENSORFLOW + "tensorflow/python/ops/math_grad.py",
    ),
    code={**MAX_POOL_CODE, "tensorflow": Code(TENSORFLOW_LAYERS, "MaxPool2D.call", "tf.nn.max_pool2d(")},
)
def max_pool_ties():
    """A max pool that gives the whole gradient to every tied pixel."""
    from tandem.frameworks.tensorflow import layers

    import tensorflow as tf

    original = layers.MaxPool2D.call

    def call(self, x):
        largest = tf.stop_gradient(original(self, x))
        if self.ceil_mode:
            after = [self._beyond(size) for size in x.shape[1:3]]
            x = tf.pad(x, [[0, 0], [0, after[0]], [0, after[1]], [0, 0]], constant_values=x.dtype.min)
        sizes, strides = [1, self.kernel_size, self.kernel_size, 1], [1, self.stride, self.stride, 1]
        windows = tf.image.extract_patches(x, sizes, strides, [1, 1, 1, 1], "VALID")
        _, height, width, channels = largest.shape
        windows = tf.reshape(windows, [-1, height, width, self.kernel_size**2, channels])
        tied = tf.cast(windows == largest[:, :, :, None], x.dtype)
        return largest + tf.reduce_sum(tied * (windows - tf.stop_gradient(windows)), axis=3)

    return patch.object(layers.MaxPool2D, "call", call)


@enter(
    THEME,
    "tensorflow",
    "shrinking",
    ("building", ""),
    paddle=(
        "`F.max_pool2d` rounds towards zero: a 3x3 pool at stride 2 turns 2x2 pixels into one pixel, and one pixel "
        "into an empty tensor, without an error. The old `fluid.layers.pool2d` had `ceil_mode`, which keeps one pixel."
    ),
    tensorflow=(
        "A Keras model cannot be built with such a pool. In eager code, the plain kernel turns both into an empty "
        "tensor whose gradient is uninitialised memory (values from 1e-323 to 1e+243 were seen). oneDNN's float32 "
        "kernel raises an error for 2x2 pixels, and for one pixel the process dies of SIGFPE. The article's AlexNet "
        "gets there with 32x32 pixels: its convolution leaves 6x6, and its pools 2x2, then none."
    ),
    tandem="Sizes are rounded up: 6, 3, 1, 1. A twin that cannot be built, or dies, fails its certificate.",
    sources=MAX_POOL_SOURCES,
    code=MAX_POOL_CODE,
)
def pooled_to_nothing():
    """Pools that leave no pixel."""
    return max_pool_floor()


@enter(
    THEME,
    "tensorflow",
    "pools",
    ("layer outputs", "AveragePoolPad"),
    paddle="At the edge, only pixels in the image are averaged: `exclusive=True` is the default.",
    tensorflow=(
        "`SAME` does the same. But explicit zeros before a `VALID` pool are averaged, too, as is PyTorch's padding "
        "(`count_include_pad`). The average of a window with 2 of 4 pixels in the image is then half as large."
    ),
    tandem="Only pixels in the image count, on both sides.",
    sources=AVERAGE_POOL_SOURCES,
    code=AVERAGE_POOL_CODE,
)
def average_counts_padding():
    """An average pool that counts the padding."""
    from tandem.frameworks.tensorflow import layers

    import tensorflow as tf

    original = tf.nn.avg_pool2d

    def avg_pool2d(x, size, strides, padding):
        after = [pixels % 2 for pixels in x.shape[1:3]]
        x = tf.pad(x, [[0, 0], [0, after[0]], [0, after[1]], [0, 0]])
        return original(x, size, strides, "VALID")

    return patch.object(layers.tf.nn, "avg_pool2d", avg_pool2d)


@enter(
    THEME,
    "tensorflow",
    "pools",
    ("layer outputs", "AveragePoolPad"),
    paddle="`ceil_mode=True` keeps the last row and column of an odd image. The default drops them.",
    tensorflow="`VALID` drops them: 3x3 pixels become 1x1, not 2x2, which no longer fits the block's other path.",
    tandem="Sizes are rounded up on both sides, as by the convolution at stride 2 on the other path.",
    sources=AVERAGE_POOL_SOURCES,
    code=AVERAGE_POOL_CODE,
    setting="ceil_mode",
)
def average_floor():
    """An average pool whose output size is rounded down."""
    from tandem.frameworks.tensorflow import layers

    original = layers.tf.nn.avg_pool2d
    return patch.object(
        layers.tf.nn, "avg_pool2d", lambda x, size, strides, padding: original(x, size, strides, "VALID")
    )


@enter(
    THEME,
    "paddle",
    "averages",
    ("output gradients", "GlobalAveragePool"),
    paddle=(
        "The gradients of `avg_pool2d` and `adaptive_avg_pool2d` multiply by 1/n as a float32, even in float64: they "
        "are off by 7e-9 for 6x6 pixels and by 2e-8 for 7x7, and exact for 4x4 and 8x8. The forward pass divides in "
        "float64."
    ),
    tensorflow="`tf.reduce_mean` and its gradient divide in float64.",
    tandem="Paddle's side takes a sum and divides it by the number of pixels.",
    sources=(PADDLE_POOL_KERNEL,),
    code={
        "paddle": Code(PADDLE_LAYERS, "global_average_pool", "return"),
        "tensorflow": Code(TENSORFLOW_LAYERS, "global_average_pool", "return"),
    },
)
def average_gradient_float32():
    """The gradient of Paddle's own average pool."""
    from tandem.frameworks.paddle import layers

    return patch.object(layers, "global_average_pool", lambda x: layers.F.adaptive_avg_pool2d(x, 1).flatten(1))
