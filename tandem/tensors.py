"""Arrays on their way from one process to another: a folder with a .npy file for each, which is read without a copy."""

import json
from pathlib import Path

import numpy as np


def write(folder, arrays):
    """Write the dict `arrays`, from name to array, into `folder`, over what was there.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    for number, array in enumerate(arrays.values()):
        np.save(folder / f"{number}.npy", array)
    (folder / "names.json").write_text(json.dumps(list(arrays)))


def read(folder):
    """What `write` wrote, in its order, as arrays that are maps of the files: good until these are written again."""
    folder = Path(folder)
    names = json.loads((folder / "names.json").read_text())
    return {name: np.load(folder / f"{number}.npy", mmap_mode="r") for number, name in enumerate(names)}
