"""The three sources of images: CIFAR-10, scikit-learn's digits and your own folders; and their normalisation."""

import collections
import contextlib
import importlib.util
import math
import os
import textwrap
import unicodedata
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from data_utils import Split, class_names, download_data, test_data, train_data
from tandem.core.errors import UserError, escaped
from tandem.core.random import permutation

import numpy as np

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""The kinds of images that are read, by Pillow's names. A file's content decides, and not the ending of its name."""

IMAGE_ENDINGS = {
    ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"
}  # fmt: skip
"""Endings that promise an image: such a file that is none is an error, and not passed over."""

SYSTEM_NAMES = {"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", "#recycle"} | {
    "Thumbs.db",
    "desktop.ini",
}
"""What systems put beside files; it is passed over without a word, as are names that begin with a point."""


class Dataset(NamedTuple):
    """The images of a run; `validation` is None unless a fraction of the training set is held out.

    `notes` are lines on what was passed over, or read otherwise than one would think.
    """

    train: Split
    validation: Split | None
    test: Split
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def load_dataset(data: Any, seed: int) -> Dataset:
    """Read the dataset that `data`, the settings of a config's `data:` section, describe.

    `data.source` is one of
    "cifar10": from `data.directory`, downloaded first if missing (see `download_data`);
    "digits": scikit-learn's 1,797 handwritten digits as RGB, resized bilinearly to `data.image_size`; every fifth image
        of a class is a test image, for every seed;
    "folder": your own images, `data.directory`/train/<class>/* and test/<class>/*; or `data.directory`/<class>/*, with
        a random `data.test_fraction` of each class as the test set, the same for every seed. Classes are numbered in
        the order of their names (in Unicode's NFC). See `find_images` and `read_image`.
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

    # The file that sklearn.datasets.load_digits reads; to import that takes ten times as long as all of this.
    folder = Path(*importlib.util.find_spec("sklearn").submodule_search_locations, "datasets", "data")
    rows = np.loadtxt(folder / "digits.csv.gz", delimiter=",")  # 64 pixels of 0..16, and the digit
    grey = np.rint(rows[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    bilinear = Image.Resampling.BILINEAR
    large = np.stack([Image.fromarray(image).resize((size, size), bilinear) for image in grey])
    split = Split(np.repeat(large[:, None], 3, axis=1), rows[:, -1].astype(np.int64))
    test = np.zeros(len(large), bool)
    for label in range(10):
        test[np.flatnonzero(split.labels == label)[4::5]] = True
    return Dataset(_select(split, ~test), None, _select(split, test), tuple("0123456789"))


def _folder(data: Any) -> Dataset:
    directory = Path(data.directory)
    found = _entries(directory)
    parts = {path.name.lower(): path for path in found.folders if path.name.lower() in ("train", "test")}
    passed = Passed()
    if len(parts) == 1:
        (part,) = parts
        other = {"train": "test", "test": "train"}[part]
        near = [path.name for path in found.folders if path.name.lower() in ("val", "valid", "validation")]
        hint = f"rename {near[0]}/, or add {other}/" if near else "add it"
        raise UserError(f"data.directory: {directory} holds {part}/, but no {other}/; {hint}")
    if parts:
        passed.files += found.files
        passed.folders += [path for path in found.folders if path not in parts.values()]
    train = _image_files(parts.get("train", directory), passed)
    if len(train) < 2:
        raise UserError(f"data.directory: {directory} holds {len(train)} class folders, but two are needed")
    if parts:
        test = _image_files(parts["test"], passed)
        for name in sorted(train.keys() ^ test.keys()):
            missing = parts["test" if name in train else "train"] / name
            raise UserError(f"{missing}: class {name!r} is missing here; add it, or remove its other folder")
    else:
        test = {}
        for name, paths in train.items():
            # Independent of the seed: otherwise a run would test on images that another seed's run trained on.
            rest, drawn = _draw(len(paths), "test_fraction", data, 0, f"test images of class {name}")
            train[name], test[name] = [paths[i] for i in rest], [paths[i] for i in drawn]
    notes = passed.lines(directory)
    splits = [_read_images(classes, data.image_size, notes) for classes in (train, test)]
    return Dataset(splits[0], None, splits[1], tuple(train), tuple(map(escaped, notes)))


class _Entries(NamedTuple):
    """What a folder holds, sorted, but for what systems put there."""

    folders: list[Path]
    files: list[Path]


def _entries(directory: Path) -> _Entries:
    if not directory.is_dir():
        raise UserError(f"data.directory: {directory} is not a folder; give one that holds a folder for each class")
    found = _Entries([], [])
    for path in sorted(directory.iterdir()):
        if path.name in SYSTEM_NAMES or path.name[0] == ".":
            continue
        try:
            path.name.encode()
        except UnicodeEncodeError:
            raise UserError(f"{os.fsencode(path)}: its name is not UTF-8; rename it") from None
        (found.folders if path.is_dir() else found.files).append(path)
    return found


class Passed:
    """What was passed over: files that are no images, and folders where there should be files."""

    def __init__(self):
        self.files = []
        self.folders = []

    def lines(self, directory: Path) -> list[str]:
        """One line, or none; `directory` is what all of it lies in."""
        parts = []
        if self.files:
            endings = collections.Counter(path.suffix.lower() or "no ending" for path in self.files)
            kinds = ", ".join(ending for ending, _ in endings.most_common(5))
            parts.append(f"{_count(self.files, 'file')} without an image in it ({kinds})")
        if self.folders:
            names = [
                f"{path.relative_to(directory)}/ ({_count(_all_files(path), 'file')})" for path in self.folders[:5]
            ]
            if len(self.folders) > 5:
                names.append("...")
            parts.append(f"{_count(self.folders, 'folder')} where none is looked for: {', '.join(names)}")
        return [f"passed over in {directory}: {'; '.join(parts)}"] if parts else []


def _count(things: list, what: str) -> str:
    return f"{len(things):,} {what}{'' if len(things) == 1 else 's'}"


def _all_files(directory: Path) -> list[Path]:
    return [Path(folder, name) for folder, _, names in os.walk(directory) for name in names]


def _image_files(directory: Path, passed: Passed) -> dict[str, list[Path]]:
    """Return the image paths of each class, by the sorted names of its folders; enter the rest into `passed`."""
    found = _entries(directory)
    passed.files += found.files
    classes = {}
    for folder in found.folders:
        name = unicodedata.normalize("NFC", folder.name)
        if name in classes:
            raise UserError(f"{folder}: two folders have this name, written in two forms of Unicode; join them")
        classes[name], inside = find_images(folder, passed)
        passed.folders += inside
        if not classes[name]:
            below = f" itself, only below it ({inside[0].name}/, ...): move them up" if inside else "; add some"
            raise UserError(f"{folder}: holds no image{below}, or remove the folder")
    return {name: classes[name] for name in sorted(classes)}


def find_images(directory: Path, passed: Passed) -> tuple[list[Path], list[Path]]:
    """Return the sorted images and folders in a folder, without those of systems; enter other files into `passed`.

    A file is an image if its content is of one of `FORMATS`, or if its name promises one (`IMAGE_ENDINGS`). Raises
    UserError for a name that is not UTF-8.
    """
    found = _entries(directory)
    images = [path for path in found.files if path.suffix.lower() in IMAGE_ENDINGS or _is_image(path)]
    passed.files += sorted(set(found.files) - set(images))
    return images, found.folders


def _is_image(path: Path) -> bool:
    """Whether the beginning of a file is that of an image."""
    from PIL import Image

    if not path.is_file():  # a pipe would be waited for
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(Exception), Image.open(path, formats=FORMATS):
            return True
    return False


def _read_images(classes: dict[str, list[Path]], size: int, notes: list[str]) -> Split:
    """Read all images of the classes; enter what Pillow warned of into `notes`, each warning once."""
    labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in classes.values()])
    images = np.empty((len(labels), 3, size, size), np.uint8)
    warned = {}
    for i, path in enumerate(path for paths in classes.values() for path in paths):
        images[i] = read_image(path, size, lambda what, path=path: warned.setdefault(what, []).append(path))
    for what, paths in warned.items():
        others = f" (and {len(paths) - 1:,} more)" if len(paths) > 1 else ""
        notes.append(f"{paths[0]}{others}: {what}")
    return Split(images, labels)


def read_image(path: str | Path, size: int, note=lambda what: None) -> np.ndarray:
    """Read an image file of any size and mode as uint8 RGB [3, size, size].

    The EXIF orientation is applied. Grey of 16 bits is scaled by 255/65535, and grey of floating point by 255 if all of
    it lies in 0..1; other floats and whole numbers of 32 bits are refused, for nobody knows what is white there. The
    background of a transparent image is white. Of an animation the first image is read. The largest centred square is
    cropped and resized bilinearly, so the proportions stay. `note` is called with each of Pillow's warnings.
    Raises UserError if the file is broken, of another format, or of more than 89,478,485 pixels (Pillow's limit).
    """
    from PIL import Image, ImageOps

    if not Path(path).is_file():
        raise UserError(f"{path}: is no file, or a link to none; repair or remove it")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=FORMATS) as file:
                image = _with_8_bits(_upright(file), file.format)
            if image.has_transparency_data:
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image.convert("RGBA"))
            image = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            limit = f"{Image.MAX_IMAGE_PIXELS:,}"
            raise UserError(f"{path}: has more than {limit} pixels, and a few can fill memory; shrink it") from error
        except Image.UnidentifiedImageError as error:
            what = "is empty" if Path(path).stat().st_size == 0 else f"is of none of the formats {', '.join(FORMATS)}"
            raise UserError(f"{path}: cannot be read as an image ({what}); repair or remove it") from error
        except Exception as error:  # a broken image may raise almost anything
            reason = textwrap.shorten(str(error), 100)
            raise UserError(f"{path}: cannot be read as an image ({reason}); repair or remove it") from error
    for warning in caught:
        note(textwrap.shorten(str(warning.message), 100))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _upright(file):
    """The loaded image, turned as its EXIF data says; as it is where these are damaged."""
    from PIL import ImageOps

    file.load()
    try:
        return ImageOps.exif_transpose(file)
    except Exception as error:
        warnings.warn(f"its EXIF data are damaged ({error}), so it is not turned", stacklevel=2)
        return file.copy()


def _with_8_bits(image, format):
    """`image`, of a file of `format`, with grey of 16 bits or floating point scaled to 8, and LAB as sRGB.

    Raises:
        ValueError: nobody knows what is black and what is white.
    """
    from PIL import Image, ImageCms

    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if image.mode.startswith("I;16") or (image.mode == "I" and format in ("PNG", "PPM")):
        return Image.fromarray(np.rint(np.asarray(image) / 257.0).astype(np.uint8))
    if image.mode in ("I", "F"):
        pixels = np.asarray(image)
        low, high = pixels.min(), pixels.max()
        if image.mode == "F" and 0 <= low <= high <= 1:
            return Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
        kind = "whole numbers of 32 bits" if image.mode == "I" else "floats outside 0..1"
        raise ValueError(f"{kind}, from {low:g} to {high:g}: what is white? save it with 8 or 16 bits")
    return image


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
