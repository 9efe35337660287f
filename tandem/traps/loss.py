"""Traps: loss."""

from unittest.mock import patch

from tandem.traps.symbols import Code
from tandem.traps.trap import KERAS, PADDLE, PADDLE_ENGINE, TENSORFLOW, TENSORFLOW_ENGINE, enter

THEME = "Loss"

LOSS_CODE = {
    "paddle": Code(PADDLE_ENGINE, "Engine._cross_entropy", "logsumexp"),
    "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._cross_entropy", "logsumexp"),
}
KERAS_LOSS = KERAS + "keras/src/backend/tensorflow/nn.py"
PADDLE_LOSS = PADDLE + "python/paddle/nn/functional/loss.py"


def paddle_losses(loss):
    """Paddle's engine with the losses `loss(logits, labels)`. Hits, which nothing here compares, stay."""
    from tandem.frameworks.paddle import engine

    import paddle

    original = engine.Engine._losses

    def losses(self, batch):
        logits, _, metrics = original(self, batch)
        return logits, loss(logits, paddle.to_tensor(batch.labels)), metrics

    return patch.object(engine.Engine, "_losses", losses)


def tensorflow_losses(loss):
    """TensorFlow's engine with the losses `loss(logits, labels)`. Hits, which nothing here compares, stay."""
    from tandem.frameworks.tensorflow import engine

    original = engine.Engine._losses

    def losses(self, images, labels, training):
        logits, _, metrics = original(self, images, labels, training)
        return logits, loss(logits, labels), metrics

    return patch.object(engine.Engine, "_losses", losses)


@enter(
    THEME,
    "paddle",
    "extremes",
    ("loss", ""),
    paddle=(
        "On a CPU, `F.cross_entropy` and `softmax_with_cross_entropy` clip the shifted logits at -64. A gap of 65 and "
        "a gap of 1000 both give a loss of 64."
    ),
    tensorflow="`tf.nn.sparse_softmax_cross_entropy_with_logits` clips nothing: a gap of 1000 gives a loss of 1000.",
    tandem="`logsumexp(logits) - logit`, on both sides. The probe's logits are hundreds apart.",
    sources=(
        PADDLE + "paddle/phi/kernels/funcs/softmax_impl.h",
        PADDLE + "paddle/phi/kernels/cpu/cross_entropy_kernel.cc",
    ),
    code=LOSS_CODE,
)
def cross_entropy_clipped():
    """Paddle's cross entropy of large logits."""

    def loss(logits, labels):
        from paddle.nn import functional as F

        return F.cross_entropy(logits, labels, reduction="none")

    return paddle_losses(loss)


@enter(
    THEME,
    "tensorflow",
    "extremes",
    ("loss", ""),
    paddle="`F.cross_entropy` takes logits, and clips them only at -64 (see above).",
    tensorflow=(
        "`keras.losses` take probabilities by default, and clip them to [1e-7, 1 - 1e-7]: no loss exceeds 16.1, and "
        "beyond that the gradient is zero. After `activation='softmax'` Keras finds the logits and uses them instead. "
        "It does not find them when the probabilities come from elsewhere, such as `tf.nn.softmax`."
    ),
    tandem="The networks end in logits.",
    sources=(KERAS_LOSS, KERAS + "keras/src/activations/activations.py"),
    code=LOSS_CODE,
)
def probabilities_clipped():
    """Cross entropy from clipped probabilities."""

    def loss(logits, labels):
        import tensorflow as tf

        return tf.keras.losses.sparse_categorical_crossentropy(labels, tf.nn.softmax(logits))

    return tensorflow_losses(loss)


@enter(
    THEME,
    "paddle",
    "plain",
    ("loss", ""),
    paddle="`F.cross_entropy` applies the softmax itself (`use_softmax=True`).",
    tensorflow=(
        "`keras.losses` expect probabilities (`from_logits=False`), so a Keras network ends in a softmax. Ported layer "
        "by layer to Paddle, it applies two. It trains slowly, and with 10 classes its loss cannot fall below 1.46."
    ),
    tandem="The networks end in logits.",
    sources=(PADDLE_LOSS, KERAS + "keras/src/losses/losses.py"),
    code=LOSS_CODE,
)
def softmax_twice():
    """The softmax applied twice."""

    def loss(logits, labels):
        from paddle.nn import functional as F

        return F.cross_entropy(F.softmax(logits), labels, reduction="none")

    return paddle_losses(loss)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("loss", ""),
    paddle="`F.cross_entropy` takes logits.",
    tensorflow=(
        "`keras.losses` take their input as probabilities unless `from_logits=True`. Logits are clipped to [1e-7, 1 - "
        "1e-7], and the gradient of each one outside is zero. There is no error."
    ),
    tandem="The loss is computed from logits, on both sides.",
    sources=(KERAS_LOSS, PADDLE_LOSS),
    code=LOSS_CODE,
)
def logits_as_probabilities():
    """Logits taken as probabilities."""

    def loss(logits, labels):
        import tensorflow as tf

        return tf.keras.losses.sparse_categorical_crossentropy(labels, logits)

    return tensorflow_losses(loss)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("loss", ""),
    paddle="An optimizer's `weight_decay` changes the gradient. The printed loss does not contain it.",
    tensorflow=(
        "The loss that `fit` reports contains the penalty of every `kernel_regularizer`. So two equal trainings print "
        "different losses, above all early on."
    ),
    tandem="The loss is the cross entropy alone. Weight decay is the optimizer's part.",
    sources=(KERAS + "keras/src/trainers/trainer.py", PADDLE + "python/paddle/regularizer.py"),
    code=LOSS_CODE,
)
def loss_with_penalty():
    """A reported loss that contains the L2 penalty."""
    from tandem.frameworks.tensorflow import engine

    import tensorflow as tf

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
    ("output gradients", None),
    paddle="`F.cross_entropy` averages over the batch (`reduction='mean'`).",
    tensorflow=(
        "`keras.losses` do, too. But `tf.nn.sparse_softmax_cross_entropy_with_logits` returns one loss per image, and "
        "TensorFlow differentiates a vector as its sum. The effective learning rate grows by a factor of the batch "
        "size."
    ),
    tandem="The sum of the losses, divided by the number of images.",
    sources=(PADDLE_LOSS, TENSORFLOW + "tensorflow/python/ops/nn_ops.py"),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine._backward", "loss = losses.sum()"),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._backward", "loss = tf.reduce_sum(losses)"),
    },
)
def loss_summed():
    """The gradient of a sum over the batch."""
    from tandem.frameworks.tensorflow import engine

    import tensorflow as tf

    original = engine.Engine._backward

    def backward(self, images, labels, *others, outputs=None):
        *results, gradients, of_outputs = original(self, images, labels, *others, outputs=outputs)
        size = tf.cast(tf.size(labels), self.dtype)
        of_outputs = {name: None if x is None else x * size for name, x in of_outputs.items()}
        return *results, [gradient * size for gradient in gradients], of_outputs

    return patch.object(engine.Engine, "_backward", backward)


@enter(
    THEME,
    "tensorflow",
    "activations",
    ("loss", ""),
    paddle=(
        "`F.label_smooth(label, epsilon=e)` and `F.cross_entropy(label_smoothing=e)` spread e over all n classes: the "
        "right one gets `1 - e + e/n`."
    ),
    tensorflow=(
        "So does `label_smoothing` of `keras.losses.CategoricalCrossentropy`. But the Transformers of Tensor2Tensor "
        "and of TensorFlow's model garden spread e over the other n - 1: the right one gets `1 - e`. With 10 classes "
        "and e = 0.1, that is a smoothing of 0.111."
    ),
    tandem="e is spread over all classes, on both sides.",
    sources=(
        PADDLE + "python/paddle/nn/functional/common.py",
        PADDLE_LOSS,
        KERAS + "keras/src/losses/losses.py",
        "https://github.com/tensorflow/models/blob/00b830c7ca641413f37e5147cf059c89f79b0e8e/official/legacy/transformer/"
        "metrics.py",
        "https://arxiv.org/abs/1512.00567",
    ),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine._cross_entropy", "target = "),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._cross_entropy", "target = "),
    },
)
def smoothing_over_the_others():
    """Label smoothing over all classes but the right one."""
    from tandem.frameworks.tensorflow import engine

    import tensorflow as tf

    def cross_entropy(self, logits, labels):
        e, n = self.label_smoothing, self.num_classes
        targets = tf.one_hot(labels, n, tf.cast(1 - e, self.dtype), tf.cast(e / (n - 1), self.dtype))
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits)

    return patch.object(engine.Engine, "_cross_entropy", cross_entropy)
