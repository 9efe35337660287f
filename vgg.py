"""VGG for CIFAR in PaddlePaddle and in TensorFlow, and its training script.

    python vgg.py --framework paddle
    python vgg.py --framework tensorflow --config configs/vgg16_fast.yaml

Simonyan & Zisserman 2015, arXiv:1409.1556, with the batch norm and dropout of PaddlePaddle's tutorial on CIFAR-10.

The input and output of a group are float feature maps, [N, channels, H, W] in Paddle and [N, H, W, channels] in
TensorFlow. Its pool halves H and W.
"""

COUNTS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each of the five groups, by depth."""

WIDTHS = (64, 128, 256, 512, 512)
"""Channels in each of the five groups."""


def conv_group_paddle(group, in_channels, out_channels, count, batch_norm, conv_dropout):
    """`count` 3x3 convolutions, each with the layers that follow it, and a 2x2 max pool: a list of (name, layer)."""
    from tandem.frameworks.paddle.layers import BatchNorm2D, Conv2D, Dropout, MaxPool2D

    from paddle import nn

    layers = []
    for index in range(1, count + 1):
        layers.append((f"conv{group}_{index}", Conv2D(in_channels, out_channels, 3, 1, 1, bias=not batch_norm)))
        if batch_norm:
            layers.append((f"bn{group}_{index}", BatchNorm2D(out_channels)))
        layers.append((f"relu{group}_{index}", nn.ReLU()))
        if conv_dropout and index < count:
            layers.append((f"dropout{group}_{index}", Dropout(0.3 if group == 1 else 0.4)))
        in_channels = out_channels
    layers.append((f"pool{group}", MaxPool2D(2, 2)))
    return layers


def conv_group_tensorflow(group, in_channels, out_channels, count, batch_norm, conv_dropout):
    """`count` 3x3 convolutions, each with the layers that follow it, and a 2x2 max pool: a list of layers."""
    from tandem.frameworks.tensorflow.layers import BatchNorm2D, Conv2D, Dropout, MaxPool2D

    from tensorflow import keras

    layers = []
    for index in range(1, count + 1):
        layers.append(Conv2D(in_channels, out_channels, 3, 1, 1, bias=not batch_norm, name=f"conv{group}_{index}"))
        if batch_norm:
            layers.append(BatchNorm2D(out_channels, name=f"bn{group}_{index}"))
        layers.append(keras.layers.ReLU(name=f"relu{group}_{index}"))
        if conv_dropout and index < count:
            layers.append(Dropout(0.3 if group == 1 else 0.4, name=f"dropout{group}_{index}"))
        in_channels = out_channels
    layers.append(MaxPool2D(2, 2, name=f"pool{group}"))
    return layers


def vgg_paddle(num_classes=10, depth=16, batch_norm=True, conv_dropout=True, dense_dropout=0.5):
    """VGG for 32x32 images, as a paddle.nn.Sequential: float [N, 3, 32, 32] to logits [N, num_classes].

    Args:
        num_classes: length of the logits.
        depth: 11, 13, 16 or 19: the convolutions and three dense layers, as the paper counts.
        batch_norm: True for the tutorial's form, with batch norm and dense layers of 512 units; False for the plain
            form, with 2048 units.
        conv_dropout: whether dropout follows each convolution but the last of its group, as in the tutorial.
        dense_dropout: the rate of the two dropout layers among the dense layers.
    """
    from tandem.frameworks.paddle.layers import BatchNorm1D, Dropout, Flatten

    from paddle import nn

    layers, in_channels = [], 3
    for group, (count, width) in enumerate(zip(COUNTS[depth], WIDTHS, strict=True), start=1):
        layers += conv_group_paddle(group, in_channels, width, count, batch_norm, conv_dropout)
        in_channels = width
    layers.append(("flatten", Flatten()))
    if batch_norm:
        layers += [
            ("dropout6", Dropout(dense_dropout)),
            ("fc6", nn.Linear(512, 512, bias_attr=False)),
            ("bn6", BatchNorm1D(512)),
            ("relu6", nn.ReLU()),
            ("dropout7", Dropout(dense_dropout)),
            ("fc7", nn.Linear(512, 512, bias_attr=True)),
            ("fc8", nn.Linear(512, num_classes, bias_attr=True)),
        ]
    else:
        layers += [
            ("fc6", nn.Linear(512, 2048, bias_attr=True)),
            ("relu6", nn.ReLU()),
            ("dropout6", Dropout(dense_dropout)),
            ("fc7", nn.Linear(2048, 2048, bias_attr=True)),
            ("relu7", nn.ReLU()),
            ("dropout7", Dropout(dense_dropout)),
            ("fc8", nn.Linear(2048, num_classes, bias_attr=True)),
        ]
    return nn.Sequential(*layers)


def vgg_tensorflow(num_classes=10, depth=16, batch_norm=True, conv_dropout=True, dense_dropout=0.5):
    """VGG for 32x32 images, as a tf.keras.Sequential: float [N, 32, 32, 3] to logits [N, num_classes].

    Args:
        num_classes: length of the logits.
        depth: 11, 13, 16 or 19: the convolutions and three dense layers, as the paper counts.
        batch_norm: True for the tutorial's form, with batch norm and dense layers of 512 units; False for the plain
            form, with 2048 units.
        conv_dropout: whether dropout follows each convolution but the last of its group, as in the tutorial.
        dense_dropout: the rate of the two dropout layers among the dense layers.
    """
    from tandem.frameworks.tensorflow.layers import BatchNorm1D, Dropout, Flatten

    from tensorflow import keras

    layers, in_channels = [], 3
    for group, (count, width) in enumerate(zip(COUNTS[depth], WIDTHS, strict=True), start=1):
        layers += conv_group_tensorflow(group, in_channels, width, count, batch_norm, conv_dropout)
        in_channels = width
    layers.append(Flatten(name="flatten"))
    if batch_norm:
        layers += [
            Dropout(dense_dropout, name="dropout6"),
            keras.layers.Dense(512, use_bias=False, name="fc6"),
            BatchNorm1D(512, name="bn6"),
            keras.layers.ReLU(name="relu6"),
            Dropout(dense_dropout, name="dropout7"),
            keras.layers.Dense(512, use_bias=True, name="fc7"),
            keras.layers.Dense(num_classes, use_bias=True, name="fc8"),
        ]
    else:
        layers += [
            keras.layers.Dense(2048, use_bias=True, name="fc6"),
            keras.layers.ReLU(name="relu6"),
            Dropout(dense_dropout, name="dropout6"),
            keras.layers.Dense(2048, use_bias=True, name="fc7"),
            keras.layers.ReLU(name="relu7"),
            Dropout(dense_dropout, name="dropout7"),
            keras.layers.Dense(num_classes, use_bias=True, name="fc8"),
        ]
    return keras.Sequential(layers, name="vgg")


if __name__ == "__main__":
    from tandem.commands.train import train_script

    train_script(__file__, "vgg16")
