"""Processes that end with the one that started them."""

import ctypes
import os
import signal
import sys

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>


def ends_with_this():
    """A `preexec_fn` for `subprocess.Popen`: the kernel kills the new process when this one ends, even by kill -9.

    None where there is no such call: it is Linux's.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()  # loaded before the fork

    def prepare():
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended in between
            os._exit(1)

    return prepare
