"""The layer tables of both twins side by side, each from the real model in a process of its own."""

from tandem.certify.subject import subject
from tandem.frameworks.base import FRAMEWORKS
from tandem.frameworks.layer_table import totals
from tandem.training import checkpoint
from tandem.use import convert

from rich.table import Table

FIGURES = ("shape", "parameters", "macs")
"""The columns of a row, for each framework."""


def summarize(network, overrides, workers, num_classes=None, warn=print):
    """The rows of `tandem.frameworks.layer_table.describe`, by framework.

    Args:
        network: a name, config, Python file, checkpoint or run folder (see `tandem.certify.subject.subject`).
        overrides: changes to its config.
        workers: a `tandem.frameworks.workers.Workers`.
        num_classes: length of the logits; by default a checkpoint's, or as many as the config's data has classes.
        warn: called with a line for each damaged checkpoint that is skipped.

    Raises:
        UserError: there is no such network, or it cannot be built.
    """
    settings, state = subject(network, overrides, warn)
    if num_classes is None and state is not None:
        num_classes = len(checkpoint.find(network, lambda line: None)[2]["class_names"])
    # Shapes are the same in every precision, but a device may not support the configured one.
    values = {**settings.without_ema().model_dump(mode="json"), "precision": "float32"}
    return workers.ask("describe", settings=values, num_classes=num_classes or convert.count_classes(settings))


def differing(descriptions):
    """The names of the rows that differ or exist on one side only."""
    paddle, tensorflow = ({row["name"]: row for row in descriptions[framework]} for framework in FRAMEWORKS)
    figures = (*FIGURES, "statistics")
    return [
        name
        for name in {**paddle, **tensorflow}
        if name not in paddle
        or name not in tensorflow
        or any(paddle[name][figure] != tensorflow[name][figure] for figure in figures)
    ]


def to_table(descriptions, title):
    """A rich Table: a row for each layer, with the columns of both frameworks; rows that differ are marked."""
    table = Table(title=title)
    table.add_column("layer", overflow="fold")
    for framework in ("Paddle", "TensorFlow"):
        table.add_column(f"{framework}\noutput")
        table.add_column("\nparameters", justify="right")
        table.add_column("\nMACs", justify="right")
    sides = [{row["name"]: row for row in descriptions[framework]} for framework in FRAMEWORKS]
    different = differing(descriptions)
    if different:
        table.add_column("")
    names = list({**sides[0], **sides[1]})
    for name in names:
        cells = [cell for side in sides for cell in _cells(side.get(name))]
        mark = ["differs"] if name in different else []
        table.add_row(name, *cells, *mark, style="bold red" if mark else None, end_section=name == names[-1])
    cells = [cell for rows in descriptions.values() for cell in _cells({"shape": [], **totals(rows)})]
    table.add_row("total", *cells)
    return table


def verdict(descriptions):
    """The totals, and whether the two agree, as lines of text."""
    sums = {framework: totals(rows) for framework, rows in descriptions.items()}
    lines = [
        f"{framework}: {total['parameters']:,} parameters, {total['statistics']:,} numbers of statistics, "
        f"{total['macs']:,} MACs for an image"
        for framework, total in sums.items()
    ]
    different = differing(descriptions)
    if not different:
        return [*lines, "The two agree in every row; certify verifies that they also compute the same"]
    return [*lines, f"The two differ in {len(different)} rows: {', '.join(different)}"]


def _cells(row):
    if row is None:
        return ["-"] * 3
    return ["x".join(map(str, row["shape"])), *(f"{row[key]:,}" if row[key] else "" for key in FIGURES[1:])]
