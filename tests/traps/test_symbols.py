"""What the pages quote is found by symbol, and only a change of the line itself changes it."""

from tandem.core.errors import UserError
from tandem.traps import symbols
from tandem.traps.symbols import Code, quote

import pytest

SOURCE = '''
LIMIT = 3
"""How many."""

class Layer:
    """A layer."""

    size: int = 2

    def forward(self, x):
        y = x + LIMIT
        return y


def forward(x):
    return x
'''


@pytest.fixture
def file(monkeypatch, tmp_path):
    monkeypatch.setattr(symbols, "ROOT", tmp_path)
    (tmp_path / "layers.py").write_text(SOURCE)
    return tmp_path / "layers.py"


@pytest.mark.parametrize(
    ("symbol", "marker", "line"),
    [
        ("LIMIT", "", "LIMIT = 3"),
        ("Layer", "", "class Layer:"),
        ("Layer.size", "", "size: int = 2"),
        ("Layer.forward", "return", "return y"),
        ("forward", "return", "return x"),
    ],
)
def test_a_line_of_a_symbol(file, symbol, marker, line):
    assert quote(Code("layers.py", symbol, marker)) == line
    # Neither do comments change it, nor lines that are added elsewhere.
    commented = SOURCE.replace("\n    def", "\n    # a comment: return, LIMIT\n    def").replace("y\n", "y  # return\n")
    file.write_text(commented.replace("LIMIT = 3", "import os\n\nLIMIT = 3  # three"))
    assert quote(Code("layers.py", symbol, marker)) == line


@pytest.mark.parametrize(
    ("symbol", "marker", "said"),
    [
        ("backward", "", "layers.py: no symbol backward"),
        ("Layer.backward", "", "layers.py: no symbol Layer.backward"),
        ("LIMIT.forward", "", "layers.py: no symbol LIMIT.forward"),
        ("Layer.forward", "return x", "layers.py: 0 lines of Layer.forward hold 'return x'"),
        ("Layer.forward", "y", "layers.py: 2 lines of Layer.forward hold 'y'"),
    ],
)
def test_a_line_that_is_not_there_is_an_error(file, symbol, marker, said):
    with pytest.raises(UserError, match=said):
        quote(Code("layers.py", symbol, marker))
