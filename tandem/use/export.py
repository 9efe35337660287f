"""A checkpoint's network for use elsewhere: as ONNX, as TensorFlow's SavedModel or as Paddle's inference model.

Its preprocessing is inside: `images`, uint8 [batch, 3, H, W] from 0 to 255, give `logits`, float32 [batch, classes], in
evaluation mode. What was written is run and compared with the engine before it gets its name.
"""

import json
import os
import tempfile
import textwrap
from pathlib import Path

import data_utils
from tandem.core import files
from tandem.core.errors import UserError
from tandem.frameworks import environment
from tandem.use import inference

import numpy as np

FRAMEWORK_OF = {"onnx": None, "saved_model": "tensorflow", "paddle": "paddle"}
"""The framework that each format belongs to; ONNX belongs to neither."""

CONVERTERS = {"paddle": "paddle2onnx", "tensorflow": "tf2onnx"}
"""The package that makes ONNX of each framework's network."""

OPSET = 17
"""The version of ONNX's operators: one that both converters write."""

ABOUT = "tandem.json"
"""The file beside a SavedModel or a Paddle model that says what ONNX keeps in its metadata."""

TOLERANCE = 1e-5
"""How far logits may be from the engine's, relative to the largest."""

BATCHES = (1, 4)
"""The sizes of the batches that they are compared on."""


def export(source, kind, framework=None, overrides=(), averaged=False, target=None, force=False, warn=print):
    """Write the network of a checkpoint as a model that needs no Tandem; check it; return (path, error).

    It computes in float32 on a CPU, whatever it was trained in and on.

    Args:
        source, framework, overrides, averaged, warn: see `tandem.use.inference.Classifier`.
        kind: "onnx", "saved_model" or "paddle".
        target: an .onnx file, or for the others a folder. Default: exported/NAME.onnx, or exported/NAME-KIND.
        force: whether a `target` that is there may be replaced: a file, or a folder that this function wrote.

    Returns:
        The path, and the largest error of a logit relative to the largest logit.

    Raises:
        UserError: for any bad input, or if the model does not compute what the engine does; `target` is as it was.
    """
    if kind not in FRAMEWORK_OF:
        raise UserError(f"--format {kind}: not a format known here; use {', '.join(FRAMEWORK_OF)}")
    own = FRAMEWORK_OF[kind]
    if own and framework not in (None, own):
        raise UserError(f"--framework {framework}: --format {kind} is of {own}; leave out --framework")
    fixed = ("precision=float32", "device=cpu")
    for override in overrides or ():
        if override.partition("=")[0] in ("precision", "device"):
            raise UserError(f"-o {override}: what is exported computes with {' and '.join(fixed)}; leave it out")
    settings = [*(overrides or ()), *fixed]
    classifier = inference.Classifier(source, framework or own, settings, averaged, warn)
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
                    f"{classifier.path}: the {kind} written of it differs from {classifier.framework} by {error:.1e} "
                    f"of the largest logit, and {TOLERANCE:.0e} is allowed; nothing is kept"
                )
            _put(model, target)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error}); it is as it was") from error
    except Exception as error:  # a converter may raise almost anything
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        raise UserError(f"{classifier.path}: cannot be written as {kind} ({reason}); try another --format") from error
    return target, float(error)


def _check_target(target, kind, force):
    """Refuse, before any work is done, what could not be written, or ought not to be replaced."""
    if kind == "onnx" and target.suffix.lower() != ".onnx":
        raise UserError(f"--output {target}: not a name for ONNX; end it in .onnx")
    if kind == "onnx" and target.is_dir():
        raise UserError(f"--output {target}: is a folder; name a file")
    if target.exists() and not force:
        raise UserError(f"--output {target}: is there already; name another, or replace it with --force")
    if target.exists() and kind != "onnx" and not (target / ABOUT).is_file():
        raise UserError(f"--output {target}: holds no {ABOUT}, so it is not replaced; name another")
    files.check_folder(target.parent)


def _images(classifier):
    """As many test images of the config's data as `BATCHES` takes; noise where they are not at hand."""
    data, size, count = classifier.settings.data, classifier.image_size, sum(BATCHES)
    if data.source != "cifar10" or Path(data.directory, data_utils.FOLDER).is_dir():  # nothing is fetched for this
        try:
            images = classifier.dataset().test.images[:count]
            if len(images) == count:
                return images
        except UserError:
            pass
    return np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def _about(classifier):
    """What a user of the model must know, as JSON values by name."""
    size = classifier.image_size
    return {
        "class_names": classifier.class_names,
        "image_size": size,
        "preprocessing": "Turn the image upright by its EXIF orientation, lay transparency on white, make it RGB, cut "
        f"out the largest centred square, and resize that bilinearly (Pillow's BILINEAR) to {size}x{size} pixels. "
        "Give the bytes, 0 to 255, channel first: they are normalised inside.",
        "name": classifier.name,
        "checkpoint": classifier.path.name,
        "framework": str(classifier.framework),
        "averaged": classifier.averaged,
        "config": {
            **classifier.metadata["config"],
            "network": classifier.settings.model_dump(mode="json")["network"],
        },
    }


def _put(model, target):
    """Rename `model` to `target`. What is there goes only when the new stands in its place."""
    old = model.with_name(f"old-{target.name}")
    if target.is_dir():  # no rename replaces a folder that holds something
        os.replace(target, old)
    try:
        os.replace(model, target)
    except BaseException:
        if old.exists():
            os.replace(old, target)
        raise


# Each writes the classifier's network to a path, reads it back, and returns it as a function: uint8 images to logits.


def _write_onnx(classifier, path):
    import onnx

    if classifier.framework == "paddle":
        model = _onnx_of_paddle(classifier, path.with_name("paddle"))
    else:
        model = _onnx_of_tensorflow(classifier)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in _about(classifier).items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return inference.OnnxClassifier(path).predict


def _onnx_of_paddle(classifier, folder):
    """By way of Paddle's own format, in `folder`."""
    import onnx
    import paddle2onnx

    _write_paddle(classifier, folder)
    files = str(folder / "model.json"), str(folder / "model.pdiparams")
    # Without `save_file`: with it paddle2onnx lets Polygraphy install packages, from an index that pip does not know.
    model = onnx.load_from_string(paddle2onnx.export(*files, save_file=None, opset_version=OPSET))
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    unused = [node for node in graph.node if node.op_type == "Constant" and node.output[0] not in used]
    for node in unused:  # onnxruntime would warn of each
        graph.node.remove(node)
    for node in graph.node:  # Paddle numbers its outputs
        node.output[:] = ["logits" if name == graph.output[0].name else name for name in node.output]
    graph.output[0].name = "logits"
    return model


def _onnx_of_tensorflow(classifier):
    import tf2onnx

    function = _tensorflow_function(classifier)
    return tf2onnx.convert.from_function(function, function.input_signature, opset=OPSET)[0]


def _write_saved_model(classifier, path):
    import tensorflow as tf

    module = tf.Module()
    module.variables_of_model = [variable.value for variable in classifier.engine.model.variables]
    tf.saved_model.save(module, str(path), signatures=_tensorflow_function(classifier))
    (path / ABOUT).write_text(json.dumps(_about(classifier), indent=2) + "\n", encoding="utf-8")
    loaded = tf.saved_model.load(str(path))
    return lambda images: loaded.signatures["serving_default"](images=tf.constant(images))["logits"].numpy()


def _tensorflow_function(classifier):
    """Images to logits as a tf.function."""
    import tensorflow as tf

    engine, size = classifier.engine, classifier.image_size
    # Arrays become constants of the graph; of the engine's tensors tf2onnx would make inputs.
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
