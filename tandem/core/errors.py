"""Errors that a user can fix, those of a user's own code in one line, and how foreign text is shown."""

import re
import traceback
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


class UserError(Exception):
    """Bad input. The message says in one line which file or key, what is wrong with it, and what to do.

    Commands print it to stderr without a traceback and exit with code 2 (`tandem.commands.cli.run`).
    """

    def __init__(self, message):
        # A library's error or a file's name may have several lines, or a terminal's control characters.
        super().__init__(escaped(" ".join(message.split())))


def escaped(text):
    """`text` with each character that is not printed as itself as its escape, such as \\x1b, with which a file could
    write over a terminal."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def where(error, folder, otherwise):
    """An `error` of the user's own code in one line, with its place: the innermost line of a file in `folder`.

    Args:
        error: any exception.
        folder: that of the user's file; installed packages and Tandem in it do not count.
        otherwise: the place where there is no such line.
    """
    folder, place = Path(folder).resolve(), otherwise
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
    for name, line in frames:
        path = Path(name).resolve()
        ours = "site-packages" in path.parts or path.is_relative_to(PACKAGE)
        if path.is_relative_to(folder) and not ours:
            place = f"{path.name}, line {line}"
    return f"{place}: {said(error)}"


def said(error):
    """The type and the message of an `error` of a framework, or of the user's code, in one line."""
    # Keras writes a preface before the message and the arguments after it. Paddle writes a stack before the message.
    text = error.msg if isinstance(error, SyntaxError) else re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.split("Arguments received by")[0].splitlines() if line.strip()]
    lines = [x for x in lines if not x.startswith(("[Hint", "(at ")) and "encountered when calling" not in x]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
