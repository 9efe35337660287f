"""The report of a comparison: a table in the terminal and an HTML page."""

import json
from pathlib import Path

from tandem.certify import report as certificate_report
from tandem.compare.comparison import mean_and_std, verdicts
from tandem.core import files
from tandem.frameworks.base import FRAMEWORKS, TITLES
from tandem.report import pages
from tandem.report.plots import FRAMEWORK_COLORS
from tandem.training.recorder import TESTED

import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table


def save(comparison, folder):
    """Write `report.json` and the self-contained page `report.html` into `folder`, each atomically.

    Raises:
        UserError: they cannot be written.
    """
    text = json.dumps(comparison.to_dict(), indent=2) + "\n"
    files.write_file(Path(folder, "report.json"), text.encode())
    files.write_file(Path(folder, "report.html"), to_html(comparison).encode())


def rows(comparison):
    """The figures as text: a title, and for each framework a cell with the mean and std over the seeds."""
    accuracies = [(key, f"{title} accuracy, last epoch", "{:.2%}".format) for key, title in TESTED.items()]
    others = [
        ("test_loss", "test loss, last epoch", "{:.4f}".format),
        ("train_loss", "training loss, last epoch", "{:.4f}".format),
        ("epoch_seconds", "training time of an epoch, seconds", "{:,.1f}".format),
        ("images_per_second", "training, images/s", "{:,.0f}".format),
        ("seconds_to_target", f"training until it tests at {comparison.target or 0:.0%}, seconds", "{:,.0f}".format),
        ("peak_memory", "peak memory, MB", lambda value: f"{value / 1e6:,.0f}"),
    ]
    table = []
    for key, title, form in accuracies + others:
        spread = {framework: mean_and_std(values) for framework, values in comparison.values(key).items()}
        if any(entry["mean"] is not None for entry in spread.values()):
            table.append((title, [_cell(spread[framework], form) for framework in FRAMEWORKS]))
    return table


def to_table(comparison):
    """A rich Table of `rows`."""
    count = len(comparison.seeds)
    table = Table(title=f"{comparison.name}: {'one seed' if count == 1 else f'mean ± std of {count} seeds'}")
    table.add_column("")
    for framework in FRAMEWORKS:
        table.add_column(TITLES[framework], justify="right")
    for title, cells in rows(comparison):
        table.add_row(title, *cells)
    return table


def to_html(comparison):
    """The page: see tandem/report/pages.py."""
    return pages.render(
        "comparison.html",
        comparison=comparison,
        certificate=comparison.certificate,
        phases=certificate_report.folded(comparison.certificate),
        failure=certificate_report.failure(comparison.certificate),
        allowed=certificate_report.allowed(comparison.certificate),
        verdicts=verdicts(comparison),
        titles=TITLES,
        rows=rows(comparison),
        curves=_draw_curves(comparison) if comparison.runs else "",
        race=_draw_race(comparison) if comparison.runs else "",
        config=yaml.safe_dump(comparison.settings, sort_keys=False),
    )


def _cell(spread, form):
    if spread["mean"] is None:
        return "-"
    return form(spread["mean"]) + (f" ± {form(spread['std'])}" if spread["std"] is not None else "")


def _draw_curves(comparison):
    """Loss and accuracy after each tested epoch: the line is the mean over the seeds, the band goes from min to max."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for axes, key, factor in ((loss_axes, "loss", 1), (accuracy_axes, "accuracy", 100)):
        for framework in FRAMEWORKS:
            runs = [run["epochs"] for run in comparison.runs if run["framework"] == framework]
            for part, style in (("test", "o-"), ("train", "--")):
                values = [[factor * epoch[part][key] for epoch in epochs] for epochs in runs]
                by_epoch = list(zip(*values, strict=True))
                numbers = [epoch["epoch"] for epoch in runs[0]]
                color, label = FRAMEWORK_COLORS[framework], f"{TITLES[framework]}, {part}"
                means = [sum(over_seeds) / len(over_seeds) for over_seeds in by_epoch]
                axes.plot(numbers, means, style, color=color, ms=4, lw=1.5, label=label)
                axes.fill_between(numbers, list(map(min, by_epoch)), list(map(max, by_epoch)), color=color, alpha=0.15)
        axes.set(xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    loss_axes.set(title="Loss", ylabel="cross entropy", ylim=(0, None))
    accuracy_axes.set(title="Accuracy", ylabel="%")
    accuracy_axes.legend(fontsize=9, frameon=False)
    return pages.to_svg(figure, "Loss and accuracy of both frameworks after each epoch")


def _draw_race(comparison):
    """Test accuracy over training time, a line for each run."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axes = figure.subplots()
    for run in comparison.runs:
        label = TITLES[run["framework"]] if run["seed"] == comparison.seeds[0] else None
        minutes = [epoch["seconds"] / 60 for epoch in run["epochs"]]
        accuracies = [100 * epoch["test"]["accuracy"] for epoch in run["epochs"]]
        axes.plot(
            minutes, accuracies, "o-", color=FRAMEWORK_COLORS[run["framework"]], ms=4, lw=1.2, alpha=0.8, label=label
        )
    axes.axhline(100 * comparison.target, color="black", lw=1, ls=":", label=f"{comparison.target:.0%}")
    axes.set(title="Test accuracy over time", xlabel="training time, minutes", ylabel="%", xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, frameon=False)
    return pages.to_svg(figure, "Test accuracy of each run over its training time in minutes")
