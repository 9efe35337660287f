"""ResNet in the form of the CIFAR-10 speed records, in PaddlePaddle and in TensorFlow, and its training script.

    python resnet_fast.py --framework paddle
    python resnet_fast.py --framework tensorflow -o precision=bfloat16

Page 2019, "How to train your ResNet"; it follows Jordan 2024, arXiv:2404.00498 (airbench94). Unlike resnet_cifar.py it
has a stem of 2x2 convolutions, max pools in place of strides, a global max pool, and logits scaled by 1/8.

The input and output of every part are float feature maps, [N, channels, H, W] in Paddle and [N, H, W, channels] in
TensorFlow.
"""

STEM_WIDTH = 24
"""Filters of the stem: for whitening, the 12 principal components of 2x2 colour patches, and their negatives."""


def stem_paddle(in_channels, out_channels):
    """A 2x2 convolution with bias and without padding, then ReLU. H and W shrink by one."""
    from tandem.frameworks.paddle.layers import Conv2D

    from paddle import nn

    return nn.Sequential(("conv", Conv2D(in_channels, out_channels, 2, 1, 0, bias=True)), ("relu", nn.ReLU()))


def stem_tensorflow(in_channels, out_channels, *, name):
    """A 2x2 convolution with bias and without padding, then ReLU. H and W shrink by one."""
    from tandem.frameworks.tensorflow.layers import Conv2D

    from tensorflow import keras

    layers = [Conv2D(in_channels, out_channels, 2, 1, 0, bias=True, name="conv"), keras.layers.ReLU(name="relu")]
    return keras.Sequential(layers, name=name)


def conv_bn_paddle(in_channels, out_channels, max_pool=False, relu=True):
    """A 3x3 convolution, with `max_pool` a 2x2 max pool, batch norm and, with `relu`, ReLU."""
    from tandem.frameworks.paddle.layers import BatchNorm2D, Conv2D, MaxPool2D

    from paddle import nn

    layers = [("conv", Conv2D(in_channels, out_channels, 3, 1, 1))]
    if max_pool:
        layers.append(("pool", MaxPool2D(2, 2)))
    layers.append(("bn", BatchNorm2D(out_channels)))
    if relu:
        layers.append(("relu", nn.ReLU()))
    return nn.Sequential(*layers)


def conv_bn_tensorflow(in_channels, out_channels, max_pool=False, relu=True, *, name):
    """A 3x3 convolution, with `max_pool` a 2x2 max pool, batch norm and, with `relu`, ReLU."""
    from tandem.frameworks.tensorflow.layers import BatchNorm2D, Conv2D, MaxPool2D

    from tensorflow import keras

    layers = [Conv2D(in_channels, out_channels, 3, 1, 1, name="conv")]
    if max_pool:
        layers.append(MaxPool2D(2, 2, name="pool"))
    layers.append(BatchNorm2D(out_channels, name="bn"))
    if relu:
        layers.append(keras.layers.ReLU(name="relu"))
    return keras.Sequential(layers, name=name)


def block_paddle(in_channels, out_channels, max_pool):
    """A convolution that sets the channels and, with `max_pool`, halves H and W; then a residual convolution."""
    from tandem.frameworks.paddle.layers import Residual

    from paddle import nn

    return nn.Sequential(
        ("conv1", conv_bn_paddle(in_channels, out_channels, max_pool)),
        ("conv2", Residual(conv_bn_paddle(out_channels, out_channels, relu=False))),
    )


def block_tensorflow(in_channels, out_channels, max_pool, *, name):
    """A convolution that sets the channels and, with `max_pool`, halves H and W; then a residual convolution."""
    from tandem.frameworks.tensorflow.layers import Residual

    from tensorflow import keras

    layers = [
        conv_bn_tensorflow(in_channels, out_channels, max_pool, name="conv1"),
        Residual(conv_bn_tensorflow(out_channels, out_channels, relu=False, name="body"), name="conv2"),
    ]
    return keras.Sequential(layers, name=name)


def stage_paddle(in_channels, out_channels, blocks):
    """A stage of `blocks` blocks. The first changes the number of channels and halves H and W."""
    from paddle import nn

    layers = [("block1", block_paddle(in_channels, out_channels, max_pool=True))]
    for index in range(2, blocks + 1):
        layers.append((f"block{index}", block_paddle(out_channels, out_channels, max_pool=False)))
    return nn.Sequential(*layers)


def stage_tensorflow(in_channels, out_channels, blocks, *, name):
    """A stage of `blocks` blocks. The first changes the number of channels and halves H and W."""
    from tensorflow import keras

    layers = [block_tensorflow(in_channels, out_channels, max_pool=True, name="block1")]
    for index in range(2, blocks + 1):
        layers.append(block_tensorflow(out_channels, out_channels, max_pool=False, name=f"block{index}"))
    return keras.Sequential(layers, name=name)


def resnet_fast_paddle(num_classes=10, blocks=1, widths=(96, 320, 320)):
    """ResNet for speed records, as a paddle.nn.Sequential: float [N, 3, H, W] to logits [N, num_classes].

    Args:
        num_classes: length of the logits.
        blocks: blocks, of two convolutions each, in each of the three stages.
        widths: channels of each stage's convolutions.
    """
    from tandem.frameworks.paddle.layers import GlobalMaxPool, Scale

    from paddle import nn

    width1, width2, width3 = widths
    return nn.Sequential(
        ("stem", stem_paddle(3, STEM_WIDTH)),
        ("stage1", stage_paddle(STEM_WIDTH, width1, blocks)),
        ("stage2", stage_paddle(width1, width2, blocks)),
        ("stage3", stage_paddle(width2, width3, blocks)),
        ("pool", GlobalMaxPool()),
        ("fc", nn.Linear(width3, num_classes, bias_attr=True)),
        ("scale", Scale(0.125)),
    )


def resnet_fast_tensorflow(num_classes=10, blocks=1, widths=(96, 320, 320)):
    """ResNet for speed records, as a tf.keras.Sequential: float [N, H, W, 3] to logits [N, num_classes].

    Args:
        num_classes: length of the logits.
        blocks: blocks, of two convolutions each, in each of the three stages.
        widths: channels of each stage's convolutions.
    """
    from tandem.frameworks.tensorflow.layers import GlobalMaxPool, Scale

    from tensorflow import keras

    width1, width2, width3 = widths
    return keras.Sequential(
        [
            stem_tensorflow(3, STEM_WIDTH, name="stem"),
            stage_tensorflow(STEM_WIDTH, width1, blocks, name="stage1"),
            stage_tensorflow(width1, width2, blocks, name="stage2"),
            stage_tensorflow(width2, width3, blocks, name="stage3"),
            GlobalMaxPool(name="pool"),
            keras.layers.Dense(num_classes, use_bias=True, name="fc"),
            Scale(0.125, name="scale"),
        ],
        name="resnet_fast",
    )


if __name__ == "__main__":
    from tandem.commands.train import train_script

    train_script(__file__, "resnet_fast")
