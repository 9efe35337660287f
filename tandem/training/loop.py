"""The one training loop, over either engine."""

import contextlib
import hashlib
import json
import math
import platform
import time
from collections import deque
from functools import partial
from pathlib import Path

from tandem.config import schedules
from tandem.config.load import check_config, save_config
from tandem.core.errors import UserError
from tandem.core.initial_weights import initialise
from tandem.core.paths import ROOT
from tandem.core.patience import company
from tandem.core.signals import stop_request
from tandem.data.batches import digest, evaluation_batches, prefetch, steps_per_epoch, training_batches
from tandem.data.images import fill_color, load_dataset, normalization
from tandem.frameworks.base import check_equal, load_engine
from tandem.frameworks.environment import place_in_job
from tandem.training import checkpoint, trust
from tandem.training.recorder import TESTED, NoRecorder, Recorder, check_free

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

SAME_ON_RESUME = (
    "seed",
    "batch_size",
    "data.source",
    "data.image_size",
    "data.test_fraction",
    "data.validation_fraction",
    "data.normalization",
    "evaluation.ema_decay",
)
"""Settings that decide which images a run trains on, and when; and what its averages are of."""

SILENCE = 8.0
"""After so many seconds without a line a log says how the next step went. On a terminal the progress bar does."""

LOWER = "lower optimizer.learning_rate or add schedule.warmup_epochs. Earlier checkpoints are as they were"


class Run:
    """One training run: its engine, its data, and where it stands.

    In a job of several processes (see `tandem.frameworks.base.Replicas`) each has a `Run`; only that of rank 0 writes.

    Args:
        settings: a `tandem.config.schema.Config`.
        framework: "paddle" or "tensorflow".
        folder: the run folder; it is made. Of other ranks than 0 it is not used.
        resumed: (path, arrays, metadata) of a checkpoint to go on from, or None. Either framework wrote it.
        console: a rich Console for what is said on the way.

    Raises:
        UserError: bad data or device, a checkpoint that does not fit, a folder that cannot be written, or processes
            of one job that do not do the same.
    """

    def __init__(self, settings, framework, folder, resumed=None, console=None):
        self.settings = settings
        self.framework = framework
        self.folder = Path(folder)
        self.console = console or Console(soft_wrap=True, markup=False, highlight=False)
        self.has_bar = self.console.is_terminal and not self.console.is_dumb_terminal  # else there are lines
        rank, _ = place_in_job(framework)
        if rank == 0:
            check_free(self.folder)
        self.data = load_dataset(settings.data, settings.seed)
        for note in self.data.notes:
            self.console.print(f"warning: {note}")
        for name in self.data.class_names:
            if not name.isprintable():  # no checkpoint may hold it: see core/metadata.py
                raise UserError(f"data: the class {name!r} has control characters in its name; rename its folder")
        self.mean, self.std = normalization(self.data.train.images, settings.data.normalization)
        self.steps_per_epoch = steps_per_epoch(len(self.data.train.labels), settings.batch_size)
        if not self.steps_per_epoch:
            raise UserError("data: the training set has fewer than two images; add some, or set apart fewer")

        module = load_engine(framework)
        self.replicas = module.join(settings)
        self.engine = module.Engine(settings, len(self.data.class_names), self.mean, self.std, self.replicas)
        if resumed is None:
            initialise(self.engine, settings, self.data.train.images, self.mean, self.std)
        self.epoch = 0  # whole epochs done
        self.batch = 0  # batches done of the next one
        self.epoch_sums = np.zeros(4)  # losses, right, right in the top 5, images: of the epoch so far
        self.window_sums = np.zeros(4)  # the same since the last log line
        self.window_seconds = 0.0  # since the last log line, as far as they lie before the last stop or save
        self.best = {"accuracy": -1.0, "epoch": 0}
        self.last_batch = None  # the digest of the last batch that the engine received
        self.received = ""  # the digest of all batches and learning rates that it received, in their order
        self.warm = False  # whether this process has done a step: the first compiles, and is no measure of the others
        self.laps = deque(maxlen=5)  # (seconds, steps) of the last stretches of training, to tell the time left by
        self.evaluation_seconds = 0.0  # what the last end of an epoch took
        self.said = time.monotonic()  # when the last line was printed
        if resumed is not None:
            self._resume(*resumed)
        if self.replicas.count > 1:
            check_equal(self.replicas, self._facts())
        if rank > 0:
            self.recorder = NoRecorder()
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # First, for it takes the folder: a run that is going on there keeps its files.
            self.recorder = Recorder(self.folder, framework, self.step if resumed is not None else -1)
            trust.record(self.folder, settings)
            save_config(settings, self.folder / "config.yaml")
            environment = self.engine.record | {"versions": self._versions(), "machine": platform.platform()}
            if self.replicas.count > 1:
                environment["workers"] = self.replicas.count
            (self.folder / "environment.json").write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another --run-dir") from error

    @property
    def step(self):
        """Training steps done."""
        return self.epoch * self.steps_per_epoch + self.batch

    def train(self):
        """Train until `epochs` are done or a signal asks to stop. True if the run is done, False if it was stopped."""
        settings = self.settings
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[speed]:,.0f} images/s"),
            TimeRemainingColumn(),
        )
        progress = Progress(*columns, console=self.console, transient=True, disable=not self.has_bar)
        with progress, stop_request() as stop, contextlib.closing(self.recorder), self._company():
            total = settings.epochs * self.steps_per_epoch
            if self.step < total:
                self._introduce()
            bar = progress.add_task("", total=total, completed=self.step, speed=0)
            while self.epoch < settings.epochs:
                began = time.monotonic()
                progress.update(bar, description=self._position())
                whole = self._train_epoch(stop, partial(progress.update, bar))
                if not whole:
                    self._save()
                    return False
                progress.update(bar, description=f"{self._position()}, testing")
                self._end_epoch(began)
                if self._is_asked(stop) and self.epoch < settings.epochs:
                    return False
        return True

    def _train_epoch(self, stop, report):
        """Train the rest of the epoch, telling `report` how far. False where a signal asked to stop in the middle."""
        settings = self.settings
        pending = []
        saved = started = time.monotonic()
        counted = self.batch

        def lap():
            """Enter what there was since the last lap: the sums of its steps, and its time."""
            nonlocal started, counted
            self._collect(pending)
            now = time.monotonic()
            self.window_seconds += now - started
            if self.batch > counted:
                self.laps.append((now - started, self.batch - counted))
            started, counted = now, self.batch

        with contextlib.closing(prefetch(self._batches(self.epoch, self.batch))) as ahead:
            for batch in ahead:
                learning_rate = self._learning_rate()
                self._enter_received(batch, learning_rate)
                sums = self.engine.train_step(batch, learning_rate, self.step)
                pending.append((sums, len(batch.labels)))
                self.batch += 1
                report(completed=self.step)
                first, self.warm = not self.warm, True
                if first:
                    self._warn_of_untrained()
                    lap()
                    self.laps.clear()
                last = self.batch == self.steps_per_epoch
                recorded = last or self.step == 1 or self.batch % settings.log_period == 0
                if recorded or first or self._silent():
                    lap()
                    report(speed=self.window_sums[3] / self.window_seconds)
                    self._log(learning_rate, recorded)
                    started = time.monotonic()
                due = time.monotonic() - saved > 60 * settings.checkpoints.every_minutes
                stopped = not last and self._is_asked(stop)
                if not last and (stopped or due):
                    lap()
                    if stopped:
                        return False
                    self._save()
                    saved = started = time.monotonic()
        return True

    def _warn_of_untrained(self):
        """Say which parameters the last step could not train."""
        names = self.engine.without_gradient
        if names:
            few = names if len(names) < 4 else [*names[:3], f"{len(names) - 3} more"]
            self._say(
                f"warning: no gradient for {', '.join(few)}; what gets none stays as it is. For known reasons see "
                "bn_one_frozen and gradient_stopped in docs/differences.md"
            )

    def _is_asked(self, stop):
        """Whether any process of the job was asked to `stop`: so all do, after the same step."""
        return self.replicas.gather([stop.is_set]).any()

    def _batches(self, epoch, first):
        """The batches of `epoch` from number `first` on."""
        settings, train = self.settings, self.data.train
        fill = fill_color(train.images)
        return training_batches(
            train, settings.batch_size, settings.seed, epoch, settings.data.augmentation, fill, first
        )

    def _learning_rate(self):
        settings = self.settings
        return schedules.learning_rate(
            settings.schedule,
            settings.optimizer.learning_rate,
            self.step,
            self.steps_per_epoch,
            settings.epochs,
            self.epoch * len(self.data.train.labels) + self.batch * settings.batch_size,
        )

    def _enter_received(self, batch, learning_rate):
        """Chain what the engine is about to receive to `received`: two runs with one digest received the same."""
        self.last_batch = digest(batch)
        self.received = hashlib.sha256(f"{self.received} {self.last_batch} {learning_rate!r}".encode()).hexdigest()

    def _collect(self, pending):
        """Add the sums of `pending` steps, one by one, so that a resumed run rounds as a whole one. Waits for a GPU."""
        for sums, images in pending:
            sums = np.append(sums.numpy(), images)
            self.epoch_sums += sums
            self.window_sums += sums
        pending.clear()
        if not math.isfinite(self.epoch_sums[0]):
            raise UserError(f"training: the loss is not finite by step {self.step}; {LOWER}")

    def _log(self, learning_rate, recorded):
        """Say how the steps since the last record went; where these are to be `recorded`, do, and begin anew."""
        window, seconds = _averages(self.window_sums), self.window_seconds
        speed = self.window_sums[3] / seconds
        if recorded:
            self.window_sums, self.window_seconds = np.zeros(4), 0.0
            record = {
                "kind": "batch",
                "framework": self.framework,
                "epoch": self.epoch + 1,
                "step": self.step,
                "position": self.step / self.steps_per_epoch,
                "received": self.received,
            }
            record |= window | {"learning_rate": learning_rate, "time": time.time()}
            record |= {"images_per_second": speed, "seconds": seconds}
            self.recorder.add(record)
        parts = [
            f"{self._position()}  step {_of(self.batch, self.steps_per_epoch)}",
            f"loss {window['loss']:.4f}",
            f"acc {window['accuracy']:5.1%}".replace("%", " %"),
            f"lr {learning_rate:#.3g}",
        ]
        if self.laps:
            parts += [f"{speed:,.{0 if speed >= 10 else 1}f} images/s", f"ETA {_duration(self._seconds_left())}"]
        self._say("  ".join(parts))

    def _seconds_left(self):
        """By the speed of late, and by how long the last test took."""
        seconds, steps = (sum(part) for part in zip(*self.laps, strict=True))
        epochs = self.settings.epochs
        tests = sum(self._is_tested(epoch) for epoch in range(self.epoch + 1, epochs + 1))
        return seconds / steps * (epochs * self.steps_per_epoch - self.step) + tests * self.evaluation_seconds

    def _is_tested(self, epoch):
        return epoch % self.settings.evaluation.period == 0 or epoch == self.settings.epochs

    def _introduce(self):
        """Say what was built, and what is waited for."""
        shapes, record = self.engine.shapes, self.engine.record
        parameters = sum(math.prod(shape) for name, shape in shapes.items() if f"velocity/{name}" in shapes)
        parts = [
            f"parameters {parameters:,}",
            f"device {record['device'].upper()}" + (f" ({record['name']})" if "name" in record else ""),
            f"training images {len(self.data.train.labels):,}",
            f"test images {len(self.data.test.labels):,}",
        ]
        self._say("  ".join(parts))
        self._say("Waiting for the first step, which takes longer than the others ...")

    def _company(self):
        """A context in which a log has a line even while a single step takes long."""
        if self.has_bar:
            return contextlib.nullcontext()

        def where():
            return f"{self._position()}  step {_of(self.batch, self.steps_per_epoch)} is done, and the work goes on"

        return company(self.console.print, where, lambda: self.said)

    def _position(self):
        return f"epoch {_of(self.epoch + 1, self.settings.epochs)}"

    def _say(self, line):
        self.console.print(line)
        self.said = time.monotonic()

    def _silent(self):
        return not self.has_bar and time.monotonic() - self.said > SILENCE

    def _end_epoch(self, began):
        """Test, record and save; `began`: when this process began the epoch (`time.monotonic`)."""
        position, started = self._position(), time.monotonic()
        record = {"kind": "epoch", "epoch": self.epoch + 1, "step": self.step, "train": _averages(self.epoch_sums)}
        tested = self._is_tested(self.epoch + 1)
        if tested:
            if self.data.validation is not None:
                record["validation"] = self._evaluate(self.data.validation)
            record |= self._test()
        record |= {"received": self.received, "peak_memory": self.engine.peak_memory()}
        record["time"] = time.time()
        self.epoch, self.batch = self.epoch + 1, 0
        self.epoch_sums = np.zeros(4)
        self.recorder.add(record)
        judged = record.get("validation", record.get("test"))
        improved = tested and judged["accuracy"] > self.best["accuracy"]
        if improved:
            self.best = {"accuracy": judged["accuracy"], "epoch": self.epoch}
        self._save(record, improved)
        try:
            self.recorder.draw()
        except UserError as error:
            self.console.print(f"warning: {error}")
        if tested:
            self.evaluation_seconds = time.monotonic() - started
        parts = [
            "{} loss {loss:.4f} acc {accuracy:.2%} top-5 {top5:.2%}".format(title, **record[part]).replace("%", " %")
            for part, title in {"train": "train", "validation": "validation", **TESTED}.items()
            if part in record
        ]
        self._say("  ".join([f"{position} done", *parts, _duration(time.monotonic() - began)]))

    def _test(self):
        """The figures on the test set, by the names of `TESTED`: those that are configured."""
        weights = {"test": contextlib.nullcontext}
        if self.settings.evaluation.ema_decay is not None:
            weights["test_ema"] = self.engine.averaged
        last = self.epoch + 1 == self.settings.epochs
        figures = {}
        for name, chosen in weights.items():
            with chosen():
                figures[name] = self._evaluate(self.data.test)
                if self.settings.evaluation.flip_tta and last:
                    figures[f"{name}_flip"] = self._evaluate(self.data.test, flip=True)
        return figures

    def _evaluate(self, split, flip=False):
        sums, done = np.zeros(3), 0
        for batch in evaluation_batches(split, self.settings.batch_size):
            sums += self.engine.evaluate(batch, flip).numpy()
            done += len(batch.labels)
            if self._silent():
                self._say(f"{self._position()}  testing {done:,}/{len(split.labels):,} images")
        return _averages(np.append(sums, len(split.labels)))

    def _save(self, metrics=None, best=False):
        self.recorder.check_folder()
        folder = self.folder / "checkpoints"
        arrays = self.engine.state()
        broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        if broken:
            raise UserError(f"training: {broken[0]} is not finite by step {self.step}; {LOWER}")
        if self.replicas.rank > 0:
            return
        arrays |= {"preprocessing/mean": self.mean, "preprocessing/std": self.std}
        metadata = {
            "config": self.settings.model_dump(mode="json"),
            "framework": self.framework,
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "epoch_sums": self.epoch_sums.tolist(),
            "window_sums": self.window_sums.tolist(),
            "window_seconds": self.window_seconds,
            "last_batch": self.last_batch,
            "received": self.received,
            "best": self.best,
            "metrics": metrics,
            "versions": self._versions(),
            "class_names": self.data.class_names,
        }
        if best:  # first, so that a kill between the two only repeats the epoch
            checkpoint.write(folder / checkpoint.BEST, arrays, metadata)
        checkpoint.write(folder / checkpoint.file_name(self.step), arrays, metadata)
        checkpoint.prune(folder, self.step, self.settings.checkpoints.keep)

    def _facts(self):
        """What must be the same in all processes of a job, in words, and its digest."""
        code = [path.read_bytes() for path in sorted((ROOT / "tandem").rglob("*.py"))]
        arrays = [array for _, array in sorted(self.engine.state().items())]
        images = [part for split in (self.data.train, self.data.test) for part in split]
        facts = {
            "the settings": [self.settings.model_dump_json().encode()],
            "Tandem's code": code,
            "the kind of device": [self.engine.record["device"].encode()],
            "the images": [np.ascontiguousarray(part) for part in images],
            "where to go on": [str(self.step).encode()],
            "the weights": [np.ascontiguousarray(array) for array in arrays],
        }
        return {what: hashlib.sha256(b"".join(parts)).digest() for what, parts in facts.items()}

    def _resume(self, path, arrays, metadata):
        mean, std = arrays.pop("preprocessing/mean", None), arrays.pop("preprocessing/std", None)
        if tuple(metadata["class_names"]) != self.data.class_names:
            raise UserError(f"{path}: its classes are not those of the configured data; use the data it was made with")
        then = check_config(metadata["config"], str(path)).model_dump(mode="json")  # what it lacks is newer than it
        now = self.settings.model_dump(mode="json")
        for keys in SAME_ON_RESUME:
            before, after = then, now
            for key in keys.split("."):
                before, after = before[key], after[key]
            if before != after:
                raise UserError(f"{path}: was made with {keys}: {before}, not {after}; a run keeps its own")
        if not (np.array_equal(mean, self.mean) and np.array_equal(std, self.std)):
            raise UserError(f"{path}: was made with other training images; use the same ones")
        if metadata["steps_per_epoch"] != self.steps_per_epoch:
            steps = f"{metadata['steps_per_epoch']} steps an epoch, not {self.steps_per_epoch}"
            raise UserError(f"{path}: was made with {steps}; use the same training images")
        self.engine.load_state(arrays, str(path))
        self.epoch, self.batch = metadata["epoch"], metadata["batch"]
        self.epoch_sums = np.array(metadata["epoch_sums"])
        self.window_sums = np.array(metadata["window_sums"])
        self.window_seconds = metadata.get("window_seconds", 0.0)  # older ones do not tell
        self.last_batch, self.received = metadata.get("last_batch"), metadata.get("received", "")
        if self.last_batch is not None and then["data"]["augmentation"] == now["data"]["augmentation"]:
            epoch, number = (self.epoch, self.batch) if self.batch else (self.epoch - 1, self.steps_per_epoch)
            if digest(next(self._batches(epoch, number - 1))) != self.last_batch:
                raise UserError(
                    f"{path}: its last batch is not what this data, seed and Tandem make of it; "
                    "go on with the same images in the same order"
                )
        if Path(path).resolve().parent.parent == self.folder.resolve():
            self.best = metadata["best"]  # a new folder has no best checkpoint yet

    def _versions(self):
        return {
            "python": platform.python_version(),
            "numpy": np.__version__,
            self.framework: self.engine.record["version"],
        }


def _averages(sums):
    losses, right, right_in_5, images = sums.tolist()
    return {"loss": losses / images, "accuracy": right / images, "top5": right_in_5 / images}


def _of(number, total):
    return f"{number:>{len(str(total))}}/{total}"


def _duration(seconds):
    """m:ss, or h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
