"""Conversion between a Tandem checkpoint, Paddle's .pdparams and Keras' .keras of the same network.

A checkpoint and a .pdparams are read with NumPy only. What needs a framework runs in a process of its own.
"""

import contextlib
import io
import json
import multiprocessing
import os
import pickle
import platform
import textwrap
import zipfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import data_utils
from tandem.config.load import load_config
from tandem.core import files, pickles, state
from tandem.core.errors import UserError
from tandem.core.machine import limited
from tandem.data.batches import steps_per_epoch
from tandem.data.images import load_dataset, normalization
from tandem.frameworks.base import INITIAL_SCALE, load_engine
from tandem.training import checkpoint, trust

import numpy as np

FRAMEWORKS = {".pdparams": "paddle", ".keras": "tensorflow"}
"""The framework that each format belongs to; a checkpoint (.safetensors) belongs to neither."""

NAME_TABLE = "StructuredToParameterName@@"
"""An entry that paddle.save adds to a state_dict: Paddle's internal names of the tensors."""

MEMBERS, UNPACKED = 10_000, (1 << 26, 20)
"""How many files a .keras may hold, and how long all may be: so many bytes, and so many times its own length. Keras
does not compress what it writes."""

ROOM = (1 << 31, 8)
"""What a model in a .keras may take in memory: so many bytes, and so many times the length of the file. It is built
from a description, where one number can ask for all there is."""

SECONDS = 300
"""How long reading such a model may keep a core busy, and as long running it."""

ROUNDING = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 0.1, "float16": 0.1}
"""How much logits may differ, relative to the largest, by the precision a .keras computes in. Weights stay exact."""


def convert(source, target, config=None, num_classes=None, force=False, warn=print, network=None):
    """Write the network in `source` to `target`, in the format of its extension; return what was written.

    Args:
        source: a checkpoint (.safetensors), a run folder (its newest whole checkpoint), a .pdparams or a .keras.
        target: a .safetensors, .pdparams or .keras, of another format than `source`.
        config: the YAML file that names the network; needed unless `source` is a checkpoint, which holds its own.
        num_classes: length of the logits; by default, as many as the config's data has classes.
        force: whether an existing `target` may be replaced.
        warn: called with a line for each damaged checkpoint that is skipped.
        network: the Python file of a checkpoint's network, where that is the user's own: see trust.py.

    Returns:
        A line of text for the user, and for a .keras that Keras alone cannot load, a line that says how to load it.

    Raises:
        UserError: for any bad input; `target` is then unchanged.
    """
    source, target = Path(source), Path(target)
    source_format, target_format = _formats(source, target)
    check_target(target, force)
    if source_format == ".safetensors":
        if config is not None or num_classes is not None:
            raise UserError(
                f"{source}: a checkpoint holds its config and classes; leave out --config and --num-classes"
            )
        source, weights, settings, num_classes = _read_checkpoint(source, network, warn)
    elif network is not None:
        raise UserError(f"{source}: takes its network from --config; leave out --network")
    else:
        if config is None:
            raise UserError(f"{source}: does not say which network it is from; add --config FILE, which names it")
        settings = load_config(config)
        weights = read_pdparams(source) if source_format == ".pdparams" else None
        num_classes = num_classes or count_classes(settings)

    network = settings, num_classes
    if source_format == ".keras":
        weights = _in_process("tensorflow", _read_keras, source, *network)
    if target_format != ".safetensors":
        framework = FRAMEWORKS[target_format]
        _in_process(framework, _write, framework, source, weights, target, *network)
    else:
        if source_format == ".pdparams":
            weights = _in_process("paddle", _check_weights, "paddle", source, weights, *network)
        arrays, metadata = _for_resuming(settings, FRAMEWORKS[source_format])
        found = len(metadata["class_names"])
        if num_classes != found:
            raise UserError(f"--num-classes {num_classes}: but the config's data has {found} classes; leave it out")
        if settings.evaluation.ema_decay is not None:
            arrays |= {f"ema/{name}": array for name, array in weights.items() if "/" not in name}
        checkpoint.write(target, weights | arrays, metadata)
    kept = [array for name, array in weights.items() if "/" not in name]
    numbers = sum(array.size for array in kept)
    written = f"{source} -> {target}: {len(kept)} arrays of weights and statistics, {numbers:,} numbers"
    modules = _modules_of_keras(target) if target_format == ".keras" else ()
    if modules:
        loading = f"import {', '.join(modules)}, keras; model = keras.models.load_model({str(target)!r})"
        written += f"\nKeras has to know its classes. To load it in Python: {loading}"
    return written


def _modules_of_keras(path):
    """The modules, other than Keras', that define the registered classes in a .keras. Keras does not import them."""
    found = set()

    def walk(node):
        if isinstance(node, dict):
            if node.get("registered_name") and node.get("module"):
                found.add(node["module"])
            node = list(node.values())
        for part in node if isinstance(node, list) else ():
            walk(part)

    with zipfile.ZipFile(path) as archive:
        walk(json.loads(archive.read("config.json")))
    return sorted(module for module in found if module.partition(".")[0] != "keras")


def _formats(source, target):
    """The formats of both, as extensions."""
    found = []
    for path in (source, target):
        suffix = path.suffix.lower()
        if path == source and path.is_dir() and suffix not in FRAMEWORKS:
            suffix = ".safetensors"
        if suffix not in (".safetensors", *FRAMEWORKS):
            raise UserError(f"{path}: unknown format; use .safetensors, .pdparams or .keras")
        found.append(suffix)
    if found[0] == found[1]:
        raise UserError(f"{target}: is of the same format as {source}; copy the file")
    if found[0] in FRAMEWORKS or not source.is_dir():
        files.check_plain(source)
    return found


def check_target(target, force):
    """Check, before any work is done, that `target` can be written."""
    if target.is_dir():
        raise UserError(f"{target}: is a folder; name a file")
    if target.exists() and not force:
        raise UserError(f"{target}: already exists; name another, or replace it with --force")
    if not target.absolute().parent.is_dir():
        raise UserError(f"{target.parent}: no such folder; make it, or name another")
    if not os.access(target.absolute().parent, os.W_OK):
        raise UserError(f"{target}: cannot be written; name a file in another folder")


def _read_checkpoint(source, network, warn):
    """(path, weights and statistics, settings, number of classes) of a checkpoint, or of the newest of a run folder."""
    if source.is_dir():
        try:
            source, arrays, metadata = checkpoint.newest(source / "checkpoints", warn)
        except UserError:
            raise UserError(f"{source}: not a run folder with a whole checkpoint; name one, or a file") from None
    else:
        arrays, metadata = checkpoint.read(source)
    weights = {name: array for name, array in arrays.items() if "/" not in name}
    settings = trust.settings_of(
        source, arrays, metadata, [f"network.file={json.dumps(str(network))}"] if network else ()
    )
    return source, weights, settings, len(metadata["class_names"])


def read_pdparams(source):
    """Weights and statistics by canonical name.

    paddle.load is not used: it unpickles whatever a file asks for (paddle/framework/io.py), which may run any program.
    """
    files.check_plain(source)
    try:
        with source.open("rb") as file:
            content = pickles.load(file)
    except pickle.UnpicklingError as error:
        raise UserError(f"{source}: damaged, or more than a state_dict ({error}); {_HOW_TO_SAVE}") from error
    if not isinstance(content, dict):
        raise UserError(f"{source}: holds no state_dict; {_HOW_TO_SAVE}")
    # Python 2 wrote names as bytes.
    content = {name.decode("latin1") if isinstance(name, bytes) else name: array for name, array in content.items()}
    content.pop(NAME_TABLE, None)
    for name, array in content.items():
        if not isinstance(array, np.ndarray):
            raise UserError(f"{source}: {textwrap.shorten(name, 100)!r} is not an array; {_HOW_TO_SAVE}")
    precision_of(content, source)
    return {state.from_paddle(name): array for name, array in content.items()}


_HOW_TO_SAVE = "write it with paddle.save(model.state_dict(), ...)"


def precision_of(weights, source):
    """The precision of all `weights`, float32 or float64. Nothing is rounded here."""
    for name, array in weights.items():
        if array.dtype not in (np.float32, np.float64):
            raise UserError(
                f"{source}: {name} is in {array.dtype}, but weights must be in float32 or float64; {_HOW_TO_CAST}"
            )
    found = {str(array.dtype) for array in weights.values()}
    if len(found) != 1:
        raise UserError(f"{source}: holds {' and '.join(sorted(found)) or 'no array'}; {_HOW_TO_CAST}")
    return found.pop()


_HOW_TO_CAST = "convert the model to one of them and save it again"


def count_classes(settings):
    """How many classes the data of a config has."""
    if settings.data.source == "folder":
        return len(load_dataset(settings.data, settings.seed).class_names)
    return data_utils.CLASSES


def _for_resuming(settings, framework):
    """The arrays and the metadata that a checkpoint holds besides weights, for a run before its first step.

    A resumed run compares them with its own data.
    """
    data = load_dataset(settings.data, settings.seed)
    mean, std = normalization(data.train.images, settings.data.normalization)
    arrays = {"preprocessing/mean": mean, "preprocessing/std": std}
    if settings.precision == "float16":
        arrays |= {"loss_scale/scale": np.float32(INITIAL_SCALE), "loss_scale/good_steps": np.int64(0)}
    return arrays, {
        "config": settings.model_dump(mode="json"),
        "framework": framework,
        "epoch": 0,
        "batch": 0,
        "step": 0,
        "steps_per_epoch": steps_per_epoch(len(data.train.labels), settings.batch_size),
        "epoch_sums": [0.0] * 4,
        "window_sums": [0.0] * 4,
        "last_batch": None,
        "received": "",
        "best": {"accuracy": -1.0, "epoch": 0},
        "metrics": None,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "class_names": data.class_names,
    }


def _in_process(framework, function, *arguments):
    """`function(*arguments)`, which loads `framework`, in a process of its own: no process may load both."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except ImportError as error:
            raise UserError(f"this needs {framework}, which cannot be imported ({error}); install it") from error
        except BrokenProcessPool as error:  # HDF5 may crash on a damaged file, and a network may need all memory
            raise UserError(
                f"the process of {framework} ended as it was at work; check the file and the config"
            ) from error


# What follows runs in a process of its own.


def _new_engine(framework, precision, settings, num_classes):
    """Tandem's engine with arbitrary weights and without an EMA."""
    module = load_engine(framework)
    # A network trained in 16 bits has float32 weights, and Paddle on a CPU does not support 16 bits.
    settings = settings.without_ema().model_copy(update={"precision": precision, "device": "cpu"})
    return module.Engine(settings, num_classes, np.zeros((3, 1, 1)), np.ones((3, 1, 1)))


def _with_velocities(engine, weights, origin):
    """`weights` with zero velocities, as at the start of a run; names and shapes are checked."""
    precision = precision_of(weights, origin)
    names = [name for name in engine.shapes if name.startswith("velocity/")]
    whole = weights | {name: np.zeros(engine.shapes[name], precision) for name in names}
    state.check(whole, engine.shapes, str(origin))
    return whole


def _check_weights(framework, source, weights, *network):
    """`weights` with velocities, checked against `network`."""
    return _with_velocities(_new_engine(framework, precision_of(weights, source), *network), weights, source)


def _read_keras(source, settings, num_classes):
    """The weights of a .keras, with velocities. Checks that names, shapes and outputs are the network's."""
    size = settings.data.image_size
    images = np.random.default_rng(0).normal(size=(2, size, size, 3))
    with reading_keras(source):
        precision = keras_precision(keras_arrays(source))
    engine = _new_engine("tensorflow", precision, settings, num_classes)  # imports the classes that the file may name
    from tandem.frameworks.tensorflow.engine import arrays_of
    from tandem.frameworks.tensorflow.layouts import to_canonical

    import tensorflow as tf

    room = ROOM[0] + ROOM[1] * source.stat().st_size
    with reading_keras(source), limited(room, SECONDS):
        # Safe mode allows Keras' own classes and registered ones, but no Python code in the file.
        model = tf.keras.models.load_model(source, compile=False, safe_mode=True)
    weights = {name: to_canonical(variable.numpy(), layer) for name, (variable, layer) in arrays_of(model).items()}
    weights = _with_velocities(engine, weights, source)
    with reading_keras(source), limited(room, SECONDS):
        found = model(images, training=False).numpy().astype(precision)
        computed_in = {precision, *(layer.compute_dtype for layer in model._flatten_layers())}

    engine.load_state(weights, str(source))
    logits = engine.model(images, training=False)
    outputs = logits.numpy(), tf.nn.softmax(logits).numpy()  # many Keras models end with softmax
    tolerance = max(ROUNDING[name] for name in computed_in)
    if not any(found.shape == output.shape and _close(found, output, tolerance) for output in outputs):
        raise UserError(
            f"{source}: its names and shapes fit, but it computes something else than the configured network; see "
            "docs/differences.md, for example on Flatten (rows, columns, channels in Keras), padding and epsilon"
        )
    return weights


@contextlib.contextmanager
def reading_keras(source):
    """A context in which whatever reading the Keras file `source` raises becomes one line."""
    try:
        yield
    except (ModuleNotFoundError, UserError):
        raise
    except Exception as error:  # a damaged file may raise almost anything
        # What went wrong stands behind all that Keras was at.
        reason = textwrap.shorten(str(error).rpartition("Exception encountered: ")[2], 200)
        raise UserError(f"{source}: cannot be read as a Keras model ({reason}); write it with model.save") from error


def _close(a, b, tolerance):
    """Whether `a` equals `b` within `tolerance`, relative to the largest entry of `b`."""
    return np.allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max(), equal_nan=True)


def keras_arrays(source):
    """By path, the dtype and the number of entries of each array in a .keras or a .weights.h5.

    Checks first that it holds no more than it says and than it is.
    """
    import h5py

    most, datasets, others = UNPACKED[0] + UNPACKED[1] * source.stat().st_size, {}, []

    def enter(path, item):
        if isinstance(item, h5py.Dataset):
            # One may have its values in any other file, and Keras would read that; or a few for all of a list's items.
            if item.external or item.is_virtual or item.dtype.hasobject:
                others.append(item)
            datasets[path] = item.dtype, item.size, item.nbytes

    content = source
    if source.suffix.lower() == ".keras":
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            if len(members) > MEMBERS or sum(member.file_size for member in members) > most:
                raise UserError(f"{source}: unpacked, it is far larger than it is; write it with model.save")
            content = io.BytesIO(files.read_member(archive, archive.getinfo("model.weights.h5")))
    with h5py.File(content) as weights:
        weights.visititems(enter)
        weights.visititems_links(lambda _, link: others.append(link) if hasattr(link, "path") else None)
    if others or sum(nbytes for _, _, nbytes in datasets.values()) > most:
        raise UserError(f"{source}: its weights are not in it, or are too large; write it with model.save")
    return {path: (dtype, size) for path, (dtype, size, _) in datasets.items()}


def keras_precision(arrays):
    """float64 if the `keras_arrays` have it, otherwise float32.

    A model whose layers are made by a class of its own loads in the precision that is set, not in the saved one.
    """
    return "float64" if any(dtype == np.float64 for dtype, _ in arrays.values()) else "float32"


def save(framework, model, path):
    """Write the weights of `framework`'s `model` to `path`, a .pdparams, .keras (with its layers) or .weights.h5."""
    if framework == "paddle":
        import paddle

        paddle.save(model.state_dict(), str(path))
    else:
        (model.save if path.suffix == ".keras" else model.save_weights)(path)


def _write(framework, source, weights, target, *network):
    """Write `weights` to `target` in the format of `framework`, atomically."""
    engine = _new_engine(framework, precision_of(weights, source), *network)
    engine.load_state(_with_velocities(engine, weights, source), str(source))
    temporary = target.with_name(f"{files.UNFINISHED}{target.name}")  # keeps the extension, which Keras requires
    try:
        save(framework, engine.model, temporary)
        files.put_in_place(temporary, target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error}); it is unchanged") from error
    finally:
        temporary.unlink(missing_ok=True)
