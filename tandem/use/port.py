"""Weights of a user's own pair of networks from one framework to the other: own names, layouts of stock layers.

The layers are paired as for a certificate. Nothing is written unless both networks then compute the same.
"""

import contextlib
import dataclasses
import os
from pathlib import Path

from tandem.certify.drawn import images_at_hand
from tandem.certify.pairing import check_names, pair
from tandem.certify.replay import CONSTANT, judged
from tandem.certify.sameness import relative_error
from tandem.certify.subject import subject
from tandem.config.load import check_config
from tandem.core import files
from tandem.core.errors import UserError
from tandem.data.images import normalization
from tandem.frameworks.base import FRAMEWORKS, TITLES
from tandem.use.convert import check_target, count_classes

import numpy as np

FORMATS = {".pdparams": "paddle", ".keras": "tensorflow", ".weights.h5": "tensorflow"}
"""The framework of each format."""

TOLERANCES = {"float32": 1e-5, "float64": 1e-9}
"""The largest error of the logits, relative to the largest, by the precision of the file."""

IMAGES = 8
"""How many both networks see."""

WORKER = "tandem.use.port_worker"
"""The module that a framework's process runs."""


@dataclasses.dataclass
class Port:
    """What was converted, and how the two networks then compare.

    Attributes:
        source, target: the files.
        arrays, numbers: how many arrays were carried over, and their entries.
        rows: by layer after a flatten, the features and channels whose order was changed.
        lone: by framework, the weights and statistics that the other has not.
        guessed: the layers that were paired by the order of execution only.
        errors: by precision, the error of the logits relative to the largest.
        tolerance: the largest that passes.
        apart: if they do not compute the same, each layer that differs by itself: an `Apart` of certify/replay.py.
        written: whether `target` is there.
    """

    source: Path
    target: Path
    arrays: int = 0
    numbers: int = 0
    rows: dict = dataclasses.field(default_factory=dict)
    lone: dict = dataclasses.field(default_factory=dict)
    guessed: list = dataclasses.field(default_factory=list)
    errors: dict = dataclasses.field(default_factory=dict)
    tolerance: float = 0.0
    apart: list = dataclasses.field(default_factory=list)
    written: bool = False

    @property
    def passed(self):
        """Whether all weights were carried over, and both networks compute the same.

        If they do so in float64 only, float32 rounds.
        """
        return not any(self.lone.values()) and min(self.errors.values()) <= self.tolerance

    def lines(self):
        """What to tell the user."""
        errors = ", ".join(f"{error:.1e} in {precision}" for precision, error in self.errors.items())
        told = [f"logits differ by {errors}, relative to the largest"]
        for layer, (features, channels) in self.rows.items():
            size = f"{features // channels} pixels of {channels} channels"
            told.append(f"{layer}: its {features} inputs are {size}, channels first in Paddle and last in TensorFlow")
        if not self.passed:
            told += [str(entry) for entry in self.apart]
            known = {entry.layer for entry in self.apart}
            for framework, names in self.lone.items():
                rest = [name for name in names if name.rpartition(".")[0] not in known]
                told += [f"{name}: only in {TITLES[framework]}" for name in rest]
            if self.guessed:
                told.append(f"paired by the order of execution only: {', '.join(self.guessed)}; see --names")
        return told


def port(source, target, network, workers, overrides=(), names=None, num_classes=None, force=False, anyway=False):
    """Carry the weights in `source` over to `target`; return a `Port`.

    Args:
        source, target: files of `FORMATS`, of one framework each. A .keras or .weights.h5 is of the network that the
            file's builder makes: names of layers may differ, their structure may not.
        network: the user's Python file with both builders. It runs.
        workers: a `tandem.frameworks.workers.Workers` of `WORKER`.
        overrides: "KEY=VALUE" of the network's config, such as "data.image_size=64".
        names: a map of layers from Paddle's names to TensorFlow's: see `pair` of certify/pairing.py.
        num_classes: length of the logits; by default, as many as the config's data has classes.
        force: whether an existing `target` may be replaced.
        anyway: whether to write what does not pass.

    Raises:
        UserError: for any bad input; `target` is then unchanged.
    """
    source, target = Path(source), Path(target)
    framework, other = (_framework(path) for path in (source, target))
    if framework == other:
        raise UserError(f"{target}: is of the same framework as {source}; save the model in that format")
    files.check_plain(source)
    check_target(target, force)
    settings, _ = subject(network, overrides)
    temporary = target.with_name(f"{files.UNFINISHED}{target.name}")  # keeps the extension, which Keras requires
    by_source = {framework: str(source)}
    try:
        precision = workers.ask("precision", by_framework={"path": by_source})[framework]
    except UserError as error:  # HDF5 may crash on a damaged file, and then does not name it
        raise error if str(source) in str(error) else UserError(f"{source}: damaged ({error}); save it anew") from error
    values = settings.model_dump(mode="json") | {"precision": precision, "device": "cpu"}
    settings = check_config(values, str(network))
    _write_images(workers, settings)
    answers = workers.ask("start", settings=values, num_classes=num_classes or count_classes(settings))
    made = Port(source, target, tolerance=TOLERANCES[precision])
    calls, pairing = _pair(made, workers, answers, names, network)
    workers.ask("read", by_framework={"path": by_source})
    workers.ask("give", source=framework)
    _carry_over(made, workers, framework)
    try:
        workers.ask("write", by_framework={"path": {other: str(temporary)}})
        workers.ask("read", by_framework={"path": {other: str(temporary)}})
        _verify(made, workers, calls, pairing, precision)
        if made.passed or anyway:
            files.put_in_place(temporary, target)
            made.written = True
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    return made


def _framework(path):
    found = next((framework for end, framework in FORMATS.items() if path.name.lower().endswith(end)), None)
    if found is None:
        raise UserError(f"{path}: unknown format; with --network use .pdparams, .keras or .weights.h5")
    return found


def _write_images(workers, settings):
    """Give both the same images, and what they are normalised by."""
    images = images_at_hand(settings.data, settings.seed)[0].train.images
    mean, std = normalization(images, settings.data.normalization)
    files.write_arrays(workers.folder / "preprocessing", {"mean": mean, "std": std})
    files.write_arrays(workers.folder / "images", {"images": images[:IMAGES]})
    labels = np.zeros(len(images[:IMAGES]), np.int64)
    files.write_arrays(workers.folder / "batch", {"images": images[:IMAGES], "labels": labels})


def _pair(made, workers, answers, names, network):
    """Pair the networks, and have TensorFlow's take on Paddle's names. Returns the calls of layers and the pairing."""
    first, second = (answers[framework] for framework in FRAMEWORKS)
    calls = workers.ask("layers")
    if names is None and first["names"] is not None:
        names = check_names(first["names"], network)
    pairing = pair(calls, names)
    layers, arrays = pairing.renamed(second["types"], second["shapes"])
    paired = {"layers": list(pairing.layers), "arrays": list(pairing.arrays), "last": pairing.last}
    workers.ask("pair", by_framework={"names": {FRAMEWORKS[1]: (layers, arrays)}}, paired=paired)
    # Beside what is paired, what does not run in evaluation, by its name.
    theirs = dict(arrays.values())
    shared = [name for name, shape in first["shapes"].items() if list(theirs.get(name, ())) == list(shape)]
    workers.ask("share", arrays=shared)
    made.arrays, made.numbers = len(shared), sum(int(np.prod(first["shapes"][name])) for name in shared)
    made.guessed = pairing.guessed
    made.lone = {
        FRAMEWORKS[0]: [name for name in first["weights"] if name not in shared],
        FRAMEWORKS[1]: [name for name in second["weights"] if arrays[name][0] not in shared],
    }
    return calls, pairing


def _carry_over(made, workers, source):
    """Load the weights of the framework `source` in the other, and reorder the rows of what follows a flatten."""
    while True:
        workers.ask("take", source=source, rows=made.rows)
        workers.ask("record")
        found = workers.ask("flattened", rows=made.rows)[FRAMEWORKS[1]]
        if found is None:
            return
        layer, *made.rows[layer] = found


def _verify(made, workers, calls, pairing, precision):
    """Compare the logits, and where they differ find the layers that do."""
    made.errors[precision] = _error(workers)
    if made.passed:
        return
    if precision != "float64":
        workers.ask("in_double")
        made.errors["float64"] = _error(workers)
    if made.passed:
        return
    workers.ask("record")
    found = workers.ask("differing", rows=made.rows)[FRAMEWORKS[1]]
    made.apart = [entry for entry in judged(found, calls, pairing) if not entry.error <= CONSTANT]


def _error(workers):
    workers.ask("predict")
    ours, theirs = (side["logits"] for side in workers.read("predicted").values())
    error = relative_error(theirs, ours, 0.0)
    return error if np.isfinite(error) else np.inf
