"""Inception-v3 (Szegedy et al. 2016, arXiv:1512.00567) as each framework ships it, and a Keras twin of Paddle's.

Neither has the paper's auxiliary classifier.
"""

from tandem.certify.zoo.blocks import AVERAGE_GRADIENT, conv_norm, without_dropout

DIFFERENCES = (
    ("batch norm, scale", "one for each channel", "none: scale=False", "layers.BatchNormalization with its scale"),
    ("batch norm, epsilon", "1e-5 as a C++ float", "1e-3", "epsilon=float(np.float32(1e-5))"),
    ("batch norm, momentum", "0.9 as a C++ float", "0.99", "momentum=float(np.float32(0.9))"),
    (
        "3x3 average pool at an edge",
        "the sum divided by 9, with the zeros outside: exclusive=False",
        "divided by the number of pixels inside",
        "layers.ZeroPadding2D(1), layers.AveragePooling2D(3, 1)",
    ),
    (
        "dropout",
        'Dropout(0.2, mode="downscale_in_infer"): in evaluation the features are multiplied by 0.8',
        "none",
        "p = 0 in Paddle's nn.Dropout, which ends the factor, too; with p = 0.2, fc.weight / 0.8 in evaluation",
    ),
    (
        "order within a block",
        "branch after branch",
        "by depth in the graph, so the branches' layers alternate",
        "a keras.Sequential for each branch",
    ),
    AVERAGE_GRADIENT,
)
"""Between the two as shipped: where, in Paddle, in Keras, and what makes them equal."""


def inception_v3_paddle(num_classes, image_size=75):
    """`paddle.vision.models.inception_v3`, for any image size from 75."""
    from paddle.vision.models import inception_v3

    return inception_v3(num_classes=num_classes)


def inception_v3_tensorflow(num_classes, image_size=75):
    """`keras.applications.InceptionV3` for images of `image_size` pixels a side, 75 or more."""
    from keras.applications import InceptionV3

    shape = (image_size, image_size, 3)
    return InceptionV3(weights=None, input_shape=shape, classes=num_classes, classifier_activation=None)


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
