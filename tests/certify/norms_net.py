"""Your own network for test_replicas.py: batch norms of Tandem and of the frameworks, some frozen; and dropout."""


def norms_net_paddle(num_classes):
    from tandem.frameworks.paddle.layers import BatchNorm2D

    from paddle import nn

    scaled = BatchNorm2D(8)
    scaled.bias.trainable = False
    frozen = nn.BatchNorm2D(8)
    for parameter in (frozen.weight, frozen.bias):
        parameter.trainable = False
    return nn.Sequential(
        ("conv1", nn.Conv2D(3, 8, 3, stride=2, padding=1, bias_attr=False)),
        ("bn1", scaled),
        ("relu1", nn.ReLU()),
        ("conv2", nn.Conv2D(8, 8, 3, stride=2, padding=1, bias_attr=False)),
        ("bn2", nn.BatchNorm2D(8, momentum=0.8, epsilon=1e-3, weight_attr=False)),
        ("relu2", nn.ReLU()),
        ("bn3", frozen),
        ("dropout3", nn.Dropout(0.3)),
        ("flatten", nn.Flatten()),
        ("fc4", nn.Linear(128, num_classes)),
    )


def norms_net_tensorflow(num_classes):
    from tandem.frameworks.tensorflow.layers import BatchNorm2D

    from keras import Sequential, layers

    scaled = BatchNorm2D(8, name="bn1")
    scaled.build([None, 8, 8, 8])
    scaled.beta.trainable = False
    return Sequential(
        [
            layers.Conv2D(8, 3, strides=2, use_bias=False, name="conv1"),
            scaled,
            layers.ReLU(name="relu1"),
            layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="conv2"),
            layers.BatchNormalization(momentum=0.8, scale=False, name="bn2"),
            layers.ReLU(name="relu2"),
            layers.BatchNormalization(trainable=False, name="bn3"),
            layers.Dropout(0.3, name="dropout3"),
            layers.Flatten(name="flatten"),
            layers.Dense(num_classes, name="fc4"),
        ]
    )
