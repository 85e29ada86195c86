"""``iblbridge journal``: what stands in a journal, as a table, as it grows, or exported as Parquet."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from bridge.cli import lines
from bridge.cli.words import duration

if TYPE_CHECKING:
    from rich.console import Console

LOOK = 0.2  # s between two looks at a file that grows


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'journal',
        help='show what a worker has written down',
        description='Show a journal (serve --journal) as a table, or export it as Parquet. Failures are marked with !, '
        'warnings with ~.',
    )
    parser.add_argument('file', metavar='FILE', help='the journal')
    parser.add_argument(
        '--since',
        type=since,
        metavar='WHEN',
        help='only from then on: 10:30, 2026-01-31, 2026-01-31T10:30, or 15min ago: 15min',
    )
    parser.add_argument('--failures', action='store_true', help='only what failed, and warnings')
    how = parser.add_mutually_exclusive_group()
    how.add_argument('--follow', action='store_true', help='go on with what comes, until Ctrl-C')
    how.add_argument(
        '--parquet',
        metavar='OUT',
        help='write one row per command to this file, and one per service and command, and one per event beside it',
    )
    parser.add_argument('--json', action='store_true', help='print the entries themselves, one JSON object a line')
    parser.add_argument('--force', action='store_true', help='let --parquet overwrite')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show or export; 2 if a file can't be read or written, or is no journal."""
    try:
        return _export(args) if args.parquet else _show(args)
    except OSError as e:
        if not e.filename:
            raise  # not a file's, but the output's
        print(f'iblbridge journal: {e.filename}: {e.strerror or e}', file=sys.stderr)
        return 2


class Reading:
    """The entries of a journal, and the numbers of the lines that are none.

    Parameters
    ----------
    path : str
        Its file.
    follow : bool
        Go on waiting for more at its end.

    Attributes
    ----------
    torn : list of int
        Lines that are no entries.
    found : int
        How many entries there were.
    """

    def __init__(self, path: str, *, follow: bool = False) -> None:
        self.path, self._follow = path, follow
        self.torn: list[int] = []
        self.found = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        from bridge.journal import KINDS, entry_of

        number, rest = 0, b''
        with open(self.path, 'rb') as file:
            while True:
                try:
                    piece = file.readline()
                except OSError as e:
                    e.filename = self.path
                    raise
                rest += piece
                if not rest.endswith(b'\n') and self._follow:  # a line that is only half written
                    if not piece:
                        time.sleep(LOOK)
                    continue
                if not rest:
                    return
                number, line, rest = number + 1, rest, b''
                if not line.strip():
                    continue
                entry = entry_of(line)
                if entry is None:
                    self.torn.append(number)
                else:
                    self.found += entry['kind'] in KINDS
                    yield entry
                if not self.found and number >= 1000:
                    return

    @property
    def is_none(self) -> bool:
        """bool: what was read has lines, and not one of them is a journal's."""
        return bool(self.torn) and not self.found


def _show(args: argparse.Namespace) -> int:
    """Print the entries, and, if nothing more can come, how many commands failed."""
    from bridge.cli.console import plain_console

    reading, console = Reading(args.file, follow=args.follow), plain_console()
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
            f'iblbridge journal: {reading.path}: this is no journal: none of its lines is an entry as serve --journal '
            'writes them',
            file=sys.stderr,
        )
        return 2
    for number in reading.torn:
        print(f'iblbridge journal: line {number} is torn and was skipped', file=sys.stderr)
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


def since(text: str) -> datetime:
    """Return a moment as argparse's type: a date, a time of today, both, or how long ago.

    Raises
    ------
    argparse.ArgumentTypeError
        It is none of them.
    """
    now = datetime.now().astimezone()
    readings: tuple[Callable[[], datetime], ...] = (
        lambda: datetime.fromisoformat(f'{now:%Y-%m-%d}T{text}').astimezone(),
        lambda: datetime.fromisoformat(text).astimezone(),
        lambda: now - timedelta(seconds=duration(text)),
    )
    for reading in readings:
        try:
            return reading()
        except (ValueError, OverflowError, argparse.ArgumentTypeError):
            continue
    raise argparse.ArgumentTypeError(f'{text!r} is no moment; write 10:30, 2026-01-31, 2026-01-31T10:30, or 15min')


def _export(args: argparse.Namespace) -> int:
    """Write the Parquet files and say which."""
    from bridge.cli import parquet

    places = parquet.places(args.parquet)
    if not args.force and (there := [str(place) for place in places if place.exists()]):
        print(
            f'iblbridge journal: {", ".join(there)}: there already; add --force to overwrite, or name another file',
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
