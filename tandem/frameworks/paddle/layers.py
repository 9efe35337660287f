"""Layers whose meaning differs between the frameworks, with one meaning here. Twin of tensorflow/layers.py.

Images are [N, C, H, W]. Nothing rests on a default: padding, bias, epsilon and momentum are written out.
"""

import contextlib
import math

from tandem.core import dropout
from tandem.frameworks import environment
from tandem.frameworks.base import ALONE
from tandem.frameworks.paddle import kernels, replicas

import numpy as np

with environment.loading():
    import paddle
    import paddle.nn.functional as F
    from paddle import nn

BATCH_NORM_MOMENTUM = 0.9  # Paddle keeps both as C++ float, also in float64: 0.9 is 0.8999999762
BATCH_NORM_EPSILON = 1e-5


class Conv2D(nn.Conv2D):
    """A convolution; `padding` pixels of zeros on every side, then only whole windows.

    Weight: [out_channels, in_channels / groups, kernel_size, kernel_size]; with `bias` also bias: [out_channels].
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, groups=1, bias=False):
        bias_attr = None if bias else False
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias_attr=bias_attr)
        self.stride = stride
        self.padding = padding
        self.groups = groups

    def forward(self, x):
        """[N, in_channels, H, W] to [N, out_channels, H', W'], H' = (H + 2*padding - kernel_size) // stride + 1."""
        y = kernels.conv2d(x, self.weight, self.stride, self.padding, self.groups)
        return y if self.bias is None else y + self.bias.reshape([1, -1, 1, 1])


class _BatchNorm:
    """What `BatchNorm2D` and `BatchNorm1D` share.

    Attributes:
        apart: whether weight and bias are each trained or frozen by itself. Paddle's own gives both a gradient or none.
    """

    replicas = ALONE
    apart = True

    def forward(self, x):
        """[N, channels, H, W] or [N, channels] to the same shape."""
        weight = paddle.ones_like(self._mean) if self.weight is None else self.weight
        bias = paddle.zeros_like(self._mean) if self.bias is None else self.bias
        one_frozen = self.apart and weight.stop_gradient != bias.stop_gradient
        if one_frozen:
            weight, bias = map(_with_gradient, (weight, bias))
        if self.replicas.count == 1 or not self.training:
            if not one_frozen:
                return nn.layer.norm._BatchNormBase.forward(self, x)  # to_static calls super() without end
            return F.batch_norm(
                x, self._mean, self._variance, weight, bias, self.training, self._momentum, self._epsilon
            )
        momentum, epsilon = float(np.float32(self._momentum)), float(np.float32(self._epsilon))
        y, mean, variance = replicas.batch_norm(x, weight, bias, epsilon, self.replicas)
        with paddle.no_grad():
            for running, batch in ((self._mean, mean), (self._variance, variance)):
                paddle.assign(momentum * running + (1 - momentum) * batch, running)
        return y


class BatchNorm2D(_BatchNorm, nn.BatchNorm2D):
    """Batch normalisation over N, H and W (Ioffe & Szegedy 2015, arXiv:1502.03167), with the biased running variance.

    running = 0.9 * running + 0.1 * batch. Parameters weight and bias, statistics _mean and _variance, each [channels].
    In training the batch is that of all `replicas`.
    """

    def __init__(self, channels):
        super().__init__(channels, momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON)


class BatchNorm1D(_BatchNorm, nn.BatchNorm1D):
    """`BatchNorm2D` for [N, channels]: normalisation over N."""

    def __init__(self, channels):
        super().__init__(channels, momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON)


class BatchNorm(nn.BatchNorm):
    """Paddle's older batch norm, whose `activation` comes after the hooks, as if it were a layer of its own."""

    def __call__(self, x):
        """Normalise, then activate."""
        return self.activation(super().__call__(x))


def _with_gradient(parameter):
    """`parameter`; where it is frozen, a copy that takes a gradient, which nobody reads."""
    if not parameter.stop_gradient:
        return parameter
    copy = parameter.detach()
    copy.stop_gradient = False
    return copy


class MaxPool2D(nn.Layer):
    """The largest of each window; where `ceil_mode`, also of the windows cut by the lower and the right edge."""

    def __init__(self, kernel_size, stride, ceil_mode=False):
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode

    def forward(self, x):
        """[N, C, H, W] to [N, C, H', W'], H' = (H - kernel_size) / stride + 1, rounded down, or up with `ceil_mode`."""
        return F.max_pool2d(x, self.kernel_size, self.stride, padding=0, ceil_mode=self.ceil_mode)


class LocalResponseNorm(nn.Layer):
    """x / (1 + alpha / size * (sum of x^2 over `size` channels around it))^beta (Krizhevsky et al. 2012, section 3.3).

    Composed of plain operations: in float64 too, the gradient of Paddle's own is off by 6e-9. `alpha` is divided by
    `size` as in Paddle; the paper and TensorFlow do not divide.
    """

    def __init__(self, size, alpha, beta):
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta

    def forward(self, x):
        """[N, C, H, W] to the same shape."""
        before = self.size // 2
        squares = F.pad(x * x, [0, 0, before, self.size - 1 - before, 0, 0, 0, 0])
        total = sum(squares[:, start : start + x.shape[1]] for start in range(self.size))
        return x * (1.0 + self.alpha / self.size * total) ** -self.beta


class Dropout(nn.Layer):
    """Set a part `rate` of all elements to 0 and divide the rest by 1 - rate (Srivastava et al. 2014).

    In Tandem's loop the mask is that of core/dropout.py, the same in both frameworks (see `dropout_keys`); elsewhere it
    is ordinary dropout. In evaluation mode nothing is changed.
    """

    def __init__(self, rate):
        super().__init__()
        self.rate = rate
        self.key = None
        self.first = 0

    def forward(self, x):
        """[N, C, H, W] or [N, C] to the same shape."""
        if not self.training or not self.rate:
            return x
        if self.key is None:
            return self.ordinary(x)
        mask = dropout_mask(self.key, self.mask_shape(x.shape), self.rate, self.first)
        return x * mask.astype(x.dtype) / (1 - self.rate)

    def ordinary(self, x):
        """What Paddle's own layer returns in training."""
        return F.dropout(x, self.rate, mode="upscale_in_train")

    def mask_shape(self, shape):
        """The shape of the mask for an input of `shape`."""
        return shape


class Dropout2D(Dropout):
    """`Dropout` of whole channels (Tompson et al. 2015), in place of Paddle's own: see `adopt`."""

    def ordinary(self, x):
        """What Paddle's own layer returns in training."""
        return F.dropout2d(x, self.rate)

    def mask_shape(self, shape):
        """[N, C, 1, 1] for an input of [N, C, H, W]."""
        return [*shape[:2], 1, 1]


def adopt(layer, shared=False):
    """Make a stock `layer` one of these here, if Paddle's own cannot be the same in both frameworks.

    That is a dropout, for its masks; average pooling to 1x1, for its gradient; and a batch norm with an activation
    inside, so that its output can be seen before that. Where the batch is `shared` with other processes, it is also one
    that normalises with the batch's statistics in training, and only then. Its class keeps its name, which users see.
    """
    if type(layer) is nn.BatchNorm and layer._act:
        layer.__class__, layer.activation, layer._act = BatchNorm, getattr(F, layer._act), None
    if type(layer) is nn.Dropout and layer.axis is None and layer.mode == "upscale_in_train":
        layer.__class__, layer.rate, layer.key, layer.first = Dropout, layer.p, None, 0
    if type(layer) is nn.Dropout2D and layer.data_format == "NCHW":
        layer.__class__, layer.rate, layer.key, layer.first = Dropout2D, layer.p, None, 0
    to_pixel = type(layer) is nn.AdaptiveAvgPool2D and layer._output_size in (1, (1, 1), [1, 1])
    if to_pixel and layer._data_format == "NCHW":
        layer.__class__ = AdaptiveAvgPool2D
    norm = {nn.BatchNorm1D: BatchNorm1D, nn.BatchNorm2D: BatchNorm2D}.get(type(layer))
    if shared and norm and layer._use_global_stats is None and layer._data_format in ("NCL", "NC", "NCHW"):
        layer.__class__, layer.apart = norm, False  # as it is in one process


def dropout_mask(key, shape, rate, first=0):
    """`dropout.mask` as a tensor: NumPy makes it on a CPU, and the low 32 bits of int64 arithmetic on a GPU."""
    if paddle.get_device() == "cpu":
        return paddle.to_tensor(dropout.mask(key, shape, rate, first))
    low = paddle.to_tensor(0xFFFFFFFF)
    shifts = [paddle.to_tensor(shift) for shift in dropout.SHIFTS]
    before = first * math.prod(shape[1:])
    x = paddle.arange(before, before + math.prod(shape), dtype="int64") ^ paddle.to_tensor(int(key[0]))
    x = x ^ (x >> shifts[0])
    x = (x * dropout.FACTORS[0]) & low
    x = x ^ (x >> shifts[1])
    x = (x + int(key[1])) & low
    x = (x * dropout.FACTORS[1]) & low
    x = x ^ (x >> shifts[2])
    return (x >= dropout.threshold(rate)).reshape(shape)


@contextlib.contextmanager
def dropout_keys(layers, keys, first=0):
    """In it, each Dropout of `layers` makes its mask from its row of `keys`, uint32 [len(layers), 2].

    `first`: how many images of the batch come before those that the model gets.
    """
    for layer, key in zip(layers, keys, strict=True):
        layer.key, layer.first = key, first
    try:
        yield
    finally:
        for layer in layers:
            layer.key = None


class GlobalAveragePool(nn.Layer):
    """Global average pooling: [N, C, H, W] to [N, C]."""

    def forward(self, x):
        """See `global_average_pool`."""
        return global_average_pool(x)


class AdaptiveAvgPool2D(nn.AdaptiveAvgPool2D):
    """Average pooling to 1x1: [N, C, H, W] to [N, C, 1, 1]."""

    def forward(self, x):
        """See `global_average_pool`."""
        return global_average_pool(x).unsqueeze([2, 3])


class GlobalMaxPool(nn.Layer):
    """Global max pooling: [N, C, H, W] to [N, C]."""

    def forward(self, x):
        """Equal ones share the gradient, as in TensorFlow. Of paddle.max that is true, too, but not promised."""
        return paddle.amax(x, axis=[2, 3])


class Scale(nn.Layer):
    """x * factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        """Of any shape, to the same shape."""
        return x * self.factor


class Flatten(nn.Layer):
    """[N, C, H, W] to [N, C * H * W]."""

    def forward(self, x):
        """Channels first, then rows, then columns."""
        return x.flatten(1)


class SqueezeExcitation(nn.Layer):
    """Scale each channel by a gate computed from all channels' means (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels, reduction_ratio):
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction_ratio, bias_attr=True)
        self.excite = nn.Linear(channels // reduction_ratio, channels, bias_attr=True)

    def forward(self, x):
        """[N, channels, H, W] to the same shape."""
        gate = self.squeeze(global_average_pool(x))
        gate = F.sigmoid(self.excite(F.relu(gate)))
        return x * gate.unsqueeze([2, 3])


class Residual(nn.Layer):
    """relu(body(x) + shortcut(x)), or relu(body(x) + x) without a `shortcut` (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, body, shortcut=None):
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x):
        """Of the shape that the body gives, which is the shortcut's, too."""
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.body(x) + shortcut)


class AveragePoolPad(nn.Layer):
    """The identity shortcut to a block that halves the size and widens: 2x2 means, and zero channels at both ends."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.extra_channels = (out_channels - in_channels) // 2

    def forward(self, x):
        """[N, in_channels, H, W] to [N, out_channels, ceil(H/2), ceil(W/2)]."""
        # At an odd edge the window is cut, and only what is in the image is averaged.
        x = F.avg_pool2d(x, 2, stride=2, padding=0, ceil_mode=True, exclusive=True)
        return F.pad(x, [0, 0, self.extra_channels, self.extra_channels, 0, 0, 0, 0])


def global_average_pool(x):
    """The mean of each channel: [N, C, H, W] to [N, C].

    avg_pool2d's gradient multiplies by a float32 1/n even in float64, and mean's takes six times as long as sum's.
    """
    return paddle.sum(x, axis=[2, 3]) / (x.shape[2] * x.shape[3])
