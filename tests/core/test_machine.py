"""What a process may take."""

import subprocess
import sys

import pytest

BEGIN = "import time; from tandem.core.machine import limited\n"


def ended(code):
    return subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process has besides")
def test_what_asks_for_more_does_not_get_it():
    said = ended(
        "with limited(1 << 26, 100): few = bytes(1 << 20)\n"
        "try:\n"
        "    with limited(1 << 26, 100): bytes(1 << 30)\n"
        "except MemoryError: print('refused')\n"
        "print(len(bytes(1 << 30)))"
    )
    assert said.stdout == f"refused\n{1 << 30}\n", said.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such limits")
def test_what_goes_on_for_ever_ends():
    assert ended("with limited(1 << 26, 1):\n    while True: pass").returncode < 0
