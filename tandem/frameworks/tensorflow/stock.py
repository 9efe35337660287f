"""The baselines of `benchmark`: each network as a Keras user writes it, `fit`, and a matrix product.

Twin of paddle/stock.py. It has only stock layers, and nothing of Tandem: neither this module nor what it imports
may set an environment variable that TensorFlow reads. The networks have the shapes of Tandem's, and as many parameters;
SE-ResNeXt is as the article writes it, branch by branch. All take float32 [N, H, W, 3] and return logits
[N, num_classes]. The other arguments are those of Tandem's builders.
"""

import time

import keras
import tensorflow as tf
from keras import layers


def lenet5(num_classes):
    """See lenet.py."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(6, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(num_classes),
        ]
    )


def simple_cnn(num_classes):
    """See lenet.py."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(20, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(50, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dense(num_classes),
        ]
    )


def alexnet(num_classes, kernel_size, stride, padding, lrn):
    """See alexnet.py. Keras has no local response normalisation, so a user takes TensorFlow's."""

    def pool(x):  # of 3 with stride 2, whose last window may be cut
        return layers.MaxPooling2D(3, 2, padding="valid" if x.shape[1] in range(3, 32, 2) else "same")(x)

    def normalise(x):
        return layers.Lambda(lambda x: tf.nn.local_response_normalization(x, 2, 1.0, 2e-5, 0.75))(x) if lrn else x

    images = keras.Input((32, 32, 3))
    x = layers.ZeroPadding2D(padding)(images)
    x = pool(normalise(layers.Conv2D(96, kernel_size, stride, activation="relu")(x)))
    x = pool(normalise(layers.Conv2D(256, 5, padding="same", activation="relu")(x)))
    for channels in (384, 384, 256):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(pool(x))
    for _ in range(2):
        x = layers.Dropout(0.5)(layers.Dense(4096, activation="relu")(x))
    return keras.Model(images, layers.Dense(num_classes)(x))


def vgg(num_classes, depth, batch_norm, conv_dropout, dense_dropout):
    """See vgg.py."""
    images = x = keras.Input((32, 32, 3))
    for group, count in enumerate(VGG_COUNTS[depth]):
        for index in range(count):
            x = layers.Conv2D(min(64 * 2**group, 512), 3, padding="same", use_bias=not batch_norm)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x) if batch_norm else x)
            if conv_dropout and index < count - 1:
                x = layers.Dropout(0.4 if group else 0.3)(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    if batch_norm:
        x = layers.Dense(512, use_bias=False)(layers.Dropout(dense_dropout)(x))
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Dense(512)(layers.Dropout(dense_dropout)(x))
    else:
        for _ in range(2):
            x = layers.Dropout(dense_dropout)(layers.Dense(2048, activation="relu")(x))
    return keras.Model(images, layers.Dense(num_classes)(x))


def resnet_cifar(num_classes, depth, bottleneck, widths):
    """See resnet_cifar.py."""
    expansion, layers_of_block = (4, 3) if bottleneck else (1, 2)
    images = keras.Input((None, None, 3))
    x = layers.ReLU()(conv_bn(images, widths[0], 3))
    for stage, width in enumerate(widths):
        for index in range((depth - 2) // (3 * layers_of_block)):
            stride = 2 if stage and not index else 1
            if bottleneck:
                y = layers.ReLU()(conv_bn(x, width, 1, stride))
                y = layers.ReLU()(conv_bn(y, width, 3))
                y = conv_bn(y, expansion * width, 1)
            else:
                y = layers.ReLU()(conv_bn(x, width, 3, stride))
                y = conv_bn(y, width, 3)
            same = stride == 1 and x.shape[-1] == expansion * width
            x = residual(y, x if same else conv_bn(x, expansion * width, 1, stride))
    return keras.Model(images, layers.Dense(num_classes)(layers.GlobalAveragePooling2D()(x)))


def resnet_fast(num_classes, blocks, widths):
    """See resnet_fast.py."""
    images = keras.Input((None, None, 3))
    x = layers.Conv2D(24, 2, activation="relu")(images)
    for width in widths:
        for index in range(blocks):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            if not index:
                x = layers.MaxPooling2D()(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
            x = residual(conv_bn(x, width, 3), x)
    x = layers.Dense(num_classes)(layers.GlobalMaxPooling2D()(x))
    return keras.Model(images, layers.Rescaling(0.125)(x))


def se_resnext(num_classes, num_block, depth, out_dims, cardinality, reduction_ratio):
    """See se_resnext_tensorflow.py."""
    images = keras.Input((None, None, 3))
    x = layers.ReLU()(conv_bn(images, out_dims[0], 3))
    in_dim = out_dims[0]
    for out_dim in out_dims:
        for _ in range(num_block):
            x = block(x, in_dim, out_dim, depth, cardinality, reduction_ratio)
            in_dim = out_dim
    return keras.Model(images, layers.Dense(num_classes)(layers.GlobalAveragePooling2D()(x)))


NETWORKS = {
    "lenet5": lenet5,
    "simple_cnn": simple_cnn,
    "alexnet": alexnet,
    "vgg": vgg,
    "resnet_cifar": resnet_cifar,
    "resnet_fast": resnet_fast,
    "se_resnext": se_resnext,
}
"""The builders, by the network's name in a config."""

VGG_COUNTS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each group of a VGG, by depth."""


def conv_bn(x, channels, kernel_size, stride=1):
    """Convolution and batch norm: [N, H, W, any] to [N, H / stride, W / stride, channels]."""
    x = layers.Conv2D(channels, kernel_size, strides=stride, padding="same", use_bias=False)(x)
    return layers.BatchNormalization()(x)


def residual(y, shortcut):
    """relu(y + shortcut)."""
    return layers.ReLU()(layers.Add()([y, shortcut]))


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
    return residual(y, x)


class StepTimer(keras.callbacks.Callback):
    """Waits before each training step, and times it: forward, backward and update, without the wait for data.

    Args:
        before: is called before each step.
        after: is called after it, with its seconds.
    """

    def __init__(self, before, after):
        super().__init__()
        self.before, self.after = before, after

    def on_train_batch_begin(self, batch, logs=None):
        """Wait, then start the clock."""
        self.before()
        self.started = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        """Stop the clock. Keras has read the loss, so the step is done on a GPU too."""
        self.after(time.monotonic() - self.started)


def train(model, images, labels, batch_size, before, after, learning_rate, momentum, nesterov, weight_decay):
    """Train one epoch with `Model.fit`. `before` and `after`: see `StepTimer`.

    `images`: float32 [N, 3, H, W], normalised, transposed here to channels last; `labels`: int64 [N]. Keras' weight
    decay is decoupled from the gradient, which is the same amount of work.
    """
    model.compile(
        keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    images = images.transpose(0, 2, 3, 1).copy()
    model.fit(images, labels, batch_size=batch_size, callbacks=[StepTimer(before, after)], verbose=0)


def matrix_product(size, precision):
    """A function that multiplies two matrices [size, size] on the device and waits for the result."""
    matrix = tf.cast(tf.random.normal([size, size]), precision)
    return lambda: tf.linalg.matmul(matrix, matrix)[0, 0].numpy()
