"""Batches: shuffled and augmented for training, in order for evaluation, and prefetched by a thread.

Both frameworks see the same bytes: a batch is a function of (seed, epoch, step).
"""

import hashlib
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from data_utils import Split
from tandem.core.random import permutation, random_bits
from tandem.data.augment import augment, mixup

import numpy as np


class Batch(NamedTuple):
    """The input of one step: `images` uint8 [B, 3, H, W], C-contiguous, and `labels` int64 [B].

    With mixup also `permutation`, int64 [B], and `weight`, 0.5 to 1: see `mixup`. The engine mixes on the device. There
    may be fewer in `permutation` than images: the first ones are trained on, each mixed with the one that it names.
    """

    images: np.ndarray
    labels: np.ndarray
    permutation: np.ndarray | None = None
    weight: float | None = None


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return how many batches `training_batches` makes of `count` images.

    A smaller last batch is kept, so that every image is seen. A last batch of one image is dropped: batch normalisation
    needs a variance.
    """
    whole, rest = divmod(count, batch_size)
    return whole + (rest > 1)


def training_batches(
    split: Split,
    batch_size: int,
    seed: int,
    epoch: int,
    augmentation: Any,
    fill: np.ndarray,
    first_step: int = 0,
) -> Iterator[Batch]:
    """Yield the shuffled, augmented batches of one training epoch; see `steps_per_epoch`, `augment` and `mixup`.

    `augmentation` has `mixup` (alpha, 0 is off) besides what `augment` needs. With `flip` "alternating", each image is
    flipped or not at random in the first epoch, and then in every other epoch (Jordan 2024, arXiv:2404.00498, section
    3.6): any two successive epochs show it from both sides. `fill`, uint8 [3], is the colour of a crop's padding and of
    the square of cutout: see `fill_color`. The order is a function of (seed, epoch), the augmentation of (seed, epoch,
    step). So a resumed epoch yields, from `first_step` on, exactly what the whole one does.
    """
    count, channels, height, width = split.images.shape
    border = 2 * augmentation.crop_padding
    # One canvas for the epoch: to allocate one for every batch would halve the speed.
    canvas = np.empty((min(batch_size, count), channels, height + border, width + border), np.uint8)
    canvas[:] = fill[:, None, None]
    order = permutation(seed, "shuffle", epoch, count)
    # `augment` flips by the highest bit of each. For "alternating" it is inverted in every other epoch.
    sides = random_bits(seed, "side", 0, 0, count) ^ np.uint64(epoch % 2 << 63)
    for step in range(first_step, steps_per_epoch(count, batch_size)):
        index = order[step * batch_size : (step + 1) * batch_size]
        bits = random_bits(seed, "augmentation", epoch, step, (5, len(index)))
        if augmentation.flip == "alternating":
            bits[2] = sides[index]
        batch = Batch(augment(split.images[index], canvas, augmentation, fill, bits), split.labels[index])
        if augmentation.mixup:
            bits = random_bits(seed, "mixup", epoch, step, 1 + len(index))
            batch = Batch(batch.images, batch.labels, *mixup(augmentation.mixup, bits))
        yield batch


def evaluation_batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """Yield all of `split`, unchanged and in its order. The last batch may be smaller, down to one image."""
    for start in range(0, len(split.labels), batch_size):
        part = slice(start, start + batch_size)
        yield Batch(split.images[part], split.labels[part])


def prefetch(iterable: Iterable, depth: int = 2) -> Iterator:
    """Yield the items of `iterable`, which a thread makes up to `depth` items ahead.

    An exception in the thread is raised here, after the items before it. Closing the generator early (`break`, an
    exception, Ctrl-C) ends the thread.
    """
    made: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def produce() -> None:
        try:
            for item in iterable:
                made.put((True, item))
                if stop.is_set():
                    return
            made.put((False, None))
        except BaseException as error:
            made.put((False, error))

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            more, item = made.get()
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        stop.set()
        while not made.empty():  # makes room for a waiting producer, which then sees `stop` and ends
            made.get()
        thread.join(timeout=1)


def share(batch: Batch, rank: int, count: int) -> tuple[Batch, int]:
    """Return the slice of `batch` that worker `rank` of `count` computes, and how many images come before it.

    The slices are contiguous, in the order of the ranks. Their sizes differ by one at most, and may be zero. With mixup
    behind the images of the slice come those that they are mixed with.
    """
    if count == 1:
        return batch, 0
    whole, rest = divmod(len(batch.labels), count)
    first, last = (index * whole + min(index, rest) for index in (rank, rank + 1))
    chosen = np.arange(first, last)
    if batch.permutation is None:
        return Batch(batch.images[chosen], batch.labels[chosen]), first
    both = np.concatenate([chosen, batch.permutation[chosen]])
    behind = np.arange(len(chosen), len(both))
    return Batch(batch.images[both], batch.labels[both], behind, batch.weight), first


def digest(batch: Batch) -> str:
    """Return the SHA-256 of all that `batch` holds, in hexadecimal."""
    found = hashlib.sha256()
    for part in batch:
        if part is not None:
            found.update(np.ascontiguousarray(part))
    return found.hexdigest()
