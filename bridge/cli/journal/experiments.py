"""Which entries of a journal are of one experiment. A function of values.

A worker has several directions: what programs command its services is one, and what masters ask of each listener is one
more. Each has its own experiment, which another direction neither begins nor ends; so has each rig.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bridge.services.rules import reference_text

BEGINNINGS = ('EXPINIT', 'EXPSTART')
ASKING = ('command', 'asked')  # by programs of services; by masters of a listener
ANSWERING = ('outcome', 'notification', 'replied')
_COMMANDS = 'commands'  # the direction of what programs command; a listener's bears its name


def experiment(entries: Iterable[dict[str, Any]], reference: str, *, live: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the entries of one experiment, in the order in which they came.

    It begins with an EXPINIT or EXPSTART that bears the reference, or with the EXPINIT without one before that. It ends
    with the answer to an EXPCLEANUP, or before an EXPINIT or EXPSTART that bears another reference, of the same
    direction. It may do so several times. What is of no direction, or of one without an experiment, belongs to it as
    long as any direction is in it. A program that passes an EXPCLEANUP on has it answered before it answers itself, so
    the last of the answers ends it.

    Parameters
    ----------
    entries : iterable of dict
        As `bridge.journal.files.Journals` yields them.
    reference : str
        Of the experiment.
    live : bool
        Yield an entry as soon as it is known to belong, before earlier ones of which that is not known yet.
    """
    rigs: dict[str, _Rig] = {}
    waiting: deque[_Entry] = deque()  # behind one of which it is not known, of this rig or another
    for entry in entries:
        one = _Entry(entry, _direction(entry))
        belonging = rigs.setdefault(str(entry.get('rig')), _Rig(reference)).take(one)
        if live:
            yield from (known.entry for known in belonging)
            continue
        waiting.append(one)
        while waiting and waiting[0].belongs is not None:
            first = waiting.popleft()
            if first.belongs:
                yield first.entry
    yield from (one.entry for one in waiting if one.belongs)


@dataclass
class _Entry:
    """An entry with its direction, and whether it belongs to the experiment; None as long as nobody knows."""

    entry: dict[str, Any]
    where: str
    belongs: bool | None = None


class _Rig:
    """What is going on in the directions of one rig."""

    def __init__(self, reference: str) -> None:
        self._wanted = reference
        self._now: dict[str, str] = {}  # the reference of each direction that has an experiment
        self._begun: set[str] = set()  # directions with an EXPINIT that does not say of what
        self._held: list[_Entry] = []  # what came since the first of those
        self._ends: dict[str, set[str]] = {}  # by direction: an EXPCLEANUP that is not answered

    def take(self, one: _Entry) -> list[_Entry]:
        """Decide about an entry, and those that are held; return which turn out to belong to the experiment."""
        entry, where = one.entry, one.where
        kind, message, key = entry.get('kind'), entry.get('message'), str(entry.get('command_id'))
        found: list[_Entry] = []
        if kind in ASKING and message in BEGINNINGS:
            found = self._begin(where, reference_of(entry.get('args')), is_init=message == 'EXPINIT')
        if self._is_inside(where):
            one.belongs = True
            found.append(one)
        elif self._begun:
            self._held.append(one)
        else:
            one.belongs = False
        ends = self._ends.setdefault(where, set())
        if kind in ASKING and message == 'EXPCLEANUP':
            ends.add(key)
        elif kind in ANSWERING and key in ends:
            ends.discard(key)
            if not ends:
                self._now.pop(where, None)
        return found

    def _is_inside(self, where: str) -> bool:
        """Tell whether what is of a direction belongs to the experiment now."""
        return self._now[where] == self._wanted if where in self._now else self._wanted in self._now.values()

    def _begin(self, where: str, found: str, *, is_init: bool) -> list[_Entry]:
        """Take in what begins in a direction; return what turns out to have belonged to it."""
        belonging: list[_Entry] = []
        if found == self._wanted and self._now.get(where) != found:
            is_first = self._wanted not in self._now.values()
            belonging = self._let_go(lambda one: one.where == where or (is_first and one.where not in self._now), True)
        if found or is_init:
            self._begun.discard(where)
            self._let_go(lambda one: one.where == where or not self._begun, False)
        if found:
            self._now[where] = found
            self._ends.pop(where, None)
        elif is_init and not self._is_inside(where):
            self._begun.add(where)
        return belonging

    def _let_go(self, which: Callable[[_Entry], bool], belongs: bool) -> list[_Entry]:
        """Decide about some of those that are held, and return them."""
        gone = [one for one in self._held if which(one)]
        self._held = [one for one in self._held if not which(one)]
        for one in gone:
            one.belongs = belongs
        return gone


def _direction(entry: dict[str, Any]) -> str:
    """Return of which direction an entry is, "" for none."""
    kind = entry.get('kind')
    if kind in ('asked', 'replied'):
        return f'listener {entry.get("service")}'
    return _COMMANDS if kind in ASKING or kind in ANSWERING else ''


def reference_of(args: Any) -> str:
    """Return the reference of an experiment in the arguments of EXPINIT or EXPSTART, "" if there is none.

    Examples
    --------
    >>> reference_of([{'date': '2026-01-01', 'sequence': 1, 'subject': 'KM_01'}])
    '2026-01-01_1_KM_01'
    """
    first = args[0] if isinstance(args, list) and args else args
    if isinstance(first, dict) and 'exp_ref' in first:
        first = first['exp_ref']
    return reference_text(first) or ''
