"""MobileNet (Howard et al. 2017, arXiv:1704.04861) as each framework ships it, and a Keras twin of Paddle's."""

from tandem.certify.zoo.blocks import AVERAGE_GRADIENT, DEPTHWISE, conv_norm

BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""The channels of each block, and its stride."""

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


def mobilenet_adapted_paddle(num_classes, image_size=64):
    """Paddle's network, as shipped."""
    return mobilenet_paddle(num_classes)


def mobilenet_adapted_tensorflow(num_classes, image_size=64):
    """The Keras twin of Paddle's network."""
    import keras
    from keras import layers

    features = conv_norm(32, 3, 2, 1)
    for channels, stride in BLOCKS:
        features += [*conv_norm(None, 3, stride, 1), *conv_norm(channels, 1)]
    images = keras.Input((image_size, image_size, 3))
    return keras.Sequential([images, *features, layers.GlobalAveragePooling2D(), layers.Dense(num_classes)])
