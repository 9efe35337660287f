"""Atomic writes of files, what may be read, and arrays passed between processes."""

import errno
import json
import os
import stat
import zipfile
from pathlib import Path

from tandem.core.errors import UserError
from tandem.core.machine import available_memory

import numpy as np

UNFINISHED = ".unfinished-"
"""The prefix of a file's name while it is being written."""


def write_file(path, content):
    """Write the bytes `content` to `path` atomically: to a temporary file, then fsync and rename.

    Raises:
        UserError: the file cannot be written. An old one is unchanged, and no temporary file is left.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{UNFINISHED}{path.name}")
        try:
            temporary.write_bytes(content)
            put_in_place(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        said = f"{path}: cannot be written ({error.strerror}), so an old one stays; make room, or write elsewhere"
        raise UserError(said) from error


def put_in_place(temporary, path):
    """Give the whole file `temporary` the name `path`, over an old one, once its content is on the disk.

    Raises:
        OSError: it cannot have that name; an old file is unchanged. Neither is a device: root could replace /dev/null.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "it is no file", str(path))
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(Path(path).parent)


def check_folder(folder):
    """Check, before any work is done, that `write_file` could write into `folder`. It need not exist yet.

    Raises:
        UserError: it is a file, or cannot be created or written to.
    """
    absolute = Path(folder).absolute()
    existing = next(path for path in (absolute, *absolute.parents) if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise UserError(f"{folder}: cannot be written; name another folder")


def check_plain(path, kind="file"):
    """Check that `path`, a `kind` of file, is one before it is opened: a FIFO would wait for ever, a device has no end.

    Raises:
        UserError: it is not there, or anything but a file (a link to one is one), or has no room in memory.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # a name may hold what no file's can
        raise UserError(f"{path}: no such {kind}; check the path") from None
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a FIFO or a device"
        raise UserError(f"{path}: is {what}; name a {kind}")
    if found.st_size > available_memory():  # one with holes may be of any length
        raise UserError(f"{path}: is {found.st_size / 1e9:.1f} GB long, and less memory is free; use another")


def read_member(archive, member):
    """The content of a `member` (a ZipInfo) of the open zip `archive`. It takes no more memory than it announces.

    Raises:
        zipfile.BadZipFile: it is damaged, or compressed otherwise than zips usually are.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile("it is neither stored nor deflated")  # the others unpack as much as they find
    with archive.open(member) as file:
        return file.read(member.file_size)  # without a number it would unpack all, and then cut it off


def write_arrays(folder, arrays):
    """Write the dict `arrays` (name to array) into `folder`, over those of an earlier call; each array once.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    distinct = list({id(array): array for array in arrays.values()}.values())
    numbers = {id(array): number for number, array in enumerate(distinct)}
    for number, array in enumerate(distinct):
        np.save(folder / f"{number}.npy", array)
    (folder / "names.json").write_text(json.dumps({name: numbers[id(array)] for name, array in arrays.items()}))


def read_arrays(folder):
    """The dict that `write_arrays` wrote, in its order, memory-mapped: valid until the folder is written again."""
    folder = Path(folder)
    numbers = json.loads((folder / "names.json").read_text())
    arrays = {number: np.load(folder / f"{number}.npy", mmap_mode="r") for number in set(numbers.values())}
    return {name: arrays[number] for name, number in numbers.items()}


def _sync_folder(folder):
    """Flush a rename to the disk, where it is only once its folder is. Windows cannot open a folder."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
