"""How both engines scale the loss in float16 (Micikevicius et al. 2018, arXiv:1710.03740)."""

INITIAL_SCALE = 2.0**16
GROWTH_STEPS = 2000
"""After so many steps without an overflow the scale doubles; after one with, it halves."""
