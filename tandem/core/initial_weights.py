"""Initial weights by canonical name, in NumPy, so that both frameworks start from the same ones."""

import hashlib
import math

from tandem.core import state
from tandem.core.errors import UserError
from tandem.core.random import random_bits

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

WHITENING_IMAGES = 5000
"""How many training images `initialise` computes the whitening from: more change the components little."""

WHITENING_EPSILON = 5e-4
"""Added to the variances in `whitened`, so that components that hardly vary are not amplified."""


STOCK = ("weight", "bias", *state.PADDLE_STATISTICS.values())
"""The last parts of canonical names in stock layers."""


def initial_state(shapes, seed):
    """Initial values, float32, for canonical names and shapes of parameters and batch-norm statistics.

    Others, such as the slope of a PReLU, are left out: they keep what the network's builder gave them.

    Convolutions (OIHW): uniform with He's variance 2 / fan-in (He et al. 2015, arXiv:1502.01852). Dense ([in, out]):
    uniform with Glorot's variance 2 / (in + out) (Glorot & Bengio 2010). Scales and running variances: 1. The rest: 0.
    Uniform, not normal: that needs only exactly rounded operations, so the bits are the same on every machine. Each
    array depends only on the seed, its name and its shape, not on the rest of the network.
    """
    known = {name: shape for name, shape in shapes.items() if len(shape) in (2, 4) or name.endswith(STOCK)}
    return {name: _initial(name, shape, seed) for name, shape in known.items()}


def initialise(engine, settings, images, mean, std):
    """Replace random weights of a new `engine` by those of the initialisers that `settings.initial_weights` names.

    Training and the certificate both start with this. The EMA starts from the same weights.

    Args:
        engine: of either framework (tandem/frameworks/base.py).
        settings: a `tandem.config.schema.Config`.
        images: the training images, uint8 [N, 3, H, W]; whitening uses the first `WHITENING_IMAGES`.
        mean, std: what they are normalised with.

    Raises:
        UserError: `whitening`, but there is no first convolution, or it does not take the images' channels.
    """
    arrays, changed = engine.state(), {}
    if settings.initial_weights.dirac:
        kernels = {name: array for name, array in arrays.items() if array.ndim == 4 and "/" not in name}
        changed |= {name: dirac(array) for name, array in kernels.items() if array.shape[2] % 2}
    if settings.initial_weights.whitening:
        name = state.first_convolution(engine.shapes)
        if name is None or engine.shapes[name][1] != images.shape[1]:
            raise UserError(
                "initial_weights.whitening: the first convolution must take the images' channels; leave it out"
            )
        changed[name] = whitened(arrays[name], (images[:WHITENING_IMAGES] - mean) / std)
    if changed:
        ema = {f"ema/{name}": array for name, array in changed.items() if f"ema/{name}" in arrays}
        engine.load_state({**arrays, **changed, **ema}, "initial weights")


def whitened(weight, images):
    """A copy of a first convolution's `weight`, float [out, 3, k, k], that whitens the k x k patches of `images`.

    Its filters are the principal components of the patches, the largest first, without subtracting their mean. Each is
    divided by the square root of its variance, so that all outputs have the same variance. Its negative follows it,
    since a ReLU passes only one sign. Filters beyond these keep their weights. This is the whitening of Page 2019 ("How
    to train your ResNet", part 8) and of Jordan 2024 (arXiv:2404.00498), which has the same epsilon.

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
    # A component's sign is arbitrary: make its largest entry positive.
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(len(components)), largest])[:, None]
    components = components / np.sqrt(variances + WHITENING_EPSILON)[:, None]
    both = np.stack([components, -components], axis=1).reshape(-1, *weight.shape[1:])[: len(weight)]
    return np.concatenate([both, weight[len(both) :]]).astype(np.float32)


def dirac(weight):
    """A copy of a convolution's `weight`, float [out, in, k, k], k odd, with Dirac initialisation.

    Each of the first `in` filters, or of all if there are fewer, passes one channel unchanged (Zagoruyko & Komodakis
    2017, arXiv:1706.00388; as in Jordan 2024, arXiv:2404.00498, section 3.3). The rest are divided by sqrt(6): that
    turns He's uniform bound into the default one of PyTorch, which Jordan keeps for them.
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
    unit = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53  # a random multiple of 2**-53 in [0, 1)
    return ((2 * unit - 1) * bound).astype(np.float32).reshape(shape)
