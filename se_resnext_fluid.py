"""SE-ResNeXt in PaddlePaddle, and its training script. Twin of se_resnext_tensorflow.py.

    python se_resnext_fluid.py --config configs/se_resnext.yaml

ResNeXt: Xie et al. 2017, arXiv:1611.05431. Squeeze-and-excitation: Hu et al. 2018, arXiv:1709.01507.
"""

if __name__ == "__main__":  # before Paddle is loaded, so that --help answers at once; it ends the process
    from tandem.commands.train import train_script

    train_script(__file__, "se_resnext", only="paddle")

from tandem.frameworks.paddle.layers import (
    AveragePoolPad,
    BatchNorm2D,
    Conv2D,
    Residual,
    SqueezeExcitation,
    global_average_pool,
)

from paddle import nn


class SE_ResNeXt(nn.Layer):
    """SE-ResNeXt for small images: float [N, 3, H, W] to logits [N, num_classes].

    Args:
        num_classes: length of the logits.
        num_block: residual blocks in each stage.
        depth: channels of one branch.
        out_dims: channels after each stage; each equal to the one before, or twice that.
        cardinality: branches of a block.
        reduction_ratio: channels divided by the hidden units of squeeze-and-excitation.
    """

    def __init__(
        self,
        num_classes=10,
        num_block=3,
        depth=64,
        out_dims=(64, 128, 256),
        cardinality=8,
        reduction_ratio=4,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.num_block = num_block
        self.depth = depth
        self.out_dims = tuple(out_dims)
        self.cardinality = cardinality
        self.reduction_ratio = reduction_ratio
        self.features, self.fc = self.build_SEnet()

    def conv_bn_layer(self, in_channels, out_channels, kernel_size, stride=1, groups=1, relu=True):
        """Convolution, batch norm and, with `relu`, ReLU."""
        layers = [
            ("conv", Conv2D(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups)),
            ("bn", BatchNorm2D(out_channels)),
        ]
        if relu:
            layers.append(("relu", nn.ReLU()))
        return nn.Sequential(*layers)

    def transform_layer(self, in_channels, branches, stride):
        """`branches` branches in parallel: a 1x1 convolution to `depth` channels each, then a grouped 3x3 one."""
        width = branches * self.depth
        return nn.Sequential(
            ("reduce", self.conv_bn_layer(in_channels, width, 1)),
            ("group", self.conv_bn_layer(width, width, 3, stride, groups=branches)),
        )

    def split_layer(self, in_channels, stride):
        """All branches. The article makes them one by one and concatenates them; merged they compute the same."""
        return self.transform_layer(in_channels, self.cardinality, stride)

    def transition_layer(self, out_dim):
        """A 1x1 convolution from the branches' channels to the block's."""
        return self.conv_bn_layer(self.cardinality * self.depth, out_dim, 1, relu=False)

    def squeeze_excitation_layer(self, out_dim):
        """Squeeze-and-excitation: a gate on each channel."""
        return SqueezeExcitation(out_dim, self.reduction_ratio)

    def residual_layer(self, in_dim, out_dim):
        """A stage of `num_block` residual blocks. The first halves H and W if the channels double."""
        blocks = []
        for index in range(self.num_block):
            stride = 1 if in_dim == out_dim else 2
            body = nn.Sequential(
                ("split", self.split_layer(in_dim, stride)),
                ("transition", self.transition_layer(out_dim)),
                ("se", self.squeeze_excitation_layer(out_dim)),
            )
            shortcut = None if in_dim == out_dim else AveragePoolPad(in_dim, out_dim)
            blocks.append((f"block{index + 1}", Residual(body, shortcut)))
            in_dim = out_dim
        return nn.Sequential(*blocks)

    def build_SEnet(self):
        """The layers before global average pooling, and the classifier."""
        in_dim = self.out_dims[0]
        features = [("first", self.conv_bn_layer(3, in_dim, 3))]
        for index, out_dim in enumerate(self.out_dims):
            features.append((f"stage{index + 1}", self.residual_layer(in_dim, out_dim)))
            in_dim = out_dim
        return nn.Sequential(*features), nn.Linear(in_dim, self.num_classes, bias_attr=True)

    def forward(self, x):
        """Logits of a batch of images."""
        return self.fc(global_average_pool(self.features(x)))
