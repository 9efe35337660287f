"""tandem results."""

from typing import Annotated

from tandem.commands.cli import at_work

import typer


def results(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 if a page is stale.")] = False,
):
    """Write docs/results.md and docs/zoo.md, the README's table and docs/growth.png from results/*.json."""
    with at_work("starting"):
        from tandem.certify.zoo import page
        from tandem.core import files
        from tandem.core.paths import ROOT
        from tandem.report import costs
        from tandem.report.results import written

    with at_work("writing"):
        stale = [
            (path, text)
            for path, text in {**written(ROOT), **page.pages(page.load(ROOT), ROOT)}.items()
            if not path.exists() or path.read_text(encoding="utf-8") != text
        ]
    for path, text in stale:
        if not check:
            files.write_file(path, text.encode())
        print(f"{'Stale' if check else 'Written'}: {path.relative_to(ROOT)}")
    if costs.draw(ROOT, check):
        stale.append(ROOT / "docs" / "growth.png")
        print(f"{'Stale' if check else 'Written'}: docs/growth.png")
    if not stale:
        print("All pages are as results/*.json has it.")
    elif check:
        raise typer.Exit(1)
