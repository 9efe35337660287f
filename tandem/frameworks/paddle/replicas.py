"""Several processes that train together, by paddle.distributed: gloo on CPUs, NCCL on GPUs.

Twin of tensorflow/replicas.py.
"""

import os

from tandem.frameworks import base, environment

import numpy as np

with environment.quiet():
    import paddle


class Replicas(base.Replicas):
    """This process and the others of its job: see frameworks/base.py. The environment says where they are.

    Args:
        device: "cpu" or "gpu".

    Raises:
        UserError: an address or a port is wrong, or another process did not come.
    """

    def __init__(self, device):
        if device == "cpu":
            os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"  # also where this Paddle could do GPUs
        self.rank, self.count = environment.place_in_job("paddle")
        try:
            paddle.distributed.init_parallel_env()
        except Exception as error:  # Paddle raises many kinds
            raise base.not_joined(self.rank, error) from error

    def sum(self, tensors):
        """The sums of `tensors` over all processes: one all-reduce of one buffer."""
        with paddle.no_grad():
            buffer = paddle.concat([tensor.flatten() for tensor in tensors])
            paddle.distributed.all_reduce(buffer)
            parts = buffer.split([tensor.size for tensor in tensors])
            return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def gather(self, numbers):
        """The `numbers` of each process, float64 [count, len(numbers)]: a sum of tables that hold one row each."""
        table = np.zeros([self.count, len(numbers)])
        table[self.rank] = numbers
        return self.sum([paddle.to_tensor(table)])[0].numpy()


def batch_norm(x, weight, bias, epsilon, replicas):
    """Batch normalisation in training over the batch of all `replicas`; also its mean and biased variance.

    `x` is [N, C, H, W] or [N, C], the rest [C]. `nn.SyncBatchNorm` has no kernel for CPUs. Here mean and variance take
    a sum each and the gradient one. It computes in the type of `weight`, which is wider than 16 bits.
    """
    return _BatchNorm.apply(x, weight, bias, epsilon, replicas)


class _BatchNorm(paddle.autograd.PyLayer):
    """The gradient is that of Ioffe & Szegedy 2015, section 3, with sums over all processes."""

    @staticmethod
    def forward(ctx, x, weight, bias, epsilon, replicas):
        ctx.replicas, ctx.of_data = replicas, x.stop_gradient
        ctx.axes = [0, *range(2, x.ndim)]
        ctx.shape = [1, -1, *[1] * (x.ndim - 2)]
        wide = x.astype(weight.dtype)
        elements = paddle.full([1], x.size // weight.size, weight.dtype)
        total, elements = replicas.sum([wide.sum(ctx.axes), elements])
        mean = total / elements
        centred = wide - mean.reshape(ctx.shape)
        (squares,) = replicas.sum([(centred * centred).sum(ctx.axes)])
        variance = squares / elements
        factor = 1.0 / paddle.sqrt(variance + epsilon)
        normal = centred * factor.reshape(ctx.shape)
        y = normal * weight.reshape(ctx.shape) + bias.reshape(ctx.shape)
        ctx.save_for_backward(normal, weight * factor, elements)
        ctx.mark_non_differentiable(mean, variance)
        return y.astype(x.dtype), mean, variance

    @staticmethod
    def backward(ctx, gradient, *_):
        normal, factor, elements = ctx.saved_tensor()
        wide = gradient.astype(normal.dtype)
        of_bias, of_weight = wide.sum(ctx.axes), (wide * normal).sum(ctx.axes)
        if ctx.of_data:
            return None, of_weight, of_bias
        means = [(total / elements).reshape(ctx.shape) for total in ctx.replicas.sum([of_bias, of_weight])]
        of_x = factor.reshape(ctx.shape) * (wide - means[0] - normal * means[1])
        return of_x.astype(gradient.dtype), of_weight, of_bias
