"""Whether several workers compute the same as one process, framework by framework.

Each worker runs python -m tandem.certify.replicas FRAMEWORK FOLDER. It takes every step of FOLDER together with the
others; rank 0 takes it once more by itself, from the same state, and compares what both leave, in every element. Then
it does the same with each of the traps that it is to try (tandem/traps/replicas.py).
"""

import contextlib
import hashlib
import json
import math
import sys
import tempfile
import time
from pathlib import Path

from tandem import traps
from tandem.certify.drawn import LATE, drawn_state, images_at_hand, without_flat_parts
from tandem.certify.sameness import STATE_KINDS, SUMS, compare, of_kind
from tandem.certify.steps import LEARNING_RATES
from tandem.config.load import check_config
from tandem.core import files
from tandem.core.errors import UserError
from tandem.core.initial_weights import WHITENING_IMAGES, initialise
from tandem.data.batches import Batch, training_batches
from tandem.data.images import fill_color, normalization
from tandem.frameworks.base import FRAMEWORKS, TITLES, load_engine
from tandem.frameworks.jobs import Job, JobFailed, stay_in_touch

import numpy as np

TOLERANCE = 1e-10
"""The largest error that passes, in float64: see `tandem.certify.sameness.relative_error`."""

STEPS, DRAWN_STEPS = 8, 2
"""Training steps from the initial state on; and after those, each from a drawn state of its own."""

FEW = 2
"""So many steps are taken where traps are tried, which show at once."""

FEWEST = 3
"""Images in a step, where a batch norm normalises over the images alone: the gradient through it would be zero but for
rounding, which the error is of. For a single image, Paddle's returns its input."""

EVALUATED = (11, 1)
"""Images of the evaluated batches: of one image all workers but the first have none."""


def certify_workers(settings, count, state=None, pythons=None):
    """Compare `count` workers with one process in each framework.

    Args:
        settings: a `tandem.config.schema.Config`. It is computed in float64.
        count: how many workers; with one there is nothing to compare.
        state: the weights, velocities and statistics to start from, by name; by default the initial ones.
        pythons: by framework, the Python interpreter; by default this one.

    Returns:
        A dict from framework to `passed`, `count`, `sizes` (images of each step's batch), `phases` (by name the worst
        `error`, None where it is not finite, its `name` and `step`), `first` (where they first differ, as
        `Certificate.first`, or None) and `equal` (whether all workers ended with the same bits). Where a worker failed,
        to `passed` and `failed`, in words.

    Raises:
        UserError: bad data or device, or a network that cannot be built.
    """
    if count == 1:
        return {}
    return {framework: results[None] for framework, results in try_traps(settings, count, (), state, pythons).items()}


def try_traps(settings, count, names, state=None, pythons=None):
    """Compare workers as they are and with each of the traps `names`, all in one job a framework.

    Args: see `certify_workers`. With `names`, few steps are taken.

    Returns:
        A dict from framework to a dict from each name, and None for workers as they are, to what `certify_workers`
        returns of it.

    Raises:
        UserError: see `certify_workers`.
    """
    settings = check_config({**settings.model_dump(mode="json"), "precision": "float64"}, "certificate")
    dataset, _ = images_at_hand(settings.data, settings.seed)
    found = {}
    with tempfile.TemporaryDirectory(prefix="tandem-") as folder:
        folder = Path(folder)
        _write(folder, settings, dataset, count, state, names)
        for framework in FRAMEWORKS:
            python = (pythons or {}).get(framework, sys.executable)
            command = [python, "-m", "tandem.certify.replicas", framework, str(folder)]
            failed = ""
            try:
                with Job(framework, count, command) as job:
                    job.wait()
            except JobFailed as error:
                failed = str(error)
            found[framework] = {name: _result(folder, framework, count, name, failed) for name in (None, *names)}
    return found


def _result(folder, framework, count, trap, failed):
    """What `certify_workers` returns of one framework, from what its workers have written."""
    paths = [_end(folder, framework, rank, trap) for rank in range(count)]
    if not all(path.exists() for path in paths):
        first = {"step": 0, "phase": "running", "name": framework, "layer": "", "error": None, "what": failed}
        return {"passed": False, "failed": failed, "first": first}
    ends = [json.loads(path.read_text()) for path in paths]
    equal = len({end.pop("digest") for end in ends}) == 1
    return {"passed": equal and ends[0]["first"] is None, "count": count, **ends[0], "equal": equal}


def _end(folder, framework, rank, trap):
    """The file in which a worker writes what it found."""
    return folder / f"{framework}-{rank}-{trap}.json"


def to_lines(found):
    """The result of `certify_workers` in words, a line for each framework."""
    lines = []
    for framework, result in found.items():
        verdict, title = "PASS" if result["passed"] else "FAIL", TITLES[framework]
        if "failed" in result:
            lines.append(f"{verdict}  {title}: {result['failed']}")
            continue
        phase, worst = max(result["phases"].items(), key=lambda item: _number(item[1]["error"]))
        sizes = ", ".join(map(str, result["sizes"]))
        line = f"{verdict}  {title}: {result['count']} workers against one process, batches of {sizes} images: "
        line += f"worst error {_number(worst['error']):.1e} of {TOLERANCE:.0e} ({phase}, {worst['name']})"
        lines.append(line + ("" if result["equal"] else "; the workers do not end with equal weights"))
        if known := traps.known(result["first"]):
            lines.append("Known mistakes that look like this:")
            lines += [f"  {traps.TRAPS[name].title}: docs/differences.md#{name}" for name in known]
    return lines


def _write(folder, settings, dataset, count, state, names):
    """Write all that the workers need into `folder`."""
    train, seed = dataset.train, settings.seed
    mean, std = normalization(train.images, settings.data.normalization)
    files.write_arrays(folder / "preprocessing", {"mean": mean, "std": std})
    files.write_arrays(folder / "images", {"images": train.images[:WHITENING_IMAGES]})
    if state is not None:
        files.write_arrays(folder / "checkpoint", state)
    # Slices of unequal size, an empty one, and slices of equal size.
    several = (2 * count + 1, 5, count - 1, 2 * count)
    for step in range(STEPS + DRAWN_STEPS):
        size = several[step % len(several)]
        fill = fill_color(train.images)
        batch = next(training_batches(train, size, seed, step, settings.data.augmentation, fill))
        files.write_arrays(folder / f"batch-{step}", _arrays(without_flat_parts(batch, seed, step)))
    for size in EVALUATED:
        files.write_arrays(folder / f"evaluated-{size}", _arrays(Batch(train.images[:size], train.labels[:size])))
    job = {
        "settings": settings.model_dump(mode="json"),
        "classes": len(dataset.class_names),
        "resumed": state is not None,
        "traps": names,
    }
    (folder / "job.json").write_text(json.dumps(job))


def _arrays(batch):
    return {name: np.asarray(value) for name, value in batch._asdict().items() if value is not None}


class _Comparison:
    """The steps of `engine`, and where `one` is given its own, each from the same state.

    Attributes:
        mark: what the names of files begin with by which the worker that has `one` tells the others that it is done.
        state: the state after the last step, by name; it is that of `engine`.
        phases, first: see `certify_workers`.
    """

    def __init__(self, engine, one, mark):
        self.engine, self.one, self.mark = engine, one, mark
        self.state = engine.state()
        self.phases, self.first = {}, None
        self.taken = 0

    def take(self, step, phase, method, *arguments):
        """Have both run a `method` that returns sums, from `state`; compare the sums and the states after it."""
        self.taken += 1
        done = Path(f"{self.mark}-{self.taken}")
        if self.one is not None:
            alone = self._run(self.one, method, arguments)
            done.touch()
        while not done.exists():  # not in the sum: gloo waits for 30 seconds at most
            time.sleep(0.01)
        together = self._run(self.engine, method, arguments)
        self.state = together[1]
        if self.one is not None:
            sums, states = ({"one process": a, "workers": b} for a, b in zip(alone, together, strict=True))
            self._enter(step, f"{phase}: loss and hits", sums)
            for kind in STATE_KINDS:
                self._enter(step, f"{phase}: {kind}", of_kind(states, kind))

    def _run(self, engine, method, arguments):
        engine.load_state(self.state, "state")
        sums = getattr(engine, method)(*arguments).numpy()
        return dict(zip(SUMS, sums, strict=True)), engine.state()

    def _enter(self, step, phase, sides):
        for difference in compare(sides, phase):
            error = difference.error if math.isfinite(difference.error) else None
            if phase not in self.phases or difference.error > _number(self.phases[phase]["error"]):
                self.phases[phase] = {"error": error, "name": difference.name, "step": step}
            if self.first is None and difference.error > TOLERANCE:
                layer = self.engine.layer_types().get(difference.name.rpartition(".")[0], "")
                self.first = {"step": step, "phase": phase, "name": difference.name, "layer": layer}
                self.first |= {"error": error, "what": difference.what}


def _number(error):
    return math.inf if error is None else error


def main(framework, folder):
    """One worker's part."""
    stay_in_touch()
    folder = Path(folder)
    job = json.loads((folder / "job.json").read_text())
    settings, classes = check_config(job["settings"], "certificate"), job["classes"]
    preprocessing = files.read_arrays(folder / "preprocessing")
    module = load_engine(framework)
    replicas = module.join(settings)
    one = None
    for trap in (None, *job["traps"]):
        with traps.switched_on(trap, framework) if trap else contextlib.nullcontext():
            engine = module.Engine(settings, classes, **preprocessing, replicas=replicas)
            if one is None and replicas.rank == 0:
                one = module.Engine(settings, classes, **preprocessing)
            if job["resumed"]:
                state = files.read_arrays(folder / "checkpoint")
                engine.load_state(
                    {name: np.array(state[name]) for name in engine.shapes if name in state}, "checkpoint"
                )
            else:
                initialise(engine, settings, files.read_arrays(folder / "images")["images"], **preprocessing)
            comparison = _Comparison(engine, one, folder / f"{framework}-alone-{trap}")
            end = _take_steps(comparison, folder, settings, few=bool(job["traps"]))
        _end(folder, framework, replicas.rank, trap).write_text(json.dumps(end))


def _take_steps(comparison, folder, settings, few):
    """Have `comparison` take all steps of `folder`, or the first `few`; return what this worker found."""
    sizes, steps = [], FEW if few else STEPS + DRAWN_STEPS
    fewest = FEWEST if _over_images_alone(comparison.engine, folder) else 1
    for step in range(steps):
        drawn = step >= STEPS
        if drawn:
            comparison.state = drawn_state(comparison.state, settings.seed, step)
        batch = Batch(**files.read_arrays(folder / f"batch-{step}"))
        if len(batch.labels) < fewest:
            continue
        sizes.append(len(batch.labels))
        rate = settings.optimizer.learning_rate * LEARNING_RATES[step % len(LEARNING_RATES)]
        comparison.take(step, "training", "train_step", batch, rate, step + LATE if drawn else step)
        if step + 1 in (STEPS, STEPS + DRAWN_STEPS):
            for size in EVALUATED:
                batch = Batch(**files.read_arrays(folder / f"evaluated-{size}"))
                comparison.take(step, f"evaluation of {size}", "evaluate", batch)
                comparison.take(step, f"evaluation of {size} with flip", "evaluate", batch, True)
    digest = hashlib.sha256(b"".join(array.tobytes() for _, array in sorted(comparison.state.items()))).hexdigest()
    return {"phases": comparison.phases, "first": comparison.first, "sizes": sizes, "digest": digest}


def _over_images_alone(engine, folder):
    """Whether a batch norm of the network normalises over the images alone. All workers must ask."""
    outputs = engine.trace_evaluation(Batch(**files.read_arrays(folder / f"evaluated-{EVALUATED[0]}")))
    norms = [name for name, kind in engine.layer_types().items() if "BatchNorm" in kind]
    return any(outputs[f"output/{name}"].ndim == 2 for name in norms if f"output/{name}" in outputs)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
