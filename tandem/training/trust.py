"""What a checkpoint decides, and what only the user does. See docs/security.md.

A checkpoint is data, from wherever it comes. It never says which Python file runs: a network of one's own is taken from
where it lay as the run was trained here, if it is as it was, or from where the user says. It says where images are, and
on what to compute, only where the run was trained.
"""

import copy
import hashlib
import os
from pathlib import Path

from tandem.config.load import check_config, overridden
from tandem.core import files
from tandem.core.errors import UserError
from tandem.core.metadata import Metadata, read_json

from pydantic import JsonValue

RECORD = "trained.json"
"""The file in a run folder that says what was trained there."""

PLACES = ("data.directory", "data.archive", "data.mirrors", "device", "threads")
"""The settings that are of a machine, and not of a run. No checkpoint decides them."""


SMALL = 64
"""A network's numbers up to here are not compared with its arrays: strides, kernels, the depth of VGG."""


class Trained(Metadata):
    """What a run folder knows.

    Attributes:
        folder: its own inode. A folder that was copied or unpacked has another, which nobody can know before.
        network: the absolute path of the network's file, where it is the user's own.
        sha256: of that file.
        places: the settings `PLACES`, by key.
    """

    folder: int
    network: str | None
    sha256: str | None
    places: dict[str, JsonValue]


def record(folder, settings):
    """Note in the run folder `folder` what is being trained there, by its `Config`.

    Raises:
        UserError: the folder cannot be written, or the network's file not be read.
    """
    file = Path(settings.network.file).resolve() if settings.network.name == "own" else None
    values = settings.model_dump(mode="json")
    known = Trained(
        folder=os.stat(folder).st_ino,
        network=str(file) if file else None,
        sha256=_sha256(file) if file else None,
        places={key: _group(values, key)[key.rpartition(".")[2]] for key in PLACES},
    )
    files.write_file(Path(folder, RECORD), (known.model_dump_json(indent=2) + "\n").encode())


def settings_of(path, arrays, metadata, overrides=()):
    """The `Config` of a checkpoint: what may be taken from it.

    Args:
        path, arrays, metadata: as `checkpoint.find` gives them.
        overrides: what the user says ("network.file=mynet.py", "data.directory=/data").

    Raises:
        UserError: a setting is wrong; the network is far larger than the arrays; or it is a Python file that is not
            known here, or has changed.
    """
    known, values = _known(path), copy.deepcopy(metadata["config"])
    for key in PLACES:
        group, last = _group(values, key), key.rpartition(".")[2]
        if isinstance(group, dict):
            group.pop(last, None)
            if known is not None and key in known.places:
                group[last] = known.places[key]
    network = overridden(values, overrides).get("network")
    own = isinstance(network, dict) and network.get("name") == "own"
    named = {override.partition("=")[0] for override in overrides} & {"network", "network.file"}
    if "network.file" in named and not own and isinstance(network, dict):
        raise UserError(f"--network: {path} is of the network {network.get('name')}; leave it out")
    if own and not named:
        values["network"] = {**network, "file": _file_of(path, known)}
    settings = check_config(values, str(path), overrides)
    if not own:
        _check_size(path, arrays, settings.network, len(metadata["class_names"]))
    return settings


def check_data(path, metadata, overrides=()):
    """Check, before images are read, that the user has said where they are, if the checkpoint may not.

    Raises:
        UserError: they are not where a config has them by default, and the run was not trained here.
    """
    data = metadata["config"].get("data", {})
    elsewhere = data.get("source", "cifar10") != "digits" and data.get("directory", ".") != "."
    said = any(override.partition("=")[0] in ("data", "data.directory", "data.source") for override in overrides)
    if elsewhere and not said and _known(path) is None:
        raise UserError(
            f"{path}: was not trained in this place, so where its images are is not taken from it; "
            f"say where with -o data.directory=FOLDER (it was {data['directory']})"
        )


def _check_size(path, arrays, network, classes):
    """Refuse a network that cannot be that of the arrays before it takes all memory: a number alone asks for one.

    It has no more blocks than there are arrays, and no more channels than their longest side.
    """
    values = [value if isinstance(value, tuple) else (value,) for value in dict(network).values()]
    numbers = [number for value in values for number in value if isinstance(number, int)]
    blocks = getattr(network, "num_block", 1) * max(len(value) for value in values)
    longest = max((size for array in arrays.values() for size in array.shape), default=0)
    if max(blocks, classes, *numbers) > max(SMALL, longest, len(arrays)):
        raise UserError(
            f"{path}: does not fit the configured network, which is far larger than its weights; use the config it was "
            "made with"
        )


def _group(values, key):
    """What holds `key` in a config as nested dicts."""
    group, dot, _ = key.rpartition(".")
    return values.get(group) if dot else values


def _known(path):
    """The record of the run folder that the checkpoint `path` lies in, or None."""
    checkpoints = Path(path).resolve().parent
    folder = checkpoints.parent
    if checkpoints.name != "checkpoints" or not (folder / RECORD).is_file():
        return None
    try:
        known = read_json(Trained, (folder / RECORD).read_bytes(), folder / RECORD)
    except (UserError, OSError):
        return None
    return known if known.folder == os.stat(folder).st_ino else None


def _file_of(path, known):
    """The file of the network that was trained where `path` lies."""
    if known is None or known.network is None:
        raise UserError(
            f"{path}: its network is a Python file, and this is not the run folder where that was trained, so it does "
            "not run; read the file, and name it: --network FILE.py"
        )
    try:
        found = _sha256(known.network)
    except UserError:
        found = None
    if found != known.sha256:
        raise UserError(
            f"{path}: its network {known.network} is gone, or has changed since it was trained, so it does not run; "
            f"read it, and name it: --network {known.network}"
        )
    return known.network


def _sha256(file):
    files.check_plain(file)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
