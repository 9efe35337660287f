"""TensorFlow's engine: builds a network, trains it, saves and loads its state. Twin of paddle/engine.py."""

import contextlib
from functools import partial

from tandem.config import networks
from tandem.core import dropout, state
from tandem.core.errors import UserError
from tandem.core.initial_weights import initial_state
from tandem.data.batches import share
from tandem.frameworks import base, environment
from tandem.frameworks.base import ALONE, GROWTH_STEPS, INITIAL_SCALE
from tandem.frameworks.environment import cpu_threads, place_in_job
from tandem.frameworks.tensorflow.inspection import watched
from tandem.frameworks.tensorflow.kernels import set_threads
from tandem.frameworks.tensorflow.layers import BatchNorm2D, BatchNormalization, Dropout, adopt, dropout_keys
from tandem.frameworks.tensorflow.layouts import from_canonical, to_canonical
from tandem.frameworks.tensorflow.replicas import Replicas

import numpy as np
import tensorflow as tf

CANONICAL = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""Keras' names of variables to the canonical ones, where they differ."""


def configure(config):
    """Choose the device, threads, precision and kernels that `config` names; return a record for the run folder.

    Raises:
        UserError: there is no such device.
    """
    gpus = tf.config.list_physical_devices("GPU")
    kind, _, number = config.device.partition(":")
    index = int(number or 0)
    if kind == "gpu" and index >= len(gpus):
        raise UserError(
            f"device: {config.device} is not available; TensorFlow sees {len(gpus)} GPUs. "
            "Use --device cpu, or install requirements-gpu-tensorflow.txt on a machine with one"
        )
    gpu = gpus[index] if gpus and kind != "cpu" else None
    tf.config.set_visible_devices([gpu] if gpu else [], "GPU")
    threads = cpu_threads(config)
    set_threads(threads)
    # With Grappler, repeated runs of SE-ResNeXt differ in the last bits, so a resumed run would not equal a whole one.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    policies = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
    tf.keras.config.set_floatx("float64" if config.precision == "float64" else "float32")  # of a keras.Input
    tf.keras.config.set_dtype_policy(policies.get(config.precision, config.precision))
    record = {
        "framework": "tensorflow",
        "version": tf.__version__,
        "device": "gpu" if gpu else "cpu",
        "threads": threads,
        "precision": config.precision,
        "layout": "NHWC",
    }
    if gpu:
        tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.experimental.enable_tensor_float_32_execution(config.tf32)
        tf.config.experimental.enable_op_determinism()
        build = tf.sysconfig.get_build_info()
        record |= {
            "name": tf.config.experimental.get_device_details(gpu).get("device_name"),
            "cuda": build.get("cuda_version"),
            "cudnn": build.get("cudnn_version"),
            "memory_growth": True,
            "tf32": config.tf32,
            "deterministic": True,
            "xla": True,
        }
    return record


def join(config):
    """Join the job that the environment names, for `Engine`: the `Replicas`, or `ALONE` where it names none.

    Raises:
        UserError: as `configure`; or another process of the job cannot be reached.
    """
    return ALONE if place_in_job("tensorflow")[1] == 1 else Replicas(configure(config)["device"])


class Engine(base.Engine):
    """A network in TensorFlow with its optimizer. For the contract see frameworks/base.py."""

    def __init__(self, config, num_classes, mean, std, replicas=ALONE):
        self.record = configure(config)
        self.replicas = replicas
        self.seed = config.seed
        self.label_smoothing = config.label_smoothing
        self.ema_decay = config.evaluation.ema_decay
        self.num_classes = num_classes
        self.momentum = config.optimizer.momentum
        self.nesterov = config.optimizer.nesterov
        self.weight_decay = config.optimizer.weight_decay
        self.dtype = tf.float64 if config.precision == "float64" else tf.float32
        self.mean = tf.constant(mean, self.dtype)
        self.std = tf.constant(std, self.dtype)

        size = config.data.image_size
        self.model = networks.build(config.network, "tensorflow", num_classes)
        kinds = tf.keras.Model, tf.Tensor
        first_output = partial(self._first_output, size)
        networks.check_output(config.network, "tensorflow", num_classes, self.model, kinds, first_output)
        self._first_output(size)  # Keras creates the variables at the first call
        for _, layer in self._layers():
            adopt(layer, shared=replicas.count > 1)
        self.dropouts = {name: layer for name, layer in self._layers() if isinstance(layer, Dropout)}
        for name, layer in self._layers():
            if isinstance(layer, BatchNorm2D | BatchNormalization):
                layer.replicas = replicas
            elif replicas.count > 1 and isinstance(layer, tf.keras.layers.BatchNormalization):
                raise UserError(f"network: {name} sees one worker's slice only; use BatchNormalization, channels last")
        self.arrays = arrays_of(self.model)
        self.parameters = self.model.trainable_variables
        self.without_gradient = []
        self.velocities = [tf.Variable(tf.zeros_like(parameter.value)) for parameter in self.parameters]
        self.tape = None  # that `trace` records with
        self.loss_scale = self.good_steps = None
        if config.precision == "float16":
            self.loss_scale = tf.Variable(INITIAL_SCALE, dtype=tf.float32)
            self.good_steps = tf.Variable(0, dtype=tf.int64)
        self.ema = {}
        if self.ema_decay is not None:
            self.ema = {name: tf.Variable(variable.value) for name, variable in self._model_variables().items()}

        images = tf.TensorSpec([None, 3, size, size], tf.uint8)
        labels = tf.TensorSpec([None], tf.int64)
        # XLA is faster on a GPU and slower on a CPU. Sums over several workers have not been tried in it.
        xla = self.record["device"] == "gpu" and replicas.count == 1
        if self.record["device"] == "gpu":
            self.record["xla"] = xla
        # AutoGraph takes half a second. No `if` or loop here is on a tensor, and Keras does not convert layers.
        compiled = {"autograph": False, "jit_compile": xla}
        place = tf.TensorSpec([2], tf.int64)
        keys = tf.TensorSpec([len(self.dropouts), 2], tf.uint32)
        learning_rate = tf.TensorSpec([], self.dtype)
        mix = labels, tf.TensorSpec([], self.dtype)  # permutation and weight
        self._train_mixed = tf.function(self._train, [images, labels, place, keys, *mix, learning_rate], **compiled)
        self._train = tf.function(self._train, [images, labels, place, keys, learning_rate], **compiled)
        self._evaluate = tf.function(self._evaluate, [images, labels], **compiled)
        self._flipped_sums = tf.function(self._flipped_sums, [images, labels], **compiled)
        self._predict = tf.function(partial(self._logits, training=False), [images], **compiled)

        self.groups = partial(state.grouped, config.optimizer)
        self._read_names()
        fixed = {name for name, held in self.arrays.items() if _is_fixed(*held)}
        self.constants = {name for name in fixed if not state.is_statistic(name)}
        drawn = [name for name in self.arrays if name not in self.constants]
        weights = initial_state({name: self.shapes[name] for name in drawn}, config.seed)
        ema = {f"ema/{name}": weights[name] for name in weights if name in self.ema}
        self.load_state({**self.state(), **weights, **ema}, "initial weights")

    def train_step(self, batch, learning_rate, step):
        """Take one training step; return its sums."""
        train = self._train if batch.weight is None else self._train_mixed
        return train(*self._on_device(batch, step), tf.constant(learning_rate, self.dtype))

    def evaluate(self, batch, flip=False):
        """The sums of `batch` in evaluation mode."""
        batch, _ = share(batch, self.replicas.rank, self.replicas.count)
        return (self._flipped_sums if flip else self._evaluate)(batch.images, batch.labels)

    def predict(self, images):
        """The logits of `images` in evaluation mode."""
        return self._predict(images).numpy()

    @contextlib.contextmanager
    def averaged(self):
        """A context in which weights and statistics are their EMA."""
        variables = self._model_variables()
        kept = {name: tf.identity(variable.value) for name, variable in variables.items()}
        try:
            _assign(variables, self.ema)
            yield
        finally:
            _assign(variables, kept)

    def trace(self, batch, learning_rate, step, inputs=False):
        """Take a training step, and return all that it computed."""
        with self._recorded() as record:
            logits, losses, metrics, gradients, of_outputs = self._backward(
                *self._on_device(batch, step), outputs=record.outputs
            )
        self._update(gradients, tf.constant(learning_rate, self.dtype))
        pairs = zip(map(self._name, self.parameters), gradients, strict=True)
        gradients = {f"gradient/{name}": self._to_canonical(name, x) for name, x in pairs if x is not None}
        outputs, of_inputs = record.outputs, _by_name("input", record.inputs) if inputs else {}
        of_outputs = {id(output): of_outputs[name] for name, output in outputs.items()}
        of_outputs = _by_name("output_gradient", outputs, of_outputs)
        traced = {"logits": logits.numpy(), "loss": losses.numpy().mean(), "sums": metrics.numpy()}
        traced |= {f"taken/{name}": np.array(numbers, np.int64) for name, numbers in record.taken.items()}
        traced |= {**of_outputs, **gradients, **of_inputs}
        return {"images": _channel_first(record.images[0].numpy()), **_by_name("output", outputs), **traced}

    def trace_evaluation(self, batch, inputs=False):
        """Return all that evaluation computes."""
        batch, _ = share(batch, self.replicas.rank, self.replicas.count)
        with self._recorded() as record:
            logits, losses, _ = self._losses(batch.images, batch.labels, training=False)
        traced = {"logits": logits.numpy(), "loss": losses.numpy().mean()}
        traced |= _by_name("input", record.inputs) if inputs else {}
        return {"images": _channel_first(record.images[0].numpy()), **_by_name("output", record.outputs), **traced}

    def layer_types(self):
        """The name of each layer's class, by the layer's name."""
        return {name: type(layer).__name__ for name, layer in self._layers()}

    def peak_memory(self):
        """The peak memory so far, in bytes."""
        if self.record["device"] == "gpu":
            return tf.config.experimental.get_memory_info("GPU:0")["peak"]
        return environment.peak_memory()

    def state(self):
        """All weights, statistics, velocities and EMA by canonical name."""
        arrays = {name: self._to_canonical(name, variable) for name, variable in self._variables().items()}
        if self.loss_scale is not None:
            arrays["loss_scale/scale"] = self.loss_scale.numpy()
            arrays["loss_scale/good_steps"] = self.good_steps.numpy()
        return arrays

    def load_state(self, arrays, origin):
        """Set everything that `state` returns."""
        scale = {"loss_scale/scale": (), "loss_scale/good_steps": ()} if self.loss_scale is not None else {}
        state.check(arrays, {**self.shapes, **scale}, origin)
        for name, variable in self._variables().items():
            layer = self.arrays[name.rpartition("/")[2]][1]
            variable.assign(from_canonical(arrays[name], layer, tuple(variable.shape)))
        if self.loss_scale is not None:
            self.loss_scale.assign(arrays["loss_scale/scale"])
            self.good_steps.assign(arrays["loss_scale/good_steps"])

    def _first_output(self, size):
        """What the model returns for two black images of `size` pixels, in evaluation mode."""
        return self.model(tf.zeros([2, size, size, 3], self.dtype), training=False)

    def _on_device(self, batch, step):
        """The arguments of `_backward`, as tensors."""
        keys = dropout.keys(self.seed, step, self.dropouts)
        size = len(batch.labels)
        batch, first = share(batch, self.replicas.rank, self.replicas.count)
        place = tf.constant([first, size], tf.int64)
        tensors = tf.constant(batch.images), tf.constant(batch.labels), place, tf.constant(keys)
        if batch.weight is None:
            return tensors
        return *tensors, tf.constant(batch.permutation), tf.constant(batch.weight, self.dtype)

    def _train(self, *inputs):
        *inputs, learning_rate = inputs
        _, _, metrics, gradients, _ = self._backward(*inputs)
        self._update(gradients, learning_rate)
        return metrics

    def _backward(self, images, labels, place, keys, *mix, outputs=None):
        """`_losses` in training mode, and the gradients of their mean (in float16, scaled).

        By the parameters; and by what the dict `outputs` then holds, as a dict of the same names. `place`: how many
        images of the batch come before these, and how many it has in all.
        """
        first, size = place[0], place[1]
        with tf.GradientTape() as tape, dropout_keys(self.dropouts.values(), keys, first):
            self.tape = tape if outputs is not None else None
            if mix:
                logits, losses, metrics = self._mixed_losses(images, labels, *mix)
            else:
                logits, losses, metrics = self._losses(images, labels, training=True)
            loss = tf.reduce_sum(losses) / tf.cast(size, self.dtype)
            if self.loss_scale is not None:
                loss *= self.loss_scale
        self.tape = None
        gradients, of_outputs = tape.gradient(loss, [self.parameters, outputs or {}])
        named = zip(map(self._name, self.parameters), gradients, strict=True)
        self.without_gradient = [name for name, gradient in named if gradient is None]
        totals = iter(self.replicas.sum([gradient for gradient in gradients if gradient is not None]))
        gradients = [None if gradient is None else next(totals) for gradient in gradients]
        return logits, losses, metrics, gradients, of_outputs

    def _update(self, gradients, learning_rate):
        if self.loss_scale is None:
            self._apply(gradients, learning_rate)
        else:
            self._apply_unscaled(gradients, learning_rate)
        if self.ema:
            self._update_ema()

    def _apply(self, gradients, learning_rate):
        """Update the parameters. As in Paddle, the velocity does not hold the learning rate; in Keras' SGD it does."""
        for parameter, gradient, velocity in zip(self.parameters, gradients, self.velocities, strict=True):
            if gradient is None:  # the loss does not depend on it; Paddle's optimizer leaves it as it is, too
                continue
            factor, weight_decay = self.grouped.get(self._name(parameter), (1.0, self.weight_decay))
            tf.raw_ops.ResourceApplyMomentum(
                var=parameter.value.handle,
                accum=velocity.handle,
                lr=learning_rate * factor,
                grad=gradient + weight_decay * parameter,
                momentum=tf.constant(self.momentum, self.dtype),
                use_nesterov=self.nesterov,
            )

    def _apply_unscaled(self, gradients, learning_rate):
        """Update by the rule of paddle.amp.GradScaler: a step with an overflow is skipped and halves the scale."""
        gradients = [None if gradient is None else gradient / self.loss_scale for gradient in gradients]
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(x)) for x in gradients if x is not None])
        grow = finite & (self.good_steps >= GROWTH_STEPS - 1)
        self.good_steps.assign(tf.where(finite & ~grow, self.good_steps + 1, 0))
        self.loss_scale.assign(self.loss_scale * tf.where(grow, 2.0, tf.where(finite, 1.0, 0.5)))
        tf.cond(finite, lambda: self._apply(gradients, learning_rate), lambda: None)

    def _update_ema(self):
        """See `Engine.train_step` in frameworks/base.py."""
        now = self._model_variables()
        means = {name: self.ema_decay * e + (1 - self.ema_decay) * now[name] for name, e in self.ema.items()}
        _assign(self.ema, means)

    def _evaluate(self, images, labels):
        return self._losses(images, labels, training=False)[2]

    def _losses(self, images, labels, training):
        """Logits; `_cross_entropy` of each image; sums of `train_step`."""
        logits = self._logits(images, training)
        losses = self._cross_entropy(logits, labels)
        return logits, losses, self._sums(logits, losses, labels)

    def _mixed_losses(self, images, labels, permutation, weight):
        """`_losses` of mixup: see tandem/data/augment.py."""
        images, own = tf.cast(images, self.dtype), tf.size(permutation)
        logits = self._logits(weight * images[:own] + (1 - weight) * tf.gather(images, permutation), training=True)
        losses = [self._cross_entropy(logits, mixed) for mixed in (labels[:own], tf.gather(labels, permutation))]
        losses = weight * losses[0] + (1 - weight) * losses[1]
        return logits, losses, self._sums(logits, losses, labels[:own])

    def _flipped_sums(self, images, labels):
        """See `evaluate`."""
        logits = (self._logits(images, training=False) + self._logits(tf.reverse(images, [3]), training=False)) / 2
        return self._sums(logits, self._cross_entropy(logits, labels), labels)

    def _logits(self, images, training):
        images = (tf.cast(images, self.dtype) - self.mean) / self.std
        images = tf.transpose(images, [0, 2, 3, 1])
        return tf.cast(self.model(images, training=training), self.dtype)

    def _cross_entropy(self, logits, labels):
        """Softmax cross entropy of each image, from logits. Keras clips probabilities."""
        right = tf.gather(logits, labels, axis=1, batch_dims=1)
        target = (1 - self.label_smoothing) * right + self.label_smoothing * tf.reduce_mean(logits, axis=1)
        losses = tf.reduce_logsumexp(logits, axis=1) - target
        return losses

    def _sums(self, logits, losses, labels):
        """See `Engine.train_step` in frameworks/base.py."""
        # Rank: how many logits the right one does not beat. Of equal ones the first wins; NaN beats none.
        classes, index = tf.range(self.num_classes, dtype=tf.int64), labels[:, None]
        right = tf.gather(logits, index, axis=1, batch_dims=1)
        beaten = (right > logits) | ((right == logits) & (index <= classes))
        rank = tf.reduce_sum(tf.cast(~beaten, tf.int64), axis=1)
        sums = [tf.reduce_sum(tf.cast(values, tf.float64)) for values in (losses, rank < 1, rank < 5)]
        return self.replicas.sum([tf.stack(sums)])[0]

    @contextlib.contextmanager
    def _recorded(self, given=None):
        """A context that gives a `Record`, into which go the model's input and the outputs of all named layers.

        Each layer passes on its output, or that of its name in `given`: tensors by name.
        """
        record = base.Record()

        def keep_input(call, *inputs, **options):
            record.images.append(inputs[0])
            return call(*inputs, **options)

        def keep(name, inputs, output):
            number = state.unused(name, record.outputs)
            known = enumerate(record.outputs.values())
            record.taken[number] = [at for at, tensor in known if any(tensor is x for x in inputs)]
            record.inputs[number] = next((x for x in inputs[:1] if isinstance(x, tf.Tensor)), None)
            record.outputs[number] = output
            if given is not None and number in given:
                record.computed[number] = output
                record.outputs[number] = output = given[number](output)
            if self.tape is not None and output.dtype.is_floating:
                self.tape.watch(output)  # also where the layer, or one before it, has cut the gradient
            return output

        self.model.call = partial(keep_input, self.model.call)  # Keras has no hooks
        try:
            with watched(self._layers(), keep):
                yield record
        finally:
            del self.model.call

    def _layers(self):
        """Each layer's name and the layer; a shared one once, by its first name."""
        layers, seen = [], {}
        for name, layer in _named_layers(self.model, ""):
            if id(layer) not in seen:
                seen[id(layer)] = layer
                layers.append((name, layer))
        return layers

    def _name(self, variable):
        """The canonical name of a weight or statistic."""
        return self.names[id(variable)]

    def _read_names(self):
        """Set all that follows from the names in `arrays`."""
        self.names = {id(variable): name for name, (variable, _) in self.arrays.items()}
        self.shapes = {name: self._shape(name, variable) for name, variable in self._variables().items()}
        self.grouped = self.groups(self.shapes)

    def _shape(self, name, variable):
        """The canonical shape of an array of the state."""
        return self._to_canonical(name, np.broadcast_to(np.False_, variable.shape)).shape

    def _to_canonical(self, name, array):
        """The array `name` of the state, or its gradient, in the canonical layout."""
        return to_canonical(np.asarray(array), self.arrays[name.rpartition("/")[2]][1])

    def _variables(self):
        ema = {f"ema/{name}": variable for name, variable in self.ema.items()}
        return {**self._model_variables(), **self._velocity_variables(), **ema}

    def _model_variables(self):
        return {name: variable for name, (variable, _) in self.arrays.items()}

    def _velocity_variables(self):
        pairs = zip(self.parameters, self.velocities, strict=True)
        return {f"velocity/{self.names[id(parameter)]}": velocity for parameter, velocity in pairs}


def arrays_of(model):
    """By canonical name, each weight and statistic of a Keras `model`, and the layer that holds it."""
    holders = {}
    for name, layer in _named_layers(model, ""):
        for variable in _own_variables(layer):
            holders.setdefault(id(variable), (name, layer))
    arrays = {}
    for variable in model.weights:
        # Not by the variable's path: a model built by itself and put into another keeps the paths that it had.
        name, layer = holders.get(id(variable), ("", model))
        last = variable.path.rpartition("/")[2]
        name = state.unused(".".join(filter(None, [name, CANONICAL.get(last, last)])), arrays)
        arrays[name] = variable, layer
    return arrays


def _is_fixed(variable, layer):
    """Whether a `layer` has made a `variable` of its own that is never trained; one that was frozen later is not."""
    made_for_training = any(variable is one for one in layer._trainable_variables)
    return layer.trainable and not variable.trainable and not made_for_training


def _by_name(what, outputs, tensors=None):
    """The tensors of the recorded `outputs`, or what `tensors` has for each by its id, as arrays by `what`/<layer>.

    One array for one tensor: a container gives that of its last layer.
    """
    tensors = tensors or {id(output): output for output in outputs.values()}
    arrays = {key: _channel_first(tensor.numpy()) for key, tensor in tensors.items() if tensor is not None}
    return {f"{what}/{name}": arrays[id(output)] for name, output in outputs.items() if id(output) in arrays}


def _assign(variables, values):
    """Set each of `variables` to the value of the same name in `values`."""
    for name, variable in variables.items():
        variable.assign(values[name])


def _channel_first(array):
    """NHWC to NCHW."""
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if array.ndim == 4 else array


def _own_variables(layer):
    """The variables that `layer` itself holds."""
    inner = {id(x) for other in layer._flatten_layers(include_self=False) for x in other.weights}
    return [variable for variable in layer.weights if id(variable) not in inner]


def _named_layers(layer, prefix):
    """All layers in `layer` with their dotted names. Keras' own paths are right only for layers with weights."""
    layers = []
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        if not isinstance(inner, tf.keras.layers.InputLayer):
            layers += [(prefix + inner.name, inner), *_named_layers(inner, f"{prefix}{inner.name}.")]
    return layers
