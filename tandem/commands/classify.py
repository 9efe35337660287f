"""tandem classify."""

from pathlib import Path
from typing import Annotated

from tandem.commands.cli import (
    Averaged,
    OwnNetwork,
    ThisFramework,
    ThisOverride,
    at_work,
    warn,
    with_network,
)

import typer


def classify(
    source: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, a run folder, or an exported .onnx.")
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files, or folders of them.")],
    framework: ThisFramework = None,
    override: ThisOverride = None,
    network: OwnNetwork = None,
    ema: Averaged = False,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
):
    """Classify images of any size and mode: the most probable classes and their probabilities."""
    import json

    with at_work("starting"):
        from tandem.core.errors import UserError, escaped
        from tandem.use.inference import Classifier, OnnxClassifier, image_files

    passed_over, found = [], []
    with at_work("classifying"):
        files = image_files(images, passed_over.append)
        if source.suffix.lower() != ".onnx":
            classifier = Classifier(source, framework, with_network(override, network), ema, warn)
        elif framework or override or network or ema:
            raise UserError(
                f"{source}: an exported model has no such options; leave out --framework, -o, --network and --ema"
            )
        else:
            classifier = OnnxClassifier(source)
        for path, classes in classifier.classify(files, top, warn):
            if as_json:
                found.append(
                    {"image": str(path), "top": [{"class": name, "probability": part} for name, part in classes]}
                )
            else:
                print(f"{escaped(str(path))}: {', '.join(f'{name} {part:.2%}' for name, part in classes)}")
    for line in passed_over:  # last, for what is wrong is one line
        warn(line)
    if as_json:
        about = {"checkpoint": str(classifier.path), "framework": classifier.framework}
        print(json.dumps({**about, "ema": classifier.ema, "images": found}, indent=2))
