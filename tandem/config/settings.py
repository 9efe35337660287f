"""The base class of every group of settings: frozen, strict about names, exact about numbers."""

from typing import Annotated

from tandem.core.errors import UserError
from tandem.core.paths import expanded

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_core import PydanticCustomError


class Settings(BaseModel):
    """A group of settings. It is frozen; an unknown key, infinity and NaN are errors, and so is true for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def _check_truth(value):
    if isinstance(value, bool):  # which pydantic would take for 1 or 0
        raise ValueError("should be a number")
    return value


Int = Annotated[int, BeforeValidator(_check_truth)]
Float = Annotated[float, BeforeValidator(_check_truth)]

Count = Annotated[Int, Field(ge=1, le=1_000_000)]
"""A number of epochs, steps, blocks and the like; no training reaches a million of them."""

Channels = Annotated[Int, Field(ge=1, le=65_536)]
"""Of a layer."""


def _to_float32(value: float) -> float:
    with np.errstate(over="ignore"):  # infinity; the limits of each setting exclude it
        return float(np.float32(value))


def _as_written(value: float) -> float:
    return float(str(np.float32(value)))  # the shortest number that is this float32: 0.9


def _expand(path: str) -> str:
    try:
        return str(expanded(path))
    except UserError as error:
        raise PydanticCustomError("path", "{said}", {"said": str(error)}) from error


PathText = Annotated[str, AfterValidator(_expand)]
"""A path, in which ~ and $VARIABLE stand for what they stand for in a shell."""

Float32 = Annotated[Float, AfterValidator(_to_float32), PlainSerializer(_as_written, when_used="json")]
"""A number that is rounded to float32 once, here, so that both frameworks use the same one. Paddle keeps momentum and
the L2 factor as C++ `float`: 0.9 is 0.8999999762, even in float64 (paddle/phi/kernels/impl/momentum_kernel_impl.h).
Files show it as it was written, 0.9."""
