"""The exception for errors that a user can fix."""


class UserError(Exception):
    """Bad input. The message says in one line which file or key, what is wrong with it, and what to do.

    Commands print it to stderr without a traceback and exit with code 2 (`tandem.commands.cli.run`).
    """

    def __init__(self, message):
        super().__init__(" ".join(message.split()))  # a library's error or a file's name may have several lines
