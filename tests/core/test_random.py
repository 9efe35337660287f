"""Random bits are the same on every machine, and depend on nothing but their arguments."""

import hashlib

from tandem.core.random import permutation, random_bits, random_integers

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

GOLDEN_BITS = "5a846e6a04ff1b43bd2787a0e6d044dd99d2a5e3c55a439fd4ba43493950b624"


# Randomness


def test_random_bits_are_the_golden_ones():
    bits = random_bits(7, "shuffle", 3, 5, 1000)
    assert bits.dtype == np.uint64
    assert hashlib.sha256(bits.astype("<u8").tobytes()).hexdigest() == GOLDEN_BITS


def test_random_bits_depend_on_every_argument_and_on_nothing_else():
    base = (7, "shuffle", 3, 5, 8)
    first = random_bits(*base)
    for other in [(8, *base[1:]), (7, "crop", 3, 5, 8), (7, "shuffle", 4, 5, 8), (7, "shuffle", 3, 6, 8)]:
        assert not np.intersect1d(first, random_bits(*other)).size
    np.testing.assert_array_equal(first, random_bits(*base))
    np.testing.assert_array_equal(first[:3], random_bits(7, "shuffle", 3, 5, 3))


def test_random_bits_of_neighbouring_steps_do_not_overlap():
    streams = [random_bits(0, "crop", epoch, step, 500) for epoch in range(3) for step in range(3)]
    assert len(np.unique(streams)) == 9 * 500


@given(below=st.integers(1, 2**32))
def test_random_integers_reach_both_ends(below):
    ends = np.array([0, 2**64 - 1], np.uint64)
    assert random_integers(ends, below).tolist() == [0, below - 1]


def test_random_integers_are_uniform():
    counts = np.bincount(random_integers(random_bits(0, "u", 0, 0, 90_000), 9))
    assert len(counts) == 9 and abs(counts - 10_000).max() < 500


def test_permutation_is_one_and_differs_by_epoch():
    first, second = (permutation(0, "shuffle", epoch, 1000) for epoch in (0, 1))
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))
    assert (first == second).mean() < 0.02


# Augmentation, each against a loop over the images
