"""What may be said of two variants: only what the pairs of their steps bear out."""

from tandem.benchmark.ratios import FEWEST, compare, spread_of

import pytest
from hypothesis import given
from hypothesis import strategies as st


def test_a_busy_moment_hits_both_and_the_ratio_does_not_move():
    first = [1.0, 1.0, 5.0, 1.0, 1.0, 3.0, 1.0]
    found = compare(first, [2 * seconds for seconds in first])
    assert found == {"ratio": 2.0, "interval": (2.0, 2.0), "verdict": "faster", "doubt": None}


def test_the_interval_is_that_of_the_sign_test():
    """Of 20 rounds: the 6th and the 15th ratio, outside of which the median lies with a chance of 4.1 %."""
    ratios = [1.01 + number / 100 for number in range(20)]
    found = compare([1.0] * 20, ratios[::-1])
    assert found["interval"] == pytest.approx((ratios[5], ratios[14]))
    assert found["ratio"] == pytest.approx(1.105)
    assert found["verdict"] == "faster"


def test_there_is_no_verdict_where_the_interval_contains_1():
    found = compare([1.0] * 10, [0.99, 1.01] * 5)
    assert found["verdict"] is None and found["doubt"] == "the interval contains 1; more rounds may tell"


def test_there_is_no_verdict_where_the_ratios_spread():
    found = compare([1.0] * 10, [1.5, 3.0] * 5)
    assert found["interval"][0] > 1
    assert found["verdict"] is None and found["doubt"].startswith("the middle half of the ratios spreads by 67%")


def test_there_is_no_verdict_of_few_rounds():
    found = compare([1.0] * (FEWEST - 1), [2.0] * (FEWEST - 1))
    assert (found["ratio"], found["interval"], found["verdict"]) == (2.0, None, None)
    assert found["doubt"] == "5 rounds; take 6 or more"
    assert compare([1.0] * FEWEST, [2.0] * FEWEST)["verdict"] == "faster"


times = st.floats(0.1, 10)


@given(st.lists(st.tuples(times, times), min_size=1, max_size=25))
def test_the_other_way_round_it_says_the_opposite(pairs):
    first, second = zip(*pairs, strict=True)
    found, other = compare(first, second), compare(second, first)
    if found["interval"]:
        assert found["interval"][0] <= found["ratio"] <= found["interval"][1]
        assert found["interval"] == pytest.approx([1 / bound for bound in reversed(other["interval"])])
    verdicts = {found["verdict"], other["verdict"]}
    assert verdicts <= {"faster", "slower", None} and len(verdicts - {None}) == len(
        [one for one in (found, other) if one["verdict"]]
    )


def test_one_value_does_not_spread():
    assert spread_of([3.0]) == 0
    assert spread_of([1.0, 2.0, 3.0]) == pytest.approx(0.5)
