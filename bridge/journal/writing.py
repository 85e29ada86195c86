"""Writes a journal; what stands in it is in `bridge.journal`.

Rules:

- Writing never holds up the dispatch: `Journal.write` puts a line into a queue, a thread of its own does the rest. What
  waits for the disk is bounded, in entries and in bytes. A line is made at once, in the thread that says it: what can
  change afterwards, or may not be kept, is not in the queue.
- The thread hands all that has come by then to the system in one piece, `PAUSE` after it was woken: a command and
  what a quick service did with it go together. In a flood it waits the longer, the more the last piece held. A kill
  loses at most what was in the queue. Once a second it is brought to the disk.
- While the disk takes something, a queue that is more than half full is `Journal.is_pressed`: who can wait should.
- When the disk or the queue is full, that is said (once a minute), counted, and the rig goes on.
- Into which file it goes is in `bridge.journal.present`.
- Tokens are never written, whatever is passed: `bridge.discretion` says what of a message may be.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bridge import discretion
from bridge.journal.entry import to_line
from bridge.journal.present import PresentFile, Said
from bridge.journal.reading import MOST
from bridge.journal.rotation import Rotation
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
        self._file = PresentFile(self.path, rotation)
        self._depth = depth
        self._queue: list[Said] = []
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
        synced, compressing = time.monotonic(), self._file.compressing
        dirty, going, pause = False, True, PAUSE
        while going:
            rest = math.inf if compressing is None else max(compressing.rest(), REST)
            rest = min(rest, SYNC_EVERY) if dirty else rest
            said, size, going = self._next(None if rest == math.inf else rest, pause)
            pause = min(PAUSE * max(1, len(said)), LONGEST_PAUSE)
            for block, held in _blocks(said, size):
                self._at_disk = time.monotonic()
                for part in self._file.pieces(block):
                    self._append(part)
                self._at_disk = 0.0
                with self._counting:
                    self._entries -= len(block)
                    self._waiting -= held
                dirty = True
            if dirty and time.monotonic() - synced >= SYNC_EVERY:
                self._sync()
                synced, dirty = time.monotonic(), False
            if compressing is not None and going:
                compressing.step()
        with contextlib.suppress(OSError):  # the last ones may be lost, the stop among them: it is no kill
            self._put_gap(time.perf_counter_ns(), time.time_ns())
        self._sync()
        self._file.close()

    def _next(self, timeout: float | None, pause: float) -> tuple[list[Said], int, bool]:
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

    def _append(self, block: list[Said]) -> None:
        now, at, _ = block[0]
        written = 0  # lines
        data = b''.join([text for _, _, text in block])
        try:
            self._file.make_ready(now, at, len(data))
            self._put_gap(now, at)
            for done in self._file.put(data):
                written = done
        except Exception as error:  # a full disk
            self._lose(str(error), len(block) - written)

    def _put_gap(self, now: int, at: int) -> None:
        if gap := self._gap:
            for _ in self._file.put(to_line('gap', {'lost': gap}, now, wall(at))):
                pass
            with self._counting:
                self._gap -= gap

    def _sync(self) -> None:
        self._at_disk = time.monotonic()
        self._file.sync()
        self._at_disk = 0.0


def _blocks(said: list[Said], size: int) -> Iterator[tuple[list[Said], int]]:
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
