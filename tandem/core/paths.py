"""Where Tandem's own files are, in a checkout or where pip has installed them; and what a path in a config means."""

import os
import re
from pathlib import Path

from tandem.core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the package and the networks."""

CONFIGS = ROOT / "tandem" / "configs" if (ROOT / "tandem" / "configs").is_dir() else ROOT / "configs"
"""The shipped configs."""


def child_environment(environment=os.environ):
    """`environment` for a process that imports Tandem, as a dict. A checkout need not be installed anywhere.

    An installed Tandem is not put on the path: beside it lie packages that another interpreter must not import.
    """
    if not (ROOT / "pyproject.toml").is_file():
        return dict(environment)
    return {**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])}


def expanded(path):
    """`path` with ~ and $VARIABLE or ${VARIABLE} replaced, as a shell does, as a Path.

    Raises:
        UserError: there is no such variable or user.
    """
    for name in re.findall(r"\$(?:\{(\w+)\}|(\w+))", str(path)):
        if "".join(name) not in os.environ:
            raise UserError(f"{path}: the variable {''.join(name)} is not set; set it, or write the path out")
    try:
        return Path(os.path.expandvars(path)).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such user; write the path out") from None
