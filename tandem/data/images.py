"""The three sources of images: CIFAR-10, scikit-learn's digits and your own folders; and their normalisation."""

import math
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from data_utils import Split, class_names, download_data, test_data, train_data
from tandem.core.errors import UserError
from tandem.core.random import permutation

import numpy as np

IMAGE_EXTENSIONS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class Dataset(NamedTuple):
    """The images of a run; `validation` is None unless a fraction of the training set is held out."""

    train: Split
    validation: Split | None
    test: Split
    class_names: tuple[str, ...]


def load_dataset(data: Any, seed: int) -> Dataset:
    """Read the dataset that `data`, the settings of a config's `data:` section, describe.

    `data.source` is one of
    "cifar10": from `data.directory`, downloaded first if missing (see `download_data`);
    "digits": scikit-learn's 1,797 handwritten digits as RGB, resized bilinearly to `data.image_size`; every fifth image
        of a class is a test image, for every seed;
    "folder": your own images, `data.directory`/train/<class>/* and test/<class>/*; or `data.directory`/<class>/*, with
        a random `data.test_fraction` of each class as the test set, the same for every seed. Classes are numbered in
        the order of their names. See `read_image`.
    A random `data.validation_fraction` of the training set, drawn by `seed`, is held out.
    Raises UserError that names the wrong file or key.
    """
    if data.source == "cifar10":
        dataset = _cifar10(data)
    elif data.source == "digits":
        dataset = _digits(data.image_size)
    else:
        dataset = _folder(data)
    if data.validation_fraction == 0:
        return dataset
    count = len(dataset.train.labels)
    rest, held = _draw(count, "validation_fraction", data, seed, "validation")
    return dataset._replace(train=_select(dataset.train, rest), validation=_select(dataset.train, held))


def _draw(count: int, key: str, data: Any, seed: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw the fraction `data.<key>` of 0 .. `count` - 1. Return the numbers that are left and those drawn, sorted."""
    fraction = getattr(data, key)
    drawn = round(count * fraction)
    if not 0 < drawn < count:
        raise UserError(f"data.{key}: {fraction} of {count} images ({purpose}) leaves one part empty; change it")
    order = permutation(seed, purpose, 0, count)
    return np.sort(order[drawn:]), np.sort(order[:drawn])


def _select(split: Split, index: np.ndarray) -> Split:
    return Split(split.images[index], split.labels[index])


def _cifar10(data: Any) -> Dataset:
    if data.image_size != 32:
        raise UserError(f"data.image_size: CIFAR-10's images are 32x32, not {data.image_size}; set 32")
    download_data(data.directory, data.archive, data.mirrors, data.verify)
    # `download_data` has checked the md5s; the contents are always checked.
    train, test = train_data(data.directory, verify=False), test_data(data.directory, verify=False)
    return Dataset(train, None, test, class_names(data.directory, verify=False))


def _digits(size: int) -> Dataset:
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # its pixels are 0..16
    bilinear = Image.Resampling.BILINEAR
    large = np.stack([Image.fromarray(image).resize((size, size), bilinear) for image in grey])
    split = Split(np.repeat(large[:, None], 3, axis=1), digits.target.astype(np.int64))
    test = np.zeros(len(large), bool)
    for label in range(10):
        test[np.flatnonzero(split.labels == label)[4::5]] = True
    return Dataset(_select(split, ~test), None, _select(split, test), tuple("0123456789"))


def _folder(data: Any) -> Dataset:
    directory = Path(data.directory)
    has_test = (directory / "test").is_dir()
    if has_test != (directory / "train").is_dir():
        raise UserError(f"data.directory: {directory} holds one of train/ and test/, but not the other; add it")
    train = _image_files(directory / "train" if has_test else directory)
    if len(train) < 2:
        raise UserError(f"data.directory: {directory} holds {len(train)} class folders, but two are needed")
    if has_test:
        test = _image_files(directory / "test")
        for name in sorted(train.keys() ^ test.keys()):
            missing = directory / ("test" if name in train else "train") / name
            raise UserError(f"{missing}: class {name!r} is missing here; add it, or remove its other folder")
    else:
        test = {}
        for name, paths in train.items():
            # Independent of the seed: otherwise a run would test on images that another seed's run trained on.
            rest, drawn = _draw(len(paths), "test_fraction", data, 0, f"test images of class {name}")
            train[name], test[name] = [paths[i] for i in rest], [paths[i] for i in drawn]
    size = data.image_size
    return Dataset(_read_images(train, size), None, _read_images(test, size), tuple(train))


def _image_files(directory: Path) -> dict[str, list[Path]]:
    """Return the sorted image paths of each class, by sorted name; hidden and other files are ignored."""
    if not directory.is_dir():
        raise UserError(f"data.directory: {directory} is not a folder; give one that holds a folder for each class")
    classes = {}
    for folder in sorted(path for path in directory.iterdir() if path.is_dir() and path.name[0] != "."):
        paths = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_EXTENSIONS]
        classes[folder.name] = sorted(path for path in paths if path.name[0] != ".")
        if not classes[folder.name]:
            raise UserError(f"{folder}: holds no image; add some, or remove the folder")
    return classes


def _read_images(classes: dict[str, list[Path]], size: int) -> Split:
    labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in classes.values()])
    images = np.empty((len(labels), 3, size, size), np.uint8)
    for i, path in enumerate(path for paths in classes.values() for path in paths):
        images[i] = read_image(path, size)
    return Split(images, labels)


def read_image(path: str | Path, size: int) -> np.ndarray:
    """Read an image file of any size and mode as uint8 RGB [3, size, size].

    The EXIF orientation is applied, 16-bit grey is scaled to 8 bits, and the background of a transparent image is
    white. The largest centred square is cropped and resized bilinearly, so the proportions stay. Raises UserError if
    the file is broken.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):  # 16-bit grey: I;16, or I (int32) from some formats
            image = Image.fromarray(np.rint(np.clip(image, 0, 65535) / 257).astype(np.uint8))
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        image = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # a broken image may raise almost anything
        reason = textwrap.shorten(str(error), 100)
        raise UserError(f"{path}: cannot be read as an image ({reason}); repair or remove it") from error
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


# Normalisation


def normalization(images: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 (mean, std) with which the device computes (pixel - mean) / std.

    `images` are the *training* images, uint8 [N, 3, H, W]. Both results are on the pixels' scale, 0..255:
    "channel": mean and population std of each channel, [3, 1, 1] (the article's `color_preprocessing`); the std of a
        constant channel is 1;
    "mean_image": the mean image, [3, H, W], and 255, [3, 1, 1];
    "none": 0 and 255, [3, 1, 1].
    All sums are of integers, so every machine gets the same bits. Raises UserError for another `kind`.
    """
    scale = np.full((3, 1, 1), 255.0)
    if kind == "none":
        return np.zeros((3, 1, 1)), scale
    if kind == "mean_image":
        return images.sum(axis=0, dtype=np.int64) / len(images), scale
    if kind != "channel":
        raise UserError(f"data.normalization: {kind!r} is unknown; choose channel, mean_image or none")
    count = images.size // 3
    totals = images.sum(axis=(0, 2, 3), dtype=np.int64)
    squares = np.zeros(3, np.int64)
    for start in range(0, len(images), 1000):  # in parts: an int64 square takes eight times the memory of a pixel
        squares += np.square(images[start : start + 1000], dtype=np.int64).sum(axis=(0, 2, 3))
    # Python's integers neither overflow nor round, and their quotient is rounded once.
    pairs = zip(totals.tolist(), squares.tolist(), strict=True)
    std = [math.sqrt((count * square - total**2) / count**2) or 1.0 for total, square in pairs]
    return (totals / count).reshape(3, 1, 1), np.array(std).reshape(3, 1, 1)


def fill_color(images: np.ndarray) -> np.ndarray:
    """Return the rounded channel mean, uint8 [3], of the training images, uint8 [N, 3, H, W]."""
    return np.rint(images.mean(axis=(0, 2, 3))).astype(np.uint8)  # sums below 2**53 are exact in float64
