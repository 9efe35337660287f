"""Paddle's engine: builds a network, trains it, saves and loads its state. Twin of tensorflow/engine.py."""

import contextlib
import os
from functools import partial

from tandem.config import networks
from tandem.core import dropout, state
from tandem.core.errors import UserError
from tandem.core.initial_weights import initial_state
from tandem.data.batches import share
from tandem.frameworks import base, environment
from tandem.frameworks.base import ALONE, GROWTH_STEPS, INITIAL_SCALE
from tandem.frameworks.environment import cpu_threads, place_in_job
from tandem.frameworks.paddle.kernels import set_threads
from tandem.frameworks.paddle.layers import BatchNorm1D, BatchNorm2D, Dropout, adopt, dropout_keys
from tandem.frameworks.paddle.replicas import Replicas

import numpy as np
import paddle

CAPABILITY = {"float16": (7, 0), "bfloat16": (8, 0)}
"""The compute capability that auto_cast needs. On an older GPU or a CPU it only warns and computes in float32."""


def configure(config):
    """Choose the device, threads, precision and kernels that `config` names; return a record for the run folder.

    Raises:
        UserError: there is no such device, or Paddle does not support the precision on it.
    """
    gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    kind, _, number = config.device.partition(":")
    index = int(number or 0)
    if gpus and not number:
        index = paddle.distributed.ParallelEnv().device_id  # 0, or what Paddle's launcher says
    if kind == "gpu" and index >= gpus:
        raise UserError(
            f"device: {config.device} is not available; Paddle sees {gpus} GPUs. "
            "Use --device cpu, or install requirements-gpu-paddle.txt on a machine with one"
        )
    gpu = gpus > 0 and kind != "cpu"
    capability = paddle.device.cuda.get_device_capability(index) if gpu else (0, 0)
    if capability < CAPABILITY.get(config.precision, (0, 0)):
        raise UserError(
            f"precision: Paddle does not compute in {config.precision} on this {'GPU' if gpu else 'CPU'}, "
            "it only warns and uses float32; set precision: float32"
        )
    if gpu:
        if not config.tf32:
            # Turns TF32 off in every CUDA library. They read it when the first handle is created.
            os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
        paddle.base.core.set_cublas_switch(config.tf32)
        paddle.base.core.set_cudnn_switch(config.tf32)
        paddle.set_flags({"FLAGS_cudnn_deterministic": True, "FLAGS_cudnn_exhaustive_search": False})
    paddle.device.set_device(f"gpu:{index}" if gpu else "cpu")
    threads = cpu_threads(config)
    set_threads(threads)
    environment.keep_memory()
    paddle.set_default_dtype("float64" if config.precision == "float64" else "float32")
    record = {
        "framework": "paddle",
        "version": paddle.__version__,
        "device": "gpu" if gpu else "cpu",
        "threads": threads,
        "precision": config.precision,
        "layout": "NCHW",
    }
    if gpu:
        allocator = paddle.get_flags("FLAGS_allocator_strategy")["FLAGS_allocator_strategy"]
        record |= {
            "name": paddle.device.cuda.get_device_name(index),
            "cuda": paddle.version.cuda(),
            "cudnn": paddle.version.cudnn(),
            "memory_growth": allocator == "auto_growth",
            "tf32": config.tf32,
            "deterministic": True,
            "xla": False,
        }
    return record


def join(config):
    """Join the job that the environment names, for `Engine`: the `Replicas`, or `ALONE` where it names none.

    Raises:
        UserError: as `configure`; or another process of the job cannot be reached.
    """
    return ALONE if place_in_job("paddle")[1] == 1 else Replicas(configure(config)["device"])


class Engine(base.Engine):
    """A network in Paddle with its optimizer. For the contract see frameworks/base.py."""

    def __init__(self, config, num_classes, mean, std, replicas=ALONE):
        self.record = configure(config)
        self.replicas = replicas
        self.seed = config.seed
        self.label_smoothing = config.label_smoothing
        self.ema_decay = config.evaluation.ema_decay
        self.num_classes = num_classes
        self.dtype = paddle.get_default_dtype()
        self.mean = paddle.to_tensor(mean, dtype=self.dtype)
        self.std = paddle.to_tensor(std, dtype=self.dtype)

        self.model = networks.build(config.network, "paddle", num_classes)
        kinds = paddle.nn.Layer, paddle.Tensor
        first_output = partial(self._first_output, config.data.image_size)
        networks.check_output(config.network, "paddle", num_classes, self.model, kinds, first_output)
        for _, layer in self._layers():
            adopt(layer, shared=replicas.count > 1)
        self.dropouts = {name: layer for name, layer in self._layers() if isinstance(layer, Dropout)}
        for name, layer in self._layers():
            if isinstance(layer, BatchNorm2D | BatchNorm1D):
                layer.replicas = replicas
            elif replicas.count > 1 and isinstance(layer, paddle.nn.layer.norm._BatchNormBase | paddle.nn.BatchNorm):
                raise UserError(f"network: {name} sees one worker's slice only; use BatchNorm2D or BatchNorm1D, NCHW")
        # Paddle's parameters() also has the statistics of batch norm.
        named = {name: parameter for name, parameter in self.model.named_parameters() if parameter.trainable}
        self.names, self.parameters = list(named), list(named.values())
        self.without_gradient = []
        # v = momentum*v + (g + weight_decay*w): paddle/phi/kernels/impl/momentum_kernel_impl.h
        self.optimizer = paddle.optimizer.Momentum(
            learning_rate=config.optimizer.learning_rate,
            momentum=config.optimizer.momentum,
            parameters=self.parameters,
            use_nesterov=config.optimizer.nesterov,
            weight_decay=paddle.regularizer.L2Decay(config.optimizer.weight_decay),
        )
        # Paddle creates the velocities at the first step, but a resumed run sets them earlier.
        self.optimizer._create_accumulators(
            paddle.base.framework.default_main_program().global_block(), self.parameters
        )
        self.amp = {
            "enable": config.precision in CAPABILITY,
            "dtype": config.precision if config.precision in CAPABILITY else "float16",
            "level": "O1",
        }
        self.scaler = None
        if config.precision == "float16":
            self.scaler = paddle.amp.GradScaler(
                init_loss_scaling=INITIAL_SCALE,
                incr_ratio=2.0,
                decr_ratio=0.5,
                incr_every_n_steps=GROWTH_STEPS,
                decr_every_n_nan_or_inf=1,
            )

        self.ema = {}
        if self.ema_decay is not None:
            self.ema = {name: variable.detach().clone() for name, variable in self._model_variables().items()}

        self.shapes = {name: tuple(variable.shape) for name, variable in self._variables().items()}
        for name, (factor, weight_decay) in state.grouped(config.optimizer, self.shapes).items():
            parameter = self._model_variables()[name]
            parameter.optimize_attr["learning_rate"] = factor  # multiplies the optimizer's
            parameter.regularizer = paddle.regularizer.L2Decay(weight_decay)  # replaces the optimizer's
        buffers = {state.from_paddle(name) for name, _ in self.model.named_buffers()}
        self.constants = {name for name in buffers if not state.is_statistic(name)}
        drawn = [name for name in self._model_variables() if name not in self.constants]
        weights = initial_state({name: self.shapes[name] for name in drawn}, config.seed)
        ema = {f"ema/{name}": weights[name] for name in weights if name in self.ema}
        self.load_state({**self.state(), **weights, **ema}, "initial weights")

    def train_step(self, batch, learning_rate, step):
        """Take one training step; return its sums."""
        metrics = self._backward(batch, step)[2]
        self._update(learning_rate)
        return metrics

    def evaluate(self, batch, flip=False):
        """The sums of `batch` in evaluation mode."""
        self.model.eval()
        batch, _ = share(batch, self.replicas.rank, self.replicas.count)
        with paddle.no_grad(), paddle.amp.auto_cast(**self.amp):
            return self._flipped_sums(batch) if flip else self._losses(batch)[2]

    def predict(self, images):
        """The logits of `images` in evaluation mode."""
        self.model.eval()
        with paddle.no_grad(), paddle.amp.auto_cast(**self.amp):
            return self._logits(paddle.to_tensor(images)).numpy()

    @contextlib.contextmanager
    def averaged(self):
        """A context in which weights and statistics are their EMA."""
        variables = self._model_variables()
        kept = {name: variable.detach().clone() for name, variable in variables.items()}
        try:
            _assign(variables, self.ema)
            yield
        finally:
            _assign(variables, kept)

    def trace(self, batch, learning_rate, step, inputs=False):
        """Take a training step, and return all that it computed."""
        with self._recorded() as record:
            logits, losses, metrics = self._backward(batch, step)
        named = zip(self.names, self.parameters, strict=True)
        gradients = {f"gradient/{name}": parameter.grad for name, parameter in named}
        gradients = {name: gradient.numpy() for name, gradient in gradients.items() if gradient is not None}
        outputs, of_inputs = record.outputs, _by_name("input", record.inputs) if inputs else {}
        of_outputs = {id(output): output.grad for output in outputs.values()}
        of_outputs = _by_name("output_gradient", outputs, of_outputs)
        self._update(learning_rate)
        traced = {"logits": logits.numpy(), "loss": losses.mean().numpy(), "sums": metrics.numpy()}
        traced |= {f"taken/{name}": np.array(numbers, np.int64) for name, numbers in record.taken.items()}
        traced |= {**of_outputs, **gradients, **of_inputs}
        return {"images": record.images[0].numpy(), **_by_name("output", outputs), **traced}

    def trace_evaluation(self, batch, inputs=False):
        """Return all that evaluation computes."""
        self.model.eval()  # otherwise it stays in training mode
        batch, _ = share(batch, self.replicas.rank, self.replicas.count)
        with self._recorded() as record, paddle.no_grad(), paddle.amp.auto_cast(**self.amp):
            logits, losses, _ = self._losses(batch)
        traced = {"logits": logits.numpy(), "loss": losses.mean().numpy()}
        traced |= _by_name("input", record.inputs) if inputs else {}
        return {"images": record.images[0].numpy(), **_by_name("output", record.outputs), **traced}

    def layer_types(self):
        """The name of each layer's class, by the layer's name."""
        return {name: type(layer).__name__ for name, layer in self._layers()}

    def peak_memory(self):
        """The peak memory so far, in bytes."""
        if self.record["device"] == "gpu":
            return paddle.device.cuda.max_memory_allocated()
        return environment.peak_memory()

    def state(self):
        """All weights, statistics, velocities and EMA by canonical name."""
        arrays = {name: variable.numpy() for name, variable in self._variables().items()}
        if self.scaler is not None:
            scaler = self.scaler.state_dict()
            arrays["loss_scale/scale"] = np.float32(scaler["scale"]).reshape(())
            arrays["loss_scale/good_steps"] = np.int64(scaler["incr_count"])
        return arrays

    def load_state(self, arrays, origin):
        """Set everything that `state` returns."""
        scale = {"loss_scale/scale": (), "loss_scale/good_steps": ()} if self.scaler is not None else {}
        state.check(arrays, {**self.shapes, **scale}, origin)
        for name, variable in self._variables().items():
            variable.set_value(arrays[name].astype(self.dtype))
        if self.scaler is not None:
            scaler = self.scaler.state_dict()
            scaler["scale"] = np.reshape(arrays["loss_scale/scale"], [1])
            scaler["incr_count"] = int(arrays["loss_scale/good_steps"])
            self.scaler.load_state_dict(scaler)

    def _first_output(self, size):
        """What the model returns for two black images of `size` pixels, in evaluation mode. Nothing changes."""
        random = paddle.get_rng_state()
        self.model.eval()
        with paddle.no_grad():
            output = self.model(paddle.zeros([2, 3, size, size], self.dtype))
        paddle.set_rng_state(random)
        return output

    def _backward(self, batch, step):
        """`_losses` in training mode. Leaves the gradients of their mean (in float16, scaled) in the parameters."""
        self.model.train()
        keys = dropout.keys(self.seed, step, self.dropouts)
        part, first = share(batch, self.replicas.rank, self.replicas.count)
        with paddle.amp.auto_cast(**self.amp), dropout_keys(self.dropouts.values(), keys, first):
            logits, losses, metrics = self._losses(part) if part.weight is None else self._mixed_losses(part)
            loss = losses.sum() / len(batch.labels)
            if self.scaler is not None:
                loss = self.scaler.scale(loss)  # inside auto_cast: outside, the scaler disables itself
        loss.backward()
        gradients = dict(zip(self.names, (parameter.grad for parameter in self.parameters), strict=True))
        self.without_gradient = [name for name, gradient in gradients.items() if gradient is None]
        if self.replicas.count > 1:
            gradients = [gradient for gradient in gradients.values() if gradient is not None]
            for gradient, total in zip(gradients, self.replicas.sum(gradients), strict=True):
                paddle.assign(total, gradient)
        return logits, losses, metrics

    def _update(self, learning_rate):
        self.optimizer.set_lr(learning_rate)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.clear_grad()
        if self.ema:
            self._update_ema()

    def _update_ema(self):
        """See `Engine.train_step` in frameworks/base.py."""
        now = self._model_variables()
        with paddle.no_grad():
            means = {name: self.ema_decay * e + (1 - self.ema_decay) * now[name] for name, e in self.ema.items()}
        _assign(self.ema, means)

    def _losses(self, batch):
        """Logits; `_cross_entropy` of each image; sums of `train_step`."""
        images, labels = paddle.to_tensor(batch.images), paddle.to_tensor(batch.labels)
        logits = self._logits(images)
        losses = self._cross_entropy(logits, labels)
        return logits, losses, self._sums(logits, losses, labels)

    def _mixed_losses(self, batch):
        """`_losses` of mixup: see tandem/data/augment.py."""
        images, labels = paddle.to_tensor(batch.images).astype(self.dtype), paddle.to_tensor(batch.labels)
        permutation, weight = paddle.to_tensor(batch.permutation), float(batch.weight)
        own = len(batch.permutation)
        logits = self._logits(weight * images[:own] + (1 - weight) * images[permutation])
        losses = [self._cross_entropy(logits, mixed) for mixed in (labels[:own], labels[permutation])]
        losses = weight * losses[0] + (1 - weight) * losses[1]
        return logits, losses, self._sums(logits, losses, labels[:own])

    def _flipped_sums(self, batch):
        """See `evaluate`."""
        images, labels = paddle.to_tensor(batch.images).astype(self.dtype), paddle.to_tensor(batch.labels)
        logits = (self._logits(images) + self._logits(paddle.flip(images, [3]))) / 2
        return self._sums(logits, self._cross_entropy(logits, labels), labels)

    def _logits(self, images):
        images = (images.astype(self.dtype) - self.mean) / self.std
        return self.model(images).astype(self.dtype)

    def _cross_entropy(self, logits, labels):
        """Softmax cross entropy of each image, from logits. Paddle's CPU kernel clips large ones."""
        right = paddle.take_along_axis(logits, labels.unsqueeze(1), axis=1).squeeze(1)
        target = (1 - self.label_smoothing) * right + self.label_smoothing * logits.mean(axis=1)
        losses = paddle.logsumexp(logits, axis=1) - target
        return losses

    def _sums(self, logits, losses, labels):
        """See `Engine.train_step` in frameworks/base.py."""
        # Rank: how many logits the right one does not beat. Of equal ones the first wins; NaN beats none.
        classes, index = paddle.arange(self.num_classes), labels.unsqueeze(1)
        right = paddle.take_along_axis(logits, index, axis=1)
        beaten = (right > logits) | ((right == logits) & (index <= classes))
        rank = (~beaten).astype("int64").sum(axis=1)
        sums = [values.astype("float64").sum() for values in (losses, rank < 1, rank < 5)]
        return self.replicas.sum([paddle.stack(sums)])[0]

    @contextlib.contextmanager
    def _recorded(self):
        """A context that gives a `Record`, into which go the model's input and the outputs of all named layers.

        The outputs keep their gradients.
        """
        record = base.Record()

        def keep(name, layer, inputs, output):
            if isinstance(output, paddle.Tensor):
                if paddle.is_grad_enabled() and paddle.is_floating_point(output):
                    output.stop_gradient = False  # also where the layer, or one before it, has cut the gradient
                    output.retain_grads()
                number = state.unused(name, record.outputs)
                known = enumerate(record.outputs.values())
                record.taken[number] = [at for at, tensor in known if any(tensor is x for x in inputs)]
                record.inputs[number] = next((x for x in inputs[:1] if isinstance(x, paddle.Tensor)), None)
                record.outputs[number] = output

        hooks = [layer.register_forward_post_hook(partial(keep, name)) for name, layer in self._layers()]
        hooks.append(self.model.register_forward_pre_hook(lambda model, inputs: record.images.append(inputs[0])))
        try:
            yield record
        finally:
            for hook in hooks:
                hook.remove()

    def _layers(self):
        return list(self.model.named_sublayers())

    def _variables(self):
        ema = {f"ema/{name}": variable for name, variable in self.ema.items()}
        return {**self._model_variables(), **self._velocity_variables(), **ema}

    def _model_variables(self):
        variables = {id(variable): (name, variable) for name, variable in reversed(self.model.state_dict().items())}
        # A shared layer has several names, of which the first counts.
        return {state.from_paddle(name): variable for name, variable in reversed(variables.values())}

    def _velocity_variables(self):
        velocities = self.optimizer._accumulators["velocity"]
        named = zip(self.names, self.parameters, strict=True)
        return {f"velocity/{name}": velocities[parameter.name] for name, parameter in named}


def _by_name(what, outputs, tensors=None):
    """The tensors of the recorded `outputs`, or what `tensors` has for each by its id, as arrays by `what`/<layer>.

    One array for one tensor: a container gives that of its last layer.
    """
    tensors = tensors or {id(output): output for output in outputs.values()}
    arrays = {key: tensor.numpy() for key, tensor in tensors.items() if tensor is not None}
    return {f"{what}/{name}": arrays[id(output)] for name, output in outputs.items() if id(output) in arrays}


def _assign(variables, values):
    """Set each of `variables` to the value of the same name in `values`."""
    with paddle.no_grad():
        for name, variable in variables.items():
            paddle.assign(values[name], variable)
