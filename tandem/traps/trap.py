"""What a trap is, and what the themes share.

A trap is a mutation of one twin, in a few lines, kept out of the networks and the layers; a probe (probes.py) on which
it shows; and what the certificate must say of it. Each mutation is the function under its facts: it imports its
framework when called, and returns a context manager.
"""

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

PADDLE = "https://github.com/PaddlePaddle/Paddle/blob/v3.3.1/"
TENSORFLOW = "https://github.com/tensorflow/tensorflow/blob/v2.21.0/"
KERAS = "https://github.com/keras-team/keras/blob/v3.15.1/"
BOOK = "https://github.com/PaddlePaddle/book/blob/"  # PaddlePaddle's tutorials


def _probe(kind, image_size, **optimizer):
    return {
        "network": {"name": "own", "file": str(Path(__file__).parent / "probes.py"), "options": {"kind": kind}},
        "data": {"source": "digits", "image_size": image_size},
        "optimizer": optimizer,
        "schedule": {"name": "constant"},
        "epochs": 1,
    }


PROBES = {
    "plain": _probe("plain", 16, weight_decay=0.1),
    "pools": _probe("pools", 14),
    "averages": _probe("averages", 14),
    "extremes": _probe("extremes", 16, learning_rate=1e-6),
    "shrinking": _probe("shrinking", 32),
}
"""The configs on which traps show, as dicts."""


@dataclasses.dataclass(frozen=True)
class Trap:
    """One way to go wrong.

    Attributes:
        name: what to call it.
        title: the same in words.
        theme: the part of docs/differences.md that it is in.
        framework: the twin that is mutated.
        mutation: returns a context manager in which the twin is wrong; None where it cannot be tried here.
        probe: a key of `PROBES`.
        shows: the phase, and the type of the layer, where the certificate first differs; a type of None is any.
        paddle, tensorflow: what each framework does.
        here: what Tandem does.
        sources: addresses of the code or documentation that says so.
        code: by framework, a file and a string that is found in only one line of it: where Tandem does it.
        not_probed: why there is no mutation, or None.
        steps: how many steps it takes to show.
    """

    name: str
    title: str
    theme: str
    framework: str
    mutation: Callable | None
    probe: str | None
    shows: tuple | None
    paddle: str
    tensorflow: str
    here: str
    sources: tuple
    code: dict
    not_probed: str | None = None
    steps: int = 2


ENTERED = {}
"""All traps by name, as their modules enter them."""


def enter(theme, framework, probe, shows, **facts):
    """A decorator. Enter the decorated mutation as a trap of its name; the first line of its docstring is the title."""

    def entered(mutation):
        title = mutation.__doc__.strip().splitlines()[0].rstrip(".")
        facts_of_it = {"title": title, "theme": theme, "framework": framework, "probe": probe, "shows": shows, **facts}
        ENTERED[mutation.__name__] = Trap(name=mutation.__name__, mutation=mutation, **facts_of_it)
        return mutation

    return entered


def describe(theme, name, title, why, **facts):
    """Enter a trap that cannot be tried here, and why."""
    ENTERED[name] = Trap(name, title, theme, "", mutation=None, probe=None, shows=None, not_probed=why, **facts)


def paddle_modules():
    """Paddle, its layers and its engine."""
    return tuple(
        importlib.import_module(name)
        for name in ("paddle", "tandem.frameworks.paddle.layers", "tandem.frameworks.paddle.engine")
    )


def tensorflow_modules():
    """TensorFlow, its layers and its engine."""
    names = ("tensorflow", "tandem.frameworks.tensorflow.layers", "tandem.frameworks.tensorflow.engine")
    return tuple(importlib.import_module(name) for name in names)


def engine_with(engine, **attributes):
    """Engines whose `attributes` are others than their config says."""
    original = engine.Engine.__init__

    def init(self, *arguments, **options):
        original(self, *arguments, **options)
        for name, value in attributes.items():
            setattr(self, name, value)

    return patch.object(engine.Engine, "__init__", init)


def kernels_as(axes_of):
    """TensorFlow's engine with other axes for Paddle's kernels: `axes_of(shape)`, or None where they are right."""
    _, _, engine = tensorflow_modules()
    into, out_of = engine._from_canonical, engine._to_canonical

    def from_canonical(array):
        axes = axes_of(array.shape)
        return into(array.transpose(axes) if axes else array)

    def to_canonical(array):
        array = out_of(array)
        axes = axes_of(array.shape)
        # All of these axes are their own inverse, so a state makes the round trip unchanged.
        return array.transpose(axes).copy() if axes else array

    return patch.multiple(engine, _from_canonical=from_canonical, _to_canonical=to_canonical)


def momentum_update(change):
    """TensorFlow's engine with `change(engine, gradients, learning_rate, apply)` in place of `apply`."""
    _, _, engine = tensorflow_modules()
    original = engine.Engine._apply

    def apply(self, gradients, learning_rate):
        change(self, gradients, learning_rate, lambda *arguments: original(self, *arguments))

    return patch.object(engine.Engine, "_apply", apply)


def losses_of(framework, loss):
    """Engines whose losses are `loss(engine, logits, labels)`. Hits, which nothing here compares, stay."""
    _, _, engine = paddle_modules() if framework == "paddle" else tensorflow_modules()
    original = engine.Engine._losses

    def paddle_losses(self, batch):
        logits, _, metrics = original(self, batch)
        return logits, loss(self, logits, batch.labels), metrics

    def tensorflow_losses(self, images, labels, training):
        logits, _, metrics = original(self, images, labels, training)
        return logits, loss(self, logits, labels), metrics

    replaced = paddle_losses if framework == "paddle" else tensorflow_losses
    return patch.object(engine.Engine, "_losses", replaced)


PADDLE_LAYERS = "tandem/frameworks/paddle/layers.py"
TENSORFLOW_LAYERS = "tandem/frameworks/tensorflow/layers.py"
PADDLE_ENGINE = "tandem/frameworks/paddle/engine.py"
TENSORFLOW_ENGINE = "tandem/frameworks/tensorflow/engine.py"
