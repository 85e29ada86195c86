"""When each service and each listener was RUNNING, by its own word. Functions of values.

Only what it said itself counts: an answer to a command, a reply to a master, a message of its own. What SERVICES tells
is the worker's memory of such words, and may be of a service that is long dead. The word holds until the next one, or
until the service is down or removed, or nobody serves the listener any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from bridge.cli import lines
from bridge.numbers import MESSAGES, STATUSES
from bridge.outcome import NO_STATUS
from bridge.services.rules import reported_status

Key = TypeVar('Key')
Word = tuple[str, float, int]  # of whom, when (s), and the status, `NO_STATUS` if it is not known any more


def words(entry: dict[str, Any], now: float, place: Callable[[Any], float | None]) -> Iterator[Word]:
    """Yield what an entry tells of what services do.

    Parameters
    ----------
    entry : dict
        Of a journal; of any content.
    now : float
        When it was written, s.
    place : callable
        Returns when a stamp was, s; None for never.
    """
    kind, name, data = entry.get('kind'), lines.as_text(entry.get('service')), entry.get('data')
    if kind in ('outcome', 'notification'):
        for one in entry['services'] if isinstance(entry.get('services'), list) else ():
            at = place(one.get('answered')) if isinstance(one, dict) else None
            if at is not None and type(one.get('status')) is int and one['status'] in STATUSES.values():
                yield lines.as_text(one.get('name')) or '?', at, one['status']
    elif kind == 'replied' and entry.get('ok') is True:
        yield from _said(name, entry.get('message'), data if isinstance(data, list) else [], now)
    elif kind == 'event' and entry.get('event') == 'SERVICE_DOWN':
        yield name, now, NO_STATUS
    elif kind == 'event' and isinstance(data, dict):
        yield from _said(name, entry.get('event'), [data['value'], data] if 'value' in data else [data], now)
    elif kind == 'served' and not entry.get('client'):
        yield name, now, NO_STATUS
    elif kind == 'reload' and isinstance(entry.get('removed'), list):
        for removed in entry['removed']:
            yield lines.as_text(removed), now, NO_STATUS


def _said(name: str, message: Any, data: list[Any], now: float) -> Iterator[Word]:
    status = reported_status(MESSAGES.get(lines.as_text(message), 0), data)
    if status != NO_STATUS:
        yield name, now, status


def runs(said: Iterable[tuple[Key, float, int]]) -> list[tuple[Key, float, float | None]]:
    """Return who was RUNNING from when until when (s), None if that has not ended, of words or what is like them.

    Examples
    --------
    >>> runs([('cameras', 1.0, 20), ('ephys', 2.0, 20), ('cameras', 3.0, 20), ('cameras', 4.0, 30)])
    [('cameras', 1.0, 4.0), ('ephys', 2.0, None)]
    """
    begun: dict[Key, float] = {}
    found: list[tuple[Key, float, float | None]] = []
    for name, at, status in sorted(said, key=lambda word: word[1]):
        if status == STATUSES['RUNNING']:
            begun.setdefault(name, at)
        elif name in begun:
            found.append((name, begun.pop(name), at))
    return sorted([*found, *((name, at, None) for name, at in begun.items())], key=lambda run: run[1])
