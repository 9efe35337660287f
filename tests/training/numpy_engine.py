"""An engine in NumPy, and runs of it: quick enough to stop them everywhere."""

import contextlib
import types
from collections import namedtuple

from tandem.config.load import check_config
from tandem.training import checkpoint
from tandem.training.loop import Run
from tandem.training.recorder import read_metrics

import numpy as np

Value = namedtuple("Value", "array")
Value.numpy = lambda self: self.array


class Engine:
    """Softmax regression by momentum, with the engines' interface. Fails or stops where a test says."""

    record = {"version": "0", "device": "cpu"}  # noqa: RUF012
    without_gradient = ()
    after_step = staticmethod(lambda step: None)

    def __init__(self, config, num_classes, mean, std, replicas):
        self.mean, self.std, self.momentum = mean, std, config.optimizer.momentum
        self.arrays = {"fc.weight": np.zeros((3 * 8 * 8, num_classes))}
        self.arrays["velocity/fc.weight"] = np.zeros_like(self.arrays["fc.weight"])
        self.decay = config.evaluation.ema_decay
        if self.decay is not None:
            self.arrays["ema/fc.weight"] = self.arrays["fc.weight"]
        self.shapes = {name: array.shape for name, array in self.arrays.items()}
        self.steps = 0
        self.asked = []  # (learning rate, step) of each call

    def _losses(self, batch):
        x = ((batch.images - self.mean) / self.std).reshape(len(batch.labels), -1)
        logits = x @ self.arrays["fc.weight"]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        right = (p.argmax(1) == batch.labels).sum()
        losses = -np.log(p[np.arange(len(p)), batch.labels])
        p[np.arange(len(p)), batch.labels] -= 1
        return x.T @ p / len(p), Value(np.array([losses.sum(), right, len(p)], float))

    def train_step(self, batch, learning_rate, step):
        gradient, sums = self._losses(batch)
        velocity = self.arrays["velocity/fc.weight"] = self.momentum * self.arrays["velocity/fc.weight"] + gradient
        self.arrays["fc.weight"] = self.arrays["fc.weight"] - learning_rate * velocity
        if self.decay is not None:
            mean = self.arrays["ema/fc.weight"]
            self.arrays["ema/fc.weight"] = self.decay * mean + (1 - self.decay) * self.arrays["fc.weight"]
        self.steps += 1
        self.asked.append((learning_rate, step))
        Engine.after_step(self.steps)
        return sums

    def evaluate(self, batch, flip=False):
        return self._losses(batch._replace(images=batch.images[..., ::-1]) if flip else batch)[1]

    @contextlib.contextmanager
    def averaged(self):
        kept = self.arrays["fc.weight"]
        self.arrays["fc.weight"] = self.arrays["ema/fc.weight"]
        yield
        self.arrays["fc.weight"] = kept

    def peak_memory(self):
        return None

    def state(self):
        return dict(self.arrays)

    def load_state(self, arrays, origin):
        self.arrays = dict(arrays)


def engine_module(replicas):
    return types.SimpleNamespace(Engine=Engine, join=lambda config: replicas)


def settings_of(**changes):
    values = {
        "network": {"name": "se_resnext"},
        "schedule": {"name": "cosine"},
        "optimizer": {"learning_rate": 0.01},
        "data": {"augmentation": {"crop_padding": 1}},
        "epochs": 3,
        "batch_size": 16,  # five batches of 70 images
        "evaluation": {"ema_decay": 0.9, "flip_tta": True},
        "log_period": 2,
        "checkpoints": {"keep": 2, "every_minutes": 1e-9},
    }
    return check_config(values | changes, "test")


def train(folder, resume=False, **changes):
    resumed = checkpoint.newest(folder / "checkpoints", print) if resume else None
    run = Run(settings_of(**changes), "numpy", folder, resumed)
    return run, run.train()


def figures(folder):
    """All records without what differs in every run."""
    return [
        {
            name: value
            for name, value in record.items()
            if name not in ("time", "seconds", "images_per_second", "peak_memory")
        }
        for record in read_metrics(folder / "metrics.jsonl")
    ]
