"""The steps of a certificate: what both frameworks are asked to compute, and from which state.

Two workers, one for each framework, take each step from the same state: Paddle's weights, velocities and statistics
after the previous step. A free run would not do, because training is chaotic: rounding alone drives any two correct
implementations apart, and even one from itself. The certificate also shows a free run, but does not judge it.
"""

import hashlib
import importlib.util
import itertools
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

from tandem.certify.certificate import BACKWARD, TOLERANCES, Certificate
from tandem.certify.drawn import LATE, drawn_pixels, drawn_state, images_at_hand, without_flat_parts
from tandem.certify.pairing import check_names, pair
from tandem.certify.replay import judged
from tandem.certify.sameness import STATE_KINDS, SUMS, compare, of_kind
from tandem.config.load import check_config
from tandem.core import files
from tandem.core.errors import UserError
from tandem.core.initial_weights import WHITENING_IMAGES
from tandem.core.machine import available_memory
from tandem.core.paths import ROOT
from tandem.data.batches import Batch, training_batches
from tandem.data.images import fill_color, normalization
from tandem.frameworks.base import FRAMEWORKS, TITLES
from tandem.frameworks.workers import WorkerStopped

import numpy as np

WORKER = "tandem.certify.worker"
"""The module that a framework's process runs: see `Workers`."""

STEPS, FEWEST_STEPS, SECONDS = 8, 3, 15.0
"""Training steps from the initial state, by default; a large network takes fewer, once so many seconds are over."""

BATCH_SIZE = 5
"""Images in a step, by default: odd, as the last batch of an epoch may be."""

EVALUATED = 11
"""Images that are evaluated: enough for each rank of the right one among ten classes."""

LARGE_SECONDS = 8.0
"""How long the step of the configured batch size may take; else it takes fewer images."""

OUTPUT_COPIES = 8
"""How many times the layers' outputs a training step takes in memory, in both frameworks together."""

FREE_STEPS = 5
"""Steps of the free run."""

LEARNING_RATES = (1.0, 0.5, 1e-3, 0.25, 0.6)
"""The configured learning rate is multiplied by these in turn: some mistakes show only when it changes or is small."""

GROWN = ("layer outputs", "output gradients", "gradients", "evaluation: layer outputs")
"""The phases in which many layers make rounding grow, which no layer by itself shows."""

UP_TO_CONSTANTS = {"forward": 1e-4, "backward": 1e-2}
"""The largest error that passes where rounding explains the difference: see `_replay`."""

DRAWS = (
    "computes another loss when it takes the same step again: the network draws random numbers itself. For the same "
    "masks in both frameworks use layers, Paddle's Dropout and Dropout2D and Keras' Dropout and SpatialDropout2D"
)


def certify(
    network,
    settings,
    workers,
    steps=None,
    batch_size=BATCH_SIZE,
    precision="float64",
    state=None,
    traps=None,
    report=None,
    names=None,
):
    """Certify a network; return a `Certificate`.

    Args:
        network: its name in the certificate.
        settings: a `tandem.config.schema.Config`. If its CIFAR-10 is not on the disk, see `images_at_hand`.
        workers: a `tandem.frameworks.workers.Workers`.
        steps: training steps from the initial state, by default `STEPS` or fewer. `DRAWN_STEPS` more follow.
        batch_size: images in a step.
        precision: of the comparison, a key of `TOLERANCES`.
        state: the weights, velocities and statistics to start from, by name; by default the initial ones.
        traps: by framework, the name of a trap to switch on (tandem/traps/trap.py).
        report: called with how many steps are done; or None.
        names: of your own network, a map of layers from Paddle's names to TensorFlow's: see `pair` of pairing.py.

    Raises:
        UserError: bad data or device, or a network that cannot be built.
    """
    started = time.monotonic()
    values = settings.model_dump(mode="json")
    values |= {"precision": precision, "batch_size": batch_size}
    trained_precision, trained_size = settings.precision, settings.batch_size
    settings = check_config(values, str(network))
    certificate = Certificate(
        network=str(network),
        settings=values,
        steps=steps or STEPS,
        batch_size=batch_size,
        tolerances=TOLERANCES[precision],
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=platform.platform(),
        sources=_sources(settings.network),
    )
    dataset, why_random = images_at_hand(settings.data, settings.seed)
    if why_random:
        certificate.notes.append(why_random)
    mean, std = normalization(dataset.train.images, settings.data.normalization)
    files.write_arrays(workers.folder / "preprocessing", {"mean": mean, "std": std})
    files.write_arrays(workers.folder / "images", {"images": dataset.train.images[:WHITENING_IMAGES]})
    try:
        calls = _start(certificate, workers, values, len(dataset.class_names), state, traps or {}, names)
        if certificate.first is None:
            _take_steps(certificate, workers, settings, dataset, trained_precision, steps is None, report)
        if calls and certificate.first is not None and precision == "float64":
            _replay(certificate, workers, settings, dataset, calls)
            if certificate.first is None:  # rounding explains it: once more, within wider limits
                _take_steps(certificate, workers, settings, dataset, trained_precision, steps is None, report)
        if certificate.first is None:
            _take_large_step(certificate, workers, settings, dataset, trained_size)
    except WorkerStopped as stopped:
        workers.drain()
        certificate.first = {"step": stopped.step, "phase": "running", "name": stopped.framework, "layer": ""}
        certificate.first |= {"error": None, "what": stopped.what}
    certificate.seconds = time.monotonic() - started
    return certificate


def _start(certificate, workers, values, num_classes, state, traps, names):
    """Build both networks. Returns, of your own network, the calls of its layers: see inspection.py; else None."""
    workers.step = None
    if state is not None:
        files.write_arrays(workers.folder / "checkpoint", state)
    arguments = {"settings": values, "num_classes": num_classes, "resumed": state is not None}
    answers = workers.ask("start", by_framework={"trap": traps}, **arguments)
    certificate.records = {framework: answers[framework]["record"] for framework in FRAMEWORKS}
    if values["network"]["name"] == "own":
        return _pair(certificate, workers, answers, names)
    for framework in reversed(FRAMEWORKS):
        certificate.layers |= answers[framework]["types"]
    states = workers.read("state")
    certificate.judge(0, "initial state", compare(states, "initial state"))
    if state is not None:
        kept = {name: array for name, array in state.items() if name in states["paddle"]}
        certificate.judge(
            0, "initial state", compare({"checkpoint": kept, "paddle": states["paddle"]}, "initial state")
        )
    return None


def _pair(certificate, workers, answers, names):
    """Pair the layers of your own networks, and have TensorFlow's take on Paddle's names. Returns their calls."""
    calls = workers.ask("layers")
    types, shapes = ({framework: answers[framework][what] for framework in FRAMEWORKS} for what in ("types", "shapes"))
    if names is None and answers[FRAMEWORKS[0]]["names"] is not None:
        names = check_names(answers[FRAMEWORKS[0]]["names"], certificate.settings["network"]["file"])
    pairing = certificate.pairing = pair(calls, names)
    renamed = pairing.renamed(types[FRAMEWORKS[1]], shapes[FRAMEWORKS[1]])
    # Containers of layers are compared, too, where they have the same name.
    computing = {framework: {call["name"] for call in calls[framework]} for framework in FRAMEWORKS}
    containers = (types[framework].keys() - computing[framework] for framework in FRAMEWORKS)
    pairing.containers = sorted(set.intersection(*map(set, containers)))
    certificate.layers = {renamed[0][name]: kind for name, kind in types[FRAMEWORKS[1]].items()} | types[FRAMEWORKS[0]]
    paired = {"layers": list(pairing.layers), "arrays": list(pairing.arrays)}
    paired |= {"last": pairing.last, "rectifying": pairing.rectifying}
    workers.ask("pair", by_framework={"names": {FRAMEWORKS[1]: renamed}}, paired=paired)
    certificate.judge(0, "initial state", pairing.without_partner())
    if all(name == theirs for name, (theirs, _) in pairing.arrays.items()):
        certificate.judge(0, "initial state", compare(workers.read("state"), "initial state"))
    for framework, layers in pairing.weightless.items():
        if layers:
            listed = ", ".join(f"{name} ({kind})" for name, kind in layers.items())
            certificate.notes.append(f"Layers without weights that only {TITLES[framework]} has: {listed}")
    if pairing.elsewhere:
        listed = ", ".join(f"{ours} is {theirs}" for ours, theirs in pairing.elsewhere.items())
        certificate.notes.append(f"Arrays that another layer of TensorFlow's holds: {listed}")
    return calls


def _replay(certificate, workers, settings, dataset, calls):
    """Find all layers that differ by themselves. Where rounding explains all of it, forget the difference.

    That is where they differ by constants only; or not at all, so that what differs is rounding that many layers have
    made grow.
    """
    first = certificate.first
    if workers.step is None:
        _write_batch(workers, next(_batches(settings, dataset.train)))
        workers.ask("load")
    for step in (workers.step or 0, None):  # a training step; or in evaluation mode
        workers.ask("record", learning_rate=settings.optimizer.learning_rate, step=step)
        certificate.apart = judged(workers.ask("replay", step=step)[FRAMEWORKS[1]], calls, certificate.pairing)
        if certificate.apart or not first["phase"].startswith("evaluation: "):
            break
    draws = workers.ask("repeat", learning_rate=settings.optimizer.learning_rate, step=workers.step or 0)
    certificate.notes += [f"{TITLES[framework]} {DRAWS}" for framework, differs in draws.items() if differs]
    if certificate.apart:
        own = any(does in first["phase"] for does in (" trains: ", " evaluates: "))
        explained = first["phase"] != "images" and not own and all(entry.constant for entry in certificate.apart)
    else:
        limit = UP_TO_CONSTANTS["backward" if first["phase"].endswith(BACKWARD) else "forward"]
        explained = first["phase"] in GROWN and first["error"] is not None and first["error"] <= limit
    if explained:
        certificate.first, certificate.rounded, certificate.tolerances = None, first, UP_TO_CONSTANTS
        certificate.phases, certificate.table, certificate.free_run, certificate.trained = {}, {}, [], {}
        if not certificate.apart:
            certificate.notes.append(
                f"Rounding grows from layer to layer, to {first['error']:.1e} at {first['name']} ({first['phase']}); "
                f"each layer by itself agrees within {TOLERANCES['float64']['forward']:g}"
            )


def _take_steps(certificate, workers, settings, dataset, trained_precision, hurry, report):
    """All steps, until the first difference. With `hurry` a slow network takes fewer from the initial state."""
    batches, classes = _batches(settings, dataset.train), len(dataset.class_names)
    began = time.monotonic()
    for step in itertools.count():
        if step == certificate.total_steps:
            break
        workers.step = step
        rate = settings.optimizer.learning_rate * LEARNING_RATES[step % len(LEARNING_RATES)]
        drawn = step >= certificate.steps
        how = {"learning_rate": rate, "step": step + LATE if drawn else step}
        if step == certificate.steps:
            _evaluate(certificate, workers, dataset, trained_precision)
            if certificate.first is not None:
                return
        if drawn:
            _draw_state(workers, settings.seed, step)
        batch = next(batches)
        size = len(batch.labels)
        if drawn:  # not grey, as digits are
            batch = batch._replace(images=drawn_pixels(settings.seed, step, batch.images.shape))
        # All classes, one after the other: images are as the loop makes them, labels need not be true.
        _write_batch(workers, batch._replace(labels=(step * size + np.arange(size)) % classes))
        workers.ask("load")
        workers.send("train", **how)
        workers.send("trace", **how)
        low = trained_precision != settings.precision and step in (0, certificate.steps)
        if low:
            workers.send("train_in", precision=trained_precision, **how)
        twice = step == certificate.steps
        if twice:
            workers.send("train_twice", **how)
        slow = time.monotonic() - began > SECONDS
        free = step < min(certificate.steps, FREE_STEPS) and not (step > 1 and slow)
        if free:
            workers.send("free_step", by_framework={"nudge": {FRAMEWORKS[0]: True}}, **how)
        certificate.step_seconds = max(workers.receive().values())
        different = workers.receive()
        certificate.judge_step(step, workers.read("trace"), workers.read("state"))
        certificate.judge_path(step, different)
        if low:
            certificate.judge_trained(workers.receive(), trained_precision)
        if twice:
            certificate.judge_path(step, workers.receive())
        if free:
            nudged = workers.receive()[FRAMEWORKS[0]]
            apart = max(difference.error for difference in compare(workers.read("free"), "free run"))
            certificate.judge_free_run(step, apart, nudged)
        if certificate.first is not None:
            return
        if hurry and slow and FEWEST_STEPS <= step + 1 < certificate.steps:
            certificate.steps = step + 1
        if report:
            report(step + 1)
    _draw_state(workers, settings.seed, certificate.total_steps)
    _evaluate(certificate, workers, dataset, trained_precision)


def _draw_state(workers, seed, step):
    state = {name: np.array(array) for name, array in workers.read("state")[FRAMEWORKS[0]].items()}
    files.write_arrays(workers.folder / f"{FRAMEWORKS[0]}-state", drawn_state(state, seed, step))


def _evaluate(certificate, workers, dataset, trained_precision):
    """Evaluate in the state after the last step: traced, in every way that the commands do, and as it is trained."""
    images = dataset.train.images[:EVALUATED]
    labels = np.zeros(len(images), np.int64)
    _write_batch(workers, Batch(images, labels))
    workers.ask("load")
    workers.ask("predict")
    ranked = np.argsort(-workers.read("predicted")[FRAMEWORKS[0]]["logits"], axis=1, kind="stable")
    # Labels of every rank in turn, so that a wrong count of hits shows.
    labels = ranked[np.arange(len(images)), np.arange(len(images)) % ranked.shape[1]]
    _write_batch(workers, Batch(images, labels))
    answers = workers.ask("evaluate")
    certificate.judge_evaluation(workers.step, workers.read("trace"), answers)
    if trained_precision != certificate.settings["precision"]:
        different = workers.ask("evaluate_in", precision=trained_precision)
        certificate.judge_trained_evaluation(different, trained_precision)


def _take_large_step(certificate, workers, settings, dataset, size):
    """One step of the configured batch size through both training paths, where memory and time allow."""
    configured = min(size, len(dataset.train.labels))
    outputs = [array for name, array in workers.read("trace")[FRAMEWORKS[0]].items() if name.startswith("output/")]
    per_image = OUTPUT_COPIES * sum(array.nbytes for array in outputs) / EVALUATED
    fitting, in_time = available_memory() / per_image, LARGE_SECONDS / certificate.step_seconds * certificate.batch_size
    size = int(min(configured, fitting, in_time))
    if configured > certificate.batch_size and size < configured:
        why = "take too long" if in_time < fitting else "need too much memory"
        taken = f"The large batch has {size} images" if size > certificate.batch_size else "No large batch was tried"
        certificate.notes.append(f"{taken}: the configured {configured} would {why} here")
    if size <= certificate.batch_size:
        return
    workers.step += 1
    large = check_config({**certificate.settings, "batch_size": size}, certificate.network)
    _write_batch(workers, next(_batches(large, dataset.train)))
    workers.ask("load")
    workers.ask("train_only", learning_rate=settings.optimizer.learning_rate, step=workers.step)
    states, phase = workers.read("trained"), f"batch of {size}"
    sums = {side: dict(zip(SUMS, state.pop("sums"), strict=True)) for side, state in states.items()}
    certificate.judge(workers.step, f"{phase}: loss and hits", compare(sums, phase))
    for kind in STATE_KINDS:
        certificate.judge(workers.step, f"{phase}: {kind}", compare(of_kind(states, kind), phase))
    workers.ask("evaluate_only")
    certificate.judge(workers.step, f"{phase}: evaluation", compare(workers.read("evaluated"), phase))


def _write_batch(workers, batch):
    arrays = {name: np.asarray(value) for name, value in batch._asdict().items() if value is not None}
    files.write_arrays(workers.folder / "batch", arrays)


def _batches(settings, split):
    """Training batches as the training loop makes them, epoch after epoch, but for `without_flat_parts`."""
    fill, numbers = fill_color(split.images), itertools.count()
    for epoch in itertools.count():
        augmentation = settings.data.augmentation
        for batch in training_batches(split, settings.batch_size, settings.seed, epoch, augmentation, fill):
            yield without_flat_parts(batch, settings.seed, next(numbers))


def _sources(network):
    """The SHA-256 of the files that hold the networks, layers, engines and dropout masks."""
    paths = {ROOT / "tandem" / "core" / "dropout.py"}
    for framework in FRAMEWORKS:
        parts = ("layers", "kernels", "engine")
        paths |= {ROOT / "tandem" / "frameworks" / framework / f"{part}.py" for part in parts}
    for builder in network.builders.values():
        where = builder.rpartition(":")[0]
        paths.add(Path(where if where.endswith(".py") else importlib.util.find_spec(where).origin))
    try:
        return {_shown(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; check the path of the network's file") from error


def _shown(path):
    """Tandem's own files relative to its root, others by name only."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
