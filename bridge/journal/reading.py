"""How a journal is read: entry by entry, file by file, plain or compressed, and on from one file to the next.

What stands in it, and what a reader may rely on, is in `bridge.journal`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from bridge.journal.rotation import GZ, complete_files, complete_names, parse_name

SCHEMA = 2  # of the entries
KINDS = (
    'journal', 'start', 'stop', 'command', 'outcome', 'notification', 'served', 'asked', 'replied', 'event', 'reload',
    'gap',
)  # fmt: skip
MOST = 16 << 20  # bytes of a line
_GZIP = b'\x1f\x8b'  # how such a file begins; no JSON does
LOOK = 0.2  # s between two looks at a file that grows


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
    NewerSchema
        It is a journal of a later version.
    """
    if not os.path.isfile(path) or not os.path.getsize(path):
        return False
    with open(path, 'rb') as file:
        first = file.readline(MOST)
    if first.startswith(b'{"kind":'):  # also a first line that is torn
        schema_of(entry_of(first) or {}, path)
        return False
    return first.startswith(_GZIP) or next(iter(Reading(path)), None) is None


def schema_of(entry: dict[str, Any], path: str | Path) -> int | None:
    """Return the schema that an entry says is that of what follows, None if it says none.

    Raises
    ------
    NewerSchema
        It is not known here.
    """
    schema = entry.get('schema') if entry.get('kind') in ('journal', 'start') else None
    if type(schema) is not int:
        return None
    if schema > SCHEMA:
        raise NewerSchema(path, schema)
    return schema


class NewerSchema(ValueError):
    """A file was written by a version whose entries this one may misunderstand."""

    def __init__(self, path: str | Path, schema: int) -> None:
        super().__init__(
            f'{path}: was written by a newer iblbridge (schema {schema}; this one knows {SCHEMA}); update this one.'
        )


class Reading:
    """The entries of one file of a journal, plain or compressed, and the numbers of the lines that are none.

    Parameters
    ----------
    path : str or Path
        Its file.
    follow : bool
        Go on waiting for more at its end, and with the next file when there is one.
    on_new : callable
        Called when it was begun anew, and what was in it is not kept as a complete file.

    Attributes
    ----------
    torn : list of int
        Lines that are no entries.
    found : int
        How many entries there were.
    schema : int
        Of the entries: `SCHEMA` or an older one.
    is_damaged : bool
        It is compressed, and could be read only up to somewhere.

    Raises
    ------
    OSError
        The file cannot be read; as it is gone through.
    NewerSchema
        It is of a later version; as it is gone through.
    """

    def __init__(self, path: str | Path, *, follow: bool = False, on_new: Callable[[], object] = lambda: None) -> None:
        self.path, self._follow, self._on_new = Path(path), follow, on_new
        self.torn: list[int] = []
        self.found = 0
        self.schema = 1
        self.is_damaged = False
        self._file: BinaryIO | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number, line in self._lines():
            if not line.strip():
                continue
            entry = entry_of(line)
            if entry is None:
                self.torn.append(number)
            else:
                self.found += entry['kind'] in KINDS
                self.schema = schema_of(entry, self.path) or self.schema
                if entry['kind'] != 'journal':
                    yield entry
            if not self.found and number >= 1000:
                return

    def open(self) -> None:
        """Open the file now, so that what is renamed from then on is read all the same."""
        if self._file is None:
            self._file = _opened(self.path)

    def close(self) -> None:
        """Close the file; harmless twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield number and text of each line; with `follow` also of the files that come after."""
        try:
            self.open()
            before = self._others() if self._follow else set()
            while True:
                first = b''
                for number, line in self._lines_of_one():
                    first = first or line
                    yield number, line
                if not self._follow or self.is_none:
                    return
                self.close()
                self.open()  # before one looks what came in between: it may be renamed at any time
                known, before = before, self._others()
                is_kept = False
                for name in complete_names(before - known, self.path.name):
                    with contextlib.closing(Reading(self.path.with_name(name))) as between:
                        between.open()
                        for number, line in between._lines_of_one():
                            if number == 1 and line == first:  # this is what was just read
                                is_kept = True
                                break
                            yield number, line
                if not is_kept:
                    self._on_new()
        finally:
            self.close()

    def _others(self) -> set[str]:
        """Return the names of the complete files, without ``.gz``, but not of the one that is open."""
        assert self._file is not None
        own, found = os.fstat(self._file.fileno()), set()
        for path in complete_files(self.path):
            with contextlib.suppress(OSError):  # it was compressed meanwhile: it is none that is open
                if os.path.samestat(os.stat(path), own):
                    continue
            found.add(path.name.removesuffix(GZ))
        return found

    def _lines_of_one(self) -> Iterator[tuple[int, bytes]]:
        """Yield the lines of one file; of one that is half written the rest is waited for, if more can come."""
        number, rest, is_over = 0, b'', not self._follow
        assert self._file is not None
        while True:
            piece = self._read(self._file)
            rest += piece
            if len(rest) > MOST:  # no entry is so long; it is read to its end, but not kept
                rest = b'\0' + rest[-1:]
                if not self.found:  # nor is this a journal: it may have no end, as /dev/zero
                    yield number + 1, rest
                    return
            if rest.endswith(b'\n') or (rest and not piece and is_over):
                number += 1
                yield number, rest
                rest = b''
            elif not piece and (is_over or self.is_none):
                return
            elif not piece and _was_begun_anew(self.path, self._file):
                is_over = True  # after what came to its end meanwhile
            elif not piece:
                time.sleep(LOOK)

    def _read(self, file: BinaryIO) -> bytes:
        try:
            return file.readline(MOST + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self.is_damaged = True
            return b''
        except OSError as e:
            e.filename = self.path
            raise

    @property
    def is_none(self) -> bool:
        """bool: what was read has lines, and not one of them is a journal's."""
        return bool(self.torn) and not self.found


def _opened(path: Path) -> BinaryIO:
    """Open a file of a journal; of a complete one that was compressed meanwhile, the compressed one."""
    try:
        file = open(path, 'rb')  # noqa: SIM115 (it is returned)
    except FileNotFoundError:
        if parse_name(path.name) is None or path.suffix == GZ:
            raise
        file = open(path.with_name(path.name + GZ), 'rb')  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode) or file.peek(2)[:2] != _GZIP:
        return file
    file.close()
    return cast(BinaryIO, gzip.open(file.name, 'rb'))


def _was_begun_anew(path: str | Path, file: BinaryIO) -> bool:
    """Tell whether another file stands at a path by now, or the same one was cut."""
    here = os.fstat(file.fileno())
    try:
        there = os.stat(path)
    except OSError:  # moved away: what has it open still may write to it
        return False
    return not os.path.samestat(here, there) or (stat.S_ISREG(here.st_mode) and here.st_size < file.tell())
