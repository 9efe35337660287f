"""tandem curves."""

from pathlib import Path
from typing import Annotated

from tandem.commands.cli import at_work

import typer


def curves(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders: what --run-dir named.")],
    output: Annotated[Path, typer.Option(help="The PNG to draw.")] = Path("curves.png"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Only so many: for a short run on a long one.")] = None,
):
    """Show runs side by side, and draw their loss and error rate over one another."""
    with at_work("starting"):
        from tandem.compare.curves import check_received, read_runs, read_settings, side_by_side
        from tandem.frameworks.base import TITLES
        from tandem.report.plots import draw_curves

        from rich.console import Console

    with at_work("drawing"):
        records = read_runs(runs, epochs)
        check_received(records, read_settings(runs, records))
        draw_curves(records, output, TITLES)
    console = Console(highlight=False)
    console.print(side_by_side(records))
    console.print(f"Curves: {output}", soft_wrap=True)
