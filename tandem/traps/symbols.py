"""Symbols of this repository by their dotted names, and single lines of them: read with `ast`, nothing is loaded.

A comment changes nothing of it, nor does a line that is added elsewhere.
"""

import ast
import functools
import io
import tokenize
from typing import NamedTuple

from tandem.core.errors import UserError
from tandem.core.paths import ROOT


class Code(NamedTuple):
    """A line of code.

    Attributes:
        file: relative to the repository.
        symbol: what holds the line: a function, class, method or constant, for example `Conv2D.forward`.
        marker: a string in that line, and in no other of the symbol; without one, it is the symbol's first line.
    """

    file: str
    symbol: str
    marker: str = ""


def quote(code):
    """The line that a `Code` means, without its comment.

    Raises:
        UserError: there is no such symbol; or no line of it, or several, hold the marker.
    """
    file, symbol, marker = code
    wrong = f"{file}: {{}}; correct the `code` of the traps that name it (tandem/traps)"
    node, code = _read((ROOT / file).read_text(encoding="utf-8"))
    for name in symbol.split("."):
        node = next((inner for inner in getattr(node, "body", ()) if name in _names(inner)), None)
        if node is None:
            raise UserError(wrong.format(f"no symbol {symbol}"))
    lines = code[node.lineno - 1 : node.end_lineno]
    there = [line.strip() for line in lines if marker in line] if marker else [lines[0].strip()]
    if len(there) != 1:
        raise UserError(wrong.format(f"{len(there)} lines of {symbol} hold {marker!r}"))
    return there[0]


@functools.cache
def _read(text):
    """The syntax tree of a file, and its lines without comments."""
    return ast.parse(text), _without_comments(text)


def _names(statement):
    """What a statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _without_comments(text):
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    return lines
