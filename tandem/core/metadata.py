"""What files say about themselves, checked: the base of such models, and the types that several have."""

from typing import Annotated

from tandem.core.errors import UserError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

LONGEST = 1 << 22
"""The bytes that metadata may have: with the names of 100,000 classes it has less."""


class Metadata(BaseModel):
    """Metadata of a file: only its fields, of their very types; infinity and NaN are errors."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def _printable(name):
    if not name.isprintable():
        raise ValueError("should have no control characters")
    return name


Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_printable)]
"""A name that is shown, such as a class's: no longer than a folder's, of characters that print as themselves."""

ClassNames = Annotated[tuple[Name, ...], Field(min_length=1, max_length=100_000)]
"""The names of the classes, in the order of the labels."""

Count = Annotated[int, Field(ge=0, lt=2**53)]
"""How many of something there are."""

Part = Annotated[float, Field(ge=0, le=1)]
"""A part of a whole, such as an accuracy."""

Sum = Annotated[float, Field(ge=0)]
"""A sum of what cannot be negative."""


def read_json(model, text, origin):
    """The `model`, a class of `Metadata`, that the JSON `text` holds.

    Raises:
        UserError: the text is not JSON, nested too deep or too long, or a value is not in its range; names `origin`.
    """
    if len(text) > LONGEST:
        raise UserError(f"{origin}: its metadata is {len(text)} bytes long, and {LONGEST} is the most; use another")
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{origin}: {wrong(error)}; use another") from error


_TYPES = {
    "bool_type": "should be true or false",
    "dict_type": "should be a map",
    "extra_forbidden": "is not known",
    "finite_number": "should be finite",
    "float_type": "should be a number",
    "int_type": "should be a whole number",
    "model_type": "should be a map",
    "string_type": "should be text",
    "tuple_type": "should be a list",
}
"""By the type of pydantic's error, what it means where its own message speaks of Python."""


def wrong(error, what="its metadata"):
    """In words, the first of the faults that a `ValidationError` lists, in `what` is read."""
    first = error.errors()[0]
    key, kind = ".".join(map(str, first["loc"])), first["type"]
    if kind == "missing":
        return f"{what} has no {key}"
    if kind == "union_tag_not_found":
        return f"{what} has no {first['ctx']['discriminator'].strip(chr(39))}"
    if kind == "json_invalid":
        said = "is nested too deep" if "recursion" in first["msg"] else "is no JSON"
    else:
        said = _TYPES.get(kind, first["msg"].removeprefix("Value error, ").removeprefix("Input "))
    return f"{what} is wrong ({key}: {said})" if key else f"{what} is wrong (it {said})"
