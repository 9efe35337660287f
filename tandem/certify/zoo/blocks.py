"""What the adapted networks share: Paddle's blocks in stock Keras layers, and Paddle's networks without dropout."""

import numpy as np

STRIDED_PADDING = (
    "padding of strided convolutions",
    "the same number of zeros on every side",
    "on an image of even size one less above and on the left: padding='same', or ZeroPadding2D(((0, 1), (0, 1)))",
    "layers.ZeroPadding2D(1) for 3x3, or 2 for 5x5, and padding='valid'; or images of 32 n + 1 pixels a side",
)
"""Of `DIFFERENCES` in the MobileNets. The kernel then reads other pixels."""

DEPTHWISE = (
    "depthwise convolution",
    "Conv2D with as many groups as channels; weight [channels, 1, rows, columns]",
    "DepthwiseConv2D; kernel [rows, columns, channels, 1]",
    "kernel.transpose(2, 3, 0, 1), where a Conv2D's is kernel.transpose(3, 2, 0, 1)",
)
"""Of `DIFFERENCES` in the MobileNets."""

AVERAGE_GRADIENT = (
    "gradient of average pools",
    "times 1/n as a C++ float, also in float64",
    "divided by n",
    "nothing: gradients differ by 1e-8 in float64, unless n is a power of 2",
)
"""Of `DIFFERENCES` in the networks with such pools."""


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
