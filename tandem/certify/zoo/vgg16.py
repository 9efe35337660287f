"""VGG-16 (Simonyan & Zisserman 2015, arXiv:1409.1556) as each framework ships it."""

DIFFERENCES = (
    (
        "pool before the dense layers",
        "AdaptiveAvgPool2D(7): 25088 features, whatever the image size",
        "none: 512 features for each 32x32 pixels, so 25088 only for images of 224x224",
        "layers.AdaptiveAveragePooling2D(7), which changes nothing at 224x224",
    ),
    (
        "order of the flattened features",
        "channels, rows, columns",
        "rows, columns, channels",
        "layers.Permute((3, 1, 2)) before layers.Flatten()",
    ),
    (
        "dropout",
        "0.5 after each of the first two dense layers",
        "none",
        "p = 0 in Paddle's nn.Dropout; to train with it, layers.Dropout(0.5) at the same places",
    ),
)
"""Between the two as shipped: where, in Paddle, in Keras, and what makes them equal."""


def vgg16_paddle(num_classes, image_size=64):
    """`paddle.vision.models.vgg16`, for any image size."""
    from paddle.vision.models import vgg16

    return vgg16(num_classes=num_classes)


def vgg16_tensorflow(num_classes, image_size=64):
    """`keras.applications.VGG16` for images of `image_size` pixels a side."""
    from keras.applications import VGG16

    shape = (image_size, image_size, 3)
    return VGG16(weights=None, input_shape=shape, classes=num_classes, classifier_activation=None)
