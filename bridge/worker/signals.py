"""Signals for a main thread that waits in C.

Python calls the handler of a signal in the main thread, between two byte codes: not before a wait in C has ended. Such
a wait is cut short if the system hands the signal to the main thread itself; on Windows it never does, and elsewhere it
may choose another thread.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator


def may_raise() -> bool:
    """Tell whether a signal may raise KeyboardInterrupt here, between any two steps of this thread."""
    in_main = threading.current_thread() is threading.main_thread()
    return in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler


@contextlib.contextmanager
def rung_for(ring: Callable[[], object]) -> Iterator[None]:
    """Have `ring` called, in a thread of its own, at every signal that Python handles; only in the main thread.

    Parameters
    ----------
    ring : callable
        Ends the wait; the signal's handler is called then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, pythons = socket.socketpair()
    pythons.setblocking(False)

    def listen() -> None:
        while ours.recv(64):
            ring()

    thread = threading.Thread(target=listen, name='signals', daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        pythons.close()
        thread.join()
        ours.close()
