"""Signals and the processes that are started."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

_UNHEARD = {signal.SIGINT, signal.SIGTERM}


@contextmanager
def children_hear_no_signals() -> Iterator[None]:
    """Processes that are started in the block never hear Ctrl-C and SIGTERM; what they mean is for this one to decide.

    Both often go to a whole group of processes. Handlers would not do: a child has none until it is up, and Lightning
    sets its own for SIGTERM. What arrives here meanwhile is heard after the block.
    """
    # Started inside the block, multiprocessing's helper would unblock the signals.
    resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _UNHEARD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
