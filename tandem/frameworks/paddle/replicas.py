"""Several processes that train together, by paddle.distributed: gloo on CPUs, NCCL on GPUs.

Twin of tensorflow/replicas.py.
"""

import os

from tandem.frameworks import base, environment

import numpy as np

with environment.loading():
    import paddle
    import paddle.nn.functional as F


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
        if self.rank == 0 and (address := _master()):
            base.check_port(0, address)  # where it is taken, Paddle aborts
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

    `x` is [N, C, H, W] or [N, C], the rest [C]. `nn.SyncBatchNorm` has no kernel for CPUs. Here Paddle's kernels
    compute what is of the slice; the statistics take a sum and the gradient one. It computes in the type of `weight`,
    which is wider than 16 bits.
    """
    return _BatchNorm.apply(x, weight, bias, epsilon, replicas)


class _BatchNorm(paddle.autograd.PyLayer):
    """The gradient is that of Ioffe & Szegedy 2015, section 3, with sums over all processes.

    The part of it that goes through mean and variance is itself a normalisation of x, with another weight and bias.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, epsilon, replicas):
        ctx.replicas, ctx.epsilon = replicas, epsilon
        # Of weight and bias, Paddle's own gives both gradients or none.
        fixed = weight.stop_gradient or bias.stop_gradient
        ctx.fixed = x.stop_gradient, fixed, fixed
        wide = x.astype(weight.dtype)
        count = paddle.full([1], x.size // weight.size, weight.dtype)
        # A row for each process: so one sum is enough, and no variance is a difference of large numbers.
        table = paddle.zeros([replicas.count, 2 * weight.size + 1], weight.dtype)
        table[replicas.rank] = paddle.concat([*_moments(wide, weight), count])
        means, variances, counts = replicas.sum([table])[0].split([weight.size, weight.size, 1], axis=1)
        elements = counts.sum()
        mean = (counts * means).sum(0) / elements
        variance = (counts * (variances + (means - mean).square())).sum(0) / elements
        y = F.batch_norm(wide, mean, variance, weight, bias, training=False, epsilon=epsilon)
        ctx.save_for_backward(wide, weight, bias, mean, variance, elements)
        ctx.mark_non_differentiable(mean, variance)
        return y.astype(x.dtype), mean, variance

    @staticmethod
    def backward(ctx, gradient, *_):
        x, weight, bias, mean, variance, elements = ctx.saved_tensor()
        given = x, weight, bias, mean, variance, mean, variance, None, gradient.astype(weight.dtype)
        # With the statistics as constants: of a layer that is not in test mode, but uses global statistics.
        of_x, of_weight, of_bias = paddle._C_ops.batch_norm_grad(*given, 0.9, ctx.epsilon, "NCHW", False, True, False)
        of_mean, of_variance = (total / elements for total in ctx.replicas.sum([of_bias, of_weight]))
        factor = weight / paddle.sqrt(variance + ctx.epsilon)
        through = F.batch_norm(
            x, mean, variance, factor * of_variance, factor * of_mean, training=False, epsilon=ctx.epsilon
        )
        gradients = (of_x - through).astype(gradient.dtype), of_weight, of_bias
        return tuple(None if fixed else gradient for fixed, gradient in zip(ctx.fixed, gradients, strict=True))


def _master():
    """The address at which the first process waits for the others, where the environment tells one: as Paddle does."""
    host, port, master, endpoints = (
        os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT", "PADDLE_MASTER", "PADDLE_TRAINER_ENDPOINTS")
    )
    return f"{host}:{port}" if host and port else master or endpoints.partition(",")[0]


def _moments(x, like):
    """Mean and biased variance of each channel of `x`, as tensors like `like`; zeros where there is no image."""
    mean, variance = paddle.zeros_like(like), paddle.zeros_like(like)
    if x.size == like.size:  # of a single element, which Paddle's kernel returns as it is
        paddle.assign(x.reshape(like.shape), mean)
    elif x.size:
        F.batch_norm(x, mean, variance, like, like, training=True, momentum=0.0)  # which sets the two
    return mean, variance
