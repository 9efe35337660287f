"""The evaluation of a checkpoint: figures on the test set, a table of the classes, confusion matrix and mistakes."""

import json
from datetime import UTC, datetime
from pathlib import Path

from tandem.core import files
from tandem.report import pictures

import numpy as np
from rich import box
from rich.table import Table
from scipy.special import logsumexp, softmax
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

SHOWN = 25
"""How many of the most confident mistakes are drawn."""

MISTAKES = "The most confident mistakes: predicted and true class"

WIDEST = 20
"""The largest number of classes whose confusion matrix fits in a terminal."""


def evaluate(classifier, split, flip=False, report=lambda done: None):
    """Figures on `split`, as plain values for JSON.

    Args:
        classifier: a `tandem.use.inference.Classifier`.
        split: a `data_utils.Split`.
        flip: whether to use test-time augmentation: the mean of the logits of each image and its horizontal flip.
        report: called with how many images are done; with `flip`, each counts twice.

    Returns:
        A dict: what was evaluated, whether by its `ema` and with `flip`; `images`; `accuracy`, `top5` and `loss` as in
        training (with label smoothing, if configured); `recorded`, these as training recorded them, or None; `classes`,
        for each its `name`, `precision`, `recall`, `f1` and `support`; `confusion`, a list for each true class;
        `wrong`, the mistakes, the most confident first: `index` in the test set, `true`, `predicted` and the
        `probability` of the latter.
    """
    names, smoothing = classifier.class_names, classifier.settings.label_smoothing
    logits, labels = classifier.logits(split.images, report), split.labels
    if flip:
        flipped = classifier.logits(split.images[..., ::-1], lambda done: report(len(labels) + done))
        logits = (logits + flipped) / 2
    predicted = logits.argmax(axis=1)
    right = logits[np.arange(len(labels)), labels]
    losses = logsumexp(logits, axis=1) - (1 - smoothing) * right - smoothing * logits.mean(axis=1)
    # Of equal logits the first one wins, as in the engines.
    beaten = (right[:, None] > logits) | ((right[:, None] == logits) & (labels[:, None] <= np.arange(len(names))))
    probability = softmax(logits, axis=1).max(axis=1)

    known = np.arange(len(names))
    parts = precision_recall_fscore_support(labels, predicted, labels=known, zero_division=0)
    classes = [
        {"name": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for name, p, r, f, s in zip(names, *parts, strict=True)
    ]
    mistakes = np.flatnonzero(predicted != labels)
    mistakes = mistakes[np.argsort(-probability[mistakes], kind="stable")]
    tested = "test" + "_ema" * classifier.ema + "_flip" * flip  # see recorder.TESTED
    return {
        "checkpoint": str(classifier.path),
        "framework": str(classifier.framework),
        "ema": classifier.ema,
        "flip": flip,
        "device": classifier.engine.record,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": len(labels),
        "accuracy": float((predicted == labels).mean()),
        "top5": float(((~beaten).sum(axis=1) < 5).mean()),
        "loss": float(losses.mean()),
        "recorded": (classifier.metadata["metrics"] or {}).get(tested),
        "classes": classes,
        "confusion": confusion_matrix(labels, predicted, labels=known).tolist(),
        "wrong": [
            {
                "index": int(index),
                "true": names[labels[index]],
                "predicted": names[predicted[index]],
                "probability": float(probability[index]),
            }
            for index in mistakes
        ],
    }


def save(found, images, folder):
    """Write `evaluation.json`, `confusion.png` and `wrong.png` of `found`, each atomically.

    Args:
        found: the result of `evaluate`.
        images: those of the split.
        folder: where to write; it is created.

    Returns:
        The paths.

    Raises:
        UserError: they cannot be written.
    """
    folder = Path(folder)
    files.write_file(folder / "evaluation.json", (json.dumps(found, indent=2) + "\n").encode())
    names = [entry["name"] for entry in found["classes"]]
    title = f"Accuracy {found['accuracy']:.2%} on {found['images']:,} images"
    pictures.save(pictures.confusion_matrix(np.array(found["confusion"]), names, title), folder / "confusion.png")
    worst = found["wrong"][:SHOWN]
    if not worst:
        (folder / "wrong.png").unlink(missing_ok=True)  # one from an earlier evaluation
        return [folder / "evaluation.json", folder / "confusion.png"]
    captions = [f"{entry['predicted']} {entry['probability']:.1%}\ntrue: {entry['true']}" for entry in worst]
    shown = images[[entry["index"] for entry in worst]]
    pictures.save(pictures.image_grid(shown, captions, 5, MISTAKES), folder / "wrong.png")
    return [folder / name for name in ("evaluation.json", "confusion.png", "wrong.png")]


def summary(found):
    """The figures, as lines of text."""
    tta = " with horizontal flip TTA" if found["flip"] else ""
    lines = [
        f"{found['images']:,} test images{tta}, in {found['framework']}: accuracy {found['accuracy']:.2%}, "
        f"top-5 {found['top5']:.2%}, loss {found['loss']:.4f}"
    ]
    if found["recorded"]:
        lines.append(
            "Recorded in training: accuracy {accuracy:.2%}, top-5 {top5:.2%}, loss {loss:.4f}".format(
                **found["recorded"]
            )
        )
    return lines


def class_table(found):
    """A rich Table: precision, recall, F1 and support of each class, and their means."""
    table = Table(title="Classes")
    table.add_column("")
    table.add_column("class", overflow="fold")
    for column in ("precision", "recall", "F1", "images"):
        table.add_column(column, justify="right")
    keys = ("precision", "recall", "f1")
    for index, entry in enumerate(found["classes"]):
        row = [f"{entry[key]:.2%}" for key in keys]
        table.add_row(
            str(index), entry["name"], *row, f"{entry['support']:,}", end_section=entry is found["classes"][-1]
        )
    means = [f"{np.mean([entry[key] for entry in found['classes']]):.2%}" for key in keys]
    table.add_row("", "mean", *means, f"{found['images']:,}")
    return table


def confusion_table(found):
    """A rich Table of the confusion matrix, a row for each true class; None if there are more classes than `WIDEST`."""
    names = [entry["name"] for entry in found["classes"]]
    if len(names) > WIDEST:
        return None
    table = Table(title="True class (row), predicted class (column)", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column("")
    table.add_column("", overflow="fold")
    for index in range(len(names)):
        table.add_column(str(index), justify="right")
    for index, (name, row) in enumerate(zip(names, found["confusion"], strict=True)):
        table.add_row(str(index), name, *(str(number) if number else "." for number in row))
    return table
