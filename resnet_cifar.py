"""ResNet for CIFAR in PaddlePaddle and in TensorFlow, and its training script.

    python resnet_cifar.py --framework paddle
    python resnet_cifar.py --framework tensorflow --config configs/resnet20_short.yaml

He et al. 2016, arXiv:1512.03385, section 4.2. The helpers have the names of PaddlePaddle's tutorial. In the tutorial's
first version, a block adds its raw input to its shortcut and leaves out its convolutions. Here, as in the paper, a
block adds its convolutions and its shortcut.

The input and output of every part are float feature maps, [N, channels, H, W] in Paddle and [N, H, W, channels] in
TensorFlow. A stride divides H and W.
"""


def conv_bn_layer_paddle(in_channels, out_channels, kernel_size, stride, relu=True):
    """Convolution, batch norm and, with `relu`, ReLU."""
    from tandem.frameworks.paddle.layers import BatchNorm2D, Conv2D

    from paddle import nn

    layers = [("conv", Conv2D(in_channels, out_channels, kernel_size, stride, kernel_size // 2))]
    layers.append(("bn", BatchNorm2D(out_channels)))
    if relu:
        layers.append(("relu", nn.ReLU()))
    return nn.Sequential(*layers)


def conv_bn_layer_tensorflow(in_channels, out_channels, kernel_size, stride, relu=True, *, name):
    """Convolution, batch norm and, with `relu`, ReLU."""
    from tandem.frameworks.tensorflow.layers import BatchNorm2D, Conv2D

    from tensorflow import keras

    layers = [Conv2D(in_channels, out_channels, kernel_size, stride, kernel_size // 2, name="conv")]
    layers.append(BatchNorm2D(out_channels, name="bn"))
    if relu:
        layers.append(keras.layers.ReLU(name="relu"))
    return keras.Sequential(layers, name=name)


def shortcut_paddle(in_channels, out_channels, stride):
    """A 1x1 convolution with batch norm if the block changes the shape, otherwise None for the identity."""
    if stride == 1 and in_channels == out_channels:
        return None
    return conv_bn_layer_paddle(in_channels, out_channels, 1, stride, relu=False)


def shortcut_tensorflow(in_channels, out_channels, stride):
    """A 1x1 convolution with batch norm if the block changes the shape, otherwise None for the identity."""
    if stride == 1 and in_channels == out_channels:
        return None
    return conv_bn_layer_tensorflow(in_channels, out_channels, 1, stride, relu=False, name="shortcut")


def basicblock_paddle(in_channels, out_channels, stride):
    """A residual block of two 3x3 convolutions."""
    from tandem.frameworks.paddle.layers import Residual

    from paddle import nn

    body = nn.Sequential(
        ("conv1", conv_bn_layer_paddle(in_channels, out_channels, 3, stride)),
        ("conv2", conv_bn_layer_paddle(out_channels, out_channels, 3, 1, relu=False)),
    )
    return Residual(body, shortcut_paddle(in_channels, out_channels, stride))


def basicblock_tensorflow(in_channels, out_channels, stride, *, name):
    """A residual block of two 3x3 convolutions."""
    from tandem.frameworks.tensorflow.layers import Residual

    from tensorflow import keras

    body = [
        conv_bn_layer_tensorflow(in_channels, out_channels, 3, stride, name="conv1"),
        conv_bn_layer_tensorflow(out_channels, out_channels, 3, 1, relu=False, name="conv2"),
    ]
    body = keras.Sequential(body, name="body")
    return Residual(body, shortcut_tensorflow(in_channels, out_channels, stride), name=name)


def bottleneck_paddle(in_channels, out_channels, stride):
    """A residual block of 1x1, 3x3 and 1x1 convolutions. The first two have a quarter of the output's channels."""
    from tandem.frameworks.paddle.layers import Residual

    from paddle import nn

    inner = out_channels // 4
    body = nn.Sequential(
        ("conv1", conv_bn_layer_paddle(in_channels, inner, 1, stride)),
        ("conv2", conv_bn_layer_paddle(inner, inner, 3, 1)),
        ("conv3", conv_bn_layer_paddle(inner, out_channels, 1, 1, relu=False)),
    )
    return Residual(body, shortcut_paddle(in_channels, out_channels, stride))


def bottleneck_tensorflow(in_channels, out_channels, stride, *, name):
    """A residual block of 1x1, 3x3 and 1x1 convolutions. The first two have a quarter of the output's channels."""
    from tandem.frameworks.tensorflow.layers import Residual

    from tensorflow import keras

    inner = out_channels // 4
    body = [
        conv_bn_layer_tensorflow(in_channels, inner, 1, stride, name="conv1"),
        conv_bn_layer_tensorflow(inner, inner, 3, 1, name="conv2"),
        conv_bn_layer_tensorflow(inner, out_channels, 1, 1, relu=False, name="conv3"),
    ]
    body = keras.Sequential(body, name="body")
    return Residual(body, shortcut_tensorflow(in_channels, out_channels, stride), name=name)


def layer_warp_paddle(block, in_channels, out_channels, count, stride):
    """A stage of `count` residual blocks. The first changes the number of channels and has the stride."""
    from paddle import nn

    blocks = [("block1", block(in_channels, out_channels, stride))]
    for index in range(2, count + 1):
        blocks.append((f"block{index}", block(out_channels, out_channels, 1)))
    return nn.Sequential(*blocks)


def layer_warp_tensorflow(block, in_channels, out_channels, count, stride, *, name):
    """A stage of `count` residual blocks. The first changes the number of channels and has the stride."""
    from tensorflow import keras

    blocks = [block(in_channels, out_channels, stride, name="block1")]
    for index in range(2, count + 1):
        blocks.append(block(out_channels, out_channels, 1, name=f"block{index}"))
    return keras.Sequential(blocks, name=name)


def resnet_cifar_paddle(num_classes=10, depth=20, bottleneck=False, widths=(16, 32, 64)):
    """ResNet for small images, as a paddle.nn.Sequential: float [N, 3, H, W] to logits [N, num_classes].

    Args:
        num_classes: length of the logits.
        depth: 6n + 2, or with bottlenecks 9n + 2, for n blocks in each of the three stages.
        bottleneck: whether the blocks are bottlenecks of three convolutions, whose output has four times `widths`
            channels, in place of two.
        widths: channels of each stage's 3x3 convolutions.
    """
    from tandem.config.networks import blocks_per_stage
    from tandem.frameworks.paddle.layers import GlobalAveragePool

    from paddle import nn

    block, expansion = (bottleneck_paddle, 4) if bottleneck else (basicblock_paddle, 1)
    count = blocks_per_stage(depth, bottleneck)
    out1, out2, out3 = (expansion * width for width in widths)
    return nn.Sequential(
        ("first", conv_bn_layer_paddle(3, widths[0], 3, 1)),
        ("stage1", layer_warp_paddle(block, widths[0], out1, count, 1)),
        ("stage2", layer_warp_paddle(block, out1, out2, count, 2)),
        ("stage3", layer_warp_paddle(block, out2, out3, count, 2)),
        ("pool", GlobalAveragePool()),
        ("fc", nn.Linear(out3, num_classes, bias_attr=True)),
    )


def resnet_cifar_tensorflow(num_classes=10, depth=20, bottleneck=False, widths=(16, 32, 64)):
    """ResNet for small images, as a tf.keras.Sequential: float [N, H, W, 3] to logits [N, num_classes].

    Args:
        num_classes: length of the logits.
        depth: 6n + 2, or with bottlenecks 9n + 2, for n blocks in each of the three stages.
        bottleneck: whether the blocks are bottlenecks of three convolutions, whose output has four times `widths`
            channels, in place of two.
        widths: channels of each stage's 3x3 convolutions.
    """
    from tandem.config.networks import blocks_per_stage
    from tandem.frameworks.tensorflow.layers import GlobalAveragePool

    from tensorflow import keras

    block, expansion = (bottleneck_tensorflow, 4) if bottleneck else (basicblock_tensorflow, 1)
    count = blocks_per_stage(depth, bottleneck)
    out1, out2, out3 = (expansion * width for width in widths)
    layers = [
        conv_bn_layer_tensorflow(3, widths[0], 3, 1, name="first"),
        layer_warp_tensorflow(block, widths[0], out1, count, 1, name="stage1"),
        layer_warp_tensorflow(block, out1, out2, count, 2, name="stage2"),
        layer_warp_tensorflow(block, out2, out3, count, 2, name="stage3"),
        GlobalAveragePool(name="pool"),
        keras.layers.Dense(num_classes, use_bias=True, name="fc"),
    ]
    return keras.Sequential(layers, name="resnet_cifar")


if __name__ == "__main__":
    from tandem.commands.train import train_script

    train_script(__file__, "resnet20")
