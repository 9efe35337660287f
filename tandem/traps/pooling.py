"""Traps: pooling."""

from unittest.mock import patch

from tandem.traps.trap import (
    KERAS,
    PADDLE,
    PADDLE_LAYERS,
    TENSORFLOW,
    TENSORFLOW_LAYERS,
    enter,
    paddle_modules,
    tensorflow_modules,
)

THEME = "Pooling"

MAX_POOL_CODE = {
    "paddle": (PADDLE_LAYERS, "return F.max_pool2d(x, self.kernel_size, self.stride, padding=0, ceil_mode"),
    "tensorflow": (TENSORFLOW_LAYERS, "after = [self._beyond(size) for size in x.shape[1:3]]"),
}
MAX_POOL_SOURCES = (
    PADDLE + "python/paddle/nn/functional/pooling.py",
    KERAS + "keras/src/layers/pooling/max_pooling2d.py",
)
GLOBAL_POOL_CODE = {
    "paddle": (PADDLE_LAYERS, "return paddle.sum(x, axis=[2, 3])"),
    "tensorflow": (TENSORFLOW_LAYERS, "return tf.reduce_mean(x, axis=[1, 2])"),
}
PADDLE_POOL_KERNEL = PADDLE + "paddle/phi/kernels/funcs/pooling.cc"


@enter(
    THEME,
    "tensorflow",
    "pools",
    ("layer outputs", "MaxPool2D"),
    paddle="`ceil_mode=True` also counts the windows that the lower and the right edge cut; the default is not to.",
    tensorflow="`VALID` counts whole windows only: a 3x3 pool at stride 2 makes 6x6 of 14x14 pixels, not 7x7.",
    here="`ceil_mode` is written out, and means the same on both sides.",
    sources=MAX_POOL_SOURCES,
    code=MAX_POOL_CODE,
)
def max_pool_floor():
    """A pool's size rounded down."""
    _, layers, _ = tensorflow_modules()
    return patch.object(layers.MaxPool2D, "_beyond", lambda self, size: 0)


@enter(
    THEME,
    "tensorflow",
    "pools",
    ("layer outputs", "MaxPool2D"),
    paddle="Without padding and `ceil_mode`, a 3x3 pool at stride 2 makes 3x3 of 7x7 pixels.",
    tensorflow=(
        "`SAME` makes 4x4 of them. Nor does `SAME` stand for `ceil_mode`: it divides what it pads between both edges, "
        "and rounds size / stride up, not (size - kernel) / stride. At even sizes the two are equal, as in the first "
        "pool of the probe."
    ),
    here="Never `SAME` for a max pool; `ceil_mode` pads after the last pixel only.",
    sources=(TENSORFLOW + "tensorflow/python/ops/nn_ops.py", MAX_POOL_SOURCES[0]),
    code=MAX_POOL_CODE,
)
def max_pool_same():
    """SAME for a max pool."""
    tf, layers, _ = tensorflow_modules()

    def call(self, x):
        return tf.nn.max_pool2d(x, self.kernel_size, strides=self.stride, padding="SAME")

    return patch.object(layers.MaxPool2D, "call", call)


@enter(
    THEME,
    "tensorflow",
    "pools",
    ("layer outputs", "MaxPool2D"),
    paddle="What a window has outside the image never is its maximum.",
    tensorflow=(
        "The same within `SAME`. Where the pixels are padded by hand, `tf.pad` and `keras.layers.ZeroPadding2D` put "
        "zeros, and a zero is larger than any negative pixel. After a ReLU nobody sees it."
    ),
    here="Padded with the smallest number of the type.",
    sources=(PADDLE + "paddle/phi/kernels/funcs/pooling.h", MAX_POOL_SOURCES[1]),
    code={**MAX_POOL_CODE, "tensorflow": (TENSORFLOW_LAYERS, "constant_values=x.dtype.min")},
)
def max_pool_zeros():
    """A max pool padded with zeros."""
    tf, layers, _ = tensorflow_modules()
    original = tf.pad

    def pad(x, paddings, constant_values=0):
        return original(x, paddings)

    return patch.object(layers.tf, "pad", pad)


@enter(
    THEME,
    "tensorflow",
    "pools",
    ("gradients", "Conv2D"),
    paddle=(
        "Where several pixels of a window are the largest, the whole gradient goes to the first of them in reading "
        "order. Of an operator `max`, it is divided among them: `paddle.max` of [1, 1, 0] has the gradient [0.5, 0.5, "
        "0], though its documentation says that each gets all of it."
    ),
    tensorflow=(
        "`tf.nn.max_pool2d` chooses the first, too, and `tf.reduce_max` divides. So the pools agree; a max pool of "
        "one's own, written with a mask `x == max`, gives every tied pixel the whole gradient. Flat regions of an "
        "image tie all the time."
    ),
    here=(
        "The frameworks' own pools. Which of tied pixels is chosen changes no weight's gradient where they tie because "
        "what the convolution sees is equal; counting them more than once does."
    ),
    sources=(
        PADDLE_POOL_KERNEL,
        PADDLE + "python/paddle/tensor/math.py",
        TENSORFLOW + "tensorflow/python/ops/math_grad.py",
    ),
    code={**MAX_POOL_CODE, "tensorflow": (TENSORFLOW_LAYERS, "return tf.nn.max_pool2d(")},
)
def max_pool_ties():
    """The gradient of a max pool given to every tied pixel."""
    tf, layers, _ = tensorflow_modules()
    original = layers.MaxPool2D.call

    def call(self, x):
        largest = tf.stop_gradient(original(self, x))
        if self.ceil_mode:
            after = [self._beyond(size) for size in x.shape[1:3]]
            x = tf.pad(x, [[0, 0], [0, after[0]], [0, after[1]], [0, 0]], constant_values=x.dtype.min)
        sizes, strides = [1, self.kernel_size, self.kernel_size, 1], [1, self.stride, self.stride, 1]
        windows = tf.image.extract_patches(x, sizes, strides, [1, 1, 1, 1], "VALID")
        windows = tf.reshape(windows, [*largest.shape[:3], -1, largest.shape[3]])
        tied = tf.cast(windows == largest[:, :, :, None], x.dtype)
        return largest + tf.reduce_sum(tied * (windows - tf.stop_gradient(windows)), axis=3)

    return patch.object(layers.MaxPool2D, "call", call)


@enter(
    THEME,
    "tensorflow",
    "shrinking",
    ("building", ""),
    paddle=(
        "A pool that leaves no pixel gives an empty tensor, without an error. Paddle's old `fluid.layers.pool2d` knew "
        "`ceil_mode`, which keeps one pixel."
    ),
    tensorflow=(
        "A Keras model refuses to be built. In eager code the same pool gives an empty "
        "tensor, and its gradient is memory that nobody has set: values from 1e-323 to 1e+243 were seen in version "
        "2.21. On another machine eager TensorFlow died with SIGFPE. The article's AlexNet on 32x32 pixels gets there: "
        "its convolution leaves 6x6 pixels, and its pools 2x2, then none."
    ),
    here="The sizes are rounded up: 6, 3, 1, 1. A twin that cannot be built, or dies, is an error of its own.",
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
    paddle="An average at the edge is of the pixels in the image: `exclusive=True` is the default.",
    tensorflow=(
        "`SAME` averages those in the image only, too. Zeros padded by hand before a `VALID` pool count, and so does "
        "PyTorch's padding (`count_include_pad`): a cut window of 2 of 4 pixels then is half as large."
    ),
    here="Only pixels in the image count, on both sides.",
    sources=(PADDLE + "python/paddle/nn/functional/pooling.py", TENSORFLOW + "tensorflow/python/ops/nn_ops.py"),
    code={
        "paddle": (PADDLE_LAYERS, "x = F.avg_pool2d(x, 2, stride=2, padding=0, ceil_mode=True, exclusive=True)"),
        "tensorflow": (TENSORFLOW_LAYERS, 'x = tf.nn.avg_pool2d(x, 2, strides=2, padding="SAME")'),
    },
)
def average_counts_padding():
    """An average that counts the padding."""
    tf, layers, _ = tensorflow_modules()
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
    paddle="`ceil_mode=True` keeps the last row and column of an odd image; the default drops them.",
    tensorflow="`VALID` drops them: of 3x3 pixels it leaves 1x1, not 2x2, and does not fit the block's other path.",
    here="Rounded up on both sides, as the convolution at stride 2 on the other path does.",
    sources=(PADDLE + "python/paddle/nn/functional/pooling.py", TENSORFLOW + "tensorflow/python/ops/nn_ops.py"),
    code={
        "paddle": (PADDLE_LAYERS, "x = F.avg_pool2d(x, 2, stride=2, padding=0, ceil_mode=True, exclusive=True)"),
        "tensorflow": (TENSORFLOW_LAYERS, 'x = tf.nn.avg_pool2d(x, 2, strides=2, padding="SAME")'),
    },
)
def average_floor():
    """An average pool's size rounded down."""
    tf, layers, _ = tensorflow_modules()
    original = tf.nn.avg_pool2d
    return patch.object(
        layers.tf.nn, "avg_pool2d", lambda x, size, strides, padding: original(x, size, strides, "VALID")
    )


@enter(
    THEME,
    "paddle",
    "averages",
    ("gradients", "Conv2D"),
    paddle=(
        "The gradient of `avg_pool2d` and `adaptive_avg_pool2d` is multiplied by 1/n as a float32, in float64 too: off "
        "by 7e-9 for 6x6 pixels and by 2e-8 for 7x7, exact for 4x4 and 8x8. The forward pass divides in float64."
    ),
    tensorflow="`tf.reduce_mean` and its gradient divide in float64.",
    here="A sum divided by the number of pixels, on Paddle's side.",
    sources=(PADDLE_POOL_KERNEL,),
    code=GLOBAL_POOL_CODE,
)
def average_gradient_float32():
    """The gradient of Paddle's average pool."""
    _, layers, _ = paddle_modules()
    return patch.object(layers, "global_average_pool", lambda x: layers.F.adaptive_avg_pool2d(x, 1).flatten(1))
