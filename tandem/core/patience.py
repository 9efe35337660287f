"""What is said while something takes long, so that nobody has to wonder whether it goes on."""

import contextlib
import threading
import time

SILENCE = 10.0
"""The most seconds without a line."""


@contextlib.contextmanager
def company(say, what, since=lambda: 0.0):
    """In it, a line says that `what` goes on, and for how long, whenever there was none for `SILENCE` seconds.

    Args:
        say: is called with each line, from another thread.
        what: gives the words.
        since: gives the time at which anything else was said last (`time.monotonic`).
    """
    began, done = time.monotonic(), threading.Event()

    def watch():
        quiet_since, lines = began, 0
        while not done.wait(SILENCE / 50):
            latest = max(began, since())
            if latest != quiet_since:
                quiet_since, lines = latest, 0
            seconds = time.monotonic() - quiet_since
            if seconds > (lines + 1) * 0.8 * SILENCE:  # a slow start, or a busy machine, takes the rest
                lines += 1
                with contextlib.suppress(OSError):  # nobody listens any more
                    say(f"... {what()} ({seconds:.0f} s)")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
