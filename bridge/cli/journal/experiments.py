"""Which entries of a journal are of one experiment. A function of values.

A worker has several directions: what programs command its services is one, and what masters ask of each listener is one
more. Each has its own experiment, which another direction neither begins nor ends; so has each rig.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from bridge.services.rules import reference_text

BEGINNINGS = ('EXPINIT', 'EXPSTART')
ASKING = ('command', 'asked')  # by programs of services; by masters of a listener
ANSWERING = ('outcome', 'notification', 'replied')
_COMMANDS = 'commands'  # the direction of what programs command; a listener's bears its name


def experiment(entries: Iterable[dict[str, Any]], reference: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of one experiment.

    It begins with an EXPINIT or EXPSTART that bears the reference, or with the EXPINIT without one before that. It ends
    with the answer to an EXPCLEANUP, or before an EXPINIT or EXPSTART that bears another reference, of the same
    direction. It may do so several times. What is of no direction, or of one without an experiment, belongs to it as
    long as any direction is in it. A program that passes an EXPCLEANUP on has it answered before it answers itself, so
    the last of the answers ends it.
    """
    rigs: dict[str, _Rig] = {}
    for entry in entries:
        yield from rigs.setdefault(str(entry.get('rig')), _Rig(reference)).take(entry)


class _Rig:
    """What is going on in the directions of one rig."""

    def __init__(self, reference: str) -> None:
        self._wanted = reference
        self._now: dict[str, str] = {}  # the reference of each direction that has an experiment
        self._begun: set[str] = set()  # directions with an EXPINIT that does not say of what
        self._held: list[tuple[str, dict[str, Any]]] = []  # what came since the first of those, with its direction
        self._ends: dict[str, set[str]] = {}  # by direction: an EXPCLEANUP that is not answered

    def take(self, entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield what is found to belong to the experiment with an entry, in the order in which it came."""
        kind, message, key = entry.get('kind'), entry.get('message'), str(entry.get('command_id'))
        where = _direction(entry)
        if kind in ASKING and message in BEGINNINGS:
            yield from self._begin(where, reference_of(entry.get('args')), is_init=message == 'EXPINIT')
        if self._is_inside(where):
            yield entry
        elif self._begun:
            self._held.append((where, entry))
        ends = self._ends.setdefault(where, set())
        if kind in ASKING and message == 'EXPCLEANUP':
            ends.add(key)
        elif kind in ANSWERING and key in ends:
            ends.discard(key)
            if not ends:
                self._now.pop(where, None)

    def _is_inside(self, where: str) -> bool:
        """Tell whether what is of a direction belongs to the experiment now."""
        return self._now[where] == self._wanted if where in self._now else self._wanted in self._now.values()

    def _begin(self, where: str, found: str, *, is_init: bool) -> Iterator[dict[str, Any]]:
        """Take in what begins in a direction; yield what turns out to have belonged to it."""
        if found == self._wanted and self._now.get(where) != found:
            is_first = self._wanted not in self._now.values()
            for one, entry in self._held:
                if one == where or (is_first and one not in self._now):
                    yield entry
            self._held = [
                pair for pair in self._held if pair[0] != where and not (is_first and pair[0] not in self._now)
            ]
        if found or is_init:
            self._held = [pair for pair in self._held if pair[0] != where]
            self._begun.discard(where)
            if not self._begun:
                self._held = []
        if found:
            self._now[where] = found
            self._ends.pop(where, None)
        elif is_init and not self._is_inside(where):
            self._begun.add(where)


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
