"""Batches: the golden ones, order, resuming, mixup, and the thread that makes them ahead."""

import hashlib
import itertools
import threading
import time

from tandem.core.random import random_bits
from tandem.data.augment import mixup
from tandem.data.batches import Batch, evaluation_batches, prefetch, share, steps_per_epoch, training_batches

import numpy as np
import pytest
from datasets import FILL, augmentation, synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

GOLDEN_BATCHES = {  # by crop_padding, flip, cutout
    (0, False, 0): "1f9f39648e225a9d782925e3e42e049bd9d28b49629f4f2ecd0d8493e47911c3",
    (4, True, 0): "20a36ad71f38a7c7732a64c7219829d0b1a9bc33a6e7aa0fd6d821d5f325200f",
    (4, True, 16): "24c91ae95e31820f7ba1fb04245f3c922993bbeb46744960e2410334b4e81356",
}
GOLDEN_WEIGHTS = 0.523619532585144, 0.9842820763587952
GOLDEN_PERMUTATION = [23, 80, 2, 42, 56, 11, 6, 104]


def test_first_batches_are_the_golden_ones():
    """The same bytes on any machine, in either framework, with any NumPy: never change these hashes."""
    split = synthetic(300)
    for options, golden in GOLDEN_BATCHES.items():
        digest = hashlib.sha256()
        for batch in training_batches(split, 128, 1, 2, augmentation(*options), FILL):
            digest.update(batch.images.tobytes() + batch.labels.astype("<i8").tobytes())
        assert digest.hexdigest() == golden, options


@settings(deadline=None)
@given(
    count=st.integers(1, 40), batch_size=st.integers(1, 12), flip=st.sampled_from([True, "alternating"]), data=st.data()
)
def test_an_epoch_shows_every_image_once_and_resumes_at_any_step(count, batch_size, flip, data):
    split = synthetic(count, 4)
    options = (batch_size, 3, 1, augmentation(1, flip, 2), FILL)
    epoch = list(training_batches(split, *options))
    steps = steps_per_epoch(count, batch_size)
    assert len(epoch) == steps
    seen = [label for batch in epoch for label in batch.labels]
    assert len(seen) == len(set(seen)) == (count - 1 if count % batch_size == 1 and batch_size > 1 else count)
    first_step = data.draw(st.integers(0, steps))
    rest = list(training_batches(split, *options, first_step=first_step))
    assert len(rest) == steps - first_step
    for batch, again in zip(epoch[first_step:], rest, strict=True):
        np.testing.assert_array_equal(batch.images, again.images)
        np.testing.assert_array_equal(batch.labels, again.labels)


def test_batches_pair_images_with_their_labels_and_leave_the_dataset_alone():
    split = synthetic(50)
    before = split.images.copy()
    for batch in training_batches(split, 16, 0, 0, augmentation(), FILL):
        np.testing.assert_array_equal(batch.images, before[batch.labels])
    for batch in training_batches(split, 16, 0, 0, augmentation(4, True, 8), FILL):
        assert batch.images.dtype == np.uint8 and batch.images.flags.c_contiguous
        assert batch.labels.dtype == np.int64
    np.testing.assert_array_equal(split.images, before)


def test_alternating_flips_show_each_image_from_its_other_side_in_every_epoch():
    split = synthetic(600)
    sides = []
    for epoch in range(4):
        flipped = np.empty(600, bool)
        for batch in training_batches(split, 64, 1, epoch, augmentation(flip="alternating"), FILL):
            plain = split.images[batch.labels]
            now = (batch.images != plain).any(axis=(1, 2, 3))
            np.testing.assert_array_equal(batch.images[now], plain[now][..., ::-1])
            flipped[batch.labels] = now
        sides.append(flipped)
    assert 250 < sides[0].sum() < 350
    for before, after in itertools.pairwise(sides):
        np.testing.assert_array_equal(after, ~before)


def test_batches_kept_are_not_overwritten_by_later_ones():
    iterator = training_batches(synthetic(50), 16, 0, 0, augmentation(4, True, 8), FILL)
    first = next(iterator).images
    copy = first.copy()
    next(iterator)
    np.testing.assert_array_equal(first, copy)


def test_evaluation_batches_are_the_split_in_order():
    split = synthetic(33)
    parts = list(evaluation_batches(split, 16))
    assert [len(part.labels) for part in parts] == [16, 16, 1]
    np.testing.assert_array_equal(np.concatenate([part.images for part in parts]), split.images)
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), split.labels)


# Mixup


def mixes(alpha, seed=1, epoch=2):
    options = augmentation(4, True, 8, mixup=alpha)
    return list(training_batches(synthetic(300), 128, seed, epoch, options, FILL))


def test_mixup_leaves_images_and_labels_as_they_are_without_it():
    plain = training_batches(synthetic(300), 128, 1, 2, augmentation(4, True, 8), FILL)
    for batch, mixed in zip(plain, mixes(0.4), strict=True):
        assert batch.permutation is None and batch.weight is None
        np.testing.assert_array_equal(batch.images, mixed.images)
        np.testing.assert_array_equal(batch.labels, mixed.labels)
        assert sorted(mixed.permutation) == list(range(len(mixed.labels)))
        assert mixed.permutation.dtype == np.int64


def test_the_first_mixes_are_the_golden_ones():
    """In either framework, and on resume: never change these numbers."""
    first, _, last = mixes(0.4)
    assert (first.weight, last.weight) == GOLDEN_WEIGHTS
    assert first.permutation[:8].tolist() == GOLDEN_PERMUTATION
    assert [batch.weight for batch in mixes(0.4, epoch=3)] != [batch.weight for batch in mixes(0.4)]


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 3.0])
def test_mixup_weights_are_of_the_heavier_part_of_a_beta_distribution(alpha):
    bits = random_bits(0, "test", 0, 0, (20_000, 2))
    weights = np.array([mixup(alpha, row)[1] for row in bits])
    assert weights.min() >= 0.5 and weights.max() <= 1
    assert (weights.astype(np.float32) == weights).all() and ((1 - weights).astype(np.float32) == 1 - weights).all()
    # By NumPy's own generator: fold the distribution in the middle, and compare the two distribution functions.
    drawn = np.random.default_rng(0).beta(alpha, alpha, 100_000)
    drawn = np.sort(np.maximum(drawn, 1 - drawn))
    levels = np.linspace(0.5, 1, 50, endpoint=False)
    ours, theirs = (np.searchsorted(np.sort(values), levels) / len(values) for values in (weights, drawn))
    assert np.abs(ours - theirs).max() < 0.015  # the 99.9 % quantile of Kolmogorov and Smirnov


# Prefetching


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@settings(deadline=None, max_examples=20)
@given(items=st.lists(st.none() | st.integers(), max_size=20), depth=st.integers(1, 4))
def test_prefetch_keeps_items_and_order(items, depth):
    assert list(prefetch(items, depth)) == items
    assert not prefetch_threads()


@pytest.mark.parametrize("depth", [1, 2, 30])
def test_prefetch_raises_the_producers_exception_after_its_items(depth):
    def produce():
        yield from range(3)
        raise OSError("the disk is gone")

    got = []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in prefetch(produce(), depth):
            got.append(item)
    assert got == [0, 1, 2]
    assert not prefetch_threads()


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("taken", [1, 4])
def test_an_abandoned_prefetch_ends_its_thread(depth, taken):
    made = []

    def produce():
        for item in range(10**9):
            made.append(item)
            yield item

    iterator = prefetch(produce(), depth)
    for _ in range(taken):
        next(iterator)
    time.sleep(0.05)  # the thread has filled the queue and waits
    assert len(made) <= taken + depth + 1
    start = time.perf_counter()
    iterator.close()
    assert time.perf_counter() - start < 0.9
    assert not prefetch_threads()


# Normalisation


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 12])
def test_the_shares_of_workers_make_the_batch(count, mixed):
    split = synthetic(9)
    batch = Batch(split.images, np.arange(9), *((np.arange(9)[::-1].copy(), 0.75) if mixed else ()))
    shares = [share(batch, rank, count) for rank in range(count)]
    sizes = [len(part.labels) // (2 if mixed and count > 1 else 1) for part, _ in shares]
    assert sum(sizes) == 9 and sizes == sorted(sizes, reverse=True) and sizes[0] - sizes[-1] <= 1
    assert [first for _, first in shares] == [sum(sizes[:rank]) for rank in range(count)]
    own = [(part.images[:size], part.labels[:size]) for (part, _), size in zip(shares, sizes, strict=True)]
    for index, whole in enumerate((batch.images, batch.labels)):
        assert np.array_equal(np.concatenate([parts[index] for parts in own]), whole)
    if mixed:
        for index, whole in enumerate((batch.images, batch.labels)):
            partners = np.concatenate([part[index][part.permutation] for part, _ in shares])
            assert np.array_equal(partners, whole[batch.permutation])
        assert all(
            part.weight == 0.75 and len(part.permutation) == size for (part, _), size in zip(shares, sizes, strict=True)
        )


def test_one_worker_gets_the_batch_itself():
    batch = Batch(np.zeros((2, 3, 4, 4), np.uint8), np.arange(2))
    assert share(batch, 0, 1) == (batch, 0) and share(batch, 0, 1)[0] is batch
