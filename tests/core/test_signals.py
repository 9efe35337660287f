"""What a signal does to a process that has work to save."""

import signal
import subprocess
import sys

import pytest

BEGIN = """
import os, signal, time
from tandem.core import signals
signals.CLEANING = 0.2
with signals.ended_by_exception(), signals.stop_request() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    while not stop.is_set: pass
"""


@pytest.mark.parametrize(
    ("goes_on", "code"),
    [("time.sleep(1)", 0), ("os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(9)", 1)],
    ids=["one", "two"],
)
def test_what_was_only_asked_to_stop_is_not_killed_for_taking_long(goes_on, code):
    finished = subprocess.run([sys.executable, "-c", f"{BEGIN}    {goes_on}"], stderr=subprocess.PIPE)
    assert finished.returncode == code and (b"Ended" in finished.stderr) == bool(code)


def test_a_second_signal_kills_though_native_code_goes_on():
    """Such as the first step's compilation: Python then calls no handler."""
    native = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
    code = f"import hashlib{BEGIN}    print(flush=True)\n    {native}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.terminate()
    assert process.returncode == -signal.SIGKILL
