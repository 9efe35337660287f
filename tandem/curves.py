"""Finished runs side by side."""

import math
from pathlib import Path
from statistics import median

from rich.table import Table

from tandem.errors import UserError
from tandem.recorder import TESTED, read_metrics


def read_runs(folders):
    """The records of each run folder's metrics.jsonl, by the folder's name.

    Raises:
        UserError: a folder holds no run, or one without a finished epoch.
    """
    runs = {}
    for folder in folders:
        records = read_metrics(Path(folder) / "metrics.jsonl")
        if not any(record["kind"] == "epoch" for record in records):
            raise UserError(f"{folder}: holds no run with a finished epoch; give the --run-dir of a training run")
        name = Path(folder).name
        runs[name if name not in runs else str(folder)] = records
    return runs


def side_by_side(runs):
    """A rich Table of `runs` (label to records): one column a run, and the difference where there are two."""
    table = Table()
    table.add_column("")
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


def _of_last_epoch(part, name):
    """NaN where the run was not configured to have it."""

    def figure(records):
        return [record for record in records if record["kind"] == "epoch"][-1].get(part, {}).get(name, math.nan)

    return figure


def _first_loss(records):
    """NaN where the run went on from a checkpoint of another."""
    return records[0]["loss"] if records[0]["step"] == 1 else math.nan


def images_per_second(records):
    """The first log line's speed is that of compiling, so it counts only where there is no other."""
    speeds = [record["images_per_second"] for record in records if record["kind"] == "batch"]
    return median(speeds[1:] or speeds)


FIGURES = (
    ("loss of the first step", ".7f", _first_loss),
    ("training loss, last epoch", ".4f", _of_last_epoch("train", "loss")),
    ("test loss, last epoch", ".4f", _of_last_epoch("test", "loss")),
    *((f"{title} accuracy, last epoch", ".2%", _of_last_epoch(part, "accuracy")) for part, title in TESTED.items()),
    ("test top-5, last epoch", ".2%", _of_last_epoch("test", "top5")),
    ("training images/s", ",.0f", images_per_second),
)
