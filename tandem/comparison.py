"""The articles' comparison, done fairly: only of what is certified to be the same, and only as far as the seeds allow.

Each run is the training script's own, in a process of its own, one after the other; which framework goes first changes
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

import numpy as np
from scipy.stats import ttest_ind

from tandem import benchmark, certificate, certificate_report, checkpoint, config, networks, summary
from tandem.errors import UserError
from tandem.recorder import TESTED, read_metrics
from tandem.workers import FRAMEWORKS, ROOT, Workers

CONFIDENCE = 0.95
"""Of the intervals on which verdicts rest."""


class Stopped(Exception):
    """A signal stopped a run; the same command goes on with it."""


@dataclasses.dataclass
class Comparison:
    """What was compared, and what came of it.

    Attributes:
        name: of the config.
        settings: the config in force, as a dict.
        seeds: of the runs.
        certificate: a `tandem.certificate.Certificate`. Where it failed and there are runs, they were asked for anyway.
        layers: by framework, the sums of `parameters`, `statistics` and `multiply_adds` (of one image).
        made, machine: when (ISO 8601), and on what.
        commands: by framework, what trained it, for a shell.
        environments: by framework, the device settings and versions in force.
        runs: see `read_run`.
        target: the test accuracy to which training is timed: whole percent that every run reached; or None.
    """

    name: str
    settings: dict
    seeds: list
    certificate: certificate.Certificate
    layers: dict
    made: str
    machine: dict
    commands: dict = dataclasses.field(default_factory=dict)
    environments: dict = dataclasses.field(default_factory=dict)
    runs: list = dataclasses.field(default_factory=list)
    target: float | None = None

    def values(self, key):
        """By framework, the figure `key` of each of its runs; None where a run does not have it."""
        return {
            framework: [run["figures"].get(key) for run in self.runs if run["framework"] == framework]
            for framework in FRAMEWORKS
        }

    def to_dict(self):
        """As plain values, for JSON; with the mean and deviation of each figure, and the verdicts."""
        spread = {key: {name: mean_and_deviation(values) for name, values in self.values(key).items()} for key in KEYS}
        plain = {**dataclasses.asdict(self), "certificate": self.certificate.to_dict()}
        return {**plain, "spread": spread, "verdicts": verdicts(self)}


KEYS = (*TESTED, "test_loss", "train_loss", "epoch_seconds", "images_per_second", "seconds_to_target", "peak_memory")
"""The figures of a run. Accuracies and losses are of the last epoch; `test_flip` and the like are there where the
config asks for them. `epoch_seconds`: training, without testing, of the median epoch. `images_per_second`: in the
median log line. `seconds_to_target`: of training, until the end of the first epoch that tested at `target`.
`peak_memory`: bytes."""


def begin(path, overrides, folder, seeds, pythons, report=None):
    """Certify a config, and take `folder` for its comparison: a `Comparison` without runs.

    Args:
        path: the YAML file.
        overrides: changes to it.
        folder: where to write; it may hold an unfinished comparison of the same settings.
        seeds: how many; they count from the config's own.
        pythons: by framework, the Python interpreter that has it; where it has no entry, this one.
        report: called with how many steps of the certificate are done; or None.

    Raises:
        UserError: bad input.
    """
    settings = config.load(path, overrides)
    _claim(Path(folder), settings)
    with Workers(pythons) as workers:
        found = certificate.certify(str(path), settings, workers, report=report)
        layers = summary.summarize(str(path), overrides, workers)
    certificate_report.save(found, Path(folder, "certificate"))
    return Comparison(
        name=Path(path).stem,
        settings=settings.model_dump(mode="json"),
        seeds=[settings.seed + number for number in range(seeds)],
        certificate=found,
        layers={framework: summary.totals(rows) for framework, rows in layers.items()},
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=benchmark.machine(),
    )


def run(comparison, folder, pythons, say=print):
    """Train in both frameworks with every seed, and enter what came of it.

    Args:
        comparison: what `begin` gave.
        folder, pythons: as there. Finished runs are left as they are, others go on.
        say: is told what begins.

    Raises:
        UserError: a run failed.
        Stopped: a signal stopped a run.
    """
    folder, settings = Path(folder), config.check(comparison.settings, comparison.name)
    for number, seed in enumerate(comparison.seeds):
        for framework in FRAMEWORKS[:: -1 if number % 2 else 1]:
            _train(folder, settings, framework, seed, pythons.get(framework, sys.executable), say)
    for framework in FRAMEWORKS:
        command = _command(settings.network, framework, "config.yaml", comparison.seeds[0])
        comparison.commands[framework] = shlex.join(["python", *command])
        for seed in comparison.seeds:
            finished, comparison.environments[framework] = read_run(_run_folder(folder, framework, seed))
            comparison.runs.append({"framework": framework, "seed": seed, **finished})
    _time_to_target(comparison)


def read_run(folder):
    """Of a finished run: its epochs and figures, and its environment.json.

    Returns:
        A dict: `epochs`, for each its `seconds` of training since the start, `test` and `train` (dicts of `accuracy`,
        `top5` and `loss`); and `figures`, see `KEYS`. And the environment as a dict.
    """
    records = read_metrics(folder / "metrics.jsonl")
    batches = [record for record in records if record["kind"] == "batch"]
    lasted = {}
    for record in batches:
        lasted[record["epoch"]] = lasted.get(record["epoch"], 0.0) + record["seconds"]
    seconds, epochs = 0.0, []
    ends = [record for record in records if record["kind"] == "epoch"]
    for record in ends:
        seconds += lasted[record["epoch"]]
        epochs.append({"seconds": seconds, "train": record["train"], "test": record["test"]})
    last = ends[-1]
    figures = {part: last[part]["accuracy"] for part in TESTED if part in last} | {
        "test_loss": last["test"]["loss"],
        "train_loss": last["train"]["loss"],
        "epoch_seconds": statistics.median(lasted.values()),
        "images_per_second": statistics.median(record["images_per_second"] for record in batches),
        "peak_memory": max(record["peak_memory"] or 0 for record in ends) or None,
    }
    return {"epochs": epochs, "figures": figures}, json.loads((folder / "environment.json").read_text())


def mean_and_deviation(values):
    """Mean and sample standard deviation of a figure over the seeds; None where there is none."""
    if not values or None in values:
        return {"mean": None, "deviation": None}
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "deviation": deviation}


def verdicts(comparison):
    """What may be said, as lines of text: Welch's t interval of the difference of the means, or why there is none."""
    if not comparison.runs:
        return ["Not compared: the certificate does not find them to be the same"]
    lines = []
    if not comparison.certificate.passed:
        lines.append("These are two different networks: what follows says nothing about the frameworks")
    if len(comparison.seeds) < 2:
        return [*lines, "No verdict: from one seed nobody can tell how far apart two are; --seeds 3 can"]
    paddle, tensorflow = comparison.values("test").values()
    low, high = difference(tensorflow, paddle)
    points = f"{CONFIDENCE:.0%} interval {100 * low:+.2f} to {100 * high:+.2f} points"
    if low <= 0 <= high:
        lines.append(f"Accuracy: no difference beyond that of the seeds (TensorFlow - Paddle: {points})")
    else:
        lines.append(f"Accuracy: {'TensorFlow' if low > 0 else 'Paddle'} is ahead (TensorFlow - Paddle: {points})")
    for key, what in (("epoch_seconds", "Time of an epoch"), ("peak_memory", "Peak memory")):
        logarithms = [np.log(values) for values in comparison.values(key).values() if None not in values]
        if len(logarithms) == 2:
            low, high = np.exp(difference(*logarithms))
            ratio = f"Paddle / TensorFlow: {CONFIDENCE:.0%} interval {low:.2f} to {high:.2f}"
            told = f"TensorFlow takes {'less' if low > 1 else 'more'}" if low > 1 or high < 1 else "no clear difference"
            lines.append(f"{what}: {told} ({ratio})")
    return lines


def difference(first, second):
    """Bounds of the `CONFIDENCE` interval of mean(first) - mean(second), by Welch's t-test, of two values or more."""
    if np.ptp(first) == np.ptp(second) == 0:  # no spread, no t
        return (np.mean(first) - np.mean(second),) * 2
    interval = ttest_ind(first, second, equal_var=False).confidence_interval(CONFIDENCE)
    return float(interval.low), float(interval.high)


def _claim(folder, settings):
    """Make the folder this comparison's.

    Raises:
        UserError: it holds another one, or something else, or cannot be written.
    """
    checkpoint.check_folder(folder)
    path = folder / "config.yaml"
    if path.exists():
        if config.load(path) != settings:
            raise UserError(f"{folder}: holds a comparison with other settings; choose another --output")
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds something else; choose another --output")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        config.save(settings, path)


def _run_folder(folder, framework, seed):
    return folder / "runs" / f"{framework}-seed{seed}"


def _command(network, framework, path, seed):
    """The training script, that of the network's builder (of a network of one's own any will do), and its arguments."""
    own = isinstance(network, networks.Own)
    script = "resnet_cifar" if own else network.builders[framework].partition(":")[0]
    return [f"{script}.py", "--framework", framework, "--config", str(path), "-o", f"seed={seed}"]


def _train(folder, settings, framework, seed, python, say):
    """Train until the run is done: from the start, or from where it was stopped."""
    run = _run_folder(folder, framework, seed)
    done = [record["epoch"] for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "epoch"]
    if done and done[-1] == settings.epochs:
        return
    script, *arguments = _command(settings.network, framework, folder / "config.yaml", seed)
    if checkpoint.newest_first(run / "checkpoints"):
        where = ["--resume", str(run)]
    else:
        shutil.rmtree(run, ignore_errors=True)  # it was killed before its first checkpoint
        where = ["--run-dir", str(run)]
    say(f"Training {framework}, seed {seed}")
    # A session of its own: Ctrl-C reaches it once, from here.
    try:
        process = subprocess.Popen([python, str(ROOT / script), *arguments, *where], start_new_session=True)
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
    """In it, Ctrl-C and SIGTERM go to `process`, which stops at a checkpoint; gives a list of those that came."""
    came = []

    def forward(number, frame):
        came.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _time_to_target(comparison):
    best = min(max(epoch["test"]["accuracy"] for epoch in run["epochs"]) for run in comparison.runs)
    comparison.target = math.floor(100 * best) / 100 or None
    for run in comparison.runs:
        reached = [epoch["seconds"] for epoch in run["epochs"] if epoch["test"]["accuracy"] >= (comparison.target or 0)]
        run["figures"]["seconds_to_target"] = reached[0] if comparison.target else None
