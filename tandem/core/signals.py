"""Signals that ask a process to stop."""

import contextlib
import signal

STOPPING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
"""Ctrl-C, kill, and a terminal that is closed (which Windows does not have)."""


class Ended(BaseException):
    """The signal `number` ends the process, once all contexts have cleaned up behind them."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


def end_by_exception():
    """Let `STOPPING` signals raise `Ended`, but Ctrl-C, which raises an exception already; a second one kills."""

    def end(number, frame):
        signal.signal(number, signal.SIG_DFL)
        raise Ended(number)

    for number in STOPPING:
        if signal.getsignal(number) == signal.SIG_DFL:  # and not nohup's
            signal.signal(number, end)


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
        restore()

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()
