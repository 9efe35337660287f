"""MobileNetV3 small (Howard et al. 2019, arXiv:1905.02244) as Paddle ships it, without dropout, and a Keras twin."""

from tandem.certify.zoo.blocks import conv_norm, without_dropout
from tandem.certify.zoo.mobilenet_v3_small import mobilenet_v3_small_paddle

import numpy as np

BLOCKS = (
    (3, 16, 16, 8, "relu", 2),
    (3, 72, 24, None, "relu", 2),
    (3, 88, 24, None, "relu", 1),
    (5, 96, 40, 24, "hard_swish", 2),
    (5, 240, 40, 64, "hard_swish", 1),
    (5, 240, 40, 64, "hard_swish", 1),
    (5, 120, 48, 32, "hard_swish", 1),
    (5, 144, 48, 40, "hard_swish", 1),
    (5, 288, 96, 72, "hard_swish", 2),
    (5, 576, 96, 144, "hard_swish", 1),
    (5, 576, 96, 144, "hard_swish", 1),
)
"""Of each block: the depthwise kernel, the channels within and after it, those of squeeze-and-excitation (None for no
such), activation, stride."""

NORM = {"momentum": 0.99, "epsilon": 1e-3}
"""Batch norm's, unlike those of Paddle's other networks."""

HARD_SIGMOID_SLOPE = float(np.float32(0.1666667))
"""The default of `paddle.nn.functional.hardsigmoid`, which its kernel reads as a C++ float."""


def mobilenet_v3_small_adapted_paddle(num_classes, image_size=64):
    """Paddle's network without its dropout."""
    return without_dropout(mobilenet_v3_small_paddle(num_classes))


def squeeze_excitation(x, channels, squeezed):
    """Paddle's SqueezeExcitation (Hu et al. 2018, arXiv:1709.01507) in Keras: [N, H, W, channels] to the same shape."""
    import keras
    from keras import layers

    gate = [
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Conv2D(squeezed, 1),
        layers.Activation("relu"),
        layers.Conv2D(channels, 1),
        layers.Rescaling(HARD_SIGMOID_SLOPE, offset=0.5),
        layers.ReLU(max_value=1.0),
    ]
    return layers.Multiply()([keras.Sequential(gate)(x), x])


def mobilenet_v3_small_adapted_tensorflow(num_classes, image_size=64):
    """The Keras twin of Paddle's network."""
    import keras
    from keras import layers

    images = keras.Input((image_size, image_size, 3))
    x = keras.Sequential(conv_norm(16, 3, 2, 1, "hard_swish", **NORM))(images)
    for kernel_size, expanded, channels, squeezed, activation, stride in BLOCKS:
        expand = conv_norm(expanded, 1, activation=activation, **NORM) if expanded != x.shape[-1] else []
        depthwise = conv_norm(None, kernel_size, stride, kernel_size // 2, activation, **NORM)
        y = keras.Sequential([*expand, *depthwise])(x)
        if squeezed:
            y = squeeze_excitation(y, expanded, squeezed)
        y = keras.Sequential(conv_norm(channels, 1, activation=None, **NORM))(y)
        x = layers.Add()([x, y]) if y.shape == x.shape else y
    head = [
        *conv_norm(576, 1, activation="hard_swish", **NORM),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1024, activation="hard_swish"),
        layers.Dense(num_classes),
    ]
    return keras.Model(images, keras.Sequential(head)(x))
