"""What is there for speed, each beside the plain form that it equals. Twin of tensorflow/kernels.py.

With TANDEM_FAST_KERNELS=0 only the plain forms are used: see environment.py. Images are [N, C, H, W].
"""

import functools
import math
from concurrent.futures import ThreadPoolExecutor

from tandem.frameworks import environment
from tandem.frameworks.paddle import onednn

with environment.loading():
    import paddle
    import paddle.nn.functional as F

_threads = 1
_pool = ThreadPoolExecutor(1)

_SHARED_OUT = 2**19
"""Threads share a convolution without groups from so many MACs an image: for fewer it is not worth it."""


def set_threads(count):
    """Use `count` CPU threads. Call it before the first layer computes."""
    global _threads, _pool
    _threads, _pool = count, ThreadPoolExecutor(count)
    paddle.base.core.set_num_threads(count)
    _plan.cache_clear()  # a plan is for as many threads as there were


def conv2d(x, weight, stride, padding, groups):
    """`plain_conv2d`, faster: on a CPU by oneDNN in float32, otherwise threads share the images of a batch.

    Paddle's CPU kernel (paddle/phi/kernels/impl/conv_kernel_impl.h) makes one matrix product an image and a group, and
    does the rest of its work on one core. On a GPU cuDNN needs no threads.
    """
    # A traced graph stays one operator.
    if not environment.FAST_KERNELS or not paddle.in_dynamic_mode() or x.place.is_gpu_place() or not x.size:
        return plain_conv2d(x, weight, stride, padding, groups)
    if onednn.found and x.dtype == weight.dtype == paddle.float32:
        if padding == 0 and not onednn.is_safe(weight.shape, stride):
            x, stride = x[:, :, ::stride, ::stride], 1
        plan = _plan(tuple(x.shape), tuple(weight.shape), stride, padding, groups)
        if plan is not None:
            return _OneDNNConvolution.apply(x, weight, plan)
    parts = min(_threads, x.shape[0])
    macs = math.prod(weight.shape) * (x.shape[2] // stride) * (x.shape[3] // stride)
    small = groups == 1 and macs < _SHARED_OUT
    if small or parts < 2:
        return plain_conv2d(x, weight, stride, padding, groups)
    return _ConvolutionInParts.apply(x, weight, stride, padding, groups, parts)


def plain_conv2d(x, weight, stride, padding, groups):
    """Put `padding` zeros on every side; convolve each of `groups` slices of the channels with its slice of `weight`.

    Weight: [out_channels, in_channels / groups, kernel_size, kernel_size].
    """
    return F.conv2d(x, weight, bias=None, stride=stride, padding=padding, groups=groups)


class _OneDNNConvolution(paddle.autograd.PyLayer):
    """A convolution on a CPU in float32."""

    @staticmethod
    def forward(ctx, x, weight, plan):
        ctx.plan, ctx.needs = plan, (not x.stop_gradient, not weight.stop_gradient)
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        return plan.convolve(x, weight)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.plan.differentiate(*ctx.saved_tensor(), gradient.contiguous(), *ctx.needs)


@functools.lru_cache(512)
def _plan(x_shape, weight_shape, stride, padding, groups):
    """How oneDNN convolves, which takes milliseconds to make; None where it cannot or is slow, or for a wrong shape."""
    if not onednn.is_safe(weight_shape, stride):
        return None
    try:
        plan = onednn.Convolution(x_shape, weight_shape, stride, padding, groups)
        return None if plan.is_slow else plan
    except RuntimeError:
        return None


class _ConvolutionInParts(paddle.autograd.PyLayer):
    """A convolution on a CPU, whose threads share the batch. Paddle's operators release Python's lock."""

    @staticmethod
    def forward(ctx, x, weight, stride, padding, groups, parts):
        ctx.save_for_backward(x, weight)
        ctx.parts = parts
        ctx.of_data = x.stop_gradient
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
        return None if ctx.of_data else paddle.concat(of_x), paddle.add_n(of_weight)


def _in_threads(function, *arguments):
    """Like map, but each call runs in a thread of its own, with one MKL thread."""
    paddle.base.core.set_num_threads(1)
    try:
        return list(_pool.map(function, *arguments))
    finally:
        paddle.base.core.set_num_threads(_threads)
