"""Environment variables that the frameworks and their kernels read. Import it before either; it loads neither.

A variable that the user has set is left alone. Tandem's own is TANDEM_FAST_KERNELS:

    1, or unset    kernels.py of each framework uses its fast forms where they apply
    0              every kernel uses its plain form, which the fast one must equal; slow
"""

import contextlib
import ctypes
import importlib.abc
import json
import os
import sys
import threading
import warnings
from pathlib import Path

from tandem.core.errors import UserError
from tandem.core.machine import cores

_fast_kernels = os.environ.get("TANDEM_FAST_KERNELS", "1")
if _fast_kernels not in ("0", "1"):
    raise UserError(f"TANDEM_FAST_KERNELS={_fast_kernels}: is neither 0 nor 1; set one of them, or unset it")
FAST_KERNELS = _fast_kernels == "1"
"""Whether kernels.py uses its fast forms."""

# TensorFlow reads these when it loads. By default it uses oneDNN only on CPUs with AVX512_VNNI. On one with only AVX2,
# oneDNN's convolutions took 0.4 to 0.7 of the time of TensorFlow's own.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Paddle ships an MKL of 2019. On a CPU that is not Intel's, it takes its slowest path unless it is told to use AVX2: 24
# against 79 GFLOP/s in a float32 matrix product on one EPYC core. It reads this at its first matrix product.
_cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
if "AuthenticAMD" in _cpu and " avx2 " in _cpu:
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")

# How Paddle's GPU memory grows. Paddle reads this when it loads.
os.environ.setdefault("FLAGS_allocator_strategy", "auto_growth")

_c = ctypes.CDLL(None) if sys.platform == "linux" else None

# Paddle warns of this in every run.
warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")


def keep_memory():
    """Have the C library keep what is freed for what is allocated next; on a system other than Linux, do nothing.

    glibc gives large blocks back to the system, which makes each page of the next one anew. With Paddle, that was three
    quarters of the time of a ReLU of 8 MB. TensorFlow keeps its memory by itself.
    """
    if FAST_KERNELS and hasattr(_c, "mallopt"):
        _c.mallopt(-4, 0)  # M_MMAP_MAX: no block is a mapping of its own, which ends with it
        _c.mallopt(-1, -1)  # M_TRIM_THRESHOLD: free memory at the end of the heap is not given back


def peak_memory():
    """The peak memory of this process, in bytes; None on a system other than Linux."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


UNUSED = ("matplotlib", "sklearn")
"""What Keras loads where it is installed, for plots and wrappers that nothing here uses: a third of its time."""


@contextlib.contextmanager
def loading():
    """A context for the import of a framework: it prints nothing, and does without `UNUSED`."""
    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        with quiet():
            yield
    finally:
        sys.meta_path.remove(absent)


class _Absent(importlib.abc.MetaPathFinder):
    """Finds that `UNUSED` are not installed, as far as the thread that made it can tell: others may import them."""

    def __init__(self):
        self.thread = threading.get_ident()

    def find_spec(self, name, path=None, target=None):
        if name in UNUSED and threading.get_ident() == self.thread:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


@contextlib.contextmanager
def quiet():
    """Drop all output to stdout and stderr, also of native code: both frameworks print when they load."""
    sys.stdout.flush()  # keeps what is buffered
    kept, nowhere = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        for number, descriptor in enumerate(kept, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(nowhere)


def place_in_job(framework):
    """The (rank, count) of this process among those that train together, as the framework's launcher tells it.

    Paddle's sets PADDLE_TRAINER_ID and PADDLE_TRAINERS_NUM; TensorFlow's are told by TF_CONFIG, in JSON:
    {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}. Without them it is (0, 1).

    Raises:
        UserError: TF_CONFIG is not that.
    """
    if framework == "paddle":
        return int(os.environ.get("PADDLE_TRAINER_ID", 0)), int(os.environ.get("PADDLE_TRAINERS_NUM", 1))
    if not os.environ.get("TF_CONFIG"):
        return 0, 1
    try:
        job = json.loads(os.environ["TF_CONFIG"])
        workers, task = job["cluster"]["worker"], job["task"]
        if task["type"] != "worker" or not 0 <= task["index"] < len(workers):
            raise ValueError(f"task {task}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"TF_CONFIG: does not name a worker of a cluster of workers ({error!r}); see docs/distributed.md"
        ) from error
    return task["index"], len(workers)


def cpu_threads(config):
    """How many CPU threads a run uses: `threads`, or one for each core that this process may run on."""
    return config.threads or len(cores())
