"""ResNet-50 (He et al. 2016, arXiv:1512.03385) as each framework ships it."""

from tandem.certify.zoo.blocks import AVERAGE_GRADIENT

DIFFERENCES = (
    (
        "stride of a bottleneck that halves the image",
        "on the 3x3 convolution",
        "on the first 1x1 convolution, so three quarters of its input are not read",
        "strides=2 on the 3x3 convolution, after layers.ZeroPadding2D(1)",
    ),
    (
        "biases of convolutions",
        "none",
        "one in each of the 53, though batch norm follows and takes it away; its true gradient is 0",
        "use_bias=False",
    ),
    ("batch norm, epsilon", "1e-5 as a C++ float", "1.001e-5", "epsilon=float(np.float32(1e-5))"),
    ("batch norm, momentum", "0.9 as a C++ float", "0.99", "momentum=float(np.float32(0.9))"),
    (
        "order within a block",
        "all of the body, then the shortcut's convolution and its batch norm",
        "by depth in the graph: the shortcut's two between the body's last convolution and its batch norm",
        "a keras.Sequential for the body and one for the shortcut",
    ),
    AVERAGE_GRADIENT,
)
"""Between the two as shipped: where, in Paddle, in Keras, and what makes them equal."""


def resnet50_paddle(num_classes, image_size=64):
    """`paddle.vision.models.resnet50`, for any image size."""
    from paddle.vision.models import resnet50

    return resnet50(num_classes=num_classes)


def resnet50_tensorflow(num_classes, image_size=64):
    """`keras.applications.ResNet50` for images of `image_size` pixels a side."""
    from keras.applications import ResNet50

    shape = (image_size, image_size, 3)
    return ResNet50(weights=None, input_shape=shape, classes=num_classes, classifier_activation=None)
