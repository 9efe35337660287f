"""tandem train, and the command line of the training scripts: the same options, written once."""

import contextlib
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from tandem.commands.cli import Framework, OwnNetwork, Voice, make_app, run, with_network
from tandem.core.errors import UserError
from tandem.core.patience import company

import typer


def _command(config_parameter, framework_parameter, default=None, only=None, script=None):
    """The function behind a command line that trains.

    Args:
        config_parameter, framework_parameter: what typer is told of these two, in which command and scripts differ.
        default: the shipped config to train from when neither a config nor a run to resume is named.
        only: the framework of a script that has but one.
        script: a script's file; it trains only the networks in it.
    """

    def train(
        config: Annotated[str | None, config_parameter] = None,
        framework: Annotated[Framework, framework_parameter] = only or ...,
        override: Annotated[
            list[str] | None,
            typer.Option("-o", metavar="KEY=VALUE", help="Set one key of the config, e.g. optimizer.momentum=0.8."),
        ] = None,
        epochs: Annotated[int | None, typer.Option(help="Short for -o epochs=...")] = None,
        lr: Annotated[float | None, typer.Option("--lr", help="Short for -o optimizer.learning_rate=...")] = None,
        batch_size: Annotated[int | None, typer.Option(help="Short for -o batch_size=...")] = None,
        seed: Annotated[int | None, typer.Option(help="Short for -o seed=...")] = None,
        device: Annotated[str | None, typer.Option(help="auto, cpu, gpu or gpu:N; short for -o device=...")] = None,
        resume: Annotated[
            Path | None,
            typer.Option(help="A run folder, to go on in it from its newest whole checkpoint; or one checkpoint."),
        ] = None,
        network: OwnNetwork = None,
        run_dir: Annotated[
            Path | None, typer.Option(help="Where to write. Default: a new folder in runs/, or the resumed run's.")
        ] = None,
        workers: Annotated[
            int,
            typer.Option(
                min=1, help="Processes on this host that share every batch: one a GPU, or a share of the cores."
            ),
        ] = 1,
    ):
        """Train the network that a config names, on the images that it names."""
        if only and framework != only:
            raise UserError(f"--framework {framework}: this script has {only} only; run its twin")
        short = {
            "epochs": epochs,
            "optimizer.learning_rate": lr,
            "batch_size": batch_size,
            "seed": seed,
            "device": device,
        }
        overrides = [
            *with_network(override, network),
            *(f"{key}={value}" for key, value in short.items() if value is not None),
        ]
        if not (config or resume):
            config = default
        train_from(str(framework), config, overrides, resume, run_dir, script, workers)

    return train


train = _command(
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file, or the name of a shipped config such as quickstart. With --resume the default is the run's "
        "own.",
    ),
    typer.Option(help="The framework."),
)


def train_script(file, default, only=None):
    """The command line of a training script. It ends the process, and does not return.

    Args:
        file: the script.
        default: the shipped config that it trains from when none is named.
        only: the framework of a script that has but one. The others take --framework.
    """
    app = make_app()
    config = typer.Option(
        help=f"A YAML file, or the name of a shipped config. Default: {default}, or the resumed run's own."
    )
    framework = typer.Option(hidden=only is not None, help="The framework.")
    app.command()(_command(config, framework, default, only, Path(file).name))
    run(app)


def train_from(framework, config, overrides, resume, run_dir, script=None, workers=1):
    """Train as the command line says; exits with code 130 when a signal stopped the run.

    What can be refused without a framework and without the images is refused first, and what the run is for is said,
    for loading those takes seconds.

    With `workers`, that is all that this process does; they train. Each of them comes here, too, as does each process
    of a framework's launcher. Of these only rank 0 says and writes something.

    Raises:
        UserError: for any bad input.
    """
    from tandem.config.load import check_config, find_config, load_config
    from tandem.frameworks.environment import place_in_job
    from tandem.frameworks.jobs import stay_in_touch
    from tandem.training import checkpoint, run_folder, trust

    from rich.console import Console

    stay_in_touch()
    rank, count = place_in_job(framework)
    quiet = rank > 0 or workers > 1
    console = Console(file=Voice(), soft_wrap=True, markup=False, highlight=False, quiet=quiet)
    if workers > 1 and count > 1:
        raise UserError(f"--workers {workers}: a launcher has started this process as one of {count}; leave it out")
    if not (config or resume):
        raise UserError("CONFIG: missing; name a YAML file or a shipped config such as quickstart, or --resume a run")
    config = find_config(config) if config else None
    if resume is None:
        resumed = None
        settings = load_config(config, overrides)
        run_dir = run_dir or _new_folder(f"{config.stem}-{framework}")
    else:
        if resume.is_dir():
            run_folder.check(resume)
        resumed = checkpoint.find(resume, lambda line: console.print(f"warning: {line}"))
        path, arrays, metadata = resumed
        run_dir = run_dir or (resume if resume.is_dir() else _new_folder(f"{resume.stem}-{framework}"))
        if config:
            settings = load_config(config, overrides)
        else:
            settings = trust.settings_of(path, arrays, metadata, overrides)
            trust.check_data(path, metadata, overrides)
    _check_script(script, settings.network, framework, config or resume)
    goes_on = resume is not None and run_dir.resolve() == resume.resolve()
    taken = run_dir.is_dir() and not run_folder.holds_no_more_than_a_beginning(run_dir)
    if rank == 0 and not goes_on and taken:
        raise UserError(f"{run_dir}: holds something already; --resume it if it is a run, or choose another --run-dir")

    if workers > 1:
        if settings.device.startswith("gpu:"):
            raise UserError(f"device: {settings.device} is one GPU, and each worker has its own; say gpu")
        again = ["--framework", framework, "--run-dir", str(run_dir)]
        again += [part for override in overrides for part in ("-o", override)]
        again += ["--resume", str(resume)] if resume else []
        return _start_workers(framework, workers, [*([str(config)] if config else []), *again])
    with _claimed(run_dir) if rank == 0 else contextlib.nullcontext():
        console.print(_head(settings, framework, run_dir, count))
        if resumed:
            then = check_config(metadata["config"], str(path))
            for line in _resuming(path, metadata, settings, then):
                console.print(line)
            kept = [f"epochs={settings.epochs}", *(one for one in overrides if one.startswith("network.file="))]
            if metadata["epoch"] >= settings.epochs and settings == trust.settings_of(path, arrays, metadata, kept):
                return  # but where other settings have changed, the network tells whether they fit
        console.print(_awaited(settings, framework))
        with company(console.print, lambda: "still loading"):
            from tandem.training.loop import Run

            training = Run(settings, framework, run_dir, resumed, console)
        finished = training.train()
    console.print(f"Done: {run_dir}" if finished else f"Stopped; go on with --resume {shlex.quote(str(run_dir))}")
    if not finished:
        raise typer.Exit(130)


def _start_workers(framework, workers, arguments):
    """Train in a job of `workers` processes, each with the command line `arguments`. Exits as they do.

    Raises:
        UserError: what one of them said.
    """
    from tandem.core.signals import stop_request
    from tandem.frameworks.jobs import Job, JobFailed

    command = [sys.executable, "-m", "tandem", "train", *arguments]
    try:
        with stop_request() as stop, Job(framework, workers, command, shown=True) as job:
            code = job.wait(lambda: stop.is_set)
    except JobFailed as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    if code:
        raise typer.Exit(code)


def _check_script(script, network, framework, origin):
    """Refuse a network of another file than `script`; None stands for `tandem train`, which trains any."""
    file = f"{network.builders[framework].rpartition(':')[0].removesuffix('.py')}.py"
    if script is None or (file == script and network.name != "own"):
        return
    what = f"a network of your own, {file}" if network.name == "own" else f"the network {network.name}"
    scripts = "" if network.name == "own" else f"{file} or "
    raise UserError(f"{origin}: is of {what}, which {script} does not hold; use {scripts}python -m tandem train")


@contextlib.contextmanager
def _claimed(folder):
    """In it, `folder` is there and can be written, as must be known before the wait. If nothing is written, it goes.

    Raises:
        UserError: it cannot be made or written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another --run-dir") from error
        yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # it is not empty, or never came to be
                path.rmdir()


def _head(settings, framework, run_dir, count):
    """What is about to be trained, as asked for, by `count` processes."""
    from tandem.frameworks.base import TITLES
    from tandem.frameworks.environment import cpu_threads

    network = getattr(settings.network, "file", settings.network.name)  # of one's own: its file
    workers = f"workers {count}  " if count > 1 else ""
    return (
        f"network {network}  framework {TITLES[framework]}  {workers}device {settings.device}  "
        f"threads {cpu_threads(settings)}  precision {settings.precision}  run folder {run_dir}"
    )


def _awaited(settings, framework):
    """What the user waits for until training begins."""
    from tandem.frameworks.base import TITLES

    data = settings.data
    images = {"cifar10": "CIFAR-10", "digits": "the digits", "folder": f"the images in {data.directory}"}
    return f"Loading {TITLES[framework]}, reading {images[data.source]} ..."


def _resuming(path, metadata, settings, then):
    """Lines on where a resumed run stands, and how its schedule differs from that of its checkpoint.

    Args:
        path, metadata: the checkpoint.
        settings: those in force.
        then: those of the checkpoint.
    """
    done = f"{metadata['epoch']} epoch{'' if metadata['epoch'] == 1 else 's'} done"
    if metadata["batch"]:
        done += f", and {metadata['batch']} of {metadata['steps_per_epoch']} steps of the next"
    lines = [f"Resuming from {path} (written by {metadata['framework']}): {done}"]
    if metadata["epoch"] >= settings.epochs:
        return [*lines, f"Nothing left to do: the run has {settings.epochs} epochs; go on with -o epochs=N"]
    return [*lines, *_changes(settings, then)]


def _changes(settings, then):
    """At most one line on how the learning rates differ from those that the checkpoint was made for."""
    before, after = ({"optimizer.learning_rate": one.optimizer.learning_rate} for one in (then, settings))
    if then.schedule.name != settings.schedule.name:
        before["schedule"], after["schedule"] = then.schedule.name, settings.schedule.name
    else:
        for values, schedule in ((before, then.schedule), (after, settings.schedule)):
            values |= {f"schedule.{key}": value for key, value in schedule.model_dump(mode="json").items()}
    changed = [f"{key} {after[key]} (was {before[key]})" for key in before if before[key] != after[key]]
    if changed:
        if then.epochs != settings.epochs:
            changed.append(f"epochs {settings.epochs} (was {then.epochs})")
        return [f"Schedule changed: {', '.join(changed)}"]
    factor = settings.schedule.factor
    if any(factor(epoch, then.epochs, 0) != factor(epoch, settings.epochs, 0) for epoch in range(then.epochs + 1)):
        how = "stretched" if settings.epochs > then.epochs else "compressed"
        return [f"Schedule {how}: {settings.epochs} epochs, the checkpoint was made for {then.epochs}"]
    return []


def _new_folder(name):
    """The first of runs/NAME, runs/NAME-2, ... that is not there yet."""
    folder, number = Path("runs", name), 2
    while folder.exists():
        folder, number = Path("runs", f"{name}-{number}"), number + 1
    return folder
