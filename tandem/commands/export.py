"""tandem export."""

from pathlib import Path
from typing import Annotated

from tandem.commands.cli import Averaged, Checkpoint, ThisFramework, ThisOverride, stderr_console

import typer


def export(
    source: Checkpoint,
    kind: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="onnx; saved_model, TensorFlow's; or paddle, its own.")
    ],
    framework: ThisFramework = None,
    override: ThisOverride = None,
    averaged: Averaged = False,
    output: Annotated[
        Path | None, typer.Option(help="Where to. Default: exported/NAME.onnx, or the folder exported/NAME-FORMAT.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model that is there.")] = False,
):
    """Write a checkpoint's network, preprocessing inside, for use without Tandem; check that it computes the same.

    Input: images, uint8 [batch, 3, H, W]. Output: logits, float32 [batch, classes].
    """
    from tandem.use.export import export

    from rich.console import Console

    console, stderr = Console(highlight=False, markup=False, soft_wrap=True), stderr_console()
    path, error = export(
        source, kind, framework, override, averaged, output, force, lambda line: stderr.print(f"warning: {line}")
    )
    console.print(f"{path}: logits differ from the engine's by {error:.1e} of the largest")
