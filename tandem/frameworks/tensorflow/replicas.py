"""Several processes that train together, by tf.distribute: a ring over gRPC on CPUs, NCCL on GPUs.

Twin of paddle/replicas.py.
"""

from tandem.frameworks import base, environment

import numpy as np

with environment.quiet():
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
    loses digits. Here mean and variance take a sum each and the gradient one. It computes in the type of `weight`,
    which is wider than 16 bits.
    """
    axes = [0, 1, 2]

    @tf.custom_gradient
    def normalise(x, weight, bias):
        wide = tf.cast(x, weight.dtype)
        elements = tf.cast(tf.size(x) // weight.shape[0], weight.dtype)
        total, elements = replicas.sum([tf.reduce_sum(wide, axes), elements])
        mean = total / elements
        centred = wide - mean
        (squares,) = replicas.sum([tf.reduce_sum(centred * centred, axes)])
        variance = squares / elements
        factor = 1.0 / tf.sqrt(variance + epsilon)
        normal = centred * factor
        y = normal * weight + bias

        def gradients(gradient, *_):
            wide = tf.cast(gradient, weight.dtype)
            of_bias, of_weight = tf.reduce_sum(wide, axes), tf.reduce_sum(wide * normal, axes)
            means = [total / elements for total in replicas.sum([of_bias, of_weight])]
            of_x = weight * factor * (wide - means[0] - normal * means[1])
            return tf.cast(of_x, gradient.dtype), of_weight, of_bias

        return (tf.cast(y, x.dtype), mean, variance), gradients

    return normalise(x, weight, bias)
