"""Learning rate schedules. Each is a pure function of the step, so a resumed run needs no state for it."""

import bisect
import math
from typing import Annotated, Literal

from tandem.config.settings import Count, Float, Int, Settings

import numpy as np
from pydantic import Field, field_validator

Fraction = Annotated[Float, Field(ge=0, le=1)]
Drop = Annotated[Float, Field(gt=0, le=1)]


class Schedule(Settings):
    """What every schedule has: an optional linear warm-up, from 0 to the schedule's value at its end."""

    warmup_epochs: Annotated[Float, Field(ge=0, le=1_000_000)] = Field(
        0, description="epochs of linear warm-up; they count among `epochs`"
    )

    def factor(self, epoch, epochs, samples):
        """The multiple of the base learning rate after `epoch` (fractional) of `epochs` and `samples` images."""
        raise NotImplementedError


class Constant(Schedule):
    """The base learning rate throughout."""

    name: Literal["constant"] = Field(description="the schedule")

    def factor(self, epoch, epochs, samples):
        """See `Schedule.factor`."""
        return 1.0


class Step(Schedule):
    """Multiply by `gamma` every `every_epochs` epochs; the article divides by 10 every 30."""

    name: Literal["step"] = Field(description="the schedule")
    every_epochs: Count = Field(30, description="epochs between two drops")
    gamma: Drop = Field(0.1, description="the factor of the learning rate at each drop")

    def factor(self, epoch, epochs, samples):
        """See `Schedule.factor`."""
        return self.gamma ** math.floor(epoch / self.every_epochs)


class Milestones(Schedule):
    """Multiply by `gamma` at each of `at_epochs`."""

    name: Literal["milestones"] = Field(description="the schedule")
    at_epochs: tuple[Count, ...] = Field(min_length=1, description="the epochs after which it drops, ascending")
    gamma: Drop = Field(0.1, description="the factor of the learning rate at each drop")

    @field_validator("at_epochs")
    @classmethod
    def _check_order(cls, at_epochs):
        if list(at_epochs) != sorted(set(at_epochs)):
            raise ValueError("name each epoch once, in ascending order")
        return at_epochs

    def factor(self, epoch, epochs, samples):
        """See `Schedule.factor`."""
        return self.gamma ** bisect.bisect_right(self.at_epochs, epoch)


class DiscreteExponential(Schedule):
    """lr0 * a^floor(n/b) after n samples: `learning_rate_schedule='discexp'` of PaddlePaddle's first tutorials."""

    name: Literal["discexp"] = Field(description="the schedule")
    a: Drop = Field(0.1, description="the factor of the learning rate at each drop")
    b: Annotated[Int, Field(ge=1, lt=2**63)] = Field(5_000_000, description="samples between two drops")

    def factor(self, epoch, epochs, samples):
        """See `Schedule.factor`."""
        return self.a ** (samples // self.b)


class Cosine(Schedule):
    """Half a cosine from the base learning rate to `final_factor` of it (Loshchilov & Hutter, arXiv:1608.03983)."""

    name: Literal["cosine"] = Field(description="the schedule")
    final_factor: Fraction = Field(0.0, description="the end, as a fraction of the base learning rate")

    def factor(self, epoch, epochs, samples):
        """See `Schedule.factor`."""
        progress = (epoch - self.warmup_epochs) / max(epochs - self.warmup_epochs, 1e-9)
        return self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


class OneCycle(Schedule):
    """Linearly up to the base learning rate, then down to `final_factor` of it (Smith 2018, arXiv:1803.09820)."""

    name: Literal["one_cycle"] = Field(description="the schedule")
    start_factor: Fraction = Field(0.1, description="the start, as a fraction of the base learning rate")
    peak: Annotated[Float, Field(gt=0, lt=1)] = Field(
        0.3, description="when the base learning rate is reached, as a fraction of the run"
    )
    final_factor: Fraction = Field(0.0, description="the end, as a fraction of the base learning rate")

    def factor(self, epoch, epochs, samples):
        """See `Schedule.factor`."""
        return float(np.interp(epoch / epochs, (0, self.peak, 1), (self.start_factor, 1, self.final_factor)))


AnySchedule = Annotated[
    Constant | Step | Milestones | DiscreteExponential | Cosine | OneCycle, Field(discriminator="name")
]


def learning_rate(schedule, base, step, steps_per_epoch, epochs, samples):
    """The learning rate of training step `step` (from 0) after `samples` images, as a float that float32 holds exactly.

    Paddle passes it to float32 parameters as float32. It is rounded here, so that both frameworks use the same number.
    """
    epoch = step / steps_per_epoch
    factor = schedule.factor(max(epoch, schedule.warmup_epochs), epochs, samples)
    if epoch < schedule.warmup_epochs:
        factor *= (step + 1) / (schedule.warmup_epochs * steps_per_epoch)
    return float(np.float32(base * factor))
