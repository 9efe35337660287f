"""Where Tandem's own files are: in a checkout, or where pip has installed them."""

import os
from pathlib import Path

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
