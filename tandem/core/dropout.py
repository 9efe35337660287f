"""Dropout masks as a function of (seed, step, layer, element): the same bits in NumPy, Paddle and TensorFlow.

Neither framework has the other's random generator, so a hash of a counter takes its place. The counter is the
element's index in NCHW order in the whole batch; it is mixed with two 32-bit keys for each seed, step and layer. All
arithmetic is on 32-bit integers and wraps. A worker that computes a slice of a batch makes that slice of the mask.
"""

from tandem.core.random import random_bits

import numpy as np

# The constants are those of a two-round hash found with Hash Prospector (github.com/skeeto/hash-prospector, issue 19):
# each input bit flips each output bit with a probability of nearly 1/2. The second key is added between the rounds;
# otherwise two masks would hold the same values in another order.
SHIFTS = (16, 15, 15)
FACTORS = (0x21F0AAAD, 0x735A2D97)

CHUNK = 1 << 16  # elements hashed at a time, few enough for the CPU's cache


def keys(seed, step, names):
    """The keys of the layers `names` at `step`: uint32 [len(names), 2]."""
    bits = [random_bits(seed, f"dropout {name}", 0, step, 1) for name in names]
    return np.array(bits, "<u8").view("<u4").reshape(len(names), 2)


def threshold(rate):
    """The least 32-bit hash with which an element is kept, so that a fraction `rate` of them is dropped."""
    return round(rate * 2**32)


def mask(key, shape, rate, first=0):
    """Which elements are kept: bool, of `shape` [N, C, H, W] or [N, C].

    Args:
        key: uint32 [2], a row of `keys`.
        shape: fewer than 2**32 elements, with those before them.
        rate: the fraction that is dropped, in [0, 1).
        first: how many images of the batch come before these.
    """
    before = first * int(np.prod(shape[1:]))
    kept = np.empty(int(np.prod(shape)), bool)
    for start in range(0, kept.size, CHUNK):
        part = kept[start : start + CHUNK]
        x = np.arange(before + start, before + start + part.size, dtype=np.uint32)
        x ^= key[0]
        x ^= x >> np.uint32(SHIFTS[0])
        x *= np.uint32(FACTORS[0])
        x ^= x >> np.uint32(SHIFTS[1])
        x += key[1]
        x *= np.uint32(FACTORS[1])
        x ^= x >> np.uint32(SHIFTS[2])
        np.greater_equal(x, np.uint32(threshold(rate)), out=part)
    return kept.reshape(shape)
