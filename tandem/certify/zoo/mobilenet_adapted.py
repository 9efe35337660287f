"""MobileNet (Howard et al. 2017, arXiv:1704.04861) as Paddle ships it, and a Keras twin of it."""

from tandem.certify.zoo.blocks import conv_norm
from tandem.certify.zoo.mobilenet import mobilenet_paddle

BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""The channels of each block, and its stride."""


def mobilenet_adapted_paddle(num_classes, image_size=64):
    """Paddle's network, as shipped."""
    return mobilenet_paddle(num_classes)


def mobilenet_adapted_tensorflow(num_classes, image_size=64):
    """The Keras twin of Paddle's network."""
    import keras
    from keras import layers

    features = conv_norm(32, 3, 2, 1)
    for channels, stride in BLOCKS:
        features += [*conv_norm(None, 3, stride, 1), *conv_norm(channels, 1)]
    images = keras.Input((image_size, image_size, 3))
    return keras.Sequential([images, *features, layers.GlobalAveragePooling2D(), layers.Dense(num_classes)])
