"""tandem benchmark."""

import sys
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


class Peer(StrEnum):
    """The libraries that Tandem is compared with."""

    torch = "torch"


def benchmark(
    config: Annotated[
        list[Path] | None,
        typer.Option(
            help="A YAML file; may be repeated. Default: LeNet-5 and the small SE-ResNeXt; the full one, "
            "configs/se_resnext.yaml, takes about 20 minutes on two cores."
        ),
    ] = None,
    framework: Annotated[list[Framework] | None, typer.Option(help="May be repeated. Default: both.")] = None,
    batch_size: Annotated[list[int] | None, typer.Option(min=2, help="May be repeated. Default: 32.")] = None,
    precision: Annotated[
        list[AnyPrecision] | None,
        typer.Option(help="May be repeated. Default: float32, the only one for the stock loops."),
    ] = None,
    stock: Annotated[bool, typer.Option(help="Whether to also measure Keras' fit and Paddle's Model.fit.")] = True,
    workers: Annotated[
        int, typer.Option(min=1, help="Also measure Tandem's training with so many processes, which share the cores.")
    ] = 1,
    peer: Annotated[Peer | None, typer.Option(help="Also measure the same network in this library.")] = None,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, help="In each, every variant takes one step, in turn. A verdict takes 6. Default: 20."),
    ] = None,
    grow: Annotated[
        bool,
        typer.Option(
            "--grow",
            help="In place of all that: ResNet-20's speed and memory against batch size, width, depth, image size and "
            "threads. About ten minutes on two cores.",
        ),
    ] = False,
    waits: Annotated[
        bool,
        typer.Option(
            "--waits",
            help="In place of all that: the time to the first training step, of a certificate, a checkpoint, --help.",
        ),
    ] = False,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Also write all figures to this file.")
    ] = None,
    chart: Annotated[Path | None, typer.Option(metavar="PATH", help="Also draw the speeds to this PNG.")] = None,
):
    """Measure speed, forward and in training: images/s, GFLOP/s, memory. Compare it with Keras' and Paddle's fit."""
    import importlib.util
    import json
    import os

    from tandem.core.errors import UserError

    for option, path in (("--json", json_path), ("--chart", chart)):
        if path and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
            raise UserError(f"{option} {path}: cannot be written; name a file in another folder")
    if chart and chart.suffix.lower() != ".png":
        raise UserError(f"--chart {chart}: the chart is a PNG; end its name in .png")
    if grow and waits:
        raise UserError("--grow and --waits: are two measurements; run one after the other")
    table = {"--config": config, "--batch-size": batch_size, "--precision": precision, "--peer": peer}
    table |= {"--workers": workers > 1, "--no-stock": not stock, "--rounds": rounds}
    for option in (option for option, given in table.items() if given and (grow or waits)):
        raise UserError(f"{option}: --grow and --waits measure what they always do; leave it out")
    if chart and waits:
        raise UserError("--chart: --waits draws none; leave it out")
    if peer and importlib.util.find_spec(peer) is None:
        raise UserError(
            f"--peer {peer}: PyTorch is not installed in {sys.prefix}; install it there with pip install torch "
            "--index-url https://download.pytorch.org/whl/cpu, or leave --peer out"
        )
    from tandem.benchmark import report
    from tandem.core import files
    from tandem.frameworks.base import FRAMEWORKS, TITLES
    from tandem.report import costs, pictures

    from rich.console import Console

    frameworks, watched = framework or FRAMEWORKS, Console(stderr=True)
    if waits:
        from tandem.benchmark.waits import waits as measure_waits

        figures = measure_waits(frameworks, watched)
        shown = [report.waits_table(figures)]
    elif grow:
        from tandem.benchmark.growth import growth

        figures = growth(frameworks, watched)
        shown = report.growth_tables(figures)
    else:
        from tandem.benchmark import measure

        figures = measure.benchmark(
            config or measure.DEFAULT,
            frameworks,
            batch_size or (32,),
            precision or ("float32",),
            rounds or 20,
            stock,
            workers,
            peer,
            watched,
        )
        shown = [report.describe(figures), *report.tables(figures), *report.notes(figures)]
    if json_path:
        files.write_file(json_path, (json.dumps(figures, indent=2) + "\n").encode())
    console = Console(highlight=False)
    for part in shown:
        console.print(part, soft_wrap=isinstance(part, str))
    if chart:
        pictures.save(costs.chart(figures, TITLES) if grow else report.chart(figures), chart)
