"""Whether several workers compute the same as one process, framework by framework.

Each worker runs python -m tandem.certify.replicas FRAMEWORK FOLDER. It takes every step of FOLDER together with the
others; rank 0 takes it once more by itself, from the same state, and compares what both leave, in every element.
"""

import hashlib
import json
import math
import sys
import tempfile
from pathlib import Path

import data_utils
from tandem.certify.certificate import LATE, LEARNING_RATES, SUMS, drawn_images, drawn_state
from tandem.certify.sameness import STATE_KINDS, compare, of_kind
from tandem.config.load import check_config
from tandem.core import files
from tandem.core.errors import UserError
from tandem.core.initial_weights import WHITENING_IMAGES, initialise
from tandem.data.batches import Batch, training_batches
from tandem.data.images import fill_color, load_dataset, normalization
from tandem.frameworks.base import FRAMEWORKS, TITLES, load_engine
from tandem.frameworks.jobs import Job, JobFailed, stay_in_touch

import numpy as np

TOLERANCE = 1e-10
"""The largest error that passes, in float64: see `tandem.certify.sameness.relative_error`."""

STEPS, DRAWN_STEPS = 8, 2
"""Training steps from the initial state on; and after those, each from a drawn state of its own."""

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
        `error`, None where it is not finite, its `name` and `step`) and `equal` (whether all workers ended with the
        same bits). Where a worker failed, to `passed` and `failed`, in words.

    Raises:
        UserError: bad data or device, or a network that cannot be built.
    """
    if count == 1:
        return {}
    settings = check_config({**settings.model_dump(mode="json"), "precision": "float64"}, "certificate")
    data = settings.data
    available = data.source != "cifar10" or data.archive or Path(data.directory, data_utils.FOLDER).is_dir()
    dataset = load_dataset(data, settings.seed) if available else drawn_images(settings.seed)
    found = {}
    with tempfile.TemporaryDirectory(prefix="tandem-") as folder:
        folder = Path(folder)
        _write(folder, settings, dataset, count, state)
        for framework in FRAMEWORKS:
            python = (pythons or {}).get(framework, sys.executable)
            command = [python, "-m", "tandem.certify.replicas", framework, str(folder)]
            try:
                with Job(framework, count, command) as job:
                    job.wait()
            except JobFailed as error:
                found[framework] = {"passed": False, "failed": str(error)}
                continue
            ends = [json.loads((folder / f"{framework}-{rank}.json").read_text()) for rank in range(count)]
            equal, sizes, phases = len({end["digest"] for end in ends}) == 1, ends[0]["sizes"], ends[0]["phases"]
            passed = equal and all(_number(phase["error"]) <= TOLERANCE for phase in phases.values())
            found[framework] = {"passed": passed, "count": count, "sizes": sizes, "phases": phases, "equal": equal}
    return found


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
    return lines


def _write(folder, settings, dataset, count, state):
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
        files.write_arrays(folder / f"batch-{step}", _arrays(batch))
    for size in EVALUATED:
        files.write_arrays(folder / f"evaluated-{size}", _arrays(Batch(train.images[:size], train.labels[:size])))
    job = {
        "settings": settings.model_dump(mode="json"),
        "classes": len(dataset.class_names),
        "resumed": state is not None,
    }
    (folder / "job.json").write_text(json.dumps(job))


def _arrays(batch):
    return {name: np.asarray(value) for name, value in batch._asdict().items() if value is not None}


class _Comparison:
    """The steps of `engine`, and where `one` is given its own, each from the same state.

    Attributes:
        state: the state after the last step, by name; it is that of `engine`.
        phases: by name, the worst `error`, its `name` and `step`.
    """

    def __init__(self, engine, one):
        self.engine, self.one = engine, one
        self.state = engine.state()
        self.phases = {}

    def take(self, step, phase, method, *arguments):
        """Have both run a `method` that returns sums, from `state`; compare the sums and the states after it."""
        ends = []
        for engine in (self.one, self.engine) if self.one is not None else (self.engine,):
            engine.load_state(self.state, "state")
            sums = getattr(engine, method)(*arguments).numpy()
            ends.append((dict(zip(SUMS, sums, strict=True)), engine.state()))
        self.state = ends[-1][1]
        if self.one is not None:
            sums, states = ({"one process": a, "workers": b} for a, b in zip(*ends, strict=True))
            self._enter(step, f"{phase}: loss and hits", sums)
            for kind in STATE_KINDS:
                self._enter(step, f"{phase}: {kind}", of_kind(states, kind))

    def _enter(self, step, phase, sides):
        for difference in compare(sides, phase):
            if phase not in self.phases or difference.error > _number(self.phases[phase]["error"]):
                error = difference.error if math.isfinite(difference.error) else None
                self.phases[phase] = {"error": error, "name": difference.name, "step": step}


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
    engine = module.Engine(settings, classes, **preprocessing, replicas=replicas)
    one = module.Engine(settings, classes, **preprocessing) if replicas.rank == 0 else None
    if job["resumed"]:
        state = files.read_arrays(folder / "checkpoint")
        engine.load_state({name: np.array(state[name]) for name in engine.shapes if name in state}, "checkpoint")
    else:
        initialise(engine, settings, files.read_arrays(folder / "images")["images"], **preprocessing)
    comparison, sizes = _Comparison(engine, one), []
    fewest = FEWEST if "BatchNorm1D" in engine.layer_types().values() else 1
    for step in range(STEPS + DRAWN_STEPS):
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
    end = {"phases": comparison.phases, "sizes": sizes, "digest": digest}
    (folder / f"{framework}-{replicas.rank}.json").write_text(json.dumps(end))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
