"""tandem certify."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from tandem.commands.cli import OwnNetwork, PythonPaddle, PythonTensorFlow, at_work, interpreters, with_network

import typer


class Precision(StrEnum):
    """The precisions of a certificate: those that both frameworks support on every device."""

    float64 = "float64"
    float32 = "float32"


def certify(
    network: Annotated[
        str,
        typer.Argument(
            help="A network's name, a config, a checkpoint, a run folder, or your own mynet.py with its builders."
        ),
    ],
    override: Annotated[
        list[str] | None, typer.Option("-o", metavar="KEY=VALUE", help="Set one key, e.g. network.lrn=true.")
    ] = None,
    own: OwnNetwork = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps from the initial state. Default: 8; large networks fewer.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Images in a step.")] = 5,
    device: Annotated[str | None, typer.Option(help="auto, cpu, gpu or gpu:N; short for -o device=...")] = None,
    precision: Annotated[Precision, typer.Option(help="Precision of the comparison.")] = "float64",
    names: Annotated[
        Path | None,
        typer.Option(help="Of your own network: a YAML map of layers, Paddle's name: TensorFlow's; may be in part."),
    ] = None,
    show_pairing: Annotated[
        bool, typer.Option("--show-pairing", help="Show which layers are the same, and how that was found.")
    ] = False,
    strict: Annotated[
        bool, typer.Option(help="Exit code 1 also if the two are the same up to float32 constants.")
    ] = False,
    count: Annotated[
        int,
        typer.Option("--workers", min=1, help="Also compare so many workers with one process, in each framework."),
    ] = 1,
    output: Annotated[
        Path | None, typer.Option(help="Where to write the certificate. Default: certificates/NETWORK.")
    ] = None,
    python_paddle: PythonPaddle = None,
    python_tensorflow: PythonTensorFlow = None,
):
    """Verify that a network computes the same in both frameworks; exit code 1 if it does not."""
    with at_work("starting"):
        from tandem.certify import replicas, report
        from tandem.certify.certificate import DRAWN_STEPS
        from tandem.certify.pairing import read_names
        from tandem.certify.steps import STEPS, WORKER, certify
        from tandem.certify.subject import subject
        from tandem.core import files
        from tandem.frameworks.workers import Workers

        from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    overrides = [*with_network(override, own), *([f"device={device}"] if device else [])]
    settings, state = subject(network, overrides)
    folder = output or Path("certificates", Path(network).stem)
    files.check_folder(folder)
    with (
        at_work("certifying", (steps or STEPS) + DRAWN_STEPS) as report_steps,
        Workers(WORKER, interpreters(python_paddle, python_tensorflow)) as workers,
    ):
        certificate = certify(
            network,
            settings,
            workers,
            steps,
            batch_size,
            precision,
            state,
            report=report_steps,
            names=names and read_names(names),
        )
    report.save(certificate, folder, overrides)
    if show_pairing and certificate.pairing is not None:
        console.print(report.pairing_table(certificate))
    console.print(report.to_table(certificate))
    for line in [*report.verdict(certificate), f"Certificate: {folder / 'certificate.html'}"]:
        console.print(line)
    with at_work("certifying the workers"):
        shared = replicas.certify_workers(settings, count, state, interpreters(python_paddle, python_tensorflow))
    for line in replicas.to_lines(shared):
        console.print(line)
    passed = certificate.passed and all(result["passed"] for result in shared.values())
    if not passed or (strict and certificate.verdict != "identical"):
        raise typer.Exit(1)
