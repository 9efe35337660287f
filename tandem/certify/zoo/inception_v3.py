"""Inception-v3 (Szegedy et al. 2016, arXiv:1512.00567) as each framework ships it.

Neither has the paper's auxiliary classifier.
"""

from tandem.certify.zoo.blocks import AVERAGE_GRADIENT

DIFFERENCES = (
    ("batch norm, scale", "one for each channel", "none: scale=False", "layers.BatchNormalization with its scale"),
    ("batch norm, epsilon", "1e-5 as a C++ float", "1e-3", "epsilon=float(np.float32(1e-5))"),
    ("batch norm, momentum", "0.9 as a C++ float", "0.99", "momentum=float(np.float32(0.9))"),
    (
        "3x3 average pool at an edge",
        "the sum divided by 9, with the zeros outside: exclusive=False",
        "divided by the number of pixels inside",
        "layers.ZeroPadding2D(1), layers.AveragePooling2D(3, 1)",
    ),
    (
        "dropout",
        'Dropout(0.2, mode="downscale_in_infer"): in evaluation the features are multiplied by 0.8',
        "none",
        "p = 0 in Paddle's nn.Dropout, which ends the factor, too; with p = 0.2, fc.weight / 0.8 in evaluation",
    ),
    (
        "order within a block",
        "branch after branch",
        "by depth in the graph, so the branches' layers alternate",
        "a keras.Sequential for each branch",
    ),
    AVERAGE_GRADIENT,
)
"""Between the two as shipped: where, in Paddle, in Keras, and what makes them equal."""


def inception_v3_paddle(num_classes, image_size=75):
    """`paddle.vision.models.inception_v3`, for any image size from 75."""
    from paddle.vision.models import inception_v3

    return inception_v3(num_classes=num_classes)


def inception_v3_tensorflow(num_classes, image_size=75):
    """`keras.applications.InceptionV3` for images of `image_size` pixels a side, 75 or more."""
    from keras.applications import InceptionV3

    shape = (image_size, image_size, 3)
    return InceptionV3(weights=None, input_shape=shape, classes=num_classes, classifier_activation=None)
