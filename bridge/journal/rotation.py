"""A journal over months: when its file is complete, and what the complete one is called.

The path of a journal is always its present file. What is complete stands beside it, by the day of its first entry and
a number: of ``rig0.jsonl`` that is ``rig0-2026-11-27-001.jsonl``, and soon ``rig0-2026-11-27-001.jsonl.gz``.

Rules:

- A new name comes behind all that are there, by its day and then by its number, whatever the clock says: the order of
  the names is that in which they were written. No file is overwritten.
- A day is one of this computer's time zone, from midnight to midnight. What was written before midnight, and comes to
  the disk after it, goes to the file of its day. A clock that is set back by some minutes begins no new file.
- What fails, because another program keeps the file open for instance, is said, and tried again later; the journal goes
  on in the same file. How the complete ones are compressed is in `bridge.journal.compression`.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

GZ = '.gz'
AGAIN = 60.0  # s until what failed is tried again
LEAST = 100_000  # bytes of a file that is rotated by size
NEVER = 1 << 63  # ns
_MOST_OF_A_DAY = 26 * 3600 * 10**9  # ns; the day on which summer time ends has 25 h
_SIZES = {'kb': 10**3, 'mb': 10**6, 'gb': 10**9, 'kib': 2**10, 'mib': 2**20, 'gib': 2**30}
_COMPLETE = re.compile(r'(.*)-([0-9]{4}-[0-9]{2}-[0-9]{2})-([0-9]{3,9})(|\.[^.]*)')


@dataclass(frozen=True)
class Rotation:
    """When the file of a journal is complete.

    Parameters
    ----------
    size : int
        When it would have more bytes than this; 0: when its day is over.
    """

    size: int = 0


def parse(text: str) -> Rotation:
    """Return what ``day``, or a size such as ``50MB``, means.

    Raises
    ------
    ValueError
        It is neither; the sentence says what to write.
    """
    if text.strip().lower() == 'day':
        return Rotation()
    found = re.fullmatch(r'([0-9]{1,9}) *([kmg]i?b)', text.strip().lower())
    if found is None:
        raise ValueError(f'{text!a} is neither day nor a size; write day, or 50MB')
    size = int(found[1]) * _SIZES[found[2]]
    if size < LEAST:
        raise ValueError(f'{text!a} is less than {LEAST // 1000}kB; write a larger size, such as 50MB, or day')
    return Rotation(size)


# --- names -----------------------------------------------------------------------------------------------------------


class Name(NamedTuple):
    """The name of a complete file, without ``.gz``.

    Attributes
    ----------
    of : str
        The name of the journal that it belongs to.
    day : str
        Of its first entry, as ``2026-11-27``.
    number : int
        Among those of that day, from 1.
    """

    of: str
    day: str
    number: int


def parse_name(name: str) -> Name | None:
    """Return what the name of a file says, plain or compressed; None if it is not that of a complete file."""
    found = _COMPLETE.fullmatch(name.removesuffix(GZ))
    return None if found is None else Name(found[1] + found[4], found[2], int(found[3]))


def complete_names(names: Iterable[str], of: str) -> list[str]:
    """Return the complete files of a journal, in the order in which they were written, each once and without ``.gz``.

    Parameters
    ----------
    names : iterable of str
        All that are in its folder.
    of : str
        The name of the journal.
    """
    plain = {name.removesuffix(GZ) for name in names}
    found = {name: parsed for name in plain if (parsed := parse_name(name)) is not None and parsed.of == of}
    return sorted(found, key=lambda name: found[name][1:])


def next_name(names: Iterable[str], of: str, day: date) -> str:
    """Return the name of the file that is complete now: behind all that are there.

    Parameters
    ----------
    names : iterable of str
        All that are in its folder.
    of : str
        The name of the journal.
    day : datetime.date
        Of its first entry.
    """
    last = next((parse_name(name) for name in reversed(complete_names(names, of))), None)
    text, number = day.isoformat(), 1
    if last is not None and last.day >= text:
        text, number = last.day, last.number + 1
    stem, suffix = os.path.splitext(of)
    return f'{stem}-{text}-{number:03d}{suffix}'


def complete_files(path: Path) -> list[Path]:
    """Return the complete files of a journal as they are on the disk now, in the order in which they were written.

    Of one that is there plain and compressed, the plain one: that is whole in any case.
    """
    try:
        names = set(os.listdir(path.parent))
    except OSError:
        return []
    found = complete_names(names, path.name)
    return [path.with_name(name if name in names else name + GZ) for name in found]


# --- when ------------------------------------------------------------------------------------------------------------


def day_of(at: int) -> date:
    """Return the day of a moment (ns of ``time.time_ns``), here."""
    return datetime.fromtimestamp(at // 10**9).date()


def end_of_day(at: int) -> int:
    """Return when the day of a moment is over, here; both are ns of ``time.time_ns``."""
    after = day_of(at) + timedelta(days=1)
    return int(datetime(after.year, after.month, after.day).timestamp()) * 10**9


class Turns:
    """Decides when the file of a journal is complete.

    Attributes
    ----------
    end : int
        What comes from then on (ns of ``time.time_ns``) belongs to the next file.
    day : datetime.date or None
        Of the first entry of the file; None if it has none.
    most : int
        Bytes that a file may have; `NEVER`, if that does not matter.
    """

    def __init__(self, rotation: Rotation | None) -> None:
        self._by_day = rotation is not None and not rotation.size
        self.most = rotation.size if rotation is not None and rotation.size else NEVER
        self.day: date | None = None
        self.end = NEVER

    def begin(self, first: int | None) -> None:
        """Begin with a file whose first entry is of that moment (ns of ``time.time_ns``); None if it has none."""
        self.day, self.end = None, NEVER
        if first is not None:
            self.see(first)

    def is_due(self, size: int, more: int, at: int) -> bool:
        """Tell whether the file is complete.

        Parameters
        ----------
        size, more : int
            Bytes that it has, and that are to be added.
        at : int
            When that was said, ns of ``time.time_ns``.
        """
        self.see(at)
        return (size > 0 and size + more > self.most) or at >= self.end

    def see(self, at: int) -> None:
        """Take in when the next entry was said, ns of ``time.time_ns``."""
        if self.day is None:
            self.day = day_of(at)
            if self._by_day:
                self.end = end_of_day(at)
        elif self.end - at > _MOST_OF_A_DAY and self.end != NEVER:
            self.end = end_of_day(at)  # the clock was ahead by days: the day that it took for this one is no end


# --- files -----------------------------------------------------------------------------------------------------------


def put_aside(path: Path, day: date) -> Path:
    """Give the complete file of a journal its name, and return it.

    Raises
    ------
    OSError
        It cannot be renamed.
    """
    names = set(os.listdir(path.parent))
    while True:
        place = path.with_name(next_name(names, path.name, day))
        with contextlib.suppress(FileExistsError):  # another worker was faster: the next number
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            break
        names.add(place.name)
    try:
        os.replace(path, place)
    except OSError:
        place.unlink(missing_ok=True)
        raise
    return place
