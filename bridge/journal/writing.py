"""Writes a journal; what stands in it is in `bridge.journal`.

Rules:

- Writing never holds up the dispatch: `Journal.write` puts a line into a queue, a thread of its own does the rest. What
  waits for the disk is bounded, in entries and in bytes. A line is made at once, in the thread that says it: what can
  change afterwards, or may not be kept, is not in the queue.
- The thread hands all that has come by then to the system in one piece, `PAUSE` after it was woken: a command and
  what a quick service did with it go together. In a flood it waits the longer, the more the last piece held. A kill
  loses at most what was in the queue. Once a second it is brought to the disk. A line that was torn by a crash ends at
  the next start; readers skip it.
- While the disk takes something, a queue that is more than half full is `Journal.is_pressed`: who can wait should.
- When the disk or the queue is full, that is said (once a minute), counted, and the rig goes on.
- A file that was moved or removed is begun anew, so that nothing is written to where nobody finds it. When a file is
  complete, and what becomes of it then, is in `bridge.journal.rotation`.
- Tokens are never written, whatever is passed: `bridge.discretion` says what of a message may be.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any

from bridge import discretion
from bridge.journal.compression import Compressing
from bridge.journal.entry import to_line
from bridge.journal.reading import MOST, SCHEMA, entry_of, is_foreign
from bridge.journal.rotation import AGAIN, NEVER, Rotation, Turns, put_aside
from bridge.wall import wall

log = logging.getLogger(__name__)

DEPTH = 100_000  # entries in the queue
BLOCK = 1 << 18  # bytes that are handed to the system at a time, or one entry
STUCK = 0.5  # s: a disk that takes nothing for so long is not waited for
SYNC_EVERY = 1.0  # s
PAUSE = 0.0002  # s before a write, for each entry in the last one: many are cheaper in one
LONGEST_PAUSE = 0.005  # s
SAY_EVERY = 60.0  # s: how often a disk that fails is worth a line in the log
REST = 0.005  # s between two pieces of a file that is compressed

_Said = tuple[int, int, bytes]  # when, by both clocks, and the line


class Journal:
    """Appends entries to a file, in a thread of its own.

    Parameters
    ----------
    path : str or Path
        Made if there is none.
    depth, most : int
        How many entries, of how many bytes, may wait for the disk.
    rotation : Rotation, optional
        When a file is complete; without it never.

    Attributes
    ----------
    lost : int
        How many entries could not be written so far.

    Raises
    ------
    OSError
        The file cannot be opened.
    """

    def __init__(
        self, path: str | Path, depth: int = DEPTH, most: int = MOST, rotation: Rotation | None = None
    ) -> None:
        self.path, self._most = Path(path), most
        self.lost = 0
        self._gap = 0  # lost since the last entry that was written
        self._quiet_until = -SAY_EVERY
        self._counting = threading.Lock()
        self._turns, self._turn_at = Turns(rotation), 0.0
        self._file, self._is_file, self._is_new, self._torn = -1, False, False, False
        self._open()
        self._compressing = Compressing(self.path) if rotation is not None and self._is_file else None
        self._depth = depth
        self._queue: list[_Said] = []
        self._entries = self._waiting = 0  # in the queue or at the disk, and their bytes
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._sleeps = False  # the thread, until the bell
        self._at_disk = 0.0  # since when, s; 0.0: not now
        self._closed = False
        self._thread = threading.Thread(target=self._run, name='journal', daemon=True)
        self._thread.start()

    def write(self, kind: str, **entry: Any) -> None:
        """Append an entry; returns at once, never raises."""
        self.put(kind, entry)

    def put(self, kind: str, entry: Mapping[str, Any]) -> None:
        """Append an entry that is a mapping already, as `write`."""
        self.put_line(to_line, kind, discretion.entry(entry))

    def put_line(self, line_of: Callable[..., bytes], *what: Any) -> None:
        """Append the line that a function of `bridge.journal.entry` makes of this and the moment, as `write`."""
        now, at = time.perf_counter_ns(), time.time_ns()
        try:
            said = line_of(*what, now, wall(at))
        except Exception as error:  # an entry that JSON cannot express
            self._lose(str(error))
            return
        with self._counting:
            room = not self._closed and self._entries < self._depth and self._waiting + len(said) <= self._most
            if room:
                self._entries += 1
                self._waiting += len(said)
                self._queue.append((now, at, said))
                if self._sleeps:
                    self._wake()
        if not room:
            self._lose('more is written than the disk can take')

    def is_pressed(self) -> bool:
        """Tell whether who can wait should: more than half of the queue is full, and the disk does take something."""
        if self._entries <= self._depth // 2 and self._waiting <= self._most // 2:
            return False
        since = self._at_disk
        return not since or time.monotonic() - since < STUCK

    def close(self, timeout: float = 2.0) -> None:
        """Write what is queued and close the file; takes `timeout` (s) at most. Harmless twice."""
        if not self._closed:
            with self._counting:
                self._closed = True
                self._wake()
            self._thread.join(timeout)
            if self._thread.is_alive():
                left = self._entries
                log.error('the journal %s takes nothing: up to %d of its last entries are lost', self.path, left)

    def _wake(self) -> None:
        self._sleeps = False
        self._bell.put(None)

    def _lose(self, reason: str, count: int = 1) -> None:
        with self._counting:
            self.lost += count
            self._gap += count
            silent = time.monotonic() < self._quiet_until
            if not silent:
                self._quiet_until = time.monotonic() + SAY_EVERY
        if not silent:
            log.error('the journal %s cannot be written: %s; the rig goes on without it', self.path, reason)

    def _run(self) -> None:
        synced = time.monotonic()
        dirty, going, pause = False, True, PAUSE
        while going:
            rest = math.inf if self._compressing is None else max(self._compressing.rest(), REST)
            rest = min(rest, SYNC_EVERY) if dirty else rest
            said, size, going = self._next(None if rest == math.inf else rest, pause)
            pause = min(PAUSE * max(1, len(said)), LONGEST_PAUSE)
            for block, held in _blocks(said, size):
                self._at_disk = time.monotonic()
                for part in _pieces(block, self._turns, self._size):
                    self._append(part)
                self._at_disk = 0.0
                with self._counting:
                    self._entries -= len(block)
                    self._waiting -= held
                dirty = True
            if dirty and time.monotonic() - synced >= SYNC_EVERY:
                self._sync()
                synced, dirty = time.monotonic(), False
            if self._compressing is not None and going:
                self._compressing.step()
        with contextlib.suppress(OSError):  # the last ones may be lost, the stop among them: it is no kill
            self._put_gap(time.perf_counter_ns(), time.time_ns())
        self._sync()
        if self._compressing is not None:
            self._compressing.close()
        if self._file >= 0:
            os.close(self._file)

    def _next(self, timeout: float | None, pause: float) -> tuple[list[_Said], int, bool]:
        """Wait for what is said, and return all that has been by then and its bytes; False with the last."""
        with self._counting:
            self._sleeps = not self._queue and not self._closed
        if self._sleeps:
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=timeout)
        if self._queue and not self._closed:
            time.sleep(pause)
        with self._counting:
            said, self._queue = self._queue, []
            self._sleeps = False
            return said, self._waiting, not self._closed  # nothing is at the disk now

    def _append(self, block: list[_Said]) -> None:
        now, at, _ = block[0]
        written = 0  # lines
        data = b''.join([text for _, _, text in block])
        try:
            self._find_place(at, len(data))
            self._put_head(now, at)
            self._put_gap(now, at)
            for done in self._put(data):
                written = done
        except Exception as error:  # a full disk
            self._lose(str(error), len(block) - written)

    def _put_head(self, now: int, at: int) -> None:
        if self._is_new:
            from bridge import __version__

            for _ in self._put(to_line('journal', {'schema': SCHEMA, 'version': __version__}, now, wall(at))):
                pass
            self._is_new = False

    def _put_gap(self, now: int, at: int) -> None:
        if gap := self._gap:
            for _ in self._put(to_line('gap', {'lost': gap}, now, wall(at))):
                pass
            with self._counting:
                self._gap -= gap

    def _put(self, lines: bytes) -> Iterator[int]:
        """Write lines, and yield how many of them have been, as they are."""
        data = b'\n' * self._torn + lines
        torn, at = len(data) - len(lines), 0
        while at < len(data):
            at += os.write(self._file, data[at:] if at else data)
            self._torn = not data[at - 1 : at].endswith(b'\n')
            yield data.count(b'\n', torn, at)

    def _open(self) -> None:
        own = getattr(os, 'O_CLOEXEC', 0) | getattr(os, 'O_BINARY', 0)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | own, 0o600)
        self._here = os.fstat(self._file)
        self._is_file, self._is_new = stat.S_ISREG(self._here.st_mode), not self._here.st_size
        self._torn = not _ends_with_newline(self._file)
        self._turns.begin(None if self._is_new or not self._is_file else _first_moment(self._file))

    def _size(self) -> int:
        """Return how many bytes the file has; 0 if there is none, or if that does not matter."""
        matters = self._file >= 0 and self._is_file and self._turns.most < NEVER
        return os.fstat(self._file).st_size if matters else 0

    def _find_place(self, at: int, more: int) -> None:
        """Have the file open that stands at the path; a new one if what is there is complete."""
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
            return not os.path.samestat(os.stat(self.path), self._here)
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def _reopen(self) -> None:
        if os.path.exists(self.path) and is_foreign(self.path):
            raise OSError('another file has taken its place, which is no journal')
        old = self._file
        self._open()
        if old >= 0:
            os.close(old)
            log.warning('the journal %s was moved or removed: it goes on in a new file', self.path)

    def _turn(self) -> None:
        """Put the complete file aside and begin the next one; if that fails, go on with it and try again later."""
        self._sync()
        os.close(self._file)  # Windows renames nothing that is open
        self._file = -1
        try:
            if self._turns.day is not None:
                put_aside(self.path, self._turns.day)
        except OSError as e:
            self._turn_at = time.monotonic() + AGAIN
            log.error('the journal %s cannot be rotated: %s; it goes on in the same file', self.path, e)
        self._open()
        if self._compressing is not None:
            self._compressing.look()

    def _sync(self) -> None:
        self._at_disk = time.monotonic()
        with contextlib.suppress(OSError):  # a pipe, or a disk whose fault the next write reports
            os.fsync(self._file)
        self._at_disk = 0.0


def _blocks(said: list[_Said], size: int) -> Iterator[tuple[list[_Said], int]]:
    """Yield what is said, a block's worth at a time, and how many bytes that has; what was yielded is let go.

    Parameters
    ----------
    said : list
        All of it; taken away from.
    size : int
        How many bytes it has.
    """
    while size > BLOCK:
        count = held = 0
        while held < BLOCK:
            held += len(said[count][2])
            count += 1
        yield said[:count], held
        del said[:count]
        size -= held
    if said:
        yield said, size


def _pieces(block: list[_Said], turns: Turns, size: Callable[[], int]) -> Iterator[list[_Said]]:
    """Yield what is said, in pieces that belong to one file each.

    Parameters
    ----------
    block : list
        All of it.
    turns : Turns
        Tells when the file of a piece is complete; asked anew after each.
    size : callable
        Returns how many bytes the file has by now.
    """
    while block:
        turns.see(block[0][1])
        late = block[-1][1] >= turns.end and block[0][1] < turns.end
        count = next(i for i, (_, at, _) in enumerate(block) if at >= turns.end) if late else len(block)
        if turns.most < NEVER:
            room = turns.most - size()
            room = room if len(block[0][2]) <= room else turns.most  # the first one begins a new file
            ends = accumulate(len(text) for _, _, text in block[:count])
            count = max(1, sum(1 for _ in takewhile(lambda end: end <= room, ends)))  # noqa: B023
        yield block[:count]
        block = block[count:]


def _first_moment(file: int) -> int:
    """Return when the first entry of a file was written, ns since 1970; if it does not say, when the last was."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, OverflowError):
        os.lseek(file, 0, os.SEEK_SET)
        entry = entry_of(os.read(file, BLOCK).partition(b'\n')[0])
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
