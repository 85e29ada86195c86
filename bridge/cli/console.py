"""What a console can do to a program that has to go on: signals, a window that is closed or clicked, unread output.

`on_stop_signals` and `on_stdin_end` ask for an orderly end; `LogThread` writes the log so that no reader can hold the
program up; `go_on_when_clicked` keeps a click into a Windows console from doing so.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

MOST_LINES = 10_000  # of the log that wait for their reader
PIPE_WIDTH = 160  # columns, where there is no terminal to ask
LAST_WORDS = 1.0  # s that the rest of the log has at the end


def on_stop_signals(callback: Callable[[str], None]) -> None:
    """Have `callback` called with the reason's name when the program is to end.

    The reasons are SIGINT, SIGTERM and, where there are such, SIGHUP and SIGBREAK; on Windows also that the console's
    window is closed, or the user logs off: there are 5 s then. The callback runs in the main thread between two byte
    codes, or in a thread of its own, so it should only set a flag.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        callback(signal.Signals(number).name)

    for name in ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGBREAK'):
        number = getattr(signal, name, None)
        if number is None or (name == 'SIGHUP' and signal.getsignal(number) is signal.SIG_IGN):  # nohup
            continue
        signal.signal(number, handle)
    if sys.platform == 'win32':
        from bridge.cli.windows import on_console_end

        on_console_end(callback)


def on_stdin_end(callback: Callable[[], None]) -> None:
    """Have `callback` called, in a thread of its own, when standard input ends.

    A parent that holds the other end of the pipe thereby stops its children in an orderly way on every system, even
    when it is killed.
    """

    def watch() -> None:
        # Not through sys.stdin: a daemon thread that holds its lock when the interpreter ends is a fatal error.
        with suppress(OSError):
            if sys.platform == 'win32':
                from bridge.cli.windows import wait_for_stdin_end

                wait_for_stdin_end()
            else:
                while os.read(0, 4096):
                    pass
        callback()

    threading.Thread(target=watch, name='stdin', daemon=True).start()


def go_on_when_clicked() -> None:
    """Keep a click into the console's window from stopping what writes to it (Windows' QuickEdit), until the end."""
    if sys.platform == 'win32':
        from bridge.cli.windows import turn_quick_edit_off

        turn_quick_edit_off()


def plain_console() -> Console:
    """Return a console of rich's that shows text as it is; as wide as the terminal, COLUMNS, or `PIPE_WIDTH`."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or os.environ.get('COLUMNS', '').isdigit() else PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def own_name() -> str:
    """Return how this program can be started again from the same shell: its path, if its name is not on PATH."""
    called = Path(sys.argv[0])
    if called.stem != 'iblbridge':
        return f'{Path(sys.executable).name} -m bridge'
    found = shutil.which('iblbridge')
    return 'iblbridge' if found and Path(found).resolve() == called.resolve() else str(called)


def say(line: str) -> None:
    """Print a line in one piece: without a buffer, print() writes its end apart, and the log may come in between.

    Without a standard output, as under Windows' pythonw.exe, or if its reader is gone or its disk full, it is not said:
    a rig does not end for that.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(f'{line}\n')
        sys.stdout.flush()
    except OSError:
        give_output_up()


def give_output_up() -> None:
    """Send what is still printed nowhere, so that Python's own flush at exit does not complain about it."""
    with suppress(OSError, AttributeError, ValueError):  # no standard output, or none of the system's
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class LogThread(logging.Handler):
    """Writes the log to standard error in a thread of its own: a reader that has stopped holds nobody up.

    At most `MOST_LINES` wait; what finds no room is counted, and the next line that does says so.

    Parameters
    ----------
    descriptor : int
        Where to; duplicated.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.lost = 0
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_LINES)
        # Without Python's buffers, whose locks a thread that is stuck would take along to the end of the interpreter.
        self._stream = open(os.dup(descriptor), 'wb', buffering=0)  # noqa: SIM115
        self._thread = threading.Thread(target=self._write, name='log', daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; never waits."""
        try:
            if self.lost:
                self._lines.put_nowait(f'{self.lost} lines of this log found no reader and are lost')
                self.lost = 0
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self.lost += 1
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write what waits, for `LAST_WORDS` at most."""
        super().close()
        until = time.monotonic() + LAST_WORDS
        with suppress(queue.Full):
            self._lines.put(None, timeout=LAST_WORDS)
        self._thread.join(max(until - time.monotonic(), 0.0))

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            rest = f'{line}\n'.encode(errors='backslashreplace')
            with suppress(OSError):  # its reader is gone: the next line may have another
                while rest:
                    rest = rest[self._stream.write(rest) or 0 :]


def log_to_stderr(level: int) -> None:
    """Log as `logging.basicConfig` does, but through a `LogThread` where standard error is a file of the system."""
    if logging.getLogger().handlers:
        return
    handler: logging.Handler = logging.StreamHandler()
    with suppress(AttributeError, OSError, ValueError):
        handler = LogThread(sys.stderr.fileno())
    logging.basicConfig(level=level, handlers=[handler], format='%(asctime)s %(levelname)-7s %(message)s')
