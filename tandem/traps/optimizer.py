"""Traps: optimizer."""

from unittest.mock import patch

from tandem.traps.symbols import Code
from tandem.traps.trap import KERAS, PADDLE, PADDLE_ENGINE, TENSORFLOW, TENSORFLOW_ENGINE, enter

THEME = "Optimizer"

MOMENTUM_CODE = {
    "paddle": Code(PADDLE_ENGINE, "Engine.__init__", "paddle.optimizer.Momentum("),
    "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._apply", "tf.raw_ops.ResourceApplyMomentum("),
}
VALUE_CODE = {
    "paddle": Code(PADDLE_ENGINE, "Engine.__init__", "momentum=config.optimizer.momentum"),
    "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._apply", "momentum=tf.constant("),
}
NESTEROV_CODE = {
    "paddle": Code(PADDLE_ENGINE, "Engine.__init__", "use_nesterov="),
    "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._apply", "use_nesterov="),
}
DECAY_CODE = {
    "paddle": Code(PADDLE_ENGINE, "Engine.__init__", "weight_decay=paddle.regularizer.L2Decay("),
    "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._apply", "grad=gradient + weight_decay * parameter"),
}
CONFIG = "tandem/config/schema.py"
PADDLE_MOMENTUM = PADDLE + "paddle/phi/kernels/impl/momentum_kernel_impl.h"
KERAS_SGD = KERAS + "keras/src/optimizers/sgd.py"
KERAS_OPTIMIZER = KERAS + "keras/src/optimizers/base_optimizer.py"


def engine_with(**attributes):
    """TensorFlow's engine with other `attributes` than its config says."""
    from tandem.frameworks.tensorflow import engine

    original = engine.Engine.__init__

    def init(self, *arguments, **options):
        original(self, *arguments, **options)
        for name, value in attributes.items():
            setattr(self, name, value)

    return patch.object(engine.Engine, "__init__", init)


def momentum_update(change):
    """TensorFlow's engine with `change(engine, gradients, learning_rate, apply)` in place of `apply`."""
    from tandem.frameworks.tensorflow import engine

    original = engine.Engine._apply

    def apply(self, gradients, learning_rate):
        change(self, gradients, learning_rate, lambda *arguments: original(self, *arguments))

    return patch.object(engine.Engine, "_apply", apply)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("velocities", None),
    paddle="`v = m*v + g; w -= lr*v`. The velocity is in units of the gradient.",
    tensorflow=(
        "`keras.optimizers.SGD` computes `v = m*v - lr*g; w += v`. This is the same while the learning rate is "
        "constant. When it drops tenfold, Keras still moves by what the old rate left in v, for about `1/(1 - m)` "
        "steps. `tf.raw_ops.ResourceApplyMomentum` has Paddle's formula."
    ),
    tandem="Paddle's formula on both sides. For this reason a certificate changes the learning rate at every step.",
    sources=(KERAS_SGD, PADDLE_MOMENTUM, TENSORFLOW + "tensorflow/core/kernels/training_ops.cc"),
    code=MOMENTUM_CODE,
)
def rate_in_velocity():
    """The learning rate kept inside the velocity.

    What Keras keeps is -lr*v; here it is divided by the step's lr again, so that nothing shows while lr is constant.
    """
    import tensorflow as tf

    last = {}  # by engine and path: a certificate takes each step traced and compiled

    def change(self, gradients, learning_rate, apply):
        rate = tf.cast(learning_rate, tf.float64)
        path = self, tf.executing_eagerly()
        if path not in last:
            with tf.init_scope():  # the compiled step makes no variables
                last[path] = tf.Variable(0.0, dtype=tf.float64)
        kept = tf.where(last[path] == 0.0, tf.ones_like(rate), last[path] / rate)
        for velocity in self.velocities:
            velocity.assign(velocity * tf.cast(kept, velocity.dtype))
        last[path].assign(rate)
        apply(gradients, learning_rate)

    return momentum_update(change)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("velocities", None),
    paddle=(
        "The kernel takes the momentum as a C++ `float`, even in float64: 0.9 becomes 0.8999999761581421. The velocity "
        "starts at zero, so this shows at the second step."
    ),
    tensorflow="A Python number stays a double in a float64 computation.",
    tandem="The config rounds the momentum to float32 once.",
    sources=(PADDLE_MOMENTUM,),
    code={**VALUE_CODE, "tensorflow": Code(CONFIG, "Optimizer.momentum")},
)
def momentum_double():
    """The momentum kept as a double."""
    return engine_with(momentum=0.9)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("velocities", None),
    paddle="`paddle.optimizer.Momentum` has a momentum of 0.9 by default.",
    tensorflow="`keras.optimizers.SGD` has a momentum of 0 by default. At the first step nothing differs.",
    tandem="The config states the momentum.",
    sources=(KERAS_SGD, PADDLE + "python/paddle/optimizer/momentum.py"),
    code=VALUE_CODE,
)
def momentum_default():
    """The momentum at Keras' default."""
    return engine_with(momentum=0.0)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("parameters", None),
    paddle="`use_nesterov=False` by default. If true, `w -= lr*(g + m*v)`.",
    tensorflow=(
        "`nesterov=False` by default. If true, the formula is the same, with the learning rate inside v (see above). "
        "It is a mistake only if one side alone uses it: the velocities agree; the weights do not."
    ),
    tandem="One setting for both sides.",
    sources=(KERAS_SGD, PADDLE_MOMENTUM),
    code=NESTEROV_CODE,
)
def nesterov():
    """Nesterov momentum on one side only."""
    return engine_with(nesterov=True)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("parameters", None),
    paddle="The learning rate has the default type: float64 in a float64 run.",
    tensorflow=(
        "`keras.optimizers` keep it in a variable of type `floatx()`, float32 by default, whatever the type of the "
        "weights: 0.1 becomes 0.10000000149."
    ),
    tandem="Each step receives the learning rate as a number of the run's type.",
    sources=(KERAS_OPTIMIZER, PADDLE + "python/paddle/optimizer/optimizer.py"),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine._update", "set_lr("),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine.train_step", "tf.constant(learning_rate, self.dtype)"),
    },
)
def rate_float32():
    """The learning rate kept as a float32."""
    import tensorflow as tf

    def change(self, gradients, learning_rate, apply):
        apply(gradients, tf.cast(tf.cast(learning_rate, tf.float32), learning_rate.dtype))

    return momentum_update(change)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("velocities", None),
    paddle="`L2Decay(c)` adds `c*w` to the gradient.",
    tensorflow=(
        "`keras.regularizers.L2(c)` adds `c*w^2` to the loss, so `2*c*w` to the gradient. `tf.nn.l2_loss` is half the "
        "sum of squares, so c times that is Paddle's decay. A weight decay of 5e-4 in Paddle is `L2(2.5e-4)` in Keras."
    ),
    tandem="Both sides add `c*w` to the gradient.",
    sources=(
        KERAS + "keras/src/regularizers/regularizers.py",
        PADDLE_MOMENTUM,
        TENSORFLOW + "tensorflow/core/kernels/l2loss_op.h",
    ),
    code=DECAY_CODE,
)
def decay_doubled():
    """Keras' L2 penalty, whose gradient is twice as large."""

    def change(self, gradients, learning_rate, apply):
        apply(
            [g + self.weight_decay * w for g, w in zip(gradients, self.parameters, strict=True)],
            learning_rate,
        )

    return momentum_update(change)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("velocities", None),
    paddle="The weight decay of `Momentum(weight_decay=c)` is part of the gradient, and so of the velocity.",
    tensorflow=(
        "`keras.optimizers.SGD(weight_decay=c)` is decoupled: it first shrinks w by `lr*c*w`, and keeps the decay out "
        "of the velocity. With a momentum of 0.9, Paddle's decay adds up to ten times as much."
    ),
    tandem="Both sides add `c*w` to the gradient.",
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

    return momentum_update(change)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("velocities", "BatchNorm2D"),
    paddle="An optimizer's `weight_decay` applies to all its parameters, biases and batch norm included.",
    tensorflow=(
        "A `kernel_regularizer` applies to the kernel of one layer only, and many recipes decay kernels only. Biases "
        "start at zero, where nothing decays. So in a network without batch norm this shows only at the second step."
    ),
    tandem="Weight decay applies to every trainable parameter, unless a parameter group says otherwise.",
    sources=(PADDLE + "python/paddle/optimizer/momentum.py", KERAS + "keras/src/layers/convolutional/base_conv.py"),
    code=DECAY_CODE,
)
def decay_kernels_only():
    """Weight decay on kernels only."""

    def change(self, gradients, learning_rate, apply):
        pairs = zip(gradients, self.parameters, strict=True)
        apply([g - self.weight_decay * w if len(w.shape) == 1 else g for g, w in pairs], learning_rate)

    return momentum_update(change)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("velocities", None),
    paddle="The kernel takes the L2 factor as a C++ `float`, even in float64: 0.1 becomes 0.10000000149011612.",
    tensorflow="A Python number stays a double in a float64 computation.",
    tandem="The config rounds the factor to float32 once. The probe's factor is 0.1, so that this shows.",
    sources=(PADDLE_MOMENTUM,),
    code={**DECAY_CODE, "tensorflow": Code(CONFIG, "Optimizer.weight_decay")},
)
def decay_double():
    """The L2 factor kept as a double."""
    return engine_with(weight_decay=0.1)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("velocities", None),
    paddle=(
        "`grad_clip` of an optimizer is None by default. `ClipGradByNorm` clips each parameter's gradient by its own "
        "norm, `ClipGradByGlobalNorm` all of them by their common norm. The weight decay is added after clipping."
    ),
    tensorflow=(
        "`keras.optimizers` clip nothing by default either. `clipnorm` is each one's own norm, `global_clipnorm` the "
        "common one. A `kernel_regularizer` is a part of the loss, so its gradient is clipped, too."
    ),
    tandem="Nothing is clipped. The probe's mistake clips each gradient to a norm of 0.1.",
    sources=(PADDLE + "python/paddle/nn/clip.py", PADDLE + "python/paddle/optimizer/optimizer.py", KERAS_OPTIMIZER),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine._update", "self.optimizer.step()"),
        "tensorflow": DECAY_CODE["tensorflow"],
    },
)
def gradients_clipped():
    """Gradient clipping on one side only."""
    import tensorflow as tf

    def change(self, gradients, learning_rate, apply):
        apply([tf.clip_by_norm(gradient, 0.1) for gradient in gradients], learning_rate)

    return momentum_update(change)


@enter(
    THEME,
    "tensorflow",
    "activations",
    ("EMA", None),
    paddle="Outside static graphs, Paddle has no EMA of weights. Everyone writes it by hand, after `optimizer.step()`.",
    tensorflow=(
        "`use_ema=True` of `keras.optimizers` averages after the update, and `tf.train.ExponentialMovingAverage` is to "
        "be called after it. If `ema.apply` comes first, the average lags one step behind. With a decay of 0.9999 "
        "nobody sees it."
    ),
    tandem="The update comes first, on both sides.",
    sources=(
        PADDLE + "python/paddle/static/nn/common.py",
        KERAS_OPTIMIZER,
        TENSORFLOW + "tensorflow/python/training/moving_averages.py",
    ),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine._update", "self._update_ema()"),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._update", "self._update_ema()"),
    },
)
def ema_before_update():
    """EMA taken before the update."""
    from tandem.frameworks.tensorflow import engine

    original = engine.Engine._update

    def update(self, gradients, learning_rate):
        self._update_ema()
        averages, self.ema = self.ema, {}
        original(self, gradients, learning_rate)
        self.ema = averages

    return patch.object(engine.Engine, "_update", update)


@enter(
    THEME,
    "tensorflow",
    "activations",
    ("EMA", "BatchNorm2D"),
    paddle=(
        "`model.parameters()` and `model.state_dict()` both hold the running statistics, so an EMA over either "
        "averages them."
    ),
    tensorflow=(
        "`use_ema=True` of `keras.optimizers` averages what the optimizer trains. The running statistics of batch norm "
        "are not among it. Averaged weights are then evaluated with the latest statistics, which belong to other "
        "weights. `ema.apply(model.trainable_variables)` does the same."
    ),
    tandem="Weights and statistics are averaged, on both sides.",
    sources=(KERAS_OPTIMIZER, TENSORFLOW + "tensorflow/python/training/moving_averages.py"),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine.__init__", "self.ema = {name: "),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine.__init__", "self.ema = {name: "),
    },
)
def ema_without_statistics():
    """EMA of the weights without the statistics."""
    from tandem.frameworks.tensorflow import engine

    original = engine.Engine._update_ema

    def update_ema(self):
        original(self)
        for name, variable in self._model_variables().items():
            if not variable.trainable:
                self.ema[name].assign(variable)

    return patch.object(engine.Engine, "_update_ema", update_ema)
