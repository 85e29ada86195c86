"""The end of the benchmark by a signal: once, in order, and all that was started is gone."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

NAMES = ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGBREAK')
PATIENCE = 10.0  # s, for processes that were started in the moment of the signal


class Ending:
    """Whether a signal has asked for the end; it raises KeyboardInterrupt once, and only while it is armed."""

    def __init__(self) -> None:
        self.signal = 0
        self.armed = False

    def arm(self) -> None:
        """From now on the first signal raises; one that has come does so at once."""
        self.armed = True
        if self.signal:
            raise KeyboardInterrupt

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        first, self.signal = not self.signal, self.signal or number
        if first and self.armed:
            raise KeyboardInterrupt


@contextmanager
def tidy() -> Iterator[tuple[Path, Ending]]:
    """Give a folder that is gone at the end, and what signals do; the handlers are then as they were.

    No signal disturbs making the folder or removing it. For the main thread.
    """
    ending = Ending()
    before = {}
    for name in NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            before[number] = signal.signal(number, ending.handle)
    try:
        with tempfile.TemporaryDirectory(prefix='iblb') as folder:
            yield Path(folder), ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def await_children() -> None:
    """Return when no child is left; each ends when its standard input does. Does nothing on Windows."""
    if sys.platform == 'win32':
        return
    until = time.monotonic() + PATIENCE
    with suppress(ChildProcessError):
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
