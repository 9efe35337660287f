"""The traps: every known way in which 'the same' network differs between Paddle and TensorFlow, each one a switch.

tandem/certify/gallery.py switches each on and certifies its probe; differences.py writes docs/differences.md from that.
"""

import contextlib

from tandem.traps import (
    activations,
    batch_norm,
    compiled,
    convolution,
    dropout,
    gradients,
    hints,
    loss,
    optimizer,
    other_layers,
    pooling,
    precision,
    replicas,
    weights,
)
from tandem.traps.trap import BOTH, ENTERED

THEMES = (
    convolution,
    batch_norm,
    pooling,
    other_layers,
    activations,
    loss,
    gradients,
    optimizer,
    weights,
    dropout,
    compiled,
    replicas,
    precision,
)
"""One module a theme, in the order of docs/differences.md."""

TRAPS = {name: trap for theme in THEMES for name, trap in ENTERED.items() if trap.theme == theme.THEME}
"""All traps by name, in that order."""


def switched_on(name, framework):
    """A context manager in which the trap `name` is on in this process, which is `framework`'s."""
    trap = TRAPS[name]
    if trap.framework == BOTH:
        return trap.mutation(framework)
    return trap.mutation() if trap.framework == framework and trap.mutation else contextlib.nullcontext()


def known(first):
    """The names of at most three traps that show as a certificate's `first` difference does: see hints.py."""
    return hints.known(first, TRAPS.values())


def of_layer(entry):
    """The names of at most three traps that a layer which differs by itself looks like: see hints.py."""
    return hints.of_layer(entry, TRAPS.values())
