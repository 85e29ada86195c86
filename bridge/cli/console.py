"""What a console can do to a program that has to go on: signals, a window that is closed or clicked, unread output.

`on_stop_signals` and `on_stdin_end` ask for an orderly end; `LogThread` writes the log so that no reader can hold the
program up, and `say_aside` a line; `go_on_when_clicked` keeps a click into a Windows console from doing so.
"""

from __future__ import annotations

import copy
import logging
import os
import queue
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

MOST_LINES = 10_000  # of the log that wait for their reader
PIPE_WIDTH = 160  # columns, where there is no terminal to ask
FULL = 0.02  # s between two looks at a pipe that takes nothing
LAST_WORDS = 1.0  # s that the rest of the log has at the end


class Ended(KeyboardInterrupt):
    """A signal has asked for the end, as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let signals that ask for the end end this as Ctrl-C does: what is open is closed, and no client is lost.

    For what holds a client. In the main thread only; elsewhere signals do what they did.
    """
    before = {}

    def handle(number: int, frame: FrameType | None) -> None:
        raise Ended(number)

    if threading.current_thread() is threading.main_thread():
        for name in ('SIGTERM', 'SIGHUP', 'SIGBREAK'):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def on_hangup(callback: Callable[[str], None], ended: Callable[[str], None]) -> None:
    """Have `callback` called at SIGHUP, or `ended` if that means that our terminal is gone; nowhere on Windows.

    For a program that is to go on at the first; to be called behind `on_stop_signals`.
    """
    number = getattr(signal, 'SIGHUP', None)
    if number is None or signal.getsignal(number) is signal.SIG_IGN:  # nohup
        return
    had_terminal = _has_terminal()

    def handle(number: int, frame: FrameType | None) -> None:
        (ended if had_terminal and not _has_terminal() else callback)('SIGHUP')

    signal.signal(number, handle)


def _has_terminal() -> bool:
    """Tell whether this program belongs to a terminal that is still there."""
    try:
        os.close(os.open('/dev/tty', os.O_RDONLY | getattr(os, 'O_NOCTTY', 0)))
    except OSError:
        return False
    return True


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


def tool_name() -> str:
    """Return how the C program iblb can be started from the same shell: its path, if its name is not on PATH."""
    from bridge.native import IBLB

    return 'iblb' if shutil.which('iblb') else str(IBLB)


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


class Aside:
    """Writes lines to a file of the system in a thread of its own: a reader that has stopped holds nobody up.

    Parameters
    ----------
    stream : file
        Where to, one with a descriptor, which is duplicated.
    text : callable
        Returns what is written of what was put; in that thread.
    """

    def __init__(self, stream: TextIO, text: Callable[[Any], str] = str) -> None:
        self._text = text
        self._encoding = stream.encoding or 'utf-8'
        # Not a Queue: the collector may log in the middle of its put, in the same thread, and would wait for itself.
        self._lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # Without Python's buffers, whose locks a thread that is stuck would take along to the end of the interpreter.
        self._file = open(os.dup(stream.fileno()), 'wb', buffering=0)  # noqa: SIM115
        self._thread = threading.Thread(target=self._run, name='console', daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """int: how many lines wait."""
        return self._lines.qsize()

    def put(self, line: Any) -> bool:
        """Queue a line, and never wait; False if there is no room."""
        if self.waiting >= MOST_LINES:
            return False
        self._lines.put(line)
        return True

    def close(self) -> None:
        """Write what waits, for `LAST_WORDS` at most. Harmless twice."""
        self._lines.put(None)
        self._thread.join(LAST_WORDS)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            with suppress(OSError):  # its reader is gone: the next line may have another
                self._write(f'{self._text(line)}\n'.encode(self._encoding, 'backslashreplace'))

    def _write(self, rest: bytes) -> None:
        while rest:
            written = self._file.write(rest)
            if written is None:  # somebody has made it one that does not wait
                time.sleep(FULL)
            else:
                rest = rest[written:]


class LogThread(logging.Handler):
    """Writes the log in a thread of its own, and formats it there: a traceback reads the sources, which takes a disk.

    At most `MOST_LINES` wait; what finds no room is counted, and the next line that does says so.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.lost = 0
        self.aside = Aside(stream, self._text)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; never waits."""
        said = copy.copy(record)  # other handlers have the record, too
        try:
            said.msg, said.args = record.getMessage(), None  # as its arguments are now
        except Exception as error:
            said.msg, said.args = f'{str(record.msg)[:200]!r}: this line could not be formatted: {error!r}', None
        if self.lost and self.aside.put(f'{self.lost} lines of this log are lost, as nobody read it'):
            self.lost = 0
        if not self.aside.put(said):
            self.lost += 1

    def close(self) -> None:
        """Write what waits, for `LAST_WORDS` at most."""
        super().close()
        self.aside.close()

    def _text(self, line: str | logging.LogRecord) -> str:
        try:
            return line if isinstance(line, str) else self.format(line)
        except Exception as error:
            return f'a line of this log could not be formatted: {error!r}'


@contextmanager
def say_aside(line: str) -> Iterator[None]:
    """Print a line without waiting for who reads it, where standard output is a file of the system.

    At the end of the block it has `LAST_WORDS` more.
    """
    try:
        aside = Aside(sys.stdout)
    except (AttributeError, OSError, ValueError):
        say(line)
        yield
        return
    aside.put(line)
    try:
        yield
    finally:
        aside.close()


def log_to_stderr(level: int) -> None:
    """Log as `logging.basicConfig` does, but through a `LogThread` where standard error is a file of the system.

    What Python itself would print there, in whatever thread it is, and with a look at the sources, is logged as well.
    """
    if logging.getLogger().handlers:
        return
    handler: logging.Handler = logging.StreamHandler()
    with suppress(AttributeError, OSError, ValueError):
        handler = LogThread(sys.stderr)
        _log_what_python_prints()
    logging.basicConfig(level=level, handlers=[handler], format='%(asctime)s %(levelname)-7s %(message)s')


def _log_what_python_prints() -> None:
    def warned(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object, **__: object
    ) -> None:
        log.warning('%s:%d: %s: %s', filename, lineno, category.__name__, message)

    def unraisable(what: Any) -> None:
        _log_exception(what.err_msg or 'an exception was ignored in', what.object, what.exc_value)

    def ended(what: Any) -> None:
        if not isinstance(what.exc_value, SystemExit):
            _log_exception('a thread was ended by an exception:', what.thread and what.thread.name, what.exc_value)

    warnings.showwarning = warned
    sys.unraisablehook = unraisable
    threading.excepthook = ended


def _log_exception(what: str, where: object, error: BaseException | None) -> None:
    log.error('%s %r', what, where, exc_info=error)
