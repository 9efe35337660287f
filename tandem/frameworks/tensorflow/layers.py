"""Layers whose meaning differs between the frameworks, with one meaning here. Twin of paddle/layers.py.

Images are [N, H, W, C]. Nothing rests on a default: padding, bias, epsilon and momentum are written out.
"""

import contextlib

from tandem.core import dropout
from tandem.frameworks import environment
from tandem.frameworks.base import ALONE
from tandem.frameworks.tensorflow import kernels, replicas

import numpy as np

with environment.loading():
    import tensorflow as tf

BATCH_NORM_MOMENTUM = float(np.float32(0.9))  # as Paddle's C++ float has it, also in float64
BATCH_NORM_EPSILON = float(np.float32(1e-5))

register = tf.keras.utils.register_keras_serializable("tandem")


@register
class Conv2D(tf.keras.layers.Layer):
    """A convolution; `padding` pixels of zeros on every side, then only whole windows.

    Kernel: [kernel_size, kernel_size, in_channels / groups, out_channels]; with `bias` also bias: [out_channels].
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, groups=1, bias=False, **kwargs):
        super().__init__(**kwargs)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.groups = groups
        self.use_bias = bias

    def build(self, input_shape):
        """Make the kernel and the bias."""
        size = self.kernel_size
        self.kernel = self.add_weight(
            name="kernel", shape=(size, size, self.in_channels // self.groups, self.out_channels)
        )
        self.bias = self.add_weight(name="bias", shape=(self.out_channels,)) if self.use_bias else None

    def call(self, x):
        """[N, H, W, in_channels] to [N, H', W', out_channels], H' = (H + 2*padding - kernel_size) // stride + 1."""
        y = kernels.conv2d(x, tf.convert_to_tensor(self.kernel), self.stride, self.padding, self.groups)
        return y if self.bias is None else y + self.bias

    def get_config(self):
        """The arguments that make this layer again."""
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "groups")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}, "bias": self.use_bias}


@register
class BatchNorm2D(tf.keras.layers.Layer):
    """Batch normalisation over N, H and W (Ioffe & Szegedy 2015, arXiv:1502.03167), with the biased running variance.

    moving = 0.9 * moving + 0.1 * batch. Parameters gamma and beta, statistics moving_mean and moving_variance, each
    [channels]. In training the batch is that of all `replicas`.
    """

    replicas = ALONE

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
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        mean, variance = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
        if self.replicas.count == 1 or not training:
            y, mean, variance = kernels.batch_norm(x, gamma, beta, mean, variance, BATCH_NORM_EPSILON, training)
        else:
            y, mean, variance = replicas.batch_norm(x, gamma, beta, BATCH_NORM_EPSILON, self.replicas)
        if training:
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(BATCH_NORM_MOMENTUM * moving + (1 - BATCH_NORM_MOMENTUM) * batch)
        return y

    def get_config(self):
        """The arguments that make this layer again."""
        return {**super().get_config(), "channels": self.channels}


@register
class BatchNorm1D(BatchNorm2D):
    """`BatchNorm2D` for [N, channels]: normalisation over N."""

    def call(self, x, training=False):
        """[N, channels] to the same shape."""
        return super().call(x[:, None, None, :], training)[:, 0, 0, :]


@register
class BatchNormalization(tf.keras.layers.BatchNormalization):
    """Keras' own batch norm, in training over the batch of all `replicas`. Paddle's own becomes a `BatchNorm2D`."""

    replicas = ALONE

    def call(self, inputs, training=None, mask=None):
        """[N, ..., channels] to the same shape."""
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        mean, variance = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
        gamma = tf.convert_to_tensor(self.gamma) if self.scale else tf.ones_like(mean)
        beta = tf.convert_to_tensor(self.beta) if self.center else tf.zeros_like(mean)
        shape = tf.shape(inputs)
        x = tf.reshape(inputs, [shape[0], 1, tf.reduce_prod(shape[1:-1]), shape[-1]])  # images, whatever it was
        y, *batch = replicas.batch_norm(x, gamma, beta, self.epsilon, self.replicas)
        self.moving_mean.assign(self.momentum * mean + (1 - self.momentum) * batch[0])
        self.moving_variance.assign(self.momentum * variance + (1 - self.momentum) * batch[1])
        return tf.ensure_shape(tf.reshape(y, shape), inputs.shape)


@register
class MaxPool2D(tf.keras.layers.Layer):
    """The largest of each window; where `ceil_mode`, also of the windows cut by the lower and the right edge."""

    def __init__(self, kernel_size, stride, ceil_mode=False, **kwargs):
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode

    def call(self, x):
        """[N, H, W, C] to [N, H', W', C], H' = (H - kernel_size) / stride + 1, rounded down, or up with `ceil_mode`."""
        if self.ceil_mode:
            # Padding after the end only, with what is never the largest; "SAME" may also pad before the start.
            after = [self._beyond(size) for size in x.shape[1:3]]
            x = tf.pad(x, [[0, 0], [0, after[0]], [0, after[1]], [0, 0]], constant_values=x.dtype.min)
        return tf.nn.max_pool2d(x, self.kernel_size, strides=self.stride, padding="VALID")

    def _beyond(self, size):
        """How far the last window reaches beyond `size` pixels."""
        windows = max(-(-(size - self.kernel_size) // self.stride), 0) + 1
        return max((windows - 1) * self.stride + self.kernel_size - size, 0)

    def get_config(self):
        """The arguments that make this layer again."""
        names = ("kernel_size", "stride", "ceil_mode")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@register
class LocalResponseNorm(tf.keras.layers.Layer):
    """x / (1 + alpha / size * (sum of x^2 over `size` channels around it))^beta (Krizhevsky et al. 2012, section 3.3).

    Composed of plain operations: TensorFlow's own has no float64. `alpha` is divided by `size` as in Paddle; the paper
    and TensorFlow do not divide.
    """

    def __init__(self, size, alpha, beta, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.alpha = alpha
        self.beta = beta

    def call(self, x):
        """[N, H, W, C] to the same shape."""
        before = self.size // 2
        squares = tf.pad(x * x, [[0, 0], [0, 0], [0, 0], [before, self.size - 1 - before]])
        total = sum(squares[..., start : start + x.shape[3]] for start in range(self.size))
        beta = float(np.float32(self.beta))  # Paddle keeps an exponent as C++ float, also in float64
        return x * (1.0 + self.alpha / self.size * total) ** -beta

    def get_config(self):
        """The arguments that make this layer again."""
        return {**super().get_config(), **{name: getattr(self, name) for name in ("size", "alpha", "beta")}}


@register
class Dropout(tf.keras.layers.Layer):
    """Set a part `rate` of all elements to 0 and divide the rest by 1 - rate (Srivastava et al. 2014).

    In Tandem's loop the mask is that of core/dropout.py, the same in both frameworks (see `dropout_keys`); elsewhere it
    is ordinary dropout. In evaluation mode nothing is changed.
    """

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.key = None
        self.first = 0

    def call(self, x, training=False):
        """[N, H, W, C] or [N, C] to the same shape."""
        if not training or not self.rate:
            return x
        if self.key is None:
            return self.ordinary(x)
        mask = dropout_mask(self.key, self.mask_shape(tf.shape(x)), self.rate, self.first)
        return x * tf.cast(mask, x.dtype) / (1 - self.rate)

    def ordinary(self, x):
        """What Keras' own layer returns in training."""
        return tf.nn.dropout(x, self.rate)

    def mask_shape(self, shape):
        """The shape of the mask for an input of `shape`."""
        return shape

    def get_config(self):
        """The arguments that make this layer again."""
        return {**super().get_config(), "rate": self.rate}


class SpatialDropout2D(Dropout):
    """`Dropout` of whole channels (Tompson et al. 2015), in place of Keras' own: see `adopt`."""

    def ordinary(self, x):
        """What Keras' own layer returns in training."""
        return tf.nn.dropout(x, self.rate, noise_shape=self.mask_shape(tf.shape(x)))

    def mask_shape(self, shape):
        """[N, 1, 1, C] for an input of [N, H, W, C]."""
        return tf.stack([shape[0], 1, 1, shape[3]])


def adopt(layer, shared=False):
    """Make a stock `layer` one of these here, if Keras' own cannot be the same in both frameworks.

    That is a dropout, for its masks. And a convolution of single pixels with a stride is computed as here. Where the
    batch is `shared` with other processes, it is also a batch norm. Its class keeps its name, which users see.
    """
    if type(layer) is tf.keras.layers.Dropout and layer.noise_shape is None:
        layer.__class__, layer.key, layer.first = Dropout, None, 0
    if type(layer) is tf.keras.layers.SpatialDropout2D and layer.data_format == "channels_last":
        layer.__class__, layer.key, layer.first = SpatialDropout2D, None, 0
    pixels = type(layer) is tf.keras.layers.Conv2D and layer.kernel_size == (1, 1) and layer.strides != (1, 1)
    if pixels and layer.data_format == "channels_last" and layer.groups == 1:  # not the class: Keras saves its name
        layer.convolution_op = lambda x, kernel: kernels.valid_conv2d(x, tf.convert_to_tensor(kernel), layer.strides)
    norm = shared and type(layer) is tf.keras.layers.BatchNormalization and not layer.renorm
    if norm and layer.axis in (-1, layer.input_spec.ndim - 1):
        layer.__class__ = BatchNormalization


def dropout_mask(key, shape, rate, first=0):
    """`tandem.core.dropout.mask` as a tensor, its elements numbered channel first and laid out channel last."""
    before = tf.cast(first, tf.int64) * tf.cast(tf.reduce_prod(shape[1:]), tf.int64)
    x = tf.range(before, before + tf.cast(tf.reduce_prod(shape), tf.int64))
    if shape.shape[0] == 4:
        x = tf.transpose(tf.reshape(x, tf.gather(shape, [0, 3, 1, 2])), [0, 2, 3, 1])
    x = tf.cast(x, tf.uint32)
    x = tf.bitwise.bitwise_xor(x, key[0])
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, np.uint32(dropout.SHIFTS[0])))
    x = x * np.uint32(dropout.FACTORS[0])
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, np.uint32(dropout.SHIFTS[1])))
    x = x + key[1]
    x = x * np.uint32(dropout.FACTORS[1])
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, np.uint32(dropout.SHIFTS[2])))
    return tf.reshape(x >= np.uint32(dropout.threshold(rate)), shape)


@contextlib.contextmanager
def dropout_keys(layers, keys, first=0):
    """In it, each Dropout of `layers` makes its mask from its row of `keys`, uint32 [len(layers), 2].

    `first`: how many images of the batch come before those that the model gets.
    """
    for index, layer in enumerate(layers):
        layer.key, layer.first = keys[index], first
    try:
        yield
    finally:
        for layer in layers:
            layer.key = None


@register
class GlobalAveragePool(tf.keras.layers.Layer):
    """Global average pooling: [N, H, W, C] to [N, C]."""

    def call(self, x):
        """See `global_average_pool`."""
        return global_average_pool(x)


@register
class GlobalMaxPool(tf.keras.layers.Layer):
    """Global max pooling: [N, H, W, C] to [N, C]."""

    def call(self, x):
        """Equal ones share the gradient."""
        return tf.reduce_max(x, axis=[1, 2])


@register
class Scale(tf.keras.layers.Layer):
    """x * factor."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        """Of any shape, to the same shape."""
        return x * self.factor

    def get_config(self):
        """The arguments that make this layer again."""
        return {**super().get_config(), "factor": self.factor}


@register
class Flatten(tf.keras.layers.Layer):
    """[N, H, W, C] to [N, C * H * W]."""

    def call(self, x):
        """Channels first, then rows, then columns, so that the weights of the next layer mean what Paddle's do."""
        height, width, channels = x.shape[1:]
        return tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [-1, channels * height * width])


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
    """relu(body(x) + shortcut(x)), or relu(body(x) + x) without a `shortcut` (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, body, shortcut=None, **kwargs):
        super().__init__(**kwargs)
        self.body = body
        self.shortcut = shortcut

    def call(self, x, training=False):
        """Of the shape that the body gives, which is the shortcut's, too."""
        shortcut = x if self.shortcut is None else self.shortcut(x, training=training)
        return tf.nn.relu(self.body(x, training=training) + shortcut)

    def get_config(self):
        """The arguments that make this layer again."""
        parts = {"body": self.body, "shortcut": self.shortcut}
        return {
            **super().get_config(),
            **{name: tf.keras.utils.serialize_keras_object(part) for name, part in parts.items()},
        }

    @classmethod
    def from_config(cls, config):
        """Make the layer from `get_config`."""
        parts = [tf.keras.utils.deserialize_keras_object(config.pop(name)) for name in ("body", "shortcut")]
        return cls(*parts, **config)


@register
class AveragePoolPad(tf.keras.layers.Layer):
    """The identity shortcut to a block that halves the size and widens: 2x2 means, and zero channels at both ends."""

    def __init__(self, in_channels, out_channels, **kwargs):
        super().__init__(**kwargs)
        self.in_channels = in_channels
        self.out_channels = out_channels

    def call(self, x):
        """[N, H, W, in_channels] to [N, ceil(H/2), ceil(W/2), out_channels]."""
        # "SAME" here means that at an odd edge the window is cut, and only what is in the image is averaged.
        extra_channels = (self.out_channels - self.in_channels) // 2
        x = tf.nn.avg_pool2d(x, 2, strides=2, padding="SAME")
        return tf.pad(x, [[0, 0], [0, 0], [0, 0], [extra_channels, extra_channels]])

    def get_config(self):
        """The arguments that make this layer again."""
        return {**super().get_config(), "in_channels": self.in_channels, "out_channels": self.out_channels}


def global_average_pool(x):
    """The mean of each channel: [N, H, W, C] to [N, C]."""
    return tf.reduce_mean(x, axis=[1, 2])
