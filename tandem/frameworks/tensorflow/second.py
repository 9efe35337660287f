"""TensorFlow's engine as the second of the two in a certificate: with Paddle's names, and fed what Paddle's had.

Paddle's is the first, and has no twin of this.
"""

from functools import partial

from tandem.core import views
from tandem.frameworks import base
from tandem.frameworks.tensorflow.engine import Engine
from tandem.frameworks.tensorflow.inspection import watched
from tandem.frameworks.tensorflow.layers import Dropout, dropout_keys
from tandem.frameworks.tensorflow.layouts import in_shape

import numpy as np
import tensorflow as tf


class SecondEngine(Engine, base.SecondEngine):
    """An `Engine` whose layers and arrays can take on Paddle's names. For the contract see frameworks/base.py."""

    layer_names, paddle_shapes = {}, {}  # see `rename`

    def replay(self, batch, step, outputs, gradients, last):
        """Take a training step's forward pass, in which each layer passes on a given output in place of its own.

        So each computes by itself, from inputs that are right, together with what lies between it and the layers before
        it. The same for the backward pass, from gradients that are right. Statistics are updated.

        Args:
            batch, step: as for `train_step`.
            outputs, gradients: by layer, the outputs of the other framework, and the loss's gradients by them.
            last: by layer, whether their channels are the last axis, where that is known.

        Returns:
            A dict: `gradient/<parameter>` as in `trace`; and, as Keras lays them out, `input/<layer>`,
            `output/<layer>` and `output_gradient/<layer>`, as each computed them, and `logits`.
        """
        ways = _ways(outputs, last)
        given = {name: partial(_given, array, ways[name]) for name, array in outputs.items()}
        images, labels, _, keys, *mix = self._on_device(batch, step)
        with self._recorded(given) as record, tf.GradientTape() as tape, dropout_keys(self.dropouts.values(), keys):
            self.tape = tape
            if mix:
                logits, losses, _ = self._mixed_losses(images, labels, *mix)
            else:
                logits, losses, _ = self._losses(images, labels, training=True)
            loss = tf.reduce_mean(losses)
        self.tape = None
        targets, with_gradient = [loss], [tf.ones_like(loss)]
        for name, output in record.computed.items():
            way = views.way_to(outputs[name], output.numpy(), ways[name])
            if name in gradients and way is not None:
                targets.append(output)
                with_gradient.append(tf.constant(views.views(gradients[name], output.shape)[way]))
        passed_on = {name: record.outputs[name] for name in record.computed}
        gradients, of_outputs = tape.gradient(targets, [self.parameters, passed_on], with_gradient)
        pairs = zip(map(self._name, self.parameters), gradients, strict=True)
        replayed = {f"gradient/{name}": self._to_canonical(name, x) for name, x in pairs if x is not None}
        parts = {"input": record.inputs, "output": record.computed, "output_gradient": of_outputs}
        for what, tensors in parts.items():
            replayed |= {f"{what}/{name}": x.numpy() for name, x in tensors.items() if x is not None}
        return {**replayed, "logits": logits.numpy()}

    def replay_evaluation(self, batch, outputs, last):
        """Evaluate as `replay` trains: each layer passes on its output in `outputs`, where it has one there.

        Args:
            batch: as for `evaluate`.
            outputs, last: as for `replay`.

        Returns:
            A dict of `input/<layer>`, `output/<layer>` of the layers in `outputs`, as they computed it, and `logits`,
            as Keras lays them out.
        """
        ways = _ways(outputs, last)
        given = {name: partial(_given, array, ways[name]) for name, array in outputs.items()}
        with self._recorded(given) as record:
            logits, _, _ = self._losses(batch.images, batch.labels, training=False)
        replayed = {f"input/{name}": x.numpy() for name, x in record.inputs.items() if x is not None}
        replayed |= {f"output/{name}": x.numpy() for name, x in record.computed.items()}
        return {**replayed, "logits": logits.numpy()}

    def apply(self, name, array, training):
        """The outputs of the layer `name` for an input of the other framework, channels first and last, if it can."""
        name, outputs = name.partition("#")[0], []
        layer = dict(self._layers())[name]
        with watched([(name, layer)], lambda name, inputs, output: outputs.append(output) or output):
            for way in (array, np.moveaxis(array, 1, -1)) if array.ndim > 2 else (array,):
                try:
                    layer(tf.constant(way), training=training)
                except (ValueError, tf.errors.InvalidArgumentError):
                    continue
        return [output.numpy() for output in outputs]

    def rename(self, layers, arrays):
        """Give layers and arrays the names that they have in the other framework.

        The order counts: of one builder's models, the second has other numbers in the names that Keras makes up.

        Args:
            layers: the new name of each layer, in the order of `layer_types`.
            arrays: for each weight and statistic its new name, and its shape there; in the order of `shapes`.
        """
        self.layer_names = dict(zip(self.layer_types(), layers.values(), strict=True))
        self.dropouts = {name: layer for name, layer in self._layers() if isinstance(layer, Dropout)}
        names = dict(zip(self.arrays, (name for name, _ in arrays.values()), strict=True))
        self.ema = {names[name]: variable for name, variable in self.ema.items()}
        self.arrays = {names[name]: held for name, held in self.arrays.items()}
        self.paddle_shapes = dict(arrays.values())
        self._read_names()

    def _layers(self):
        """As `Engine._layers`, by Paddle's names."""
        return [(self.layer_names.get(name, name), layer) for name, layer in super()._layers()]

    def _to_canonical(self, name, array):
        """As `Engine._to_canonical`, in the shape that it has in Paddle."""
        array, shape = super()._to_canonical(name, array), self.paddle_shapes.get(name.rpartition("/")[2])
        return array if shape is None else in_shape(array, shape)


def _ways(outputs, last):
    """By name, the way of `outputs` (see tandem/core/views.py) to Keras, where `last` of `replay` tells it."""
    return {name: {True: (), False: (1, -1)}.get(last.get(name.partition("#")[0])) for name in outputs}


def _given(array, way, output):
    """The other framework's `array` in place of the tensor `output`, which is kept where `array` has another shape."""
    array = views.viewed_like(array, output.numpy(), way)
    return output if array is None else tf.constant(array, output.dtype)
