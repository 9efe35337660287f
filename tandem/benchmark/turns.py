"""Variants of a benchmark in turn: all are started once, and then one of them at a time takes a step.

So a busy moment of the machine hits all alike, and the times of one round can be compared in pairs. What takes the
steps is tandem/benchmark/variants.py.
"""

import contextlib
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Listener, wait
from pathlib import Path

from tandem.core.errors import UserError
from tandem.core.machine import available_memory
from tandem.core.paths import child_environment
from tandem.core.processes import ends_with_this
from tandem.frameworks.jobs import Job, JobFailed

MODULE = "tandem.benchmark.variants"

BURN_IN = 2
"""Warm-up steps, in which memory is allocated and graphs are compiled."""

START = 300.0
"""Seconds in which a variant must be ready."""

SETTLING = 0.5
"""The most seconds that are waited, after a step, until the threads of its process no longer spin: Intel's OpenMP lets
them do so for 0.2 s, and they would take a core from whoever is next."""

SHORT = 0.25
"""A step of fewer seconds comes after an untimed one. The first after a wait took TensorFlow's LeNet-5 5 ms longer, for
the caches hold what others computed."""

VARIABLES = ("TF_ENABLE_ONEDNN_OPTS", "TF_CPP_MIN_LOG_LEVEL", "MKL_DEBUG_CPU_TYPE", "OMP_NUM_THREADS")
"""What Tandem sets, or Paddle when it loads. Each process starts without them."""


class VariantFailed(Exception):
    """The process of a variant died, or could not begin. The message says what it said last."""


class Variant:
    """A context with the process of a variant, or with the `workers` processes of a job that are one together.

    Args:
        kind: of `tandem.benchmark.variants.VARIANTS`.
        workers: how many processes share the work.
        arguments: for that function, as JSON takes them.

    Attributes:
        facts: what it said when it was ready.
    """

    def __init__(self, kind, workers=1, **arguments):
        self.kind, self.workers, self.arguments = kind, workers, arguments
        self.facts, self.connections = {}, []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.listener = stack.enter_context(Listener(backlog=self.workers))
            command = [sys.executable, "-m", MODULE, self.listener.address]
            command += [self.kind, json.dumps(self.arguments)]
            self.job = self.said = None
            if self.workers > 1:
                self.job = stack.enter_context(Job(self.arguments["framework"], self.workers, command))
                self.processes = self.job.processes
            else:
                self.said = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self.said,
                    env=child_environment(clean_environment()),
                    preexec_fn=ends_with_this(),
                )
                stack.callback(process.wait)
                stack.callback(process.kill)
                self.processes = [process]
            # accept() has no timeout, so a thread calls it; it ends with the listener.
            threading.Thread(target=self._accept, daemon=True).start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        self._stack.close()
        for connection in self.connections:
            connection.close()

    def await_ready(self):
        """Wait until it can begin.

        Raises:
            VariantFailed: it died before, or took too long.
        """
        begun = time.monotonic()
        while len(self.connections) < self.workers:
            if any(process.poll() is not None for process in self.processes):
                raise self._failed()
            if time.monotonic() - begun > START:
                raise VariantFailed(f"was not ready after {START:.0f} s")
            time.sleep(0.05)
        self.facts = self._answers()[0]

    def take(self, work, wake=False):
        """Have it do `work` once, and wait until it rests. With `wake`, once more before, untimed.

        Returns:
            `seconds`, of several workers those of the slowest; and `peak_memory`, of several the sum, or None.

        Raises:
            VariantFailed: it died.
        """
        for _ in range(2 if wake else 1):
            for connection in self.connections:
                with contextlib.suppress(OSError):  # it died; its answer tells
                    connection.send(work)
            answers = self._answers()
        self._settle()
        peaks = [answer["peak_memory"] for answer in answers if answer["peak_memory"]]
        return {"seconds": max(answer["seconds"] for answer in answers), "peak_memory": sum(peaks) or None}

    def cpu_seconds(self):
        """The CPU time that its processes have used so far, in seconds; 0 on a system other than Linux."""
        total = 0
        for process in self.processes:
            for task in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):  # a thread that has ended
                    total += int(task.read_text().split()[0])
        return total / 1e9

    def _accept(self):
        with contextlib.suppress(OSError):
            for _ in range(self.workers):
                self.connections.append(self.listener.accept())

    def _answers(self):
        answers, awaited = {}, list(self.connections)
        while awaited:
            for connection in wait(awaited):
                try:
                    answers[connection] = connection.recv()
                except (EOFError, OSError):
                    raise self._failed() from None
                awaited.remove(connection)
        return [answers[connection] for connection in self.connections]

    def _settle(self):
        until, used = time.monotonic() + SETTLING, self.cpu_seconds()
        while time.monotonic() < until:
            time.sleep(0.03)  # of less, a spinning thread may have had none on a busy machine
            before, used = used, self.cpu_seconds()
            if used - before < 0.001:
                return

    def _failed(self):
        """The `VariantFailed` that says why one has died."""
        if self.job is not None:
            try:
                self.job.wait()
            except (JobFailed, UserError) as error:
                return VariantFailed(str(error))
            return VariantFailed("a worker ended early")
        code = self.processes[0].wait()
        self.said.seek(0)
        lines = self.said.read().strip().splitlines() or [f"its process ended with exit code {code}"]
        return VariantFailed(lines[-1].strip())


def take_turns(parts, rounds, show, about, most_seconds=math.inf):
    """Start variants, and let them take steps in turn: first `BURN_IN` each, then one each in every round.

    Args:
        parts: by name, a `Variant` and the name of a work of it. One variant may have several.
        rounds: how many. In each the order is another.
        show: is called with what is going on, and how many rounds of how many are done.
        about: what is measured, in words.
        most_seconds: after so many, and three rounds, no other begins.

    Returns:
        By name, the `seconds` of each round and the `peak_memory` after the warm-up; by name of those that failed, the
        reason; and how many cores the waiting variants used meanwhile, which should be next to none.
    """
    variants = list(dict.fromkeys(variant for variant, _ in parts.values()))
    failed, warm, seconds = {}, {}, {name: [] for name in parts}
    names, order = list(parts), random.Random(0)

    def attempt(variant, action, *arguments):
        """What `action` returns; None where the variant has failed, now or before."""
        if variant not in failed:
            try:
                return action(*arguments)
            except VariantFailed as error:
                failed[variant] = str(error)

    with contextlib.ExitStack() as stack:
        for variant in variants:  # all load at once
            stack.enter_context(variant)
        for number, variant in enumerate(variants, 1):
            show(f"{about}: loading, process {number} of {len(variants)}", 0, rounds)
            attempt(variant, variant.await_ready)
        needed = 0
        for name, (variant, work) in parts.items():
            show(f"{about}: warm-up, {' '.join(name)}", 0, rounds)
            free = available_memory()
            if free < needed:  # before the system ends one of them, or something else
                amounts = f"{needed / 1e9:.1f} GB, as others do, and {free / 1e9:.1f} GB are free"
                failed.setdefault(variant, f"may need {amounts}; measure fewer variants at once")
            for _ in range(BURN_IN):
                warm[name] = attempt(variant, variant.take, work)
            needed = max(needed, (warm[name] and warm[name]["peak_memory"]) or 0)
        short = {name for name, answer in warm.items() if answer and answer["seconds"] < SHORT}
        began, used = time.monotonic(), {variant: -variant.cpu_seconds() for variant in variants}
        for number in range(rounds):
            if number >= 3 and time.monotonic() - began > most_seconds:
                break
            order.shuffle(names)
            for name in names:
                show(f"{about}: {' '.join(name)}", number, rounds)
                variant, work = parts[name]
                used[variant] += variant.cpu_seconds()
                answer = attempt(variant, variant.take, work, name in short)
                used[variant] -= variant.cpu_seconds()
                if answer:
                    seconds[name].append(answer["seconds"])
        used = sum(used[variant] + variant.cpu_seconds() for variant in variants if variant not in failed)
        waiting = used / (time.monotonic() - began)
    reasons = {name: failed[variant] for name, (variant, _) in parts.items() if variant in failed}
    answers = {
        name: {"seconds": seconds[name], "peak_memory": warm[name]["peak_memory"]}
        for name in parts
        if name not in reasons
    }
    return answers, reasons, waiting


def clean_environment():
    """The environment without `VARIABLES`, as a dict."""
    return {name: value for name, value in os.environ.items() if name not in VARIABLES}
