"""Traps: what TensorFlow compiles."""

from unittest.mock import patch

from tandem.core import dropout
from tandem.traps.symbols import Code
from tandem.traps.trap import PADDLE_ENGINE, TENSORFLOW, TENSORFLOW_ENGINE, enter

THEME = "Compiled steps"

GUIDE = "https://www.tensorflow.org/guide/function"
FUNCTION = TENSORFLOW + "tensorflow/python/eager/polymorphic_function/polymorphic_function.py"
TRACED_CODE = Code(TENSORFLOW_ENGINE, "Engine.__init__", "self._train = ")


def frozen(train, remember):
    """TensorFlow's engine with `train(engine, original, *inputs)` in place of what is compiled.

    `remember(engine, learning_rate, step)` runs before every step. What it sets is plain Python, so the compiled
    function has what it was when it was traced, in the first step.
    """
    from tandem.frameworks.tensorflow import engine

    original_train, original_step = engine.Engine._train, engine.Engine.train_step

    def compiled(self, *inputs):
        return train(self, original_train, *inputs)

    def train_step(self, batch, learning_rate, step):
        remember(self, learning_rate, step)
        return original_step(self, batch, learning_rate, step)

    return patch.multiple(engine.Engine, _train=compiled, train_step=train_step)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("tensorflow trains: loss and hits", ""),
    paddle="Eager Paddle runs Python at every step. A mask from NumPy is a new one each time.",
    tensorflow=(
        "`tf.function` runs Python only while it traces, usually in the first call. A mask from NumPy, or from a seed "
        "in a Python number, becomes a constant of the graph: every step drops the same elements. Eager code, in a "
        "debugger or a test, is right."
    ),
    tandem=(
        "The keys of the masks are an argument of the compiled step. A certificate takes each step by the compiled "
        "function as well."
    ),
    sources=(GUIDE, FUNCTION),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine._backward", "dropout.keys("),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine.__init__", "keys = tf.TensorSpec("),
    },
)
def mask_frozen():
    """A dropout mask frozen when TensorFlow traces."""
    import tensorflow as tf

    def remember(self, learning_rate, step):
        self.now = step

    def train(self, original, images, labels, place, keys, learning_rate):
        keys = tf.constant(dropout.keys(self.seed, self.now, self.dropouts))
        return original(self, images, labels, place, keys, learning_rate)

    return frozen(train, remember)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("tensorflow trains: parameters", None),
    paddle="`optimizer.set_lr` takes a Python number at every step.",
    tensorflow=(
        "A learning rate that the compiled step reads from a Python attribute is a constant of the graph. A schedule "
        "then changes what is logged, and nothing else. `keras.optimizers` keep it in a variable, which is read at "
        "every step."
    ),
    tandem="The learning rate is an argument of the compiled step. A certificate changes it at every step.",
    sources=(GUIDE, FUNCTION),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine._update", "set_lr("),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine.__init__", "learning_rate = tf.TensorSpec("),
    },
)
def rate_frozen():
    """A learning rate frozen when TensorFlow traces."""
    import tensorflow as tf

    def remember(self, learning_rate, step):
        self.now = learning_rate

    def train(self, original, *inputs):
        return original(self, *inputs[:-1], tf.constant(self.now, self.dtype))

    return frozen(train, remember)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("tensorflow trains: velocities", None),
    paddle="Eager Paddle takes an `if` at every step.",
    tensorflow=(
        "An `if` on a Python value is decided while `tf.function` traces, and then holds for all steps. The probe's "
        "mistake starts the velocity as PyTorch does, with the first gradient: `v = g if step == 0 else m*v + g`. "
        "The first step is right. The compiled one stays in the first branch, and momentum is gone. AutoGraph turns an "
        "`if` into a part of the graph only if its condition is a tensor."
    ),
    tandem="What changes from step to step is an argument of the compiled step. The velocity starts at zero.",
    sources=(GUIDE, FUNCTION),
    code={"paddle": Code(PADDLE_ENGINE, "Engine._update", "self.optimizer.step()"), "tensorflow": TRACED_CODE},
)
def branch_frozen():
    """A Python branch frozen when TensorFlow traces."""

    def remember(self, learning_rate, step):
        self.now = step

    def train(self, original, *inputs):
        momentum = self.momentum
        if self.now == 0:
            self.momentum = 0.0  # the velocity is zero
        metrics = original(self, *inputs)
        self.momentum = momentum
        return metrics

    return frozen(train, remember)


@enter(
    THEME,
    "tensorflow",
    "extremes",
    ("tensorflow evaluates: evaluate", ""),
    paddle="The mode is a state of the model, `train()` or `eval()`, and each layer reads it at every call.",
    tensorflow=(
        "The mode is an argument, or a Python attribute, and `tf.function` keeps what it was while tracing. A function "
        "that was traced for training normalises test images with the statistics of their batch, and drops elements, "
        "whatever the attribute says later. The same model, called in eager code with `training=False`, is right."
    ),
    tandem=(
        "Evaluation is a function of its own, with `training=False`. A certificate compares what `evaluate` and "
        "`predict` return with the evaluation in eager code."
    ),
    sources=(GUIDE, FUNCTION),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine.evaluate", "self.model.eval()"),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._evaluate", "training=False"),
    },
)
def evaluation_compiled_for_training():
    """Evaluation compiled in training mode."""
    from tandem.frameworks.tensorflow import kernels

    import tensorflow as tf

    original = kernels.batch_norm

    def batch_norm(*arguments):
        *arguments, training = arguments
        return original(*arguments, training or not tf.executing_eagerly())

    return patch.object(kernels, "batch_norm", batch_norm)
