"""DenseNet-121 (Huang et al. 2017, arXiv:1608.06993) as each framework ships it, and a Keras twin of Paddle's."""

import numpy as np


def densenet121_paddle(num_classes, image_size=64):
    """`paddle.vision.models.densenet121`, for any image size."""
    from paddle.vision.models import densenet121

    return densenet121(num_classes=num_classes)


def densenet121_tensorflow(num_classes, image_size=64):
    """`keras.applications.DenseNet121` for images of `image_size` pixels a side."""
    from keras.applications import DenseNet121

    shape = (image_size, image_size, 3)
    return DenseNet121(weights=None, input_shape=shape, classes=num_classes, classifier_activation=None)


def densenet121_adapted_paddle(num_classes, image_size=64):
    """Paddle's network, as shipped, in the default type."""
    import paddle

    return densenet121_paddle(num_classes).to(dtype=paddle.get_default_dtype())


def densenet121_adapted_tensorflow(num_classes, image_size=64):
    """Keras' network with the two numbers of Paddle's batch norm, which are C++ floats also in float64."""
    from keras import layers

    model = densenet121_tensorflow(num_classes, image_size)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum, layer.epsilon = float(np.float32(0.9)), float(np.float32(1e-5))
    return model
