"""Traps: several workers. Each mutation is for either framework, and changes nothing of one process."""

import importlib
from unittest.mock import patch

from tandem.data.batches import Batch, share
from tandem.frameworks.base import ALONE
from tandem.traps.symbols import Code
from tandem.traps.trap import BOTH, KERAS, PADDLE, PADDLE_ENGINE, TENSORFLOW, TENSORFLOW_ENGINE, enter

import numpy as np

THEME = "Several workers"

SHARE = "tandem/data/batches.py"
SHARE_CODE = {
    "paddle": Code(PADDLE_ENGINE, "Engine._backward", "share(batch"),
    "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._on_device", "share(batch"),
}
BATCH_NORM_CODE = {
    "paddle": Code("tandem/frameworks/paddle/replicas.py", "_BatchNorm.forward", "variances, counts ="),
    "tensorflow": Code("tandem/frameworks/tensorflow/replicas.py", "batch_norm", "variances, counts ="),
}
PADDLE_PARALLEL = PADDLE + "python/paddle/distributed/parallel.py"
PADDLE_REDUCER = PADDLE + "paddle/fluid/distributed/collective/reducer.cc"
PADDLE_SAMPLER = PADDLE + "python/paddle/io/dataloader/batch_sampler.py"
TENSORFLOW_LOSS = TENSORFLOW + "tensorflow/python/ops/nn_impl_distribute.py"
TENSORFLOW_SHARDS = TENSORFLOW + "tensorflow/python/data/ops/options.py"


def module(framework, name):
    """A module of a framework's folder in tandem/frameworks."""
    return importlib.import_module(f"tandem.frameworks.{framework}.{name}")


@enter(
    THEME,
    BOTH,
    "plain",
    ("training: loss and hits", ""),
    paddle=(
        "`nn.BatchNorm2D` normalises with the statistics of each process' part of the batch. `nn.SyncBatchNorm` takes "
        "those of the whole batch, but has no CPU kernel."
    ),
    tensorflow="`BatchNormalization` takes each replica's own statistics, too, unless `synchronized=True`.",
    tandem="Both layers sum over the batches of all workers.",
    sources=(
        PADDLE + "paddle/phi/kernels/gpu/sync_batch_norm_kernel.cu",
        KERAS + "keras/src/layers/normalization/batch_normalization.py",
    ),
    code=BATCH_NORM_CODE,
)
def sync_batch_norm(framework):
    """Batch norm of each worker's own slice."""
    replicas = module(framework, "replicas")
    original = replicas.batch_norm

    def batch_norm(x, weight, bias, epsilon, all_replicas):
        return original(x, weight, bias, epsilon, ALONE)

    return patch.object(replicas, "batch_norm", batch_norm)


@enter(
    THEME,
    BOTH,
    "plain",
    ("training: statistics", "BatchNorm2D"),
    paddle=(
        "`paddle.DataParallel` makes parameters and statistics equal once, when it wraps the model. Then each process "
        "averages the statistics of its own slices, and the checkpoint has those of the process that saves it."
    ),
    tensorflow=(
        "So it is in a loop with variables of each worker's own. `tf.distribute` keeps one variable in several copies, "
        "and its `aggregation` says what they become: `ONLY_FIRST_REPLICA` is this mistake."
    ),
    tandem=(
        "All workers average the statistics of the whole batch, and end with the same bits. The probe still normalises "
        "with those, so that only the running ones show."
    ),
    sources=(PADDLE_PARALLEL, TENSORFLOW + "tensorflow/python/ops/variables.py"),
    code=BATCH_NORM_CODE,
)
def statistics_of_one_worker(framework):
    """Running statistics of rank 0's slices."""
    replicas = module(framework, "replicas")
    original = replicas.batch_norm

    def batch_norm(*arguments):
        y, _, _ = original(*arguments)
        _, mean, variance = original(*arguments[:-1], ALONE)
        return y, mean, variance

    return patch.object(replicas, "batch_norm", batch_norm)


@enter(
    THEME,
    BOTH,
    "plain",
    ("training: loss and hits", ""),
    paddle="Each process of a data-parallel run has its own generator. Where all are seeded alike, all draw one mask.",
    tensorflow=(
        "Under `tf.distribute.MirroredStrategy`, Keras' `SeedGenerator` may have the same state on every replica. Each "
        "part of the batch then gets the same mask, as it did in Tandem's trials."
    ),
    tandem="The mask is that of the whole batch, and each worker makes its slice of it.",
    sources=(KERAS + "keras/src/random/seed_generator.py", "https://github.com/keras-team/keras/pull/20612"),
    code={
        "paddle": Code("tandem/core/dropout.py", "mask", "before = first"),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._on_device", "dropout.keys("),
    },
)
def dropout_replicas(framework):
    """One dropout mask for the slices of all workers."""

    def first_share(batch, rank, count):
        return share(batch, rank, count)[0], 0

    return patch.object(module(framework, "engine"), "share", first_share)


@enter(
    THEME,
    BOTH,
    "plain",
    ("training: loss and hits", ""),
    paddle=(
        "`paddle.DataParallel` shares out gradients, not images. A `DataLoader` gives every process all images, unless "
        "it has a `DistributedBatchSampler`. N processes then compute N times as much for the step of one."
    ),
    tensorflow=(
        "`MultiWorkerMirroredStrategy` shares a `Dataset` out by its files or elements. With `AutoShardPolicy.OFF`, or "
        "a dataset that each worker makes itself, every worker sees all images."
    ),
    tandem="Every worker makes the whole batch and computes its own slice.",
    sources=(PADDLE_PARALLEL, PADDLE_SAMPLER, TENSORFLOW_SHARDS),
    code=SHARE_CODE,
)
def same_slice(framework):
    """The same slice for all workers."""
    return patch.object(module(framework, "engine"), "share", lambda batch, rank, count: share(batch, 0, count))


@enter(
    THEME,
    BOTH,
    "plain",
    ("training: loss and hits", ""),
    paddle=(
        "`DistributedBatchSampler` shuffles by the number of the epoch, which `set_epoch` sets, in the same order in "
        "every process. A sampler that draws from the process' own generator does not: then some images are in two "
        "slices, and some in none."
    ),
    tensorflow=(
        "`AutoShardPolicy.DATA` keeps every N-th element of what each worker produces, and needs the same order "
        "everywhere. `Dataset.shuffle` without a seed has another in every process."
    ),
    tandem="The order is a function of the seed and the epoch. Before the first step, workers compare both.",
    sources=(PADDLE_SAMPLER, TENSORFLOW_SHARDS),
    code={
        "paddle": Code(SHARE, "training_batches", 'order = permutation(seed, "shuffle"'),
        "tensorflow": Code(SHARE, "training_batches", 'order = permutation(seed, "shuffle"'),
    },
)
def shuffle_by_rank(framework):
    """A shuffle that differs by rank."""

    def own_share(batch, rank, count):
        order = np.random.default_rng(rank).permutation(len(batch.labels))
        return share(Batch(batch.images[order], batch.labels[order]), rank, count)

    return patch.object(module(framework, "engine"), "share", own_share)


@enter(
    THEME,
    BOTH,
    "plain",
    ("training: velocities", None),
    paddle=(
        "`F.cross_entropy` averages over a process' slice, and `paddle.DataParallel` averages the gradients. In slices "
        "of unequal size, each image of a smaller one counts more. `DistributedBatchSampler` repeats some images to "
        "make them equal."
    ),
    tensorflow=(
        "`tf.nn.compute_average_loss` divides by `global_batch_size`. Without it, it takes the slice's size times the "
        "number of replicas, which is the same mistake. `fit` divides a mean by the number of replicas."
    ),
    tandem="The sum of the slice's losses, divided by the size of the whole batch; gradients are summed.",
    sources=(PADDLE_REDUCER, PADDLE_SAMPLER, TENSORFLOW_LOSS, KERAS + "keras/src/losses/loss.py"),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine._backward", "loss = losses.sum()"),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._backward", "loss = tf.reduce_sum(losses)"),
    },
)
def mean_of_means(framework):
    """The mean of means over slices of unequal size."""
    engine = module(framework, "engine").Engine
    original = engine._losses

    def losses(self, *arguments, **options):
        logits, losses, metrics = original(self, *arguments, **options)
        ones = losses * 0 + 1
        own = ones.sum() if framework == "paddle" else module(framework, "engine").tf.reduce_sum(ones)
        (whole,) = self.replicas.sum([own])
        return logits, losses * whole / (own * self.replicas.count), metrics

    return patch.object(engine, "_losses", losses)


@enter(
    THEME,
    BOTH,
    "plain",
    ("training: parameters", None),
    paddle=(
        "`batch_size` of a `DistributedBatchSampler` is each process' own, so N processes take a batch N times as "
        "large. For that, not for a batch that is shared out, the learning rate is multiplied by N (Goyal et al. "
        "2017)."
    ),
    tensorflow=(
        "`batch_size` of `fit` is that of all replicas together. A loop that sums gradients of the slices' means, "
        "without a division by the number of replicas, has the same effect."
    ),
    tandem="`batch_size` is that of all workers together. The learning rate stays what it is.",
    sources=("https://arxiv.org/abs/1706.02677", PADDLE_SAMPLER, TENSORFLOW_LOSS),
    code={
        "paddle": Code(PADDLE_ENGINE, "Engine._update", "set_lr("),
        "tensorflow": Code(TENSORFLOW_ENGINE, "Engine._apply", "lr=learning_rate"),
    },
)
def rate_times_workers(framework):
    """A learning rate times the number of workers."""
    engine = module(framework, "engine").Engine
    original = engine._update

    def update(self, *arguments):
        *gradients, learning_rate = arguments
        original(self, *gradients, learning_rate * self.replicas.count)

    return patch.object(engine, "_update", update)
