"""Several files of a journal, or folders with journals, read as one: in the order in which they were written."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from bridge.journal.reading import NewerSchema, Reading, is_foreign
from bridge.journal.rotation import GZ, complete_files, parse_name

SUFFIX = '.jsonl'


class Journals:
    """The entries of all that is named.

    Parameters
    ----------
    names : sequence of str or Path
        Files, which are read in the order in which they were written, and folders: of those every journal, its
        complete files and the present one. Several journals are merged by time, and each entry gets the ``rig`` that
        it is of, which is called as the journal.
    follow : bool
        Go on waiting for more at the end of the last one.
    on_new : callable
        As `bridge.journal.Reading` has it.
    whole : bool
        Of a journal that is named by its present file alone, read the complete ones before it too.
    since : datetime, optional
        Whole, but without the complete files that are older than this.

    Attributes
    ----------
    readings : list of Reading
        Of the files that were read so far, or are being read.

    Raises
    ------
    ValueError
        There is no journal in a folder, or it is not clear which one is to be followed.
    OSError, NewerSchema
        A file cannot be read; as it is gone through.
    """

    def __init__(
        self,
        names: Sequence[str | Path],
        *,
        follow: bool = False,
        on_new: Callable[[], object] = lambda: None,
        whole: bool = False,
        since: datetime | None = None,
    ) -> None:
        self._names, self._follow, self._on_new = [Path(name) for name in names], follow, on_new
        self.readings: list[Reading] = []
        folders = [name for name in self._names if name.is_dir()]
        self._journals = [found for folder in folders for found in journals_in(folder)]
        self._files = in_order([name for name in self._names if name not in folders])
        self._since = since
        if whole:
            self._journals += self.alone()
            self._files = [path for path in self._files if path not in self._journals]
        for folder in folders:
            if not journals_in(folder):
                raise ValueError(f'{folder}: there is no journal in this folder; their names end in {SUFFIX}.')
        if follow and len(self._sources) > 1:
            raise ValueError(f'only one journal can be followed; name one of {", ".join(map(str, self._all()))}.')

    def alone(self) -> list[Path]:
        """Return the present files that are read without the complete ones that stand beside them."""
        present = [present_of(path) for path in self._files]
        return [path for path in self._files if present.count(path) == 1 and complete_files(path)]

    def _all(self) -> list[Path]:
        return [*self._journals, *self._files]

    def paths(self) -> list[Path]:
        """Return all files that there are to be read now."""
        complete = [path for journal in self._journals for path in complete_files(journal)]
        return [path for path in (*complete, *self._all()) if path.exists()]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rigs = labels([path for path, _ in self._sources if not _is_none(path)])
        if len(rigs) < 2:
            for _, source in self._sources:
                yield from self._entries(source)
            return
        several = [_of_rig(self._entries(source), rigs.get(path, '')) for path, source in self._sources]
        for _, entry in heapq.merge(*several, key=itemgetter(0)):
            yield entry

    def _entries(self, source: Callable[[], Iterator[Reading]]) -> Iterator[dict[str, Any]]:
        for reading in source():
            self.readings.append(reading)
            yield from reading

    @property
    def found(self) -> int:
        """int: how many entries there were."""
        return sum(reading.found for reading in self.readings)

    @property
    def _sources(self) -> Sequence[tuple[Path, Callable[[], Iterator[Reading]]]]:
        """Each journal, by the path of its present file, and what yields its files."""
        several: dict[Path, list[Path]] = {}
        for path in self._files:
            several.setdefault(present_of(path), []).append(path)
        return [(journal, partial(self._whole, journal)) for journal in self._journals] + [
            (journal, partial(self._each, files)) for journal, files in several.items() if journal not in self._journals
        ]

    def _each(self, files: list[Path]) -> Iterator[Reading]:
        for path in files:
            yield self._reading(path, is_last=path == files[-1])

    def _whole(self, journal: Path) -> Iterator[Reading]:
        """Yield the files of one journal, also those that are complete only when the ones before were read."""
        done = {path.name.removesuffix(GZ) for path in older(complete_files(journal), self._since)}

        def complete() -> list[Path]:
            return [path for path in complete_files(journal) if path.name.removesuffix(GZ) not in done]

        while True:
            for path in complete():
                done.add(path.name.removesuffix(GZ))
                yield Reading(path)
            reading = self._reading(journal, is_last=True)
            try:
                reading.open()
            except FileNotFoundError:
                if complete():
                    continue
                return
            if not complete():  # else it was perhaps that one
                yield reading
                return
            reading.close()

    def _reading(self, path: Path, is_last: bool) -> Reading:
        return Reading(path, follow=self._follow and is_last, on_new=self._on_new)


def older(paths: Sequence[Path], since: datetime | None) -> list[Path]:
    """Return the complete files in which there is nothing since a moment; a day more is kept, for clocks are set."""
    days = [parsed.day for path in paths if (parsed := parse_name(path.name)) is not None]
    if since is None or len(days) < len(paths):
        return []
    least = (since - timedelta(days=1)).date().isoformat() if since.year > 1 else ''
    kept = next((i for i, day in enumerate(days) if day >= least), len(days))
    return list(paths[: max(kept - 1, 0)])  # the one before the first goes on until that


def present_of(path: Path) -> Path:
    """Return the path of the present file of the journal that a file belongs to."""
    parsed = parse_name(path.name)
    return path if parsed is None else path.with_name(parsed.of)


def labels(journals: Sequence[Path]) -> dict[Path, str]:
    """Return how the rig of each journal is called: as its file without the ending, where that tells them apart.

    Examples
    --------
    >>> list(labels([Path('a/rig0.jsonl'), Path('a/rig1.jsonl')]).values())
    ['rig0', 'rig1']
    >>> list(labels([Path('a/rig0.jsonl'), Path('b/rig0.jsonl')]).values())
    ['a/rig0', 'b/rig0']
    """
    stems = {path.stem for path in journals}
    if len(stems) == len(journals):
        return {path: path.stem for path in journals}
    return {path: path.with_suffix('').as_posix() for path in journals}


def _is_none(path: Path) -> bool:
    """Tell whether the present file of a journal is none of a journal."""
    try:
        return is_foreign(path)
    except (OSError, NewerSchema):  # as it is read that is said
        return False


def _of_rig(entries: Iterable[dict[str, Any]], rig: str) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield entries with their ``rig``, and by when they are merged: what does not say it is of the one before."""
    when = 0.0
    for entry in entries:
        with suppress(ValueError, OverflowError, OSError):
            when = datetime.fromisoformat(str(entry.get('wall'))).timestamp()
        yield when, entry | {'rig': rig}


def journals_in(folder: Path) -> list[Path]:
    """Return the journals of a folder, by the paths of their present files, which may be missing."""
    names = sorted(os.listdir(folder))
    complete = {parsed.of for name in names if (parsed := parse_name(name)) is not None}
    present = {name for name in names if name.endswith(SUFFIX) and parse_name(name) is None and name[0] != '.'}
    return [folder / name for name in sorted(complete | present)]


def in_order(paths: Sequence[Path]) -> list[Path]:
    """Return files in the order in which they were written: of each journal the complete ones first.

    Of one that is named plain and compressed, the plain one: that is whole in any case.
    """
    found: dict[tuple[Path, str], Path] = {}
    for path in paths:
        key = path.parent, path.name.removesuffix(GZ) if parse_name(path.name) is not None else path.name
        if key not in found or path.suffix != GZ:
            found[key] = path
    journals: dict[tuple[Path, str], list[Path]] = {}
    for path in found.values():
        parsed = parse_name(path.name)
        journals.setdefault((path.parent, path.name if parsed is None else parsed.of), []).append(path)
    return [path for files in journals.values() for path in sorted(files, key=_place)]


def _place(path: Path) -> tuple[bool, str, int]:
    parsed = parse_name(path.name)
    return (True, '', 0) if parsed is None else (False, parsed.day, parsed.number)
