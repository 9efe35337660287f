"""The exception for errors that a user can fix, and how foreign text is shown."""


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
