"""CIFAR-10: download, verify and read. NumPy only, no framework.

Images are uint8, channels first ([N, 3, H, W]); labels are int64 [N]. All other code for data is in tandem/data.
"""

import hashlib
import os
import pickle
import tarfile
import tempfile
import textwrap
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tandem.core import files, pickles
from tandem.core.errors import UserError
from tandem.core.paths import expanded

import numpy as np

# Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
# The second mirror is Paddle's own (python/paddle/vision/datasets/cifar.py). An archive from anywhere else is as good
# if `md5sum cifar-10-python.tar.gz` (on a Mac: `md5 cifar-10-python.tar.gz`) says what ARCHIVE_MD5 says.
MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
)
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

# The most that is unpacked. The published archive has 9 members of 186 MB in all, the largest of 31 MB.
LARGEST_FILE = 1 << 26
LARGEST_ARCHIVE = 1 << 30
MEMBERS = 10_000
LARGEST_HEADER = 1 << 16


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

    They are in cifar-10-batches-py in it, in the directory itself, or a folder further down, as some programs unpack
    them. Missing files come from `archive`, a local .tar, .tar.gz, .tar.xz or .zip that holds them in any folder.
    Without it they come from the first of `mirrors`, URLs of cifar-10-python.tar.gz, that serves it with the published
    md5. In both paths, ~ and $VARIABLE stand for what they stand for in a shell. `verify` checks the md5 of every batch
    file, also of those already there. Files are unpacked into a temporary folder inside `directory`, and only complete,
    checked files are moved into place. So two processes may do it at once.
    Raises UserError if a file is not the published one, if the archive is truncated, altered or malicious, if no
    mirror serves it, or if the disk cannot be written.
    """
    directory = expanded(directory)
    folder, missing = _folder_in(directory), missing_files(directory)
    for name in FILES_MD5:
        if verify and name not in missing:
            _check_md5(folder / name)
    if not missing:
        return folder
    if archive is not None and not expanded(archive).is_file():
        raise UserError(f"data.archive: {archive} is not a file; give a CIFAR-10 .tar.gz, .tar.xz, .tar or .zip")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".cifar-10-") as temporary:
            source = _fetch(mirrors, folder, missing, temporary) if archive is None else expanded(archive)
            _unpack(source, Path(temporary), missing, verify)
            folder.mkdir(exist_ok=True)
            for name in missing:
                os.replace(Path(temporary, name), folder / name)
    except OSError as error:
        raise UserError(f"{directory}: cannot write CIFAR-10 there ({error}); set data.directory") from error
    return folder


def missing_files(directory: str | Path = ".") -> list[str]:
    """Return the names of the batch files that `directory` lacks; see `download_data` for where they may be."""
    folder = _folder_in(expanded(directory))
    return [name for name in FILES_MD5 if not (folder / name).is_file()]


def _folder_in(directory: Path) -> Path:
    """Return the folder of `directory` that holds the most batch files; where none does, the one they belong in."""
    usual = directory / FOLDER
    places = [usual, directory, usual / FOLDER, *sorted(directory.glob(f"*/{FOLDER}"))]
    held = {place: sum((place / name).is_file() for name in FILES_MD5) for place in places}
    most = max(places, key=held.__getitem__)
    return most if held[most] else usual


def _check_md5(path: Path) -> None:
    with open(path, "rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    if md5 != FILES_MD5[path.name]:
        raise UserError(
            f"{path}: its md5 is not the published one: the file is damaged, altered, or was pickled again; "
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


def _why(error: Exception) -> str:
    """Why a mirror serves nothing, as pooch raises it, in words."""
    import requests

    if isinstance(error, requests.HTTPError):
        return f"answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "does not answer"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "breaks off"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    if isinstance(error, ValueError) and "hash" in str(error):
        return "serves another file: its md5 is not the published one"
    return f"fails: {textwrap.shorten(str(error), 150)}"


def _fetch(mirrors: Iterable[str], folder: Path, missing: list[str], temporary: str) -> Path:
    """Download the published archive into `temporary`, from the first mirror that serves all of it.

    The files `missing` in `folder` are what it is for, which an error says.
    """
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
                failures.append(f"{url} {_why(error)}")
    raise UserError(
        f"data.mirrors: no mirror serves CIFAR-10 ({'; '.join(failures)}), and {folder.resolve()} lacks "
        f"{_listed(missing)}; set data.archive to a local copy, data.directory to where {FOLDER} is, "
        "data.mirrors to a URL that you can reach, or data.source: digits"
    )


def _listed(names: list[str]) -> str:
    return "all batch files" if len(names) == len(FILES_MD5) else ", ".join(names)


class _Refused(Exception):
    """An archive holds what the published one does not and what does harm; says what, for a message."""


EXTENDING = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
"""The types of members that say more about the next one. tarfile reads them whole."""


class _Member(tarfile.TarInfo):
    """A tar's member whose header is judged before anything that it announces is read."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "_Member":
        """Return the member of the header `buf`; tarfile calls this for each, also for those that only extend others.

        Raises _Refused if it announces too much.
        """
        member = super().frombuf(buf, encoding, errors)
        if member.type == tarfile.GNUTYPE_SPARSE:
            cls.refuse_sparse()
        most = LARGEST_HEADER if member.type in EXTENDING else LARGEST_ARCHIVE
        if not 0 <= member.size <= most:
            raise _Refused(f"member {member.name[:100]!r} announces {member.size:,} bytes, and {most:,} is the most")
        return member

    @staticmethod
    def refuse_sparse(*_: Any) -> None:
        """Raise _Refused: a few bytes of a sparse member stand for as many as they like."""
        raise _Refused("a member is sparse")

    # What tarfile calls for the sparse members of pax archives.
    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = refuse_sparse


def _members(archive: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Yield the name and the size of each file in a tar or zip, and what reads it."""
    with open(archive, "rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if is_zip:
        with zipfile.ZipFile(archive) as found:
            for info in found.infolist():
                if not info.is_dir():
                    yield info.filename, info.file_size, lambda info=info: files.read_member(found, info)
        return
    with tarfile.open(archive, tarinfo=_Member) as tar:
        for member in tar:
            if not (member.isdir() or member.isfile()):
                raise _Refused(f"member {member.name[:100]!r} is not a plain file")
            if member.isfile():
                yield member.name, member.size, lambda member=member: tar.extractfile(member).read()


def _unpack(archive: Path, target: Path, missing: list[str], verify: bool) -> None:
    """Write the files `missing` out of `archive` into `target`. Nothing else that it holds is written."""
    found, altered, others, total = set(), [], [], 0
    try:
        for number, (name, size, read) in enumerate(_members(archive)):
            path, total = PurePosixPath(name), total + size
            if path.is_absolute() or ".." in path.parts:
                raise _Refused(f"member {name[:100]!r} is not a plain file below the archive's folder")
            if number == MEMBERS or total > LARGEST_ARCHIVE:
                raise _Refused(f"it has more than {MEMBERS:,} members or {LARGEST_ARCHIVE >> 20:,} MiB")
            if path.name not in missing or path.name in found:
                others.append(name)
                continue
            if size > LARGEST_FILE:
                raise _Refused(f"member {name[:100]!r} announces {size:,} bytes, and {LARGEST_FILE:,} is the most")
            content = read()
            if verify and hashlib.md5(content, usedforsecurity=False).hexdigest() != FILES_MD5[path.name]:
                altered.append(path.name)
                continue
            (target / path.name).write_bytes(content)
            found.add(path.name)
    except UserError:
        raise
    except _Refused as error:
        raise UserError(f"{archive}: {error}, so no file was installed; use the published archive") from error
    except Exception as error:  # tarfile, zipfile and what they decompress with raise almost anything
        if isinstance(error, OSError) and error.errno is not None:  # of the disk
            raise
        # tarfile.open lists what each decompressor said, which says no more than that none can read it.
        reason = "" if isinstance(error, tarfile.ReadError) else f" ({textwrap.shorten(str(error), 100)})"
        raise UserError(f"{archive}: truncated, or not a tar archive or zip{reason}; download it again") from error
    lacking = [name for name in missing if name not in found]
    if altered and lacking:
        raise UserError(
            f"{archive}: the md5 of {', '.join(name for name in lacking if name in altered)} is not the published one; "
            "use the published archive, or set data.verify: false"
        )
    if lacking:
        what = "batch file" if len(lacking) == len(FILES_MD5) else f"{FOLDER}/{', '.join(lacking)}"
        instead = f" (it holds {', '.join(name[:100] for name in others[:3])}, ...)" if others else ""
        raise UserError(f"{archive}: holds no {what}{instead}; use the published archive, cifar-10-python.tar.gz")


# Read


def _not_as_published(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: not the published CIFAR-10 file: {reason}; delete it to download it again")


def _unpickle(directory: str | Path, name: str, verify: bool) -> tuple[Path, dict]:
    path = _folder_in(expanded(directory)) / name
    if not path.exists():
        raise UserError(f"{path}: missing; download it with download_data, or set data.directory")
    files.check_plain(path)
    if path.stat().st_size > LARGEST_FILE:
        raise _not_as_published(path, f"is longer than {LARGEST_FILE >> 20} MiB")
    if verify:
        _check_md5(path)
    with open(path, "rb") as file:
        try:
            content = pickles.load(file)
        except pickle.UnpicklingError as error:
            raise _not_as_published(path, f"cannot be unpickled, {error}") from error
    if not isinstance(content, dict):
        raise _not_as_published(path, "holds no dictionary")
    # Pickled again by Python 3, its keys are text.
    return path, {key.encode() if isinstance(key, str) else key: value for key, value in content.items()}


def _read_batches(directory: str | Path, names: list[str], verify: bool) -> Split:
    images, labels = [], []
    for name in names:
        path, content = _unpickle(directory, name, verify)
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
    path, content = _unpickle(directory, "batches.meta", verify)
    names = content.get(b"label_names")
    if not (
        isinstance(names, list) and len(names) == CLASSES and all(isinstance(name, (bytes, str)) for name in names)
    ):
        raise _not_as_published(path, f"'label_names' is not a list of {CLASSES} names")
    return tuple(name.decode(errors="replace") if isinstance(name, bytes) else name for name in names)
