"""tandem benchmark."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from tandem.commands.cli import Framework

import typer


class AnyPrecision(StrEnum):
    """The precisions of training."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"
    float16 = "float16"


def benchmark(
    config: Annotated[
        list[Path] | None,
        typer.Option(
            help="A YAML file; may be repeated. Default: LeNet-5 and the small SE-ResNeXt; the full one, "
            "configs/se_resnext.yaml, takes about a quarter of an hour on two cores."
        ),
    ] = None,
    framework: Annotated[list[Framework] | None, typer.Option(help="May be repeated. Default: both.")] = None,
    batch_size: Annotated[list[int] | None, typer.Option(min=2, help="May be repeated. Default: 32.")] = None,
    precision: Annotated[
        list[AnyPrecision] | None,
        typer.Option(help="May be repeated. Default: float32, the only one for the stock loops."),
    ] = None,
    stock: Annotated[bool, typer.Option(help="Whether to also measure Keras' fit and Paddle's Model.fit.")] = True,
    steps: Annotated[int, typer.Option(min=1, help="Measured steps in each process, after 2 warm-up steps.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Processes that measure each variant; they take turns.")] = 2,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Also write all figures to this file.")
    ] = None,
    chart: Annotated[Path | None, typer.Option(metavar="PATH", help="Also draw the speeds to this PNG.")] = None,
):
    """Measure speed, forward and in training: images/s, GFLOP/s, memory. Compare it with Keras' and Paddle's fit."""
    import json
    import os

    from tandem.benchmark import measure as benchmark
    from tandem.benchmark import report as benchmark_report
    from tandem.core import files
    from tandem.core.errors import UserError
    from tandem.frameworks.base import FRAMEWORKS
    from tandem.report import pictures

    from rich.console import Console

    for option, path in (("--json", json_path), ("--chart", chart)):
        if path and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
            raise UserError(f"{option} {path}: cannot be written; name a file in another folder")
    if chart and chart.suffix.lower() != ".png":
        raise UserError(f"--chart {chart}: the chart is a PNG; end its name in .png")
    figures = benchmark.benchmark(
        config or benchmark.DEFAULT,
        framework or FRAMEWORKS,
        batch_size or (32,),
        precision or ("float32",),
        steps,
        rounds,
        stock,
        Console(stderr=True),
    )
    console = Console(highlight=False)
    if json_path:
        files.write_file(json_path, (json.dumps(figures, indent=2) + "\n").encode())
    console.print(benchmark_report.describe(figures), soft_wrap=True)
    for table in benchmark_report.tables(figures):
        console.print(table)
    for line in benchmark_report.notes(figures):
        console.print(line, soft_wrap=True)
    if chart:
        pictures.save(benchmark_report.chart(figures), chart)
