"""ResNet-50 (He et al. 2016, arXiv:1512.03385) as Paddle ships it, and a Keras twin of it."""

from tandem.certify.zoo.blocks import conv_norm
from tandem.certify.zoo.resnet50 import resnet50_paddle

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""The channels of each stage's 3x3 convolutions, and its blocks."""


def resnet50_adapted_paddle(num_classes, image_size=64):
    """Paddle's network, as shipped."""
    return resnet50_paddle(num_classes)


def resnet50_adapted_tensorflow(num_classes, image_size=64):
    """The Keras twin of Paddle's network."""
    import keras
    from keras import layers

    images = keras.Input((image_size, image_size, 3))
    stem = [*conv_norm(64, 7, 2, 3), layers.ZeroPadding2D(1), layers.MaxPooling2D(3, 2)]
    x = keras.Sequential(stem)(images)
    for stage, (channels, blocks) in enumerate(STAGES):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            body = [*conv_norm(channels, 1), *conv_norm(channels, 3, stride, 1)]
            body += conv_norm(4 * channels, 1, activation=None)
            shortcut = x if block else keras.Sequential(conv_norm(4 * channels, 1, stride, activation=None))(x)
            x = layers.ReLU()(layers.Add()([keras.Sequential(body)(x), shortcut]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(num_classes)(x))
