"""tandem convert."""

from pathlib import Path
from typing import Annotated

from tandem.commands.cli import at_work, warn

import typer


def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="A .safetensors, .pdparams, .keras or .weights.h5; or a run folder."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="A .safetensors, .pdparams, .keras or .weights.h5 (with --network).")
    ],
    config: Annotated[
        Path | None, typer.Option(help="The YAML file that names the network; needed unless IN is a checkpoint.")
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option(min=1, help="Length of the logits. Default: as many as the config's data has classes.")
    ] = None,
    network: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.py",
            help="The file with both builders of a network of your own, or that of a checkpoint's network: it runs.",
        ),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("-o", metavar="KEY=VALUE", help="With --network: set one key, e.g. data.image_size=64."),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(metavar="MAP.yaml", help="With --network: layers by name, Paddle's: TensorFlow's."),
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="With --network: write OUT even if the networks then differ.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
):
    """Convert weights and statistics between a checkpoint, Paddle's .pdparams and Keras' .keras.

    A run folder means its newest whole checkpoint. A checkpoint made from another format starts a run: --resume it.

    With --network mynet.py also between the .pdparams and the .keras or .weights.h5 of a pair of your own, whatever the
    names and layouts of its layers: they are paired as by `tandem certify`, and what follows a flatten is reordered.
    Both networks then see the same images. If their logits differ by more than 1e-5 of the largest, and in float64 too,
    the layers that differ are named, nothing is written, and the exit code is 1.
    """
    from tandem.core.errors import UserError

    from rich.console import Console

    console, errors = (Console(stderr=error, soft_wrap=True, markup=False, highlight=False) for error in (False, True))
    checkpoint = source.is_dir() or ".safetensors" in (source.suffix, target.suffix)
    if network is None or config is not None or checkpoint:
        for option, given in (("-o", override), ("--names", names), ("--anyway", anyway)):
            if given:
                raise UserError(f"{option}: is for weights of a network of your own, by --network; see --help")
        with at_work("converting"):
            from tandem.use.convert import convert

            line = convert(source, target, config, num_classes, force, warn, network)
        console.print(line)
        return

    with at_work("starting"):
        from tandem.certify.pairing import read_names
        from tandem.frameworks.workers import Workers
        from tandem.use.port import WORKER, port

    names = read_names(names) if names else None
    with at_work("converting"), Workers(WORKER) as workers:
        made = port(source, target, network, workers, override or (), names, num_classes, force, anyway)
    if made.written:
        console.print(f"{source} -> {target}: {made.arrays} arrays of weights and statistics, {made.numbers:,} numbers")
    else:
        errors.print(f"{source}: the networks of {network} differ, so {target} is not written; see --anyway")
    for line in made.lines():
        (console if made.passed else errors).print(f"  {line}")
    if not made.written:
        raise typer.Exit(1)
