"""CIFAR-10 and its stand-ins: download, verify, read, split, augment and batch. NumPy, no framework.

Images stay uint8, channel first ([N, 3, H, W]), until they are on the device; labels are int64 [N].
Everything random is a function of (seed, purpose, epoch, step) and of nothing else, so either framework, any
machine and any resumed run see the same bytes. (Mixup's weights come from SciPy; another build may round otherwise.)
"""

import gzip
import hashlib
import lzma
import math
import os
import pickle
import queue
import tarfile
import tempfile
import textwrap
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tandem.errors import UserError

# Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
MIRRORS = ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",)
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
FOLDER = "cifar-10-batches-py"
FILES_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
IMAGES_PER_FILE = 10_000
CLASSES = 10
IMAGE_EXTENSIONS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class Split(NamedTuple):
    """One part of a dataset: `images` uint8 [N, 3, H, W], `labels` int64 [N]."""

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """What a run trains and tests on; `validation` is None unless a fraction was set apart."""

    train: Split
    validation: Split | None
    test: Split
    class_names: tuple[str, ...]


class Batch(NamedTuple):
    """What one step sees: `images` uint8 [B, 3, H, W], C-contiguous, and `labels` int64 [B].

    With mixup also `permutation`, int64 [B], and `weight`, 0.5 to 1: see `mixup`. The device does the mixing.
    """

    images: np.ndarray
    labels: np.ndarray
    permutation: np.ndarray | None = None
    weight: float | None = None


# CIFAR-10: download and unpack


def download_data(
    directory: str | Path = ".",
    archive: str | Path | None = None,
    mirrors: Iterable[str] = MIRRORS,
    verify: bool = True,
) -> Path:
    """Make sure that `directory` holds the published batch files, and return the path of their folder.

    Missing files come from `archive`, a local .tar.gz or .tar.xz, or else from the first of `mirrors`, URLs
    of cifar-10-python.tar.gz, that gives it with the published md5. `verify` checks the md5 of every batch
    file, those already there included. The work is done in a temporary folder inside `directory`, and only
    whole, checked files are moved into place, so that two processes may do it at once.
    Raises UserError for a file that is not the published one, an archive that is truncated, altered or
    hostile, mirrors that do not serve, a disk that cannot be written.
    """
    directory = Path(directory)
    folder = directory / FOLDER
    missing = [name for name in FILES_MD5 if not (folder / name).is_file()]
    for name in FILES_MD5:
        if verify and name not in missing:
            _check_md5(folder / name)
    if not missing:
        return folder
    if archive is not None and not Path(archive).is_file():
        raise UserError(f"data.archive: {archive} is no file; give a CIFAR-10 .tar.gz or .tar.xz")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".cifar-10-") as temporary:
            source = _fetch(mirrors, directory, temporary) if archive is None else Path(archive)
            _unpack(source, Path(temporary), verify)
            folder.mkdir(exist_ok=True)
            for name in missing:
                os.replace(Path(temporary, FOLDER, name), folder / name)
    except OSError as error:
        raise UserError(f"{directory}: cannot lay CIFAR-10 there ({error}); set data.directory") from error
    return folder


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _check_md5(path: Path) -> None:
    if _md5(path) != FILES_MD5[path.name]:
        raise UserError(
            f"{path}: its md5 is not the published one, so it is damaged or altered; "
            "delete it to have it fetched again, or set data.verify: false"
        )


class _DownloadBar:
    """One task of a rich progress bar, with the methods that pooch's downloaders call."""

    def __init__(self, bars: Any, url: str):
        self.total = None  # bytes; pooch sets it once the server has answered
        self.bars = bars
        self.task = bars.add_task(url, total=None)

    def update(self, count: int) -> None:
        self.bars.update(self.task, advance=count, total=self.total)

    def reset(self) -> None:
        self.bars.reset(self.task)

    def close(self) -> None:
        self.bars.stop_task(self.task)


def _fetch(mirrors: Iterable[str], directory: Path, temporary: str) -> Path:
    """Download the published archive into `temporary` from the first mirror that serves it whole."""
    import pooch
    from rich import progress
    from rich.console import Console

    pooch.get_logger().setLevel("WARNING")  # the bar says what is being fetched
    description = progress.TextColumn("{task.description}", markup=False)
    columns, console = (description, progress.BarColumn(), progress.DownloadColumn()), Console(stderr=True)
    failures = []
    for url in mirrors:
        with progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            downloader = pooch.HTTPDownloader(progressbar=_DownloadBar(bars, url))
            try:
                name, md5 = "cifar-10-python.tar.gz", f"md5:{ARCHIVE_MD5}"
                return Path(pooch.retrieve(url, md5, name, temporary, downloader=downloader))
            except (OSError, ValueError) as error:  # no answer, an error page, a connection lost; a wrong md5
                failures.append(f"{url}: {textwrap.shorten(str(error), 150)}")
    raise UserError(
        f"data.mirrors: none serves CIFAR-10 ({'; '.join(failures)}); set data.archive to a local copy, "
        f"put {FOLDER} into {directory.resolve()}, or set data.source: digits"
    )


def _unpack(archive: Path, target: Path, verify: bool) -> None:
    """Unpack the published folder into `target`; refuse any member but regular files directly inside it."""
    folder = PurePosixPath(FOLDER)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if member.isdir() and path == folder:
                    continue
                if not member.isfile() or path.parent != folder or path.name == "..":
                    raise UserError(
                        f"{archive}: member {member.name!r} is not a plain file of {FOLDER}/, so nothing was "
                        "unpacked; use the published archive"
                    )
                tar.extract(member, target, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        reason = textwrap.shorten(str(error), 100)
        raise UserError(f"{archive}: truncated, or no tar archive ({reason}); fetch it again") from error
    for name, md5 in FILES_MD5.items():
        path = target / folder / name
        if not path.is_file():
            raise UserError(f"{archive}: holds no {FOLDER}/{name}; use the published archive")
        if verify and _md5(path) != md5:
            raise UserError(
                f"{archive}: the md5 of {name} is not the published one; "
                "use the published archive, or set data.verify: false"
            )


# CIFAR-10: read


class ArrayUnpickler(pickle.Unpickler):
    """Admits arrays, with the three names that their pickles need; any other is refused before it is imported."""

    # Where arrays find their constructor depends on NumPy's version (numpy.core, numpy._core): ask one.
    reconstruct = np.empty(0).__reduce__()[0]
    admitted = {  # noqa: RUF012 - a constant
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Called by pickle for each name in the file."""
        if (module, name) not in self.admitted:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.admitted[module, name]


def _not_as_published(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: not as CIFAR-10 published it, {reason}; delete it to have it fetched again")


def _unpickle(path: Path, verify: bool) -> dict:
    if not path.is_file():
        raise UserError(f"{path}: missing; fetch it with download_data, or set data.directory")
    if verify:
        _check_md5(path)
    with open(path, "rb") as file:
        try:
            content = ArrayUnpickler(file, encoding="bytes").load()
        except Exception as error:  # a damaged pickle may raise almost anything
            raise _not_as_published(path, f"refused, {textwrap.shorten(str(error), 100)}") from error
    if not isinstance(content, dict):
        raise _not_as_published(path, "holds no dictionary")
    return content


def _read_batches(directory: str | Path, names: list[str], verify: bool) -> Split:
    images, labels = [], []
    for name in names:
        path = Path(directory, FOLDER, name)
        content = _unpickle(path, verify)
        data, classes = content.get(b"data"), content.get(b"labels")
        shape = (IMAGES_PER_FILE, 3 * 32 * 32)
        if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape == shape):
            raise _not_as_published(path, f"'data' is not a uint8 array {shape}")
        if not (isinstance(classes, list) and len(classes) == IMAGES_PER_FILE):
            raise _not_as_published(path, f"'labels' is not a list of {IMAGES_PER_FILE}")
        if not all(type(label) is int and 0 <= label < CLASSES for label in classes):
            raise _not_as_published(path, f"a label is not an integer in 0..{CLASSES - 1}")
        images.append(data.reshape(-1, 3, 32, 32))
        labels.append(np.array(classes, np.int64))
    return Split(np.concatenate(images), np.concatenate(labels))


def train_data(directory: str | Path = ".", verify: bool = True) -> Split:
    """Return CIFAR-10's training set, uint8 [50000, 3, 32, 32] and int64 [50000], in the order of the files.

    `directory` holds the folder that `download_data` makes. `verify` checks the published md5s; shapes,
    dtypes and label range are always checked. Raises UserError naming the file that is missing, damaged or
    hostile.
    """
    return _read_batches(directory, [f"data_batch_{i}" for i in range(1, 6)], verify)


def test_data(directory: str | Path = ".", verify: bool = True) -> Split:
    """Return CIFAR-10's test set, uint8 [10000, 3, 32, 32] and int64 [10000]; otherwise as `train_data`."""
    return _read_batches(directory, ["test_batch"], verify)


def class_names(directory: str | Path = ".", verify: bool = True) -> tuple[str, ...]:
    """Return CIFAR-10's ten class names in the order of the labels; otherwise as `train_data`."""
    path = Path(directory, FOLDER, "batches.meta")
    names = _unpickle(path, verify).get(b"label_names")
    if not (isinstance(names, list) and len(names) == CLASSES and {type(name) for name in names} == {bytes}):
        raise _not_as_published(path, f"'label_names' is not a list of {CLASSES} byte strings")
    return tuple(name.decode() for name in names)


# The three sources


def load(data: Any, seed: int) -> Dataset:
    """Read the dataset that `data`, the settings of a config's `data:` section, describe.

    `data.source` is one of
    "cifar10": from `data.directory`, fetched first where missing (see `download_data`);
    "digits": scikit-learn's 1,797 handwritten digits as RGB, resized bilinearly to `data.image_size`; every
        fifth image of a class is a test image, whatever the seed;
    "folder": a user's images, `data.directory`/train/<class>/* and test/<class>/*, or else
        `data.directory`/<class>/*, of which a `data.test_fraction` of each class is the test set, drawn at random
        but alike for every seed.
        Classes are numbered in the order of their names. See `read_image`.
    A random `data.validation_fraction` of the training set is set apart, by the seed.
    Raises UserError naming the file or key at fault.
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
    """Draw the fraction `data.<key>` of 0 .. `count` - 1: return the numbers left and those drawn, sorted."""
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
    # Those md5s need no second look; what the files hold is checked in any case.
    train, test = train_data(data.directory, verify=False), test_data(data.directory, verify=False)
    return Dataset(train, None, test, class_names(data.directory, verify=False))


def _digits(size: int) -> Dataset:
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # published as 0..16
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
            # By no seed: else another seed would test on images that a run before it trained on.
            rest, drawn = _draw(len(paths), "test_fraction", data, 0, f"test images of class {name}")
            train[name], test[name] = [paths[i] for i in rest], [paths[i] for i in drawn]
    size = data.image_size
    return Dataset(_read_images(train, size), None, _read_images(test, size), tuple(train))


def _image_files(directory: Path) -> dict[str, list[Path]]:
    """Return the sorted image paths of each class, by sorted name; hidden and other files are ignored."""
    if not directory.is_dir():
        raise UserError(f"data.directory: {directory} is no folder; give one that holds a folder a class")
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

    It is turned upright by its EXIF orientation, 16-bit grey is scaled to 8 bits, transparency is laid on
    white. The largest centred square is resized bilinearly: proportions stay. Raises UserError if broken.
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
    """Return float64 (mean, deviation) with which the device computes (pixel - mean) / deviation.

    `images` are the *training* images, uint8 [N, 3, H, W]; both results are on the pixels' scale, 0..255:
    "channel": mean and population standard deviation of each channel, [3, 1, 1] (the article's
        `color_preprocessing`); a constant channel has the deviation 1;
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
    for start in range(0, len(images), 1000):  # in parts: a square takes eight times the memory of a pixel
        squares += np.square(images[start : start + 1000], dtype=np.int64).sum(axis=(0, 2, 3))
    # Python's integers neither overflow nor round, and the quotient of two is rounded once.
    pairs = zip(totals.tolist(), squares.tolist(), strict=True)
    deviation = [math.sqrt((count * square - total**2) / count**2) or 1.0 for total, square in pairs]
    return (totals / count).reshape(3, 1, 1), np.array(deviation).reshape(3, 1, 1)


def fill_color(images: np.ndarray) -> np.ndarray:
    """Return the rounded channel mean, uint8 [3], of the training images, uint8 [N, 3, H, W]."""
    return np.rint(images.mean(axis=(0, 2, 3))).astype(np.uint8)  # sums below 2**53 are exact in float64


# Randomness


def random_bits(seed: int, purpose: str, epoch: int, step: int, size: int | tuple[int, ...]) -> np.ndarray:
    """Return random uint64 of shape `size`: a function of the arguments only, on any machine, in any NumPy.

    `seed`, `epoch` and `step` are from 0 to 2**64 - 1; `purpose` is any name, such as "shuffle". This is
    Philox4x64-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011) with the key (seed,
    purpose) and the counter (block, step, epoch), raw: NumPy may change `Generator`'s methods, not this.
    """
    name = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    key, counter = np.array([seed, name], np.uint64), np.array([0, step, epoch, 0], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(size)


def random_integers(bits: np.ndarray, below: int) -> np.ndarray:
    """Turn uint64 `bits` into int64 in 0 .. `below` - 1, for `below` up to 2**32.

    High bits are scaled, none rejected: the probability of a value is off by less than 2**-32.
    """
    return ((bits >> np.uint64(32)) * np.uint64(below) >> np.uint64(32)).astype(np.int64)


def permutation(seed: int, purpose: str, epoch: int, count: int) -> np.ndarray:
    """Return 0 .. `count` - 1 in random order, int64: the stable argsort of `random_bits`."""
    return np.argsort(random_bits(seed, purpose, epoch, 0, count), kind="stable")


# Augmentation


def crop(images: np.ndarray, canvas: np.ndarray, top: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Lay images uint8 [B, 3, H, W] on the middle of a canvas each, and cut [H, W] out of it.

    `canvas`: uint8 [B or more, 3, H + 2 * padding, W + 2 * padding], whose border has the padding's colour
    and whose middle is overwritten. `top`, `left`: int64 [B], the window's place on it, 0 .. 2 * padding.
    """
    count, _, height, width = images.shape
    padding = (canvas.shape[2] - height) // 2
    canvas = canvas[:count]
    row = f"V{width}"  # moving a row of pixels as one item is nearly twice as fast as moving its bytes
    canvas[:, :, padding : padding + height, padding : padding + width].view(row)[:] = images.view(row)
    windows = sliding_window_view(canvas, (height, width), axis=(2, 3)).view(row)
    return windows[np.arange(count), :, top, left].view(np.uint8)


def flip(images: np.ndarray, flipped: np.ndarray) -> None:
    """Mirror in place, left to right, images of uint8 [B, 3, H, W] where `flipped`, bool [B], is true."""
    # Reversing words, and the bytes in them, is faster than reversing single bytes.
    words = images.view(f"u{math.gcd(images.shape[3], 8)}")
    words[flipped] = words[flipped].byteswap(inplace=True)[..., ::-1]


def cutout(images: np.ndarray, side: int, row: np.ndarray, column: np.ndarray, fill: np.ndarray) -> None:
    """Paint in place a square of colour `fill`, uint8 [3], on each of uint8 [B, 3, H, W], clipped at edges.

    `side` is in pixels; `row` and `column`, int64 [B], are its centre, or if `side` is even the pixel below
    and right of it. DeVries and Taylor, "Improved Regularization of CNNs with Cutout", 2017,
    arXiv:1708.04552.
    """
    color = fill[:, None, None]
    corners = zip((row - side // 2).tolist(), (column - side // 2).tolist(), strict=True)
    for image, (top, left) in zip(images, corners, strict=True):  # twice as fast as one mask for the batch
        image[:, max(top, 0) : top + side, max(left, 0) : left + side] = color


def augment(
    images: np.ndarray, canvas: np.ndarray, augmentation: Any, fill: np.ndarray, bits: np.ndarray
) -> np.ndarray:
    """Return images uint8 [B, 3, H, W] cropped, flipped and cut out as `bits`, uint64 [5, B], would have it.

    `augmentation` has `crop_padding` (pixels, 0 is off), `flip` (false is off) and `cutout` (side of the hole in
    pixels, 0 is off). `fill`, uint8 [3], is the colour of the hole. `canvas`: see `crop`. `images` may be
    overwritten.
    """
    _, _, height, width = images.shape
    top, left, flipped, row, column = bits
    if augmentation.crop_padding:
        offsets = 2 * augmentation.crop_padding + 1
        images = crop(images, canvas, random_integers(top, offsets), random_integers(left, offsets))
    if augmentation.flip:
        flip(images, random_integers(flipped, 2) == 1)
    if augmentation.cutout:
        row, column = random_integers(row, height), random_integers(column, width)
        cutout(images, augmentation.cutout, row, column, fill)
    return images


def mixup(alpha: float, bits: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the (permutation, weight) of a mixed batch of B images from random `bits`, uint64 [1 + B].

    Image i becomes weight * image i + (1 - weight) * image permutation[i], and its loss the same mean of the losses
    for both labels. Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, arXiv:1710.09412: the weight,
    one a batch, is drawn from Beta(`alpha`, `alpha`). Here from its upper half: of a pair either may be called the
    first, so batches are distributed alike, and an image's own label is always its heavier one. `weight` is a
    float32, from 0.5 to 1, so that `1 - weight` is exact, too.
    """
    from scipy.special import betaincinv

    uniform = int(bits[0] >> np.uint64(11)) / 2**53
    weight = float(np.float32(betaincinv(alpha, alpha, 0.5 + uniform / 2)))
    return np.argsort(bits[1:], kind="stable"), weight


# Batches


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return how many batches `batches` makes of `count` images.

    The smaller last batch is kept, so that every image is seen, but not if it is a single image: batch
    normalisation would see no variance.
    """
    whole, rest = divmod(count, batch_size)
    return whole + (rest > 1)


def batches(
    split: Split,
    batch_size: int,
    seed: int,
    epoch: int,
    augmentation: Any,
    fill: np.ndarray,
    first_step: int = 0,
) -> Iterator[Batch]:
    """Yield the shuffled, augmented batches of one training epoch; see `steps_per_epoch`, `augment` and `mixup`.

    `augmentation` has `mixup` (alpha, 0 is off) besides what `augment` needs. With `flip` "alternating" an image is
    mirrored, or not, at random in the first epoch, and then in every other one (Jordan 2024, arXiv:2404.00498,
    section 3.6), so that both its sides are seen in any two epochs. `fill`, uint8 [3], colours the
    padding of a crop and the hole of cutout: see `fill_color`. The order is a function of (seed, epoch), the
    augmentation of (seed, epoch, step): from `first_step` on, a resumed epoch yields exactly what the whole one
    does.
    """
    count, channels, height, width = split.images.shape
    border = 2 * augmentation.crop_padding
    # One canvas for the epoch: fresh memory for every batch, page by page, would halve the speed.
    canvas = np.empty((min(batch_size, count), channels, height + border, width + border), np.uint8)
    canvas[:] = fill[:, None, None]
    order = permutation(seed, "shuffle", epoch, count)
    # By which `augment` decides with "alternating", the highest bit of each turned over in every other epoch.
    sides = random_bits(seed, "side", 0, 0, count) ^ np.uint64(epoch % 2 << 63)
    for step in range(first_step, steps_per_epoch(count, batch_size)):
        index = order[step * batch_size : (step + 1) * batch_size]
        bits = random_bits(seed, "augmentation", epoch, step, (5, len(index)))
        if augmentation.flip == "alternating":
            bits[2] = sides[index]
        batch = Batch(augment(split.images[index], canvas, augmentation, fill, bits), split.labels[index])
        if augmentation.mixup:
            bits = random_bits(seed, "mixup", epoch, step, 1 + len(index))
            batch = Batch(batch.images, batch.labels, *mixup(augmentation.mixup, bits))
        yield batch


def evaluation_batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """Yield all of `split`, unchanged and in its own order; the last batch may be as small as one image."""
    for start in range(0, len(split.labels), batch_size):
        part = slice(start, start + batch_size)
        yield Batch(split.images[part], split.labels[part])


def prefetch(iterable: Iterable, depth: int = 2) -> Iterator:
    """Yield the items of `iterable`, which a thread makes up to `depth` items ahead.

    An exception in the thread is raised here, after the items before it. Closing the generator early
    (`break`, an exception, Ctrl-C) ends the thread.
    """
    made: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def produce() -> None:
        try:
            for item in iterable:
                made.put((True, item))
                if stop.is_set():
                    return
            made.put((False, None))
        except BaseException as error:
            made.put((False, error))

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            more, item = made.get()
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        stop.set()
        while not made.empty():  # a producer waiting for room goes on, sees `stop` and ends
            made.get()
        thread.join(timeout=1)
