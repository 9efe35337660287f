"""Cross entropy and ranks of logits, against a loop over images and classes."""

import math

from tandem.core.metrics import losses_and_ranks

import numpy as np
import pytest


def by_a_loop(logits, labels, smoothing):
    losses, ranks = [], []
    for row, label in zip(logits.astype(float).tolist(), labels.tolist(), strict=True):
        largest = max(row)
        log_total = largest + math.log(sum(math.exp(logit - largest) for logit in row))
        weights = [smoothing / len(row) + (1 - smoothing) * (index == label) for index in range(len(row))]
        losses.append(sum(weight * (log_total - logit) for weight, logit in zip(weights, row, strict=True)))
        # Of equals the first wins.
        order = sorted(range(len(row)), key=lambda index: (-row[index], index))
        ranks.append(order.index(label))
    return losses, ranks


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_and_ranks_are_those_of_a_loop(smoothing, dtype):
    random = np.random.default_rng(0)
    logits = random.normal(scale=5, size=(200, 7)).astype(dtype)
    labels = random.integers(0, 7, 200)
    losses, ranks = losses_and_ranks(logits, labels, smoothing)
    expected = by_a_loop(logits, labels, smoothing)
    assert losses.dtype == np.float64
    assert losses == pytest.approx(expected[0], rel=1e-13)
    assert ranks.tolist() == expected[1]
    assert set(expected[1]) == set(range(7))


def test_of_equal_logits_the_first_wins():
    random = np.random.default_rng(1)
    logits = random.integers(0, 3, (200, 6)).astype(np.float32)  # few values, so that many are equal
    labels = random.integers(0, 6, 200)
    _, ranks = losses_and_ranks(logits, labels, 0.0)
    assert ranks.tolist() == by_a_loop(logits, labels, 0.0)[1]
    _, ranks = losses_and_ranks(np.zeros((6, 6)), np.arange(6), 0.0)
    assert ranks.tolist() == [0, 1, 2, 3, 4, 5]


def test_nan_is_never_right():
    nan = math.nan
    logits = np.array([[nan, 1, 2], [1, nan, 2], [nan, nan, nan], [3, 1, 2]])
    losses, ranks = losses_and_ranks(logits, np.array([0, 1, 2, 0]), 0.0)
    assert ranks.tolist() == [3, 3, 3, 0]  # not even in the top 3 of three
    assert np.isnan(losses).tolist() == [True, True, True, False]
    # Beside a NaN no logit is the largest, either, as in the engines.
    _, ranks = losses_and_ranks(np.array([[nan, 5.0, 1.0]]), np.array([1]), 0.0)
    assert ranks.tolist() == [1]


def test_large_logits_neither_overflow_nor_are_clipped():
    logits = np.array([[1000.0, 0.0], [0.0, 1e30]])
    losses, ranks = losses_and_ranks(logits, np.array([1, 0]), 0.0)
    assert losses.tolist() == [1000.0, 1e30]
    assert ranks.tolist() == [1, 1]
