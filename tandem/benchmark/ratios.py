"""What may be said of two variants that took their steps in turn."""

import statistics

from scipy.stats import quantile_test

CONFIDENCE = 0.95
"""Of the interval on which a verdict rests."""

FEWEST = 6
"""Rounds for an interval: of fewer, not even the smallest and the largest ratio hold the median so surely."""

SPREAD = 0.3
"""The middle half of the ratios may spread so far, over their median, before nothing can be said by them."""


def compare(first, second):
    """How many times as fast the first is as the second, of the seconds of their steps, round by round.

    Args:
        first, second: seconds, one for each round, in the same order.

    Returns:
        A dict: `ratio`, the median of second / first; its `interval`, that of the sign test, which assumes nothing of
        how times are distributed, or None; the `verdict`, "faster" or "slower"; or None, and `doubt`, the reason and
        what to do.
    """
    ratios = [theirs / ours for ours, theirs in zip(first, second, strict=True)]
    ratio = statistics.median(ratios)
    found = {"ratio": ratio, "interval": None, "verdict": None, "doubt": None}
    if len(ratios) < FEWEST:
        return {**found, "doubt": f"{len(ratios)} rounds; take {FEWEST} or more"}
    interval = quantile_test(ratios, q=1.0, p=0.5).confidence_interval(CONFIDENCE)
    low, high = found["interval"] = float(interval.low), float(interval.high)
    spread = spread_of(ratios)
    if spread > SPREAD:
        said = f"the middle half of the ratios spreads by {spread:.0%} of their median; measure again at a quieter time"
        return {**found, "doubt": said}
    if low <= 1 <= high:
        return {**found, "doubt": "the interval contains 1; more rounds may tell"}
    return {**found, "verdict": "faster" if low > 1 else "slower"}


def spread_of(values):
    """How far the middle half of `values` spreads, over their median; 0 for one value."""
    if len(values) < 2:
        return 0.0
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return (upper - lower) / median
