"""Traps: loss."""

from unittest.mock import patch

from tandem.traps.trap import (
    KERAS,
    PADDLE,
    PADDLE_ENGINE,
    TENSORFLOW,
    TENSORFLOW_ENGINE,
    enter,
    losses_of,
    paddle_modules,
    tensorflow_modules,
)

THEME = "Loss"

LOSS_CODE = {
    "paddle": (PADDLE_ENGINE, "losses = paddle.logsumexp(logits, axis=1) - target"),
    "tensorflow": (TENSORFLOW_ENGINE, "losses = tf.reduce_logsumexp(logits, axis=1) - target"),
}
KERAS_LOSS = KERAS + "keras/src/backend/tensorflow/nn.py"
PADDLE_LOSS = PADDLE + "python/paddle/nn/functional/loss.py"


@enter(
    THEME,
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
    paddle, _, _ = paddle_modules()

    def loss(engine, logits, labels):
        return paddle.nn.functional.cross_entropy(logits, paddle.to_tensor(labels), reduction="none")

    return losses_of("paddle", loss)


@enter(
    THEME,
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
    tf, _, _ = tensorflow_modules()

    def loss(engine, logits, labels):
        return tf.keras.losses.sparse_categorical_crossentropy(labels, tf.nn.softmax(logits))

    return losses_of("tensorflow", loss)


@enter(
    THEME,
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
    paddle, _, _ = paddle_modules()

    def loss(engine, logits, labels):
        probabilities = paddle.nn.functional.softmax(logits)
        return paddle.nn.functional.cross_entropy(probabilities, paddle.to_tensor(labels), reduction="none")

    return losses_of("paddle", loss)


@enter(
    THEME,
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
    tf, _, _ = tensorflow_modules()

    def loss(engine, logits, labels):
        return tf.keras.losses.sparse_categorical_crossentropy(labels, logits)

    return losses_of("tensorflow", loss)


@enter(
    THEME,
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
    tf, _, engine = tensorflow_modules()
    original = engine.Engine._losses

    def losses(self, images, labels, training):
        logits, losses, metrics = original(self, images, labels, training)
        penalty = self.weight_decay * tf.add_n([tf.nn.l2_loss(parameter) for parameter in self.parameters])
        return logits, losses + penalty, metrics

    return patch.object(engine.Engine, "_losses", losses)


@enter(
    THEME,
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
    tf, _, engine = tensorflow_modules()
    original = engine.Engine._backward

    def backward(self, images, labels, keys):
        *results, gradients = original(self, images, labels, keys)
        return *results, [gradient * tf.cast(tf.size(labels), self.dtype) for gradient in gradients]

    return patch.object(engine.Engine, "_backward", backward)
