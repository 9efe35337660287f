"""Traps: optimizer."""

from tandem.traps.trap import (
    KERAS,
    PADDLE,
    PADDLE_ENGINE,
    TENSORFLOW,
    TENSORFLOW_ENGINE,
    engine_with,
    enter,
    momentum_update,
    tensorflow_modules,
)

THEME = "Optimizer"

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


@enter(
    THEME,
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
    tf, _, _ = tensorflow_modules()
    last = tf.Variable(1.0, dtype=tf.float64)

    def change(self, gradients, learning_rate, apply):
        rate = tf.cast(learning_rate, tf.float64)
        for velocity in self.velocities:
            velocity.assign(velocity * tf.cast(last / rate, velocity.dtype))
        last.assign(rate)
        apply(gradients, learning_rate)

    return momentum_update(change)


@enter(
    THEME,
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
        "tensorflow": ("tandem/config/schema.py", "momentum: Annotated[Float32"),
    },
)
def momentum_double():
    """The momentum kept as a double."""
    _, _, engine = tensorflow_modules()
    return engine_with(engine, momentum=0.9)


@enter(
    THEME,
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
    _, _, engine = tensorflow_modules()
    return engine_with(engine, momentum=0.0)


@enter(
    THEME,
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
    _, _, engine = tensorflow_modules()
    return engine_with(engine, nesterov=True)


@enter(
    THEME,
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
    tf, _, _ = tensorflow_modules()

    def change(self, gradients, learning_rate, apply):
        apply(gradients, tf.cast(tf.cast(learning_rate, tf.float32), learning_rate.dtype))

    return momentum_update(change)


@enter(
    THEME,
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

    return momentum_update(change)


@enter(
    THEME,
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

    return momentum_update(change)


@enter(
    THEME,
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

    return momentum_update(change)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("velocities", None),
    paddle="The kernel takes the L2 factor as a C++ `float`, in float64 too: 0.1 is 0.10000000149011612.",
    tensorflow="A Python number stays a double in a float64 computation.",
    here="Rounded to float32 once, where the config is read. The probe decays by 0.1, so that it shows.",
    sources=(PADDLE_MOMENTUM,),
    code={**DECAY_CODE, "tensorflow": ("tandem/config/schema.py", "weight_decay: Annotated[Float32")},
)
def decay_double():
    """The L2 factor kept as a double."""
    _, _, engine = tensorflow_modules()
    return engine_with(engine, weight_decay=0.1)
