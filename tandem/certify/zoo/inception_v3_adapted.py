"""Inception-v3 (Szegedy et al. 2016, arXiv:1512.00567) as Paddle ships it, its dropout off, and a Keras twin of it."""

from tandem.certify.zoo.blocks import conv_norm, without_dropout
from tandem.certify.zoo.inception_v3 import inception_v3_paddle


def inception_v3_adapted_paddle(num_classes, image_size=75):
    """Paddle's network without its dropout, which also multiplied the features by 0.8 in evaluation."""
    return without_dropout(inception_v3_paddle(num_classes))


def inception_v3_adapted_tensorflow(num_classes, image_size=75):
    """The Keras twin of Paddle's network. Each branch is a Sequential, so branches run one after another."""
    import keras
    from keras import layers

    images = keras.Input((image_size, image_size, 3))
    x = keras.Sequential(
        [
            *conv_norm(32, 3, 2),
            *conv_norm(32, 3),
            *conv_norm(64, 3, padding=1),
            layers.MaxPooling2D(3, 2),
            *conv_norm(80, 1),
            *conv_norm(192, 3),
            layers.MaxPooling2D(3, 2),
        ]
    )(images)
    for pooled in (32, 64, 64):
        x = concatenated(
            x,
            conv_norm(64, 1),
            [*conv_norm(48, 1), *conv_norm(64, 5, padding=2)],
            [*conv_norm(64, 1), *conv_norm(96, 3, padding=1), *conv_norm(96, 3, padding=1)],
            average_pool_branch(pooled),
        )
    x = concatenated(
        x,
        conv_norm(384, 3, 2),
        [*conv_norm(64, 1), *conv_norm(96, 3, padding=1), *conv_norm(96, 3, 2)],
        [layers.MaxPooling2D(3, 2)],
    )
    for channels in (128, 160, 160, 192):
        x = concatenated(
            x,
            conv_norm(192, 1),
            [*conv_norm(channels, 1), *row(channels, 7), *column(192, 7)],
            [
                *conv_norm(channels, 1),
                *column(channels, 7),
                *row(channels, 7),
                *column(channels, 7),
                *row(192, 7),
            ],
            average_pool_branch(192),
        )
    x = concatenated(
        x,
        [*conv_norm(192, 1), *conv_norm(320, 3, 2)],
        [*conv_norm(192, 1), *row(192, 7), *column(192, 7), *conv_norm(192, 3, 2)],
        [layers.MaxPooling2D(3, 2)],
    )
    for _ in range(2):
        x = concatenated(
            x,
            conv_norm(320, 1),
            [*conv_norm(384, 1), fork()],
            [*conv_norm(448, 1), *conv_norm(384, 3, padding=1), fork()],
            average_pool_branch(192),
        )
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(num_classes)(x))


def concatenated(x, *branches):
    """What each of `branches`, lists of Keras layers, makes of `x`, side by side: [N, H, W, their channels]."""
    import keras

    return keras.layers.Concatenate()([keras.Sequential(branch)(x) for branch in branches])


def row(channels, size):
    """A convolution over `size` pixels of a row, and what follows it: Keras layers."""
    return conv_norm(channels, (1, size), padding=(0, size // 2))


def column(channels, size):
    """A convolution over `size` pixels of a column, and what follows it: Keras layers."""
    return conv_norm(channels, (size, 1), padding=(size // 2, 0))


def average_pool_branch(channels):
    """Means of 3x3 pixels, the zeros around the image among them, and a 1x1 convolution: Keras layers."""
    from keras import layers

    return [layers.ZeroPadding2D(1), layers.AveragePooling2D(3, 1), *conv_norm(channels, 1)]


def fork():
    """Two convolutions of the same 384 channels, side by side: a Keras model."""
    import keras

    x = keras.Input((None, None, 384))
    return keras.Model(x, concatenated(x, row(384, 3), column(384, 3)))
