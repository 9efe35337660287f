"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) as each framework ships it."""

from tandem.certify.zoo.blocks import AVERAGE_GRADIENT, DEPTHWISE, STRIDED_PADDING

DIFFERENCES = (
    STRIDED_PADDING,
    DEPTHWISE,
    ("batch norm, epsilon", "1e-5 as a C++ float", "1e-3", "epsilon=float(np.float32(1e-5))"),
    ("batch norm, momentum", "0.9 as a C++ float", "0.999", "momentum=float(np.float32(0.9))"),
    (
        "dropout",
        "0.2 before the classifier",
        "none",
        "p = 0 in Paddle's nn.Dropout; to train with it, layers.Dropout(0.2) at the same place",
    ),
    AVERAGE_GRADIENT,
)
"""Between the two as shipped: where, in Paddle, in Keras, and what makes them equal."""


def mobilenet_v2_paddle(num_classes, image_size=64):
    """`paddle.vision.models.mobilenet_v2`, for any image size."""
    from paddle.vision.models import mobilenet_v2

    return mobilenet_v2(num_classes=num_classes)


def mobilenet_v2_tensorflow(num_classes, image_size=64):
    """`keras.applications.MobileNetV2` for images of `image_size` pixels a side."""
    from keras.applications import MobileNetV2

    shape = (image_size, image_size, 3)
    return MobileNetV2(weights=None, input_shape=shape, classes=num_classes, classifier_activation=None)
