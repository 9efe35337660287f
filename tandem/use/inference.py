"""Inference with a checkpoint in either framework, on images of any kind, preprocessed as in training.

One process loads only one framework. An .onnx that `export` wrote runs in onnxruntime, without either.
"""

import functools
import importlib
import importlib.util
import textwrap
import threading
from pathlib import Path
from typing import Annotated

from tandem.core import files, state
from tandem.core.errors import UserError
from tandem.core.metadata import ClassNames, Metadata, wrong
from tandem.data.batches import Batch
from tandem.data.images import FORMATS, Passed, find_images, load_dataset, read_image
from tandem.frameworks import environment
from tandem.frameworks.base import FRAMEWORKS, load_engine
from tandem.training import checkpoint, run_folder, trust

import numpy as np
from pydantic import ConfigDict, Field, Json, ValidationError
from scipy.special import softmax

SECONDS = 120.0
"""How long an .onnx may compute a batch: one may hold a loop without end."""

LARGEST_BATCH = 1_000
"""How many images are computed at once at the most, whatever the batch size of training."""


class Predictor:
    """The base of what classifies images; a subclass has `predict`, `class_names`, `image_size` and `batch_size`."""

    def logits(self, images, report=lambda done: None):
        """The logits of `images`, uint8 [N, 3, H, W], as float64 [N, classes]. `report` gets how many are done."""
        size, found = self.batch_size, []
        for start in range(0, len(images), size):
            found.append(self.predict(images[start : start + size]).astype(np.float64))
            report(min(start + size, len(images)))
        return np.concatenate(found)

    def classify(self, paths, top=5, warn=print):
        """Yield (path, [(class name, probability), ...]) for each image file, with the `top` most probable classes.

        `warn` is told what is odd about a file that can be read all the same.

        Raises:
            UserError: one is not an image.
        """
        size = self.image_size
        for start in range(0, len(paths), self.batch_size):
            batch = paths[start : start + self.batch_size]
            images = np.stack(
                [read_image(path, size, lambda what, path=path: warn(f"{path}: {what}")) for path in batch]
            )
            for path, row in zip(batch, softmax(self.logits(images), axis=1), strict=True):
                best = np.argsort(-row, kind="stable")[:top]
                yield path, [(self.class_names[label], float(row[label])) for label in best]


class Classifier(Predictor):
    """The network of a checkpoint in one framework.

    It loads the framework and builds the network at the first use, so that bad input is reported before.

    Args:
        source: a checkpoint, or a run folder, for its newest whole one.
        framework: "paddle" or "tensorflow"; by default the one that wrote it.
        overrides: changes to its config ("data.directory=/data", "network.file=mynet.py"): see trust.py.
        ema: whether to use the EMA of weights and statistics in their place.
        warn: called with a line for each damaged checkpoint that is skipped.

    Attributes:
        path: the checkpoint.
        name: of the run or of the file, for the names of output files.
        settings: its config, with `overrides`.
        metadata: see tandem/training/checkpoint.py.
        framework, ema: as above.
        has_ema: whether it holds an EMA.
        class_names: in the order of the labels.
        image_size: height and width, in pixels.
        batch_size: how many images `logits` computes at once.
        weights: weights and statistics, by canonical name (tandem/core/state.py).

    Raises:
        UserError: there is no such checkpoint, or it has no EMA although `ema` is set, or the settings do not fit it.
    """

    def __init__(self, source, framework=None, overrides=(), ema=False, warn=print):
        source = Path(source)
        if source.is_dir():
            run_folder.check(source)
        self._warn = warn
        self.path, arrays, self.metadata = checkpoint.find(source, warn)
        self.name = _name(source)
        self.framework = framework or self.metadata["framework"]
        if self.framework not in FRAMEWORKS:
            raise UserError(f"{self.path}: was written by {self.framework}, which is not here; name a --framework")
        self.class_names = tuple(self.metadata["class_names"])
        self.ema = ema
        self.has_ema = any(name.startswith("ema/") for name in arrays)
        if ema and not self.has_ema:
            raise UserError(f"{self.path}: holds no EMA; leave out --ema")
        self._overrides = tuple(overrides or ())
        settings = trust.settings_of(self.path, arrays, self.metadata, self._overrides)
        data = self.metadata["config"].get("data")
        size = data.get("image_size", settings.data.image_size) if isinstance(data, dict) else settings.data.image_size
        if settings.data.image_size != size:
            raise UserError(f"-o data.image_size={settings.data.image_size}: {self.path} was trained on {size} pixels")
        self.settings = settings.without_ema()
        self.image_size, self.batch_size = size, min(settings.batch_size, LARGEST_BATCH)
        self._preprocessing = checkpoint.preprocessing(arrays, size, str(self.path))
        if ema:
            self.weights = {name[len("ema/") :]: array for name, array in arrays.items() if name.startswith("ema/")}
        else:
            self.weights = {name: array for name, array in arrays.items() if "/" not in name}

    @functools.cached_property
    def engine(self):
        """The engine with the network, its weights and statistics."""
        try:
            module = load_engine(self.framework)
        except ImportError as error:
            raise UserError(
                f"{self.framework}: cannot be imported ({error}); install it, or use the other --framework"
            ) from error
        engine = module.Engine(self.settings, len(self.class_names), *self._preprocessing)
        shapes = {name: shape for name, shape in engine.shapes.items() if "/" not in name}
        state.check(self.weights, shapes, str(self.path))
        engine.load_state({**engine.state(), **self.weights}, str(self.path))
        return engine

    def predict(self, images):
        """The logits of `images`, uint8 [B, 3, H, W], as float [B, classes]."""
        return self.engine.predict(images)

    def activations(self, image):
        """The output of each named layer for `image`, uint8 [3, H, W], by name, in the order of computation.

        Each is [C, H, W], or [C] after the image is flattened or pooled. A layer that is applied again is name#2.
        """
        trace = self.engine.trace_evaluation(Batch(image[None], np.zeros(1, np.int64)))
        outputs = {name.removeprefix("output/"): array for name, array in trace.items() if name.startswith("output/")}
        # NumPy has no bfloat16, so it cannot save one.
        return {
            name: array[0] if array.dtype in (np.float32, np.float64) else array[0].astype(np.float32)
            for name, array in outputs.items()
            if array.ndim > 1
        }

    def dataset(self):
        """The `Dataset` that the config names.

        Raises:
            UserError: it cannot be loaded, or its classes are not the checkpoint's.
        """
        trust.check_data(self.path, self.metadata, self._overrides)
        data = load_dataset(self.settings.data, self.settings.seed)
        for note in data.notes:
            self._warn(note)
        if data.class_names != self.class_names:
            raise UserError(
                f"{self.path}: has {_listed(self.class_names)}, but the data has {_listed(data.class_names)}; "
                "use the data it was made with: -o data.directory=..."
            )
        return data


class About(Metadata):
    """What an .onnx says about itself, as far as it is needed: each value is JSON."""

    model_config = ConfigDict(extra="ignore")

    class_names: Json[ClassNames]
    image_size: Json[Annotated[int, Field(ge=1, le=512)]]
    ema: Json[bool]


class OnnxClassifier(Predictor):
    """An .onnx that `tandem.use.export` wrote, in onnxruntime.

    Attributes:
        path: the file.
        framework: "onnxruntime".
        ema: whether its weights are an EMA.
        class_names, image_size, batch_size: see `Classifier`.

    Raises:
        UserError: onnxruntime is not installed, or the file is missing, damaged or not from Tandem, or says of itself
            what is not so.
    """

    framework = "onnxruntime"
    batch_size = 64

    def __init__(self, path):
        require(str(path), "onnxruntime")
        self.path = Path(path)
        files.check_plain(path)
        with environment.quiet():
            import onnxruntime
        try:
            with environment.quiet():
                self._session = onnxruntime.InferenceSession(self.path)
                said = self._session.get_modelmeta().custom_metadata_map
        except Exception as error:  # a damaged file may raise almost anything
            reason = textwrap.shorten(str(error), 100)
            raise UserError(f"{path}: damaged or not an ONNX model ({reason}); export it again") from error
        values = [value.name for value in (*self._session.get_inputs(), *self._session.get_outputs())]
        if values != ["images", "logits"] or "class_names" not in said:
            raise UserError(f"{path}: an ONNX model, but not one from Tandem; make one with python -m tandem export")
        try:
            about = About.model_validate(said)
        except ValidationError as error:
            raise UserError(f"{path}: {wrong(error)}; export it again") from error
        self.class_names, self.image_size, self.ema = about.class_names, about.image_size, about.ema
        shapes = [self._session.get_inputs()[0].shape[1:], self._session.get_outputs()[0].shape[1:]]
        if shapes != [[3, self.image_size, self.image_size], [len(self.class_names)]]:
            raise UserError(
                f"{path}: says that it has {len(self.class_names)} classes, and takes images of {self.image_size} "
                f"pixels, but images and logits are of {shapes[0]} and {shapes[1]}; export it again"
            )

    def predict(self, images):
        """The logits of `images`, uint8 [B, 3, H, W], as float32 [B, classes].

        Raises:
            UserError: the model cannot be run, takes longer than `SECONDS`, or gives anything else.
        """
        import onnxruntime

        options = onnxruntime.RunOptions()
        timer = threading.Timer(SECONDS, setattr, (options, "terminate", True))
        timer.start()
        try:
            with environment.quiet():
                (logits,) = self._session.run(["logits"], {"images": images}, options)
        except Exception as error:  # a damaged model may raise almost anything
            reason = textwrap.shorten(str(error), 100)
            raise UserError(f"{self.path}: cannot be run ({reason}); export it again") from error
        finally:
            timer.cancel()
        if logits.shape != (len(images), len(self.class_names)) or logits.dtype != np.float32:
            raise UserError(f"{self.path}: its logits are {logits.dtype} {logits.shape}; export it again")
        return logits


def require(what, *packages):
    """Check that `packages`, which `what` needs, are installed.

    Raises:
        UserError: one is not.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{what} needs {package}, which is not installed; pip install -r requirements-export.txt")


def image_files(paths, warn=print):
    """The image files that `paths`, files and folders, name, in order: in a folder those that training would find.

    They are the images in the folder itself, or, where it has none, those in its folders: see
    `tandem.data.images.find_images`. `warn` is told what is passed over.

    Raises:
        UserError: one does not exist, or a folder holds no image.
    """
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            passed = Passed()
            inside = _images_in(path, passed)
            if not inside:
                raise UserError(f"{path}: holds no image ({', '.join(FORMATS)}); name another folder")
            for line in passed.lines(path):
                warn(line)
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file; check the path")
    return files


def _images_in(folder, passed):
    images, folders = find_images(folder, passed)
    if images:
        passed.folders += folders
        return images
    return [image for inside in folders for image in _images_in(inside, passed)]


def _name(source):
    """A name for output files: x for runs/x, and x-best for runs/x/checkpoints/best.safetensors."""
    if source.is_dir():
        return source.resolve().name
    folder = source.absolute().parent
    return f"{folder.parent.name}-{source.stem}" if folder.name == "checkpoints" else source.stem


def _listed(names):
    return f"{len(names)} classes ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
