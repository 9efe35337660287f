"""Traps: dropout."""

from unittest.mock import patch

from tandem.traps.symbols import Code
from tandem.traps.trap import (
    KERAS,
    PADDLE,
    PADDLE_LAYERS,
    TENSORFLOW,
    TENSORFLOW_LAYERS,
    enter,
)

THEME = "Dropout"

MASK = "tandem/core/dropout.py"
DROPOUT_CODE = {
    "paddle": Code(PADDLE_LAYERS, "Dropout.forward", "dropout_mask("),
    "tensorflow": Code(TENSORFLOW_LAYERS, "Dropout.call", "dropout_mask("),
}


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Dropout"),
    paddle="The mask comes from Paddle's generator, whose state depends on everything drawn before.",
    tensorflow="It comes from TensorFlow's generator or Keras' `SeedGenerator`. No seed makes them draw the same.",
    tandem=(
        "In Tandem's loop, both compute the same mask: an integer hash of the seed, the step, the layer and the "
        "element. Elsewhere (`model.fit`, `model.train()`) the layers are ordinary dropout."
    ),
    sources=(
        PADDLE + "python/paddle/nn/functional/common.py",
        KERAS + "keras/src/random/seed_generator.py",
    ),
    code={**DROPOUT_CODE, "paddle": Code(MASK, "mask")},
)
def dropout_generator():
    """Dropout by the framework's own generator."""
    from tandem.frameworks.tensorflow import layers

    import tensorflow as tf

    tf.random.set_seed(0)

    def call(self, x, training=False):
        return tf.nn.dropout(x, self.rate, seed=0) if training else x

    return patch.object(layers.Dropout, "call", call)


@enter(
    THEME,
    "paddle",
    "plain",
    ("layer outputs", "Dropout"),
    paddle=(
        "`mode='upscale_in_train'` is today's default. Paddle 1's `fluid.layers.dropout` defaulted to "
        "`'downgrade_in_infer'`, today's `mode='downscale_in_infer'`: training does not scale what is kept, and "
        "evaluation multiplies by 1 - rate."
    ),
    tensorflow="Training divides what is kept by 1 - rate. Evaluation changes nothing.",
    tandem="Both sides divide in training.",
    sources=(
        PADDLE + "python/paddle/nn/functional/common.py",
        "https://paddlepaddle.org.cn/documentation/docs/zh/2.4/api/paddle/fluid/layers/dropout_cn.html",
    ),
    code=DROPOUT_CODE,
)
def dropout_downscaled():
    """Dropout that scales in evaluation, not in training."""
    from tandem.frameworks.paddle import layers

    original = layers.Dropout.forward

    def forward(self, x):
        kept = 1 - self.rate
        return original(self, x) * kept  # in training that takes the division back

    return patch.object(layers.Dropout, "forward", forward)


@enter(
    THEME,
    "tensorflow",
    "plain",
    ("layer outputs", "Dropout"),
    paddle="`p` is the probability to drop.",
    tensorflow=(
        "`rate` is the probability to drop. TensorFlow 1 had `keep_prob`, the probability to keep, which is still the "
        "second argument of `tf.compat.v1.nn.dropout`. At 0.5 nobody sees it."
    ),
    tandem="`rate` is the probability to drop.",
    sources=(TENSORFLOW + "tensorflow/python/ops/nn_ops.py",),
    code={
        "paddle": Code(PADDLE_LAYERS, "dropout_mask", "dropout.threshold(rate)"),
        "tensorflow": Code(TENSORFLOW_LAYERS, "dropout_mask", "dropout.threshold(rate)"),
    },
    setting="rate",
)
def dropout_keep_rate():
    """A dropout rate taken as the probability to keep."""
    from tandem.frameworks.tensorflow import layers

    original = layers.Dropout.__init__

    def init(self, rate, **options):
        original(self, 1 - rate, **options)

    return patch.object(layers.Dropout, "__init__", init)
