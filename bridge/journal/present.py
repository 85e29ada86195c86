"""The present file of a journal: the one at its path, opened, found again, and put aside when it is complete.

- A file that was moved or removed is begun anew, so that nothing is written to where nobody finds it. When a file is
  complete, and what becomes of it then, is in `bridge.journal.rotation` and `bridge.journal.compression`.
- Each file begins with a line that says how it is to be read. A line that was torn by a crash ends at the next start;
  readers skip it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import accumulate, takewhile
from pathlib import Path

from bridge.journal.compression import Compressing
from bridge.journal.entry import to_line
from bridge.journal.reading import SCHEMA, entry_of, is_foreign
from bridge.journal.rotation import AGAIN, NEVER, Rotation, Turns, put_aside
from bridge.wall import wall

log = logging.getLogger(__name__)

_FIRST = 1 << 18  # bytes in which the first entry of a file is looked for

Said = tuple[int, int, bytes]
"""When a line was said, by both clocks (ns), and the line."""


class PresentFile:
    """The file at the path of a journal; in the journal's thread, but for the constructor.

    Parameters
    ----------
    path : pathlib.Path
        Made if there is none.
    rotation : Rotation, optional
        When it is complete; without it never.

    Attributes
    ----------
    compressing : Compressing or None
        Compresses the complete ones, if there are any.

    Raises
    ------
    OSError
        It cannot be opened.
    """

    def __init__(self, path: Path, rotation: Rotation | None) -> None:
        self._path = path
        self._turns, self._turn_at = Turns(rotation), 0.0
        self._file, self._is_file, self._is_new, self._torn = -1, False, False, False
        self._open()
        self.compressing = Compressing(path) if rotation is not None and self._is_file else None

    def pieces(self, block: list[Said]) -> Iterator[list[Said]]:
        """Yield what is said, in pieces that belong to one file each; where that ends is asked anew after each."""
        turns = self._turns
        while block:
            turns.see(block[0][1])
            late = block[-1][1] >= turns.end and block[0][1] < turns.end
            count = next(i for i, (_, at, _) in enumerate(block) if at >= turns.end) if late else len(block)
            if turns.most < NEVER:
                room = turns.most - self._size()
                room = room if len(block[0][2]) <= room else turns.most  # the first one begins a new file
                ends = accumulate(len(text) for _, _, text in block[:count])
                count = max(1, sum(1 for _ in takewhile(lambda end: end <= room, ends)))  # noqa: B023
            yield block[:count]
            block = block[count:]

    def make_ready(self, now: int, at: int, more: int) -> None:
        """Have the file open that stands at the path, or a new one if that is complete; with its first line.

        Parameters
        ----------
        now, at : int
            When it was said what is to be written next, by both clocks, ns.
        more : int
            How many bytes that has.
        """
        self._find_place(at, more)
        if self._is_new:
            from bridge import __version__

            for _ in self.put(to_line('journal', {'schema': SCHEMA, 'version': __version__}, now, wall(at))):
                pass
            self._is_new = False

    def put(self, lines: bytes) -> Iterator[int]:
        """Write lines, and yield how many of them have been, as they are."""
        data = b'\n' * self._torn + lines
        torn, at = len(data) - len(lines), 0
        while at < len(data):
            at += os.write(self._file, data[at:] if at else data)
            self._torn = not data[at - 1 : at].endswith(b'\n')
            yield data.count(b'\n', torn, at)

    def sync(self) -> None:
        """Bring what was written to the disk."""
        with contextlib.suppress(OSError):  # a pipe, or a disk whose fault the next write reports
            os.fsync(self._file)

    def close(self) -> None:
        """Close it; what is being compressed is left to the next worker."""
        if self.compressing is not None:
            self.compressing.close()
        self._let_go()

    def _let_go(self) -> None:
        """Close the file: whatever the system says of that, its number may be another one's from now on."""
        file, self._file = self._file, -1
        if file >= 0:
            with contextlib.suppress(OSError):
                os.close(file)

    def _open(self) -> None:
        own = getattr(os, 'O_CLOEXEC', 0) | getattr(os, 'O_BINARY', 0)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | own, 0o600)
        self._here = os.fstat(self._file)
        self._is_file, self._is_new = stat.S_ISREG(self._here.st_mode), not self._here.st_size
        self._torn = not _ends_with_newline(self._file)
        self._turns.begin(None if self._is_new or not self._is_file else _first_moment(self._file))

    def _size(self) -> int:
        """Return how many bytes the file has; 0 if there is none, nobody can tell, or it does not matter."""
        with contextlib.suppress(OSError):
            if self._file >= 0 and self._is_file and self._turns.most < NEVER:
                return os.fstat(self._file).st_size
        return 0

    def _find_place(self, at: int, more: int) -> None:
        if self._file < 0 or self._was_moved():
            self._reopen()
        if self._is_file and self._turns.is_due(self._size(), more, at):
            if time.monotonic() >= self._turn_at:
                self._turn()
            self._turns.is_due(0, more, at)

    def _was_moved(self) -> bool:
        """Tell whether another file stands at the path, or none."""
        if not self._is_file or sys.platform == 'win32':  # there nobody can move what is open
            return False
        try:
            return not os.path.samestat(os.stat(self._path), self._here)
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def _reopen(self) -> None:
        if os.path.exists(self._path) and is_foreign(self._path):
            raise OSError('another file has taken its place, which is no journal')
        was_open = self._file >= 0
        self._let_go()
        self._open()
        if was_open:
            log.warning('the journal %s was moved or removed: it goes on in a new file', self._path)

    def _turn(self) -> None:
        """Put the complete file aside and begin the next one; if that fails, go on with it and try again later."""
        self.sync()
        self._let_go()  # Windows renames nothing that is open
        try:
            if self._turns.day is not None:
                put_aside(self._path, self._turns.day)
        except OSError as e:
            self._turn_at = time.monotonic() + AGAIN
            log.error('the journal %s cannot be rotated: %s; it goes on in the same file', self._path, e)
        self._open()
        if self.compressing is not None:
            self.compressing.look()


def _first_moment(file: int) -> int:
    """Return when the first entry of a file was written, ns since 1970; if it does not say, when the last was."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, OverflowError):
        os.lseek(file, 0, os.SEEK_SET)
        entry = entry_of(os.read(file, _FIRST).partition(b'\n')[0])
        return int(datetime.fromisoformat((entry or {})['wall']).timestamp()) * 10**9
    return os.fstat(file).st_mtime_ns


def _ends_with_newline(file: int) -> bool:
    """Tell whether the last line of a file is whole; also if it is empty, or no file of the usual kind."""
    try:
        size = os.lseek(file, 0, os.SEEK_END)
        if not size:
            return True
        os.lseek(file, size - 1, os.SEEK_SET)
        return os.read(file, 1) == b'\n'
    except OSError:
        return True
