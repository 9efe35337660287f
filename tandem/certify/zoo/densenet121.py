"""DenseNet-121 (Huang et al. 2017, arXiv:1608.06993) as each framework ships it."""

from tandem.certify.zoo.blocks import AVERAGE_GRADIENT

DIFFERENCES = (
    ("batch norm, epsilon", "1e-5 as a C++ float", "1.001e-5", "layer.epsilon = float(np.float32(1e-5))"),
    ("batch norm, momentum", "0.9 as a C++ float", "0.99", "layer.momentum = float(np.float32(0.9))"),
    ("batch norm and ReLU", 'one layer, nn.BatchNorm(act="relu")', "two layers", "nothing: they compute the same"),
    (
        "type of batch norm",
        "nn.BatchNorm stays float32 where the default type is float64, and then fails",
        "that of the network",
        "model.to(dtype=paddle.get_default_dtype())",
    ),
    AVERAGE_GRADIENT,
)
"""Between the two as shipped: where, in Paddle, in Keras, and what makes them equal."""


def densenet121_paddle(num_classes, image_size=64):
    """`paddle.vision.models.densenet121`, for any image size, in the default type."""
    import paddle

    return paddle.vision.models.densenet121(num_classes=num_classes).to(dtype=paddle.get_default_dtype())


def densenet121_tensorflow(num_classes, image_size=64):
    """`keras.applications.DenseNet121` for images of `image_size` pixels a side."""
    from keras.applications import DenseNet121

    shape = (image_size, image_size, 3)
    return DenseNet121(weights=None, input_shape=shape, classes=num_classes, classifier_activation=None)
