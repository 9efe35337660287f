"""What all commands share: one line for bad input, and options that mean the same everywhere."""

import contextlib
import json
import os
import re
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from tandem.core.errors import UserError, escaped
from tandem.core.paths import expanded
from tandem.core.patience import company
from tandem.core.signals import ended_by_exception

import typer


class Framework(StrEnum):
    """The names of the frameworks, as options take them."""

    paddle = "paddle"
    tensorflow = "tensorflow"


Checkpoint = Annotated[
    Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint; or a run folder, for its newest whole one.")
]
ThisFramework = Annotated[
    Framework | None, typer.Option("--framework", help="What to compute in. Default: what wrote the checkpoint.")
]
ThisOverride = Annotated[
    list[str] | None,
    typer.Option("-o", metavar="KEY=VALUE", help="Set one key of its config, e.g. data.directory=/data or device=cpu."),
]
OwnNetwork = Annotated[
    Path | None,
    typer.Option("--network", metavar="FILE.py", help="The file of a checkpoint's network of your own: it will run."),
]
PythonPaddle = Annotated[Path | None, typer.Option(help="The Python that has Paddle. Default: this one.")]
PythonTensorFlow = Annotated[Path | None, typer.Option(help="The Python that has TensorFlow. Default: this one.")]
Averaged = Annotated[
    bool, typer.Option("--ema", help="Take the EMA of its weights (evaluation.ema_decay) in their place.")
]


def run(app):
    """Run a typer app. A `UserError`, or a file that cannot be had, becomes one line on stderr and exit code 2."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # so that each gets its own descriptor
        if getattr(sys, name) is None:  # it was closed before Python began
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  until the process ends
    try:
        with ended_by_exception() as came:
            sys.argv[1:] = map(_argument, sys.argv[1:])
            app()
    except BaseException as error:
        if came:
            _end_by(came[0])
        if isinstance(error, UserError):
            said = str(error)
        elif isinstance(error, OSError) and error.errno is not None:  # Paddle has some that are not of a file
            where = "" if error.filename is None else f"{escaped(str(error.filename))}: "
            said = f"{where}{error.strerror}; check the path and its permissions"
        else:
            raise
        print(f"error: {said}", file=sys.stderr)
        sys.exit(2)


def _argument(text):
    """An argument as its user meant it: a shell leaves the ~ of --output=~/here alone.

    Raises:
        UserError: it is empty, which a path would take for the current folder.
    """
    if not text:
        raise UserError("an argument is empty; is a variable of your shell not set?")
    option, path = re.fullmatch(r"(--[\w-]+=)?(.*)", text, re.DOTALL).groups()
    return f"{option or ''}{expanded(path) if path.startswith('~') else path}"


def _end_by(number):
    """End as if the signal had not been caught; by Ctrl-C with its usual exit code."""
    if number == signal.SIGINT:
        sys.exit(130)
    os.kill(os.getpid(), number)


class Voice:
    """stdout, for what should save its work and not die where nobody reads it any more (a closed pipe or terminal).

    The first write that fails sends SIGTERM to this process, and from then on all goes to /dev/null.
    """

    encoding = "utf-8"

    def write(self, text):
        """Write `text`, to stdout as it is at the moment."""
        return self._tried(lambda: sys.stdout.write(text), len(text))

    def flush(self):
        """Write out what is buffered."""
        self._tried(sys.stdout.flush, None)

    def isatty(self):
        """Whether it is a terminal."""
        return self._tried(sys.stdout.isatty, False)

    def fileno(self):
        """The descriptor of stdout."""
        return sys.stdout.fileno()

    def _tried(self, action, otherwise):
        try:
            return action()
        except OSError:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            os.kill(os.getpid(), signal.SIGTERM)
            return otherwise


def make_app(**options):
    """A typer app that shows no tracebacks of its own and needs no completion."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **options)


def with_network(overrides, network):
    """The `overrides` and, if one was named, the file of a network of one's own, as a list."""
    named = [] if network is None else [f"network.file={json.dumps(str(network))}"]
    return [*(overrides or ()), *named]


def interpreters(paddle, tensorflow):
    """The interpreters that were named, by framework."""
    return {name: str(python) for name, python in (("paddle", paddle), ("tensorflow", tensorflow)) if python}


def warn(line):
    """Say on stderr what is odd but no error."""
    print(f"warning: {escaped(line)}", file=sys.stderr)


@contextlib.contextmanager
def at_work(what, total=None):
    """A context in which stderr shows that `what` ("certifying") goes on: by a line every ten seconds; where how many
    parts it has in `total` is known, and stderr is a terminal, by a bar.

    It gives a function that takes how many of the parts are done, and what is being done now, if that changes.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    now = what

    def report(done, what=what):
        nonlocal now
        now = what
        progress.update(bar, completed=done, description=_begun(what))

    # A copy of stderr, which is heard also while the output of a library is dropped (`environment.quiet`).
    with open(os.dup(2), "w", encoding="utf-8") as stderr:
        console = Console(file=stderr, highlight=False, markup=False, soft_wrap=True)
        animated = total is not None and console.is_terminal and not console.is_dumb_terminal
        columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
        progress = Progress(*columns, console=console, transient=True, disable=not animated)
        with progress, contextlib.nullcontext() if animated else company(console.print, lambda: f"still {now}"):
            bar = progress.add_task(_begun(what), total=total)
            yield report


def _begun(what):
    """`what` as the beginning of a line."""
    return what[:1].upper() + what[1:]
