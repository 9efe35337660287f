"""What a trap is, and what the themes share.

A trap is a known mistake that is injected into one of the twins, or into all workers of a job: a mutation in a few
lines, kept out of the networks and the layers; a probe (probes.py) on which it shows; and what the certificate must say
of it. Each mutation is the function under its facts. It imports its framework when called, and returns a context
manager.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from tandem.traps.symbols import Code

PADDLE = "https://github.com/PaddlePaddle/Paddle/blob/v3.3.1/"
TENSORFLOW = "https://github.com/tensorflow/tensorflow/blob/v2.21.0/"
KERAS = "https://github.com/keras-team/keras/blob/v3.15.1/"
BOOK = "https://github.com/PaddlePaddle/book/blob/"  # PaddlePaddle's tutorials

PADDLE_POOL_KERNEL = PADDLE + "paddle/phi/kernels/funcs/pooling.cc"

PADDLE_LAYERS = "tandem/frameworks/paddle/layers.py"
PADDLE_KERNELS = "tandem/frameworks/paddle/kernels.py"
PADDLE_ENGINE = "tandem/frameworks/paddle/engine.py"
TENSORFLOW_LAYERS = "tandem/frameworks/tensorflow/layers.py"
TENSORFLOW_KERNELS = "tandem/frameworks/tensorflow/kernels.py"
TENSORFLOW_ENGINE = "tandem/frameworks/tensorflow/engine.py"
TENSORFLOW_LAYOUTS = "tandem/frameworks/tensorflow/layouts.py"


BATCH_SIZE, STEPS = 4, 2
"""What a probe is certified with: in these steps, or in those from a drawn state that follow, each trap shows."""

BOTH = "both"
"""The framework of a trap of several workers: it is tried in either, against one process of the same framework."""

WORKERS = 2
"""How many workers such a trap is put into."""


def _probe(kind, image_size, optimizer=None, **others):
    return {
        "network": {"name": "own", "file": str(Path(__file__).parent / "probes.py"), "options": {"kind": kind}},
        "data": {"source": "digits", "image_size": image_size},
        "optimizer": optimizer or {},
        "schedule": {"name": "constant"},
        "epochs": 1,
        # As it is certified. So there are no further engines to build, and no larger step to take.
        "precision": "float64",
        "batch_size": BATCH_SIZE,
        **others,
    }


PROBES = {
    "plain": _probe("plain", 16, {"weight_decay": 0.1}),
    "pools": _probe("pools", 14),
    "averages": _probe("averages", 14),
    "extremes": _probe("extremes", 16, {"learning_rate": 1e-6}),
    "shrinking": _probe("shrinking", 32),
    "activations": _probe("activations", 16, label_smoothing=0.1, evaluation={"ema_decay": 0.9}),
}
"""The configs on which traps show, as dicts."""


@dataclasses.dataclass(frozen=True)
class Trap:
    """One way to go wrong. The texts are English; zh.yaml has the same in Chinese.

    Attributes:
        name: what to call it.
        title: the same in words.
        theme: the section of docs/differences.md that it is in.
        framework: the twin that is mutated; or `BOTH`.
        mutation: returns a context manager in which the twin is wrong; None where it cannot be tried here. With `BOTH`,
            it gets the name of the framework.
        probe: a key of `PROBES`.
        shows: the phase, and the type of the layer, where the certificate first differs; a type of None is any.
        paddle, tensorflow, tandem: what each of them does.
        sources: addresses of the code or documentation that says so.
        code: by framework, where Tandem does it: a `Code`.
        setting: the setting of a layer that is wrong (see `layer_calls` of inspection.py), or None.
        not_probed: why there is no mutation, or None.
        varies: whether what it does is not the same twice, as where memory is not initialised.
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
    tandem: str
    sources: tuple
    code: dict[str, Code]
    setting: str | None = None
    not_probed: str | None = None
    varies: bool = False


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
