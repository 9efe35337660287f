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

RECORD = "trained.json"
"""The file in a run folder that says what was trained there."""

PLACES = (("data", "directory"), ("data", "archive"), ("data", "mirrors"), ("device",), ("threads",))
"""The settings that are of a machine, and not of a run."""


class Trained(Metadata):
    """What a run folder knows.

    Attributes:
        folder: its own inode. A folder that was copied or unpacked has another, which nobody can know before.
        network: the absolute path of the network's file, where it is the user's own.
        sha256: of that file.
    """

    folder: int
    network: str | None
    sha256: str | None


def record(folder, network):
    """Note in the run folder `folder` that `network` (settings) is being trained there.

    Raises:
        UserError: the folder cannot be written, or the network's file not be read.
    """
    file = Path(network.file).resolve() if network.name == "own" else None
    sha256 = _sha256(file) if file else None
    known = Trained(folder=os.stat(folder).st_ino, network=str(file) if file else None, sha256=sha256)
    files.write_file(Path(folder, RECORD), (known.model_dump_json(indent=2) + "\n").encode())


def settings_of(path, metadata, overrides=()):
    """The `Config` of the checkpoint `path` with `metadata` (see checkpoint.py): what may be taken from it.

    Args:
        path, metadata: as `checkpoint.find` gives them.
        overrides: what the user says ("network.file=mynet.py", "data.directory=/data").

    Raises:
        UserError: a setting is wrong; or the network is a Python file that is not known here, or has changed.
    """
    known, values = _known(path), copy.deepcopy(metadata["config"])
    for *groups, key in PLACES if known is None else ():
        group = values
        for name in groups:
            group = group.get(name)
        if isinstance(group, dict):
            group.pop(key, None)
    network = overridden(values, overrides).get("network")
    own = isinstance(network, dict) and network.get("name") == "own"
    named = [override for override in overrides if override.partition("=")[0] in ("network", "network.file")]
    if named and not own and isinstance(network, dict):
        raise UserError(f"--network: {path} is of the network {network.get('name')}; leave it out")
    if own and not named:
        values["network"]["file"] = _file_of(path, known)
    return check_config(values, str(path), overrides)


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
