"""tandem init."""

from pathlib import Path
from typing import Annotated

import typer

TEMPLATE = Path(__file__).with_name("mynet.txt")
"""A pair of builders, with mynet for their name."""


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The Python file to write, e.g. mynet.py.")],
):
    """Write a network of your own to start from: a file with a builder for each framework."""
    import shlex

    from tandem.config.load import check_config
    from tandem.core import files
    from tandem.core.errors import UserError

    network = {"name": "own", "file": str(file)}
    check_config({"network": network, "schedule": {"name": "constant"}, "epochs": 1}, str(file))  # its name
    if file.exists():
        raise UserError(f"{file}: is there already; choose another name")
    files.write_file(file, TEMPLATE.read_text(encoding="utf-8").replace("mynet", file.stem).encode())
    print(f"Written: {file}. Next: tandem certify {shlex.quote(str(file))}")
