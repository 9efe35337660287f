"""Pictures of images, mistakes, filters and activations, as matplotlib figures; `save` writes them."""

import io
import math
import warnings

from tandem.core import files

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Class names may be Chinese, which matplotlib's own font lacks. Without another font they are drawn as boxes.
_CHINESE = ("CJK SC", "CJK JP", "PingFang", "Microsoft YaHei", "SimHei")
_installed = sorted(font_manager.get_font_names())
_fonts = [font for part in _CHINESE for font in _installed if part in font][:1]
matplotlib.rcParams["font.family"] = ["DejaVu Sans", *_fonts]


def save(figure, path, metadata=None):
    """Write `figure` to the PNG `path` atomically, with `metadata`, texts by their names.

    Raises:
        UserError: it cannot be written.
    """
    content = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # a character that no font has
        figure.savefig(content, dpi=120, format="png", metadata=metadata)
    files.write_file(path, content.getvalue())


def confusion_matrix(matrix, class_names, title):
    """Draw a confusion matrix, int [true class, predicted class]; the colours are fractions of the true class."""
    from sklearn.metrics import ConfusionMatrixDisplay

    count = len(class_names)
    side = min(max(4.5, 0.6 * count + 2), 20)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    display = ConfusionMatrixDisplay(fractions, display_labels=[plain(name) for name in class_names])
    size = max(3, min(9, 300 / count))
    display.plot(
        ax=axes, cmap="Blues", colorbar=False, include_values=count <= 40, im_kw={"vmin": 0, "vmax": 1}, text_kw={}
    )
    if display.text_ is not None:  # show counts in place of the fractions
        for text, number in zip(display.text_.flat, matrix.flat, strict=True):
            text.set(text=f"{number:,}" if number else "", fontsize=size)
    axes.set(title=plain(title), xlabel="predicted", ylabel="true")
    axes.tick_params("both", labelsize=size)
    axes.tick_params("x", rotation=45 if count <= 40 else 90)
    if count <= 40:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    return figure


def image_grid(images, captions, columns, title="", rows=()):
    """Draw images, uint8 [N, 3, H, W], row by row, with a caption above each; `rows` are the names of the rows."""
    count = math.ceil(len(images) / columns)
    figure = Figure(figsize=(1.35 * columns + 0.4, 1.6 * count + 0.4), layout="constrained")
    grid = figure.subplots(count, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[], frame_on=False)
    for axes, image, caption in zip(grid.flat, images, captions, strict=False):
        axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
        axes.set_title(plain(caption), fontsize=8)
    for axes, name in zip(grid[:, 0], rows, strict=False):
        axes.set_ylabel(plain(name), fontsize=9)
    figure.suptitle(plain(title))
    return figure


def activations(activation, image, title):
    """Draw an `activation` beside its `image`, uint8 [3, H, W]: [C, H, W] as a tile for each channel, [C] as bars."""
    vector = activation.ndim == 1
    drawn = None if vector else tiles(activation.astype(float), math.nan)
    figure = Figure(figsize=(10, 3 if vector else 7 * drawn.shape[0] / drawn.shape[1] + 0.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 4))
    left.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    left.set_title("input", fontsize=9)
    left.set_axis_off()
    if vector:
        right.bar(range(len(activation)), activation.astype(float), width=0.9, color="0.3")
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        right.axhline(0, color="black", lw=0.5)
    else:
        picture = right.imshow(drawn, cmap="gray", interpolation="nearest")
        figure.colorbar(picture, ax=right, shrink=0.6, aspect=30)
        right.set_axis_off()
    right.set_title(plain(title), fontsize=11)
    return figure


def filters(weight, title):
    """Draw the filters of a convolution, [out, in, H, W], as a tile each: in colour if `in` is 3; middle grey is 0.

    For any other number of input channels, draw the mean over them.
    """
    if weight.shape[1] != 3:
        weight = np.repeat(weight.mean(axis=1, keepdims=True), 3, axis=1)
    drawn = tiles(0.5 + weight.transpose(0, 2, 3, 1).astype(float) / (2 * np.abs(weight).max() or 1), 1.0)
    figure = Figure(figsize=(6, 6 * drawn.shape[0] / drawn.shape[1] + 0.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(drawn, interpolation="nearest")
    axes.set_title(plain(title), fontsize=11)
    axes.set_axis_off()
    return figure


def tiles(planes, gap):
    """Arrange planes [N, H, W, ...] in a nearly square grid, in full rows if possible, with lines of `gap` between.

    Small planes are enlarged, so that the lines do not dominate.
    """
    count, height, width = planes.shape[:3]
    root = math.ceil(math.sqrt(count))
    columns = next((columns for columns in range(root, 2 * root) if count % columns == 0), root)
    rows = math.ceil(count / columns)
    factor = math.ceil(24 / height)
    height, width = factor * height, factor * width
    whole = np.full((rows * columns, height + 1, width + 1, *planes.shape[3:]), gap)
    whole[:count, :-1, :-1] = planes.repeat(factor, axis=1).repeat(factor, axis=2)
    whole = whole.reshape(rows, columns, *whole.shape[1:]).swapaxes(1, 2)
    return whole.reshape(rows * (height + 1), columns * (width + 1), *planes.shape[3:])[:-1, :-1]


def plain(text):
    """Escape `text`, in which matplotlib would take $ for a formula."""
    return text.replace("$", r"\$")
