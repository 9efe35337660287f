"""Initial weights by canonical name, in NumPy, so that both frameworks start equal."""

import hashlib
import math

from tandem.core import state
from tandem.core.errors import UserError
from tandem.core.random import random_bits

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

WHITENING_IMAGES = 5000
"""How many of the training images `whitening` goes by: more change the components little."""

WHITENING_EPSILON = 5e-4
"""Keeps `whitened` from blowing up components that hardly vary."""


def initial_state(shapes, seed):
    """Initial values, float32, for canonical names and shapes of parameters and batch-norm statistics.

    Convolutions (OIHW): uniform with He's variance 2 / fan-in (He et al. 2015, arXiv:1502.01852). Dense ([in, out]):
    uniform with Glorot's variance 2 / (in + out) (Glorot & Bengio 2010). Scales and running variances 1; the rest 0.
    Uniform rather than normal, since it takes only exactly rounded operations: the same bits on every machine. Each
    array depends on (seed, its name) alone, not on what else the network holds.
    """
    return {name: _initial(name, shape, seed) for name, shape in shapes.items()}


def initialise(engine, settings, images, mean, std):
    """Give a new `engine` the initial weights that `settings.initial_weights` names, beside the random ones it has.

    Training and the certificate both begin with this. The EMA begins with the same weights.

    Args:
        engine: of either framework (tandem/frameworks/base.py).
        settings: a `tandem.config.schema.Config`.
        images: the training images, uint8 [N, 3, H, W]; whitening takes the first `WHITENING_IMAGES`.
        mean, std: what they are normalised with.

    Raises:
        UserError: `whitening` of a network without a convolution on the images' three channels.
    """
    arrays, changed = engine.state(), {}
    if settings.initial_weights.dirac:
        kernels = {name: array for name, array in arrays.items() if array.ndim == 4 and "/" not in name}
        changed |= {name: dirac(array) for name, array in kernels.items() if array.shape[2] % 2}
    if settings.initial_weights.whitening:
        name = state.first_convolution(engine.shapes)
        if name is None or engine.shapes[name][1] != images.shape[1]:
            raise UserError(
                "initial_weights.whitening: the network's first layer with weights is no convolution; leave it out"
            )
        changed[name] = whitened(arrays[name], (images[:WHITENING_IMAGES] - mean) / std)
    if changed:
        averages = {f"ema/{name}": array for name, array in changed.items() if f"ema/{name}" in arrays}
        engine.load_state({**arrays, **changed, **averages}, "initial weights")


def whitened(weight, images):
    """A copy of a first convolution's `weight`, float [out, 3, k, k], that takes k x k patches of `images` apart.

    Its filters are the principal components of the patches, about 0, the largest first, each divided by the square root
    of its variance, so that all outputs vary alike; and the negative of each, for a ReLU lets only one side through.
    Where there are more filters than that, the rest stay. This is the whitening of Page 2019 ("How to train your
    ResNet", part 8) and of Jordan 2024 (arXiv:2404.00498), from where the epsilon is.

    Args:
        weight: as above.
        images: normalised, float [N, 3, H, W].
    """
    kernel_size = weight.shape[2:]
    moments, count = 0.0, 0
    for image in images:
        patches = sliding_window_view(image, kernel_size, axis=(1, 2)).transpose(1, 2, 0, 3, 4)
        patches = patches.reshape(-1, weight[0].size).astype(np.float64)
        moments += patches.T @ patches
        count += len(patches)
    variances, components = np.linalg.eigh(moments / count)
    variances, components = variances[::-1], components.T[::-1]
    # The sign of a component is arbitrary: its largest entry is made positive.
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(len(components)), largest])[:, None]
    components = components / np.sqrt(variances + WHITENING_EPSILON)[:, None]
    both = np.stack([components, -components], axis=1).reshape(-1, *weight.shape[1:])[: len(weight)]
    return np.concatenate([both, weight[len(both) :]]).astype(np.float32)


def dirac(weight):
    """A copy of a convolution's `weight`, float [out, in, k, k], k odd, with Dirac initialisation.

    The first `in` filters, or all where there are fewer, each pass on one channel (Zagoruyko & Komodakis 2017,
    arXiv:1706.00388; as in Jordan 2024, arXiv:2404.00498, section 3.3). The rest are divided by the square root of 6:
    then they are as long as PyTorch's initial filters, among which Jordan puts the identity.
    """
    weight = weight / np.float32(math.sqrt(6))
    channels = np.arange(min(weight.shape[:2]))
    middle = weight.shape[2] // 2
    weight[channels] = 0
    weight[channels, channels, middle, middle] = 1
    return weight


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
