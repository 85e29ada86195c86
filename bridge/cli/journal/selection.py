"""Which entries of a journal are wanted: of when, of which experiment, only what failed. Functions of values."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from bridge.cli import lines
from bridge.cli.words import length

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
    """Yield the entries that are wanted, in the order in which they came.

    Who follows a journal sees at once what is known to be wanted, so with ``--follow`` an EXPINIT without a reference
    may come behind what another direction did meanwhile.

    Parameters
    ----------
    entries : iterable of dict
        As `bridge.journal.Reading` yields them.
    args : argparse.Namespace
        With the options of `add_options`, and perhaps ``follow``.
    """
    from bridge.cli.journal.experiments import experiment

    if args.reference is not None:
        entries = experiment(entries, args.reference, live=getattr(args, 'follow', False))
    for entry in entries:
        when = lines.moment(entry) if args.since or args.until else None
        if args.since and (when is None or when < args.since):
            continue
        if args.until and (when is None or when >= args.until):
            continue
        if not (args.failures and lines.mark(entry) == ' '):
            yield entry


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
