"""The base class of every group of settings: frozen, strict about names, exact about numbers."""

from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer


class Settings(BaseModel):
    """A group of settings. It is frozen; an unknown key, infinity and NaN are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def _to_float32(value: float) -> float:
    return float(np.float32(value))


def _as_written(value: float) -> float:
    return float(str(np.float32(value)))  # the shortest number that is this float32: 0.9


Float32 = Annotated[float, AfterValidator(_to_float32), PlainSerializer(_as_written, when_used="json")]
"""A number that is rounded to float32 once, here, so that both frameworks use the same one. Paddle keeps momentum and
the L2 factor as C++ `float`: 0.9 is 0.8999999762, even in float64 (paddle/phi/kernels/impl/momentum_kernel_impl.h).
Files show it as it was written, 0.9."""
