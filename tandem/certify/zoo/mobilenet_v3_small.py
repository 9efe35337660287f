"""MobileNetV3 small (Howard et al. 2019, arXiv:1905.02244) as each framework ships it."""

from tandem.certify.zoo.blocks import AVERAGE_GRADIENT, DEPTHWISE, STRIDED_PADDING

DIFFERENCES = (
    (
        "scale of the images",
        "as given",
        "layers.Rescaling(1 / 127.5, -1) first, for pixels from 0 to 255",
        "the argument include_preprocessing=False",
    ),
    STRIDED_PADDING,
    DEPTHWISE,
    ("batch norm, epsilon", "1e-3 as a C++ float", "1e-3 as a double", "epsilon=float(np.float32(1e-3))"),
    ("batch norm, momentum", "0.99 as a C++ float", "0.999", "momentum=float(np.float32(0.99))"),
    (
        "hard sigmoid of squeeze-and-excitation",
        "0.1666667 * x + 0.5 from 0 to 1, with the slope as a C++ float",
        "relu6(x + 3) / 6, whose slope is 2e-7 less",
        "layers.Rescaling(float(np.float32(0.1666667)), 0.5), layers.ReLU(max_value=1)",
    ),
    (
        "dense layers",
        "two Linear, after a flatten",
        "two 1x1 convolutions, then a flatten",
        "layers.Dense after layers.GlobalAveragePooling2D()",
    ),
    (
        "dropout",
        "0.2 before the classifier",
        "0.2 before the classifier, from Keras' own random numbers",
        "p = 0 in Paddle's nn.Dropout, and the argument dropout_rate=0",
    ),
    AVERAGE_GRADIENT,
)
"""Between the two as shipped: where, in Paddle, in Keras, and what makes them equal."""


def mobilenet_v3_small_paddle(num_classes, image_size=64):
    """`paddle.vision.models.mobilenet_v3_small`, for any image size."""
    from paddle.vision.models import mobilenet_v3_small

    return mobilenet_v3_small(num_classes=num_classes)


def mobilenet_v3_small_tensorflow(num_classes, image_size=64):
    """`keras.applications.MobileNetV3Small` for images of `image_size` pixels a side."""
    from keras.applications import MobileNetV3Small

    shape = (image_size, image_size, 3)
    return MobileNetV3Small(weights=None, input_shape=shape, classes=num_classes, classifier_activation=None)
