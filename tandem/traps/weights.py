"""Traps: initial weights and layout."""

from unittest.mock import patch

from tandem.traps.trap import KERAS, PADDLE, PADDLE_ENGINE, TENSORFLOW_ENGINE, enter, kernels_as, tensorflow_modules

THEME = "Initial weights and layout"

LAYOUT_CODE = {
    "paddle": (PADDLE_ENGINE, "variable.set_value(arrays[name].astype(self.dtype))"),
    "tensorflow": (TENSORFLOW_ENGINE, "return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array"),
}
WEIGHTS_CODE = {
    "paddle": (PADDLE_ENGINE, "weights = initial_state("),
    "tensorflow": (TENSORFLOW_ENGINE, "weights = initial_state("),
}


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("initial state", None),
    paddle=(
        "`nn.Conv2D` starts normal with a variance of 2 / fan-in (He), `nn.Linear` uniform with 2 / (in + out) "
        "(Glorot)."
    ),
    tensorflow=(
        "Both start uniform with 2 / (in + out) (Glorot). A seed does not help: the generators differ, and so do the "
        "distributions."
    ),
    here="NumPy makes the weights, from the seed and each one's name, for both.",
    sources=(PADDLE + "python/paddle/nn/layer/conv.py", KERAS + "keras/src/layers/convolutional/conv2d.py"),
    code=WEIGHTS_CODE,
)
def own_initializers():
    """Each framework's own initial weights."""
    tf, _, engine = tensorflow_modules()
    tf.keras.utils.set_random_seed(0)
    return patch.object(engine, "initial_state", lambda shapes, seed: {})


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Conv2D"),
    paddle="A kernel is [out, in, rows, columns].",
    tensorflow=(
        "A kernel is [rows, columns, in, out]. Axes swapped between in and out show by themselves, except where a "
        "layer has as many channels as the one before: there every shape fits."
    ),
    here="One transposition, (2, 3, 1, 0). The probe's second convolution has 8 channels before and after.",
    sources=(PADDLE + "python/paddle/nn/layer/conv.py", KERAS + "keras/src/layers/convolutional/base_conv.py"),
    code=LAYOUT_CODE,
)
def kernel_in_for_out():
    """A kernel's input channels taken for its output channels."""
    return kernels_as(lambda shape: (1, 0, 2, 3) if len(shape) == 4 and shape[0] == shape[1] else None)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Conv2D"),
    paddle="A kernel is [out, in, rows, columns].",
    tensorflow=(
        "A kernel is [rows, columns, in, out]. All four axes simply reversed (`.T`) fit every square kernel, and turn "
        "rows into columns."
    ),
    here="One transposition, (2, 3, 1, 0), in one place.",
    sources=(PADDLE + "python/paddle/nn/layer/conv.py", KERAS + "keras/src/layers/convolutional/base_conv.py"),
    code=LAYOUT_CODE,
)
def kernel_rows_for_columns():
    """A kernel's rows taken for its columns."""
    return kernels_as(lambda shape: (0, 1, 3, 2) if len(shape) == 4 else None)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Linear"),
    paddle="`nn.Linear`'s weight is [in, out].",
    tensorflow=(
        "`keras.layers.Dense`'s kernel is [in, out], too: nothing to transpose. PyTorch's is [out, in], and who has "
        "the habit transposes here as well, which fits wherever a layer is as wide as the one before."
    ),
    here="Dense weights are carried over as they are.",
    sources=(PADDLE + "python/paddle/nn/layer/common.py", KERAS + "keras/src/layers/core/dense.py"),
    code=LAYOUT_CODE,
)
def dense_transposed():
    """A dense kernel transposed."""
    return kernels_as(lambda shape: (1, 0) if len(shape) == 2 and shape[0] == shape[1] else None)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("statistics", "BatchNorm2D"),
    paddle="`state_dict()` of a batch norm is weight, bias, _mean, _variance.",
    tensorflow=(
        "A Keras layer's `weights` are gamma, beta, moving_mean, moving_variance, but `trainable_variables` "
        "followed by `non_trainable_variables` is another order. Paired by order, beta and the moving mean may change "
        "places: of the same shape, both zero at first, so that nothing shows before the first step."
    ),
    here="Names pair the twins, never order.",
    sources=(
        PADDLE + "python/paddle/nn/layer/norm.py",
        KERAS + "keras/src/layers/normalization/batch_normalization.py",
    ),
    code={
        "paddle": ("tandem/core/state.py", 'PADDLE_STATISTICS = {"_mean": "running_mean"'),
        "tensorflow": (TENSORFLOW_ENGINE, '"moving_mean": "running_mean",'),
    },
)
def paired_by_order():
    """Weights paired by order."""
    _, _, engine = tensorflow_modules()
    original = engine.Engine._model_variables

    def model_variables(self):
        variables = original(self)
        swapped = {}
        for name in variables:
            block, _, last = name.rpartition(".")
            if f"{block}.running_mean" in variables and last in ("bias", "running_mean"):
                swapped[name] = variables[f"{block}.{'running_mean' if last == 'bias' else 'bias'}"]
        return {**variables, **swapped}

    return patch.object(engine.Engine, "_model_variables", model_variables)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Conv2D"),
    paddle="Images are [N, 3, H, W], as the bytes of CIFAR-10 lie.",
    tensorflow=(
        "Images are [N, H, W, 3]. `reshape(-1, 32, 32, 3)` of those bytes has the right shape, and pixels that belong "
        "nowhere; a network still learns something from them."
    ),
    here="A transposition on the device, (0, 2, 3, 1).",
    sources=("https://www.cs.toronto.edu/~kriz/cifar.html",),
    code={
        "paddle": (PADDLE_ENGINE, "images = (images.astype(self.dtype) - self.mean)"),
        "tensorflow": (TENSORFLOW_ENGINE, "images = tf.transpose(images, [0, 2, 3, 1])"),
    },
)
def images_reshaped():
    """Images reshaped where they should be transposed."""
    tf, _, engine = tensorflow_modules()
    original = engine.Engine._losses

    def losses(self, images, labels, training):
        _, channels, height, width = images.shape
        images = tf.transpose(tf.reshape(images, [-1, height, width, channels]), [0, 3, 1, 2])
        return original(self, images, labels, training)

    return patch.object(engine.Engine, "_losses", losses)
