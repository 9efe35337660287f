"""What a framework's engine is: its contract, and the registry of those that there are.

A framework is a line in `TITLES`, and a folder here with `layers`, `kernels`, `engine` and `stock`.
"""

import importlib

TITLES = {"paddle": "Paddle", "tensorflow": "TensorFlow"}
"""The frameworks, and what to call them."""

FRAMEWORKS = tuple(TITLES)

# How both engines scale the loss in float16 (Micikevicius et al. 2018, arXiv:1710.03740).
INITIAL_SCALE = 2.0**16
GROWTH_STEPS = 2000
"""After so many steps without an overflow the scale doubles; after one with, it halves."""


def load_engine(framework):
    """The module of `framework`'s engine: `configure` and `Engine`. Loads the framework."""
    return importlib.import_module(f"tandem.frameworks.{framework}.engine")
