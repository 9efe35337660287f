"""Layers whose meaning differs between the frameworks, with one meaning here. Twin of layers_tensorflow.py.

Images are [N, C, H, W]. Nothing rests on a default: padding, bias, epsilon and momentum are written out.
"""

from concurrent.futures import ThreadPoolExecutor

from tandem import environment

with environment.quiet():
    import paddle
    import paddle.nn.functional as F
    from paddle import nn

BATCH_NORM_MOMENTUM = 0.9  # Paddle keeps both as C++ float, also in float64: 0.9 is 0.8999999762
BATCH_NORM_EPSILON = 1e-5


_threads = 1
_pool = ThreadPoolExecutor(1)


def set_threads(count):
    """Use `count` CPU threads. Call it before the first layer computes."""
    global _threads, _pool
    _threads, _pool = count, ThreadPoolExecutor(count)
    paddle.base.core.set_num_threads(count)


class Conv2D(nn.Conv2D):
    """A convolution without bias; `padding` pixels of zeros on every side, then only whole windows.

    Weight: [out_channels, in_channels / groups, kernel_size, kernel_size].
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, groups=1):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias_attr=False)
        self.stride = stride
        self.padding = padding
        self.groups = groups

    def forward(self, x):
        """[N, in_channels, H, W] to [N, out_channels, H', W'], H' = (H + 2*padding - kernel_size) // stride + 1."""
        return grouped_conv2d(x, self.weight, self.stride, self.padding, self.groups)


def grouped_conv2d(x, weight, stride, padding, groups):
    """Convolve each of `groups` slices of the channels with its own slice of `weight`.

    cuDNN has grouped convolutions on a GPU. Paddle's CPU kernel (paddle/phi/kernels/impl/conv_kernel_impl.h) makes one
    matrix product an image and a group, too small to share out; so there each thread convolves images of its own.
    """
    parts = min(_threads, x.shape[0])
    if groups == 1 or parts == 1 or x.place.is_gpu_place():
        return F.conv2d(x, weight, bias=None, stride=stride, padding=padding, groups=groups)
    return _ConvolutionInParts.apply(x, weight, stride, padding, groups, parts)


class _ConvolutionInParts(paddle.autograd.PyLayer):
    """A convolution on the CPU, its batch shared out to threads. Paddle's operators release Python's lock."""

    @staticmethod
    def forward(ctx, x, weight, stride, padding, groups, parts):
        ctx.save_for_backward(x, weight)
        ctx.parts = parts
        ctx.attributes = ([stride, stride], [padding, padding], "EXPLICIT", [1, 1], groups, "NCHW")

        def convolve(part):
            with paddle.no_grad():
                return paddle._C_ops.conv2d(part, weight, *ctx.attributes)

        return paddle.concat(_in_threads(convolve, paddle.tensor_split(x, parts)))

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensor()

        def differentiate(part, gradient):
            with paddle.no_grad():
                return paddle._C_ops.conv2d_grad(part, weight, gradient, *ctx.attributes)

        parts = paddle.tensor_split(x, ctx.parts), paddle.tensor_split(gradient, ctx.parts)
        of_x, of_weight = zip(*_in_threads(differentiate, *parts), strict=True)
        return paddle.concat(of_x), paddle.add_n(of_weight)


def _in_threads(function, *arguments):
    """Like map, in a thread each, with one MKL thread for each of them."""
    paddle.base.core.set_num_threads(1)
    try:
        return list(_pool.map(function, *arguments))
    finally:
        paddle.base.core.set_num_threads(_threads)


class BatchNorm2D(nn.BatchNorm2D):
    """Batch normalisation over N, H and W (Ioffe & Szegedy 2015, arXiv:1502.03167), with the biased running variance.

    running = 0.9 * running + 0.1 * batch. Parameters weight and bias, statistics _mean and _variance, each [channels].
    """

    def __init__(self, channels):
        super().__init__(channels, momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON)


class SqueezeExcitation(nn.Layer):
    """Scale each channel by a gate computed from all channels' means (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels, reduction_ratio):
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction_ratio)
        self.excite = nn.Linear(channels // reduction_ratio, channels)

    def forward(self, x):
        """[N, channels, H, W] to the same shape."""
        gate = self.squeeze(global_average_pool(x))
        gate = F.sigmoid(self.excite(F.relu(gate)))
        return x * gate.unsqueeze([2, 3])


class Residual(nn.Layer):
    """relu(body(x) + x). Where the body halves the size and widens: x averaged 2x2, with zero channels at both ends."""

    def __init__(self, body, in_channels, out_channels):
        super().__init__()
        self.body = body
        self.extra_channels = (out_channels - in_channels) // 2

    def forward(self, x):
        """[N, in_channels, H, W] to [N, out_channels, H or ceil(H/2), W or ceil(W/2)]."""
        shortcut = x
        if self.extra_channels:
            # At an odd edge the window is cut, and only what is in the image is averaged.
            shortcut = F.avg_pool2d(x, 2, stride=2, padding=0, ceil_mode=True, exclusive=True)
            shortcut = F.pad(shortcut, [0, 0, self.extra_channels, self.extra_channels, 0, 0, 0, 0])
        return F.relu(self.body(x) + shortcut)


def global_average_pool(x):
    """[N, C, H, W] to [N, C].

    avg_pool2d's gradient multiplies by a float32 1/n even in float64, and mean's takes six times as long as sum's.
    """
    return paddle.sum(x, axis=[2, 3]) / (x.shape[2] * x.shape[3])
