"""``iblbridge journal``: what stands in a journal, as a table, as it grows, or exported as Parquet."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from bridge.cli import lines
from bridge.cli.words import example, length
from bridge.journal import Reading

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'journal',
        help='show what was commanded, and what became of it',
        description='Show a journal, as "iblbridge serve --journal FILE" writes it, as a table, or export it as '
        'Parquet. Failures are marked with !, warnings with ~.',
        epilog=example('iblbridge journal rig0.jsonl --since 15min --failures'),
    )
    parser.add_argument('file', metavar='FILE', help='the journal')
    parser.add_argument(
        '--since',
        type=since,
        metavar='WHEN',
        help='only what came since then: 10:30, 2026-01-31, 2026-01-31T10:30, or 15min for a quarter of an hour ago',
    )
    parser.add_argument('--failures', action='store_true', help='only failures and warnings')
    how = parser.add_mutually_exclusive_group()
    how.add_argument('--follow', action='store_true', help='go on with what is added, until Ctrl-C')
    how.add_argument(
        '--parquet',
        metavar='OUT',
        help='write a row for each command to this file; beside it, files with a row for each service and command, '
        'and for each event',
    )
    parser.add_argument('--json', action='store_true', help='print the entries themselves, one JSON object per line')
    parser.add_argument('--force', action='store_true', help='let --parquet overwrite files')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show or export; 2 if a file cannot be read or written, or is no journal."""
    try:
        return _show(args) if args.parquet is None else _export(args)
    except OSError as e:
        if not e.filename:
            raise  # not a file's, but the output's
        print(f'iblbridge journal: {e.filename}: {e.strerror or e}', file=sys.stderr)
        return 2


def _say_new(path: str) -> None:
    print(f'iblbridge journal: {path} was begun anew', file=sys.stderr)


def _show(args: argparse.Namespace) -> int:
    """Print the entries, and, if nothing more can come, how many commands failed."""
    from bridge.cli.console import plain_console

    reading, console = Reading(args.file, follow=args.follow, on_new=partial(_say_new, args.file)), plain_console()
    printer = Printer(console, as_json=args.json)
    commands = failed = warned = 0
    for entry in reading:
        if not _is_wanted(entry, args):
            continue
        printer.show(entry)
        if entry['kind'] in ('outcome', 'notification'):
            commands += 1
            failed += lines.mark(entry) == '!'
            warned += lines.mark(entry) == '~'
    if (status := _complaints(reading)) == 0 and not args.json and not args.failures:
        warnings = f', {warned} with a warning' if warned else ''
        console.print(
            f'{commands} commands were answered: {failed} failed{warnings}.' if reading.found else 'It is empty.'
        )
    return status


def _complaints(reading: Reading) -> int:
    """Say what could not be read; 2 if it is no journal."""
    if reading.is_none:
        print(
            f'iblbridge journal: {reading.path}: this is not a journal: none of its lines is an entry that serve '
            '--journal writes',
            file=sys.stderr,
        )
        return 2
    for number in reading.torn:
        print(f'iblbridge journal: line {number} is incomplete and was skipped', file=sys.stderr)
    return 0


def _is_wanted(entry: dict[str, Any], args: argparse.Namespace) -> bool:
    if args.failures and lines.mark(entry) == ' ':
        return False
    when = lines.moment(entry) if args.since else None
    return not args.since or (when is not None and when >= args.since)


class Printer:
    """Prints entries one by one, with a head, and with the date wherever it changes.

    Parameters
    ----------
    console : rich.console.Console
        Where to; on a terminal lines are folded to its width, elsewhere each entry is one line.
    as_json : bool
        Print the entries themselves.
    """

    def __init__(self, console: Console, *, as_json: bool = False) -> None:
        self._console, self._json = console, as_json
        self._day: object = None

    def show(self, entry: dict[str, Any]) -> None:
        """Print an entry."""
        if self._json:
            sys.stdout.write(json.dumps(entry) + '\n')
            sys.stdout.flush()
            return
        width = self._console.width
        when = lines.moment(entry)
        if when and when.date() != self._day:
            if self._day is None:
                self._print(lines.head(width), 'bold')
            self._day = when.date()
            self._print(f'{when:%Y-%m-%d %Z}'.strip(), 'bold')
        self._print(lines.line(entry, width, fold=self._console.is_terminal), lines.style(entry))

    def _print(self, text: str, style: str) -> None:
        from rich.text import Text

        self._console.print(Text(text, style), soft_wrap=True)
        self._console.file.flush()


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


def _export(args: argparse.Namespace) -> int:
    """Write the Parquet files and say which."""
    from bridge.cli import parquet

    try:
        places = parquet.places(args.parquet)
    except ValueError:
        print(f'iblbridge journal: --parquet: {args.parquet!r} names no file; write rig0.parquet', file=sys.stderr)
        return 2
    if wrong := _not_to_be_replaced(args.file, places):
        print(f'iblbridge journal: {wrong}; name another file', file=sys.stderr)
        return 2
    if not args.force and (there := [str(place) for place in places if place.exists()]):
        print(
            f'iblbridge journal: {", ".join(there)}: already there; add --force to overwrite, or name another file',
            file=sys.stderr,
        )
        return 2
    reading = Reading(args.file)
    entries = [entry for entry in reading if _is_wanted(entry, args)]
    if reading.is_none:
        return _complaints(reading)
    for place, count, of in parquet.export(entries, places):
        print(f'{place}: {count} {of}')
    return _complaints(reading)


def _not_to_be_replaced(journal: str, places: Sequence[Path]) -> str:
    """Return why one of the places must not be written to, though it be asked for; "" if all may."""
    for place in places:
        if place.exists() and os.path.exists(journal) and os.path.samefile(place, journal):
            return f'{place}: is the journal itself'
        if place.exists() and not place.is_file():
            return f'{place}: is no file'
    return ''
