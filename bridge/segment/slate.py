"""A map beside the segment that is kept at once, and outlives whoever is killed while he keeps it.

`Slate.write` returns when the system has it: no process has to live on for that. (The PC does: like the segment it need
not survive the power.) Two places in the file take turns, so that one that is half written leaves the one before it. A
file that is of another kind, or of another user, is replaced by one that has the first record in it already. It costs
some microseconds in memory, which is where a segment is.

Each record has a number, and that of the last one is noted elsewhere: in the segment, which needs no disk. A record
that could not be written over, because the disk is full or can only be read by now, has a number that is older than
what is noted, and is not believed any more. It is noted after the record was written, or has failed, and before anybody
sees what follows from it: so who is killed in between leaves the one or the other, and both are true.
"""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from bridge.segment import whole

_HEAD = struct.Struct('<8sQII')  # mark, number, bytes, checksum of all
_MARK = b'IBLSLATE'
ROOM = 1 << 20  # bytes of each of the two places
_NOTED = 1 << 32  # numbers are noted without what is above their lowest 32 bits


def record(count: int, what: Mapping[str, Any]) -> bytes:
    """Return a map as it stands in one of the places.

    Raises
    ------
    ValueError
        It has no room there.
    """
    text = json.dumps(what).encode()
    if _HEAD.size + len(text) > ROOM:
        raise ValueError(f'{len(text)} bytes are too many to be kept')
    return _HEAD.pack(_MARK, count, len(text), zlib.crc32(text, count & 0xFFFFFFFF)) + text


def is_older(number: int, noted: int) -> bool:
    """Tell whether a record comes before the one whose number is noted.

    Examples
    --------
    >>> is_older(6, 7), is_older(7, 7), is_older(8, 7), is_older(2**32 + 1, 2**32 - 1)
    (True, False, False, False)
    """
    return (number - noted) % _NOTED >= _NOTED // 2


def is_slate(content: bytes) -> bool:
    """Tell whether a file is one of ours, if perhaps a damaged one."""
    return _MARK in (content[: len(_MARK)], content[ROOM : ROOM + len(_MARK)])


def read(content: bytes) -> tuple[int, dict[str, Any]]:
    """Return the number of the last record that was written whole, and its map; 0 and {} if there is none.

    Examples
    --------
    >>> read(record(7, {'port': 1}) + b'what was longer')
    (7, {'port': 1})
    >>> read(record(7, {'port': 1})[:-1] + b'?')
    (0, {})
    """
    last: tuple[int, dict[str, Any]] = (0, {})
    for place in (0, ROOM):
        head = content[place : place + _HEAD.size]
        if len(head) < _HEAD.size:
            continue
        mark, count, size, checksum = _HEAD.unpack(head)
        text = content[place + _HEAD.size : place + _HEAD.size + size]
        if mark != _MARK or count <= last[0] or zlib.crc32(text, count & 0xFFFFFFFF) != checksum:
            continue
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(text)
            last = (count, found) if isinstance(found, dict) else last
    return last


class Slate:
    """The writer's side. One thread at a time.

    Parameters
    ----------
    path : Path
        The file; made when something is written. What stands there is written over at the second time.
    noted : int
        The number of the last record, as it is noted.
    note : callable
        Notes another number, at once.
    """

    def __init__(self, path: Path, noted: int = 0, note: Callable[[int], object] = lambda number: None) -> None:
        self._path, self._note = path, note
        self._file: IO[bytes] | None = None
        self._count = noted

    def write(self, what: Mapping[str, Any], briefly: Callable[[], Mapping[str, Any]] | None = None) -> bool:
        """Keep a map, or else what it is briefly; False if that failed: then nothing older is believed any more."""
        is_kept = self._write(what) or (briefly is not None and self._write(briefly()))
        if not is_kept:
            self._count += 2  # beyond what may stand there: one whose writer was killed before he noted it, and ours
        self._note(self._count)
        return is_kept

    def _write(self, what: Mapping[str, Any]) -> bool:
        try:
            if self._file is None:
                self._file = self._found()
            if self._file is None:
                self._count += 2 - self._count % 2  # the first place
                whole.put(self._path, record(self._count, what))
                return True
            number = self._count + 1
            said = record(number, what)
            self._file.seek(number % 2 * ROOM)
            if self._file.write(said) == len(said):
                self._count = number  # not before: what comes next goes to the same place, and the last one stays whole
                return True
        except (OSError, ValueError, TypeError, RecursionError):
            pass
        self.close()
        return False

    def _found(self) -> IO[bytes] | None:
        """Return the file that is there, None if there is none that can be written over."""
        try:
            file = open(self._path, 'r+b', buffering=0)  # noqa: SIM115 (as long as we live)
        except (FileNotFoundError, PermissionError):  # or a worker of another user left it, in a directory of a group
            return None
        content = file.read(2 * ROOM)
        if not is_slate(content):  # of a version before this one
            file.close()
            return None
        number = read(content)[0]
        self._count = number if is_older(self._count, number) else number + (self._count - number) % _NOTED
        return file

    def close(self) -> None:
        """Let go of the file. Harmless twice; another `write` opens it again."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
