"""Dropout masks: a worker's mask is its slice of that of the whole batch."""

import itertools

from tandem.core import dropout

import numpy as np
import pytest


@pytest.mark.parametrize("shape", [(7, 3, 5, 4), (7, 9), (5, 40, 32, 32)])  # the last has several chunks
def test_slices_of_a_mask_make_the_mask(shape):
    key = dropout.keys(3, 2, ["drop"])[0]
    whole = dropout.mask(key, shape, 0.4)
    bounds = (0, 2, 2, 5, shape[0])
    parts = [dropout.mask(key, (last - first, *shape[1:]), 0.4, first) for first, last in itertools.pairwise(bounds)]
    assert [len(part) for part in parts] == [2, 0, 3, shape[0] - 5]
    assert np.array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(parts[0], parts[2][:2])
