"""What takes the steps of a benchmark: a process of its own for each variant, which waits until it is told to.

    python -m tandem.benchmark.variants ADDRESS VARIANT ARGUMENTS

The other end is tandem/benchmark/turns.py. A process connects to ADDRESS, says what it is ready for, and then answers
each message, the name of a work, with how long that took. It ends when nobody listens any more.
"""

import importlib
import json
import os
import sys
import time
from multiprocessing.connection import Client

import data_utils
from tandem.config import networks
from tandem.config.load import check_config
from tandem.core.errors import UserError
from tandem.data.batches import evaluation_batches
from tandem.data.images import normalization
from tandem.frameworks.base import load_engine
from tandem.frameworks.jobs import stay_in_touch

import numpy as np

NUM_CLASSES = 10

KEPT = 8
"""Batches in memory, over and over again."""


class Turn:
    """The end of the connection that is in the process of a variant."""

    def __init__(self, address):
        self.connection = Client(address)

    def ready(self, **facts):
        """Say that the works can begin; `facts` go along."""
        self.connection.send(facts)

    def wait(self):
        """Wait until it is this process's turn; return which work it is to do. Ends the process when all is done."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            raise SystemExit from None

    def done(self, seconds, peak_memory=None):
        """Say how long the work took, and the peak memory so far in bytes."""
        self.connection.send({"seconds": seconds, "peak_memory": peak_memory})


def tandem(turn, framework, settings):
    """The engine's works: `forward`, from uint8 images to logits in evaluation mode, and `training`.

    In a process of a job it is one of several that share each batch.
    """
    from tandem.frameworks.layer_table import describe, totals

    split, mean, std = random_data(settings, KEPT)
    module = load_engine(framework)
    replicas = module.join(settings)
    engine = module.Engine(settings, NUM_CLASSES, mean, std, replicas=replicas)
    batches = list(evaluation_batches(split, settings.batch_size))
    rate = settings.optimizer.learning_rate
    works = {
        "forward": lambda step: engine.predict(batches[step % KEPT].images),
        "training": lambda step: engine.train_step(batches[step % KEPT], rate, step).numpy(),
    }
    macs = totals(describe(engine, settings.data.image_size))["macs"] if replicas.count == 1 else None
    turn.ready(macs=macs)
    for step in range(sys.maxsize):
        work = works[turn.wait()]
        started = time.monotonic()
        work(step)
        turn.done(time.monotonic() - started, engine.peak_memory())


def stock(turn, framework, settings, steps, tandem_settings=False):
    """The one work `training`, in the framework's own loop, of a network of its own layers.

    Args:
        turn: a `Turn`.
        framework: of `tandem.frameworks.base.FRAMEWORKS`.
        settings: the `Config`.
        steps: how many the loop can take.
        tandem_settings: whether to use the threads, environment variables and kernels that Tandem chooses.
    """
    split, mean, std = random_data(settings, steps)
    if tandem_settings:
        record = load_engine(framework).configure(settings)
    module = importlib.import_module(f"tandem.frameworks.{framework}.stock")
    network = settings.network.model_dump()
    builder = module.NETWORKS.get(network.pop("name"))
    if builder:
        model = builder(NUM_CLASSES, **network)
    else:  # one's own, in whatever layers
        # Importing Tandem's layers sets environment variables. The framework has read them by now, but Paddle's MKL
        # reads its own at the first matrix product.
        variables = dict(os.environ)
        model = networks.build(settings.network, framework, NUM_CLASSES)
        os.environ.clear()
        os.environ.update(variables)
    if tandem_settings and framework == "tensorflow":
        # Keras compiles every model that supports it with XLA. Tandem uses XLA on a GPU only. On two cores of an EPYC,
        # a step of the small SE-ResNeXt, batch 32, took Keras 0.48 s with XLA and 0.37 s without.
        model.supports_jit = record["device"] == "gpu"
    images = ((split.images - mean) / std).astype(np.float32)
    optimizer = settings.optimizer.model_dump(exclude={"parameter_groups"})
    turn.ready()
    module.train(model, images, split.labels, settings.batch_size, turn.wait, turn.done, **optimizer)


def peer(turn, settings):
    """The one work `training`, in PyTorch."""
    from tandem.benchmark import peer_torch

    split, mean, std = random_data(settings, KEPT)
    step = peer_torch.training(settings, NUM_CLASSES)
    images = ((split.images - mean) / std).astype(np.float32)
    size = settings.batch_size
    turn.ready()
    for start in range(0, sys.maxsize, size):
        turn.wait()
        first = start % len(split.labels)
        started = time.monotonic()
        step(images[first : first + size], split.labels[first : first + size])
        turn.done(time.monotonic() - started)


def random_data(settings, count):
    """`count` batches of noise as a Split, and the mean and std to normalise them with."""
    split = random_split(count * settings.batch_size, settings.data.image_size)
    return split, *normalization(split.images, "channel")


def random_split(count, size):
    """A Split of `count` images of noise, uint8 [count, 3, size, size]: what is in them does not affect the speed."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 3, size, size), np.uint8)
    return data_utils.Split(images, random.integers(0, NUM_CLASSES, count))


VARIANTS = {"tandem": tandem, "stock": stock, "peer": peer}

if __name__ == "__main__":
    stay_in_touch()
    address, variant, values = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    try:
        settings = check_config(values.pop("settings"), "benchmark")
        VARIANTS[variant](Turn(address), settings=settings, **values)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
