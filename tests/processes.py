"""What tests have done in a process of each framework's own: see the fixture `begin`."""

import contextlib
import io
import sys

from tandem.commands import cli
from tandem.frameworks.base import FRAMEWORKS

import pytest


def command(*arguments):
    """Exit code, stdout and stderr of python -m tandem."""
    from tandem.__main__ import app

    said, errors = io.StringIO(), io.StringIO()
    sys.argv = ["tandem", *map(str, arguments)]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as ended:
        cli.run(app)
    return ended.value.code, said.getvalue(), errors.getvalue()


def loaded():
    """The frameworks that this process has loaded."""
    return [name for name in FRAMEWORKS if name in sys.modules]
