"""Traps: dropout."""

from unittest.mock import patch

from tandem.traps.trap import (
    KERAS,
    PADDLE,
    PADDLE_LAYERS,
    TENSORFLOW,
    TENSORFLOW_ENGINE,
    TENSORFLOW_LAYERS,
    describe,
    enter,
    paddle_modules,
    tensorflow_modules,
)

THEME = "Dropout"

DROPOUT_CODE = {
    "paddle": (PADDLE_LAYERS, "return x * dropout_mask(self.key, x.shape, self.rate)"),
    "tensorflow": (TENSORFLOW_LAYERS, "return x * tf.cast(dropout_mask(self.key"),
}


@enter(
    THEME,
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
    code={"paddle": ("tandem/core/dropout.py", "def mask(key, shape, rate)"), "tensorflow": DROPOUT_CODE["tensorflow"]},
)
def dropout_generator():
    """Dropout by the framework's own generator."""
    tf, layers, _ = tensorflow_modules()
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
    _, layers, _ = paddle_modules()
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
    _, layers, _ = tensorflow_modules()
    original = layers.Dropout.__init__

    def init(self, rate, **options):
        original(self, 1 - rate, **options)

    return patch.object(layers.Dropout, "__init__", init)


describe(
    THEME,
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
        "paddle": ("tandem/core/dropout.py", "def keys(seed, step, names, rank=0)"),
        "tensorflow": (TENSORFLOW_ENGINE, "keys = dropout.keys(self.seed, step, self.dropouts)"),
    },
)
