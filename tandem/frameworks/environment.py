"""What the frameworks and their kernels read from the environment. Import it before either; it loads none.

Each variable is left alone where the user has set it. Tandem's own is TANDEM_FAST_KERNELS:

    1, or unset    kernels.py of each framework chooses the fast way where it applies
    0              every kernel takes its plain form, with which the fast ways must agree; slow
"""

import contextlib
import os
import sys
import warnings
from pathlib import Path

from tandem.core.errors import UserError
from tandem.core.machine import cores

_fast_kernels = os.environ.get("TANDEM_FAST_KERNELS", "1")
if _fast_kernels not in ("0", "1"):
    raise UserError(f"TANDEM_FAST_KERNELS={_fast_kernels}: is neither 0 nor 1; set one of them, or unset it")
FAST_KERNELS = _fast_kernels == "1"
"""Whether the ways of kernels.py that are there for speed are taken."""

# TensorFlow reads these as it loads. Left to itself it uses oneDNN only on the newest CPUs (it asks for AVX512_VNNI);
# with AVX2 alone oneDNN's convolutions took 0.4 to 0.7 of the time of TensorFlow's own.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Paddle ships an MKL of 2019, which takes its slowest path on a CPU that is not Intel's unless it is told to use AVX2:
# 24 against 79 GFLOP/s in a float32 matrix product on one EPYC core. It reads this at its first product.
_cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
if "AuthenticAMD" in _cpu and " avx2 " in _cpu:
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")

# How Paddle's GPU memory grows; read as it loads.
os.environ.setdefault("FLAGS_allocator_strategy", "auto_growth")

# Paddle says this in every run.
warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")


def peak_memory():
    """The most memory that this process has held, in bytes; None where the system does not tell, as Linux does."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


@contextlib.contextmanager
def quiet():
    """Drop what is written to stdout and stderr, by native code too: both frameworks greet as they load."""
    sys.stdout.flush()  # what waits there is not dropped
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


def cpu_threads(config):
    """How many CPU threads a run may use: `threads`, or one for each core this process may run on."""
    return config.threads or len(cores())
