"""AlexNet in PaddlePaddle and in TensorFlow, and its training script.

    python alexnet.py --framework paddle
    python alexnet.py --framework tensorflow --config configs/alexnet_32.yaml

Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep convolutional neural networks", in one tower.
"""


def alexnet_paddle(num_classes=10, kernel_size=11, stride=4, padding=1, lrn=True):
    """AlexNet for 32x32 images, as a paddle.nn.Sequential: float [N, 3, 32, 32] to logits [N, num_classes].

    Args:
        num_classes: length of the logits.
        kernel_size, stride, padding: of the first convolution. With the article's 11, 4 and 1, the feature maps after
            convolutions and pools have sides of 6, 3, 3, 1, 1, 1: one pixel from the second pool on.
        lrn: whether local response normalisation follows the first two convolutions.
    """
    from tandem.frameworks.paddle.layers import Conv2D, Dropout, Flatten, LocalResponseNorm, MaxPool2D

    from paddle import nn

    side = last_side(kernel_size, stride, padding)
    return nn.Sequential(
        ("conv1", Conv2D(3, 96, kernel_size, stride, padding, bias=True)),
        ("relu1", nn.ReLU()),
        ("lrn1", LocalResponseNorm(5, alpha=1e-4, beta=0.75) if lrn else nn.Identity()),
        ("pool1", MaxPool2D(3, 2, ceil_mode=True)),
        ("conv2", Conv2D(96, 256, 5, 1, 2, bias=True)),
        ("relu2", nn.ReLU()),
        ("lrn2", LocalResponseNorm(5, alpha=1e-4, beta=0.75) if lrn else nn.Identity()),
        ("pool2", MaxPool2D(3, 2, ceil_mode=True)),
        ("conv3", Conv2D(256, 384, 3, 1, 1, bias=True)),
        ("relu3", nn.ReLU()),
        ("conv4", Conv2D(384, 384, 3, 1, 1, bias=True)),
        ("relu4", nn.ReLU()),
        ("conv5", Conv2D(384, 256, 3, 1, 1, bias=True)),
        ("relu5", nn.ReLU()),
        ("pool5", MaxPool2D(3, 2, ceil_mode=True)),
        ("flatten", Flatten()),
        ("fc6", nn.Linear(256 * side * side, 4096, bias_attr=True)),
        ("relu6", nn.ReLU()),
        ("dropout6", Dropout(0.5)),
        ("fc7", nn.Linear(4096, 4096, bias_attr=True)),
        ("relu7", nn.ReLU()),
        ("dropout7", Dropout(0.5)),
        ("fc8", nn.Linear(4096, num_classes, bias_attr=True)),
    )


def alexnet_tensorflow(num_classes=10, kernel_size=11, stride=4, padding=1, lrn=True):
    """AlexNet for 32x32 images, as a tf.keras.Sequential: float [N, 32, 32, 3] to logits [N, num_classes].

    Args:
        num_classes: length of the logits.
        kernel_size, stride, padding: of the first convolution. With the article's 11, 4 and 1, the feature maps after
            convolutions and pools have sides of 6, 3, 3, 1, 1, 1: one pixel from the second pool on.
        lrn: whether local response normalisation follows the first two convolutions.
    """
    from tandem.frameworks.tensorflow.layers import Conv2D, Dropout, Flatten, LocalResponseNorm, MaxPool2D

    from tensorflow import keras

    return keras.Sequential(
        [
            Conv2D(3, 96, kernel_size, stride, padding, bias=True, name="conv1"),
            keras.layers.ReLU(name="relu1"),
            LocalResponseNorm(5, alpha=1e-4, beta=0.75, name="lrn1") if lrn else keras.layers.Identity(name="lrn1"),
            MaxPool2D(3, 2, ceil_mode=True, name="pool1"),
            Conv2D(96, 256, 5, 1, 2, bias=True, name="conv2"),
            keras.layers.ReLU(name="relu2"),
            LocalResponseNorm(5, alpha=1e-4, beta=0.75, name="lrn2") if lrn else keras.layers.Identity(name="lrn2"),
            MaxPool2D(3, 2, ceil_mode=True, name="pool2"),
            Conv2D(256, 384, 3, 1, 1, bias=True, name="conv3"),
            keras.layers.ReLU(name="relu3"),
            Conv2D(384, 384, 3, 1, 1, bias=True, name="conv4"),
            keras.layers.ReLU(name="relu4"),
            Conv2D(384, 256, 3, 1, 1, bias=True, name="conv5"),
            keras.layers.ReLU(name="relu5"),
            MaxPool2D(3, 2, ceil_mode=True, name="pool5"),
            Flatten(name="flatten"),
            keras.layers.Dense(4096, use_bias=True, name="fc6"),
            keras.layers.ReLU(name="relu6"),
            Dropout(0.5, name="dropout6"),
            keras.layers.Dense(4096, use_bias=True, name="fc7"),
            keras.layers.ReLU(name="relu7"),
            Dropout(0.5, name="dropout7"),
            keras.layers.Dense(num_classes, use_bias=True, name="fc8"),
        ],
        name="alexnet",
    )


def last_side(kernel_size, stride, padding):
    """Height and width after the last pool. Paddle's first dense layer needs them; Keras infers them."""
    side = (32 + 2 * padding - kernel_size) // stride + 1
    for _ in range(3):
        side = max(-(-(side - 3) // 2), 0) + 1
    return side


if __name__ == "__main__":
    from tandem.commands.train import train_script

    train_script(__file__, "alexnet")
