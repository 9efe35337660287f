"""SE-ResNeXt in TensorFlow, and its training script. Twin of se_resnext_fluid.py.

    python se_resnext_tensorflow.py --config configs/se_resnext.yaml

ResNeXt: Xie et al. 2017, arXiv:1611.05431. Squeeze-and-excitation: Hu et al. 2018, arXiv:1709.01507.
"""

if __name__ == "__main__":  # before TensorFlow is loaded, so that --help answers at once; it ends the process
    from tandem.commands.train import train_script

    train_script(__file__, "se_resnext", only="tensorflow")

from tandem.frameworks.tensorflow.layers import (
    AveragePoolPad,
    BatchNorm2D,
    Conv2D,
    Residual,
    SqueezeExcitation,
    global_average_pool,
    register,
)

import tensorflow as tf


@register
class SE_ResNeXt(tf.keras.Model):
    """SE-ResNeXt for small images: float [N, H, W, 3] to logits [N, num_classes].

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
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.num_block = num_block
        self.depth = depth
        self.out_dims = tuple(out_dims)
        self.cardinality = cardinality
        self.reduction_ratio = reduction_ratio
        self.features, self.fc = self.build_SEnet()

    def conv_bn_layer(self, in_channels, out_channels, kernel_size, stride=1, groups=1, relu=True, *, name):
        """Convolution, batch norm and, with `relu`, ReLU."""
        layers = [
            Conv2D(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups, name="conv"),
            BatchNorm2D(out_channels, name="bn"),
        ]
        if relu:
            layers.append(tf.keras.layers.ReLU(name="relu"))
        return tf.keras.Sequential(layers, name=name)

    def transform_layer(self, in_channels, branches, stride, *, name):
        """`branches` branches in parallel: a 1x1 convolution to `depth` channels each, then a grouped 3x3 one."""
        width = branches * self.depth
        return tf.keras.Sequential(
            [
                self.conv_bn_layer(in_channels, width, 1, name="reduce"),
                self.conv_bn_layer(width, width, 3, stride, groups=branches, name="group"),
            ],
            name=name,
        )

    def split_layer(self, in_channels, stride, *, name):
        """All branches. The article makes them one by one and concatenates them; merged they compute the same."""
        return self.transform_layer(in_channels, self.cardinality, stride, name=name)

    def transition_layer(self, out_dim, *, name):
        """A 1x1 convolution from the branches' channels to the block's."""
        return self.conv_bn_layer(self.cardinality * self.depth, out_dim, 1, relu=False, name=name)

    def squeeze_excitation_layer(self, out_dim, *, name):
        """Squeeze-and-excitation: a gate on each channel."""
        return SqueezeExcitation(out_dim, self.reduction_ratio, name=name)

    def residual_layer(self, in_dim, out_dim, *, name):
        """A stage of `num_block` residual blocks. The first halves H and W if the channels double."""
        blocks = []
        for index in range(self.num_block):
            stride = 1 if in_dim == out_dim else 2
            body = tf.keras.Sequential(
                [
                    self.split_layer(in_dim, stride, name="split"),
                    self.transition_layer(out_dim, name="transition"),
                    self.squeeze_excitation_layer(out_dim, name="se"),
                ],
                name="body",
            )
            shortcut = None if in_dim == out_dim else AveragePoolPad(in_dim, out_dim, name="shortcut")
            blocks.append(Residual(body, shortcut, name=f"block{index + 1}"))
            in_dim = out_dim
        return tf.keras.Sequential(blocks, name=name)

    def build_SEnet(self):
        """The layers before global average pooling, and the classifier."""
        in_dim = self.out_dims[0]
        features = [self.conv_bn_layer(3, in_dim, 3, name="first")]
        for index, out_dim in enumerate(self.out_dims):
            features.append(self.residual_layer(in_dim, out_dim, name=f"stage{index + 1}"))
            in_dim = out_dim
        return (
            tf.keras.Sequential(features, name="features"),
            tf.keras.layers.Dense(self.num_classes, use_bias=True, name="fc"),
        )

    def call(self, x, training=False):
        """Logits of a batch of images."""
        return self.fc(global_average_pool(self.features(x, training=training)))

    def get_config(self):
        """The constructor's arguments, with which Keras loads the network."""
        names = ("num_classes", "num_block", "depth", "out_dims", "cardinality", "reduction_ratio")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
