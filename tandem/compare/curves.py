"""Finished runs side by side."""

import itertools
import math
from pathlib import Path
from statistics import median

from tandem.config import yaml_text
from tandem.core.errors import UserError
from tandem.training.recorder import TESTED, read_metrics

from rich.table import Table

DECIDE_BATCHES = ("data", "seed", "batch_size", "epochs", "schedule", "optimizer")
"""The settings that decide which batches and learning rates a run receives."""


def read_runs(folders, epochs=None):
    """The records of each run folder's metrics.jsonl, by the folder's name; where `epochs` is given, only of so many.

    Raises:
        UserError: a folder holds no run, or one without a finished epoch.
    """
    runs = {}
    for folder in folders:
        records = _up_to(epochs or math.inf, read_metrics(Path(folder) / "metrics.jsonl"))
        if not any(record["kind"] == "epoch" for record in records):
            raise UserError(f"{folder}: holds no run with a finished epoch; give the --run-dir of a training run")
        name = Path(folder).name
        runs[name if name not in runs else str(folder)] = records
    return runs


def read_settings(folders, labels):
    """The settings of each run folder, as dicts, by `labels`; None where there are none.

    Raises:
        UserError: a config.yaml cannot be read.
    """
    found = {}
    for label, folder in zip(labels, folders, strict=True):
        path = Path(folder, "config.yaml")
        values = yaml_text.read(yaml_text.text_of(path, "config"), path) if path.is_file() else None
        found[label] = values if isinstance(values, dict) else None
    return found


def side_by_side(runs):
    """A rich Table of `runs` (label to records): one column a run, and the difference where there are two.

    Of the last epoch that all of them finished, and of what was before it.
    """
    epoch = min(max(record["epoch"] for record in records if record["kind"] == "epoch") for records in runs.values())
    runs = {label: _up_to(epoch, records) for label, records in runs.items()}
    table = Table()
    table.add_column(f"up to epoch {epoch}")
    for label in runs:
        table.add_column(label, justify="right")
    if len(runs) == 2:
        table.add_column("difference", justify="right")
    for title, form, figure in FIGURES:
        figures = [figure(records) for records in runs.values()]
        if all(map(math.isnan, figures)):
            continue
        if len(figures) == 2:
            figures.append(abs(figures[0] - figures[1]))
        table.add_row(title, *("-" if math.isnan(value) else format(value, form) for value in figures))
    return table


def first_received_differently(first, second):
    """The step by which two runs had received other batches or learning rates, or None.

    Args:
        first, second: records of metrics.jsonl. They tell by their digest, `received`, at the steps of both.
    """
    ours, theirs = (
        {record["step"]: record["received"] for record in records if "received" in record}
        for records in (first, second)
    )
    return next((step for step in sorted(ours.keys() & theirs.keys()) if ours[step] != theirs[step]), None)


def check_received(runs, settings):
    """Refuse to compare runs that should have received the same batches and learning rates, and did not.

    Args:
        runs: label to records.
        settings: label to the run's settings, as a dict, or None where they are not known.

    Raises:
        UserError: two runs of the same settings received different ones.
    """
    for (first, records), (second, others) in itertools.combinations(runs.items(), 2):
        known = settings[first] and settings[second]
        alike = known and all(settings[first].get(key) == settings[second].get(key) for key in DECIDE_BATCHES)
        step = first_received_differently(records, others) if alike else None
        if step is not None:
            raise UserError(
                f"{second}: by step {step} it had received other batches or learning rates than {first}, of the same "
                "settings; they cannot be compared: train one of them again"
            )


def _up_to(epoch, records):
    return [record for record in records if record["epoch"] <= epoch]


def _of_last_epoch(part, name):
    """NaN where the run was not configured to have it, or begins after this epoch."""

    def figure(records):
        ends = [record for record in records if record["kind"] == "epoch"]
        return ends[-1].get(part, {}).get(name, math.nan) if ends else math.nan

    return figure


def _first_loss(records):
    """NaN where the run went on from a checkpoint of another."""
    return records[0].get("loss", math.nan) if records and records[0]["step"] == 1 else math.nan


def images_per_second(records):
    """The first log line's speed is that of compiling, so it counts only where there is no other. NaN without any."""
    speeds = [record["images_per_second"] for record in records if record["kind"] == "batch"]
    return median(speeds[1:] or speeds or [math.nan])


FIGURES = (
    ("loss of the first step", ".7f", _first_loss),
    ("training loss, last epoch", ".4f", _of_last_epoch("train", "loss")),
    ("test loss, last epoch", ".4f", _of_last_epoch("test", "loss")),
    *((f"{title} accuracy, last epoch", ".2%", _of_last_epoch(part, "accuracy")) for part, title in TESTED.items()),
    ("test top-5, last epoch", ".2%", _of_last_epoch("test", "top5")),
    ("training images/s", ",.0f", images_per_second),
)
