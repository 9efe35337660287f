"""CIFAR-10: download, verify and read. NumPy only, no framework.

Images are uint8, channels first ([N, 3, H, W]); labels are int64 [N]. All other code for data is in tandem/data.
"""

import gzip
import hashlib
import lzma
import os
import pickle
import tarfile
import tempfile
import textwrap
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tandem.core.errors import UserError

import numpy as np

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


class Split(NamedTuple):
    """One part of a dataset: `images` uint8 [N, 3, H, W], `labels` int64 [N]."""

    images: np.ndarray
    labels: np.ndarray


# Download and unpack


def download_data(
    directory: str | Path = ".",
    archive: str | Path | None = None,
    mirrors: Iterable[str] = MIRRORS,
    verify: bool = True,
) -> Path:
    """Make sure that `directory` holds the published batch files, and return the path of their folder.

    Missing files come from `archive`, a local .tar.gz or .tar.xz. Without it they come from the first of `mirrors`,
    URLs of cifar-10-python.tar.gz, that serves it with the published md5. `verify` checks the md5 of every batch
    file, also of those already there. Files are unpacked into a temporary folder inside `directory`, and only
    complete, checked files are moved into place. So two processes may do it at once.
    Raises UserError if a file is not the published one, if the archive is truncated, altered or malicious, if no
    mirror serves it, or if the disk cannot be written.
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
        raise UserError(f"data.archive: {archive} is not a file; give a CIFAR-10 .tar.gz or .tar.xz")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".cifar-10-") as temporary:
            source = _fetch(mirrors, directory, temporary) if archive is None else Path(archive)
            _unpack(source, Path(temporary), verify)
            folder.mkdir(exist_ok=True)
            for name in missing:
                os.replace(Path(temporary, FOLDER, name), folder / name)
    except OSError as error:
        raise UserError(f"{directory}: cannot write CIFAR-10 there ({error}); set data.directory") from error
    return folder


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _check_md5(path: Path) -> None:
    if _md5(path) != FILES_MD5[path.name]:
        raise UserError(
            f"{path}: its md5 is not the published one: the file is damaged or altered; "
            "delete it to download it again, or set data.verify: false"
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
    """Download the published archive into `temporary`, from the first mirror that serves all of it."""
    import pooch
    from rich import progress
    from rich.console import Console

    pooch.get_logger().setLevel("WARNING")  # the bar says what is being downloaded
    description = progress.TextColumn("{task.description}", markup=False)
    columns, console = (description, progress.BarColumn(), progress.DownloadColumn()), Console(stderr=True)
    failures = []
    for url in mirrors:
        with progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            downloader = pooch.HTTPDownloader(progressbar=_DownloadBar(bars, url))
            try:
                name, md5 = "cifar-10-python.tar.gz", f"md5:{ARCHIVE_MD5}"
                return Path(pooch.retrieve(url, md5, name, temporary, downloader=downloader))
            except (OSError, ValueError) as error:  # no answer, an error status, a lost connection; a wrong md5
                failures.append(f"{url}: {textwrap.shorten(str(error), 150)}")
    raise UserError(
        f"data.mirrors: no mirror serves CIFAR-10 ({'; '.join(failures)}); set data.archive to a local copy, "
        f"put {FOLDER} into {directory.resolve()}, or set data.source: digits"
    )


def _unpack(archive: Path, target: Path, verify: bool) -> None:
    """Unpack the published folder into `target`. Reject any member except regular files directly inside it."""
    folder = PurePosixPath(FOLDER)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if member.isdir() and path == folder:
                    continue
                if not member.isfile() or path.parent != folder or path.name == "..":
                    raise UserError(
                        f"{archive}: member {member.name!r} is not a plain file of {FOLDER}/, so no file was "
                        "installed; use the published archive"
                    )
                tar.extract(member, target, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        reason = textwrap.shorten(str(error), 100)
        raise UserError(f"{archive}: truncated, or not a tar archive ({reason}); download it again") from error
    for name, md5 in FILES_MD5.items():
        path = target / folder / name
        if not path.is_file():
            raise UserError(f"{archive}: holds no {FOLDER}/{name}; use the published archive")
        if verify and _md5(path) != md5:
            raise UserError(
                f"{archive}: the md5 of {name} is not the published one; "
                "use the published archive, or set data.verify: false"
            )


# Read


class ArrayUnpickler(pickle.Unpickler):
    """Loads arrays only: it allows the three names that their pickles need, and rejects others before any import."""

    # The module of an array's constructor depends on NumPy's version (numpy.core, numpy._core): ask an array.
    reconstruct = np.empty(0).__reduce__()[0]
    allowed = {  # noqa: RUF012 - a constant
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return what the name `module`.`name` in a pickle stands for; pickle calls this."""
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.allowed[module, name]


def _not_as_published(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: not the published CIFAR-10 file: {reason}; delete it to download it again")


def _unpickle(path: Path, verify: bool) -> dict:
    if not path.is_file():
        raise UserError(f"{path}: missing; download it with download_data, or set data.directory")
    if verify:
        _check_md5(path)
    with open(path, "rb") as file:
        try:
            content = ArrayUnpickler(file, encoding="bytes").load()
        except Exception as error:  # a damaged pickle may raise almost anything
            raise _not_as_published(path, f"cannot be unpickled, {textwrap.shorten(str(error), 100)}") from error
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

    `directory` holds the folder that `download_data` makes. `verify` checks the published md5s. Shapes, dtypes and
    the range of the labels are always checked. Raises UserError that names the file if one is missing, damaged or
    malicious.
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
