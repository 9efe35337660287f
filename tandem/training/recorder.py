"""What a run leaves to read: metrics.jsonl, TensorBoard events and curves.png in the run folder."""

import contextlib
import json
import os
from pathlib import Path
from typing import Annotated, Literal

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from tandem.core import files
from tandem.core.errors import UserError
from tandem.core.metadata import Count, Metadata, Part, Sum, wrong
from tandem.frameworks.base import TITLES
from tandem.report.plots import draw_curves
from tandem.training.checkpoint import Digest, Framework, Record

from pydantic import Field, TypeAdapter, ValidationError
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

TESTED = {
    "test": "test",
    "test_flip": "test (flip)",
    "test_ema": "test (EMA)",
    "test_ema_flip": "test (EMA, flip)",
}
"""What a record of an epoch may hold figures of on the test set, and what to call it: the network itself; with the mean
of the logits of each image and of its mirror image; and the same with the averages of its weights."""


LONGEST, LARGEST = 10_000, 1 << 28
"""The bytes that a line of metrics.jsonl, and all of it, may have: room for half a million of the lines that a run
writes."""


class Steps(Metadata):
    """What a run recorded of the steps since the last such record."""

    kind: Literal["batch"]
    framework: Framework | None = None  # older ones do not tell this and the next
    received: Digest = ""
    epoch: Count
    step: Count
    position: Sum
    loss: Sum
    accuracy: Part
    top5: Part
    learning_rate: Sum
    images_per_second: Sum
    seconds: Sum
    time: float


_RECORD = TypeAdapter(Annotated[Steps | Record, Field(discriminator="kind")])


def read_metrics(path):
    """The records of a metrics.jsonl, oldest first, as dicts. A last line that was cut off by a kill is left out.

    Raises:
        UserError: it is no file, or too large, or a line holds no record; names the line.
    """
    path, records = Path(path), []
    if not path.exists():
        return records
    files.check_plain(path)
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path}: is longer than {LARGEST >> 20} MiB, so no run wrote it; use another")
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST), b""), 1):
            if line.endswith(b"\n"):
                try:
                    record = _RECORD.validate_json(line)
                    records.append(record.model_dump(mode="json", exclude_unset=True, exclude_none=True))
                except ValidationError as error:
                    said = wrong(error, "the record")
                    raise UserError(f"{path}: line {number}: {said}; remove the line") from error
            elif len(line) == LONGEST:
                raise UserError(f"{path}: line {number}: is longer than {LONGEST:,} bytes; remove it")
    return records


def check_free(folder):
    """Refuse a folder in which another process trains, before any work is done. A `Recorder` takes it for good.

    Raises:
        UserError: another process has it.
    """
    if Path(folder).is_dir():
        _unlock(_lock(folder))


class Recorder:
    """Appends records to `folder`/metrics.jsonl and the same figures to TensorBoard's events.

    A record is a dict with `kind` ("batch" or "epoch"), `epoch` (from 1), `step` (training steps done) and `time`
    (seconds since 1970). Records past `last_step` are cut off first, in both places: they are from a run that went on
    beyond the checkpoint it is now resumed from.

    While it is open, the folder is its own: two processes that trained in one would spoil each other's records.

    Raises:
        UserError: the folder cannot be written, or another process trains in it.
    """

    def __init__(self, folder, label, last_step):
        self.folder = Path(folder)
        self.label = label
        self._held = _lock(self.folder)
        self._inode = os.stat(self.folder).st_ino
        path = self.folder / "metrics.jsonl"
        self.records = [record for record in read_metrics(path) if record["step"] <= last_step]
        try:
            temporary = path.with_suffix(".tmp")
            temporary.write_text("".join(json.dumps(record) + "\n" for record in self.records), encoding="utf-8")
            os.replace(temporary, path)
            for events in self.folder.glob("events.out.tfevents.*"):
                events.unlink()
            self._file = path.open("a", encoding="utf-8")
            # Written anew from the records, so that events and metrics cannot disagree. Not by SummaryWriter: its
            # thread dies on a full disk, and then the run waits for it for ever.
            self._events = EventsWriter(str(self.folder / "events"))
            for record in self.records:
                self._add_events(record)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --run-dir") from error

    def check_folder(self):
        """Check that the run folder is still the one that this run began in.

        Raises:
            UserError: it was removed, moved or replaced; what is written then is lost.
        """
        try:
            there = os.stat(self.folder).st_ino
        except OSError:
            there = None
        if there != self._inode:
            raise UserError(f"{self.folder}: was removed while the run wrote into it; begin the run again")

    def add(self, record):
        """Append one record.

        Raises:
            UserError: it cannot be written, or the folder is gone.
        """
        self.check_folder()
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
            self._add_events(record)
            if record["kind"] == "epoch":
                self._events.flush()
        except OSError as error:
            raise UserError(
                f"{self._file.name}: cannot be written ({error.strerror}); free room and --resume"
            ) from error
        self.records.append(record)

    def draw(self):
        """Draw curves.png."""
        draw_curves({self.label: self.records}, self.folder / "curves.png", TITLES)

    def close(self):
        """Write out what is buffered. What a full disk does not take, --resume writes anew."""
        for file in (self._file, self._events):
            with contextlib.suppress(OSError):
                file.close()
        _unlock(self._held)

    def _add_events(self, record):
        if record["kind"] == "batch":
            names = ("loss", "accuracy", "learning_rate", "images_per_second")
            figures = {f"batch/{name}": record[name] for name in names}
        else:
            parts = [part for part in ("train", "validation", *TESTED) if part in record]
            figures = {f"{name}/{part}": record[part][name] for part in parts for name in ("loss", "accuracy", "top5")}
        for name, figure in figures.items():
            event = Event(wall_time=record["time"], step=record["step"], summary=scalar(name, figure))
            self._events.write_event(event)


class NoRecorder:
    """In place of a `Recorder`, where another process of the job records."""

    def check_folder(self):
        """That process does."""

    def add(self, record):
        """Drop the record."""

    def draw(self):
        """Draw nothing."""

    def close(self):
        """There is nothing to close."""


def _lock(folder):
    """Lock `folder`: a descriptor to unlock it with; None where there are no locks."""
    if fcntl is None:
        return None
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(held)
        raise UserError(f"{folder}: another process is training in it; wait for that, or stop it") from error
    except OSError:
        pass  # a file system without locks
    return held


def _unlock(held):
    if held is not None:
        os.close(held)  # and with it the lock
