"""tandem compare."""

from pathlib import Path
from typing import Annotated

from tandem.commands.cli import PythonPaddle, PythonTensorFlow, at_work, interpreters

import typer


def compare(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of a shipped config.")],
    override: Annotated[
        list[str] | None, typer.Option("-o", metavar="KEY=VALUE", help="Set one key, e.g. epochs=3 or device=gpu.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs in each framework. A verdict needs at least three.")] = 1,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Compare even if the certificate fails; the page says so.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that train together in each run. They are certified first, too.")
    ] = 1,
    output: Annotated[
        Path | None, typer.Option(help="The folder to write to, or to resume in. Default: comparisons/CONFIG.")
    ] = None,
    python_paddle: PythonPaddle = None,
    python_tensorflow: PythonTensorFlow = None,
):
    """Certify a config, train it in both frameworks, and compare them. One seed gives no verdict.

    Exit code 1 if they do not compute the same. The same command resumes what was stopped.
    """
    with at_work("starting"):
        from tandem.certify import replicas
        from tandem.certify.certificate import DRAWN_STEPS
        from tandem.certify.report import verdict
        from tandem.certify.steps import STEPS
        from tandem.compare import comparison
        from tandem.compare import report as comparison_report
        from tandem.config.load import check_config

        from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    folder = output or Path("comparisons", config.stem)
    pythons = interpreters(python_paddle, python_tensorflow)
    with at_work("certifying", STEPS + DRAWN_STEPS) as report_steps:
        found = comparison.begin(config, override or (), folder, seeds, pythons, report_steps, workers)
    with at_work("certifying the workers"):
        shared = replicas.certify_workers(check_config(found.settings, found.name), workers, pythons=pythons)
    for line in [*verdict(found.certificate), *replicas.to_lines(shared)]:
        console.print(line)
    same = found.certificate.passed and all(result["passed"] for result in shared.values())
    if same or anyway:
        try:
            comparison.run(found, folder, pythons, console.print)
        except comparison.Stopped:
            console.print("Stopped; the same command resumes")
            raise typer.Exit(130) from None
        console.print(comparison_report.to_table(found))
    with at_work("drawing"):
        comparison_report.save(found, folder)
    for line in [*comparison.verdicts(found), f"Report: {folder / 'report.html'}"]:
        console.print(line)
    if not same:
        raise typer.Exit(1)
