"""Checkpoints: one safetensors file that either framework resumes from, whole or not there at all.

A file holds the state (see core/state.py), the preprocessing (`preprocessing/mean`, `preprocessing/std`), and
JSON metadata: config, position, metrics, versions, class names, and a digest of it all.
"""

import hashlib
import json
from pathlib import Path

from tandem.core import files
from tandem.core.errors import UserError

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

FORMAT = 1
BEST = "best.safetensors"


def write(path, arrays, metadata):
    """Write `arrays` (name to NumPy array) and `metadata` (JSON) to `path`, by a temporary file, fsync and rename.

    Whatever happens in between (a kill, a full disk), `path` is afterwards what it was before, or the whole new file.

    Raises:
        UserError: the file cannot be written; nothing is left behind.
    """
    arrays = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
    text = json.dumps({"format": FORMAT, **metadata})
    files.write_file(path, save(arrays, {"tandem": text, "digest": _digest(arrays, text)}))


def read(path):
    """Read a checkpoint: (arrays, metadata).

    Raises:
        UserError: it is not there, cut off, changed, or not a Tandem checkpoint.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint; check the path") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: damaged or not a checkpoint ({error}); use another") from error
    if "tandem" not in header:
        raise UserError(f"{path}: a safetensors file, but not one of Tandem's; use one from a run folder")
    if header.get("digest") != _digest(arrays, header["tandem"]):
        raise UserError(f"{path}: damaged (its contents do not match their digest); use another")
    metadata = json.loads(header["tandem"])
    if metadata["format"] != FORMAT:
        raise UserError(
            f"{path}: format {metadata['format']}, but this Tandem reads {FORMAT}; use the Tandem it is from"
        )
    return arrays, metadata


def file_name(step):
    """The name of the checkpoint after `step` training steps; names sort as the steps do."""
    return f"step-{step:09d}.safetensors"


def newest_first(folder):
    """The checkpoints of `folder` but the best, newest first."""
    return sorted(Path(folder).glob("step-*.safetensors"), reverse=True)


def newest(folder, warn):
    """Read the newest whole checkpoint in `folder`: (path, arrays, metadata); `warn` is told of each damaged one.

    Raises:
        UserError: there is none.
    """
    for path in newest_first(folder):
        try:
            return path, *read(path)
        except UserError as error:
            warn(f"skipped: {error}")
    raise UserError(f"{folder}: no whole checkpoint to resume from; start a new run without --resume")


def find(path, warn):
    """Read the checkpoint `path`, or the newest whole one of the run folder `path`: (path, arrays, metadata).

    Raises:
        UserError: see `read` and `newest`.
    """
    path = Path(path)
    if path.is_dir():
        return newest(path / "checkpoints", warn)
    return path, *read(path)


def prune(folder, step, keep):
    """Delete all but the `keep` newest checkpoints up to `step`; the best stays.

    Any past `step` were damaged, or the run would have been resumed from them. What a kill left unfinished goes, too.
    """
    upto = [path for path in newest_first(folder) if path.name <= file_name(step)]
    for path in (*Path(folder).glob(f"{files.UNFINISHED}*"), *newest_first(folder)):
        if path not in upto[:keep]:
            path.unlink(missing_ok=True)


def _digest(arrays, text):
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
