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
event         the event's body as in iblbridge.h: ``event``, ``service``, ``client``, ``data``
gap           ``lost``: so many entries are missing here, because the disk was full or too slow
============  =========================================================================================================

Text is UTF-8 as it was said; half a surrogate pair, which UTF-8 cannot say, is JSON's escape for it.

Rules:

- Writing never holds up the dispatch: `Journal.write` puts a line into a queue, a thread of its own does the rest. What
  waits for the disk is bounded, in entries and in bytes.
- Each line is handed to the system as soon as the thread gets it, so a kill loses at most what was in the queue; once a
  second it is brought to the disk. A line that was torn by a crash ends at the next start; readers skip it.
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
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from bridge import discretion

log = logging.getLogger(__name__)

SCHEMA = 2  # of the entries; what a reader of an older one knows keeps its meaning
KINDS = ('start', 'stop', 'command', 'outcome', 'notification', 'event', 'gap')
DEPTH = 10_000  # entries in the queue
MOST = 16 << 20  # bytes in the queue, and so of a line
SYNC_EVERY = 1.0  # s
LOOK = 0.2  # s between two looks at a file that grows
SAY_EVERY = 60.0  # s: how often a disk that fails is worth a line in the log


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
        self._queue: queue.Queue[tuple[int, str, bytes] | None] = queue.Queue(depth)
        self._waiting = 0  # bytes in the queue
        self._closed = False
        self._thread = threading.Thread(target=self._run, name='journal', daemon=True)
        self._thread.start()

    def write(self, kind: str, **entry: Any) -> None:
        """Append an entry; returns at once, never raises."""
        now, wall = time.perf_counter_ns(), _wall()
        try:
            line = _line({'kind': kind, **discretion.entry(entry), 'time': now, 'wall': wall})
            with self._counting:
                if self._closed or self._waiting + len(line) > self._most:
                    raise queue.Full
                self._queue.put_nowait((now, wall, line))
                self._waiting += len(line)
        except queue.Full:
            self._lose('more is written than the disk can take')
        except Exception as error:  # an entry that JSON cannot express
            self._lose(str(error))

    def close(self, timeout: float = 2.0) -> None:
        """Write what is queued and close the file; takes `timeout` (s) at most. Harmless twice."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=timeout)
            self._thread.join(timeout)
            if self._thread.is_alive():
                left = self._queue.qsize() + 1  # and the one that the thread is at
                log.error('the journal %s takes nothing: up to %d of its last entries are lost', self.path, left)

    def _lose(self, reason: str) -> None:
        with self._counting:
            self.lost += 1
            self._gap += 1
            silent = time.monotonic() < self._quiet_until
            if not silent:
                self._quiet_until = time.monotonic() + SAY_EVERY
        if not silent:
            log.error('the journal %s cannot be written: %s; the rig goes on without it', self.path, reason)

    def _run(self) -> None:
        synced = time.monotonic()
        dirty = False
        while True:
            try:
                entry = self._queue.get(timeout=SYNC_EVERY if dirty else None)
                if entry is None:
                    break
                self._append(*entry)
                with self._counting:
                    self._waiting -= len(entry[2])
                dirty = True
            except queue.Empty:
                pass
            if dirty and time.monotonic() - synced >= SYNC_EVERY:
                self._sync()
                synced, dirty = time.monotonic(), False
        with contextlib.suppress(OSError):  # the last ones may be lost, the stop among them: it is no kill
            self._put_gap(time.perf_counter_ns(), _wall())
        self._sync()
        os.close(self._file)

    def _append(self, now: int, wall: str, line: bytes) -> None:
        try:
            self._put_gap(now, wall)
            self._put(line)
        except Exception as error:  # a full disk
            self._lose(str(error))

    def _put_gap(self, now: int, wall: str) -> None:
        if gap := self._gap:
            self._put(_line({'kind': 'gap', 'lost': gap, 'time': now, 'wall': wall}))
            with self._counting:
                self._gap -= gap

    def _put(self, line: bytes) -> None:
        data = b'\n' * self._torn + line
        while data:
            written = os.write(self._file, data)
            self._torn = not data[:written].endswith(b'\n')
            data = data[written:]

    def _sync(self) -> None:
        with contextlib.suppress(OSError):  # a pipe, or a disk whose fault the next write reports
            os.fsync(self._file)


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, default=str, ensure_ascii=False).encode('utf-8', 'backslashreplace') + b'\n'


def entry_of(line: bytes) -> dict[str, Any] | None:
    """Return the entry that a line of a journal is, None if it is none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get('kind'), str) else None


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


def _wall() -> str:
    return datetime.now().astimezone().isoformat(timespec='milliseconds')


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
