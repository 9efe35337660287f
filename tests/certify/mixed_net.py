"""Your own network for test_reference.py: each kind of layer once, at sizes that do not divide."""


def mixed_net_paddle(num_classes):
    from tandem.frameworks.paddle import layers

    from paddle import nn

    return nn.Sequential(
        ("conv1", layers.Conv2D(3, 8, 4, stride=2, padding=1, bias=True)),
        ("norm1", layers.LocalResponseNorm(5, 0.5, 0.75)),
        ("pool1", layers.MaxPool2D(3, 2)),
        ("conv2", layers.Conv2D(8, 8, 3, stride=1, padding=1, groups=2, bias=True)),
        ("bn2", layers.BatchNorm2D(8)),
        ("relu2", nn.ReLU()),
        ("pool2", layers.MaxPool2D(2, 2, ceil_mode=True)),
        ("dropout2", layers.Dropout(0.3)),
        ("shortcut", layers.AveragePoolPad(8, 12)),
        ("se", layers.SqueezeExcitation(12, 3)),
        ("flatten", layers.Flatten()),
        ("fc3", nn.Linear(48, 16)),
        ("bn3", layers.BatchNorm1D(16)),
        ("relu3", nn.ReLU()),
        ("dropout3", layers.Dropout(0.5)),
        ("fc4", nn.Linear(16, num_classes)),
    )


def mixed_net_tensorflow(num_classes):
    from tandem.frameworks.tensorflow import layers

    import tensorflow as tf

    return tf.keras.Sequential(
        [
            layers.Conv2D(3, 8, 4, stride=2, padding=1, bias=True, name="conv1"),
            layers.LocalResponseNorm(5, 0.5, 0.75, name="norm1"),
            layers.MaxPool2D(3, 2, name="pool1"),
            layers.Conv2D(8, 8, 3, stride=1, padding=1, groups=2, bias=True, name="conv2"),
            layers.BatchNorm2D(8, name="bn2"),
            tf.keras.layers.ReLU(name="relu2"),
            layers.MaxPool2D(2, 2, ceil_mode=True, name="pool2"),
            layers.Dropout(0.3, name="dropout2"),
            layers.AveragePoolPad(8, 12, name="shortcut"),
            layers.SqueezeExcitation(12, 3, name="se"),
            layers.Flatten(name="flatten"),
            tf.keras.layers.Dense(16, use_bias=True, name="fc3"),
            layers.BatchNorm1D(16, name="bn3"),
            tf.keras.layers.ReLU(name="relu3"),
            layers.Dropout(0.5, name="dropout3"),
            tf.keras.layers.Dense(num_classes, use_bias=True, name="fc4"),
        ]
    )
