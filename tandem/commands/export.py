"""tandem export."""

from pathlib import Path
from typing import Annotated

from tandem.commands.cli import (
    Averaged,
    Checkpoint,
    OwnNetwork,
    ThisFramework,
    ThisOverride,
    at_work,
    warn,
    with_network,
)

import typer


def export(
    source: Checkpoint,
    kind: Annotated[str, typer.Option("--format", metavar="FORMAT", help="onnx, saved_model (TensorFlow) or paddle.")],
    framework: ThisFramework = None,
    override: ThisOverride = None,
    network: OwnNetwork = None,
    ema: Averaged = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Where to write. Default: exported/NAME.onnx, or the folder exported/NAME-FORMAT."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing model.")] = False,
):
    """Write a checkpoint's network, with its normalisation, for use without Tandem; check that it computes the same.

    Input: images, uint8 [batch, 3, H, W]. Output: logits, float32 [batch, classes].
    """
    with at_work("starting"):
        from tandem.use.export import export

        from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    with at_work("exporting"):
        path, error = export(source, kind, framework, with_network(override, network), ema, output, force, warn)
    console.print(f"{path}: logits differ from the engine's by {error:.1e} of the largest")
