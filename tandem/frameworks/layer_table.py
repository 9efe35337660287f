"""The table of a built network's layers: output shape, parameters and MACs, the same rows for every framework."""

import math

from tandem.data.batches import Batch

import numpy as np


def describe(engine, image_size):
    """The layers of a built network that compute or hold parameters, in the order of computation.

    Args:
        engine: of either framework.
        image_size: height and width in pixels.

    Returns:
        A list of dicts: `name`; `shape`, of the output for one image, with channels first; `parameters` and
        `statistics`, how many numbers are trained and how many are not; `macs`, the MACs of its convolution or matrix
        product for one image. Containers are left out unless they hold parameters of their own. If a layer is applied
        again (name#2), its parameters are counted once. Parameters of the network itself or of layers that were
        not applied come last.
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
                    "macs": sum(_macs(weight, shape) for weight in weights),
                }
            )
    for layer in {**trained, **kept}:
        if layer not in shapes:
            counts = {"parameters": _count(trained, layer), "statistics": _count(kept, layer), "macs": 0}
            rows.append({"name": layer or "(the network itself)", "shape": [], **counts})
    return rows


def totals(rows):
    """The sums of `parameters`, `statistics` and `macs`."""
    return {key: sum(row[key] for row in rows) for key in ("parameters", "statistics", "macs")}


def _count(arrays, layer):
    return sum(math.prod(shape) for shape in arrays.get(layer, {}).values())


def _macs(weight, output):
    """MACs of a kernel [out, in / groups, H, W] at each pixel of the `output` [C, H, W], or of a matrix [in, out]."""
    if len(weight) == 4:
        return math.prod(weight) * math.prod(output[1:])
    return math.prod(weight) * math.prod(output[:-1]) if len(weight) == 2 else 0
