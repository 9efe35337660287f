"""Jobs: processes on this host that train together, one a slice of the batch.

They are started as the framework's own launcher would: with environment variables that say who and where they are.
"""

import contextlib
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from tandem.core.errors import UserError
from tandem.core.machine import cores
from tandem.core.paths import child_environment

SILENT = 40.0
"""After so many seconds without a sign of life from a process its job is ended."""

MISSED = 5.0
"""Where others have failed, a process without a sign of life for so many seconds is the reason."""

SETTLING = 4.0
"""Once one has failed, so many seconds go by before it is told which was the first: others fail because of it."""

LINGERING = 30.0
"""How many seconds the others may take to end once rank 0 has ended well."""

STOPPING = 300.0
"""How many seconds all may take to stop once they were told to: a step may be long."""

TOUCH = "TANDEM_JOB"
"""The environment variable with the number of the pipe through which a process shows that it is alive."""


class JobFailed(Exception):
    """A process of a job died or hung. The message names its rank and what it said last."""


class Job:
    """A context with `count` processes of one job. What is left of them at its end is killed.

    Args:
        framework: "paddle" or "tensorflow".
        count: how many.
        command: the command line of each.
        shown: whether what rank 0 prints is shown. What the others print is not.
    """

    def __init__(self, framework, count, command, shown=False):
        self.framework, self.count, self.command, self.shown = framework, count, command, shown
        self.processes, self.heard = [], []  # and when each was last heard of (`time.monotonic`)
        self.failed = []  # the ranks of those that failed, in their order

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tandem-job-")))
            self.pipes = stack.enter_context(selectors.DefaultSelector())
            stack.callback(self._end)
            available = sorted(cores())
            for rank, environment in enumerate(environments(self.framework, self.count)):
                share = available[rank :: self.count] or [available[rank % len(available)]]
                self._start(rank, environment, share, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def _start(self, rank, environment, share, stack):
        """Start one process on the CPUs `share`."""
        hear, touch = os.pipe()
        stack.callback(os.close, hear)
        with _affinity(share), (self.folder / str(rank)).open("w") as said:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=None if self.shown and rank == 0 else subprocess.DEVNULL,
                stderr=said,
                env={**child_environment(), **environment, TOUCH: str(touch)},
                pass_fds=[touch],
                start_new_session=True,  # Ctrl-C is for the parent, which passes it on
            )
        os.close(touch)
        self.pipes.register(hear, selectors.EVENT_READ, rank)
        self.processes.append(process)
        self.heard.append(time.monotonic())

    def wait(self, stop=lambda: False):
        """Wait until all have ended. Returns the exit code of rank 0: 0, or 130 where the job was stopped.

        Args:
            stop: asked again and again; once it is true, all are told to stop, by SIGTERM.

        Raises:
            UserError: what one of them told as such.
            JobFailed: one died or hung.
        """
        failed = ended = told = None
        while True:
            self._listen()
            now, codes = time.monotonic(), [process.poll() for process in self.processes]
            if all(self._is_well(code, told) for code in codes):
                return codes[0] if codes[0] in (0, 130) else 130  # stopped before it trained
            if told is None and stop():
                told = now
                for process in self.processes:
                    process.terminate()
            if codes[0] in (0, 130):  # all is written, so it does not matter how the others end
                ended = ended or now
                if None not in codes or now - ended > LINGERING:
                    return codes[0]
                continue
            running = [rank for rank, code in enumerate(codes) if code is None]
            wrong = [rank for rank, code in enumerate(codes) if code is not None and not self._is_well(code, told)]
            # Of several at once those that a signal ended come first: their codes are negative.
            self.failed += sorted(set(wrong) - set(self.failed), key=lambda rank: codes[rank])
            silent = [rank for rank in running if now - self.heard[rank] > SILENT]
            if self.failed or silent or (told and now - told > STOPPING):
                failed = failed or now
                if now - failed > SETTLING or not running:
                    self._explain(now, codes)

    @staticmethod
    def _is_well(code, told):
        """Whether a process that ended with this exit code did so as it should; `told`, whether it was told to."""
        ended = -signal.SIGTERM, -signal.SIGKILL  # the latter where cleaning up took too long: see core/signals.py
        return code in (0, 130) or (code in ended and told is not None)

    def _listen(self):
        """Note from whom there is a sign of life, for a moment."""
        for key, _ in self.pipes.select(0.1):
            if os.read(key.fd, 4096):
                self.heard[key.data] = time.monotonic()
            else:
                self.pipes.unregister(key.fd)
        if not self.pipes.get_map():
            time.sleep(0.1)

    def _explain(self, now, codes):
        """Raise the error that tells why the job failed: what happened first, for others fail because of it."""
        for rank in self.failed:
            if codes[rank] == 2:
                raise UserError(self._said(rank).removeprefix("error: "))
        seconds = {rank: now - self.heard[rank] for rank, code in enumerate(codes) if code is None}
        silent = [rank for rank in seconds if seconds[rank] > MISSED]
        if silent:
            rank, what = silent[0], f"has not answered for {seconds[silent[0]]:.0f} seconds"
        elif self.failed:
            rank = self.failed[0]
            code = codes[rank]
            what = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        else:
            rank, what = min(seconds), "did not stop when it was told to"
        said = self._said(rank)
        raise JobFailed(f"worker {rank} of {self.count} {what}" + (f"; it said: {said}" if said else ""))

    def _said(self, rank):
        """The last line that a process wrote to stderr and that begins as an error does; or nothing."""
        lines = (self.folder / str(rank)).read_text(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if re.match(r"[\w.]+: ", line)), "")

    def _end(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


def environments(framework, count):
    """The environment variables of each of the `count` processes of a job on this host, a list of dicts."""
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(count)]
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
    found = []
    for rank in range(count):
        own = {"CUDA_VISIBLE_DEVICES": gpus[rank] if rank < len(gpus) else ""}
        if framework == "paddle":
            own |= {
                "PADDLE_TRAINER_ID": str(rank),
                "PADDLE_TRAINERS_NUM": str(count),
                "PADDLE_TRAINER_ENDPOINTS": ",".join(addresses),
                "PADDLE_CURRENT_ENDPOINT": addresses[rank],
                "PADDLE_MASTER": addresses[0],
                "FLAGS_selected_gpus": "0",
            }
        else:
            task = {"type": "worker", "index": rank}
            own["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        found.append(own)
    return found


def stay_in_touch():
    """In a process of a job: show the one that started it that this one is alive. When that one is gone, stop."""
    touch = os.environ.pop(TOUCH, None)
    if touch is not None:
        threading.Thread(target=_touch, args=(int(touch),), name="touch", daemon=True).start()


def _touch(pipe):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with contextlib.suppress(OSError):
        while True:
            os.write(pipe, b".")
            time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LINGERING)
    os._exit(1)


@contextlib.contextmanager
def _affinity(share):
    """In it, a process that is started runs on the CPUs `share`, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = cores()
    os.sched_setaffinity(0, share)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
