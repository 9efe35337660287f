"""The contract of a framework's engine, and the registry of frameworks.

A framework is a line in `TITLES` and a folder here with `layers`, `kernels`, `replicas`, `engine`, `inspection` and
`stock`. The second of the two also has `second`.
"""

import dataclasses
import importlib
import socket
from contextlib import AbstractContextManager
from typing import Any, Protocol

from tandem.config.schema import Config
from tandem.core.errors import UserError
from tandem.data.batches import Batch

import numpy as np

TITLES = {"paddle": "Paddle", "tensorflow": "TensorFlow"}
"""The frameworks and their titles."""

FRAMEWORKS = tuple(TITLES)

# How engines scale the loss in float16 (Micikevicius et al. 2018, arXiv:1710.03740).
INITIAL_SCALE = 2.0**16
GROWTH_STEPS = 2000
"""After this many steps without an overflow the scale doubles. After a step with one it halves."""


class Replicas(Protocol):
    """The processes that train together, each with its slice of every batch. They hold equal weights.

    Attributes:
        rank: the number of this process, from 0.
        count: how many there are.

    Raises:
        UserError: one of them cannot be reached any more.
    """

    rank: int
    count: int

    def sum(self, tensors: list) -> list:
        """The sums of `tensors` over all processes. All must ask, in the same order. There is no gradient through it.

        The tensors are of one type, and have the same shapes everywhere.
        """

    def gather(self, numbers: list) -> np.ndarray:
        """The `numbers` of each process, float64 [count, len(numbers)]. All must ask, in the same order."""


class Alone(Replicas):
    """One process that trains by itself."""

    rank, count = 0, 1

    def sum(self, tensors):
        """`tensors`, as they are."""
        return tensors

    def gather(self, numbers):
        """`numbers`, float64 [1, len(numbers)]."""
        return np.array([numbers], np.float64)


ALONE = Alone()


@dataclasses.dataclass
class Record:
    """What an engine notes while a network runs, by the layers' names. A layer that runs again is name#2.

    Attributes:
        images: the model's input.
        inputs, outputs: what each layer took in first, and what it passed on.
        taken: the numbers of the outputs that it took in as they are.
        computed: where a layer passes on a given output, its own.
    """

    images: list = dataclasses.field(default_factory=list)
    inputs: dict = dataclasses.field(default_factory=dict)
    outputs: dict = dataclasses.field(default_factory=dict)
    taken: dict = dataclasses.field(default_factory=dict)
    computed: dict = dataclasses.field(default_factory=dict)


class Engine(Protocol):
    """A network in one framework with its optimizer.

    Args:
        config: the settings; those of device and precision apply to the whole process.
        num_classes: length of the logits.
        mean, std: what images (0 to 255) are normalised with; they broadcast to [N, 3, H, W].
        replicas: what the module's `join(config)` returned, to train together with other processes. `train_step` and
            `evaluate` get the whole batch, compute a slice of it, and return what one process would. Traces are of the
            slice.

    Attributes:
        model: the paddle.nn.Layer, or the tf.keras.Model.
        record: the device settings in force, for the run folder; made by the module's `configure(config)`.
        shapes: canonical name to shape, of all arrays in `state` but the loss scale.
        constants: the names of arrays that are neither trained nor statistics, such as a fixed kernel.
        without_gradient: the parameters that should be trained, but got no gradient in the last step.

    Raises:
        UserError: there is no such device, or the framework does not support the precision on it.
    """

    model: Any
    record: dict
    shapes: dict
    constants: set
    without_gradient: list

    def __init__(
        self, config: Config, num_classes: int, mean: np.ndarray, std: np.ndarray, replicas: Replicas = ALONE
    ): ...

    def train_step(self, batch: Batch, learning_rate: float, step: int) -> Any:
        """One step on `batch`. Returns float64 [3] with `numpy()`, possibly not computed yet: see `evaluate`.

        d = g + weight_decay*w; v = momentum*v + d; w -= learning_rate*v, with Nesterov learning_rate*(d + momentum*v).
        Parameter groups have another learning rate and weight decay: see `tandem.core.state.grouped`.
        With `evaluation.ema_decay`, then ema = ema_decay*ema + (1 - ema_decay)*w, also for statistics; ema starts as w.
        `step`, the number of the step in the run, decides the dropout masks. With mixup, hits count the label with the
        larger weight.
        """

    def evaluate(self, batch: Batch, flip: bool = False) -> Any:
        """Float64 [3] with `numpy()`: the sum of losses, the hits and the hits in the top 5. The state does not change.

        The model is in evaluation mode. With `flip`, test-time augmentation: the mean of the logits of each image and
        its horizontal flip.
        """

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The logits of `images`, uint8 [B, 3, H, W], in evaluation mode: float [B, num_classes]."""

    def averaged(self) -> AbstractContextManager:
        """A context in which weights and statistics are their EMA. Afterwards they are bit for bit what they were."""

    def trace(self, batch: Batch, learning_rate: float, step: int, inputs: bool = False) -> dict[str, np.ndarray]:
        """Take `train_step` operation by operation, and return what it computed, in that order.

        Returns:
            A dict: `images`, as normalised; `output/<layer>` of each named layer, channel first; `logits`; `loss`, the
            mean over the batch; `sums`, what `train_step` returns; `taken/<layer>`, the numbers of the outputs that it
            took in as they are; `output_gradient/<layer>`, of the loss by that output, and `gradient/<parameter>`,
            without weight decay: those that the loss does not depend on are left out. With `inputs` also
            `input/<layer>`, what each took in.
        """

    def trace_evaluation(self, batch: Batch, inputs: bool = False) -> dict[str, np.ndarray]:
        """The `images`, `output/<layer>`, `logits` and `loss` of `trace` in evaluation mode, with nothing changed.

        With `inputs` also `input/<layer>`.
        """

    def layer_types(self) -> dict[str, str]:
        """The name of each layer's class, by the layer's name."""

    def peak_memory(self) -> int | None:
        """The peak memory so far, in bytes: of the GPU, or on a CPU of the process; None if it is not known."""

    def state(self) -> dict[str, np.ndarray]:
        """All weights, statistics, velocities and EMA by canonical name: see core/state.py."""

    def load_state(self, arrays: dict[str, np.ndarray], origin: str) -> None:
        """Set everything that `state` returns. Errors name `origin`, where the arrays are from.

        Raises:
            UserError: a name is missing or unexpected, or a shape differs.
        """


class SecondEngine(Engine, Protocol):
    """What TensorFlow's engine has besides, as the second of the two in a certificate: it is fed what Paddle's had."""

    def replay(self, batch: Batch, step: int, outputs: dict, gradients: dict, last: dict) -> dict[str, np.ndarray]:
        """Take a training step in which each layer passes on Paddle's output, and back Paddle's gradient."""

    def replay_evaluation(self, batch: Batch, outputs: dict, last: dict) -> dict[str, np.ndarray]:
        """Evaluate in this way."""

    def apply(self, name: str, array: np.ndarray, training: bool) -> list[np.ndarray]:
        """The outputs of one layer for an input of Paddle's."""

    def rename(self, layers: dict, arrays: dict) -> None:
        """Give layers and arrays Paddle's names."""


def not_joined(rank, error):
    """The `UserError` for a worker that cannot join its job: with the first line of the framework's `error` that says
    something."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip(" -")), type(error).__name__)
    return UserError(
        f"worker {rank}: cannot join the others ({said}); check that their addresses are right and their ports free, "
        "and that all were started"
    )


def check_port(rank, address):
    """Check that this process, the `rank`-th of its job, could listen at the port of `address`, "host:port".

    Raises:
        UserError: another process does; or it is no port.
    """
    try:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what has ended does not keep it
            listener.bind(("", int(address.rpartition(":")[2])))
    except (OSError, ValueError, OverflowError) as error:
        raise not_joined(rank, f"{address}: {getattr(error, 'strerror', None) or error}") from error


def check_equal(replicas, facts):
    """Check that all processes of a job have the same `facts`: what each is of, in words, to its SHA-256.

    Raises:
        UserError: one has another.
    """
    # 48 bits of each, which a float64 holds.
    table = replicas.gather([int.from_bytes(digest[:6], "big") for digest in facts.values()])
    for rank, differs in enumerate(table != table[0]):
        if differs.any():
            what = list(facts)[differs.argmax()]
            raise UserError(f"worker {rank}: differs from worker 0 in {what}; give all workers the same")


def load_engine(framework):
    """The module of `framework`'s engine, with `configure`, `join` and `Engine`. This loads the framework."""
    return importlib.import_module(f"tandem.frameworks.{framework}.engine")
