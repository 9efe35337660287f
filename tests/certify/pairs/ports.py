"""A network and its port, in stock layers, as people write them: for tests/certify/test_ports.py.

Each kind is a pair of functions, in Paddle and in Keras. The file imports both frameworks, and a module beside it.
"""

import keras
import paddle
import paddle.nn.functional as F
import tensorflow as tf
from keras import layers
from paddle import nn
from sizes import WIDTH
from tensorflow.keras import layers as L


def ports_paddle(num_classes, kind, how="right"):
    return PADDLE[kind](num_classes, how)


def ports_tensorflow(num_classes, kind, how="right"):
    return TENSORFLOW[kind](num_classes, how)


def small_paddle(middle, channels, classes):
    """A convolution, what is tried, and an end that every kind has."""
    head = ("conv1", nn.Conv2D(3, WIDTH, 2, stride=2, padding=0)), *middle
    tail = ("pool", nn.AdaptiveAvgPool2D(1)), ("flat", nn.Flatten()), ("fc", nn.Linear(channels, classes))
    return nn.Sequential(*head, *tail)


def small_keras(middle, classes):
    """The same, with one layer for two at the end: its output is [N, C] where Paddle's pool has [N, C, 1, 1]."""
    first, last = layers.Conv2D(WIDTH, 2, strides=2, name="conv1"), layers.Dense(classes, name="fc")
    return keras.Sequential(
        [keras.Input((32, 32, 3)), first, *middle, layers.GlobalAveragePooling2D(name="pool"), last]
    )


# Activations: some have constants, which Paddle keeps as float32.
ACTIVATIONS = {
    "hard_sigmoid": (nn.Hardsigmoid, lambda: layers.Activation("hard_sigmoid", name="act")),
    "leaky": (lambda: nn.LeakyReLU(0.1), lambda: layers.LeakyReLU(negative_slope=0.1, name="act")),
    "leaky_defaults": (nn.LeakyReLU, lambda: layers.LeakyReLU(name="act")),
    "selu": (nn.SELU, lambda: layers.Activation("selu", name="act")),
    "relu6": (nn.ReLU6, lambda: layers.ReLU(6.0, name="act")),
    "relu6_for_relu": (nn.ReLU, lambda: layers.ReLU(6.0, name="act")),
    "prelu": (
        lambda: nn.PReLU(WIDTH, init=0.25),
        lambda: layers.PReLU(shared_axes=[1, 2], alpha_initializer=keras.initializers.Constant(0.25), name="act"),
    ),
    "noise": (nn.Identity, lambda: layers.GaussianNoise(0.1, name="act")),
    "dropout": (lambda: nn.Dropout(0.3), lambda: layers.Dropout(0.3, name="act")),
}


def activation_paddle(num_classes, how):
    return small_paddle([("act", ACTIVATIONS[how][0]())], WIDTH, num_classes)


def activation_keras(num_classes, how):
    return small_keras([ACTIVATIONS[how][1]()], num_classes)


def batch_norm_paddle(num_classes, how):
    norm = nn.BatchNorm2D(WIDTH) if how == "defaults" else nn.BatchNorm2D(WIDTH, momentum=0.9, epsilon=1e-5)
    if how == "frozen":
        for parameter in norm.parameters():
            parameter.trainable = False
    return small_paddle([("bn1", norm), ("relu1", nn.ReLU())], WIDTH, num_classes)


def batch_norm_keras(num_classes, how):
    constants = {} if how == "defaults" else {"momentum": 0.9, "epsilon": 1e-5}
    norm = layers.BatchNormalization(name="bn1", **constants)
    norm.trainable = how != "frozen"
    return small_keras([norm, layers.ReLU(name="relu1")], num_classes)


def depthwise_paddle(num_classes, how):
    depthwise = nn.Conv2D(WIDTH, WIDTH, 3, stride=2, padding=1, groups=WIDTH, bias_attr=False)
    pointwise = nn.Conv2D(WIDTH, 2 * WIDTH, 1, bias_attr=False)
    return small_paddle([("dw", depthwise), ("pw", pointwise), ("relu", nn.ReLU())], 2 * WIDTH, num_classes)


def depthwise_keras(num_classes, how):
    pad = [] if how == "same" else [layers.ZeroPadding2D(1, name="pad")]
    padding = "same" if how == "same" else "valid"
    depthwise = layers.DepthwiseConv2D(3, strides=2, padding=padding, use_bias=False, name="dw")
    pointwise = layers.Conv2D(2 * WIDTH, 1, use_bias=False, name="pw")
    return small_keras([*pad, depthwise, pointwise, layers.ReLU(name="relu")], num_classes)


class SharedPaddle(nn.Layer):
    """One ReLU, and with `tied` one convolution, in two blocks, of which the first runs twice."""

    def __init__(self, num_classes, how):
        super().__init__()
        self.stem = nn.Conv2D(3, WIDTH, 3, stride=2, padding=0)
        act, conv = nn.ReLU(), nn.Conv2D(WIDTH, WIDTH, 3, padding=1)
        second = conv if how == "tied" else nn.Conv2D(WIDTH, WIDTH, 3, padding=1)
        self.block1 = nn.Sequential(("conv", conv), ("act", act))
        self.block2 = nn.Sequential(("conv", second), ("act", act))
        self.fc = nn.Linear(WIDTH, num_classes)

    def forward(self, x):
        return self.fc(self.block2(self.block1(self.block1(self.stem(x)))).mean([2, 3]))


class SharedKeras(tf.keras.Model):
    """The same."""

    def __init__(self, num_classes, how):
        super().__init__()
        self.stem = L.Conv2D(WIDTH, 3, strides=2, name="stem")
        act, conv = L.ReLU(name="act"), L.Conv2D(WIDTH, 3, padding="same", name="conv")
        second = conv if how == "tied" else L.Conv2D(WIDTH, 3, padding="same", name="conv")
        self.block1 = keras.Sequential([conv, act], name="block1")
        self.block2 = keras.Sequential([second, act], name="block2")
        self.fc = L.Dense(num_classes, name="fc")

    def call(self, x):
        return self.fc(tf.reduce_mean(self.block2(self.block1(self.block1(self.stem(x)))), [1, 2]))


class AuxiliaryPaddle(nn.Layer):
    """A head that is built and called, but not returned."""

    def __init__(self, num_classes, how):
        super().__init__()
        self.conv1 = nn.Conv2D(3, WIDTH, 3, stride=2, padding=0)
        self.aux = nn.Linear(WIDTH, num_classes)
        self.fc = nn.Linear(WIDTH, num_classes)

    def forward(self, x):
        x = F.relu(self.conv1(x)).mean([2, 3])
        self.aux(x)
        return self.fc(x)


class AuxiliaryKeras(keras.Model):
    """The same, with the activation inside the convolution."""

    def __init__(self, num_classes, how):
        super().__init__()
        self.conv1 = layers.Conv2D(WIDTH, 3, strides=2, activation="relu", name="conv1")
        self.aux = layers.Dense(num_classes, name="aux")
        self.fc = layers.Dense(num_classes, name="fc")

    def call(self, x):
        x = keras.ops.mean(self.conv1(x), (1, 2))
        self.aux(x)
        return self.fc(x)


class ConvNextPaddle(nn.Layer):
    """A block with channels last inside, of 8x8 images with 8 channels: nothing tells the axes apart but the layers."""

    def __init__(self, num_classes, how):
        super().__init__()
        self.stem = nn.Conv2D(3, WIDTH, 4, stride=4)
        self.dw = nn.Conv2D(WIDTH, WIDTH, 7, padding=3, groups=WIDTH)
        self.norm = nn.LayerNorm(WIDTH, epsilon=1e-6)
        self.pw1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.act = nn.GELU()
        self.pw2 = nn.Linear(4 * WIDTH, WIDTH)
        self.fc = nn.Linear(WIDTH, num_classes)

    def forward(self, x):
        x = self.stem(x)
        y = self.pw2(self.act(self.pw1(self.norm(self.dw(x).transpose([0, 2, 3, 1])))))
        return self.fc((x + y.transpose([0, 3, 1, 2])).mean([2, 3]))


class ConvNextKeras(keras.Model):
    """The same."""

    def __init__(self, num_classes, how):
        super().__init__()
        self.stem = layers.Conv2D(WIDTH, 4, strides=4, name="stem")
        self.dw = layers.Conv2D(WIDTH, 7, padding="same", groups=WIDTH, name="dw")
        self.norm = layers.LayerNormalization(epsilon=1e-3 if how == "epsilon" else 1e-6, name="norm")
        self.pw1 = layers.Dense(4 * WIDTH, name="pw1")
        self.act = layers.Lambda(lambda x: tf.nn.gelu(x, approximate=how == "tanh"), name="act")
        self.pw2 = layers.Dense(WIDTH, name="pw2")
        self.fc = layers.Dense(num_classes, name="fc")

    def call(self, x):
        x = self.stem(x)
        return self.fc(keras.ops.mean(x + self.pw2(self.act(self.pw1(self.norm(self.dw(x))))), (1, 2)))


class InceptionPaddle(nn.Layer):
    """Branches, of which two could be taken for each other but for what they feed; an average pool with padding."""

    def __init__(self, num_classes, how):
        super().__init__()
        self.stem = nn.Conv2D(3, WIDTH, 2, stride=2, padding=0)
        self.relu = nn.ReLU()
        self.b1 = nn.Conv2D(WIDTH, 4, 1)
        self.b2a = nn.Conv2D(WIDTH, 4, (1, 7), padding=(0, 3))
        self.b2b = nn.Conv2D(4, 4, (7, 1), padding=(3, 0))
        self.b3 = nn.Conv2D(WIDTH, 4, 3, padding=2, dilation=2)
        self.pool = nn.AvgPool2D(3, stride=1, padding=1, exclusive=how != "include_pad")
        self.fc = nn.Linear(12 + WIDTH, num_classes)

    def forward(self, x):
        x = self.relu(self.stem(x))
        parts = [self.b1(x), self.b2b(self.b2a(x)), self.b3(x), self.pool(x)]
        return self.fc(paddle.concat(parts, axis=1).mean([2, 3]))


def inception_keras(num_classes, how):
    """The same, with other names and the branches built in another order."""
    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(layers.Conv2D(WIDTH, 2, strides=2)(inputs))
    pooled = layers.AveragePooling2D(3, strides=1, padding="same")(x)
    dilated = layers.Conv2D(4, 3, padding="same", dilation_rate=2)(x)
    two = layers.Conv2D(4, (7, 1), padding="same")(layers.Conv2D(4, (1, 7), padding="same")(x))
    one = layers.Conv2D(4, 1)(x)
    parts = [one, dilated, two, pooled] if how == "order" else [one, two, dilated, pooled]
    x = keras.ops.mean(keras.ops.concatenate(parts, axis=-1), axis=(1, 2))
    return keras.Model(inputs, layers.Dense(num_classes)(x))


# A model inside another, without names; a batch norm with its activation inside; zeros around a max pool behind a ReLU.
def nested_paddle(num_classes, how):
    norm = nn.BatchNorm(WIDTH, act="relu", dtype=paddle.get_default_dtype())
    conv = nn.Conv2D(WIDTH, WIDTH, 1)
    base = nn.Sequential(nn.Conv2D(3, WIDTH, 3, stride=2), norm, conv, nn.ReLU(), nn.MaxPool2D(3, 2, padding=1))
    return nn.Sequential(base, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(WIDTH, num_classes))


def nested_keras(num_classes, how):
    images = keras.Input((32, 32, 3))
    x = layers.Conv2D(WIDTH, 3, strides=2)(images)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x))
    x = layers.ReLU()(layers.Conv2D(WIDTH, 1)(x))
    base = keras.Model(images, layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x)))
    return keras.Sequential([base, layers.GlobalAveragePooling2D(), layers.Dense(num_classes)])


class ElsewherePaddle(nn.Layer):
    """Arrays that Keras holds in other layers: of a separable convolution, of attention, of the network itself."""

    def __init__(self, num_classes, how):
        super().__init__()
        self.stem = nn.Conv2D(3, WIDTH, 2, stride=2, padding=1)
        self.depthwise = nn.Conv2D(WIDTH, 2 * WIDTH, 3, padding=1, groups=WIDTH, bias_attr=False)
        self.pointwise = nn.Conv2D(2 * WIDTH, WIDTH, 1)
        self.dropout2d = nn.Dropout2D(0.3)
        self.pad = nn.Pad2D([0, 1, 0, 1])
        self.even = nn.Conv2D(WIDTH, WIDTH, 2, stride=2)
        self.positions = self.create_parameter([1, 81, WIDTH], default_initializer=nn.initializer.Normal())
        self.scale = self.create_parameter([WIDTH], default_initializer=nn.initializer.Constant(0.5))
        self.attention = nn.MultiHeadAttention(WIDTH, 2)
        self.drop = nn.Dropout(0.4)
        self.fc = nn.Linear(WIDTH, num_classes)

    def forward(self, x):
        x = self.dropout2d(self.pointwise(self.depthwise(self.stem(x))))
        x = self.even(self.pad(x))
        x = x.flatten(2).transpose([0, 2, 1]) + self.positions
        return self.fc(self.drop((x + self.attention(x, x, x) * self.scale).mean(1)))


class Held(layers.Layer):
    """A layer of one's own for one array: the function `joins` joins it to the input."""

    def __init__(self, shape, joins):
        super().__init__()
        self.joins = joins
        self.held = self.add_weight(shape=shape, initializer="ones", name="held")

    def call(self, x):
        return self.joins(x, self.held)


def elsewhere_keras(num_classes, how):
    """The same; its padding lies elsewhere, too. What drops elements has other names."""
    images = keras.Input((32, 32, 3))
    x = layers.Conv2D(WIDTH, 2, strides=2)(layers.ZeroPadding2D(1)(images))
    x = layers.SpatialDropout2D(0.3)(layers.SeparableConv2D(WIDTH, 3, padding="same", depth_multiplier=2)(x))
    if how == "before":
        x = layers.Conv2D(WIDTH, 2, strides=2)(layers.ZeroPadding2D(((1, 0), (1, 0)))(x))
    else:
        x = layers.Conv2D(WIDTH, 2, strides=2, padding="same")(x)
    x = Held((1, 81, WIDTH), lambda x, held: x + held)(layers.Reshape((81, WIDTH))(x))
    attention = layers.MultiHeadAttention(2, WIDTH // 2)(x, x)
    x = layers.GlobalAveragePooling1D()(x + Held((WIDTH,), lambda x, held: x * held)(attention))
    return keras.Model(images, layers.Dense(num_classes)(layers.Dropout(0.4)(x)))


class TypicalPaddle(nn.Layer):
    """What a port that has four mistakes is of."""

    def __init__(self, num_classes, how):
        super().__init__()
        self.conv1 = nn.Conv2D(3, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2D(16)
        self.pool = nn.MaxPool2D(2)
        self.conv2 = nn.Conv2D(16, WIDTH, 3, stride=2, padding=1)
        self.fc = nn.Linear(WIDTH * 8 * 8, num_classes)

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        return self.fc(paddle.flatten(F.relu(self.conv2(x)), 1))


def typical_keras(num_classes, how):
    right = how == "right"
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, padding="same", name="conv1")(inputs)
    x = layers.BatchNormalization(name="bn1", **({"momentum": 0.9, "epsilon": 1e-5} if right else {}))(x)
    x = layers.MaxPooling2D()(layers.ReLU()(x))
    x = layers.ZeroPadding2D(1)(x) if right else x
    padding = "valid" if right else "same"
    x = layers.Conv2D(WIDTH, 3, strides=2, padding=padding, activation="relu", name="conv2")(x)
    x = layers.Permute((3, 1, 2), name="perm")(x) if right else x
    return keras.Model(inputs, layers.Dense(num_classes, name="fc")(layers.Flatten()(x)))


PADDLE = {
    "activation": activation_paddle,
    "auxiliary": AuxiliaryPaddle,
    "batch_norm": batch_norm_paddle,
    "convnext": ConvNextPaddle,
    "depthwise": depthwise_paddle,
    "elsewhere": ElsewherePaddle,
    "inception": InceptionPaddle,
    "nested": nested_paddle,
    "shared": SharedPaddle,
    "typical": TypicalPaddle,
}
TENSORFLOW = {
    "activation": activation_keras,
    "auxiliary": AuxiliaryKeras,
    "batch_norm": batch_norm_keras,
    "convnext": ConvNextKeras,
    "depthwise": depthwise_keras,
    "elsewhere": elsewhere_keras,
    "inception": inception_keras,
    "nested": nested_keras,
    "shared": SharedKeras,
    "typical": typical_keras,
}
