"""The baselines of `benchmark`: SE-ResNeXt as a Keras user writes it from the article, `fit`, and a matrix product.

Twin of paddle/stock.py. It has only stock layers, one for each branch, and nothing of Tandem: neither this module nor
what it imports may set an environment variable that TensorFlow reads.
"""

import time

import keras
import tensorflow as tf
from keras import layers


def conv_bn(x, channels, kernel_size, stride=1):
    """Convolution and batch norm: [N, H, W, any] to [N, H / stride, W / stride, channels]."""
    x = layers.Conv2D(channels, kernel_size, strides=stride, padding="same", use_bias=False)(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def branch(x, depth, stride):
    """One of the branches of a block: 1x1 to `depth` channels, then 3x3."""
    x = layers.ReLU()(conv_bn(x, depth, 1))
    return layers.ReLU()(conv_bn(x, depth, 3, stride))


def squeeze_excitation(x, channels, reduction_ratio):
    """Scale each channel by a gate, computed from the means of all channels."""
    gate = layers.GlobalAveragePooling2D()(x)
    gate = layers.Dense(channels // reduction_ratio, activation="relu")(gate)
    gate = layers.Dense(channels, activation="sigmoid")(gate)
    return layers.Multiply()([x, layers.Reshape((1, 1, channels))(gate)])


def block(x, in_dim, out_dim, depth, cardinality, reduction_ratio):
    """Branches, transition, gate, and the shortcut: if wider, a 2x2 average pool and zero channels at both ends."""
    stride = 1 if in_dim == out_dim else 2
    y = layers.Concatenate()([branch(x, depth, stride) for _ in range(cardinality)])
    y = squeeze_excitation(conv_bn(y, out_dim, 1), out_dim, reduction_ratio)
    if stride == 2:
        extra = (out_dim - in_dim) // 2
        x = layers.AveragePooling2D(2, padding="same")(x)
        x = keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [extra, extra]])
    return layers.ReLU()(layers.Add()([y, x]))


def build(num_classes, num_block, depth, out_dims, cardinality, reduction_ratio):
    """The network, a keras.Model: float32 [N, H, W, 3] to logits [N, num_classes]. Arguments: see SE_ResNeXt."""
    images = keras.Input((None, None, 3))
    x = layers.ReLU()(conv_bn(images, out_dims[0], 3))
    in_dim = out_dims[0]
    for out_dim in out_dims:
        for _ in range(num_block):
            x = block(x, in_dim, out_dim, depth, cardinality, reduction_ratio)
            in_dim = out_dim
    return keras.Model(images, layers.Dense(num_classes)(layers.GlobalAveragePooling2D()(x)))


class StepTimer(keras.callbacks.Callback):
    """Collects the time of each training step in `seconds`: forward, backward and update, without the wait for data."""

    def on_train_begin(self, logs=None):
        """Clear the times."""
        self.seconds = []

    def on_train_batch_begin(self, batch, logs=None):
        """Start the clock."""
        self.started = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        """Stop the clock. Keras has read the loss, so the step is done on a GPU too."""
        self.seconds.append(time.monotonic() - self.started)


def train(model, images, labels, batch_size, learning_rate, momentum, nesterov, weight_decay):
    """Train one epoch with `Model.fit`; return the seconds of each step.

    `images`: float32 [N, 3, H, W], normalised, transposed here to channels last; `labels`: int64 [N]. Keras' weight
    decay is decoupled from the gradient, which is the same amount of work.
    """
    timer = StepTimer()
    model.compile(
        keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    images = images.transpose(0, 2, 3, 1).copy()
    model.fit(images, labels, batch_size=batch_size, callbacks=[timer], verbose=0)
    return timer.seconds


def matrix_product(size, precision):
    """A function that multiplies two matrices [size, size] on the device and waits for the result."""
    matrix = tf.cast(tf.random.normal([size, size]), precision)
    return lambda: tf.linalg.matmul(matrix, matrix)[0, 0].numpy()
