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
import shutil
import sys
import time
import traceback
from pathlib import Path

from tandem.certify import replay
from tandem.certify.sameness import STATE_KINDS, SUMS, compare, of_kind
from tandem.config.load import check_config
from tandem.core import files
from tandem.core.errors import UserError, said
from tandem.core.initial_weights import initialise
from tandem.core.metrics import losses_and_ranks
from tandem.core.state import grouped
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
        """Build the network and write its state. Returns the device's `record` and the `types` of the layers by name.

        Of your own network it writes none: see `pair`. It then also returns the map of `names` in its file, or None,
        and the `shapes` of its arrays by name.

        Args:
            settings: a config as a dict.
            num_classes: length of the logits.
            resumed: whether to start from `checkpoint`, which may hold more than the engine's state.
            trap: the name of a trap (tandem/traps) to switch on here; or None.
        """
        if self.framework == FRAMEWORKS[0]:
            self.engine_class = load_engine(self.framework).Engine
        else:
            self.engine_class = importlib.import_module(f"tandem.frameworks.{self.framework}.second").SecondEngine
        self.trap.close()
        if trap is not None:
            self.trap.enter_context(importlib.import_module("tandem.traps").switched_on(trap, self.framework))
        self.settings, self.num_classes = settings, num_classes
        self.checked = check_config(settings, "certificate")
        self.low = self.free = self.names = None
        self.engine = self._engine(settings["precision"])
        if resumed:
            state = self._read("checkpoint")
            self.engine.load_state({name: state[name] for name in self.engine.shapes if name in state}, "checkpoint")
        else:
            initialise(self.engine, self.checked, self._read("images")["images"], **self._read("preprocessing"))
        if self.checked.network.name != "own":  # else see `pair`
            self._write("state", self.engine.state())
        answer = {"record": self.engine.record, "types": self.engine.layer_types()}
        if self.checked.network.name == "own":
            stem = Path(self.checked.network.file).stem
            answer["names"] = getattr(sys.modules.get(stem), f"{stem}_names", None)
            answer["shapes"] = {name: shape for name, shape in self.engine.shapes.items() if "/" not in name}
        return answer

    def describe(self, settings, num_classes):
        """The rows of `tandem.frameworks.layer_table.describe` for the network of `settings`."""
        checked = check_config(settings, "summary")
        module = load_engine(self.framework)
        engine = module.Engine(checked, num_classes, np.zeros((3, 1, 1)), np.ones((3, 1, 1)))
        return describe(engine, checked.data.image_size)

    def layers(self):
        """What `layer_calls` of the framework's inspection.py says of the network."""
        inspection = importlib.import_module(f"tandem.frameworks.{self.framework}.inspection")
        state = self.engine.state()  # which a network that does not heed evaluation mode changes
        calls = inspection.layer_calls(self.engine, self.checked.data.image_size)
        self.engine.load_state(state, "state")
        return calls

    def pair(self, names, paired):
        """Take on the other framework's names.

        Args:
            names: the arguments of `SecondEngine.rename`; None where it keeps its own.
            paired: those that both frameworks have, of `layers` and `arrays`; `last` and `rectifying` of a `Pairing`.
        """
        self.names, self.paired = names, paired
        if names is not None:
            self.engine.rename(*names)
        self._write("state", self._shared(self.engine.state()))

    def load(self):
        """Load the state that the first framework wrote; the steps that follow all start from it."""
        # Of your own network, an array that only one side has keeps its value.
        own = self.engine.state() if self.checked.network.name == "own" else {}
        state = {**own, **self._read(f"{FRAMEWORKS[0]}-state")}
        self.begun = {name: np.array(array) for name, array in state.items()}
        self.engine.load_state(self.begun, "state")

    def train(self, learning_rate, step):
        """Take a step on `batch` with `Engine.train_step`, as the loop does. Returns the seconds.

        Before `trace`: what an engine keeps besides its state, such as a mode, is then not yet that of this step.
        """
        self.engine.load_state(self.begun, "state")
        began = time.monotonic()
        self.trained = self._after(self.engine, self._batch(), learning_rate, step)
        return time.monotonic() - began

    def trace(self, learning_rate, step):
        """Take the same step with `Engine.trace`. Write what it computed and the state after it.

        Returns:
            What differs after `train`: see `_differ`.
        """
        self.engine.load_state(self.begun, "state")
        trace = self.engine.trace(self._batch(), learning_rate, step)
        self.traced = {**self.engine.state(), "sums": trace["sums"]}
        self._write("trace", trace)
        self._write("state", self._shared({name: self.traced[name] for name in self.engine.shapes}))
        return self._differ(self.traced, self.trained, self.settings["precision"])

    def record(self, learning_rate, step):
        """In the first framework: take the same step once more.

        Write as `record` what it computed, with the layers' inputs, and the state after it. Or, where `step` is None,
        what evaluation computes.
        """
        if self.framework != FRAMEWORKS[0]:
            return
        self.engine.load_state(self.begun, "state")
        if step is None:
            self._write("record", self.engine.trace_evaluation(self._batch(), inputs=True))
            return
        trace = self.engine.trace(self._batch(), learning_rate, step, inputs=True)
        self._write("record", {**trace, **{f"state/{name}": x for name, x in self.engine.state().items()}})

    def replay(self, step):
        """In the second framework: have each paired layer compute by itself, from what the first one's `record` has.

        Returns:
            What differs then: see tandem/certify/replay.py.
        """
        if self.framework == FRAMEWORKS[0]:
            return None
        record = self._read(f"{FRAMEWORKS[0]}-record")
        self.engine.load_state(self.begun, "state")
        return replay.compared(self.engine, self._batch(), step, record, self.paired)

    def train_twice(self, learning_rate, step):
        """Take two steps in a row. Returns what differs where the state is read and loaded in between."""
        first = self._step_from(self.begun, self._batch(), learning_rate, step)
        again = self._after(self.engine, self._batch(), learning_rate, step + 1)
        loaded = self._step_from(first, self._batch(), learning_rate, step + 1)
        return self._differ(loaded, again, self.settings["precision"])

    def repeat(self, learning_rate, step):
        """Take the same step twice. Returns whether the loss differs: then the network draws random numbers itself."""
        batch = self._batch()
        losses = [self._step_from(self.begun, batch, learning_rate, step)["sums"][0] for _ in range(2)]
        return not np.isclose(*losses, rtol=1e-6, equal_nan=True).item()

    def train_only(self, learning_rate, step):
        """Take a step with `Engine.train_step` that is not traced. Write the state after it as `trained`."""
        self.engine.load_state(self.begun, "state")
        after = self._after(self.engine, self._batch(), learning_rate, step)
        self._write("trained", {**self._shared(after), "sums": after["sums"]})

    def evaluate_only(self):
        """Evaluate `batch` without a trace. Write the sums and the logits as `evaluated`."""
        batch = self._batch()
        self.engine.load_state(self.begun, "state")
        sums = dict(zip(SUMS, self.engine.evaluate(batch).numpy(), strict=True))
        self._write("evaluated", {**sums, "logits": self.engine.predict(batch.images)})

    def train_in(self, precision, learning_rate, step):
        """Take the same step in `precision`. Returns what differs, or why the framework cannot, as `unsupported`."""
        try:
            engine = self._low(precision)
        except UserError as error:
            return {"unsupported": str(error)}
        # In float16 the engine's state also has a loss scale.
        engine.load_state({**engine.state(), **self.begun}, "state")
        after = self._after(engine, self._batch(), learning_rate, step)
        different = self._differ(self.traced, after, precision)
        if precision != "float16":  # which leaves out a step that overflows
            different["update"] = _compared(*self._updated(after, learning_rate), "update", precision)
        return {"differences": different}

    def _updated(self, after, learning_rate):
        """The changes of weights and EMA in a step, by name: as the formula has them for the velocities `after` it.

        And as they were. These differ by rounding only, where gradients may differ by much: see `TOLERANCES`.
        """
        optimizer, decay = self.checked.optimizer, self.checked.evaluation.ema_decay
        groups = grouped(optimizer, self.engine.shapes)
        expected, actual = {}, {}
        for name, before in self.begun.items():
            if name.startswith("velocity/"):
                parameter, velocity = name.removeprefix("velocity/"), after[name].astype(np.float64)
                direction = velocity
                if optimizer.nesterov:
                    direction = velocity - optimizer.momentum * before + optimizer.momentum * velocity
                rate = learning_rate * groups.get(parameter, (1.0, None))[0]
                expected[parameter], weight = -rate * direction, self.begun[parameter]
                actual[parameter] = after[parameter] - weight.astype(np.float32)
            elif name.startswith("ema/"):
                now = after[name.removeprefix("ema/")].astype(np.float64)
                expected[name] = (1 - decay) * (now - before)
                actual[name] = after[name] - before.astype(np.float32)
        # What float32 cannot resolve of a weight is no difference.
        for name, change in actual.items():
            least = 2.0**-21 * np.abs(self.begun[name])
            near = np.abs(change - expected[name]) <= least
            actual[name] = np.where(near, expected[name], change)
        return expected, actual

    def predict(self):
        """Write the logits of `batch` as `predicted`."""
        self._write("predicted", {"logits": self.engine.predict(self._batch().images)})

    def evaluate(self):
        """Trace the evaluation of `batch` and write it. Then evaluate in every way that the commands do.

        Returns:
            What differs from the traced evaluation: see `_differ`.
        """
        engine, batch = self.engine, self._batch()
        smoothing = self.checked.label_smoothing
        averages = {name.removeprefix("ema/"): x for name, x in self.begun.items() if name.startswith("ema/")}

        ran = self._run(engine, batch)
        after = engine.state()
        engine.load_state(self.begun, "state")

        trace = engine.trace_evaluation(batch)
        self._write("trace", trace)
        flipped = batch._replace(images=np.ascontiguousarray(batch.images[..., ::-1]))
        logits = trace["logits"]
        both = (logits + engine.trace_evaluation(flipped)["logits"]) / 2
        expected = {"evaluate": _sums(logits, batch.labels, smoothing), "predict": logits}
        expected["evaluate with flip"] = _sums(both, batch.labels, smoothing)
        expected |= {"predict one image": logits[:1], "predict one image less": logits[:-1]}
        if averages:
            engine.load_state({**self.begun, **averages}, "state")
            of_averages = engine.trace_evaluation(batch)["logits"]
            both = (of_averages + engine.trace_evaluation(flipped)["logits"]) / 2
            expected["evaluate with EMA"] = _sums(of_averages, batch.labels, smoothing)
            expected["predict with EMA"] = of_averages
            expected["evaluate with flip with EMA"] = _sums(both, batch.labels, smoothing)
        self.evaluated = expected
        different = {what: _compared(_named(x), _named(ran[what]), what) for what, x in expected.items()}
        different["state after evaluation"] = _compared(self.begun, after, "state")
        return different

    def evaluate_in(self, precision):
        """Evaluate `batch` in `precision`, after `evaluate`. Returns what differs in the losses and the logits."""
        try:
            engine = self._low(precision)
        except UserError:  # `train_in` has said why
            return {}
        batch = self._batch()
        different = {}
        for what, x in self._run(engine, batch).items():
            loss_or_logits = slice(1 if x.ndim == 1 else None)
            sides = (_named(side[loss_or_logits]) for side in (self.evaluated[what], x))
            different[what] = _compared(*sides, what, precision)
        return different

    def _run(self, engine, batch):
        """The evaluation of `batch` in every way that the commands do, by name.

        Each way comes from training mode, where a model has one: a way that forgets to leave it would show.
        """
        engine.load_state({**engine.state(), **self.begun}, "state")
        ways = {
            "evaluate": lambda: engine.evaluate(batch).numpy(),
            "predict": lambda: engine.predict(batch.images),
            "evaluate with flip": lambda: engine.evaluate(batch, flip=True).numpy(),
            "predict one image": lambda: engine.predict(batch.images[:1]),
            "predict one image less": lambda: engine.predict(batch.images[:-1]),
        }
        ran = {}
        for ema in (False, True) if any(name.startswith("ema/") for name in self.begun) else (False,):
            for what, way in ways.items():
                if ema and "one image" in what:
                    continue
                if hasattr(engine.model, "train"):  # Paddle's; Keras is told at each call
                    engine.model.train()
                with engine.averaged() if ema else contextlib.nullcontext():
                    ran[f"{what} with EMA" if ema else what] = way()
        return ran

    def free_step(self, learning_rate, step, nudge):
        """Take a step of a free run, which begins with the first of `train`. Write its weights.

        Returns:
            With `nudge`, the error of a second free run whose weights all began one ulp higher; otherwise None.
        """
        batch, parameters = self._batch(), [name for name in self.begun if f"velocity/{name}" in self.begun]
        if step == 0:
            self.free = self.trained
            self.nudged = {**self.begun, **{name: np.nextafter(self.begun[name], np.inf) for name in parameters}}
        else:
            self.free = self._step_from(self.free, batch, learning_rate, step)
        weights = {name: self.free[name] for name in parameters}
        self._write("free", self._shared(weights))
        if not nudge:
            return None
        self.nudged = self._step_from(self.nudged, batch, learning_rate, step)
        nudged = {name: self.nudged[name] for name in parameters}
        return max(difference.error for difference in compare({"free": weights, "nudged": nudged}, "free run"))

    def _step_from(self, state, batch, learning_rate, step):
        self.engine.load_state({name: state[name] for name in self.engine.shapes}, "state")
        return self._after(self.engine, batch, learning_rate, step)

    def _after(self, engine, batch, learning_rate, step):
        """The state after a step of `engine` as the training loop takes it, and `sums`, what the step returned."""
        sums = engine.train_step(batch, learning_rate, step).numpy()
        state = engine.state()
        return {**{name: state[name] for name in self.engine.shapes}, "sums": sums}

    def _differ(self, expected, actual, precision):
        """By kind, the name, error and words of each array: of `expected` and `actual`, what `_after` gives."""
        different = {"loss and hits": _compared(_named(expected["sums"]), _named(actual["sums"]), "sums", precision)}
        states = {"traced": expected, "trained": actual}
        states = {side: {name: x for name, x in state.items() if name != "sums"} for side, state in states.items()}
        for kind in STATE_KINDS:
            different[kind] = _compared(*of_kind(states, kind).values(), kind, precision)
        return different

    def _low(self, precision):
        """An engine in the precision that is trained in, built once."""
        if self.low is None:
            self.low = self._engine(precision)
        return self.low

    def _engine(self, precision):
        settings = check_config({**self.settings, "precision": precision}, "certificate")
        engine = self.engine_class(settings, self.num_classes, **self._read("preprocessing"))
        if self.names is not None:
            engine.rename(*self.names)
        return engine

    def _shared(self, state):
        """What both frameworks have of a `state`."""
        if self.checked.network.name != "own":
            return state
        return {name: array for name, array in state.items() if name.rpartition("/")[2] in self.paired["arrays"]}

    def _batch(self):
        return Batch(**self._read("batch"))

    def _read(self, what):
        return files.read_arrays(self.folder / what)

    def _write(self, what, arrays):
        files.write_arrays(self.folder / f"{self.framework}-{what}", arrays)


def _sums(logits, labels, smoothing):
    """What `Engine.evaluate` must return for these logits, by NumPy."""
    losses, ranks = losses_and_ranks(logits, labels, smoothing)
    return np.array([losses.sum(), (ranks < 1).sum(), (ranks < 5).sum()])


def _named(array):
    """Sums by their names; logits by theirs."""
    return dict(zip(SUMS, array, strict=False)) if array.ndim == 1 else {"logits": array}


def _compared(expected, actual, phase, precision="float64"):
    """The name, error and words of each difference, as JSON has them."""
    differences = compare({"traced": expected, "as it runs": actual}, phase, precision)
    return [[difference.name, difference.error, difference.what] for difference in differences]


def where(error):
    """`error` in one line, with its place: the innermost line that is not in an installed package."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: {said(error)}"


def main(framework, folder, commands=Worker):
    """Answer commands, which are methods of the class `commands`, until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what your own network or native code prints is not an answer, so it goes to stderr
    worker = commands(framework, folder)
    with contextlib.suppress(Exception):  # if it cannot be loaded, the first command says why
        load_engine(framework)  # now, for it takes seconds, in which what started this reads the images
    with contextlib.suppress(BrokenPipeError):
        for line in sys.stdin:
            command, arguments = json.loads(line)
            try:
                reply = {"answer": getattr(worker, command)(**arguments)}
            except UserError as error:
                reply = {"user_error": str(error)}
            except Exception as error:  # your own network may raise anything
                reply = {"raised": where(error)}
            print(json.dumps(reply), file=answers, flush=True)
    shutil.rmtree(folder, ignore_errors=True)  # what started this was killed: otherwise it kills this, and does that


if __name__ == "__main__":
    main(*sys.argv[1:])
