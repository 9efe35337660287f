"""One framework's side of a conversion of weights, in a process of its own: python -m tandem.use.port_worker.

As tandem/certify/worker.py, which has the commands that build a network and pair its layers.
"""

import sys
from pathlib import Path

from tandem.certify import replay
from tandem.certify.sameness import relative_error
from tandem.certify.worker import Worker, main
from tandem.config import networks
from tandem.core import state
from tandem.core.errors import UserError
from tandem.frameworks.base import FRAMEWORKS
from tandem.use.convert import keras_arrays, keras_precision, precision_of, read_pdparams, reading_keras, save

import numpy as np

SAME = 1e-4
"""The largest error between a layer's inputs in float32 if they are the same, relative to the largest entry."""

NOT_WEIGHTS = ("optimizer", "metric", "loss_tracker")
"""Parts of the names that Keras' files give to what is not the network's."""


class PortWorker(Worker):
    """The commands of a conversion, for one framework. Those that take `path` do nothing where it is None."""

    def precision(self, path):
        """float32 or float64: what the file `path` of this framework holds."""
        if path is None:
            return None
        if self.framework == "paddle":
            return precision_of(read_pdparams(Path(path)), path)
        with reading_keras(path):
            return keras_precision(keras_arrays(Path(path)))

    def start(self, settings, num_classes):
        """As `Worker.start`, which says more. The answer also has `weights`, the names of what is trained or kept."""
        answer = super().start(settings, num_classes, resumed=False, trap=None)
        self.plain = None
        shapes = self.engine.shapes
        names = [name for name in answer["shapes"] if f"velocity/{name}" in shapes or state.is_statistic(name)]
        return {**answer, "weights": names}

    def share(self, arrays):
        """Take note of the names of the arrays that both networks have."""
        self.shared = set(arrays)

    def read(self, path):
        """Load the weights in the file `path` of this framework."""
        if path is not None:
            weights = self._read_paddle(Path(path)) if self.framework == "paddle" else self._read_keras(Path(path))
            self.engine.load_state({**self.engine.state(), **weights}, path)

    def give(self, source):
        """In the framework `source`: write the shared weights."""
        if self.framework == source:
            self._write("weights", {name: x for name, x in self.engine.state().items() if name in self.shared})

    def take(self, source, rows):
        """In the other framework: load the weights that `source` has written, those of `rows` in this one's order.

        Args:
            source: the framework that they come from.
            rows: by layer, what `flattened` found.
        """
        if self.framework == source:
            return
        weights = {name: self._in_order(name, x, rows) for name, x in self._read(f"{source}-weights").items()}
        self.engine.load_state({**self.engine.state(), **weights}, source)

    def record(self):
        """In the first framework: evaluate `batch`, and write what each layer took in and computed."""
        if self.framework == FRAMEWORKS[0]:
            self._write("record", self.engine.trace_evaluation(self._batch(), inputs=True))

    def flattened(self, rows):
        """In the second framework: the next layer after a flatten that takes its features in another order.

        Each layer computes from the first framework's `record`, so that what differs before does not matter.

        Args:
            rows: what earlier calls found, by layer.

        Returns:
            The layer's name, the number of its features, and that of the channels that were flattened. None if there is
            no other.
        """
        if self.framework == FRAMEWORKS[0]:
            return None
        record = self._read(f"{FRAMEWORKS[0]}-record")
        outputs = {
            name.removeprefix("output/"): array
            for name, array in record.items()
            if name.startswith("output/")
            and self._layer(name) in self.paired["layers"]
            and (array.ndim > 2 or self._is_matrix(self._layer(name)))
        }
        replayed = self.engine.replay_evaluation(self._batch(), outputs, self.paired["last"])
        holding = {name.rpartition(".")[0] for name in self.shared}
        for name, theirs in replayed.items():
            ours, layer = record.get(name), self._layer(name)
            if name.startswith("input/") and ours is not None and layer in holding and layer not in rows:
                channels = flattened_channels(ours, theirs)
                if channels is not None:
                    return [layer, ours.shape[1], channels]
        return None

    def in_double(self):
        """Build the network anew, in float64 with the same weights."""
        weights = {name: x for name, x in self.engine.state().items() if "/" not in name}
        self.engine = self._engine("float64")
        weights = {name: x.astype(np.float64) if x.dtype.kind == "f" else x for name, x in weights.items()}
        self.engine.load_state({**self.engine.state(), **weights}, "weights")

    def differing(self, rows):
        """In the second framework: what differs where each layer computes from the first one's `record`.

        Returns:
            What `compared` of tandem/certify/replay.py does.
        """
        if self.framework == FRAMEWORKS[0]:
            return None
        features = {features for features, _ in rows.values()}
        record = {
            name: array
            for name, array in self._read(f"{FRAMEWORKS[0]}-record").items()
            # What is flattened has another order here.
            if not (name.startswith("output/") and array.ndim == 2 and array.shape[1] in features)
            or self._is_matrix(self._layer(name))
        }
        return replay.compared(self.engine, self._batch(), None, record, self.paired)

    def write(self, path):
        """Write the weights to the file `path`, in this framework's format."""
        if path is None:
            return
        model = self.engine.model
        if self.framework == "tensorflow":
            model = self._plain()
            _copy(self.engine.model, model)
        try:
            save(self.framework, model, Path(path))
        except OSError as error:
            raise UserError(f"cannot write the file ({error.strerror or error}); nothing was changed") from error

    def _read_paddle(self, path):
        weights = read_pdparams(path)
        tensors = {state.from_paddle(name): tensor for name, tensor in self.engine.model.state_dict().items()}
        state.check(weights, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, str(path))
        # A shared layer has several names, of which the engine takes the first.
        first = {id(tensor): name for name, tensor in reversed(tensors.items())}
        for name, tensor in tensors.items():
            if not np.array_equal(weights[name], weights[first[id(tensor)]], equal_nan=True):
                raise UserError(f"{path}: {first[id(tensor)]} and {name} are one in the network, but not in the file")
        return {name: weights[name] for name in first.values()}

    def _read_keras(self, path):
        plain = self._plain()
        with reading_keras(path):
            arrays = keras_arrays(path)
            plain.load_weights(path)
        # Keras takes no notice of layers in the file that the network does not have.
        found = sum(
            size
            for name, (dtype, size) in arrays.items()
            if dtype.kind == "f" and not any(part in name for part in NOT_WEIGHTS)
        )
        own = sum(int(np.prod(variable.shape)) for variable in plain.weights)
        if found != own:
            raise UserError(f"{path}: holds {found:,} numbers, but the network of {self.checked.network.file} {own:,}")
        _copy(plain, self.engine.model)
        return {}

    def _plain(self):
        """The user's Keras model, built once more: the engine's has layers of Tandem's, which a file must not name."""
        if self.plain is None:
            size = self.checked.data.image_size
            self.plain = networks.build(self.checked.network, self.framework, self.num_classes)
            self.plain(np.zeros((1, size, size, 3), self.settings["precision"]), training=False)  # makes the variables
        return self.plain

    def _in_order(self, name, array, rows):
        layer = name.rpartition(".")[0]
        features, channels = rows.get(layer, (None, None))
        if len(np.shape(array)) == 0 or len(array) != features or (array.ndim == 1 and self._is_matrix(layer)):
            return array
        order = hwc_order(features, channels)
        return array[order if self.framework == "tensorflow" else np.argsort(order)]

    def _is_matrix(self, layer):
        """Whether the `layer` holds a matrix, so that its features are not those of its input."""
        return any(
            len(shape) == 2 and name.rpartition(".")[0] == layer
            for name, shape in self.engine.shapes.items()
            if "/" not in name
        )

    def _layer(self, name):
        """Of output/<layer>#2 the layer."""
        return name.partition("/")[2].partition("#")[0]


def flattened_channels(ours, theirs):
    """How many channels were flattened, if `theirs` are the same features as `ours` in the order of `hwc_order`.

    Args:
        ours, theirs: the inputs [N, features] of a layer in Paddle and in TensorFlow.

    Returns:
        The number of channels, or None: they are the same in the same order, or not the same.
    """
    if ours.ndim != 2 or ours.shape != theirs.shape or relative_error(theirs, ours, 0.0) <= SAME:
        return None
    features = ours.shape[1]
    errors = {
        channels: relative_error(theirs, ours[:, hwc_order(features, channels)], 0.0)
        for channels in range(2, features)
        if features % channels == 0
    }
    channels = min(errors, key=errors.get, default=None)
    return channels if channels is not None and errors[channels] <= SAME else None


def hwc_order(features, channels):
    """The numbers of `features` flattened from [C, H, W], in the order in which [H, W, C] has them."""
    return np.arange(features).reshape(channels, -1).T.ravel()


def _copy(source, target):
    """Give the Keras model `target` the weights of `source`, which the same builder built."""
    for variable, other in zip(target.weights, source.weights, strict=True):
        variable.assign(other)


if __name__ == "__main__":
    main(*sys.argv[1:], PortWorker)
