"""What a `UserError` says is one line that can be printed."""

from tandem.core.errors import UserError, escaped

import pytest


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b é 猫", "a b é 猫"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\x00\x07\x7f\x9b", "a\\x00\\x07\\x7f\\x9b"),
        ("left\u202eright\u2066", "left\\u202eright\\u2066"),
        ("not utf-8: \udcff", "not utf-8: \\udcff"),
    ],
)
def test_what_does_not_print_as_itself_is_escaped(text, shown):
    assert escaped(text) == shown == str(UserError(text))


def test_an_error_is_one_line():
    assert str(UserError("a.yaml: bad\n\tvalue;\u2028use another\x85")) == "a.yaml: bad value; use another"
