"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) as Paddle ships it, its dropout off, and a Keras twin of it."""

from tandem.certify.zoo.blocks import conv_norm, without_dropout
from tandem.certify.zoo.mobilenet_v2 import mobilenet_v2_paddle

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Of each stage: the factor of the channels within a block, the channels after it, the blocks, the first's stride."""


def mobilenet_v2_adapted_paddle(num_classes, image_size=64):
    """Paddle's network without its dropout."""
    return without_dropout(mobilenet_v2_paddle(num_classes))


def mobilenet_v2_adapted_tensorflow(num_classes, image_size=64):
    """The Keras twin of Paddle's network."""
    import keras
    from keras import layers

    images = keras.Input((image_size, image_size, 3))
    x = keras.Sequential(conv_norm(32, 3, 2, 1, "relu6"))(images)
    for factor, channels, blocks, first_stride in STAGES:
        for block in range(blocks):
            expanded, stride = factor * x.shape[-1], 1 if block else first_stride
            body = conv_norm(expanded, 1, activation="relu6") if factor > 1 else []
            body += [*conv_norm(None, 3, stride, 1, "relu6"), *conv_norm(channels, 1, activation=None)]
            y = keras.Sequential(body)(x)
            x = layers.Add()([x, y]) if block else y
    x = keras.Sequential(conv_norm(1280, 1, activation="relu6"))(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(num_classes)(x))
