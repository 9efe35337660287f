"""The course of each schedule."""

import math

from tandem.config import schedules
from tandem.config.schedules import Constant, Cosine, DiscreteExponential, Milestones, OneCycle, Step

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

STEPS_PER_EPOCH, EPOCHS, BATCH = 10, 100, 50


def rate(schedule, step, base=0.1):
    return schedules.learning_rate(schedule, base, step, STEPS_PER_EPOCH, EPOCHS, step * BATCH)


def test_step_divides_by_ten_every_thirty_epochs():
    schedule = Step(name="step")
    rates = [rate(schedule, epoch * STEPS_PER_EPOCH) for epoch in (0, 29, 30, 59, 60, 90)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.0001])


def test_milestones_divide_by_ten_at_each():
    schedule = Milestones(name="milestones", at_epochs=(15, 40))
    rates = [rate(schedule, step) for step in (0, 149, 150, 399, 400, 999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_discexp_counts_samples():
    schedule = DiscreteExponential(name="discexp", a=0.5, b=1000)  # 20 steps of 50 samples
    assert [rate(schedule, step) for step in (0, 19, 20, 39, 40)] == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])


def test_cosine_ends():
    schedule = Cosine(name="cosine", final_factor=0.1)
    assert rate(schedule, 0) == pytest.approx(0.1)
    assert rate(schedule, 500) == pytest.approx(0.1 * (0.1 + 0.9 / 2))
    assert rate(schedule, 1000) == pytest.approx(0.01)


def test_one_cycle_rises_and_falls():
    schedule = OneCycle(name="one_cycle", start_factor=0.2, peak=0.4, final_factor=0.0)
    assert [rate(schedule, step) for step in (0, 400, 700, 1000)] == pytest.approx([0.02, 0.1, 0.05, 0.0])


WARMED_UP = [
    Constant(name="constant", warmup_epochs=2),
    Step(name="step", warmup_epochs=2),
    Milestones(name="milestones", at_epochs=(15,), warmup_epochs=2),
    DiscreteExponential(name="discexp", warmup_epochs=2),
    Cosine(name="cosine", warmup_epochs=2),
    OneCycle(name="one_cycle", start_factor=0.2, peak=0.02, warmup_epochs=2),  # at its top after epoch 2
]


@pytest.mark.parametrize("schedule", WARMED_UP, ids=lambda schedule: schedule.name)
def test_warm_up_is_linear_and_ends_on_the_schedule(schedule):
    rates = [rate(schedule, step) for step in range(21)]
    assert rates == pytest.approx([0.005 * step for step in range(1, 21)] + [0.1])


def test_a_run_as_short_as_its_warm_up_is_all_warm_up():
    schedule = Cosine(name="cosine", warmup_epochs=1)
    rates = [schedules.learning_rate(schedule, 0.1, step, STEPS_PER_EPOCH, 1, step * BATCH) for step in range(10)]
    assert rates == pytest.approx([0.01 * step for step in range(1, 11)])


ANY = st.sampled_from(
    [
        Constant(name="constant", warmup_epochs=0.5),
        Step(name="step", every_epochs=7),
        Milestones(name="milestones", at_epochs=(3, 50)),
        DiscreteExponential(name="discexp", b=777),
        Cosine(name="cosine", warmup_epochs=5),
        OneCycle(name="one_cycle"),
    ]
)


@given(ANY, st.integers(0, STEPS_PER_EPOCH * EPOCHS), st.floats(1e-6, 10))
def test_between_zero_and_the_base_and_exact_in_float32(schedule, step, base):
    value = rate(schedule, step, base)
    assert 0 <= value <= base * (1 + 1e-6)
    assert math.isfinite(value)
    assert float(np.float32(value)) == value
