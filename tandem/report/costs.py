"""Two parts of docs/results.md, each measured by one command: how the cost of training grows, and what one waits for.

`tandem benchmark --grow --json results/growth.json` writes what is read here (tandem/benchmark/growth.py). And
results/waits.json is a list of what `tandem benchmark --waits` writes (waits.py), each with its `commit`.
"""

import hashlib
import json
import statistics
from pathlib import Path

from tandem.core.errors import UserError
from tandem.report import pictures
from tandem.report.plots import FRAMEWORK_COLORS

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from PIL import Image

AXES = {
    "batch_size": ("batch size", "images_per_second"),
    "width": ("channels of the first stage", "gigaflops_per_second"),
    "depth": ("layers", "gigaflops_per_second"),
    "image_size": ("pixels a side", "gigaflops_per_second"),
    "threads": ("threads", "images_per_second"),
}
"""What an axis is called, and of which figure its knee is."""

ROWS = {"images_per_second": ("images/s", 1), "gigaflops_per_second": ("GFLOP/s", 1), "peak_memory": ("GB", 1e-9)}
"""What is drawn of a point: its unit and the factor to it."""

KNEE = 0.9
"""Of the best figure of an axis; where it is reached first is the knee."""


def read(path, used):
    """The figures in the JSON file `path`; None where it is not there.

    Args:
        path: results/growth.json or results/waits.json.
        used: what a page makes of them, `growth_rows` or `wait_rows`.

    Raises:
        UserError: it is not what the command writes.
    """
    if not path.exists():
        return None
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
        used(figures)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        written = {"growth": "what tandem benchmark --grow", "waits": "a list of what tandem benchmark --waits"}
        raise UserError(f"{path}: {error!r}; it has to be {written[path.stem]} --json writes") from error
    return figures


def series(points, framework, key):
    """The (value, figure) of the points that have one, in the unit of `ROWS`."""
    found = [(point["value"], point.get(framework, {}).get(key)) for point in points]
    return [(value, ROWS[key][1] * figure) for value, figure in found if figure is not None]


def knee(line):
    """Of (value, figure), the first value whose figure is `KNEE` of the best or more."""
    best = max(figure for _, figure in line)
    return next(value for value, figure in line if figure >= KNEE * best)


def growth_rows(figures):
    """A dict for each axis and framework: `axis`, `framework`, the `unit` of the knee's figure, `knee`, and of the
    `first` and the `last` point the value, the figure and the memory.
    """
    found = []
    for axis, (_, key) in AXES.items():
        points = figures["axes"][axis]
        for framework in FRAMEWORK_COLORS:
            line, memory = series(points, framework, key), dict(series(points, framework, "peak_memory"))
            if line:
                ends = {name: (*line[at], memory.get(line[at][0])) for name, at in (("first", 0), ("last", -1))}
                unit = ROWS[key][0]
                found.append({"axis": axis, "framework": framework, "unit": unit, "knee": knee(line), **ends})
    return found


def chart(figures, titles):
    """Draw speed and memory against each axis in the `figures` of `tandem.benchmark.growth.growth`.

    `titles`: what to call the frameworks.
    """
    axes = figures["axes"]
    figure = Figure(figsize=(3 * len(axes), 7), layout="constrained")
    grid = figure.subplots(len(ROWS), len(axes), squeeze=False, sharey="row", sharex="col")
    for column, (name, points) in zip(grid.T, axes.items(), strict=True):
        for pane, key in zip(column, ROWS, strict=True):
            for framework, color in FRAMEWORK_COLORS.items():
                line = series(points, framework, key)
                if line:
                    pane.plot(*zip(*line, strict=True), color=color, marker="o", ms=4, label=titles[framework])
                    if key == AXES[name][1]:
                        pane.plot(knee(line), dict(line)[knee(line)], "o", color=color, ms=11, mfc="none")
            pane.set(xscale="log", yscale="log")
            values = [point["value"] for point in points]
            pane.set_xticks(values, [str(value) for value in values])
            pane.xaxis.set_minor_locator(NullLocator())
            pane.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            pane.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            pane.yaxis.set_minor_locator(NullLocator())
            pane.grid(alpha=0.3)
        column[-1].set_xlabel(AXES[name][0])
    for pane, (unit, _) in zip(grid[:, 0], ROWS.values(), strict=True):
        pane.set_ylabel("peak memory, GB" if unit == "GB" else unit)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    return figure


def wait_rows(figures):
    """A dict for each wait: `what`, `config`, `framework`, and `cells`, the seconds as text: the median and the range.

    `figures`: of several versions of the code, what `tandem.benchmark.waits.waits` returned there; each is a cell. What
    one did not measure is None there.
    """
    rows = {}
    for column, measured in enumerate(figures):
        for wait in measured["waits"]:
            row = {name: wait[name] for name in ("what", "config", "framework")}
            row = rows.setdefault(tuple(row.values()), {**row, "cells": [None] * len(figures)})
            low, *_, high = sorted(wait["seconds"])
            row["cells"][column] = f"{statistics.median(wait['seconds']):.2f} ({low:.2f} to {high:.2f})"
    return list(rows.values())


def draw(root, titles, check=False):
    """Draw docs/growth.png, where results/growth.json is there and the picture is not of it; return whether so.

    Args:
        root: the checkout.
        titles: what to call the frameworks.
        check: whether only to tell.
    """
    figures, path = read(Path(root) / "results" / "growth.json", growth_rows), Path(root) / "docs" / "growth.png"
    if figures is None:
        return False
    digest = hashlib.sha256(json.dumps(figures).encode()).hexdigest()
    if path.exists():
        with Image.open(path) as drawn:
            if drawn.info.get("Source") == digest:
                return False
    if not check:
        pictures.save(chart(figures, titles), path, {"Source": digest})
    return True
