"""One module a command; each imports what it needs when it runs."""

import sys

_before = sys.excepthook


def _hook(kind, error, trace):
    """Ctrl-C ends a command without a traceback, also while Python still imports."""
    if kind is not KeyboardInterrupt:
        _before(kind, error, trace)


sys.excepthook = _hook
