"""The articles' comparison, done fairly: only of what is certified to be the same, and only as far as the seeds allow.

Each run is one of `tandem train`, in a process of its own, one after the other; which framework goes first changes
from seed to seed. Whatever was done stays done: the same command goes on where it was stopped.
"""

import contextlib
import dataclasses
import json
import math
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from tandem.certify import report as certificate_report
from tandem.certify.certificate import Certificate
from tandem.certify.steps import WORKER, certify
from tandem.compare.curves import check_received, images_per_second
from tandem.config.load import check_config, load_config, save_config
from tandem.core import files
from tandem.core.errors import UserError, said
from tandem.core.machine import machine
from tandem.core.paths import child_environment
from tandem.core.processes import ends_with_this
from tandem.core.signals import STOPPING
from tandem.frameworks.base import FRAMEWORKS
from tandem.frameworks.layer_table import totals
from tandem.frameworks.workers import Workers
from tandem.training import checkpoint
from tandem.training.recorder import TESTED, read_metrics
from tandem.use import summary

import numpy as np
from scipy.stats import ttest_1samp, ttest_ind

CONFIDENCE = 0.95
"""Of the intervals on which verdicts rest."""

SEEDS = 3
"""The fewest for a verdict. The interval of two differences is 12.7 standard errors to either side, of a spread that is
as large as two numbers happen to be unlike."""

WHY_PAIRED = (
    "The intervals of the differences by seed decide: of one seed, both frameworks get the same batches and initial "
    "weights, and what these do to both cancels out. Welch's, beside them, take all runs as unrelated"
)


class Stopped(Exception):
    """A signal stopped a run; the same command goes on with it."""


@dataclasses.dataclass
class Comparison:
    """What was compared, and what came of it.

    Attributes:
        name: of the config.
        settings: the config in force, as a dict.
        seeds: of the runs.
        certificate: a `Certificate`. Where it failed and there are runs, they were asked for anyway.
        layers: by framework, the sums of `parameters`, `statistics` and `macs` (of one image).
        made, machine: when (ISO 8601), and on what.
        commands: what trained each framework with the first seed, and what does the whole again, for a shell.
        environments: by framework, the device settings and versions in force.
        runs: see `read_run`.
        target: the test accuracy to which training is timed: the highest whole percent that every run reached.
        workers: how many processes train together in each run.
    """

    name: str
    settings: dict
    seeds: list
    certificate: Certificate
    layers: dict
    made: str
    machine: dict
    commands: list = dataclasses.field(default_factory=list)
    environments: dict = dataclasses.field(default_factory=dict)
    runs: list = dataclasses.field(default_factory=list)
    target: float | None = None
    workers: int = 1

    def values(self, key):
        """By framework, the figure `key` of each of its runs; None where a run does not have it."""
        return {
            framework: [run["figures"].get(key) for run in self.runs if run["framework"] == framework]
            for framework in FRAMEWORKS
        }

    def to_dict(self):
        """As plain values, for JSON; with the mean and std of each figure, and the verdicts."""
        spread = {key: {name: mean_and_std(values) for name, values in self.values(key).items()} for key in KEYS}
        plain = {**dataclasses.asdict(self), "certificate": self.certificate.to_dict()}
        return {**plain, "spread": spread, "verdicts": verdicts(self)}


KEYS = (*TESTED, "test_loss", "train_loss", "epoch_seconds", "images_per_second", "seconds_to_target", "peak_memory")
"""The figures of a run. Accuracies and losses are of the last epoch; `test_flip` and the like are there where the
config asks for them. `epoch_seconds`: training, without testing, of the median epoch, the first left out where there
are others, for it compiles. `images_per_second`: in the median log line. `seconds_to_target`: of training, until the
end of the first epoch that tested at `target`. `peak_memory`: bytes."""


def begin(path, overrides, folder, seeds, pythons, report, count=1):
    """Certify a config, and take `folder` for its comparison: a `Comparison` without runs.

    Args:
        path: the YAML file.
        overrides: changes to it.
        folder: where to write; it may hold an unfinished comparison of the same settings.
        seeds: how many; they count from the config's own.
        pythons: by framework, the Python interpreter that has it; where it has no entry, this one.
        report: called with how many steps of the certificate are done.
        count: how many processes train together in each run.

    Raises:
        UserError: bad input.
    """
    folder, settings = Path(folder), load_config(path, overrides)
    _check_folder(folder, settings)
    with Workers(WORKER, pythons) as workers:
        # Layers first: a worker that fails its certificate may not answer any more.
        layers = summary.summarize(str(path), overrides, workers)
        found = certify(str(path), settings, workers, report=report)
    certificate_report.save(found, folder / "certificate", overrides)
    save_config(settings, folder / "config.yaml")
    return Comparison(
        name=Path(path).stem,
        settings=settings.model_dump(mode="json"),
        seeds=[settings.seed + number for number in range(seeds)],
        certificate=found,
        layers={framework: totals(rows) for framework, rows in layers.items()},
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(),
        workers=count,
    )


def run(comparison, folder, pythons, say):
    """Train in both frameworks with every seed, and enter what came of it.

    Args:
        comparison: what `begin` gave.
        folder, pythons: as there. Finished runs are left as they are, others go on.
        say: is told what begins.

    Raises:
        UserError: a run failed; the two frameworks received different batches or learning rates; or runs of a framework
            were made with different versions, devices or threads.
        Stopped: a signal stopped a run.
    """
    folder, settings = Path(folder), check_config(comparison.settings, comparison.name)
    for number, seed in enumerate(comparison.seeds):
        for framework in FRAMEWORKS[:: -1 if number % 2 else 1]:
            python = pythons.get(framework, sys.executable)
            _train(folder, settings, framework, seed, python, say, comparison.workers)
    for seed in comparison.seeds:
        folders = {framework: _run_folder(folder, framework, seed) for framework in FRAMEWORKS}
        records = {str(path): read_metrics(path / "metrics.jsonl") for path in folders.values()}
        check_received(records, dict.fromkeys(records, comparison.settings))
    for framework in FRAMEWORKS:
        for seed in comparison.seeds:
            finished, environment = read_run(_run_folder(folder, framework, seed))
            if comparison.environments.setdefault(framework, environment) != environment:
                raise UserError(
                    f"{_run_folder(folder, framework, seed)}: was made with other versions, threads or another device "
                    f"than that of seed {comparison.seeds[0]}; delete one of them, and it is made again"
                )
            comparison.runs.append({"framework": framework, "seed": seed, **finished})
        command = _command(framework, "config.yaml", comparison.seeds[0], comparison.workers)
        comparison.commands.append(shlex.join(["python", *command]))
    again = ["compare", "config.yaml", "--seeds", str(len(comparison.seeds)), *_together(comparison.workers)]
    comparison.commands.append(shlex.join(["python", "-m", "tandem", *again]))
    _time_to_target(comparison)


def read_run(folder):
    """Of a finished run: its epochs and figures, and its environment.json.

    Returns:
        A dict: `epochs`, for each that was tested its number, `epoch`, its `seconds` of training since the start,
        `test` and `train` (dicts of `accuracy`, `top5` and `loss`); and `figures`, see `KEYS`. And the environment as a
        dict.

    Raises:
        UserError: its files are damaged.
    """
    try:
        return _figures(read_metrics(folder / "metrics.jsonl")), json.loads((folder / "environment.json").read_text())
    except (OSError, ValueError, LookupError, RecursionError) as error:  # they are not what a run writes
        raise UserError(f"{folder}: is no finished run ({said(error)}); delete it, and it is made again") from error


def _figures(records):
    """The epochs and figures of a run, by its records."""
    lasted = {}
    for record in records:
        if record["kind"] == "batch":
            lasted[record["epoch"]] = lasted.get(record["epoch"], 0.0) + record["seconds"]
    seconds, epochs = 0.0, []
    ends = [record for record in records if record["kind"] == "epoch"]
    for record in ends:
        seconds += lasted[record["epoch"]]
        if "test" in record:
            epochs.append({"seconds": seconds, **{key: record[key] for key in ("epoch", "train", "test")}})
    last = ends[-1]
    figures = {part: last[part]["accuracy"] for part in TESTED if part in last} | {
        "test_loss": last["test"]["loss"],
        "train_loss": last["train"]["loss"],
        "epoch_seconds": statistics.median(list(lasted.values())[1:] or lasted.values()),
        "images_per_second": images_per_second(records),
        "peak_memory": max(record.get("peak_memory") or 0 for record in ends) or None,
    }
    return {"epochs": epochs, "figures": figures}


def mean_and_std(values):
    """Mean and sample std of a figure over the seeds; None where there is none."""
    if not values or None in values:
        return {"mean": None, "std": None}
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "std": std}


def verdicts(comparison):
    """What may be said, as lines of text: by the intervals of the paired differences, or why there is none."""
    if not comparison.runs:
        return ["Not compared: the certificate does not find them to be the same"]
    lines = []
    if not comparison.certificate.passed:
        lines.append("These are two different networks: what follows says nothing about the frameworks")
    if len(comparison.seeds) < SEEDS:
        few = "one seed nobody" if len(comparison.seeds) == 1 else f"{len(comparison.seeds)} seeds hardly anybody"
        return [*lines, f"No verdict: from {few} can tell how far apart two are; --seeds {SEEDS} can"]
    seeds = f"with {len(comparison.seeds)} seeds"
    paddle, tensorflow = comparison.values("test").values()
    interval = paired(tensorflow, paddle)
    if interval is None:
        lines.append("Test accuracy: no verdict, for the seeds show no spread; another test set, or more seeds")
    else:
        low, high = interval
        points = f"TensorFlow - Paddle: {_points(interval)} points; Welch's {_points(welch(tensorflow, paddle))}"
        ahead = "TensorFlow is ahead" if low > 0 else "Paddle is ahead" if high < 0 else f"not to be told apart {seeds}"
        lines.append(f"Test accuracy: {ahead} ({points})")
    timed = f"Training until it tests at {comparison.target:.0%}"
    for key, what in (("epoch_seconds", "Training an epoch"), ("seconds_to_target", timed), ("peak_memory", "Memory")):
        logarithms = [np.log(values) for values in comparison.values(key).values() if None not in values]
        interval = paired(*logarithms) if len(logarithms) == 2 else None
        if interval is not None:
            middle = logarithms[0].mean() - logarithms[1].mean()
            lines.append(f"{what}: {_ratio(*np.exp([*interval, middle]), np.exp(welch(*logarithms)), seeds)}")
    return [*lines, WHY_PAIRED]


def _points(interval):
    """An interval of accuracies in percentage points."""
    return f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"


def _ratio(low, high, middle, other, seeds):
    """In words, how many times what TensorFlow takes Paddle takes: the middle, its interval, and Welch's, `other`."""
    if high < 1:
        welchs = f"Welch's {1 / other[1]:.2f} to {1 / other[0]:.2f}"
        return f"TensorFlow takes {1 / middle:.2f} times what Paddle takes ({1 / high:.2f} to {1 / low:.2f}; {welchs})"
    welchs = f"Welch's {other[0]:.2f} to {other[1]:.2f}"
    if low > 1:
        return f"Paddle takes {middle:.2f} times what TensorFlow takes ({low:.2f} to {high:.2f}; {welchs})"
    if high / low > 10:
        return f"not to be told apart {seeds}: the seeds differ too much among themselves"
    return f"not to be told apart {seeds} (Paddle / TensorFlow: {low:.2f} to {high:.2f}; {welchs})"


def paired(first, second):
    """Bounds of the `CONFIDENCE` interval of the mean of first - second, by Student's t of the differences.

    The two are of the same seeds in the same order, two or more. None where the differences have no spread: then there
    is nothing to measure their mean by.
    """
    differences = np.subtract(first, second)
    if np.ptp(differences) < 1e-12:
        return None
    interval = ttest_1samp(differences, 0).confidence_interval(CONFIDENCE)
    return float(interval.low), float(interval.high)


def welch(first, second):
    """Bounds of the `CONFIDENCE` interval of mean(first) - mean(second), by Welch's t-test, of two values or more."""
    interval = ttest_ind(first, second, equal_var=False).confidence_interval(CONFIDENCE)
    return float(interval.low), float(interval.high)


def _check_folder(folder, settings):
    """Refuse a folder that holds another comparison, or something else, or cannot be written."""
    files.check_folder(folder)
    path = folder / "config.yaml"
    if path.exists() and not (folder / "metrics.jsonl").exists():  # which would be a run's
        if load_config(path) != settings:
            raise UserError(f"{folder}: holds a comparison with other settings; choose another --output")
    elif folder.is_dir() and any(
        file.name != "certificate" and not file.name.startswith(files.UNFINISHED) for file in folder.iterdir()
    ):
        raise UserError(f"{folder}: holds something else; choose another --output")


def _run_folder(folder, framework, seed):
    return folder / "runs" / f"{framework}-seed{seed}"


def _command(framework, path, seed, workers):
    """What trains a config in `framework`: the arguments of Python."""
    return ["-m", "tandem", "train", str(path), "--framework", framework, "--seed", str(seed), *_together(workers)]


def _together(workers):
    """The option of a command that has `workers` processes train together."""
    return ["--workers", str(workers)] if workers > 1 else []


def _train(folder, settings, framework, seed, python, say, workers=1):
    """Train until the run is done: from the start, or from where it was stopped."""
    run = _run_folder(folder, framework, seed)
    done = [record["epoch"] for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "epoch"]
    if done and done[-1] == settings.epochs:
        return
    command = [python, *_command(framework, folder / "config.yaml", seed, workers)]
    if checkpoint.all_in(run / "checkpoints"):
        where = ["--resume", str(run)]
    else:
        shutil.rmtree(run, ignore_errors=True)  # it was killed before its first checkpoint
        where = ["--run-dir", str(run)]
    say(f"Training {framework}, seed {seed}")
    # A session of its own: Ctrl-C reaches it once, from here. Killed with -9, this cannot stop it, but the kernel does.
    try:
        process = subprocess.Popen(
            [*command, *where], start_new_session=True, env=child_environment(), preexec_fn=ends_with_this()
        )
    except OSError as error:
        raise UserError(f"--python-{framework} {python}: {error.strerror}; name a Python") from error
    with _signals_to(process) as stopped:
        code = process.wait()
    if stopped:
        raise Stopped
    if code:
        raise UserError(f"{run}: training in {framework} failed (exit code {code}), as said above; see to that")


@contextlib.contextmanager
def _signals_to(process):
    """In it, `STOPPING` signals make `process` stop at a checkpoint; gives a list of those that came."""
    came = []

    def forward(number, frame):
        came.append(number)
        process.send_signal(signal.SIGINT)

    before = {number: signal.signal(number, forward) for number in STOPPING}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _time_to_target(comparison):
    best = min(max(epoch["test"]["accuracy"] for epoch in run["epochs"]) for run in comparison.runs)
    comparison.target = math.floor(round(100 * best, 6)) / 100
    for run in comparison.runs:
        reached = (epoch["seconds"] for epoch in run["epochs"] if epoch["test"]["accuracy"] >= comparison.target)
        run["figures"]["seconds_to_target"] = next(reached)
