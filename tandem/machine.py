"""What figures depend on besides the code."""

import platform
from pathlib import Path

import numpy as np

from tandem import config


def machine():
    """What the figures depend on: the CPU's model, the cores this process may use, system, Python and NumPy."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(config.cores()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
