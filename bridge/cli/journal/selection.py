"""Which entries of a journal are wanted: of when, of which experiment, only what failed. Functions of values."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from bridge.cli import lines
from bridge.cli.words import length
from bridge.services.rules import reference_text

BEGINNINGS = ('EXPINIT', 'EXPSTART')
ASKING = ('command', 'asked')  # by programs of services; by masters of a listener
ANSWERING = ('outcome', 'notification', 'replied')
WHEN = '10:30, 2026-01-31, 2026-01-31T10:30, or 15min for a quarter of an hour ago'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the options that `select` reads."""
    parser.add_argument('--since', type=since, metavar='WHEN', help=f'only what came since then: {WHEN}')
    parser.add_argument('--until', type=until, metavar='WHEN', help='only what came before then')
    parser.add_argument(
        '--reference',
        metavar='REFERENCE',
        help='only one experiment: from the first EXPINIT or EXPSTART with this reference to its EXPCLEANUP, or to '
        'the next experiment',
    )
    parser.add_argument('--failures', action='store_true', help='only failures and warnings')


def is_narrow(args: argparse.Namespace) -> bool:
    """Tell whether `select` leaves anything out."""
    return bool(args.since or args.until or args.reference is not None or args.failures)


def select(entries: Iterable[dict[str, Any]], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the entries that are wanted.

    Parameters
    ----------
    entries : iterable of dict
        As `bridge.journal.Reading` yields them.
    args : argparse.Namespace
        With the options of `add_options`.
    """
    for entry in entries if args.reference is None else experiment(entries, args.reference):
        when = lines.moment(entry) if args.since or args.until else None
        if args.since and (when is None or when < args.since):
            continue
        if args.until and (when is None or when >= args.until):
            continue
        if not (args.failures and lines.mark(entry) == ' '):
            yield entry


def experiment(entries: Iterable[dict[str, Any]], reference: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of one experiment.

    It begins with an EXPINIT or EXPSTART that bears the reference, or with the EXPINIT without one before that. It ends
    with the answer to an EXPCLEANUP, or before an EXPINIT or EXPSTART that bears another reference. It may do so
    several times. What masters asked of a listener counts as what programs commanded; a program that passes an
    EXPCLEANUP on has it answered before it answers itself, so the last of the answers ends it.
    """
    inside, held, open_ends = False, list[dict[str, Any]](), set[str]()
    for entry in entries:
        kind, message, key = entry.get('kind'), entry.get('message'), str(entry.get('command_id'))
        if kind in ASKING and message in BEGINNINGS:
            found = reference_of(entry.get('args'))
            if found == reference and not inside:
                yield from held
            if found:
                inside = found == reference
                open_ends.clear()
            if found or message == 'EXPINIT':
                held = []
            if message == 'EXPINIT' and not found and not inside:
                held.append(entry)
                continue
        if inside:
            yield entry
        elif held:
            held.append(entry)
        if inside and kind in ASKING and message == 'EXPCLEANUP':
            open_ends.add(key)
        elif kind in ANSWERING and key in open_ends:
            open_ends.discard(key)
            inside = bool(open_ends)


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


def since(text: str, now: datetime | None = None) -> datetime:
    """Return a moment that is past, as argparse's type: a date, a time of today, both, or how long ago.

    Parameters
    ----------
    text : str
        Such as ``10:30``, ``2026-01-31``, ``2026-01-31T10:30`` or ``15min``.
    now : datetime, optional
        The present, with its zone.

    Raises
    ------
    argparse.ArgumentTypeError
        It is none of them, or still to come.
    """
    now = now or datetime.now().astimezone()
    text, yesterday = text.strip(), now - timedelta(days=1)
    moment = _read(text, now)
    if moment is None and text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} has no unit; write {text}min, or a time such as 10:30')
    if moment is None:
        raise argparse.ArgumentTypeError(f'{text!r} is not a time; write 10:30, 2026-01-31, 2026-01-31T10:30, or 15min')
    if moment > now:
        meant = f'; write {yesterday:%Y-%m-%d}T{text} if you mean yesterday' if _is_of_a_day(text) else ''
        raise argparse.ArgumentTypeError(f'{text!r} is still to come{meant}')
    return moment


def until(text: str, now: datetime | None = None) -> datetime:
    """Return a moment as `since` does; it may also be still to come."""
    now = now or datetime.now().astimezone()
    moment = _read(text.strip(), now)
    return since(text, now) if moment is None else moment


def _is_of_a_day(text: str) -> bool:
    """Return whether this may be a time without a date: of digits alone nobody knows what they are."""
    return ':' in text and 'T' not in text and ' ' not in text


def _read(text: str, now: datetime) -> datetime | None:
    """Return the moment that is meant, None if this is none."""
    with suppress(ValueError, OverflowError):
        return datetime.fromisoformat(f'{now:%Y-%m-%d}T{text}' if _is_of_a_day(text) else text).astimezone()
    ago = None if text.isdecimal() else length(text)
    if ago is None:
        return None
    try:
        return now - timedelta(seconds=ago)
    except OverflowError:  # before the first year: all there is
        return datetime.min.replace(tzinfo=timezone.utc)
