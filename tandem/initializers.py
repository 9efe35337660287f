"""Initial weights by canonical name, in NumPy, so that both frameworks start equal."""

import hashlib
import math

import numpy as np

from data_utils import random_bits


def initial_state(shapes, seed):
    """Initial values, float32, for canonical names and shapes of parameters and batch-norm statistics.

    Convolutions (OIHW): uniform with He's variance 2 / fan-in (He et al. 2015, arXiv:1502.01852). Dense ([in, out]):
    uniform with Glorot's variance 2 / (in + out) (Glorot & Bengio 2010). Scales and running variances 1; the rest 0.
    Uniform rather than normal, since it takes only exactly rounded operations: the same bits on every machine. Each
    array depends on (seed, its name) alone, not on what else the network holds.
    """
    return {name: _initial(name, shape, seed) for name, shape in shapes.items()}


def _initial(name, shape, seed):
    if len(shape) == 4:
        return _uniform(name, shape, seed, math.sqrt(6 / math.prod(shape[1:])))
    if len(shape) == 2:
        return _uniform(name, shape, seed, math.sqrt(6 / sum(shape)))
    ones = name.endswith((".weight", ".running_var"))
    return np.full(shape, 1.0 if ones else 0.0, np.float32)


def _uniform(name, shape, seed, bound):
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    bits = random_bits(seed, "weights", key, 0, math.prod(shape))
    unit = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53  # 53 random bits: every float64 step of [0, 1)
    return ((2 * unit - 1) * bound).astype(np.float32).reshape(shape)
