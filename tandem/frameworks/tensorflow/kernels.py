"""What is there for speed, each beside the plain form that it equals. Twin of paddle/kernels.py.

With TANDEM_FAST_KERNELS=0 only the plain forms are used: see environment.py. Images are [N, H, W, C].
"""

import functools
import itertools

from tandem.frameworks import environment

with environment.loading():
    import tensorflow as tf


def set_threads(count):
    """Use `count` CPU threads. Call it before the first layer computes."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


def conv2d(x, weight, stride, padding, groups):
    """`plain_conv2d`, faster.

    Where the size stays, the convolution pads by itself. On a CPU groups are separate convolutions and a concat:
    TensorFlow's own grouped convolution took 25 times as long. There small images have another gradient of the weight,
    too: see `_same_conv2d`. On a GPU cuDNN has grouped convolutions and needs neither.
    """
    if not environment.FAST_KERNELS:
        return plain_conv2d(x, weight, stride, padding, groups)
    on_gpu = bool(tf.config.get_visible_devices("GPU"))
    # "SAME" is faster than padding first, but at stride 2 it pads 0 before and 1 after where Paddle pads 1 and 1.
    if stride == 1 and weight.shape[0] == 2 * padding + 1:
        convolve = functools.partial(_same_conv2d, own_gradient=not on_gpu)
    else:
        x = _pad(x, padding)
        convolve = functools.partial(valid_conv2d, stride=stride)
    return convolve(x, weight) if groups == 1 or on_gpu else _in_branches(convolve, x, weight, groups)


def plain_conv2d(x, weight, stride, padding, groups):
    """Put `padding` zeros on every side; convolve each of `groups` slices of the channels with its slice of `weight`.

    Weight: [kernel_size, kernel_size, in_channels / groups, out_channels].

    On a CPU a grouped convolution in float64 is separate convolutions here, too: TensorFlow has no gradient for it. In
    the other types oneDNN has one.
    """
    convolve = functools.partial(valid_conv2d, stride=stride)
    if groups > 1 and x.dtype == tf.float64 and not tf.config.get_visible_devices("GPU"):
        return _in_branches(convolve, _pad(x, padding), weight, groups)
    return convolve(_pad(x, padding), weight)


def _pad(x, padding):
    """`padding` zeros on every side of the images."""
    return tf.pad(x, [[0, 0], [padding, padding], [padding, padding], [0, 0]]) if padding else x


def valid_conv2d(x, weight, stride):
    """A convolution without padding; `stride` is a number, or two: down and to the right.

    oneDNN gathers the pixels that a 1x1 kernel with a stride sees, for the gradient of the weight, in a buffer that has
    too little room where there are fewer channels than a register holds numbers, 16 with AVX-512 and 8 with AVX2. It
    writes beyond it: the process dies, then or later, or the gradient is wrong
    (https://github.com/uxlfoundation/oneDNN/issues/6035). So the pixels are gathered before. From 16 channels on that
    would be two to ten times as slow, and there it is not needed.
    """
    down, right = (stride, stride) if isinstance(stride, int) else stride
    if weight.shape[0] == weight.shape[1] == 1 and max(down, right) > 1 and weight.shape[2] < 16:
        x, stride = x[:, ::down, ::right], 1
    return tf.nn.conv2d(x, weight, stride, "VALID")


def _in_branches(convolve, x, weight, groups):
    """A grouped convolution as one convolution a group, and a concat."""
    branches = zip(tf.split(x, groups, axis=3), tf.split(weight, groups, axis=3), strict=True)
    return tf.concat([convolve(*branch) for branch in branches], axis=3)


def _same_conv2d(x, weight, own_gradient):
    """A convolution that keeps the size. With `own_gradient`, small images have a faster gradient of the weight.

    oneDNN's gradient goes through the whole weight for every image. Where an image has fewer pixels than channels, one
    matrix product for each place in the kernel takes a fifth to two thirds of its time in bfloat16: VGG-16 trains 1.2
    to 1.4 times as fast. In float32 it made no difference. With a stride it would take three times as long, because
    TensorFlow is slow to gather every other pixel.
    """
    size, _, in_channels, out_channels = weight.shape
    pixels = x.shape[1:3].num_elements()
    if not own_gradient or pixels is None or pixels >= in_channels:
        return tf.nn.conv2d(x, weight, strides=1, padding="SAME")

    @tf.custom_gradient
    def with_gradients(x, weight):
        def gradients(dy):
            edge = [size // 2, size // 2]
            padded = tf.pad(x, [[0, 0], edge, edge, [0, 0]])
            height, width = x.shape[1:3]
            rows = tf.reshape(dy, [-1, out_channels])
            products = []
            for top, left in itertools.product(range(size), repeat=2):
                window = padded[:, top : top + height, left : left + width]
                products.append(tf.matmul(tf.reshape(window, [-1, in_channels]), rows, transpose_a=True))
            dx = tf.nn.conv2d_transpose(dy, weight, tf.shape(x), strides=1, padding="SAME")
            return dx, tf.reshape(tf.stack(products), weight.shape)

        return tf.nn.conv2d(x, weight, strides=1, padding="SAME"), gradients

    return with_gradients(x, weight)


def batch_norm(x, gamma, beta, mean, variance, epsilon, training):
    """`plain_batch_norm` by TensorFlow's fused kernel. There is none in float64, which takes the plain form.

    Paddle's own batch norm is one kernel in every type, so paddle/kernels.py has no such function.
    """
    if not environment.FAST_KERNELS or x.dtype == tf.float64:
        return plain_batch_norm(x, gamma, beta, mean, variance, epsilon, training)
    fused_batch_norm = tf.compat.v1.nn.fused_batch_norm
    if not training:
        y, *_ = fused_batch_norm(x, gamma, beta, mean, variance, epsilon, is_training=False)
        return y, mean, variance
    y, mean, variance = fused_batch_norm(x, gamma, beta, epsilon=epsilon)
    count = tf.cast(tf.size(x) // gamma.shape[0], variance.dtype)
    return y, mean, variance * ((count - 1) / count)  # the fused kernel returns sum / (count - 1)


def plain_batch_norm(x, gamma, beta, mean, variance, epsilon, training):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta; also the mean and the variance that it used.

    In `training` it uses the mean and the biased variance of the batch, over N, H and W; otherwise `mean` and
    `variance`. The parameters and statistics are [C], and float32 where x has 16 bits: it computes in their type.
    """
    wide = tf.cast(x, gamma.dtype)
    if training:
        mean, variance = tf.nn.moments(wide, [0, 1, 2])
    return tf.cast(tf.nn.batch_normalization(wide, mean, variance, beta, gamma, epsilon), x.dtype), mean, variance
