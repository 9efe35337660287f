"""What the adapted networks share: Paddle's blocks in stock Keras layers, and Paddle's networks without dropout."""

import numpy as np


def batch_norm(momentum=0.9, epsilon=1e-5):
    """`paddle.nn.BatchNorm2D`, which keeps both numbers as C++ float, also in float64."""
    from keras import layers

    return layers.BatchNormalization(momentum=float(np.float32(momentum)), epsilon=float(np.float32(epsilon)))


def conv_norm(channels, kernel_size, stride=1, padding=0, activation="relu", **norm):
    """The layers of `paddle.vision.ops.ConvNormActivation`, as a list: [N, H, W, any] to [N, H', W', channels].

    Args:
        channels: those of the output; None for a depthwise convolution.
        kernel_size: a number or (rows, columns).
        stride: of the convolution.
        padding: zeros on every side, a number or (rows, columns); the convolution itself pads nothing.
        activation: a name that Keras knows; None for none.
        norm: the arguments of `batch_norm`.
    """
    from keras import layers

    arguments = {"kernel_size": kernel_size, "strides": stride, "padding": "valid", "use_bias": False}
    convolution = layers.Conv2D(channels, **arguments) if channels else layers.DepthwiseConv2D(**arguments)
    before = [layers.ZeroPadding2D(padding)] if padding else []
    after = [layers.Activation(activation)] if activation else []
    return [*before, convolution, batch_norm(**norm), *after]


def without_dropout(model):
    """Turn off the dropout of a network of `paddle.vision.models`; return it.

    Each framework draws its own masks, so with them no two runs could be compared.
    """
    from paddle import nn

    for layer in model.sublayers():
        if isinstance(layer, nn.Dropout):
            layer.p = 0
    return model
