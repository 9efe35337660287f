"""The commands: python -m tandem COMMAND. Each imports what it needs when it runs, so that --help is quick."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tandem.cli import make_app, run

app = make_app(no_args_is_help=True)


class Framework(StrEnum):
    """The names of the frameworks, as options take them."""

    paddle = "paddle"
    tensorflow = "tensorflow"


@app.callback()
def main():
    """The same CNN in PaddlePaddle and in TensorFlow."""


@app.command()
def benchmark(
    config: Annotated[
        list[Path] | None,
        typer.Option(help="A YAML file; may be repeated. Default: SE-ResNeXt, small and full size."),
    ] = None,
    framework: Annotated[list[Framework] | None, typer.Option(help="May be repeated. Default: both.")] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Images in a training step.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="Measured steps in each process, after 2 others.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Processes that measure each variant, in turn.")] = 2,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Also write all figures to this file.")
    ] = None,
):
    """Measure training steps against Keras' fit and Paddle's Model.fit on a straightforward network."""
    import json
    import os

    from rich.console import Console

    from tandem import benchmark
    from tandem.errors import UserError

    if json_path and (json_path.is_dir() or not os.access(json_path.absolute().parent, os.W_OK)):
        raise UserError(f"--json {json_path}: cannot be written; name a file in a folder that can")
    figures = benchmark.benchmark(
        config or benchmark.CONFIGS, framework or benchmark.FRAMEWORKS, batch_size, steps, rounds, Console(stderr=True)
    )
    console = Console(highlight=False)
    console.print(benchmark.describe(figures), soft_wrap=True)
    console.print(benchmark.table(figures))
    console.print(f"Input pipeline: {figures['pipeline']['images_per_second']:,.0f} augmented images/s on one core")
    if json_path:
        json_path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


@app.command()
def curves(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders: what --run-dir named.")],
    output: Annotated[Path, typer.Option(help="The PNG to draw.")] = Path("curves.png"),
):
    """Show runs side by side, and draw their loss and error rate over one another."""
    from rich.console import Console

    from tandem.comparison import read_runs, side_by_side
    from tandem.plots import draw_curves

    records = read_runs(runs)
    draw_curves(records, output)
    console = Console(highlight=False)
    console.print(side_by_side(records))
    console.print(f"Curves: {output}", soft_wrap=True)


if __name__ == "__main__":
    run(app)
