"""LeNet-5 and a simple CNN, two small baselines, in PaddlePaddle and in TensorFlow, and their training script.

    python lenet.py --framework paddle
    python lenet.py --framework tensorflow --config configs/simple_cnn.yaml

LeNet-5: LeCun et al. 1998, "Gradient-based learning applied to document recognition". This is the form that is used
today, with ReLU and max pooling, for three colour channels.
"""


def lenet5_paddle(num_classes=10):
    """LeNet-5 for 32x32 images, as a paddle.nn.Sequential: float [N, 3, 32, 32] to logits [N, num_classes]."""
    from tandem.frameworks.paddle.layers import Conv2D, Flatten, MaxPool2D

    from paddle import nn

    return nn.Sequential(
        ("conv1", Conv2D(3, 6, 5, 1, 0, bias=True)),
        ("relu1", nn.ReLU()),
        ("pool1", MaxPool2D(2, 2)),
        ("conv2", Conv2D(6, 16, 5, 1, 0, bias=True)),
        ("relu2", nn.ReLU()),
        ("pool2", MaxPool2D(2, 2)),
        ("flatten", Flatten()),
        ("fc3", nn.Linear(16 * 5 * 5, 120, bias_attr=True)),
        ("relu3", nn.ReLU()),
        ("fc4", nn.Linear(120, 84, bias_attr=True)),
        ("relu4", nn.ReLU()),
        ("fc5", nn.Linear(84, num_classes, bias_attr=True)),
    )


def lenet5_tensorflow(num_classes=10):
    """LeNet-5 for 32x32 images, as a tf.keras.Sequential: float [N, 32, 32, 3] to logits [N, num_classes]."""
    from tandem.frameworks.tensorflow.layers import Conv2D, Flatten, MaxPool2D

    from tensorflow import keras

    return keras.Sequential(
        [
            Conv2D(3, 6, 5, 1, 0, bias=True, name="conv1"),
            keras.layers.ReLU(name="relu1"),
            MaxPool2D(2, 2, name="pool1"),
            Conv2D(6, 16, 5, 1, 0, bias=True, name="conv2"),
            keras.layers.ReLU(name="relu2"),
            MaxPool2D(2, 2, name="pool2"),
            Flatten(name="flatten"),
            keras.layers.Dense(120, use_bias=True, name="fc3"),
            keras.layers.ReLU(name="relu3"),
            keras.layers.Dense(84, use_bias=True, name="fc4"),
            keras.layers.ReLU(name="relu4"),
            keras.layers.Dense(num_classes, use_bias=True, name="fc5"),
        ],
        name="lenet5",
    )


def simple_cnn_paddle(num_classes=10):
    """The articles' simple CNN, as a paddle.nn.Sequential: float [N, 3, 32, 32] to logits [N, num_classes].

    The articles also put a softmax after the dense layer of 512 units; here it is a ReLU.
    """
    from tandem.frameworks.paddle.layers import Conv2D, Flatten, MaxPool2D

    from paddle import nn

    return nn.Sequential(
        ("conv1", Conv2D(3, 20, 5, 1, 0, bias=True)),
        ("relu1", nn.ReLU()),
        ("pool1", MaxPool2D(2, 2)),
        ("conv2", Conv2D(20, 50, 5, 1, 0, bias=True)),
        ("relu2", nn.ReLU()),
        ("pool2", MaxPool2D(2, 2)),
        ("flatten", Flatten()),
        ("fc3", nn.Linear(50 * 5 * 5, 512, bias_attr=True)),
        ("relu3", nn.ReLU()),
        ("fc4", nn.Linear(512, num_classes, bias_attr=True)),
    )


def simple_cnn_tensorflow(num_classes=10):
    """The articles' simple CNN, as a tf.keras.Sequential: float [N, 32, 32, 3] to logits [N, num_classes].

    The articles also put a softmax after the dense layer of 512 units; here it is a ReLU.
    """
    from tandem.frameworks.tensorflow.layers import Conv2D, Flatten, MaxPool2D

    from tensorflow import keras

    return keras.Sequential(
        [
            Conv2D(3, 20, 5, 1, 0, bias=True, name="conv1"),
            keras.layers.ReLU(name="relu1"),
            MaxPool2D(2, 2, name="pool1"),
            Conv2D(20, 50, 5, 1, 0, bias=True, name="conv2"),
            keras.layers.ReLU(name="relu2"),
            MaxPool2D(2, 2, name="pool2"),
            Flatten(name="flatten"),
            keras.layers.Dense(512, use_bias=True, name="fc3"),
            keras.layers.ReLU(name="relu3"),
            keras.layers.Dense(num_classes, use_bias=True, name="fc4"),
        ],
        name="simple_cnn",
    )


if __name__ == "__main__":
    from tandem.commands.train import train_script

    train_script(__file__, "lenet5")
