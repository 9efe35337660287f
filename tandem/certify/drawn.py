"""Images and states that are drawn at random, where real ones would hide a mistake."""

import hashlib
import math

import data_utils
from tandem.core.random import random_bits
from tandem.data.images import Dataset, load_dataset

import numpy as np

CIFAR_SIZE = 32
"""Pixels on a side of CIFAR-10's images. A network for others is certified on random ones."""

LATE = 2**20
"""The numbers of the drawn steps begin so late, which decide the dropout masks: a small integer type would show."""


def drawn_state(state, seed, step):
    """A harder state to start `step` from than the initial one: like `state`, by name, but large and nowhere zero.

    Each such step has its own: what a step leaves of it may be so large that float32 overflows.
    Activations go beyond 6, no bias, velocity or statistic is zero, no scale is one. All values are float32 numbers.
    """
    drawn = {}
    for name, array in state.items():
        last = name.rpartition(".")[2]
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
        bits = random_bits(seed, "certificate", key, step, array.size)
        uniform = ((bits >> np.uint64(11)) * 2.0**-52 - 1).reshape(array.shape)  # -1 to 1
        if name.startswith("velocity/"):
            value = 0.01 * uniform
        elif last == "running_var":
            value = 1.25 + 0.75 * uniform
        elif array.ndim in (2, 4):
            fan_in = math.prod(array.shape[1:]) if array.ndim == 4 else array.shape[0]
            value = 1.5 * math.sqrt(6 / fan_in) * uniform
        elif last == "weight":
            value = 1.75 + 1.25 * uniform
        else:
            value = np.where(uniform < 0, -0.25, 0.25) + uniform
        drawn[name] = value.astype(np.float32).astype(array.dtype)
    return drawn


def images_at_hand(data, seed):
    """The images of `data`, the settings of a config's `data:`; random pixels in place of a CIFAR-10 that is not here.

    Nothing is downloaded. Of a network for images of another size than CIFAR-10's, they are random, too.

    Returns:
        A `Dataset`; and why its images are random, in words, or an empty text.

    Raises:
        UserError: as `load_dataset`.
    """
    here = data.archive or not data_utils.missing_files(data.directory)
    if data.source != "cifar10" or (here and data.image_size == CIFAR_SIZE):
        return load_dataset(data, seed), ""
    of_size = "here: see data.directory" if data.image_size == CIFAR_SIZE else f"of {data.image_size} pixels"
    return drawn_images(seed, data.image_size), f"The images are random pixels, since CIFAR-10 is not {of_size}"


def without_flat_parts(batch, seed, step):
    """`batch`, each pixel changed by at most one level. Photographs have flat parts, and padding is one.

    There the elements of a max pool are equal but for rounding, so right twins may take another: see `drawn_images`.
    """
    change = (random_bits(seed, "certificate noise", 0, step, batch.images.shape) % np.uint64(3)).astype(np.int16) - 1
    return batch._replace(images=np.clip(batch.images + change, 0, 255).astype(np.uint8))


def drawn_images(seed, size):
    """Random pixels in place of CIFAR-10, of `size` pixels, a `Dataset`.

    Grey or flat images would not do: where elements of a max pool are equal but for rounding, or a channel is constant,
    right twins differ.
    """
    split = data_utils.Split(drawn_pixels(seed, 0, (500, 3, size, size)), np.arange(500) % data_utils.CLASSES)
    return Dataset(split, None, split, tuple(map(str, range(data_utils.CLASSES))))


def drawn_pixels(seed, step, shape):
    """Random pixels for the images of `step`: uint8, of `shape`."""
    return (random_bits(seed, "certificate images", 0, step, shape) >> np.uint64(56)).astype(np.uint8)
