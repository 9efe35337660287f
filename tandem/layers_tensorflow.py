"""Layers whose meaning differs between the frameworks, with one meaning here. Twin of layers_paddle.py.

Images are [N, H, W, C]. Nothing rests on a default: padding, bias, epsilon and momentum are written out.
"""

import numpy as np

from tandem import environment

with environment.quiet():
    import tensorflow as tf

BATCH_NORM_MOMENTUM = float(np.float32(0.9))  # as Paddle's C++ float has it, also in float64
BATCH_NORM_EPSILON = float(np.float32(1e-5))

register = tf.keras.utils.register_keras_serializable("tandem")


def set_threads(count):
    """Use `count` CPU threads. Call it before the first layer computes."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


@register
class Conv2D(tf.keras.layers.Layer):
    """A convolution without bias; `padding` pixels of zeros on every side, then only whole windows.

    Kernel: [kernel_size, kernel_size, in_channels / groups, out_channels].
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, groups=1, **kwargs):
        super().__init__(**kwargs)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.groups = groups

    def build(self, input_shape):
        """Make the kernel."""
        size = self.kernel_size
        self.kernel = self.add_weight(
            name="kernel", shape=(size, size, self.in_channels // self.groups, self.out_channels)
        )

    def call(self, x):
        """[N, H, W, in_channels] to [N, H', W', out_channels], H' = (H + 2*padding - kernel_size) // stride + 1."""
        return grouped_conv2d(x, tf.convert_to_tensor(self.kernel), self.stride, self.padding, self.groups)

    def get_config(self):
        """The arguments that make this layer again."""
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "groups")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def grouped_conv2d(x, kernel, stride, padding, groups):
    """Convolve each of `groups` slices of the channels with its own slice of `kernel`.

    On a CPU as separate convolutions and a concat: TensorFlow's own grouped convolution took 25 times as long there.
    cuDNN has grouped convolutions on a GPU.
    """
    if padding:  # and never "SAME", which pads 0 before and 1 after where Paddle pads 1 and 1
        x = tf.pad(x, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    if groups == 1 or tf.config.get_visible_devices("GPU"):
        return tf.nn.conv2d(x, kernel, strides=stride, padding="VALID")
    branches = zip(tf.split(x, groups, axis=3), tf.split(kernel, groups, axis=3), strict=True)
    return tf.concat([tf.nn.conv2d(*branch, strides=stride, padding="VALID") for branch in branches], axis=3)


@register
class BatchNorm2D(tf.keras.layers.Layer):
    """Batch normalisation over N, H and W (Ioffe & Szegedy 2015, arXiv:1502.03167), with the biased running variance.

    moving = 0.9 * moving + 0.1 * batch. Parameters gamma and beta, statistics moving_mean and moving_variance, each
    [channels].
    """

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels

    def build(self, input_shape):
        """Make the parameters and statistics, which stay float32 where the rest computes in 16 bits."""
        shape = (self.channels,)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", autocast=False)
        self.moving_mean = self.add_weight(
            name="moving_mean", shape=shape, initializer="zeros", trainable=False, autocast=False
        )
        self.moving_variance = self.add_weight(
            name="moving_variance", shape=shape, initializer="ones", trainable=False, autocast=False
        )

    def call(self, x, training=False):
        """[N, H, W, channels] to the same shape."""
        if not training:
            scale = self.gamma * tf.math.rsqrt(self.moving_variance + BATCH_NORM_EPSILON)
            return x * tf.cast(scale, x.dtype) + tf.cast(self.beta - self.moving_mean * scale, x.dtype)
        if x.dtype == tf.float64:  # the fused kernel has no float64
            mean, variance = tf.nn.moments(x, [0, 1, 2])
            y = tf.nn.batch_normalization(x, mean, variance, self.beta, self.gamma, BATCH_NORM_EPSILON)
        else:
            y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                x, tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta), epsilon=BATCH_NORM_EPSILON
            )
            count = tf.cast(tf.size(x) // self.channels, variance.dtype)
            variance *= (count - 1) / count  # the fused kernel returns sum / (count - 1)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(BATCH_NORM_MOMENTUM * moving + (1 - BATCH_NORM_MOMENTUM) * batch)
        return y

    def get_config(self):
        """The arguments that make this layer again."""
        return {**super().get_config(), "channels": self.channels}


@register
class SqueezeExcitation(tf.keras.layers.Layer):
    """Scale each channel by a gate computed from all channels' means (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels, reduction_ratio, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.reduction_ratio = reduction_ratio
        self.squeeze = tf.keras.layers.Dense(channels // reduction_ratio, use_bias=True, name="squeeze")
        self.excite = tf.keras.layers.Dense(channels, use_bias=True, name="excite")

    def call(self, x):
        """[N, H, W, channels] to the same shape."""
        gate = self.squeeze(global_average_pool(x))
        gate = tf.sigmoid(self.excite(tf.nn.relu(gate)))
        return x * gate[:, None, None, :]

    def get_config(self):
        """The arguments that make this layer again."""
        return {**super().get_config(), "channels": self.channels, "reduction_ratio": self.reduction_ratio}


@register
class Residual(tf.keras.layers.Layer):
    """relu(body(x) + x). Where the body halves the size and widens: x averaged 2x2, with zero channels at both ends."""

    def __init__(self, body, in_channels, out_channels, **kwargs):
        super().__init__(**kwargs)
        self.body = body
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.extra_channels = (out_channels - in_channels) // 2

    def call(self, x, training=False):
        """[N, H, W, in_channels] to [N, H or ceil(H/2), W or ceil(W/2), out_channels]."""
        shortcut = x
        if self.extra_channels:
            # "SAME" here means that at an odd edge the window is cut, and only what is in the image is averaged.
            shortcut = tf.nn.avg_pool2d(x, 2, strides=2, padding="SAME")
            shortcut = tf.pad(shortcut, [[0, 0], [0, 0], [0, 0], [self.extra_channels, self.extra_channels]])
        return tf.nn.relu(self.body(x, training=training) + shortcut)

    def get_config(self):
        """The arguments that make this layer again."""
        body = tf.keras.saving.serialize_keras_object(self.body)
        channels = {"in_channels": self.in_channels, "out_channels": self.out_channels}
        return {**super().get_config(), "body": body, **channels}

    @classmethod
    def from_config(cls, config):
        """Make the layer from `get_config`."""
        return cls(tf.keras.saving.deserialize_keras_object(config.pop("body")), **config)


def global_average_pool(x):
    """[N, H, W, C] to [N, C]."""
    return tf.reduce_mean(x, axis=[1, 2])
