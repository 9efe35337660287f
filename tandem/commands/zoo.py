"""tandem zoo."""

from typing import Annotated

import typer


def zoo(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Which. Default: all.")] = None,
):
    """Certify the networks that both frameworks ship; exit code 1 if an adapted pair differs.

    Writes results/zoo.json, and from it docs/zoo.md and docs/zoo.zh.md; of the networks not named, these keep what
    they have.
    """
    from tandem.certify.certificate import WORKER
    from tandem.certify.zoo import certified, page
    from tandem.core import files
    from tandem.core.paths import ROOT
    from tandem.frameworks.workers import Workers

    from rich.console import Console
    from rich.progress import Progress

    console, stderr = Console(highlight=False, soft_wrap=True), Console(stderr=True)
    selected, found = page.chosen(names), {}
    page.load()  # before the work, so that a file that cannot be read shows
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        for network in selected:
            bar = progress.add_task(network, total=len(certified.PAIRS) * certified.steps())
            with Workers(WORKER) as workers:  # anew, for the memory
                found[network] = certified.certify_network(
                    network,
                    workers,
                    lambda pair, done, bar=bar, network=network: progress.update(
                        bar, description=f"{network}, {pair}", completed=done
                    ),
                )
            progress.remove_task(bar)
            # Read anew: another tandem zoo may have written.
            files.write_file(page.DATA, page.dumped({**page.load(), network: found[network]}).encode())
    console.print(page.table(found))
    for path, text in page.pages(page.load()).items():
        files.write_file(path, text.encode())
        console.print(f"Written: {path.relative_to(ROOT)}")
    if not all(map(certified.right, found.values())):
        raise typer.Exit(1)
