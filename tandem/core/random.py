"""Random bits as a function of (seed, purpose, epoch, step) and of nothing else.

So both frameworks, every machine and a resumed run draw the same ones.
"""

import hashlib

import numpy as np


def random_bits(seed: int, purpose: str, epoch: int, step: int, size: int | tuple[int, ...]) -> np.ndarray:
    """Return random uint64 of shape `size`: a function of the arguments only, on any machine, in any NumPy.

    `seed`, `epoch` and `step` are from 0 to 2**64 - 1; `purpose` is any name, such as "shuffle". The bits are the raw
    output of Philox4x64-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011) with the key (seed,
    purpose) and the counter (block, step, epoch). NumPy may change the methods of `Generator`, but not these bits.
    """
    name = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    key, counter = np.array([seed, name], np.uint64), np.array([0, step, epoch, 0], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(size)


def random_integers(bits: np.ndarray, below: int) -> np.ndarray:
    """Turn uint64 `bits` into int64 in 0 .. `below` - 1, for `below` up to 2**32.

    This scales the high 32 bits and rejects none: the probability of a value is off by less than 2**-32.
    """
    return ((bits >> np.uint64(32)) * np.uint64(below) >> np.uint64(32)).astype(np.int64)


def permutation(seed: int, purpose: str, epoch: int, count: int) -> np.ndarray:
    """Return 0 .. `count` - 1 in random order, int64: the stable argsort of `random_bits`."""
    return np.argsort(random_bits(seed, purpose, epoch, 0, count), kind="stable")
