"""tandem evaluate."""

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


def evaluate(
    source: Checkpoint,
    framework: ThisFramework = None,
    override: ThisOverride = None,
    network: OwnNetwork = None,
    ema: Averaged = False,
    flip: Annotated[
        bool,
        typer.Option("--flip", help="Test-time augmentation (TTA): average the logits of each image and its flip."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="The folder to write to. Default: evaluation/NAME-FRAMEWORK.")
    ] = None,
):
    """Test a checkpoint: accuracy, top-5, loss, a table of the classes, confusion matrix, most confident mistakes."""
    with at_work("starting"):
        from tandem.core import files
        from tandem.use import evaluation
        from tandem.use.inference import Classifier

        from rich.console import Console

    console = Console(highlight=False, markup=False)
    override = with_network(override, network)
    classifier = Classifier(source, framework, override, ema, warn)
    how = ["ema"] * ema + ["flip"] * flip
    folder = output or Path("evaluation", "-".join([classifier.name, classifier.framework, *how]))
    files.check_folder(folder)
    with at_work("reading the images"):
        split = classifier.dataset().test
    with at_work("testing", len(split.labels) * (2 if flip else 1)) as report:
        found = evaluation.evaluate(classifier, split, flip, report)
        written = evaluation.save(found, split.images, folder)
    for table in (evaluation.class_table(found), evaluation.confusion_table(found)):
        if table is not None:
            console.print(table)
    for line in evaluation.summary(found):
        console.print(line, soft_wrap=True)
    if classifier.has_ema:
        used = "EMA of the weights (without --ema: the weights)" if ema else "weights (with --ema: their EMA)"
        console.print(f"These figures are of the {used}", soft_wrap=True)
    console.print(f"Written: {', '.join(map(str, written))}", soft_wrap=True)
