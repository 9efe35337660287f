"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) as each framework ships it, and a Keras twin of Paddle's."""

from tandem.certify.zoo.blocks import AVERAGE_GRADIENT, DEPTHWISE, STRIDED_PADDING, conv_norm, without_dropout

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Of each stage: the factor of the channels within a block, the channels after it, the blocks, the first's stride."""

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


def mobilenet_v2_adapted_paddle(num_classes, image_size=64):
    """Paddle's network without its dropout."""
    return without_dropout(mobilenet_v2_paddle(num_classes))


def mobilenet_v2_adapted_tensorflow(num_classes, image_size=64):
    """The Keras twin of Paddle's network."""
    import keras
    from keras import layers

    images = keras.Input((image_size, image_size, 3))
    x = keras.Sequential(conv_norm(32, 3, 2, 1, "relu6"))(images)
    for factor, channels, blocks, first_stride in STAGES:
        for block in range(blocks):
            expanded, stride = factor * x.shape[-1], 1 if block else first_stride
            body = conv_norm(expanded, 1, activation="relu6") if factor > 1 else []
            body += [*conv_norm(None, 3, stride, 1, "relu6"), *conv_norm(channels, 1, activation=None)]
            y = keras.Sequential(body)(x)
            x = layers.Add()([x, y]) if block else y
    x = keras.Sequential(conv_norm(1280, 1, activation="relu6"))(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(num_classes)(x))
