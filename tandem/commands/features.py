"""tandem features."""

from pathlib import Path
from typing import Annotated

from tandem.commands.cli import (
    Averaged,
    Checkpoint,
    OwnNetwork,
    ThisFramework,
    ThisOverride,
    at_work,
    warn,
    with_network,
)

import typer


def features(
    source: Checkpoint,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    layer: Annotated[
        str | None, typer.Option(help="The layer, e.g. conv1. Default: the first convolution. See summary.")
    ] = None,
    framework: ThisFramework = None,
    override: ThisOverride = None,
    network: OwnNetwork = None,
    ema: Averaged = False,
    output: Annotated[Path | None, typer.Option(help="The folder to write to. Default: features/IMAGE.")] = None,
):
    """Look inside a network: a layer's activations, as a picture and as .npy, and the first convolution's filters."""
    with at_work("starting"):
        from tandem.core import files
        from tandem.data.images import read_image
        from tandem.use.features import extract
        from tandem.use.inference import Classifier

    override = with_network(override, network)
    classifier = Classifier(source, framework, override, ema, warn)
    folder = output or Path("features", image.stem)
    files.check_folder(folder)
    pixels = read_image(image, classifier.settings.data.image_size)
    with at_work("looking inside"):
        paths = extract(classifier, pixels, layer, folder)
    for path in paths:
        print(path)
