"""What a framework's engine is: its contract, and the registry of those that there are.

A framework is a line in `TITLES`, and a folder here with `layers`, `kernels`, `engine` and `stock`.
"""

import importlib
from contextlib import AbstractContextManager
from typing import Any, Protocol

from tandem.config.schema import Config
from tandem.data.batches import Batch

import numpy as np

TITLES = {"paddle": "Paddle", "tensorflow": "TensorFlow"}
"""The frameworks, and what to call them."""

FRAMEWORKS = tuple(TITLES)

# How engines scale the loss in float16 (Micikevicius et al. 2018, arXiv:1710.03740).
INITIAL_SCALE = 2.0**16
GROWTH_STEPS = 2000
"""After so many steps without an overflow the scale doubles; after one with, it halves."""


class Engine(Protocol):
    """A network in one framework with its optimizer.

    Args:
        config: the settings; those of device and precision come into force for the whole process.
        num_classes: length of the logits.
        mean, std: what images (0 to 255) are normalised with; broadcast against [N, 3, H, W].

    Attributes:
        model: the paddle.nn.Layer, or the tf.keras.Model.
        record: the device settings in force, for the run folder; made by the module's `configure(config)`.
        shapes: canonical name to shape of all that `state` gives, but for the loss scale.

    Raises:
        UserError: there is no such device, or the framework would not compute in this precision on it.
    """

    model: Any
    record: dict
    shapes: dict

    def __init__(self, config: Config, num_classes: int, mean: np.ndarray, std: np.ndarray): ...

    def train_step(self, batch: Batch, learning_rate: float, step: int) -> Any:
        """One step on `batch`. Returns float64 [3] with `numpy()`, maybe not computed yet: see `evaluate`.

        d = g + weight_decay*w; v = momentum*v + d; w -= learning_rate*v, with Nesterov learning_rate*(d + momentum*v).
        Parameter groups have another learning rate and weight decay: see `tandem.core.state.grouped`.
        With `evaluation.ema_decay` then ema = ema_decay*ema + (1 - ema_decay)*w, also of statistics; ema is w at first.
        `step` numbers the steps of a run: it decides the dropout masks. With mixup a hit is one of the heavier label.
        """

    def evaluate(self, batch: Batch, flip: bool = False) -> Any:
        """Float64 [3] with `numpy()`: the sum of losses, hits, hits in the top 5; nothing is changed.

        In evaluation mode. With `flip`, test-time augmentation: by the mean of the logits of each image and its mirror
        image.
        """

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The logits of `images`, uint8 [B, 3, H, W], in evaluation mode: float [B, num_classes]."""

    def averaged(self) -> AbstractContextManager:
        """In it, weights and statistics are their EMA; afterwards they are what they were, to the bit."""

    def trace(self, batch: Batch, learning_rate: float, step: int) -> dict[str, np.ndarray]:
        """`train_step` operation by operation, and what it computed, in the order in which it was computed.

        Returns:
            A dict: `output/<layer>` of each named layer, images channel first; `logits`; `loss`, the mean over the
            batch; `gradient/<parameter>`, without weight decay.
        """

    def trace_evaluation(self, batch: Batch) -> dict[str, np.ndarray]:
        """The `output/<layer>`, `logits` and `loss` of `trace` in evaluation mode, with nothing changed."""

    def layer_types(self) -> dict[str, str]:
        """The name of each layer's class, by the layer's name."""

    def peak_memory(self) -> int | None:
        """The most memory taken so far, in bytes: the GPU's, or on a CPU the process's; None where nothing tells."""

    def state(self) -> dict[str, np.ndarray]:
        """All weights, statistics, velocities and EMA by canonical name: see core/state.py."""

    def load_state(self, arrays: dict[str, np.ndarray], origin: str) -> None:
        """Set everything that `state` gives. `origin` says in errors where the arrays are from.

        Raises:
            UserError: a name is missing or left over, or a shape differs.
        """


def load_engine(framework):
    """The module of `framework`'s engine: `configure` and `Engine`. Loads the framework."""
    return importlib.import_module(f"tandem.frameworks.{framework}.engine")
