"""The report of a certificate: a table in the terminal and an HTML page."""

import json
import math
from pathlib import Path

from tandem import traps
from tandem.certify.certificate import BACKWARD, DRAWN_STEPS
from tandem.core import files
from tandem.report import pages
from tandem.report.pages import number

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table


def save(certificate, folder):
    """Write `certificate.json` and the self-contained page `certificate.html` into `folder`, each atomically.

    Raises:
        UserError: they cannot be written.
    """
    text = json.dumps(certificate.to_dict(), indent=2) + "\n"
    files.write_file(Path(folder, "certificate.json"), text.encode())
    files.write_file(Path(folder, "certificate.html"), to_html(certificate).encode())


def to_table(certificate):
    """A rich Table: a row for each phase, with its worst tensor."""
    table = Table(title=title(certificate))
    table.add_column("phase")
    table.add_column("arrays", justify="right")
    table.add_column("worst error", justify="right")
    table.add_column("tensor", overflow="fold")
    table.add_column("step", justify="right")
    for phase, entry in folded(certificate.phases).items():
        table.add_row(phase, str(entry["compared"]), number(entry["error"]), entry["name"], str(entry["step"]))
    return table


def title(certificate):
    """What was certified, and in how many steps."""
    steps = f"{certificate.steps} steps and {DRAWN_STEPS} from a drawn state"
    return f"{certificate.network}: {steps}, {certificate.batch_size} images each"


def folded(phases):
    """The `phases` of a certificate in fewer rows: of all those named `paddle trains: ...`, and so on, the worst."""
    groups = {}
    for phase, entry in phases.items():
        groups.setdefault(phase.partition(":")[0], []).append(entry)
    rows = {}
    for group, entries in groups.items():
        worst = max(entries, key=lambda entry: math.inf if entry["error"] is None else entry["error"])
        rows[group] = worst | {"compared": sum(entry["compared"] for entry in entries)}
    return rows


def verdict(certificate):
    """The result, as lines of text."""
    lines = []
    for framework, phases in certificate.trained.items():
        errors = [
            f"{phase} {number(path['error'])}" + ("" if path["passed"] else f" of {path['name']} (TOO LARGE)")
            for phase, path in phases.items()
        ]
        precision = next(iter(phases.values()))["precision"]
        lines.append(f"A training step of {framework} in {precision}, against its certified step: {', '.join(errors)}")
    lines += [f"{framework}: unsupported here: {why}" for framework, why in certificate.unsupported.items()]
    lines += certificate.notes
    if certificate.free_run:
        last = certificate.free_run[-1]
        lines.append(
            f"Free run: after {len(certificate.free_run)} steps the frameworks differ by "
            f"{number(last['frameworks'])}; Paddle, nudged in the last place, differs from itself by "
            f"{number(last['nudged'])}"
        )
    if certificate.first is not None:
        lines.append(first_difference(certificate.first))
        known = traps.known(certificate.first)
        if known:
            lines.append(f"Traps known to show there: {', '.join(known)} (docs/differences.md)")
    took = f"{certificate.seconds:.0f} s"
    if certificate.passed:
        lines.append(f"PASSED: both compute the same, every element within {number(tolerance(certificate))} ({took})")
    elif certificate.first is None:
        lines.append(f"FAILED: the two agree, but a training step of one differs from its certified step ({took})")
    else:
        lines.append(f"FAILED: they do not compute the same ({took})")
    return lines


def first_difference(first):
    """The first difference, in one line."""
    layer = f" ({first['layer']})" if first["layer"] else ""
    by = first["what"] or f"error {number(first['error'])}"
    return f"First difference: step {first['step']}, {first['phase']}, {first['name']}{layer}: {by}"


def tolerance(certificate):
    """The largest tolerance in force."""
    return max(certificate.tolerances.values())


def to_html(certificate):
    """The page: see tandem/report/pages.py."""
    return pages.render(
        "certificate.html",
        certificate=certificate,
        tolerance=tolerance(certificate),
        first=certificate.first and first_difference(certificate.first),
        known=[traps.TRAPS[name] for name in traps.known(certificate.first)],
        phases=folded(certificate.phases),
        drawn_steps=DRAWN_STEPS,
        rows=_rows(certificate),
        errors=_draw_errors(certificate) if certificate.steps > 1 and certificate.passed else "",
        free_run=_draw_free_run(certificate) if certificate.free_run else "",
    )


def _rows(certificate):
    """Each layer of `Certificate.table`: name, type, the three errors, and which of them is too large."""
    first, rows = certificate.first or {}, []
    for name, errors in certificate.table.items():
        cells = []
        for column, error in errors.items():
            largest = certificate.tolerances["forward" if column == "output" else "backward"]
            cells.append((error, isinstance(error, str) or (error is not None and error > largest)))
        # A parameter's first difference is at its layer.
        marked = name in (first.get("name"), first.get("name", "").rpartition(".")[0])
        rows.append({"name": name, "type": certificate.layers.get(name, ""), "cells": cells, "first": marked})
    return rows


def _draw_errors(certificate):
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    for phase, entry in certificate.phases.items():
        errors = [error if error else math.nan for error in entry["errors"]]
        # Those that differ by nothing have no points on this axis.
        if len(errors) > 2 and not all(map(math.isnan, errors)):
            axes.semilogy(range(len(errors)), errors, ".--" if phase.endswith(BACKWARD) else ".-", label=phase, lw=1)
    axes.axhline(tolerance(certificate), color="black", lw=1, ls=":", label="tolerance")
    axes.set(xlabel="step", ylabel="worst error")
    return _to_svg(figure, axes, "The worst error of each phase at every step")


def _draw_free_run(certificate):
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    for key, label in (
        ("frameworks", "Paddle and TensorFlow"),
        ("nudged", "Paddle and itself, nudged in the last place"),
    ):
        axes.semilogy([step[key] or math.nan for step in certificate.free_run], ".-", label=label, lw=1)
    axes.set(xlabel="step", ylabel="largest error of a weight")
    return _to_svg(figure, axes, "How far free runs drift apart, step by step")


def _to_svg(figure, axes, title):
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return pages.to_svg(figure, title)
