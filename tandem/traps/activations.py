"""Traps: activations."""

from unittest.mock import patch

from tandem.traps.symbols import Code
from tandem.traps.trap import KERAS, PADDLE, PADDLE_LAYERS, TENSORFLOW, TENSORFLOW_LAYERS, enter

THEME = "Activations"

PROBES_FILE = "tandem/traps/probes.py"
LEAKY_CODE = {
    "paddle": Code(PROBES_FILE, "probes_paddle", "nn.LeakyReLU("),
    "tensorflow": Code(PROBES_FILE, "probes_tensorflow", "0.1 * x"),
}
HARD_SIGMOID_CODE = {
    "paddle": Code(PROBES_FILE, "probes_paddle", "nn.Hardsigmoid("),
    "tensorflow": Code(PROBES_FILE, "probes_tensorflow", "tf.clip_by_value("),
}
GELU_CODE = {
    "paddle": Code(PROBES_FILE, "probes_paddle", "nn.GELU("),
    "tensorflow": Code(PROBES_FILE, "probes_tensorflow", "tf.math.erf("),
}
PADDLE_ACTIVATIONS = PADDLE + "python/paddle/nn/functional/activation.py"
PADDLE_FUNCTORS = PADDLE + "paddle/phi/kernels/funcs/activation_functor.h"
KERAS_BACKEND = KERAS + "keras/src/backend/tensorflow/nn.py"
TENSORFLOW_NN = TENSORFLOW + "tensorflow/python/ops/nn_ops.py"


def computing(layer, function):
    """The TensorFlow probe, whose activation `layer` computes `function` instead."""
    from tensorflow import keras

    original = keras.layers.Activation.__init__

    def init(self, activation, **options):
        original(self, function if options["name"] == layer else activation, **options)

    return patch.object(keras.layers.Activation, "__init__", init)


@enter(
    THEME,
    "tensorflow",
    "activations",
    ("layer outputs", "LeakyReLU"),
    paddle="`F.leaky_relu` and `nn.LeakyReLU` have a slope of 0.01 for negative numbers by default.",
    tensorflow=(
        "`keras.layers.LeakyReLU` has 0.3 by default, `keras.activations.leaky_relu` and `tf.nn.leaky_relu` have 0.2. "
        "The argument is called `negative_slope` in Paddle and Keras, `alpha` in TensorFlow."
    ),
    tandem="No network here has a leaky ReLU. The probe writes a slope of 0.1 out.",
    sources=(
        PADDLE_ACTIVATIONS,
        KERAS + "keras/src/layers/activations/leaky_relu.py",
        KERAS + "keras/src/activations/activations.py",
        TENSORFLOW_NN,
    ),
    code=LEAKY_CODE,
    setting="slope",
)
def leaky_relu_slope():
    """The slope of a leaky ReLU at Keras' default."""
    import tensorflow as tf

    layer = tf.keras.layers.LeakyReLU()
    return computing("leaky1", lambda x: layer(x))  # no layer in a layer


@enter(
    THEME,
    "tensorflow",
    "activations",
    ("layer outputs", "LeakyReLU"),
    paddle="The kernel takes the slope as a double.",
    tensorflow=(
        "The operator's attribute is a C++ `float`, even in float64: 0.1 becomes 0.10000000149, 0.01 becomes "
        "0.00999999978."
    ),
    tandem="The probe's TensorFlow twin takes the larger of `x` and `0.1 * x`.",
    sources=(TENSORFLOW + "tensorflow/core/ops/nn_ops.cc", PADDLE_FUNCTORS),
    code=LEAKY_CODE,
)
def leaky_relu_float32():
    """The slope of a leaky ReLU kept as a float32."""
    import tensorflow as tf

    return computing("leaky1", lambda x: tf.nn.leaky_relu(x, 0.1))


@enter(
    THEME,
    "tensorflow",
    "activations",
    ("layer outputs", "Hardsigmoid"),
    paddle=(
        "`F.hardsigmoid` has a slope of about 1/6 by default: it rises between -3 and 3. Paddle 1's "
        "`fluid.layers.hard_sigmoid` had 0.2: between -2.5 and 2.5."
    ),
    tensorflow=(
        "`keras.activations.hard_sigmoid` has 1/6. Keras 2's had 0.2. So the same network from another year computes "
        "something else."
    ),
    tandem="No network here has a hard sigmoid. The probe has Paddle's default.",
    sources=(
        PADDLE_ACTIVATIONS,
        "https://paddlepaddle.org.cn/documentation/docs/zh/2.5/api/paddle/fluid/layers/hard_sigmoid_cn.html",
        KERAS_BACKEND,
        "https://github.com/keras-team/keras/blob/00135a70697dc9b4611971e5833e2d84501c3da7/keras/activations.py",
    ),
    code=HARD_SIGMOID_CODE,
    setting="slope",
)
def hard_sigmoid_slope():
    """The slope of a hard sigmoid in older versions."""
    import tensorflow as tf

    return computing("hard2", lambda x: tf.clip_by_value(0.2 * x + 0.5, 0, 1))


@enter(
    THEME,
    "tensorflow",
    "activations",
    ("layer outputs", "Hardsigmoid"),
    paddle=(
        "The default slope is written 0.1666667, and the kernel takes it as a C++ `float`, even in float64: it is "
        "0.16666670143604279, which is 2e-7 more than 1/6."
    ),
    tensorflow="Keras divides by 6 in the type of x. TensorFlow itself has no hard sigmoid.",
    tandem="The probe's TensorFlow twin multiplies by Paddle's number.",
    sources=(PADDLE_ACTIVATIONS, PADDLE_FUNCTORS, KERAS_BACKEND),
    code=HARD_SIGMOID_CODE,
)
def hard_sigmoid_rounded():
    """The slope of a hard sigmoid with seven digits."""
    import tensorflow as tf

    return computing("hard2", tf.keras.activations.hard_sigmoid)


@enter(
    THEME,
    "tensorflow",
    "activations",
    ("layer outputs", "SELU"),
    paddle=(
        "The kernel takes scale and alpha as C++ `float`, even in float64. The outputs are off by up to 3e-8. The "
        "gradient multiplies the two as `float`, so it is not quite that of the outputs."
    ),
    tensorflow="`tf.nn.selu` and Keras' `selu` have them as doubles.",
    tandem="No network here has a SELU. The probe's TensorFlow twin rounds the constants and their product.",
    sources=(
        PADDLE + "paddle/phi/kernels/impl/selu_kernel_impl.h",
        TENSORFLOW + "tensorflow/core/kernels/relu_op_functor.h",
    ),
    code={
        "paddle": Code(PROBES_FILE, "probes_paddle", "nn.SELU("),
        "tensorflow": Code(PROBES_FILE, "probes_tensorflow", "scale, alpha = "),
    },
)
def selu_float32():
    """SELU's constants kept as float32."""
    import tensorflow as tf

    return computing("selu3", tf.nn.selu)


@enter(
    THEME,
    "tensorflow",
    "activations",
    ("layer outputs", "GELU"),
    paddle="`F.gelu` is x times the normal distribution function by default, `approximate=False`.",
    tensorflow=(
        "So are `keras.activations.gelu`, `Activation('gelu')` and `tf.nn.gelu`. But `keras.ops.gelu` approximates it "
        "with tanh by default, `approximate=True`, as the first BERT and GPT did. The outputs differ by up to 5e-4."
    ),
    tandem="No network here has a GELU. The probe's is exact.",
    sources=(PADDLE_ACTIVATIONS, KERAS + "keras/src/ops/nn.py", KERAS + "keras/src/activations/activations.py"),
    code=GELU_CODE,
    setting="approximate",
)
def gelu_tanh():
    """GELU approximated with tanh."""
    import tensorflow as tf

    return computing("gelu4", tf.keras.ops.gelu)


@enter(
    THEME,
    "tensorflow",
    "activations",
    ("layer outputs", "GELU"),
    paddle="The kernel computes with constants of the type of x.",
    tensorflow=(
        "`tf.nn.gelu` casts the square root of 1/2 to the type of x, by way of float32: a Python number that is cast "
        "becomes a float32 first. In float64 the outputs are off by 1e-9, the gradients by 5e-9. The tanh form rounds "
        "0.044715 in the same way."
    ),
    tandem="The probe's TensorFlow twin multiplies by the number itself.",
    sources=(TENSORFLOW_NN, PADDLE + "paddle/phi/kernels/cpu/gelu_kernel.cc"),
    code=GELU_CODE,
)
def gelu_float32():
    """GELU's constant kept as a float32."""
    import tensorflow as tf

    return computing("gelu4", tf.nn.gelu)


@enter(
    THEME,
    "tensorflow",
    "activations",
    ("layer outputs", "ReLU"),
    paddle="`nn.ReLU` has no upper bound. `nn.ReLU6` has.",
    tensorflow=(
        "`keras.layers.ReLU(max_value=6)` and `tf.nn.relu6` have. In a fresh network hardly an activation exceeds 6: "
        "nothing shows before the weights have grown."
    ),
    tandem="A ReLU has no bound. A certificate also takes steps from a drawn state, whose activations exceed 6.",
    sources=(PADDLE_ACTIVATIONS, KERAS + "keras/src/layers/activations/relu.py"),
    code={
        "paddle": Code(PADDLE_LAYERS, "Residual.forward", "F.relu("),
        "tensorflow": Code(TENSORFLOW_LAYERS, "Residual.call", "tf.nn.relu("),
    },
    setting="kind",
)
def relu6_for_relu():
    """ReLU6 in place of ReLU."""
    import tensorflow as tf

    return patch.object(tf.keras.layers.ReLU, "call", lambda self, x: tf.nn.relu6(x))
