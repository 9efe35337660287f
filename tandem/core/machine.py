"""The machine, on which measured figures depend, and how much of it a process gets."""

import contextlib
import math
import os
import platform
import time
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None

import numpy as np


def machine():
    """The CPU's model, how many cores this process may use, the system, and the versions of Python and NumPy."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(cores()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def cores():
    """The numbers of the CPUs that this process may run on, as a set."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count()))


def available_memory():
    """The bytes of memory that may still be taken; infinity where the system does not tell, as Linux does."""
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), math.inf)


@contextlib.contextmanager
def limited(memory, seconds):
    """A context in which this process gets at most `memory` bytes beside what it has.

    It is killed after so many `seconds` of one core. Only Linux does either.
    """
    status = Path("/proc/self/status")
    if resource is None or not status.exists():
        yield
        return
    lines = status.read_text().splitlines()
    has = next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmData:"))
    most = {resource.RLIMIT_DATA: has + memory, resource.RLIMIT_CPU: math.ceil(time.process_time()) + seconds}
    before = {kind: resource.getrlimit(kind) for kind in most}
    for kind, (soft, hard) in before.items():
        known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(kind, (min([most[kind], *known]), hard))
    try:
        yield
    finally:
        for kind, limits in before.items():
            resource.setrlimit(kind, limits)
