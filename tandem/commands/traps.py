"""tandem traps."""

from pathlib import Path
from typing import Annotated

from tandem.commands.cli import at_work

import typer


def traps(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Which. Default: all.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Where to write the page of all, e.g. docs/differences.md; the Chinese goes beside it."),
    ] = None,
):
    """Switch on each known way to differ, and show where the certificate sees it; exit code 1 if it does not."""
    with at_work("starting"):
        from tandem.certify import gallery
        from tandem.certify.steps import WORKER
        from tandem.core import files
        from tandem.core.errors import UserError
        from tandem.frameworks.workers import Workers
        from tandem.traps import hints
        from tandem.traps.differences import pages, seen

        from rich.console import Console

    console = Console(highlight=False)
    selected = gallery.chosen(names)
    if output and names:
        raise UserError("--output: the page holds every trap; leave out the names")
    with at_work("starting", gallery.parts(selected)) as report, Workers(WORKER) as workers:
        found, versions = gallery.run(selected, workers, lambda what, done: report(done, what))
    console.print(gallery.table(found))
    if not all(one.passed for one in found):
        raise typer.Exit(1)
    if output:
        for path, text in {**pages(found, versions, output), hints.SEEN: seen(found)}.items():
            files.write_file(path, text.encode())
            console.print(f"Written: {path}", soft_wrap=True)
