"""How the complete files of a journal are compressed: by the way, and so that a file is whole at any time.

- It is done in the journal's thread, a piece at a time: lines that are to be written go first.
- A file is left alone until it has been complete for `SETTLE`: another worker that writes to the same journal looks
  whether the file was renamed before it writes, and may have looked just before.
- The compressed file gets its name when it is whole and on the disk. Only then the plain one goes, and only if nothing
  was added to it meanwhile. Whoever dies in the middle leaves the plain one, or both, and the next worker does it anew.
- What fails, on a full disk for instance, leaves the plain file. It is said, and tried again later.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import time
import zlib
from collections import deque
from pathlib import Path

from bridge.journal.rotation import AGAIN, GZ, complete_files, parse_name

log = logging.getLogger(__name__)

SETTLE = 5.0  # s
PIECE = 1 << 16  # bytes that are compressed at a time: some 2 ms
_OLD = 3600.0  # s: what was not finished by then, nobody finishes


class Compression:
    """Compresses one complete file, a piece at a time.

    Parameters
    ----------
    path : pathlib.Path
        The plain file.

    Raises
    ------
    OSError
        It cannot be read, or the other one not be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f'.{path.name}{GZ}.{os.getpid()}.part')
        self._taken = 0  # bytes
        self._machine = zlib.compressobj(6, zlib.DEFLATED, 31)  # 31: as gzip writes it
        self._source = path.open('rb')
        try:
            self._target = open(self._part, 'wb', opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115
        except OSError:
            self._source.close()
            raise

    def step(self) -> bool:
        """Compress a piece; False when the compressed file stands in place of the plain one."""
        try:
            piece = self._source.read(PIECE)
            self._taken += len(piece)
            self._target.write(self._machine.compress(piece) if piece else self._machine.flush())
            if piece:
                return True
            self._target.flush()
            os.fsync(self._target.fileno())
            self._close()
            os.replace(self._part, self.path.with_name(self.path.name + GZ))
        except OSError:
            self.give_up()
            raise
        if self.path.stat().st_size == self._taken:  # else another worker had the file open: it is done once more
            self.path.unlink()
        return False

    def give_up(self) -> None:
        """Leave the plain file, and nothing else."""
        with contextlib.suppress(OSError):  # the disk may be full, and closing writes
            self._close()
        self._part.unlink(missing_ok=True)

    def _close(self) -> None:
        self._source.close()
        self._target.close()


class Compressing:
    """Compresses the complete files of a journal one after the other, also those that were left behind.

    Parameters
    ----------
    path : pathlib.Path
        The journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: deque[Path] = deque()
        self._now: Compression | None = None
        self._look_at = 0.0  # when to look for what is to be done, s of time.monotonic

    def look(self) -> None:
        """There is another one."""
        self._look_at = 0.0

    def rest(self) -> float:
        """Return for how long a `step` has nothing to do, s; infinity: until `look`."""
        return 0.0 if self._now is not None or self._waiting else max(0.0, self._look_at - time.monotonic())

    def step(self) -> None:
        """Do a piece of it, if there is something to do; what fails is said, and tried again in `AGAIN`."""
        if self.rest() > 0:
            return
        try:
            if self._now is None and not self._waiting:
                ready, too_early = _left(self._path, time.time())
                self._waiting.extend(ready)
                self._look_at = time.monotonic() + SETTLE if too_early else math.inf
            if self._now is None and self._waiting:
                self._now = Compression(self._waiting.popleft())
            if self._now is not None and not self._now.step():
                self._now = None
                self._look_at = time.monotonic() + SETTLE  # it may have to be done once more
        except FileNotFoundError:  # somebody took it away
            self._now = None
        except OSError as e:
            self._now = None
            self._waiting.clear()
            self._look_at = time.monotonic() + AGAIN
            log.error('a file of the journal %s cannot be compressed: %s; it stays as it is', self._path, e)

    def close(self) -> None:
        """Stop in the middle; the next worker does it."""
        if self._now is not None:
            self._now.give_up()
            self._now = None


def _left(path: Path, now: float) -> tuple[list[Path], bool]:
    """Return the complete files that are to be compressed, and whether it is too early for others.

    What was begun long ago and not finished is removed.
    """
    pattern = re.compile(re.escape('.') + r'(.+)' + re.escape(GZ) + r'\.[0-9]+\.part')
    for name in os.listdir(path.parent):
        parsed = parse_name(found[1]) if (found := pattern.fullmatch(name)) else None
        part = path.with_name(name)
        with contextlib.suppress(OSError):
            if parsed is not None and parsed.of == path.name and now - part.stat().st_mtime > _OLD:
                part.unlink()
    plain = [found for found in complete_files(path) if found.suffix != GZ]
    ready = [found for found in plain if _is_settled(found, now)]
    return ready, len(ready) < len(plain)


def _is_settled(path: Path, now: float) -> bool:
    try:
        stamps = path.stat()
    except OSError:
        return False
    return abs(now - max(stamps.st_mtime, stamps.st_ctime)) >= SETTLE  # the clock may have been set back
