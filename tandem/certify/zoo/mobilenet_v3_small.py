"""MobileNetV3 small (Howard et al. 2019, arXiv:1905.02244) as each framework ships it, and a Keras twin of Paddle's."""

from tandem.certify.zoo.blocks import AVERAGE_GRADIENT, DEPTHWISE, STRIDED_PADDING, conv_norm, without_dropout

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

DIFFERENCES = (
    (
        "scale of the images",
        "as given",
        "layers.Rescaling(1 / 127.5, -1) first, for pixels from 0 to 255",
        "the argument include_preprocessing=False",
    ),
    STRIDED_PADDING,
    DEPTHWISE,
    ("batch norm, epsilon", "1e-3 as a C++ float", "1e-3 as a double", "epsilon=float(np.float32(1e-3))"),
    ("batch norm, momentum", "0.99 as a C++ float", "0.999", "momentum=float(np.float32(0.99))"),
    (
        "hard sigmoid of squeeze-and-excitation",
        "0.1666667 * x + 0.5 from 0 to 1, with the slope as a C++ float",
        "relu6(x + 3) / 6, whose slope is 2e-7 less",
        "layers.Rescaling(float(np.float32(0.1666667)), 0.5), layers.ReLU(max_value=1)",
    ),
    (
        "dense layers",
        "two Linear, after a flatten",
        "two 1x1 convolutions, then a flatten",
        "layers.Dense after layers.GlobalAveragePooling2D()",
    ),
    (
        "dropout",
        "0.2 before the classifier",
        "0.2 before the classifier, from Keras' own random numbers",
        "p = 0 in Paddle's nn.Dropout, and the argument dropout_rate=0",
    ),
    AVERAGE_GRADIENT,
)
"""Between the two as shipped: where, in Paddle, in Keras, and what makes them equal."""


def mobilenet_v3_small_paddle(num_classes, image_size=64):
    """`paddle.vision.models.mobilenet_v3_small`, for any image size."""
    from paddle.vision.models import mobilenet_v3_small

    return mobilenet_v3_small(num_classes=num_classes)


def mobilenet_v3_small_tensorflow(num_classes, image_size=64):
    """`keras.applications.MobileNetV3Small` for images of `image_size` pixels a side."""
    from keras.applications import MobileNetV3Small

    shape = (image_size, image_size, 3)
    return MobileNetV3Small(weights=None, input_shape=shape, classes=num_classes, classifier_activation=None)


def mobilenet_v3_small_adapted_paddle(num_classes, image_size=64):
    """Paddle's network without its dropout."""
    return without_dropout(mobilenet_v3_small_paddle(num_classes))


def squeeze_excitation(x, channels, squeezed):
    """Paddle's SqueezeExcitation (Hu et al. 2018, arXiv:1709.01507) in Keras: [N, H, W, channels] to the same shape."""
    import keras
    from keras import layers

    gate = [
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Conv2D(squeezed, 1, activation="relu"),
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
