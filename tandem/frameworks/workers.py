"""A process for each framework, side by side. Frameworks never share a process; files carry their tensors."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tandem.core import files
from tandem.core.errors import UserError
from tandem.core.paths import child_environment
from tandem.frameworks.base import FRAMEWORKS

SHARED_MEMORY = 4 * 2**30
"""The bytes that must be free in /dev/shm for tensors to go there: a container may have next to nothing."""


class WorkerStopped(Exception):
    """A worker raised or died in step `step`; `what` says how."""

    def __init__(self, framework, step, what):
        super().__init__(what)
        self.framework = framework
        self.step = step
        self.what = what


class Workers:
    """A context with one process for each framework, which answers commands.

    Args:
        module: the name of the module that they run; its arguments are a framework and `folder`.
        pythons: by framework, the Python interpreter to run it with; by default this one.

    Attributes:
        folder: the temporary folder through which they pass tensors.
        step: the current step; None until both have built their network.

    Raises:
        UserError: an interpreter cannot be started.
    """

    def __init__(self, module, pythons=None):
        self.module = module
        self.pythons = pythons or {}
        self.step = None
        self._pending = 0  # commands without an answer yet

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            # In memory where there is room: the tensors of a large network are gigabytes. TMPDIR decides otherwise.
            shared = Path("/dev/shm")
            room = shared.is_dir() and shutil.disk_usage(shared).free > SHARED_MEMORY and "TMPDIR" not in os.environ
            folder = tempfile.TemporaryDirectory(prefix="tandem-", dir=shared if room else None)
            self.folder = Path(stack.enter_context(folder))
            self.processes = {framework: stack.enter_context(self._start(framework)) for framework in FRAMEWORKS}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        for process in self.processes.values():
            process.kill()
            with contextlib.suppress(BrokenPipeError):  # of commands that a dead one has not read
                process.stdin.close()
        self._stack.close()

    def _start(self, framework):
        python = self.pythons.get(framework, sys.executable)
        command = [python, "-m", self.module, framework, str(self.folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with open(self.folder / f"{framework}-said", "w") as said:
            try:
                return subprocess.Popen(command, stderr=said, text=True, env=child_environment(), **pipes)
            except OSError as error:
                raise UserError(f"--python-{framework} {python}: {error.strerror}; name a Python") from error

    def ask(self, command, by_framework=None, **arguments):
        """Have both run `command` at the same time, and wait for their answers: see `send` and `receive`."""
        self.send(command, by_framework, **arguments)
        return self.receive()

    def send(self, command, by_framework=None, **arguments):
        """Have both start `command`. `by_framework`: arguments that differ, name to framework to value."""
        self._pending += 1
        for framework, process in self.processes.items():
            own = {name: values.get(framework) for name, values in (by_framework or {}).items()}
            with contextlib.suppress(BrokenPipeError):  # it died; `receive` reports it
                print(json.dumps([command, {**arguments, **own}]), file=process.stdin, flush=True)

    def receive(self):
        """Their answers to the oldest command without one, by framework.

        Raises:
            UserError: one raised a UserError, or could not build its network.
            WorkerStopped: one raised anything else or died, later.
        """
        self._pending -= 1
        replies = {framework: self._reply(framework) for framework in self.processes}
        for framework, reply in replies.items():
            if "user_error" in reply or ("raised" in reply and self.step is None):
                raise UserError(f"{framework}: {reply.get('user_error') or reply['raised']}")
            if "raised" in reply:
                raise WorkerStopped(framework, self.step, reply["raised"])
        return {framework: reply["answer"] for framework, reply in replies.items()}

    def drain(self):
        """Wait for all answers and drop them, so that the next command gets its own."""
        while self._pending:
            with contextlib.suppress(UserError, WorkerStopped):
                self.receive()

    def read(self, what):
        """The arrays that each has written, by framework and name, in the order of computation.

        They are valid until the next command that writes them: see `tandem.core.files.read_arrays`.
        """
        return {framework: files.read_arrays(self.folder / f"{framework}-{what}") for framework in FRAMEWORKS}

    def _reply(self, framework):
        line = self.processes[framework].stdout.readline()
        if line:
            return json.loads(line)
        code = self.processes[framework].wait()
        if code < 0:
            return {"raised": f"its process died of {signal.Signals(-code).name}"}
        said = (self.folder / f"{framework}-said").read_text(errors="replace").strip().splitlines()
        return {"raised": f"its process ended ({said[-1].strip() if said else f'exit code {code}'})"}
