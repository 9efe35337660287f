"""A process ends with the one that started it."""

import os
import signal
import subprocess
import sys
import time

from tandem.core.paths import child_environment

import pytest

PARENT = """
import subprocess, sys, time
from tandem.core.processes import ends_with_this
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], preexec_fn=ends_with_this())
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux's kernel does this")
def test_a_child_ends_with_its_parent_that_is_killed():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=child_environment()
    )
    with parent:
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        with open(f"/proc/{child}/stat") as file:
            if file.read().rsplit(")", 1)[1].split()[0] == "Z":  # nobody reaps it in a container
                return
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child went on")
