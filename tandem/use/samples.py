"""A look at a dataset: its figures, the images of each class, and samples before and after augmentation."""

from tandem.core.errors import UserError, escaped
from tandem.core.random import permutation
from tandem.data.batches import training_batches
from tandem.data.images import fill_color, normalization
from tandem.report import pictures

import numpy as np
from rich.table import Table

SHOWN, COLUMNS = 16, 8
"""How many images are drawn, and how many in a row."""


def summary(data, settings):
    """A description of `data`, the dataset that `settings` name, as lines of text."""
    kind, size = settings.data.normalization, settings.data.image_size
    origin = {
        "cifar10": f"CIFAR-10 in {settings.data.directory}"
        + ("; the md5 of each file is the published one" if settings.data.verify else "; md5 not checked"),
        "digits": f"scikit-learn's handwritten digits, resized to {size}x{size}",
        "folder": f"Images in {settings.data.directory}, cropped square and resized to {size}x{size}",
    }[settings.data.source]
    counts = ", ".join(f"{len(split.labels):,} {name}" for name, split in _splits(data))
    mean, std = normalization(data.train.images, "channel")
    lines = [origin, f"{len(data.class_names)} classes of images {size}x{size}: {counts}"]
    for name, values in (("mean", mean), ("std", std)):
        red, green, blue = values.ravel()
        lines.append(f"Training images, {name} of red, green, blue (0 to 255): {red:.2f}, {green:.2f}, {blue:.2f}")
    means = {
        "channel": "by this mean and std",
        "mean_image": "as (x - mean image) / 255",
        "none": "as x / 255",
    }
    return [*lines, f"Normalised {means[kind]} (data.normalization: {kind})"]


def class_table(data):
    """A rich Table: how many images of each class are in each split."""
    table = Table()
    table.add_column("")
    table.add_column("class", overflow="fold")
    splits = _splits(data)
    for name, _ in splits:
        table.add_column(name, justify="right")
    counts = np.array([np.bincount(split.labels, minlength=len(data.class_names)) for _, split in splits])
    for label, name in enumerate(data.class_names):
        last = label == len(data.class_names) - 1
        table.add_row(str(label), escaped(name), *(f"{count:,}" for count in counts[:, label]), end_section=last)
    table.add_row("", "total", *(f"{count:,}" for count in counts.sum(axis=1)))
    return table


def draw(data, settings):
    """Draw the first images that a run trains on, before and after augmentation.

    Raises:
        UserError: there are too few images to train on.
    """
    fill = fill_color(data.train.images)
    batches = training_batches(data.train, settings.batch_size, settings.seed, 0, settings.data.augmentation, fill)
    batch = next(batches, None)
    if batch is None:
        raise UserError("data: the training set has fewer than two images; add some, or hold out fewer")
    after = batch.images
    if batch.weight is not None:
        after = np.rint(batch.weight * after + (1 - batch.weight) * after[batch.permutation]).astype(np.uint8)
    order = permutation(settings.seed, "shuffle", 0, len(data.train.labels))
    columns = min(COLUMNS, len(after))
    images, captions, rows = [], [], []
    for start in range(0, min(SHOWN, len(after) // columns * columns), columns):
        index = order[start : start + columns]
        images += [*data.train.images[index], *after[start : start + columns]]
        captions += [*(data.class_names[label] for label in data.train.labels[index]), *[""] * columns]
        rows += ["before", "after"]
    return pictures.image_grid(images, captions, columns, "Training images before and after augmentation", rows)


def _splits(data):
    named = (("train", data.train), ("validation", data.validation), ("test", data.test))
    return [(name, split) for name, split in named if split is not None]
