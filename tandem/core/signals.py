"""Signals that ask a process to stop."""

import contextlib
import os
import signal
import sys
import threading
import time

STOPPING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
"""Ctrl-C, kill, and a terminal that is closed (which Windows does not have)."""

CLEANING = 10.0
"""How many seconds a process that a signal ends has to clean up behind it."""


_taken = []
"""The signals that only asked to stop (`stop_request`)."""


class Ended(BaseException):
    """A signal ends the process, once all contexts have cleaned up behind them."""


@contextlib.contextmanager
def ended_by_exception():
    """A context in which the first of `STOPPING` raises `Ended`; a second one, or `CLEANING`, kills.

    It gives a list of the signals that came: one may show as another exception, for an extension that is being imported
    turns it into an ImportError.
    """
    came, hook = [], sys.unraisablehook
    before = {number: signal.getsignal(number) for number in STOPPING}
    handled = [one for one in STOPPING if before[one] in (signal.SIG_DFL, signal.default_int_handler)]  # not nohup's
    reading, writing = os.pipe()

    def end(number, frame):
        came.append(number)
        for other in handled:
            signal.signal(other, signal.SIG_DFL)
        raise Ended

    def watch():
        """Python calls `end` only between two instructions, but notes the signal at once, though native code runs."""
        noted, taken = 0, len(_taken)
        while number := os.read(reading, 1):
            noted += number[0] in handled
            # The handler alone does not tell: one that only asked to stop may have put `end` back before this is read.
            if came or (signal.getsignal(number[0]) is end and noted > len(_taken) - taken):
                time.sleep(CLEANING)
                os.kill(os.getpid(), signal.SIGKILL)
        os.close(reading)

    def unraisable(lost):
        """Where an exception cannot be passed on, such as in a destructor, Python calls this."""
        if isinstance(lost.exc_value, Ended):
            os.kill(os.getpid(), came[0])
        hook(lost)

    sys.unraisablehook = unraisable
    os.set_blocking(writing, False)
    noted = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=watch, daemon=True).start()
    for number in handled:
        signal.signal(number, end)
    try:
        yield came
    finally:
        sys.unraisablehook = hook
        for number in handled:
            signal.signal(number, signal.SIG_DFL if came else before[number])
        signal.set_wakeup_fd(noted)
        os.close(writing)


class Stop:
    """Whether a signal has asked to stop: `is_set`."""

    is_set = False


@contextlib.contextmanager
def stop_request():
    """A context that gives a `Stop`.

    In it, the first of `STOPPING` only asks to stop, so that no step is cut in two; the second one kills.
    """
    stop = Stop()
    before = {number: signal.getsignal(number) for number in STOPPING}

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number, frame):
        stop.is_set = True
        _taken.append(number)  # before `restore`, see `watch` above
        restore()

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()
