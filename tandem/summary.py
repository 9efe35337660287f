"""The layer tables of the twins side by side, each from the real model in a process of its own."""

import math

import numpy as np
from rich.table import Table

from data_utils import Batch
from tandem import checkpoint, convert
from tandem.certificate import subject
from tandem.workers import FRAMEWORKS

FIGURES = ("shape", "parameters", "multiply_adds")
"""What is compared."""


def describe(engine, image_size):
    """The layers of a built network that compute or hold parameters, in the order in which they compute.

    Args:
        engine: of either framework.
        image_size: height and width in pixels.

    Returns:
        A list of dicts: `name`; `shape` of the output of one image, channel first; `parameters`, how many numbers are
        trained, and `statistics`, how many others it keeps; `multiply_adds` of convolutions and products with its
        weights, for one image. Containers are left out unless they hold parameters of their own. What a layer that is
        applied again (name#2) holds is counted once. Parameters outside of any layer that was applied come last.
    """
    images = np.zeros((1, 3, image_size, image_size), np.uint8)
    trace = engine.trace_evaluation(Batch(images, np.zeros(1, np.int64)))
    shapes = {name.removeprefix("output/"): x.shape[1:] for name, x in trace.items() if name.startswith("output/")}
    trained, kept = {}, {}
    for name, shape in engine.shapes.items():
        if "/" not in name:
            layer, _, what = name.rpartition(".")
            (trained if f"velocity/{name}" in engine.shapes else kept).setdefault(layer, {})[what] = shape
    rows = []
    for name, shape in shapes.items():
        layer, again, _ = name.partition("#")
        holds = layer in trained or layer in kept
        if holds or not any(other.startswith(f"{layer}.") for other in shapes):
            weights = trained.get(layer, {}).values()
            rows.append(
                {
                    "name": name,
                    "shape": list(shape),
                    "parameters": 0 if again else _count(trained, layer),
                    "statistics": 0 if again else _count(kept, layer),
                    "multiply_adds": sum(_multiply_adds(weight, shape) for weight in weights),
                }
            )
    for layer in {**trained, **kept}:
        if layer not in shapes:
            counts = {"parameters": _count(trained, layer), "statistics": _count(kept, layer), "multiply_adds": 0}
            rows.append({"name": layer or "(the network itself)", "shape": [], **counts})
    return rows


def summarize(network, overrides, workers, num_classes=None, warn=print):
    """The rows of `describe`, by framework.

    Args:
        network: a name, config, file of one's own, checkpoint or run folder (see `tandem.certificate.subject`).
        overrides: changes to its config.
        workers: a `tandem.workers.Workers`.
        num_classes: length of the logits; by default a checkpoint's, or as many as the config's data has classes.
        warn: is told of damaged checkpoints that were passed over.

    Raises:
        UserError: there is no such network, or it cannot be built.
    """
    settings, state = subject(network, overrides, warn)
    if num_classes is None and state is not None:
        num_classes = len(checkpoint.find(network, lambda line: None)[2]["class_names"])
    # Shapes are the same in every precision, but not every device has every precision.
    values = {**settings.model_dump(mode="json"), "precision": "float32", "ema_decay": None}
    return workers.ask("describe", settings=values, num_classes=num_classes or convert.count_classes(settings))


def differing(descriptions):
    """The names of the rows that differ, or are there on one side only."""
    paddle, tensorflow = ({row["name"]: row for row in descriptions[framework]} for framework in FRAMEWORKS)
    figures = (*FIGURES, "statistics")
    return [
        name
        for name in {**paddle, **tensorflow}
        if name not in paddle
        or name not in tensorflow
        or any(paddle[name][figure] != tensorflow[name][figure] for figure in figures)
    ]


def totals(rows):
    """The sums of `parameters`, `statistics` and `multiply_adds`."""
    return {key: sum(row[key] for row in rows) for key in ("parameters", "statistics", "multiply_adds")}


def to_table(descriptions, title):
    """A rich Table: a row a layer, the columns of both frameworks side by side; rows that differ are marked."""
    table = Table(title=title)
    table.add_column("layer", overflow="fold")
    for framework in ("Paddle", "TensorFlow"):
        table.add_column(f"{framework}\noutput")
        table.add_column("\nparameters", justify="right")
        table.add_column("\nmultiply-adds", justify="right")
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
        f"{framework}: {total['parameters']:,} parameters and {total['statistics']:,} numbers of statistics, "
        f"{total['multiply_adds']:,} multiply-adds an image"
        for framework, total in sums.items()
    ]
    different = differing(descriptions)
    if not different:
        return [*lines, "The two agree in every row; certify proves that they also compute the same"]
    return [*lines, f"The two differ in {len(different)} rows: {', '.join(different)}"]


def _cells(row):
    if row is None:
        return ["-"] * 3
    return ["x".join(map(str, row["shape"])), *(f"{row[key]:,}" if row[key] else "" for key in FIGURES[1:])]


def _count(arrays, layer):
    return sum(math.prod(shape) for shape in arrays.get(layer, {}).values())


def _multiply_adds(weight, output):
    """Those of a kernel [out, in / groups, H, W], applied at each place of the output [C, H, W]; or of [in, out]."""
    if len(weight) == 4:
        return math.prod(weight) * math.prod(output[1:])
    return math.prod(weight) * math.prod(output[:-1]) if len(weight) == 2 else 0
