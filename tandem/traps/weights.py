"""Traps: initial weights and layout."""

from unittest.mock import patch

from tandem.traps.symbols import Code
from tandem.traps.trap import KERAS, PADDLE, PADDLE_ENGINE, TENSORFLOW_ENGINE, TENSORFLOW_LAYOUTS, enter

THEME = "Initial weights and layout"

LAYOUT_CODE = {
    "paddle": Code(PADDLE_ENGINE, "Engine.load_state", "variable.set_value("),
    "tensorflow": Code(TENSORFLOW_LAYOUTS, "from_canonical", "return np.moveaxis(array, (0, 1), (-1, -2))"),
}
WEIGHTS_CODE = {
    "paddle": Code(PADDLE_ENGINE, "Engine.__init__", "weights = initial_state("),
    "tensorflow": Code(TENSORFLOW_ENGINE, "Engine.__init__", "weights = initial_state("),
}
KERNEL_SOURCES = (
    PADDLE + "python/paddle/nn/layer/conv.py",
    KERAS + "keras/src/layers/convolutional/base_conv.py",
)


def kernels_as(axes_of):
    """TensorFlow's engine with other axes for Paddle's kernels: `axes_of(shape)`, or None where they are right."""
    from tandem.frameworks.tensorflow import engine

    into, out_of = engine.from_canonical, engine.to_canonical

    def from_canonical(array, *where):
        axes = axes_of(array.shape)
        return into(array.transpose(axes) if axes else array, *where)

    def to_canonical(array, *where):
        array = out_of(array, *where)
        axes = axes_of(array.shape)
        # All of these axes are their own inverse, so a state makes the round trip unchanged.
        return array.transpose(axes).copy() if axes else array

    return patch.multiple(engine, from_canonical=from_canonical, to_canonical=to_canonical)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("initial state", None),
    paddle=(
        "`nn.Conv2D` draws its weight from a normal distribution with variance 2 / fan-in (He), `nn.Linear` from a "
        "uniform one with variance 2 / (in + out) (Glorot)."
    ),
    tensorflow=(
        "`Conv2D` and `Dense` draw from a uniform one with variance 2 / (in + out) (Glorot). An equal seed does not "
        "help: generators and distributions differ."
    ),
    tandem="NumPy draws the weights for both, from the seed and each parameter's name.",
    sources=(PADDLE + "python/paddle/nn/layer/conv.py", KERAS + "keras/src/layers/convolutional/conv2d.py"),
    code=WEIGHTS_CODE,
)
def own_initializers():
    """Each framework's own initial weights."""
    from tandem.frameworks.tensorflow import engine

    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    return patch.object(engine, "initial_state", lambda *arguments, **options: {})


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Conv2D"),
    paddle="A kernel is [out, in, rows, columns].",
    tensorflow=(
        "A kernel is [rows, columns, in, out]. If in and out are swapped, the shapes tell, except where a layer has as "
        "many channels as the one before."
    ),
    tandem="One transposition, (2, 3, 1, 0). The probe's second convolution has 8 channels before and after.",
    sources=KERNEL_SOURCES,
    code=LAYOUT_CODE,
)
def kernel_in_for_out():
    """A kernel's input and output channels swapped."""
    return kernels_as(lambda shape: (1, 0, 2, 3) if len(shape) == 4 and shape[0] == shape[1] else None)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Conv2D"),
    paddle="A kernel is [out, in, rows, columns].",
    tensorflow=(
        "A kernel is [rows, columns, in, out]. Reversing all four axes (`.T`) fits every square kernel, and swaps rows "
        "and columns."
    ),
    tandem="One transposition, (2, 3, 1, 0), in one place.",
    sources=KERNEL_SOURCES,
    code=LAYOUT_CODE,
)
def kernel_rows_for_columns():
    """A kernel's rows and columns swapped."""
    return kernels_as(lambda shape: (0, 1, 3, 2) if len(shape) == 4 else None)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Linear"),
    paddle="The weight of `nn.Linear` is [in, out].",
    tensorflow=(
        "The kernel of `keras.layers.Dense` is [in, out], too: there is nothing to transpose. PyTorch's is [out, in]. "
        "A transposition out of habit fits wherever a layer is as wide as the one before."
    ),
    tandem="Dense weights are carried over as they are.",
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
    paddle="The `state_dict()` of a batch norm is `weight`, `bias`, `_mean`, `_variance`.",
    tensorflow=(
        "The `weights` of a Keras model go layer by layer: `gamma`, `beta`, `moving_mean`, `moving_variance`. "
        "`trainable_variables` followed by `non_trainable_variables` is another order. If weights are paired by order, "
        "`beta` and `moving_mean` may swap places. They have the same shape and both start at zero, so nothing shows "
        "before the first step."
    ),
    tandem="Names pair the twins, never order.",
    sources=(
        PADDLE + "python/paddle/nn/layer/norm.py",
        KERAS + "keras/src/layers/normalization/batch_normalization.py",
    ),
    code={
        "paddle": Code("tandem/core/state.py", "PADDLE_STATISTICS"),
        "tensorflow": Code(TENSORFLOW_ENGINE, "CANONICAL", '"moving_mean": '),
    },
)
def paired_by_order():
    """Weights paired by order."""
    from tandem.frameworks.tensorflow import engine

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
    ("images", ""),
    paddle="Images are [N, 3, H, W], the order of the bytes in CIFAR-10.",
    tensorflow=(
        "Images are [N, H, W, 3]. `reshape(-1, 32, 32, 3)` of those bytes has the right shape and scrambled pixels. A "
        "network still learns something from them."
    ),
    tandem="One transposition on the device, (0, 2, 3, 1).",
    sources=("https://www.cs.toronto.edu/~kriz/cifar.html",),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine._logits", "images = "),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._logits", "tf.transpose(images"),
    },
)
def images_reshaped():
    """Images reshaped instead of transposed."""
    from tandem.frameworks.tensorflow import engine

    import tensorflow as tf

    original = engine.Engine._losses

    def losses(self, images, labels, training):
        _, channels, height, width = images.shape
        images = tf.transpose(tf.reshape(images, [-1, height, width, channels]), [0, 3, 1, 2])
        return original(self, images, labels, training)

    return patch.object(engine.Engine, "_losses", losses)
