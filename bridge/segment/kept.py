"""What a worker keeps beside its segment for the one after it: small files: ports, lost clients, listeners.

They are hints: one that is missing, old or damaged costs what it holds and nothing else. Ports and lost clients are
JSON. The loops of the worker do not write them, for a disk may hang: a `Keeper` does, in a thread of its own. What the
listeners owe their masters has to stand there before anybody hears of it: that is a `bridge.segment.slate.Slate`.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.segment import slate, whole

KINDS = ('ports', 'losses', 'listeners')
_TRIES = 10
_ROOM = 4096  # bytes of a file at least: what a page of memory holds costs no more, and may be written over whole
_AGAIN = 1.0  # s until what was refused is tried again


def place(segment: Path, kind: str) -> Path:
    """Return the file that belongs to a segment's; no segment can have that name."""
    return segment.with_name(f'.{segment.name}.{kind}')


def is_place(path: Path) -> bool:
    """Tell whether a file is one of these."""
    name = path.name.removesuffix(whole.HALF)
    return name.startswith('.') and Path(name).suffix.removeprefix('.') in KINDS


def load(segment: Path, kind: str, noted: int | None = None) -> dict[str, Any]:
    """Return what was kept, {} if nothing is known.

    Parameters
    ----------
    segment : Path
        The segment's file.
    kind : str
        What.
    noted : int, optional
        Of a slate: the number of the last record; one that comes before it is not believed.
    """
    try:
        for _ in range(_TRIES):
            content = place(segment, kind).read_bytes()
            if not slate.is_slate(content):
                found = json.loads(content)
                return found if isinstance(found, dict) else {}
            number, said = slate.read(content)
            if said and (noted is None or not slate.is_older(number, noted)):
                return said  # else both places were written while we read, or the last record is not there
    except (OSError, ValueError, RecursionError):
        pass
    return {}


def save(segment: Path, kind: str, what: Mapping[str, Any]) -> bool:
    """Keep something; False if the disk refuses it."""
    path, content = place(segment, kind), json.dumps(dict(what)).encode().ljust(_ROOM)
    try:
        whole.put(path, content)
    except OSError:  # a disk that is full takes what needs no more room than what stands there has
        return whole.write_over(path, content)
    return True


def forget(segment: Path) -> None:
    """Remove all that is kept of a segment."""
    for kind in KINDS:
        for suffix in ('', whole.HALF):
            with contextlib.suppress(OSError):
                place(segment, f'{kind}{suffix}').unlink()


class Keeper:
    """Saves in a thread of its own; of what follows closely the last only.

    Parameters
    ----------
    segment : Path
        The segment's file.
    """

    def __init__(self, segment: Path) -> None:
        self._segment = segment
        self._wanted: dict[str, dict[str, Any]] = {}
        self._saving = self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def keep(self, kind: str, what: Mapping[str, Any], within: float = 0.0) -> None:
        """Have something saved soon, at best before this returns; never waits longer than `within` (s) for the disk."""
        with self._changed:
            if self._closed:
                return
            self._wanted[kind] = dict(what)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name='keeper', daemon=True)
                self._thread.start()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or not (self._wanted or self._saving), within)

    def close(self, timeout: float = 1.0) -> None:
        """Save what waits, for `timeout` (s) at most. Harmless twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._wanted or self._saving), timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._saving = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._wanted or self._closed)
                if not self._wanted:
                    return
                kind, what = self._wanted.popitem()
                self._saving = True
            if not save(self._segment, kind, what):
                self._put_back(kind, what)

    def _put_back(self, kind: str, what: dict[str, Any]) -> None:
        """Have something that was refused saved later, unless there is something newer or no later."""
        with self._changed:
            if not self._closed:
                self._wanted.setdefault(kind, what)
                self._changed.wait_for(lambda: self._closed, _AGAIN)
