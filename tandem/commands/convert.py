"""tandem convert."""

from pathlib import Path
from typing import Annotated

from tandem.commands.cli import OwnNetwork

import typer


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A .safetensors, .pdparams or .keras; or a run folder.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A .safetensors, .pdparams or .keras.")],
    config: Annotated[
        Path | None, typer.Option(help="The YAML file that names the network; needed unless IN is a checkpoint.")
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option(min=1, help="Length of the logits. Default: as many as the config's data has classes.")
    ] = None,
    network: OwnNetwork = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
):
    """Convert weights and statistics between a checkpoint, Paddle's .pdparams and Keras' .keras.

    A run folder means its newest whole checkpoint. A checkpoint made from another format starts a run: --resume it.
    """
    from tandem.use.convert import convert

    from rich.console import Console

    console, errors = (Console(stderr=error, soft_wrap=True, markup=False, highlight=False) for error in (False, True))
    line = convert(source, target, config, num_classes, force, lambda line: errors.print(f"warning: {line}"), network)
    console.print(line)
