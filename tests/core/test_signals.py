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


def test_what_goes_on_in_native_code_is_killed():
    """Such as the first step's compilation: Python then calls no handler."""
    # The other thread has its turn, and tells that it is so, only when the native code lets go of Python's lock.
    tell = "begun = threading.Event(); sys.setswitchinterval(1000)"
    tell += "; threading.Thread(target=lambda: (begun.wait(), print(flush=True))).start(); begun.set()"
    native = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
    code = f"import hashlib, sys, threading{BEGIN}    {tell}; {native}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.terminate()
    assert process.returncode == -signal.SIGKILL
