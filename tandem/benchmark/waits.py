"""What people wait for: `--help`, the first training step, a test, a certificate, a checkpoint."""

import datetime
import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tandem.benchmark.measure import progress
from tandem.config.load import load_config
from tandem.core.errors import UserError
from tandem.core.machine import machine
from tandem.core.paths import CONFIGS, child_environment
from tandem.core.processes import ends_with_this
from tandem.frameworks.base import TITLES, load_engine
from tandem.training import checkpoint

import numpy as np

TANDEM = (sys.executable, "-m", "tandem")

FIRST_STEP = re.compile(r"step .* loss ")
"""The line of a run's log after its first step."""

REPEATS = 3

WRITTEN = ("quickstart", "vgg16")
"""The configs of a small and of a large checkpoint."""


def waits(frameworks, console):
    """Measure each wait `REPEATS` times, in turn.

    Args:
        frameworks: of `tandem.frameworks.base.FRAMEWORKS`.
        console: a rich Console for the progress bar.

    Returns:
        A dict for JSON: `machine`, `date`, and `waits`, a list of dicts: `what`; `config` and `framework`, which may be
        None; and `seconds`, one for each repeat.

    Raises:
        UserError: a command failed.
    """
    with progress(console) as show, tempfile.TemporaryDirectory(prefix="tandem-waits-") as runs:
        tasks = [("help", None, None, help_shown)]
        tasks += [("first step", "quickstart", framework, first_step) for framework in frameworks]
        tasks += [("test", "quickstart", framework, partial(test, runs)) for framework in frameworks]
        tasks += [("certificate", "quickstart", None, certificate)]
        tasks += [("checkpoint", config, name, checkpoint_written) for config in WRITTEN for name in frameworks]
        seconds = [[] for _ in tasks]
        for number in range(REPEATS):
            for (what, config, framework, wait), taken in zip(tasks, seconds, strict=True):
                show(" ".join(filter(None, (what, config, TITLES.get(framework)))), number, REPEATS)
                taken.append(wait(*filter(None, (config, framework))))
    found = [
        {"what": what, "config": config, "framework": framework, "seconds": taken}
        for (what, config, framework, _), taken in zip(tasks, seconds, strict=True)
    ]
    return {"machine": machine(), "date": str(datetime.date.today()), "waits": found}


def help_shown():
    """Seconds until `tandem --help` has ended."""
    return _ended([*TANDEM, "--help"])


def first_step(config, framework):
    """Seconds until `tandem train` has logged its first step."""
    with tempfile.TemporaryDirectory(prefix="tandem-waits-") as folder:
        command = [
            *TANDEM,
            "train",
            config,
            "--framework",
            framework,
            "--run-dir",
            f"{folder}/run",
            "-o",
            "log_period=1",
        ]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        began, said = time.monotonic(), ""
        with subprocess.Popen(command, env=child_environment(), preexec_fn=ends_with_this(), **pipes) as process:
            try:
                for said in process.stdout:
                    if FIRST_STEP.search(said):
                        return time.monotonic() - began
            finally:
                process.kill()
    raise UserError(f"benchmark: tandem train {config} --framework {framework} took no step ({said.strip()})")


def test(runs, config, framework):
    """Seconds until `tandem evaluate` has ended. What it tests, a run of one epoch, is then in the folder `runs`."""
    run = Path(runs, f"{config}-{framework}")
    if not run.exists():
        _output([*TANDEM, "train", config, "--framework", framework, "--run-dir", str(run), "--epochs", "1"])
    return _ended([*TANDEM, "evaluate", str(run)])


def certificate(config):
    """Seconds until `tandem certify` has ended."""
    return _ended([*TANDEM, "certify", config])


def checkpoint_written(config, framework):
    """Seconds that a checkpoint takes, from the engine's state to the file, in a process of its own."""
    command = [sys.executable, "-m", "tandem.benchmark.waits", config, framework]
    return float(_output(command).splitlines()[-1])


def _ended(command):
    began = time.monotonic()
    _output(command)
    return time.monotonic() - began


def _output(command):
    """What `command` prints, which must end well."""
    with tempfile.TemporaryDirectory(prefix="tandem-waits-") as folder:
        ended = subprocess.run(command, env=child_environment(), cwd=folder, capture_output=True, text=True)
    if ended.returncode:
        said = (ended.stderr.strip() or ended.stdout.strip() or "nothing").splitlines()[-1]
        raise UserError(f"benchmark: {' '.join(command[1:])} ended with exit code {ended.returncode} ({said})")
    return ended.stdout


def _write(config, framework):
    settings = load_config(CONFIGS / f"{config}.yaml")
    engine = load_engine(framework).Engine(settings, 10, np.zeros((3, 1, 1)), np.ones((3, 1, 1)))
    with tempfile.TemporaryDirectory(prefix="tandem-waits-") as folder:
        began = time.monotonic()
        checkpoint.write(Path(folder) / "checkpoint", engine.state(), {"config": settings.model_dump(mode="json")})
        return time.monotonic() - began


if __name__ == "__main__":
    print(_write(*sys.argv[1:]))
