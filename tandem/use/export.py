"""Export of a checkpoint's network as ONNX, as TensorFlow's SavedModel or as Paddle's inference model.

The model includes the normalisation: `images`, uint8 [batch, 3, H, W] from 0 to 255, give `logits`, float32 [batch,
classes], in evaluation mode. It is run and compared with the engine before it replaces an older file.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import data_utils
from tandem.core import files
from tandem.core.errors import UserError
from tandem.core.paths import child_environment
from tandem.frameworks import environment
from tandem.use import inference

import numpy as np

FRAMEWORK_OF = {"onnx": None, "saved_model": "tensorflow", "paddle": "paddle"}
"""The framework that each format belongs to; ONNX belongs to neither."""

CONVERTERS = {"paddle": "paddle2onnx", "tensorflow": "tf2onnx"}
"""The package that converts each framework's network to ONNX."""

OPSET = 17
"""The ONNX opset, one that both converters support."""

ABOUT = "tandem.json"
"""The file in a SavedModel's or Paddle model's folder with what an .onnx has as metadata."""

TOLERANCE = 1e-5
"""The largest error of logits against the engine's, relative to the largest logit."""

BATCHES = (1, 4)
"""The sizes of the batches on which they are compared."""


def export(source, kind, framework=None, overrides=(), ema=False, target=None, force=False, warn=print):
    """Write the network of a checkpoint as a model that works without Tandem; check it; return (path, error).

    It computes in float32, whatever the checkpoint was trained in. It is written and checked on a CPU.

    Args:
        source, framework, overrides, ema, warn: see `tandem.use.inference.Classifier`.
        kind: "onnx", "saved_model" or "paddle".
        target: an .onnx file, or for the others a folder. Default: exported/NAME.onnx, or exported/NAME-KIND.
        force: whether an existing `target` may be replaced: a file, or a folder that this function wrote.

    Returns:
        The path, and the largest error of a logit relative to the largest logit.

    Raises:
        UserError: for any bad input, or if the model does not compute what the engine does; `target` is unchanged.
    """
    if kind not in FRAMEWORK_OF:
        raise UserError(f"--format {kind}: unknown format; use {', '.join(FRAMEWORK_OF)}")
    own = FRAMEWORK_OF[kind]
    if own and framework not in (None, own):
        raise UserError(f"--framework {framework}: --format {kind} is {own}'s; leave out --framework")
    fixed = ("precision=float32", "device=cpu")
    for override in overrides or ():
        if override.partition("=")[0] in ("precision", "device"):
            raise UserError(f"-o {override}: export always uses {' and '.join(fixed)}; leave it out")
    settings = [*(overrides or ()), *fixed]
    classifier = inference.Classifier(source, framework or own, settings, ema, warn)
    if kind == "onnx":
        inference.require("--format onnx", CONVERTERS[classifier.framework], "onnx", "onnxruntime")
    ending = ".onnx" if kind == "onnx" else f"-{kind}"
    target = Path(target or Path("exported", f"{classifier.name}{ending}"))
    _check_target(target, kind, force)

    batches = np.split(_images(classifier), np.cumsum(BATCHES)[:-1])
    expected = np.concatenate([classifier.engine.predict(batch) for batch in batches])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=files.UNFINISHED, dir=target.parent) as folder:
            model = Path(folder, target.name)
            with environment.quiet():
                predict = _WRITERS[kind](classifier, model)
                found = np.concatenate([predict(batch) for batch in batches])
            error = np.abs(found - expected).max() / np.abs(expected).max()
            if not error <= TOLERANCE:  # NaN, too
                raise UserError(
                    f"{classifier.path}: the exported {kind} differs from {classifier.framework} by {error:.1e} "
                    f"of the largest logit, and {TOLERANCE:.0e} is allowed; nothing is kept"
                )
            _put(model, target)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error}); it is unchanged") from error
    except Exception as error:  # a converter may raise almost anything
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        raise UserError(f"{classifier.path}: cannot be written as {kind} ({reason}); try another --format") from error
    return target, float(error)


def _check_target(target, kind, force):
    """Check, before any work is done, that `target` can be written and may be replaced."""
    if kind == "onnx" and target.suffix.lower() != ".onnx":
        raise UserError(f"--output {target}: not a name for ONNX; end it in .onnx")
    if kind == "onnx" and target.is_dir():
        raise UserError(f"--output {target}: is a folder; name a file")
    if target.exists() and not force:
        raise UserError(f"--output {target}: already exists; name another, or replace it with --force")
    if target.exists() and kind != "onnx" and not (target / ABOUT).is_file():
        raise UserError(f"--output {target}: holds no {ABOUT}, so it is not replaced; name another")
    files.check_folder(target.parent)


def _images(classifier):
    """Test images of the config's data for `BATCHES`; noise if there are not enough on the disk."""
    data, size, count = classifier.settings.data, classifier.image_size, sum(BATCHES)
    if data.source != "cifar10" or not data_utils.missing_files(data.directory):  # do not download for this
        try:
            images = classifier.dataset().test.images[:count]
            if len(images) == count:
                return images
        except UserError:
            pass
    return np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def _about(classifier):
    """What users of the model need to know, as JSON values by name."""
    size = classifier.image_size
    return {
        "class_names": classifier.class_names,
        "image_size": size,
        "preprocessing": "Apply the EXIF orientation, make a transparent background white, convert to RGB, crop the "
        f"largest centred square, and resize it bilinearly (Pillow's BILINEAR) to {size}x{size} pixels. Pass the "
        "bytes, 0 to 255, channels first: the model normalises them.",
        "name": classifier.name,
        "checkpoint": classifier.path.name,
        "framework": str(classifier.framework),
        "ema": classifier.ema,
        "config": {
            **classifier.metadata["config"],
            "network": classifier.settings.model_dump(mode="json")["network"],
        },
    }


def _put(model, target):
    """Rename `model` to `target`. An old one is removed only when the new one is in its place."""
    old = model.with_name(f"old-{target.name}")
    if target.is_dir():  # a rename cannot replace a folder that is not empty
        os.replace(target, old)
    try:
        os.replace(model, target)
    except BaseException:
        if old.exists():
            os.replace(old, target)
        raise


# Each function writes the classifier's network to a path, reads it back, and returns a function from uint8 images to
# logits.


def _write_onnx(classifier, path):
    import onnx

    convert = {"paddle": _onnx_of_paddle, "tensorflow": _onnx_of_tensorflow}[classifier.framework]
    model = convert(classifier, path.with_name(str(classifier.framework)))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in _about(classifier).items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return inference.OnnxClassifier(path).predict


def _onnx_of_paddle(classifier, folder):
    """Convert by way of Paddle's own format, in `folder`."""
    import onnx

    _write_paddle(classifier, folder)
    names = [str(folder / name) for name in ("model.json", "model.pdiparams", "model.onnx")]
    _run_converter(classifier, [sys.executable, "-m", "tandem.use.paddle_to_onnx", *names, str(OPSET)])
    model = onnx.load(names[-1])
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    unused = [node for node in graph.node if node.op_type == "Constant" and node.output[0] not in used]
    for node in unused:  # onnxruntime would warn of each
        graph.node.remove(node)
    for node in graph.node:  # Paddle names the output by a number
        node.output[:] = ["logits" if name == graph.output[0].name else name for name in node.output]
    graph.output[0].name = "logits"
    return model


def _onnx_of_tensorflow(classifier, folder):
    """Convert by way of a SavedModel, in `folder`."""
    import onnx
    import tensorflow as tf

    # So that functions within it become part of it: Keras compiles a grouped convolution by XLA, in one of its own.
    tf.config.run_functions_eagerly(True)
    try:
        _write_saved_model(classifier, folder)
    finally:
        tf.config.run_functions_eagerly(False)
    target = folder / "model.onnx"
    options = ["--saved-model", str(folder), "--output", str(target), "--opset", str(OPSET)]
    _run_converter(classifier, [sys.executable, "-m", "tf2onnx.convert", *options])
    return onnx.load(target)


def _run_converter(classifier, command):
    """Run the `command` of a converter: it may end its process, or crash, on an operator that it lacks.

    Raises:
        UserError: it did not succeed, or said that it left something out.
    """
    finished = subprocess.run(command, capture_output=True, text=True, errors="replace", env=child_environment())
    lines = [line.strip() for line in f"{finished.stdout}\n{finished.stderr}".splitlines() if line.strip()]
    # paddle2onnx writes "[ERROR] what", and tf2onnx "time - ERROR - what", and goes on without what it lacks.
    marked = [found[1] for line in lines if (found := re.search(r"(?:^\[ERROR\]|- ERROR -) *(?:[\w.]+: )?(.*)", line))]
    if finished.returncode or marked:
        said = marked or lines[-1:] or [f"exit code {finished.returncode}"]
        reason, converter = textwrap.shorten("; ".join(said), 300), CONVERTERS[classifier.framework]
        raise UserError(f"{classifier.path}: {converter} cannot convert it to ONNX ({reason}); try another --format")


def _write_saved_model(classifier, path):
    import tensorflow as tf

    module = tf.Module()
    module.variables_of_model = [variable.value for variable in classifier.engine.model.variables]
    tf.saved_model.save(module, str(path), signatures=_tensorflow_function(classifier))
    (path / ABOUT).write_text(json.dumps(_about(classifier), indent=2) + "\n", encoding="utf-8")
    loaded = tf.saved_model.load(str(path))
    return lambda images: loaded.signatures["serving_default"](images=tf.constant(images))["logits"].numpy()


def _tensorflow_function(classifier):
    """A tf.function from images to logits."""
    import tensorflow as tf

    engine, size = classifier.engine, classifier.image_size
    # Arrays become constants of the graph; tf2onnx would turn the engine's tensors into inputs.
    engine.mean, engine.std = engine.mean.numpy(), engine.std.numpy()
    images = tf.TensorSpec([None, 3, size, size], tf.uint8, "images")
    return tf.function(lambda images: {"logits": engine._logits(images, training=False)}, [images])


def _write_paddle(classifier, path):
    import paddle

    class Model(paddle.nn.Layer):
        """Images to logits."""

        def __init__(self, engine):
            super().__init__()
            self.model = engine.model
            self.register_buffer("mean", engine.mean)
            self.register_buffer("std", engine.std)
            self.logits = engine._logits

        def forward(self, images):
            return self.logits(images)

    size = classifier.image_size
    images = paddle.static.InputSpec([None, 3, size, size], "uint8", "images")
    model = Model(classifier.engine)
    model.eval()
    paddle.jit.save(paddle.jit.to_static(model, [images], full_graph=True), str(path / "model"))
    (path / ABOUT).write_text(json.dumps(_about(classifier), indent=2) + "\n", encoding="utf-8")
    loaded = paddle.jit.load(str(path / "model"))
    return lambda images: loaded(paddle.to_tensor(images)).numpy()


_WRITERS = {"onnx": _write_onnx, "saved_model": _write_saved_model, "paddle": _write_paddle}
