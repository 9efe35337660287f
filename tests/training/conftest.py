"""Fixtures of the tests of training."""

import sys

import data_utils
from tandem.data.images import Dataset
from tandem.frameworks.base import ALONE
from tandem.training import loop as training

import numpy as np
import pytest
from numpy_engine import Engine, engine_module


@pytest.fixture
def numpy_engine(monkeypatch):
    """The framework "numpy" for `Run`: the engine of numpy_engine.py, and images that it tells apart."""
    rng = np.random.default_rng(0)

    def split(count):
        labels = rng.integers(0, 3, count)
        images = rng.integers(0, 128, (count, 3, 8, 8)) + 40 * labels[:, None, None, None]
        return data_utils.Split(images.astype(np.uint8), labels)

    dataset = Dataset(split(70), None, split(30), ("a", "b", "c"))
    monkeypatch.setitem(sys.modules, "tandem.frameworks.numpy.engine", engine_module(ALONE))
    monkeypatch.setattr(training, "load_dataset", lambda data, seed: dataset)
    monkeypatch.setattr(Engine, "after_step", staticmethod(lambda step: None))
    monkeypatch.setattr(training.Recorder, "draw", lambda self: None)
