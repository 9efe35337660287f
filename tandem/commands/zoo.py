"""tandem zoo."""

from typing import Annotated

from tandem.commands.cli import at_work

import typer


def zoo(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Which. Default: all.")] = None,
):
    """Certify the networks that both frameworks ship; exit code 1 if an adapted pair differs.

    Writes results/zoo.json, and from it docs/zoo.md and docs/zoo.zh.md; of the networks not named, these keep what
    they have.
    """
    with at_work("starting"):
        from tandem.certify.steps import WORKER
        from tandem.certify.zoo import certified, page
        from tandem.core import files
        from tandem.core.paths import ROOT
        from tandem.frameworks.workers import Workers

        from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    selected, found = page.chosen(names), {}
    page.load()  # before the work, so that a file that cannot be read shows
    for network in selected:
        with (
            at_work(network, len(certified.PAIRS) * certified.steps()) as report,
            Workers(WORKER) as workers,  # anew, for the memory
        ):
            found[network] = certified.certify_network(
                network,
                workers,
                lambda pair, done, network=network, report=report: report(done, f"{network}, {pair}"),
            )
        # Read anew: another tandem zoo may have written.
        files.write_file(ROOT / page.DATA, page.dumped({**page.load(), network: found[network]}).encode())
    console.print(page.table(found))
    for path, text in page.pages(page.load()).items():
        files.write_file(path, text.encode())
        console.print(f"Written: {path.relative_to(ROOT)}")
    if not all(map(certified.right, found.values())):
        raise typer.Exit(1)
