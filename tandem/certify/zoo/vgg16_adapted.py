"""VGG-16 (Simonyan & Zisserman 2015, arXiv:1409.1556) as Paddle ships it, its dropout off, and a Keras twin of it."""

from tandem.certify.zoo.blocks import without_dropout
from tandem.certify.zoo.vgg16 import vgg16_paddle


def vgg16_adapted_paddle(num_classes, image_size=64):
    """Paddle's network without its dropout."""
    return without_dropout(vgg16_paddle(num_classes))


def vgg16_adapted_tensorflow(num_classes, image_size=64):
    """The Keras twin of Paddle's network: Keras' own convolutions, then Paddle's pool and order of features."""
    import keras
    from keras import layers

    shape = (image_size, image_size, 3)
    return keras.Sequential(
        [
            keras.applications.VGG16(weights=None, input_shape=shape, include_top=False),
            layers.AdaptiveAveragePooling2D(7),
            layers.Permute((3, 1, 2)),
            layers.Flatten(),
            layers.Dense(4096, activation="relu"),
            layers.Dense(4096, activation="relu"),
            layers.Dense(num_classes),
        ]
    )
