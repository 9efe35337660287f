"""The command line, `tandem COMMAND` or `python -m tandem COMMAND`: registers the commands, nothing else.

Each command imports what it needs when it runs, so that --help is quick.
"""

from typing import Annotated

import tandem
from tandem.commands import (
    benchmark,
    certify,
    classify,
    compare,
    convert,
    curves,
    data,
    evaluate,
    export,
    features,
    init,
    results,
    summary,
    train,
    traps,
    zoo,
)
from tandem.commands.cli import run

import typer

COMMANDS = (
    train.train,
    certify.certify,
    init.init,
    compare.compare,
    curves.curves,
    benchmark.benchmark,
    convert.convert,
    evaluate.evaluate,
    classify.classify,
    features.features,
    summary.summary,
    data.data,
    export.export,
    traps.traps,
    zoo.zoo,
    results.results,
)
"""In the order in which a newcomer meets them, which is that of --help."""

# A shell completes the installed command; `python -m tandem`, where this module is __main__, is none to it.
app = typer.Typer(
    no_args_is_help=True,
    add_completion=__name__ != "__main__",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
)
for command in COMMANDS:
    app.command()(command)


def show_version(asked):
    """Show the version and end, where --version was given."""
    if asked:
        print(f"tandem {tandem.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
):
    """The same CNN in PaddlePaddle and in TensorFlow."""


def main():
    """What the installed command `tandem` runs."""
    run(app)


if __name__ == "__main__":
    main()
