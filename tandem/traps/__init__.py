"""The traps: every known way in which 'the same' network differs between Paddle and TensorFlow, each one a switch.

tandem/certify/gallery.py switches each on and certifies its probe; differences.py writes docs/differences.md from that.
"""

import contextlib

from tandem.traps import batch_norm, convolution, dropout, loss, optimizer, other_layers, pooling, precision, weights
from tandem.traps.trap import ENTERED

THEMES = (convolution, batch_norm, pooling, other_layers, loss, optimizer, weights, dropout, precision)
"""One module a theme, in the order of docs/differences.md."""

TRAPS = {name: trap for theme in THEMES for name, trap in ENTERED.items() if trap.theme == theme.THEME}
"""All traps by name, in that order."""


def switched_on(name, framework):
    """A context manager in which the trap `name` is on in this process, which is `framework`'s."""
    trap = TRAPS[name]
    return trap.mutation() if trap.framework == framework and trap.mutation else contextlib.nullcontext()


def known(first):
    """The names of the traps that show where a certificate's `first` difference is: of its layer, then of any."""
    if first is None:
        return []
    there = [trap for trap in TRAPS.values() if trap.shows and trap.shows[0] == first["phase"]]
    return [trap.name for layer in (first["layer"], None) for trap in there if trap.shows[1] == layer]
