"""One framework's side of a certificate, in a process of its own: python -m tandem.certify.worker FRAMEWORK FOLDER.

It reads commands from stdin, one JSON line each: the name of a method of `Worker` and its arguments. It answers each on
stdout with one line: what the method returns, or what went wrong. Tensors go through FOLDER (tandem/core/files.py):
both sides read `batch` and the state that the first framework wrote; each writes `FRAMEWORK-trace` and
`FRAMEWORK-state`.
"""

import contextlib
import importlib
import json
import os
import re
import sys
import traceback
from pathlib import Path

from tandem.certify.sameness import compare
from tandem.config.load import check_config
from tandem.core import files
from tandem.core.errors import UserError
from tandem.core.initial_weights import initialise
from tandem.data.batches import Batch
from tandem.frameworks.base import FRAMEWORKS, load_engine
from tandem.frameworks.layer_table import describe

import numpy as np


class Worker:
    """The commands of a certificate, for one framework.

    Args:
        framework: "paddle" or "tensorflow".
        folder: where the files are.
    """

    def __init__(self, framework, folder):
        self.framework = framework
        self.folder = Path(folder)
        self.trap = contextlib.ExitStack()

    def start(self, settings, num_classes, resumed, trap):
        """Build the network and write its state. Returns the device's record and the types of the layers by name.

        Args:
            settings: a config as a dict.
            num_classes: length of the logits.
            resumed: whether to start from `checkpoint`, which may hold more than the engine's state.
            trap: the name of a trap (tandem/traps) to switch on here; or None.
        """
        self.module = load_engine(self.framework)
        self.trap.close()
        if trap is not None:
            self.trap.enter_context(importlib.import_module("tandem.traps").switched_on(trap, self.framework))
        self.settings, self.num_classes = settings, num_classes
        self.engine = self._engine(settings["precision"])
        if resumed:
            state = self._read("checkpoint")
            self.engine.load_state({name: state[name] for name in self.engine.shapes if name in state}, "checkpoint")
        else:
            checked = check_config(settings, "certificate")
            initialise(self.engine, checked, self._read("images")["images"], **self._read("preprocessing"))
        self._write("state", self.engine.state())
        return {"record": self.engine.record, "types": self.engine.layer_types()}

    def describe(self, settings, num_classes):
        """The rows of `tandem.frameworks.layer_table.describe` for the network of `settings`."""
        checked = check_config(settings, "summary")
        module = load_engine(self.framework)
        engine = module.Engine(checked, num_classes, np.zeros((3, 1, 1)), np.ones((3, 1, 1)))
        return describe(engine, checked.data.image_size)

    def load(self):
        """Load the state that the first framework wrote."""
        self.engine.load_state(self._shared_state(), "state")

    def trace(self, learning_rate, step):
        """Take a step on `batch` with `Engine.trace`. Write what it computed and the state after it."""
        self._write("trace", self.engine.trace(self._batch(), learning_rate, step))
        self._write("state", self.engine.state())

    def trace_evaluation(self):
        """The same in evaluation mode, in which the state does not change."""
        self._write("trace", self.engine.trace_evaluation(self._batch()))

    def trained_step(self, precision, learning_rate, step):
        """Take a step on `batch` as the training loop does, in `precision`. Write the state after it as `trained`."""
        engine = self._engine(precision)
        # In float16 the engine's state also has a loss scale.
        engine.load_state({**engine.state(), **self._shared_state()}, "state")
        engine.train_step(self._batch(), learning_rate, step).numpy()
        state = engine.state()
        self._write("trained", {name: state[name] for name in self.engine.shapes})

    def start_free(self, nudge):
        """Start a free run from the shared state; with `nudge`, also one with all weights raised by one ulp."""
        state, precision = self._shared_state(), self.settings["precision"]
        self.free = self._engine(precision)
        self.free.load_state(state, "state")
        self.nudged = None
        if nudge:
            self.nudged = self._engine(precision)
            weights = {name: np.nextafter(state[name], np.inf) for name in self._parameters()}
            self.nudged.load_state({**state, **weights}, "state")

    def free_step(self, learning_rate, step):
        """Take a step of both. Write the weights of the first. Returns the error of the second's, or None."""
        weights = self._weights_after(self.free, learning_rate, step)
        self._write("free", weights)
        if self.nudged is None:
            return None
        nudged = self._weights_after(self.nudged, learning_rate, step)
        return max(difference.error for difference in compare({"free": weights, "nudged": nudged}, "free run"))

    def _weights_after(self, engine, learning_rate, step):
        engine.train_step(self._batch(), learning_rate, step).numpy()
        state = engine.state()
        return {name: state[name] for name in self._parameters()}

    def _engine(self, precision):
        settings = check_config({**self.settings, "precision": precision}, "certificate")
        return self.module.Engine(settings, self.num_classes, **self._read("preprocessing"))

    def _parameters(self):
        return [name.removeprefix("velocity/") for name in self.engine.shapes if name.startswith("velocity/")]

    def _batch(self):
        return Batch(**self._read("batch"))

    def _shared_state(self):
        return self._read(f"{FRAMEWORKS[0]}-state")

    def _read(self, what):
        return files.read_arrays(self.folder / what)

    def _write(self, what, arrays):
        files.write_arrays(self.folder / f"{self.framework}-{what}", arrays)


def where(error):
    """`error` in one line, with its place: the innermost line that is not in an installed package."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    # Keras writes a preface before the message and the arguments after it. Paddle writes a stack before the message.
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split("Arguments received by")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip() and "encountered when calling" not in line]
    lines = [line for line in lines if not line.startswith(("[Hint", "(at "))] or [""]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: {type(error).__name__}: {lines[-1]}"


def main(framework, folder):
    """Answer commands until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what your own network or native code prints is not an answer, so it goes to stderr
    worker = Worker(framework, folder)
    for line in sys.stdin:
        command, arguments = json.loads(line)
        try:
            reply = {"answer": getattr(worker, command)(**arguments)}
        except UserError as error:
            reply = {"user_error": str(error)}
        except Exception as error:  # your own network may raise anything
            reply = {"raised": where(error)}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
