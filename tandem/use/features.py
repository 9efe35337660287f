"""A look inside a network: a layer's activations for an image, and the filters of the first convolution."""

import difflib
import io
from pathlib import Path

from tandem.core import files
from tandem.core.errors import UserError
from tandem.report import pictures

import numpy as np


def extract(classifier, image, layer, folder):
    """Write the activations of `layer` for `image` (LAYER.npy, LAYER.png) and the first convolution's filters.png.

    Args:
        classifier: a `tandem.use.inference.Classifier`.
        image: uint8 [3, H, W].
        layer: its name; None is the first convolution, or without one the first layer.
        folder: where to write; it is created.

    Returns:
        The paths.

    Raises:
        UserError: there is no such layer, or the files cannot be written.
    """
    activations = classifier.activations(image)
    kernels = {name: classifier.weights.get(f"{name}.weight") for name in activations}
    convolution = next((name for name, kernel in kernels.items() if np.ndim(kernel) == 4), None)
    layer = _known(layer or convolution or next(iter(activations)), activations)
    activation, kind = activations[layer], classifier.engine.layer_types()[layer.partition("#")[0]]

    path = Path(folder, layer.replace("/", "."))
    content = io.BytesIO()
    np.save(content, activation)
    files.write_file(f"{path}.npy", content.getvalue())
    title = f"{layer} ({kind}): {' x '.join(map(str, activation.shape))}"
    pictures.save(pictures.activations(activation, image, title), f"{path}.png")
    written = [Path(f"{path}.npy"), Path(f"{path}.png")]
    if convolution is not None:
        written.append(Path(folder, "filters.png"))
        kernel = kernels[convolution]
        title = f"{convolution}: {len(kernel)} filters of {kernel.shape[2]}x{kernel.shape[3]}"
        pictures.save(pictures.filters(kernel, title), written[-1])
    return written


def _known(layer, names):
    if layer in names:
        return layer
    nearest = difflib.get_close_matches(layer, names, n=1, cutoff=0.0)[0]
    raise UserError(
        f"--layer {layer}: no such layer; did you mean {nearest}? python -m tandem summary CHECKPOINT lists all"
    )
