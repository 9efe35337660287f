"""tandem train, and the command line of the training scripts."""

from pathlib import Path
from typing import Annotated

from tandem.commands.cli import CONFIGS, Framework, make_app, run
from tandem.core.errors import UserError

import typer


def train_script(default, only=None):
    """The command line of a training script.

    Args:
        default: the file in configs/ that it trains from when none is named.
        only: the framework of a script that has but one. The others take --framework.
    """
    app = make_app()

    @app.command()
    def train(
        framework: Annotated[Framework, typer.Option(hidden=only is not None, help="The framework.")] = only or ...,
        config: Annotated[
            Path | None, typer.Option(help=f"The YAML file. Default: configs/{default}, or the resumed run's own.")
        ] = None,
        override: Annotated[
            list[str] | None,
            typer.Option("-o", metavar="KEY=VALUE", help="Set one key, e.g. optimizer.learning_rate=0.05."),
        ] = None,
        resume: Annotated[
            Path | None,
            typer.Option(help="A run folder, to go on in it from its newest whole checkpoint; or one checkpoint."),
        ] = None,
        run_dir: Annotated[
            Path | None, typer.Option(help="Where to write. Default: a new folder in runs/, or the resumed run's.")
        ] = None,
        device: Annotated[str | None, typer.Option(help="auto, cpu, gpu or gpu:N; short for -o device=...")] = None,
    ):
        """Train the network that the config names, on the images that it names."""
        if only and framework != only:
            raise UserError(f"--framework {framework}: this script has {only} only; run its twin")
        if not (config or resume):
            config = CONFIGS / default
        overrides = [*(override or []), *([f"device={device}"] if device else [])]
        train_from(str(framework), config, overrides, resume, run_dir)

    run(app)


def train_from(framework, config_path, overrides, resume, run_dir):
    """Train as the command line says; exits with code 130 when a signal stopped the run.

    Raises:
        UserError: for any bad input.
    """
    from tandem.config.load import check_config, load_config, overridden
    from tandem.training import checkpoint
    from tandem.training.loop import Run

    from rich.console import Console

    console = Console(soft_wrap=True, markup=False, highlight=False)
    if resume is None:
        resumed = None
        settings = load_config(config_path, overrides)
        run_dir = run_dir or _new_folder(f"{config_path.stem}-{framework}")
    else:
        resumed = checkpoint.find(resume, lambda line: console.print(f"warning: {line}"))
        path, _, metadata = resumed
        run_dir = run_dir or (resume if resume.is_dir() else _new_folder(f"{resume.stem}-{framework}"))
        if config_path:
            settings = load_config(config_path, overrides)
        else:
            settings = check_config(overridden(metadata["config"], overrides), str(path))
    goes_on = resume is not None and run_dir.resolve() == resume.resolve()
    if not goes_on and run_dir.is_dir() and any(run_dir.iterdir()):
        raise UserError(f"{run_dir}: holds something already; --resume it if it is a run, or choose another --run-dir")

    training = Run(settings, framework, run_dir, resumed, console)
    if resumed:
        console.print(
            f"Resuming from {path} (written by {metadata['framework']}): "
            f"{metadata['epoch']} passes and {metadata['batch']} batches done"
        )
    finished = training.train()
    console.print(f"{'Done' if finished else 'Stopped; go on with --resume'}: {run_dir}")
    if not finished:
        raise typer.Exit(130)


def _new_folder(name):
    """The first of runs/NAME, runs/NAME-2, ... that is not there yet."""
    folder, number = Path("runs", name), 2
    while folder.exists():
        folder, number = Path("runs", f"{name}-{number}"), number + 1
    return folder
