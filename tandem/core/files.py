"""Files: written whole or not at all; and arrays on their way from one process to another."""

import json
import os
from pathlib import Path

from tandem.core.errors import UserError

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the package and the networks: a checkout, or where pip has installed them."""

UNFINISHED = ".unfinished-"
"""How the name of a file begins while it is being written."""


def write_file(path, content):
    """Write the bytes `content` to `path`, by a temporary file, fsync and rename: all of it, or nothing.

    Raises:
        UserError: the file cannot be written; nothing is left behind, and what was there before still is.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{UNFINISHED}{path.name}")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); what was there is as it was") from error


def check_folder(folder):
    """Refuse, before any work is done, a folder into which `write_file` could not write. It need not be there yet.

    Raises:
        UserError: it is a file, or may not be made or written.
    """
    whole = Path(folder).absolute()
    there = next(path for path in (whole, *whole.parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise UserError(f"{folder}: cannot be written; name a folder that can")


def write_arrays(folder, arrays):
    """Write the dict `arrays`, from name to array, into `folder`, over what was there.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    for number, array in enumerate(arrays.values()):
        np.save(folder / f"{number}.npy", array)
    (folder / "names.json").write_text(json.dumps(list(arrays)))


def read_arrays(folder):
    """What `write_arrays` wrote, in its order, as maps of the files: good until these are written again."""
    folder = Path(folder)
    names = json.loads((folder / "names.json").read_text())
    return {name: np.load(folder / f"{number}.npy", mmap_mode="r") for number, name in enumerate(names)}


def _sync_folder(folder):
    """A rename is on the disk only when its folder is. Windows cannot open one."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
