"""The traps: every known way in which 'the same' network differs between Paddle and TensorFlow, each one a switch.

A trap is a mutation of one twin, in a few lines, kept out of the networks and the layers; a probe (tandem/probes.py)
on which it shows; and what the certificate must say of it. tandem/gallery.py switches each on, certifies the probe,
and writes docs/differences.md. Each mutation is the function under its facts: it imports its framework when called,
and returns a context manager.
"""

import contextlib
import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

PADDLE = "https://github.com/PaddlePaddle/Paddle/blob/v3.3.1/"
TENSORFLOW = "https://github.com/tensorflow/tensorflow/blob/v2.21.0/"
KERAS = "https://github.com/keras-team/keras/blob/v3.15.1/"
BOOK = "https://github.com/PaddlePaddle/book/blob/"  # PaddlePaddle's tutorials


def _probe(kind, image_size, **optimizer):
    return {
        "network": {"name": "own", "file": str(Path(__file__).parent / "probes.py"), "options": {"kind": kind}},
        "data": {"source": "digits", "image_size": image_size},
        "optimizer": optimizer,
        "schedule": {"name": "constant"},
        "epochs": 1,
    }


PROBES = {
    "plain": _probe("plain", 16, weight_decay=0.1),
    "pools": _probe("pools", 14),
    "averages": _probe("averages", 14),
    "extremes": _probe("extremes", 16, learning_rate=1e-6),
    "shrinking": _probe("shrinking", 32),
}
"""The configs on which traps show, as dicts."""


@dataclasses.dataclass(frozen=True)
class Trap:
    """One way to go wrong.

    Attributes:
        name: what to call it.
        title: the same in words.
        theme: the part of docs/differences.md that it is in.
        framework: the twin that is mutated.
        mutation: returns a context manager in which the twin is wrong; None where it cannot be tried here.
        probe: a key of `PROBES`.
        shows: the phase, and the type of the layer, where the certificate first differs; a type of None is any.
        paddle, tensorflow: what each framework does.
        here: what Tandem does.
        sources: addresses of the code or documentation that says so.
        code: by framework, a file and a string that is found in only one line of it: where Tandem does it.
        not_probed: why there is no mutation, or None.
        steps: how many steps it takes to show.
    """

    name: str
    title: str
    theme: str
    framework: str
    mutation: Callable | None
    probe: str | None
    shows: tuple | None
    paddle: str
    tensorflow: str
    here: str
    sources: tuple
    code: dict
    not_probed: str | None = None
    steps: int = 2


TRAPS = {}
"""All traps by name, in the order of docs/differences.md."""


def switched_on(name, framework):
    """A context manager in which the trap `name` is on in this process, which is `framework`'s."""
    trap = TRAPS[name]
    return trap.mutation() if trap.framework == framework and trap.mutation else contextlib.nullcontext()


def known(first):
    """The names of the traps that show where a certificate's `first` difference is: of its layer, then of any."""
    if first is None:
        return []
    there = [trap for trap in TRAPS.values() if trap.shows and trap.shows[0] == first["phase"]]
    return [trap.name for layer in (first["layer"], None) for trap in there if trap.shows[1] == layer]


def _trap(theme, framework, probe, shows, **facts):
    """Enter the decorated mutation as a trap of its name; the first line of its docstring is the title."""

    def enter(mutation):
        title = mutation.__doc__.strip().splitlines()[0].rstrip(".")
        facts_of_it = {"title": title, "theme": theme, "framework": framework, "probe": probe, "shows": shows, **facts}
        TRAPS[mutation.__name__] = Trap(name=mutation.__name__, mutation=mutation, **facts_of_it)
        return mutation

    return enter


def _not_probed(theme, name, title, why, **facts):
    TRAPS[name] = Trap(name, title, theme, "", mutation=None, probe=None, shows=None, not_probed=why, **facts)


def _paddle():
    """Paddle, its layers and its engine."""
    return tuple(importlib.import_module(name) for name in ("paddle", "tandem.layers_paddle", "tandem.engine_paddle"))


def _tensorflow():
    """TensorFlow, its layers and its engine."""
    names = ("tensorflow", "tandem.layers_tensorflow", "tandem.engine_tensorflow")
    return tuple(importlib.import_module(name) for name in names)


def _engine_with(engine, **attributes):
    """Engines whose `attributes` are others than their config says."""
    original = engine.Engine.__init__

    def init(self, *arguments, **options):
        original(self, *arguments, **options)
        for name, value in attributes.items():
            setattr(self, name, value)

    return patch.object(engine.Engine, "__init__", init)


def _kernels_as(axes_of):
    """TensorFlow's engine with other axes for Paddle's kernels: `axes_of(shape)`, or None where they are right."""
    _, _, engine = _tensorflow()
    into, out_of = engine._from_canonical, engine._to_canonical

    def from_canonical(array):
        axes = axes_of(array.shape)
        return into(array.transpose(axes) if axes else array)

    def to_canonical(array):
        array = out_of(array)
        axes = axes_of(array.shape)
        # All of these axes are their own inverse, so a state makes the round trip unchanged.
        return array.transpose(axes).copy() if axes else array

    return patch.multiple(engine, _from_canonical=from_canonical, _to_canonical=to_canonical)


def _momentum_update(change):
    """TensorFlow's engine with `change(engine, gradients, learning_rate, apply)` in place of `apply`."""
    _, _, engine = _tensorflow()
    original = engine.Engine._apply

    def apply(self, gradients, learning_rate):
        change(self, gradients, learning_rate, lambda *arguments: original(self, *arguments))

    return patch.object(engine.Engine, "_apply", apply)


def _losses_of(framework, loss):
    """Engines whose losses are `loss(engine, logits, labels)`. Hits, which nothing here compares, stay."""
    _, _, engine = _paddle() if framework == "paddle" else _tensorflow()
    original = engine.Engine._losses

    def paddle_losses(self, batch):
        logits, _, metrics = original(self, batch)
        return logits, loss(self, logits, batch.labels), metrics

    def tensorflow_losses(self, images, labels, training):
        logits, _, metrics = original(self, images, labels, training)
        return logits, loss(self, logits, labels), metrics

    replaced = paddle_losses if framework == "paddle" else tensorflow_losses
    return patch.object(engine.Engine, "_losses", replaced)


PADDLE_LAYERS = "tandem/layers_paddle.py"
TENSORFLOW_LAYERS = "tandem/layers_tensorflow.py"
PADDLE_ENGINE = "tandem/engine_paddle.py"
TENSORFLOW_ENGINE = "tandem/engine_tensorflow.py"


# ---------------------------------------------------------------------------------------------------------------------
CONVOLUTION = "Convolution and padding"

CONVOLUTION_CODE = {
    "paddle": (PADDLE_LAYERS, "return F.conv2d(x, weight, bias=None"),
    "tensorflow": (TENSORFLOW_LAYERS, "x = tf.pad(x, [[0, 0], [padding, padding], [padding, padding], [0, 0]])"),
}


@_trap(
    CONVOLUTION,
    "tensorflow",
    "plain",
    ("layer outputs", "Conv2D"),
    paddle="`padding=1` puts one row and one column of zeros on every side, whatever the stride.",
    tensorflow=(
        "`padding='SAME'` pads as little as the output size needs. With a 3x3 kernel at stride 2 and an even image "
        "that is nothing before and one pixel after, so every window lies one pixel off. At stride 1 the two agree, "
        "which is why a port often passes its first layers. At an odd image they agree, too."
    ),
    here="Zeros are padded explicitly, then only whole windows count (`VALID`); at stride 1 `SAME` is that.",
    sources=(
        TENSORFLOW + "tensorflow/python/ops/nn_ops.py",
        TENSORFLOW + "tensorflow/core/framework/common_shape_fns.cc",
        PADDLE + "python/paddle/nn/functional/conv.py",
    ),
    code=CONVOLUTION_CODE,
)
def same_padding():
    """SAME padding at stride 2."""
    tf, layers, _ = _tensorflow()

    def conv2d(x, kernel, stride, padding, groups):
        return tf.nn.conv2d(x, kernel, strides=stride, padding="SAME" if padding else "VALID")

    return patch.object(layers, "grouped_conv2d", conv2d)


@_trap(
    CONVOLUTION,
    "tensorflow",
    "plain",
    ("initial state", "Conv2D"),
    paddle=(
        "`nn.Conv2D` has a bias unless `bias_attr=False`. Published networks switch it off before a batch norm, which "
        "takes the mean away again; PaddlePaddle's tutorial on CIFAR-10, since mid-2018, for one convolution of a "
        "residual block and not for the other."
    ),
    tensorflow=(
        "`keras.layers.Conv2D` has one unless `use_bias=False`; `tf.nn.conv2d` never has. Forgotten on one side, the "
        "outputs still agree, for the bias begins at zero and its gradient before a batch norm is zero; but the "
        "weights no longer pair off, and where no batch norm follows, the networks part."
    ),
    here="`bias` is written out on both sides. A name that only one side has is an error before the first step.",
    sources=(
        KERAS + "keras/src/layers/convolutional/conv2d.py",
        PADDLE + "python/paddle/nn/layer/conv.py",
        BOOK + "6c30c1edbce4a9df70ecf4179ecaff8219dacffb/03.image_classification/resnet.py",
    ),
    code={
        "paddle": (PADDLE_LAYERS, "bias_attr = None if bias else False"),
        "tensorflow": (TENSORFLOW_LAYERS, 'self.bias = self.add_weight(name="bias"'),
    },
)
def conv_bias():
    """A convolution's bias on one side."""
    _, layers, _ = _tensorflow()
    original = layers.Conv2D.__init__

    def init(self, *arguments, **options):
        original(self, *arguments, **options)
        self.use_bias = True

    return patch.object(layers.Conv2D, "__init__", init)


# ---------------------------------------------------------------------------------------------------------------------
BATCH_NORM = "Batch norm"

EPSILON_CODE = {
    "paddle": (PADDLE_LAYERS, "BATCH_NORM_EPSILON = 1e-5"),
    "tensorflow": (TENSORFLOW_LAYERS, "BATCH_NORM_EPSILON = float(np.float32(1e-5))"),
}
MOMENTUM_CODE = {
    "paddle": (PADDLE_LAYERS, "BATCH_NORM_MOMENTUM = 0.9"),
    "tensorflow": (TENSORFLOW_LAYERS, "BATCH_NORM_MOMENTUM = float(np.float32(0.9))"),
}
BATCH_NORM_SOURCES = (
    PADDLE + "python/paddle/nn/layer/norm.py",
    KERAS + "keras/src/layers/normalization/batch_normalization.py",
)
BATCH_NORM_KERNEL = PADDLE + "paddle/phi/kernels/batch_norm_kernel.h"


@_trap(
    BATCH_NORM,
    "tensorflow",
    "plain",
    ("layer outputs", "BatchNorm2D"),
    paddle="`nn.BatchNorm2D` adds 1e-5 to the variance unless told otherwise.",
    tensorflow=(
        "`keras.layers.BatchNormalization` adds 1e-3. With a variance of 1 the outputs differ by 5e-4 of their size; "
        "with a variance of 1e-3, by 29 %."
    ),
    here="1e-5, written out on both sides.",
    sources=BATCH_NORM_SOURCES,
    code=EPSILON_CODE,
)
def bn_epsilon():
    """Batch norm's epsilon left at Keras' default."""
    _, layers, _ = _tensorflow()
    return patch.object(layers, "BATCH_NORM_EPSILON", 1e-3)


@_trap(
    BATCH_NORM,
    "tensorflow",
    "extremes",
    ("layer outputs", "BatchNorm2D"),
    paddle=(
        "The kernel takes epsilon as a C++ `float`, in float64 too: 1e-5 is 9.99999974737875e-06. Where the variance "
        "is far below epsilon, the outputs are off by 1.3e-8."
    ),
    tensorflow="A Python number stays a double in a float64 computation.",
    here="Rounded to float32 once, on TensorFlow's side. The probe feeds its batch norm inputs of about 1e-4.",
    sources=(BATCH_NORM_KERNEL,),
    code=EPSILON_CODE,
)
def bn_epsilon_double():
    """Batch norm's epsilon kept as a double."""
    _, layers, _ = _tensorflow()
    return patch.object(layers, "BATCH_NORM_EPSILON", 1e-5)


@_trap(
    BATCH_NORM,
    "tensorflow",
    "plain",
    ("statistics", "BatchNorm2D"),
    paddle="`momentum=0.9` by default: running = 0.9 * running + 0.1 * batch.",
    tensorflow=(
        "`momentum=0.99` by default, with the same meaning. Nothing differs in training, but the statistics that "
        "evaluation uses lag ten times as long: a short run looks as if it had learnt nothing."
    ),
    here="0.9, written out on both sides.",
    sources=BATCH_NORM_SOURCES,
    code=MOMENTUM_CODE,
)
def bn_momentum():
    """Batch norm's momentum left at Keras' default."""
    _, layers, _ = _tensorflow()
    return patch.object(layers, "BATCH_NORM_MOMENTUM", 0.99)


@_trap(
    BATCH_NORM,
    "tensorflow",
    "plain",
    ("statistics", "BatchNorm2D"),
    paddle="The momentum is the part of the old statistic that is kept: 0.9.",
    tensorflow=(
        "In Keras, too. In PyTorch it is the part of the new one, 0.1 by default: who ports a network from there, "
        "number by number, replaces nine tenths of the statistics at every step."
    ),
    here="0.9 is what is kept, on both sides.",
    sources=BATCH_NORM_SOURCES,
    code=MOMENTUM_CODE,
)
def bn_momentum_reversed():
    """Batch norm's momentum taken for one minus itself."""
    _, layers, _ = _tensorflow()
    return patch.object(layers, "BATCH_NORM_MOMENTUM", 0.1)


@_trap(
    BATCH_NORM,
    "tensorflow",
    "plain",
    ("statistics", "BatchNorm2D"),
    paddle="The kernel takes the momentum as a C++ `float`, in float64 too: 0.9 is 0.8999999761581421.",
    tensorflow="A Python number stays a double in a float64 computation.",
    here="Rounded to float32 once, on TensorFlow's side.",
    sources=(BATCH_NORM_KERNEL,),
    code=MOMENTUM_CODE,
)
def bn_momentum_double():
    """Batch norm's momentum kept as a double."""
    _, layers, _ = _tensorflow()
    return patch.object(layers, "BATCH_NORM_MOMENTUM", 0.9)


@_trap(
    BATCH_NORM,
    "tensorflow",
    "plain",
    ("statistics", "BatchNorm2D"),
    paddle="The running variance averages sum / n, the biased variance that also normalises.",
    tensorflow=(
        "Keras 3 averages the biased one, too. `tf.compat.v1.nn.fused_batch_norm`, which is faster in float32, "
        "gives back sum / (n - 1) for the running average and still normalises by sum / n. PyTorch does the same. With "
        "a batch of 128 and one pixel it is 0.8 % more; with 8x8 pixels, 0.01 %."
    ),
    here="Biased: what the fused kernel gives is multiplied by (n - 1) / n.",
    sources=(
        TENSORFLOW + "tensorflow/core/kernels/fused_batch_norm_op.cc",
        PADDLE + "paddle/phi/kernels/cpu/batch_norm_kernel.cc",
        KERAS + "keras/src/layers/normalization/batch_normalization.py",
    ),
    code={
        "paddle": (PADDLE_LAYERS, "class BatchNorm2D(nn.BatchNorm2D)"),
        "tensorflow": (TENSORFLOW_LAYERS, "variance *= (count - 1) / count"),
    },
)
def bn_unbiased_variance():
    """The running variance with Bessel's correction."""
    tf, layers, _ = _tensorflow()
    original = layers.BatchNorm2D.call

    def call(self, x, training=False):
        y = original(self, x, training)
        if training:
            _, variance = tf.nn.moments(x, [0, 1, 2])
            others = tf.cast(tf.size(x) // self.channels - 1, x.dtype)
            self.moving_variance.assign_add((1 - layers.BATCH_NORM_MOMENTUM) * variance / others)
        return y

    return patch.object(layers.BatchNorm2D, "call", call)


@_trap(
    BATCH_NORM,
    "tensorflow",
    "plain",
    ("layer outputs", "BatchNorm2D"),
    paddle="A new layer is in training mode, and stays there until `eval()`.",
    tensorflow=(
        "A Keras model that is called outside `fit` is in inference mode unless it gets `training=True`. A training "
        "loop written by hand that forgets it normalises by the running statistics, never updates them, and drops "
        "nothing out. No error says so."
    ),
    here="`training=True` is passed down to every layer.",
    sources=(KERAS + "keras/src/layers/layer.py", PADDLE + "python/paddle/nn/layer/layers.py"),
    code={
        "paddle": (PADDLE_ENGINE, "self.model.train()"),
        "tensorflow": (TENSORFLOW_ENGINE, "logits, losses, metrics = self._losses(images, labels, training=True)"),
    },
)
def training_forgotten():
    """A Keras model called without training=True."""
    _, _, engine = _tensorflow()
    original = engine.Engine._losses

    def losses(self, images, labels, training):
        return original(self, images, labels, training=False)

    return patch.object(engine.Engine, "_losses", losses)


@_trap(
    BATCH_NORM,
    "paddle",
    "plain",
    ("evaluation: layer outputs", "BatchNorm2D"),
    paddle=(
        "A model that was trained is still in training mode when it is called on test images, unless `eval()` came "
        "first: batch norm goes by the test batch and lets it into its statistics, and dropout goes on dropping."
    ),
    tensorflow="A Keras model that is called is in inference mode, as is right here.",
    here="`eval()` comes before every evaluation. The certificate compares evaluation after the last step.",
    sources=(PADDLE + "python/paddle/nn/layer/layers.py", KERAS + "keras/src/layers/layer.py"),
    code={
        "paddle": (PADDLE_ENGINE, "self.model.eval()  # it stays in training mode otherwise"),
        "tensorflow": (
            TENSORFLOW_ENGINE,
            "logits, losses, _ = self._losses(batch.images, batch.labels, training=False)",
        ),
    },
)
def eval_forgotten():
    """A Paddle model evaluated without eval()."""
    paddle, _, _ = _paddle()
    return patch.object(paddle.nn.Layer, "eval", lambda self: None)


# ---------------------------------------------------------------------------------------------------------------------
POOLING = "Pooling"

MAX_POOL_CODE = {
    "paddle": (PADDLE_LAYERS, "return F.max_pool2d(x, self.kernel_size, self.stride, padding=0, ceil_mode"),
    "tensorflow": (TENSORFLOW_LAYERS, "after = [self._beyond(size) for size in x.shape[1:3]]"),
}
MAX_POOL_SOURCES = (
    PADDLE + "python/paddle/nn/functional/pooling.py",
    KERAS + "keras/src/layers/pooling/max_pooling2d.py",
)
GLOBAL_POOL_CODE = {
    "paddle": (PADDLE_LAYERS, "return paddle.sum(x, axis=[2, 3])"),
    "tensorflow": (TENSORFLOW_LAYERS, "return tf.reduce_mean(x, axis=[1, 2])"),
}
PADDLE_POOL_KERNEL = PADDLE + "paddle/phi/kernels/funcs/pooling.cc"


@_trap(
    POOLING,
    "tensorflow",
    "pools",
    ("layer outputs", "MaxPool2D"),
    paddle="`ceil_mode=True` also counts the windows that the lower and the right edge cut; the default is not to.",
    tensorflow="`VALID` counts whole windows only: a 3x3 pool at stride 2 makes 6x6 of 14x14 pixels, not 7x7.",
    here="`ceil_mode` is written out, and means the same on both sides.",
    sources=MAX_POOL_SOURCES,
    code=MAX_POOL_CODE,
)
def max_pool_floor():
    """A pool's size rounded down."""
    _, layers, _ = _tensorflow()
    return patch.object(layers.MaxPool2D, "_beyond", lambda self, size: 0)


@_trap(
    POOLING,
    "tensorflow",
    "pools",
    ("layer outputs", "MaxPool2D"),
    paddle="Without padding and `ceil_mode`, a 3x3 pool at stride 2 makes 3x3 of 7x7 pixels.",
    tensorflow=(
        "`SAME` makes 4x4 of them. Nor does `SAME` stand for `ceil_mode`: it divides what it pads between both edges, "
        "and rounds size / stride up, not (size - kernel) / stride. At even sizes the two are equal, as in the first "
        "pool of the probe."
    ),
    here="Never `SAME` for a max pool; `ceil_mode` pads after the last pixel only.",
    sources=(TENSORFLOW + "tensorflow/python/ops/nn_ops.py", MAX_POOL_SOURCES[0]),
    code=MAX_POOL_CODE,
)
def max_pool_same():
    """SAME for a max pool."""
    tf, layers, _ = _tensorflow()

    def call(self, x):
        return tf.nn.max_pool2d(x, self.kernel_size, strides=self.stride, padding="SAME")

    return patch.object(layers.MaxPool2D, "call", call)


@_trap(
    POOLING,
    "tensorflow",
    "pools",
    ("layer outputs", "MaxPool2D"),
    paddle="What a window has outside the image never is its maximum.",
    tensorflow=(
        "The same within `SAME`. Where the pixels are padded by hand, `tf.pad` and `keras.layers.ZeroPadding2D` put "
        "zeros, and a zero is larger than any negative pixel. After a ReLU nobody sees it."
    ),
    here="Padded with the smallest number of the type.",
    sources=(PADDLE + "paddle/phi/kernels/funcs/pooling.h", MAX_POOL_SOURCES[1]),
    code={**MAX_POOL_CODE, "tensorflow": (TENSORFLOW_LAYERS, "constant_values=x.dtype.min")},
)
def max_pool_zeros():
    """A max pool padded with zeros."""
    tf, layers, _ = _tensorflow()
    original = tf.pad

    def pad(x, paddings, constant_values=0):
        return original(x, paddings)

    return patch.object(layers.tf, "pad", pad)


@_trap(
    POOLING,
    "tensorflow",
    "pools",
    ("gradients", "Conv2D"),
    paddle=(
        "Where several pixels of a window are the largest, the whole gradient goes to the first of them in reading "
        "order. Of an operator `max`, it is divided among them: `paddle.max` of [1, 1, 0] has the gradient [0.5, 0.5, "
        "0], though its documentation says that each gets all of it."
    ),
    tensorflow=(
        "`tf.nn.max_pool2d` chooses the first, too, and `tf.reduce_max` divides. So the pools agree; a max pool of "
        "one's own, written with a mask `x == max`, gives every tied pixel the whole gradient. Flat regions of an "
        "image tie all the time."
    ),
    here=(
        "The frameworks' own pools. Which of tied pixels is chosen changes no weight's gradient where they tie because "
        "what the convolution sees is equal; counting them more than once does."
    ),
    sources=(
        PADDLE_POOL_KERNEL,
        PADDLE + "python/paddle/tensor/math.py",
        TENSORFLOW + "tensorflow/python/ops/math_grad.py",
    ),
    code={**MAX_POOL_CODE, "tensorflow": (TENSORFLOW_LAYERS, "return tf.nn.max_pool2d(")},
)
def max_pool_ties():
    """The gradient of a max pool given to every tied pixel."""
    tf, layers, _ = _tensorflow()
    original = layers.MaxPool2D.call

    def call(self, x):
        largest = tf.stop_gradient(original(self, x))
        if self.ceil_mode:
            after = [self._beyond(size) for size in x.shape[1:3]]
            x = tf.pad(x, [[0, 0], [0, after[0]], [0, after[1]], [0, 0]], constant_values=x.dtype.min)
        sizes, strides = [1, self.kernel_size, self.kernel_size, 1], [1, self.stride, self.stride, 1]
        windows = tf.image.extract_patches(x, sizes, strides, [1, 1, 1, 1], "VALID")
        windows = tf.reshape(windows, [*largest.shape[:3], -1, largest.shape[3]])
        tied = tf.cast(windows == largest[:, :, :, None], x.dtype)
        return largest + tf.reduce_sum(tied * (windows - tf.stop_gradient(windows)), axis=3)

    return patch.object(layers.MaxPool2D, "call", call)


@_trap(
    POOLING,
    "tensorflow",
    "shrinking",
    ("building", ""),
    paddle=(
        "A pool that leaves no pixel gives an empty tensor, without an error. Paddle's old `fluid.layers.pool2d` knew "
        "`ceil_mode`, which keeps one pixel."
    ),
    tensorflow=(
        "A Keras model refuses to be built. In eager code the same pool gives an empty "
        "tensor, and its gradient is memory that nobody has set: values from 1e-323 to 1e+243 were seen in version "
        "2.21. On another machine eager TensorFlow died with SIGFPE. The article's AlexNet on 32x32 pixels gets there: "
        "its convolution leaves 6x6 pixels, and its pools 2x2, then none."
    ),
    here="The sizes are rounded up: 6, 3, 1, 1. A twin that cannot be built, or dies, is an error of its own.",
    sources=MAX_POOL_SOURCES,
    code=MAX_POOL_CODE,
)
def pooled_to_nothing():
    """Pools that leave no pixel."""
    return max_pool_floor()


@_trap(
    POOLING,
    "tensorflow",
    "pools",
    ("layer outputs", "AveragePoolPad"),
    paddle="An average at the edge is of the pixels in the image: `exclusive=True` is the default.",
    tensorflow=(
        "`SAME` averages those in the image only, too. Zeros padded by hand before a `VALID` pool count, and so does "
        "PyTorch's padding (`count_include_pad`): a cut window of 2 of 4 pixels then is half as large."
    ),
    here="Only pixels in the image count, on both sides.",
    sources=(PADDLE + "python/paddle/nn/functional/pooling.py", TENSORFLOW + "tensorflow/python/ops/nn_ops.py"),
    code={
        "paddle": (PADDLE_LAYERS, "x = F.avg_pool2d(x, 2, stride=2, padding=0, ceil_mode=True, exclusive=True)"),
        "tensorflow": (TENSORFLOW_LAYERS, 'x = tf.nn.avg_pool2d(x, 2, strides=2, padding="SAME")'),
    },
)
def average_counts_padding():
    """An average that counts the padding."""
    tf, layers, _ = _tensorflow()
    original = tf.nn.avg_pool2d

    def avg_pool2d(x, size, strides, padding):
        after = [pixels % 2 for pixels in x.shape[1:3]]
        x = tf.pad(x, [[0, 0], [0, after[0]], [0, after[1]], [0, 0]])
        return original(x, size, strides, "VALID")

    return patch.object(layers.tf.nn, "avg_pool2d", avg_pool2d)


@_trap(
    POOLING,
    "tensorflow",
    "pools",
    ("layer outputs", "AveragePoolPad"),
    paddle="`ceil_mode=True` keeps the last row and column of an odd image; the default drops them.",
    tensorflow="`VALID` drops them: of 3x3 pixels it leaves 1x1, not 2x2, and does not fit the block's other path.",
    here="Rounded up on both sides, as the convolution at stride 2 on the other path does.",
    sources=(PADDLE + "python/paddle/nn/functional/pooling.py", TENSORFLOW + "tensorflow/python/ops/nn_ops.py"),
    code={
        "paddle": (PADDLE_LAYERS, "x = F.avg_pool2d(x, 2, stride=2, padding=0, ceil_mode=True, exclusive=True)"),
        "tensorflow": (TENSORFLOW_LAYERS, 'x = tf.nn.avg_pool2d(x, 2, strides=2, padding="SAME")'),
    },
)
def average_floor():
    """An average pool's size rounded down."""
    tf, layers, _ = _tensorflow()
    original = tf.nn.avg_pool2d
    return patch.object(
        layers.tf.nn, "avg_pool2d", lambda x, size, strides, padding: original(x, size, strides, "VALID")
    )


@_trap(
    POOLING,
    "paddle",
    "averages",
    ("gradients", "Conv2D"),
    paddle=(
        "The gradient of `avg_pool2d` and `adaptive_avg_pool2d` is multiplied by 1/n as a float32, in float64 too: off "
        "by 7e-9 for 6x6 pixels and by 2e-8 for 7x7, exact for 4x4 and 8x8. The forward pass divides in float64."
    ),
    tensorflow="`tf.reduce_mean` and its gradient divide in float64.",
    here="A sum divided by the number of pixels, on Paddle's side.",
    sources=(PADDLE_POOL_KERNEL,),
    code=GLOBAL_POOL_CODE,
)
def average_gradient_float32():
    """The gradient of Paddle's average pool."""
    _, layers, _ = _paddle()
    return patch.object(layers, "global_average_pool", lambda x: layers.F.adaptive_avg_pool2d(x, 1).flatten(1))


# ---------------------------------------------------------------------------------------------------------------------
OTHER_LAYERS = "Response normalisation, flatten, residuals"

LRN_CODE = {
    "paddle": (PADDLE_LAYERS, "return x * (1.0 + self.alpha / self.size * total) ** -self.beta"),
    "tensorflow": (TENSORFLOW_LAYERS, "return x * (1.0 + self.alpha / self.size * total) ** -beta"),
}
LRN_SOURCES = (
    PADDLE + "python/paddle/nn/functional/norm.py",
    TENSORFLOW + "tensorflow/core/kernels/lrn_op.cc",
)


@_trap(
    OTHER_LAYERS,
    "tensorflow",
    "plain",
    ("layer outputs", "LocalResponseNorm"),
    paddle=(
        "`F.local_response_norm` multiplies alpha by the *mean* of the squares over the window, as its code says; the "
        "formula in its documentation has the sum."
    ),
    tensorflow=(
        "`tf.nn.lrn` multiplies alpha by their sum, as the paper does. With a window of 5, alpha=1e-4 there is "
        "alpha=5e-4 in Paddle. It has no float64 kernel."
    ),
    here="alpha / size, of the same plain operations on both sides.",
    sources=LRN_SOURCES,
    code=LRN_CODE,
)
def lrn_alpha():
    """LRN's alpha not divided by the window."""
    _, layers, _ = _tensorflow()
    original = layers.LocalResponseNorm.__init__

    def init(self, size, alpha, beta, **options):
        original(self, size, alpha * size, beta, **options)

    return patch.object(layers.LocalResponseNorm, "__init__", init)


@_trap(
    OTHER_LAYERS,
    "tensorflow",
    "plain",
    ("layer outputs", "LocalResponseNorm"),
    paddle="`size=5` is the whole window.",
    tensorflow=(
        "`depth_radius=5`, the default, is what lies on one side: a window of 11. Paddle's size 5 is the radius 2. The "
        "other defaults differ, too: alpha 1 and beta 0.5, against 1e-4 and 0.75."
    ),
    here="`size` is the whole window, and nothing has a default.",
    sources=LRN_SOURCES,
    code=LRN_CODE,
)
def lrn_radius():
    """LRN's window taken for its radius."""
    _, layers, _ = _tensorflow()
    original = layers.LocalResponseNorm.__init__

    def init(self, size, alpha, beta, **options):
        window = 2 * size + 1
        original(self, window, alpha / size * window, beta, **options)

    return patch.object(layers.LocalResponseNorm, "__init__", init)


@_trap(
    OTHER_LAYERS,
    "paddle",
    "plain",
    ("gradients", "Conv2D"),
    paddle=(
        "`F.local_response_norm` averages the squares by an average pool, so its gradient has that pool's float32 1/n. "
        "The exponent of `paddle.pow` is a float32 as well: 0.75 is exact, 0.7 would be off by 1e-8."
    ),
    tensorflow="The same operations in float64 are exact to rounding.",
    here="Composed of a sum of slices, a division and a power with an exponent that float32 holds.",
    sources=(LRN_SOURCES[0], PADDLE_POOL_KERNEL),
    code=LRN_CODE,
)
def lrn_gradient_float32():
    """The gradient of Paddle's own LRN."""
    _, layers, _ = _paddle()

    def forward(self, x):
        return layers.F.local_response_norm(x, self.size, self.alpha, self.beta, k=1.0)

    return patch.object(layers.LocalResponseNorm, "forward", forward)


@_trap(
    OTHER_LAYERS,
    "tensorflow",
    "plain",
    ("layer outputs", "Flatten"),
    paddle="Images are [N, C, H, W]; flattened, a channel's pixels lie together.",
    tensorflow=(
        "Images are [N, H, W, C]; flattened, a pixel's channels lie together. The sizes are equal, and the network "
        "trains as well; only the weights of the next layer are permuted, so weights that are carried over are wrong."
    ),
    here="TensorFlow's twin transposes first, so that a dense layer's rows mean the same.",
    sources=(KERAS + "keras/src/layers/reshaping/flatten.py",),
    code={
        "paddle": (PADDLE_LAYERS, "return x.flatten(1)"),
        "tensorflow": (TENSORFLOW_LAYERS, "return tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [-1, channels * height"),
    },
)
def flatten_order():
    """Flatten in each framework's own order."""
    tf, layers, _ = _tensorflow()

    def call(self, x):
        height, width, channels = x.shape[1:]
        return tf.reshape(x, [-1, height * width * channels])

    return patch.object(layers.Flatten, "call", call)


@_trap(
    OTHER_LAYERS,
    "tensorflow",
    "averages",
    ("layer outputs", "Residual"),
    paddle=(
        "No layer of Paddle's own: a residual block is written by hand. The first version of PaddlePaddle's tutorial "
        "on CIFAR-10 adds `[ipt, short]`: the block's input beside the shortcut, and its convolutions not at all. "
        "Later ones add the convolutions and the shortcut."
    ),
    tensorflow=(
        "Nor of TensorFlow's. A block that computes a shortcut by a 1x1 convolution and adds its input as well fits "
        "wherever the shapes do, and trains. The probe has one whose shortcut keeps the shape."
    ),
    here="The body and the shortcut are added, or the body and the input; never all three.",
    sources=(
        BOOK + "4a1433cbe4186aac8913133c9e01baf6268335f0/image_classification/README.md",
        "https://arxiv.org/abs/1512.03385",
    ),
    code={
        "paddle": (PADDLE_LAYERS, "shortcut = x if self.shortcut is None else self.shortcut(x)"),
        "tensorflow": (TENSORFLOW_LAYERS, "shortcut = x if self.shortcut is None else self.shortcut(x, training"),
    },
)
def residual_adds_input():
    """A block that adds its input beside the shortcut."""
    tf, layers, _ = _tensorflow()

    def call(self, x, training=False):
        shortcut = 0 if self.shortcut is None else self.shortcut(x, training=training)
        return tf.nn.relu(self.body(x, training=training) + shortcut + x)

    return patch.object(layers.Residual, "call", call)


# ---------------------------------------------------------------------------------------------------------------------
LOSS = "Loss"

LOSS_CODE = {
    "paddle": (PADDLE_ENGINE, "losses = paddle.logsumexp(logits, axis=1) - target"),
    "tensorflow": (TENSORFLOW_ENGINE, "losses = tf.reduce_logsumexp(logits, axis=1) - target"),
}
KERAS_LOSS = KERAS + "keras/src/backend/tensorflow/nn.py"
PADDLE_LOSS = PADDLE + "python/paddle/nn/functional/loss.py"


@_trap(
    LOSS,
    "paddle",
    "extremes",
    ("loss", ""),
    paddle=(
        "On a CPU, `F.cross_entropy` and `softmax_with_cross_entropy` clip the shifted logits at -64: a gap of 65 and "
        "a gap of 1000 both give a loss of 64."
    ),
    tensorflow="`tf.nn.sparse_softmax_cross_entropy_with_logits` clips nothing: a gap of 1000 gives 1000.",
    here="logsumexp(logits) - logit, on both sides. The probe's logits are hundreds apart.",
    sources=(
        PADDLE + "paddle/phi/kernels/funcs/softmax_impl.h",
        PADDLE + "paddle/phi/kernels/cpu/cross_entropy_kernel.cc",
    ),
    code=LOSS_CODE,
)
def cross_entropy_clipped():
    """Paddle's cross entropy of large logits."""
    paddle, _, _ = _paddle()

    def loss(engine, logits, labels):
        return paddle.nn.functional.cross_entropy(logits, paddle.to_tensor(labels), reduction="none")

    return _losses_of("paddle", loss)


@_trap(
    LOSS,
    "tensorflow",
    "extremes",
    ("loss", ""),
    paddle="From logits, which it clips only at -64 (above).",
    tensorflow=(
        "From probabilities, `keras.losses` clip them to 1e-7 and 1 - 1e-7: no loss exceeds 16.1, and beyond it the "
        "gradient is zero. A model that ends in `activation='softmax'` is spared where Keras finds the logits behind "
        "it, which it does not when the probabilities come by another way."
    ),
    here="The networks end in logits.",
    sources=(KERAS_LOSS, KERAS + "keras/src/activations/activations.py"),
    code=LOSS_CODE,
)
def probabilities_clipped():
    """Cross entropy from clipped probabilities."""
    tf, _, _ = _tensorflow()

    def loss(engine, logits, labels):
        return tf.keras.losses.sparse_categorical_crossentropy(labels, tf.nn.softmax(logits))

    return _losses_of("tensorflow", loss)


@_trap(
    LOSS,
    "paddle",
    "plain",
    ("loss", ""),
    paddle="`F.cross_entropy` applies the softmax itself (`use_softmax=True`).",
    tensorflow=(
        "`keras.losses` expect probabilities (`from_logits=False`), so a Keras network ends in a softmax. Ported layer "
        "by layer, Paddle applies two: the network trains, slowly, and its loss cannot fall below 1.46 for 10 classes."
    ),
    here="The networks end in logits.",
    sources=(PADDLE_LOSS, KERAS + "keras/src/losses/losses.py"),
    code=LOSS_CODE,
)
def softmax_twice():
    """The softmax applied twice."""
    paddle, _, _ = _paddle()

    def loss(engine, logits, labels):
        probabilities = paddle.nn.functional.softmax(logits)
        return paddle.nn.functional.cross_entropy(probabilities, paddle.to_tensor(labels), reduction="none")

    return _losses_of("paddle", loss)


@_trap(
    LOSS,
    "tensorflow",
    "plain",
    ("loss", ""),
    paddle="`F.cross_entropy` takes logits.",
    tensorflow=(
        "`keras.losses` take what they get for probabilities unless told `from_logits=True`: logits are clipped to "
        "[1e-7, 1 - 1e-7], and the gradient of every one outside is zero. No error says so."
    ),
    here="The loss is written from logits, on both sides.",
    sources=(KERAS_LOSS, PADDLE_LOSS),
    code=LOSS_CODE,
)
def logits_as_probabilities():
    """Logits taken for probabilities."""
    tf, _, _ = _tensorflow()

    def loss(engine, logits, labels):
        return tf.keras.losses.sparse_categorical_crossentropy(labels, logits)

    return _losses_of("tensorflow", loss)


@_trap(
    LOSS,
    "tensorflow",
    "plain",
    ("loss", ""),
    paddle="`weight_decay` of an optimizer changes the gradient; the loss that is printed is without it.",
    tensorflow=(
        "A `kernel_regularizer` is part of the loss that `fit` reports. Two equal trainings show different losses, the "
        "more so early on."
    ),
    here="The loss is the cross entropy; decay is the optimizer's.",
    sources=(KERAS + "keras/src/trainers/trainer.py", PADDLE + "python/paddle/regularizer.py"),
    code=LOSS_CODE,
)
def loss_with_penalty():
    """A reported loss that holds the L2 penalty."""
    tf, _, engine = _tensorflow()
    original = engine.Engine._losses

    def losses(self, images, labels, training):
        logits, losses, metrics = original(self, images, labels, training)
        penalty = self.weight_decay * tf.add_n([tf.nn.l2_loss(parameter) for parameter in self.parameters])
        return logits, losses + penalty, metrics

    return patch.object(engine.Engine, "_losses", losses)


@_trap(
    LOSS,
    "tensorflow",
    "plain",
    ("gradients", None),
    paddle="`F.cross_entropy` averages over the batch (`reduction='mean'`).",
    tensorflow=(
        "So do `keras.losses`; but `tf.nn.sparse_softmax_cross_entropy_with_logits` gives a loss an image, and the "
        "gradient of a vector is that of its sum. The learning rate then is in truth the batch size times larger."
    ),
    here="A sum, divided by the number of images.",
    sources=(PADDLE_LOSS, TENSORFLOW + "tensorflow/python/ops/nn_ops.py"),
    code={
        "paddle": (PADDLE_ENGINE, "loss = losses.sum() / len(batch.labels)"),
        "tensorflow": (TENSORFLOW_ENGINE, "loss = tf.reduce_sum(losses) / tf.cast(tf.size(labels), self.dtype)"),
    },
)
def loss_summed():
    """The gradient of a sum over the batch."""
    tf, _, engine = _tensorflow()
    original = engine.Engine._backward

    def backward(self, images, labels, keys):
        *results, gradients = original(self, images, labels, keys)
        return *results, [gradient * tf.cast(tf.size(labels), self.dtype) for gradient in gradients]

    return patch.object(engine.Engine, "_backward", backward)


# ---------------------------------------------------------------------------------------------------------------------
OPTIMIZER = "Optimizer"

MOMENTUM_STEP_CODE = {
    "paddle": (PADDLE_ENGINE, "self.optimizer = paddle.optimizer.Momentum("),
    "tensorflow": (TENSORFLOW_ENGINE, "tf.raw_ops.ResourceApplyMomentum("),
}
DECAY_CODE = {
    "paddle": (PADDLE_ENGINE, "weight_decay=paddle.regularizer.L2Decay("),
    "tensorflow": (TENSORFLOW_ENGINE, "grad=gradient + weight_decay * parameter,"),
}
PADDLE_MOMENTUM = PADDLE + "paddle/phi/kernels/impl/momentum_kernel_impl.h"
KERAS_SGD = KERAS + "keras/src/optimizers/sgd.py"
KERAS_OPTIMIZER = KERAS + "keras/src/optimizers/base_optimizer.py"


@_trap(
    OPTIMIZER,
    "tensorflow",
    "plain",
    ("velocities", None),
    paddle="v = m*v + g; w -= lr*v. The velocity is in units of the gradient.",
    tensorflow=(
        "`keras.optimizers.SGD` has v = m*v - lr*g; w += v. While the learning rate is constant that is the same; when "
        "it falls tenfold, Keras still steps on with what the old rate put into v, for about 1/(1 - m) steps. "
        "`tf.raw_ops.ResourceApplyMomentum` is as Paddle's."
    ),
    here="Paddle's formula on both sides. The certificate changes the learning rate at every step for this reason.",
    sources=(KERAS_SGD, PADDLE_MOMENTUM, TENSORFLOW + "tensorflow/core/kernels/training_ops.cc"),
    code=MOMENTUM_STEP_CODE,
)
def rate_in_velocity():
    """The learning rate kept inside the velocity.

    What Keras keeps is -lr*v; here it is divided by the step's lr again, so that nothing shows while lr is constant.
    """
    tf, _, _ = _tensorflow()
    last = tf.Variable(1.0, dtype=tf.float64)

    def change(self, gradients, learning_rate, apply):
        rate = tf.cast(learning_rate, tf.float64)
        for velocity in self.velocities:
            velocity.assign(velocity * tf.cast(last / rate, velocity.dtype))
        last.assign(rate)
        apply(gradients, learning_rate)

    return _momentum_update(change)


@_trap(
    OPTIMIZER,
    "tensorflow",
    "plain",
    ("velocities", None),
    paddle=(
        "The kernel takes the momentum as a C++ `float`, in float64 too: 0.9 is 0.8999999761581421. The velocity is "
        "zero at first, so it shows at the second step."
    ),
    tensorflow="A Python number stays a double in a float64 computation.",
    here="Rounded to float32 once, where the config is read.",
    sources=(PADDLE_MOMENTUM,),
    code={
        **MOMENTUM_STEP_CODE,
        "tensorflow": ("tandem/config.py", "momentum: Annotated[Float32"),
    },
)
def momentum_double():
    """The momentum kept as a double."""
    _, _, engine = _tensorflow()
    return _engine_with(engine, momentum=0.9)


@_trap(
    OPTIMIZER,
    "tensorflow",
    "plain",
    ("velocities", None),
    paddle="`paddle.optimizer.Momentum` has a momentum of 0.9 by default.",
    tensorflow="`keras.optimizers.SGD` has none by default. Nothing differs at the first step.",
    here="Written out in the config.",
    sources=(KERAS_SGD, PADDLE + "python/paddle/optimizer/momentum.py"),
    code=MOMENTUM_STEP_CODE,
)
def momentum_default():
    """The momentum left at Keras' default."""
    _, _, engine = _tensorflow()
    return _engine_with(engine, momentum=0.0)


@_trap(
    OPTIMIZER,
    "tensorflow",
    "plain",
    ("parameters", None),
    paddle="`use_nesterov=False` by default; if true, w -= lr*(g + m*v).",
    tensorflow=(
        "`nesterov=False` by default; if true, the same formula, with the learning rate inside v (above). So it is a "
        "mistake only on one side. The velocities agree; the weights do not."
    ),
    here="One setting for both.",
    sources=(KERAS_SGD, PADDLE_MOMENTUM),
    code={**MOMENTUM_STEP_CODE, "tensorflow": (TENSORFLOW_ENGINE, "use_nesterov=self.nesterov")},
)
def nesterov():
    """Nesterov's momentum on one side."""
    _, _, engine = _tensorflow()
    return _engine_with(engine, nesterov=True)


@_trap(
    OPTIMIZER,
    "tensorflow",
    "plain",
    ("parameters", None),
    paddle="The learning rate has the default type: float64 in a float64 run.",
    tensorflow=(
        "`keras.optimizers` keep it in a variable of `floatx()`, float32 by default, whatever the weights' type: "
        "0.1 is 0.10000000149."
    ),
    here="It comes into the step as a number of the run's type.",
    sources=(KERAS_OPTIMIZER, PADDLE + "python/paddle/optimizer/optimizer.py"),
    code={
        "paddle": (PADDLE_ENGINE, "self.optimizer.set_lr(learning_rate)"),
        "tensorflow": (
            TENSORFLOW_ENGINE,
            "return train(*self._on_device(batch, step), tf.constant(learning_rate, self.dtype))",
        ),
    },
)
def rate_float32():
    """The learning rate kept as a float32."""
    tf, _, _ = _tensorflow()

    def change(self, gradients, learning_rate, apply):
        apply(gradients, tf.cast(tf.cast(learning_rate, tf.float32), learning_rate.dtype))

    return _momentum_update(change)


@_trap(
    OPTIMIZER,
    "tensorflow",
    "plain",
    ("velocities", None),
    paddle="`L2Decay(c)` adds c*w to the gradient.",
    tensorflow=(
        "`keras.regularizers.L2(c)` adds c*w^2 to the loss, so 2*c*w to the gradient; `tf.nn.l2_loss` is half the "
        "square, so c times that is Paddle's decay. Who ports 5e-4 to Keras writes 2.5e-4."
    ),
    here="c*w is added to the gradient on both sides.",
    sources=(
        KERAS + "keras/src/regularizers/regularizers.py",
        PADDLE_MOMENTUM,
        TENSORFLOW + "tensorflow/core/kernels/l2loss_op.h",
    ),
    code=DECAY_CODE,
)
def decay_doubled():
    """Keras' L2, whose gradient is 2*c*w."""

    def change(self, gradients, learning_rate, apply):
        apply(
            [g + self.weight_decay * w for g, w in zip(gradients, self.parameters, strict=True)],
            learning_rate,
        )

    return _momentum_update(change)


@_trap(
    OPTIMIZER,
    "tensorflow",
    "plain",
    ("velocities", None),
    paddle="The decay of `Momentum(weight_decay=c)` is part of the gradient, and so of the velocity.",
    tensorflow=(
        "`keras.optimizers.SGD(weight_decay=c)` first shrinks w by lr*c*w and keeps it out of the velocity "
        "(decoupled). With a momentum of 0.9, what Paddle's decay adds up to is ten times as much."
    ),
    here="c*w is added to the gradient on both sides.",
    sources=(KERAS_OPTIMIZER, PADDLE_MOMENTUM),
    code=DECAY_CODE,
)
def decay_decoupled():
    """Decoupled weight decay."""

    def change(self, gradients, learning_rate, apply):
        decay = self.weight_decay
        for parameter in self.parameters:
            parameter.assign_sub(learning_rate * decay * parameter)
        self.weight_decay = 0.0
        apply(gradients, learning_rate)
        self.weight_decay = decay

    return _momentum_update(change)


@_trap(
    OPTIMIZER,
    "tensorflow",
    "plain",
    ("velocities", "BatchNorm2D"),
    paddle="An optimizer's `weight_decay` is for all its parameters: biases and batch norm, too.",
    tensorflow=(
        "`kernel_regularizer` is for kernels alone, layer by layer, and so are many recipes. Biases begin at zero, "
        "where nothing decays, so in a network without batch norm it shows only at the second step."
    ),
    here="Every trainable parameter decays.",
    sources=(PADDLE + "python/paddle/optimizer/momentum.py", KERAS + "keras/src/layers/convolutional/base_conv.py"),
    code=DECAY_CODE,
)
def decay_kernels_only():
    """Decay on kernels only."""

    def change(self, gradients, learning_rate, apply):
        pairs = zip(gradients, self.parameters, strict=True)
        apply([g - self.weight_decay * w if len(w.shape) == 1 else g for g, w in pairs], learning_rate)

    return _momentum_update(change)


@_trap(
    OPTIMIZER,
    "tensorflow",
    "plain",
    ("velocities", None),
    paddle="The kernel takes the L2 factor as a C++ `float`, in float64 too: 0.1 is 0.10000000149011612.",
    tensorflow="A Python number stays a double in a float64 computation.",
    here="Rounded to float32 once, where the config is read. The probe decays by 0.1, so that it shows.",
    sources=(PADDLE_MOMENTUM,),
    code={**DECAY_CODE, "tensorflow": ("tandem/config.py", "weight_decay: Annotated[Float32")},
)
def decay_double():
    """The L2 factor kept as a double."""
    _, _, engine = _tensorflow()
    return _engine_with(engine, weight_decay=0.1)


# ---------------------------------------------------------------------------------------------------------------------
WEIGHTS = "Initial weights and layout"

LAYOUT_CODE = {
    "paddle": (PADDLE_ENGINE, "variable.set_value(arrays[name].astype(self.dtype))"),
    "tensorflow": (TENSORFLOW_ENGINE, "return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array"),
}
WEIGHTS_CODE = {
    "paddle": (PADDLE_ENGINE, "weights = initial_state("),
    "tensorflow": (TENSORFLOW_ENGINE, "weights = initial_state("),
}


@_trap(
    WEIGHTS,
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
    tf, _, engine = _tensorflow()
    tf.keras.utils.set_random_seed(0)
    return patch.object(engine, "initial_state", lambda shapes, seed: {})


@_trap(
    WEIGHTS,
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
    return _kernels_as(lambda shape: (1, 0, 2, 3) if len(shape) == 4 and shape[0] == shape[1] else None)


@_trap(
    WEIGHTS,
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
    return _kernels_as(lambda shape: (0, 1, 3, 2) if len(shape) == 4 else None)


@_trap(
    WEIGHTS,
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
    return _kernels_as(lambda shape: (1, 0) if len(shape) == 2 and shape[0] == shape[1] else None)


@_trap(
    WEIGHTS,
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
        "paddle": ("tandem/state.py", 'PADDLE_STATISTICS = {"_mean": "running_mean"'),
        "tensorflow": (TENSORFLOW_ENGINE, '"moving_mean": "running_mean",'),
    },
)
def paired_by_order():
    """Weights paired by order."""
    _, _, engine = _tensorflow()
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


@_trap(
    WEIGHTS,
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
    tf, _, engine = _tensorflow()
    original = engine.Engine._losses

    def losses(self, images, labels, training):
        _, channels, height, width = images.shape
        images = tf.transpose(tf.reshape(images, [-1, height, width, channels]), [0, 3, 1, 2])
        return original(self, images, labels, training)

    return patch.object(engine.Engine, "_losses", losses)


# ---------------------------------------------------------------------------------------------------------------------
DROPOUT = "Dropout"

DROPOUT_CODE = {
    "paddle": (PADDLE_LAYERS, "return x * dropout_mask(self.key, x.shape, self.rate)"),
    "tensorflow": (TENSORFLOW_LAYERS, "return x * tf.cast(dropout_mask(self.key"),
}


@_trap(
    DROPOUT,
    "tensorflow",
    "plain",
    ("layer outputs", "Dropout"),
    paddle="The mask comes from Paddle's generator, whose state depends on all that was drawn before.",
    tensorflow="It comes from TensorFlow's, or Keras' `SeedGenerator`. No seed makes them draw alike.",
    here=(
        "In Tandem's loop both compute one mask, by an integer hash of the seed, the step, the layer and the element. "
        "Elsewhere (`model.fit`, `model.train()`) the layers are ordinary dropout."
    ),
    sources=(
        PADDLE + "python/paddle/nn/functional/common.py",
        KERAS + "keras/src/random/seed_generator.py",
    ),
    code={"paddle": ("tandem/dropout.py", "def mask(key, shape, rate)"), "tensorflow": DROPOUT_CODE["tensorflow"]},
)
def dropout_generator():
    """Dropout by the framework's own generator."""
    tf, layers, _ = _tensorflow()
    tf.random.set_seed(0)

    def call(self, x, training=False):
        return tf.nn.dropout(x, self.rate, seed=0) if training else x

    return patch.object(layers.Dropout, "call", call)


@_trap(
    DROPOUT,
    "paddle",
    "plain",
    ("layer outputs", "Dropout"),
    paddle=(
        "`mode='upscale_in_train'` is the default of today. Paddle 1's `fluid.layers.dropout` had "
        "'downgrade_in_infer', today's `mode='downscale_in_infer'`: what is kept stays as it is in training, and "
        "evaluation multiplies by 1 - rate."
    ),
    tensorflow="What is kept is divided by 1 - rate in training; evaluation changes nothing.",
    here="Divided in training, on both sides.",
    sources=(
        PADDLE + "python/paddle/nn/functional/common.py",
        "https://paddlepaddle.org.cn/documentation/docs/zh/2.4/api/paddle/fluid/layers/dropout_cn.html",
    ),
    code=DROPOUT_CODE,
)
def dropout_downscaled():
    """Dropout scaled in evaluation rather than in training."""
    _, layers, _ = _paddle()
    original = layers.Dropout.forward

    def forward(self, x):
        kept = 1 - self.rate
        return original(self, x) * kept  # in training that takes the division back

    return patch.object(layers.Dropout, "forward", forward)


@_trap(
    DROPOUT,
    "tensorflow",
    "plain",
    ("layer outputs", "Dropout"),
    paddle="`p` is the part that is dropped.",
    tensorflow=(
        "`rate` is the part that is dropped. TensorFlow 1 had `keep_prob`, the part that is kept, and "
        "`tf.compat.v1.nn.dropout` still takes it as its second argument. At 0.5 nobody sees it."
    ),
    here="`rate` is the part that is dropped.",
    sources=(TENSORFLOW + "tensorflow/python/ops/nn_ops.py",),
    code={
        "paddle": (PADDLE_LAYERS, "return (x >= dropout.threshold(rate))"),
        "tensorflow": (TENSORFLOW_LAYERS, "return tf.reshape(x >= np.uint32(dropout.threshold(rate)), shape)"),
    },
)
def dropout_keep_rate():
    """A dropout rate taken for the part that is kept."""
    _, layers, _ = _tensorflow()
    original = layers.Dropout.__init__

    def init(self, rate, **options):
        original(self, 1 - rate, **options)

    return patch.object(layers.Dropout, "__init__", init)


_not_probed(
    DROPOUT,
    "dropout_replicas",
    "Dropout masks on several replicas",
    "It takes several replicas; the certificate runs one process a framework.",
    paddle="Each process of a data-parallel run has a generator of its own, seeded as the program seeds it.",
    tensorflow=(
        "Under `tf.distribute.MirroredStrategy`, Keras' `SeedGenerator` may have the same state on every replica: each "
        "part of the batch then gets the same mask. It was so in Tandem's trials."
    ),
    here="The hash has a place for the number of the replica (`rank`); Tandem trains in one process, so it is 0.",
    sources=(KERAS + "keras/src/random/seed_generator.py", "https://github.com/keras-team/keras/pull/20612"),
    code={
        "paddle": ("tandem/dropout.py", "def keys(seed, step, names, rank=0)"),
        "tensorflow": (TENSORFLOW_ENGINE, "keys = dropout.keys(self.seed, step, self.dropouts)"),
    },
)


# ---------------------------------------------------------------------------------------------------------------------
PRECISION = "Precision and devices"


@_trap(
    PRECISION,
    "tensorflow",
    "plain",
    ("layer outputs", "Conv2D"),
    paddle=(
        "A convolution whose input and weight have different types raises an error. Sums and products of tensors are "
        "computed in the wider type, with a warning."
    ),
    tensorflow=(
        "A Keras layer casts its inputs to its own type, without a word: a layer that was made with `dtype='float32'`, "
        "or before `set_dtype_policy('float64')`, computes in float32 amid a float64 network."
    ),
    here="The policy is set before the network is built.",
    sources=(KERAS + "keras/src/layers/layer.py",),
    code={
        "paddle": (PADDLE_ENGINE, 'paddle.set_default_dtype("float64"'),
        "tensorflow": (TENSORFLOW_ENGINE, "tf.keras.config.set_dtype_policy("),
    },
)
def layer_float32():
    """A layer left in float32."""
    tf, layers, _ = _tensorflow()
    original = layers.grouped_conv2d

    def conv2d(x, kernel, *arguments):
        return tf.cast(original(tf.cast(x, tf.float32), tf.cast(kernel, tf.float32), *arguments), x.dtype)

    return patch.object(layers, "grouped_conv2d", conv2d)


@_trap(
    PRECISION,
    "tensorflow",
    "plain",
    ("layer outputs", "Conv2D"),
    paddle="`x * 0.1` and `x / 0.7` with Python numbers are exact in float64; the exponent of `x ** 0.7` is a float32.",
    tensorflow=(
        "`keras.layers.Rescaling(1e-4)` multiplies by a float32 in float64, too: its constant goes through float32 on "
        "its way. So images that are normalised by a layer of the network are off by up to 6e-8."
    ),
    here="Mean and deviation are tensors of the run's type, and divide on the device.",
    sources=(KERAS + "keras/src/layers/preprocessing/rescaling.py",),
    code={
        "paddle": (PADDLE_ENGINE, "self.deviation = paddle.to_tensor(deviation, dtype=self.dtype)"),
        "tensorflow": (TENSORFLOW_ENGINE, "self.deviation = tf.constant(deviation, self.dtype)"),
    },
)
def normalisation_float32():
    """Constants of the normalisation kept as float32."""
    tf, _, engine = _tensorflow()
    original = engine.Engine.__init__

    def init(self, *arguments, **options):
        original(self, *arguments, **options)
        self.deviation = tf.cast(tf.cast(self.deviation, tf.float32), self.dtype)

    return patch.object(engine.Engine, "__init__", init)


@_trap(
    PRECISION,
    "paddle",
    None,
    None,
    not_probed=(
        "Certificates are made in float64 and float32. A run in 16 bits on a CPU is refused. A test removes the "
        "refusal, and finds Paddle's step in bfloat16 equal to its step in float32, bit for bit."
    ),
    paddle=(
        "`paddle.amp.auto_cast` on a CPU only warns, and computes in float32. A benchmark of 'bfloat16' there measures "
        "float32."
    ),
    tensorflow="`mixed_bfloat16` computes in bfloat16 on a CPU, too.",
    here="Paddle's engine refuses 16 bits on a CPU, and on a GPU that is too old, in one line.",
    sources=(PADDLE + "python/paddle/amp/auto_cast.py",),
    code={
        "paddle": (PADDLE_ENGINE, "if capability < CAPABILITY.get(config.precision, (0, 0)):"),
        "tensorflow": (TENSORFLOW_ENGINE, '"bfloat16": "mixed_bfloat16"'),
    },
)
def bfloat16_pretended():
    """bfloat16 and float16 on a CPU."""
    _, _, engine = _paddle()
    return patch.dict(engine.CAPABILITY, bfloat16=(0, 0), float16=(0, 0))


_not_probed(
    PRECISION,
    "tf32",
    "TF32 on GPUs",
    "It takes a GPU with TF32; `python -m tandem certify --device gpu --precision float32` is the command for one.",
    paddle="Convolutions (cuDNN) use TF32 by default, matrix products (cuBLAS) do not.",
    tensorflow="Both use it by default: float32 products keep 10 bits of the mantissa.",
    here="Set on both sides from one setting, `tf32`, which is off; recorded with each run.",
    sources=(TENSORFLOW + "tensorflow/python/framework/config.py",),
    code={
        "paddle": (PADDLE_ENGINE, "paddle.base.core.set_cudnn_switch(config.tf32)"),
        "tensorflow": (TENSORFLOW_ENGINE, "tf.config.experimental.enable_tensor_float_32_execution(config.tf32)"),
    },
)

_not_probed(
    PRECISION,
    "sync_batch_norm",
    "Batch norm over several replicas",
    "It takes several replicas; the certificate runs one process a framework.",
    paddle=(
        "`nn.BatchNorm2D` normalises by each replica's own part of the batch; `nn.SyncBatchNorm` by the whole, but it "
        "has no CPU kernel."
    ),
    tensorflow="`BatchNormalization` the same, unless it is made with `synchronized=True`.",
    here="One process so far. In trials, local statistics were 0.04 away from a single process'; synchronised, 3e-14.",
    sources=(
        PADDLE + "paddle/phi/kernels/gpu/sync_batch_norm_kernel.cu",
        KERAS + "keras/src/layers/normalization/batch_normalization.py",
    ),
    code={
        "paddle": (PADDLE_LAYERS, "class BatchNorm2D(nn.BatchNorm2D)"),
        "tensorflow": (TENSORFLOW_LAYERS, "mean, variance = tf.nn.moments(x, [0, 1, 2])"),
    },
)
