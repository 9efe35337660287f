"""Checkpoints: one safetensors file that either framework resumes from, whole or not there at all.

A file holds the state (see core/state.py), the preprocessing (`preprocessing/mean`, `preprocessing/std`), and
JSON metadata: config, position, metrics, versions, class names, and a digest of it all. The digest tells damage; anyone
can make a right one. So all that is read is checked, and nothing of it runs: see trust.py.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from tandem.core import files
from tandem.core.errors import UserError
from tandem.core.metadata import ClassNames, Count, Metadata, Name, Part, Sum, read_json

import numpy as np
from pydantic import ConfigDict, Field, JsonValue, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

FORMAT = 1
BEST = "best.safetensors"
DTYPES = {"F32", "F64", "I64"}
"""What arrays are of, as safetensors calls them; only the loss scale counts in integers."""

Digest = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
Framework = Annotated[str, Field(pattern="^[a-z]{1,20}$")]
Sums = tuple[Sum, Sum, Sum, Sum]
"""Of losses, hits, hits in the top 5, and images."""


class Figures(Metadata):
    """What one evaluation found."""

    loss: Sum
    accuracy: Part
    top5: Part


class Record(Metadata):
    """What a run recorded of an epoch: see recorder.py."""

    kind: Literal["epoch"]
    epoch: Count
    step: Count
    train: Figures
    validation: Figures | None = None
    test: Figures | None = None
    test_flip: Figures | None = None
    test_ema: Figures | None = None
    test_ema_flip: Figures | None = None
    received: Digest = ""
    peak_memory: Count | None = None
    time: float


class Best(Metadata):
    """The best epoch so far: its accuracy, -1 before the first."""

    accuracy: Annotated[float, Field(ge=-1, le=1)]
    epoch: Count


class Format(Metadata):
    """The number of the format alone, which says what the rest is."""

    model_config = ConfigDict(extra="ignore")

    format: int


class Contents(Metadata):
    """The metadata of a checkpoint. `tandem.config.load.check_config` checks the config."""

    format: Literal[FORMAT]
    config: dict[str, JsonValue]
    framework: Framework
    epoch: Count
    batch: Count
    step: Count
    steps_per_epoch: Annotated[Count, Field(gt=0)]
    epoch_sums: Sums
    window_sums: Sums
    window_seconds: Sum = 0.0  # older ones do not tell this and the next two
    last_batch: Digest | None = None
    received: Digest = ""
    best: Best
    metrics: Record | None
    versions: dict[Name, Name]
    class_names: ClassNames

    @model_validator(mode="after")
    def _check_position(self):
        epochs: Any = self.config.get("epochs")
        if self.batch >= self.steps_per_epoch:
            raise ValueError(f"batch {self.batch} of {self.steps_per_epoch}")
        if isinstance(epochs, int) and self.epoch > epochs:
            raise ValueError(f"epoch {self.epoch} of {epochs}")
        return self


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
    """Read a checkpoint: (arrays, metadata), the latter as a dict of the fields of `Contents`.

    Raises:
        UserError: it is not there, cut off, changed, or not a Tandem checkpoint, or its metadata are out of range.
    """
    files.check_plain(path, "checkpoint")
    try:
        with safe_open(path, framework="numpy") as file:
            header, names = file.metadata() or {}, file.keys()
            others = {file.get_slice(name).get_dtype() for name in names} - DTYPES
            arrays = {name: file.get_tensor(name) for name in names if not others}
    except (OSError, ValueError, MemoryError, SafetensorError) as error:  # of NumPy, too, for impossible shapes
        raise UserError(f"{path}: damaged or not a checkpoint ({error}); use another") from error
    if "tandem" not in header:
        raise UserError(f"{path}: a safetensors file, but not one of Tandem's; use one from a run folder")
    if others:
        raise UserError(f"{path}: holds arrays of {', '.join(sorted(others))}, which no run writes; use another")
    if header.get("digest") != _digest(arrays, header["tandem"]):
        raise UserError(f"{path}: damaged (its contents do not match their digest); use another")
    found = read_json(Format, header["tandem"], path).format
    if found != FORMAT:
        raise UserError(f"{path}: format {found}, but this Tandem reads {FORMAT}; use the Tandem it is from")
    return arrays, read_json(Contents, header["tandem"], path).model_dump(mode="json")


def preprocessing(arrays, size, origin):
    """(mean, std) among the `arrays` of a checkpoint, each [3, 1, 1], or the mean [3, `size`, `size`].

    Raises:
        UserError: one is not there, of another shape, not finite, or a std is not positive; names `origin`.
    """
    mean, std = (arrays.get(f"preprocessing/{name}", np.zeros(0)) for name in ("mean", "std"))
    fits = mean.shape in ((3, 1, 1), (3, size, size)) and std.shape == (3, 1, 1)
    if not (fits and np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise UserError(f"{origin}: does not say how to normalise images of {size} pixels; use another")
    return mean, std


def file_name(step):
    """The name of the checkpoint after `step` training steps; names sort as the steps do."""
    return f"step-{step:09d}.safetensors"


def newest_first(folder):
    """The checkpoints of `folder` but the best, newest first."""
    return sorted(Path(folder).glob("step-*.safetensors"), reverse=True)


def all_in(folder):
    """All checkpoints of `folder`: the newest first, the best last. A file that is being written is none yet."""
    best = Path(folder, BEST)
    return [*newest_first(folder), *([best] if best.exists() else [])]


def newest(folder, warn):
    """Read the newest whole checkpoint in `folder`: (path, arrays, metadata); `warn` is told of each damaged one.

    Raises:
        UserError: there is none.
    """
    for path in all_in(folder):
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
