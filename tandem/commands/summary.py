"""tandem summary."""

from typing import Annotated

from tandem.commands.cli import OwnNetwork, at_work, warn, with_network

import typer


def summary(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK", help="A network's name, a config, a checkpoint, a run folder, or your own mynet.py."
        ),
    ],
    override: Annotated[
        list[str] | None, typer.Option("-o", metavar="KEY=VALUE", help="Set one key, e.g. network.depth=32.")
    ] = None,
    own: OwnNetwork = None,
    num_classes: Annotated[
        int | None, typer.Option(min=1, help="Length of the logits. Default: as many as the data has classes.")
    ] = None,
):
    """Show the layers of both twins side by side: output shape, parameters, MACs."""
    import sys

    with at_work("starting"):
        from tandem.certify.steps import WORKER
        from tandem.frameworks.workers import Workers
        from tandem.use import summary

        from rich.console import Console

    with at_work("building the networks"), Workers(WORKER) as workers:
        found = summary.summarize(network, with_network(override, own), workers, num_classes, warn)
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
    console.print(summary.to_table(found, network))
    for line in summary.verdict(found):
        console.print(line, soft_wrap=True)
