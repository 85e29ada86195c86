"""The journal: what was commanded and what became of it, as JSON Lines, one object a line.

Every entry has ``kind``, ``time`` (ns of the segment's clock) and ``wall`` (ISO 8601 with offset); what else, by kind:

============  =========================================================================================================
start         a worker begins: ``schema`` (`SCHEMA`), ``version`` (of iblbridge), ``segment``, ``pid``, ``settings``,
              ``services`` (each with its settings)
stop          it ends in order: ``reason``, such as SIGINT; a start that follows neither a stop nor a gap follows a kill
command       ``command_id``, ``message``, ``client`` (who sent it; of the worker's own commands: on whose behalf),
              ``services`` (as addressed, "" for all), ``args``, ``sent``
outcome       the response body as in iblbridge.h, with the same ``command_id`` and ``client``
notification  the same, of a command that nobody waits for
asked         what a master asked of a listener: ``command_id``, ``message``, ``service`` (the listener), ``client``
              (the program that serves it, "" if none is known yet), ``master``, ``args``
replied       what it was told, with the same ``command_id``: ``ok``, ``error``, ``data`` (the reply)
event         the event's body as in iblbridge.h: ``event``, ``service``, ``client``, ``data``
gap           ``lost``: so many entries are missing here, because the disk was full or too slow
============  =========================================================================================================

Text is UTF-8 as it was said; half a surrogate pair, which UTF-8 cannot say, is JSON's escape for it.

Rules:

- Writing never holds up the dispatch: `Journal.write` puts a line into a queue, a thread of its own does the rest. What
  waits for the disk is bounded, in entries and in bytes. A line is made at once, in the thread that says it: what can
  change afterwards, or may not be kept, is not in the queue.
- The thread hands all that has come by then to the system in one piece: at once when it is quiet, and `PAUSE` after the
  last one when it is not. A kill loses at most what was in the queue. Once a second it is brought to the disk. A line
  that was torn by a crash ends at the next start; readers skip it.
- While the disk takes something, a queue that is more than half full is `Journal.is_pressed`: who can wait should.
- When the disk or the queue is full, that is said (once a minute), counted, and the rig goes on.
- Tokens are never written, whatever is passed: `bridge.discretion` says what of a message may be.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from bridge import discretion
from bridge.entry import to_line
from bridge.wall import wall

log = logging.getLogger(__name__)

SCHEMA = 2  # of the entries; what a reader of an older one knows keeps its meaning
KINDS = ('start', 'stop', 'command', 'outcome', 'notification', 'asked', 'replied', 'event', 'gap')
DEPTH = 100_000  # entries in the queue
MOST = 16 << 20  # bytes in the queue, and so of a line
BLOCK = 1 << 18  # bytes that are handed to the system at a time, or one entry
STUCK = 0.5  # s: a disk that takes nothing for so long is not waited for
SYNC_EVERY = 1.0  # s
LOOK = 0.2  # s between two looks at a file that grows
PAUSE = 0.0002  # s between two writes: many entries are cheaper in one
SAY_EVERY = 60.0  # s: how often a disk that fails is worth a line in the log

_Said = tuple[int, int, bytes]  # when, by both clocks, and the line


class Journal:
    """Appends entries to a file, in a thread of its own.

    Parameters
    ----------
    path : str or Path
        Made if there is none.
    depth, most : int
        How many entries, of how many bytes, may wait for the disk.

    Attributes
    ----------
    lost : int
        How many entries could not be written so far.

    Raises
    ------
    OSError
        The file cannot be opened.
    """

    def __init__(self, path: str | Path, depth: int = DEPTH, most: int = MOST) -> None:
        self.path, self._most = Path(path), most
        self.lost = 0
        self._gap = 0  # lost since the last entry that was written
        self._quiet_until = -SAY_EVERY
        self._counting = threading.Lock()
        own = getattr(os, 'O_CLOEXEC', 0) | getattr(os, 'O_BINARY', 0)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | own, 0o600)
        self._torn = not _ends_with_newline(self._file)
        self._queue: queue.SimpleQueue[_Said | None] = queue.SimpleQueue()
        self._depth = depth
        self._entries = self._waiting = 0  # in the queue or at the disk, and their bytes
        self._at_disk = 0.0  # since when, s; 0.0: not now
        self._closed = False
        self._thread = threading.Thread(target=self._run, name='journal', daemon=True)
        self._thread.start()

    def write(self, kind: str, **entry: Any) -> None:
        """Append an entry; returns at once, never raises."""
        self.put(kind, entry)

    def put(self, kind: str, entry: dict[str, Any]) -> None:
        """Append an entry that is a dict already, as `write`."""
        now, at = time.perf_counter_ns(), time.time_ns()
        try:
            said = to_line(kind, discretion.entry(entry), now, wall(at))
        except Exception as error:  # an entry that JSON cannot express
            self._lose(str(error))
            return
        with self._counting:
            room = not self._closed and self._entries < self._depth and self._waiting + len(said) <= self._most
            if room:
                self._entries += 1
                self._waiting += len(said)
                self._queue.put((now, at, said))
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
            self._closed = True
            self._queue.put(None)
            self._thread.join(timeout)
            if self._thread.is_alive():
                left = self._entries
                log.error('the journal %s takes nothing: up to %d of its last entries are lost', self.path, left)

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
        dirty, going = False, True
        while going:
            block, going = self._next(SYNC_EVERY if dirty else None)
            if block:
                self._at_disk = time.monotonic()
                self._append(block)
                self._at_disk = 0.0
                time.sleep(PAUSE)
                with self._counting:
                    self._entries -= len(block)
                    self._waiting -= sum(len(text) for _, _, text in block)
                dirty = True
            if dirty and time.monotonic() - synced >= SYNC_EVERY:
                self._sync()
                synced, dirty = time.monotonic(), False
        with contextlib.suppress(OSError):  # the last ones may be lost, the stop among them: it is no kill
            self._put_gap(time.perf_counter_ns(), time.time_ns())
        self._sync()
        os.close(self._file)

    def _next(self, timeout: float | None) -> tuple[list[_Said], bool]:
        """Wait for what is said, and return all that has been by then, a block's worth; False with the last."""
        block: list[_Said] = []
        size = 0
        with contextlib.suppress(queue.Empty):
            said = self._queue.get(timeout=timeout)
            while said:
                block.append(said)
                size += len(said[2])
                if size >= BLOCK:
                    return block, True
                said = self._queue.get_nowait()
            return block, False
        return block, True

    def _append(self, block: list[_Said]) -> None:
        now, at, _ = block[0]
        written = 0  # lines
        try:
            self._put_gap(now, at)
            for done in self._put(b''.join([text for _, _, text in block])):
                written = done
        except Exception as error:  # a full disk
            self._lose(str(error), len(block) - written)

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

    def _sync(self) -> None:
        self._at_disk = time.monotonic()
        with contextlib.suppress(OSError):  # a pipe, or a disk whose fault the next write reports
            os.fsync(self._file)
        self._at_disk = 0.0


def entry_of(line: bytes) -> dict[str, Any] | None:
    """Return the entry that a line of a journal is, None if it is none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get('kind'), str) else None


def is_foreign(path: str | Path) -> bool:
    """Tell whether a file holds something that is no journal, so that nothing may be appended to it.

    Raises
    ------
    OSError
        It cannot be read.
    """
    if not os.path.isfile(path) or not os.path.getsize(path):
        return False
    with open(path, 'rb') as file:
        if file.read(8) == b'{"kind":':  # also a first line that is torn
            return False
    return next(iter(Reading(path)), None) is None


class Reading:
    """The entries of a journal, and the numbers of the lines that are none.

    Parameters
    ----------
    path : str or Path
        Its file.
    follow : bool
        Go on waiting for more at its end, and begin anew if the file does.
    on_new : callable
        Called when it has begun anew.

    Attributes
    ----------
    torn : list of int
        Lines that are no entries.
    found : int
        How many entries there were.

    Raises
    ------
    OSError
        The file cannot be read; as it is gone through.
    """

    def __init__(self, path: str | Path, *, follow: bool = False, on_new: Callable[[], object] = lambda: None) -> None:
        self.path, self._follow, self._on_new = path, follow, on_new
        self.torn: list[int] = []
        self.found = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number, line in self._lines():
            if not line.strip():
                continue
            entry = entry_of(line)
            if entry is None:
                self.torn.append(number)
            else:
                self.found += entry['kind'] in KINDS
                yield entry
            if not self.found and number >= 1000:
                return

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield number and text of each line; of one that is half written the rest is waited for, if more can come."""
        number, rest, file = 0, b'', open(self.path, 'rb')  # noqa: SIM115 (another one may take its place)
        try:
            while True:
                piece = self._read(file)
                rest += piece
                if len(rest) > MOST:  # no entry is so long; it is read to its end, but not kept
                    rest = b'\0' + rest[-1:]
                    if not self.found:  # nor is this a journal: it may have no end, as /dev/zero
                        yield number + 1, rest
                        return
                if rest.endswith(b'\n') or (rest and not piece and not self._follow):
                    number += 1
                    yield number, rest
                    rest = b''
                elif not piece and (not self._follow or self.is_none):
                    return
                elif not piece and _was_begun_anew(self.path, file):
                    file.close()
                    number, rest, file = 0, b'', open(self.path, 'rb')  # noqa: SIM115
                    self._on_new()
                elif not piece:
                    time.sleep(LOOK)
        finally:
            file.close()

    def _read(self, file: BinaryIO) -> bytes:
        try:
            return file.readline(MOST + 1)
        except OSError as e:
            e.filename = self.path
            raise

    @property
    def is_none(self) -> bool:
        """bool: what was read has lines, and not one of them is a journal's."""
        return bool(self.torn) and not self.found


def _was_begun_anew(path: str | Path, file: BinaryIO) -> bool:
    """Tell whether another file stands at a path by now, or the same one was cut."""
    here = os.fstat(file.fileno())
    try:
        there = os.stat(path)
    except OSError:  # moved away: what has it open still may write to it
        return False
    return not os.path.samestat(here, there) or (stat.S_ISREG(here.st_mode) and here.st_size < file.tell())


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
