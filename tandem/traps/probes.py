"""Tiny twins, each made to show some of the traps: networks of `own`, chosen by the option `kind`.

plain       a convolution at stride 2, batch norm, convolution, LRN, max pool, dropout, flatten and two dense layers
pools       pools at sizes that do not divide
averages    a residual block with a shortcut, and a mean over 7x7 pixels, of which 1/49 is no binary fraction
activations a frozen batch norm, one with a frozen weight, and what has constants of its own; both compute Paddle's
extremes    a batch norm of faint inputs, and logits hundreds apart
shrinking   three pools that leave no pixel where their sizes are rounded down
"""


def probes_paddle(num_classes, kind):
    """The probe `kind`, as a paddle.nn.Sequential."""
    from tandem.frameworks.paddle.layers import (
        AveragePoolPad,
        BatchNorm2D,
        Conv2D,
        Dropout,
        Flatten,
        GlobalAveragePool,
        LocalResponseNorm,
        MaxPool2D,
        Residual,
    )

    from paddle import nn

    def scale(factor):
        layer = nn.Identity()
        layer.register_forward_post_hook(lambda layer, inputs, output: output * factor)
        return layer

    if kind == "plain":
        return nn.Sequential(
            ("conv1", Conv2D(3, 8, 3, stride=2, padding=1)),
            ("bn1", BatchNorm2D(8)),
            ("relu1", nn.ReLU()),
            ("conv2", Conv2D(8, 8, 3, stride=1, padding=1, bias=True)),
            ("lrn2", LocalResponseNorm(5, alpha=0.1, beta=0.75)),
            ("pool2", MaxPool2D(2, 2)),
            ("dropout2", Dropout(0.3)),
            ("flatten", Flatten()),
            ("fc3", nn.Linear(128, num_classes, bias_attr=True)),
            ("fc4", nn.Linear(num_classes, num_classes, bias_attr=True)),
        )
    if kind == "pools":
        return nn.Sequential(
            ("conv1", Conv2D(3, 8, 3, stride=1, padding=1)),
            ("pool1", MaxPool2D(3, 2, ceil_mode=True)),
            ("pool2", MaxPool2D(3, 2)),
            ("pool3", AveragePoolPad(8, 12)),
            ("pool4", GlobalAveragePool()),
            ("fc5", nn.Linear(12, num_classes, bias_attr=True)),
        )
    if kind == "averages":
        body, shortcut = Conv2D(8, 8, 3, stride=1, padding=1), Conv2D(8, 8, 1, stride=1, padding=0)
        return nn.Sequential(
            ("conv1", Conv2D(3, 8, 3, stride=2, padding=1)),
            ("block2", Residual(body, shortcut)),
            ("relu2", nn.ReLU()),
            ("pool2", GlobalAveragePool()),
            ("fc3", nn.Linear(8, num_classes, bias_attr=True)),
        )
    if kind == "extremes":
        return nn.Sequential(
            ("scale1", scale(2.0**-13)),
            ("conv1", Conv2D(3, 8, 3, stride=2, padding=1)),
            ("bn1", BatchNorm2D(8)),
            ("flatten", Flatten()),
            ("fc2", nn.Linear(512, num_classes, bias_attr=True)),
            ("scale2", scale(2.0**12)),
        )
    if kind == "activations":
        norm = BatchNorm2D(8)
        for parameter in (norm.weight, norm.bias):
            parameter.trainable = False
        biased = BatchNorm2D(8)
        biased.weight.trainable = False
        return nn.Sequential(
            ("conv1", Conv2D(3, 8, 3, stride=2, padding=1)),
            ("frozen1", norm),
            ("leaky1", nn.LeakyReLU(0.1)),
            ("bn2", biased),
            ("hard2", nn.Hardsigmoid()),
            ("bn3", BatchNorm2D(8)),
            ("selu3", nn.SELU()),
            ("bn4", BatchNorm2D(8)),
            ("gelu4", nn.GELU()),
            ("conv5", Conv2D(8, 8, 3, stride=2, padding=1)),
            ("relu5", nn.ReLU()),
            ("flatten", Flatten()),
            ("fc6", nn.Linear(128, num_classes, bias_attr=True)),
        )
    assert kind == "shrinking"
    return nn.Sequential(
        ("conv1", Conv2D(3, 8, 11, stride=4, padding=1)),
        ("pool1", MaxPool2D(3, 2, ceil_mode=True)),
        ("pool2", MaxPool2D(3, 2, ceil_mode=True)),
        ("pool3", MaxPool2D(3, 2, ceil_mode=True)),
        ("flatten", Flatten()),
        ("fc4", nn.Linear(8, num_classes, bias_attr=True)),
    )


def probes_tensorflow(num_classes, kind):
    """The probe `kind`, as a tf.keras.Sequential."""
    from tandem.frameworks.tensorflow.layers import (
        AveragePoolPad,
        BatchNorm2D,
        Conv2D,
        Dropout,
        Flatten,
        GlobalAveragePool,
        LocalResponseNorm,
        MaxPool2D,
        Residual,
    )

    import numpy as np
    import tensorflow as tf
    from tensorflow import keras

    if kind == "plain":
        return keras.Sequential(
            [
                Conv2D(3, 8, 3, stride=2, padding=1, name="conv1"),
                BatchNorm2D(8, name="bn1"),
                keras.layers.ReLU(name="relu1"),
                Conv2D(8, 8, 3, stride=1, padding=1, bias=True, name="conv2"),
                LocalResponseNorm(5, alpha=0.1, beta=0.75, name="lrn2"),
                MaxPool2D(2, 2, name="pool2"),
                Dropout(0.3, name="dropout2"),
                Flatten(name="flatten"),
                keras.layers.Dense(num_classes, use_bias=True, name="fc3"),
                keras.layers.Dense(num_classes, use_bias=True, name="fc4"),
            ]
        )
    if kind == "pools":
        return keras.Sequential(
            [
                Conv2D(3, 8, 3, stride=1, padding=1, name="conv1"),
                MaxPool2D(3, 2, ceil_mode=True, name="pool1"),
                MaxPool2D(3, 2, name="pool2"),
                AveragePoolPad(8, 12, name="pool3"),
                GlobalAveragePool(name="pool4"),
                keras.layers.Dense(num_classes, use_bias=True, name="fc5"),
            ]
        )
    if kind == "averages":
        body = Conv2D(8, 8, 3, stride=1, padding=1, name="body")
        shortcut = Conv2D(8, 8, 1, stride=1, padding=0, name="shortcut")
        return keras.Sequential(
            [
                Conv2D(3, 8, 3, stride=2, padding=1, name="conv1"),
                Residual(body, shortcut, name="block2"),
                keras.layers.ReLU(name="relu2"),
                GlobalAveragePool(name="pool2"),
                keras.layers.Dense(num_classes, use_bias=True, name="fc3"),
            ]
        )
    if kind == "extremes":
        return keras.Sequential(
            [
                keras.layers.Rescaling(2.0**-13, name="scale1"),
                Conv2D(3, 8, 3, stride=2, padding=1, name="conv1"),
                BatchNorm2D(8, name="bn1"),
                Flatten(name="flatten"),
                keras.layers.Dense(num_classes, use_bias=True, name="fc2"),
                keras.layers.Rescaling(2.0**12, name="scale2"),
            ]
        )
    if kind == "activations":

        @tf.custom_gradient
        def selu(x):
            scale, alpha = np.float32(1.0507009873554805), np.float32(1.6732632423543772)
            product = float(scale * alpha)
            y = float(scale) * (tf.nn.relu(x) + float(alpha) * tf.math.expm1(tf.minimum(x, 0)))
            return y, lambda dy: dy * tf.where(x <= 0, y + product, float(scale))

        def gelu(x):
            return 0.5 * x * (1 + tf.math.erf(x * 0.5**0.5))

        def hard_sigmoid(x):
            return tf.clip_by_value(float(np.float32(0.1666667)) * x + 0.5, 0, 1)

        biased = BatchNorm2D(8, name="bn2")
        biased.build([None, 8, 8, 8])
        biased.gamma.trainable = False

        return keras.Sequential(
            [
                Conv2D(3, 8, 3, stride=2, padding=1, name="conv1"),
                BatchNorm2D(8, trainable=False, name="frozen1"),
                keras.layers.Activation(lambda x: tf.maximum(x, 0.1 * x), name="leaky1"),
                biased,
                keras.layers.Activation(hard_sigmoid, name="hard2"),
                BatchNorm2D(8, name="bn3"),
                keras.layers.Activation(selu, name="selu3"),
                BatchNorm2D(8, name="bn4"),
                keras.layers.Activation(gelu, name="gelu4"),
                Conv2D(8, 8, 3, stride=2, padding=1, name="conv5"),
                keras.layers.ReLU(name="relu5"),
                Flatten(name="flatten"),
                keras.layers.Dense(num_classes, use_bias=True, name="fc6"),
            ]
        )
    assert kind == "shrinking"
    return keras.Sequential(
        [
            Conv2D(3, 8, 11, stride=4, padding=1, name="conv1"),
            MaxPool2D(3, 2, ceil_mode=True, name="pool1"),
            MaxPool2D(3, 2, ceil_mode=True, name="pool2"),
            MaxPool2D(3, 2, ceil_mode=True, name="pool3"),
            Flatten(name="flatten"),
            keras.layers.Dense(num_classes, use_bias=True, name="fc4"),
        ]
    )
