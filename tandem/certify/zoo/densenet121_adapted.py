"""DenseNet-121 (Huang et al. 2017, arXiv:1608.06993) as Paddle ships it, and a Keras twin of it."""

from tandem.certify.zoo.densenet121 import densenet121_paddle, densenet121_tensorflow

import numpy as np


def densenet121_adapted_paddle(num_classes, image_size=64):
    """Paddle's network, as shipped."""
    return densenet121_paddle(num_classes)


def densenet121_adapted_tensorflow(num_classes, image_size=64):
    """Keras' network with the two numbers of Paddle's batch norm, which are C++ floats also in float64."""
    from keras import layers

    model = densenet121_tensorflow(num_classes, image_size)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum, layer.epsilon = float(np.float32(0.9)), float(np.float32(1e-5))
    return model
