"""Several processes that train together, by tf.distribute: a ring over gRPC on CPUs, NCCL on GPUs.

Twin of paddle/replicas.py.
"""

from tandem.frameworks import base, environment
from tandem.frameworks.tensorflow import kernels

import numpy as np

with environment.loading():
    import tensorflow as tf


class Replicas(base.Replicas):
    """This process and the others of its job: see frameworks/base.py. The environment says where they are.

    Only the strategy's all-reduce is used: variables are each process's own.

    Args:
        device: "cpu" or "gpu".

    Raises:
        UserError: an address or a port is wrong, or another process did not come.
    """

    def __init__(self, device):
        communication = tf.distribute.experimental.CommunicationImplementation
        options = tf.distribute.experimental.CommunicationOptions(
            implementation=communication.NCCL if device == "gpu" else communication.RING
        )
        self.rank, self.count = environment.place_in_job("tensorflow")
        try:
            self.strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        except Exception as error:  # TensorFlow raises many kinds
            raise base.not_joined(self.rank, error) from error
        self._sum_compiled = tf.function(self._sum)

    def sum(self, tensors):
        """The sums of `tensors` over all processes. In a graph TensorFlow packs them into buffers."""
        return (self._sum_compiled if tf.executing_eagerly() else self._sum)(tensors)

    def gather(self, numbers):
        """The `numbers` of each process, float64 [count, len(numbers)]: a sum of tables that hold one row each."""
        table = np.zeros([self.count, len(numbers)])
        table[self.rank] = numbers
        return self.sum([tf.constant(table)])[0].numpy()

    def _sum(self, tensors):
        def in_replica(tensors):
            tensors = [tf.identity(tensor) for tensor in tensors]  # on the device of the replica, which it asks for
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensors)

        return self.strategy.run(in_replica, (tensors,))


def batch_norm(x, weight, bias, epsilon, replicas):
    """Batch normalisation in training over the batch of all `replicas`; also its mean and biased variance.

    `x` is [N, H, W, C], the rest [C]. Keras' `synchronized=True` takes the variance as a difference of two means, which
    loses digits. Here TensorFlow's kernels compute what is of the slice; the statistics take a sum and the gradient
    one. They compute in the type of `weight`, which is wider than 16 bits.
    """

    @tf.custom_gradient
    def normalise(x, weight, bias):
        count = tf.cast(tf.size(x) // weight.shape[0], weight.dtype)
        _, *own = kernels.batch_norm(x, weight, bias, None, None, epsilon, training=True)
        own = tf.concat([*(tf.where(count > 0, moment, 0) for moment in own), [count]], 0)  # of no image they are NaN
        # A row for each process: so one sum is enough, and no variance is a difference of large numbers.
        table = tf.one_hot(replicas.rank, replicas.count, dtype=own.dtype)[:, None] * own
        means, variances, counts = tf.split(replicas.sum([table])[0], [weight.shape[0], weight.shape[0], 1], axis=1)
        elements = tf.reduce_sum(counts)
        mean = tf.reduce_sum(counts * means, 0) / elements
        variance = tf.reduce_sum(counts * (variances + (means - mean) ** 2), 0) / elements
        with tf.GradientTape() as tape:
            tape.watch([x, weight, bias])
            y, _, _ = kernels.batch_norm(x, weight, bias, mean, variance, epsilon, training=False)

        def gradients(gradient, *_):
            of_x, of_weight, of_bias = tape.gradient(y, [x, weight, bias], gradient)
            of_mean, of_variance = (total / elements for total in replicas.sum([of_bias, of_weight]))
            factor = weight / tf.sqrt(variance + epsilon)
            # What goes through mean and variance is itself a normalisation of x, with another weight and bias.
            given = x, factor * of_variance, factor * of_mean, mean, variance
            through, _, _ = kernels.batch_norm(*given, epsilon, training=False)
            return of_x - through, of_weight, of_bias

        return (y, mean, variance), gradients

    return normalise(x, weight, bias)
