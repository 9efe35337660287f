"""MobileNet (Howard et al. 2017, arXiv:1704.04861) as each framework ships it."""

from tandem.certify.zoo.blocks import AVERAGE_GRADIENT, DEPTHWISE

DIFFERENCES = (
    (
        "padding of strided convolutions",
        "one zero on every side",
        "only below and on the right: ZeroPadding2D(((0, 1), (0, 1))), or in the first, at even sizes, padding='same'",
        "layers.ZeroPadding2D(1), and padding='valid'",
    ),
    DEPTHWISE,
    ("activation", "ReLU", "ReLU6", 'layers.Activation("relu")'),
    ("batch norm, epsilon", "1e-5 as a C++ float", "1e-3", "epsilon=float(np.float32(1e-5))"),
    ("batch norm, momentum", "0.9 as a C++ float", "0.99", "momentum=float(np.float32(0.9))"),
    ("classifier", "Linear", "a 1x1 convolution, and a reshape", "layers.Dense"),
    ("dropout", "none", "0.001 before the classifier", "the argument dropout=0"),
    AVERAGE_GRADIENT,
)
"""Between the two as shipped: where, in Paddle, in Keras, and what makes them equal."""


def mobilenet_paddle(num_classes, image_size=64):
    """`paddle.vision.models.mobilenet_v1`, for any image size."""
    from paddle.vision.models import mobilenet_v1

    return mobilenet_v1(num_classes=num_classes)


def mobilenet_tensorflow(num_classes, image_size=64):
    """`keras.applications.MobileNet` for images of `image_size` pixels a side."""
    from keras.applications import MobileNet

    shape = (image_size, image_size, 3)
    return MobileNet(weights=None, input_shape=shape, classes=num_classes, classifier_activation=None)
