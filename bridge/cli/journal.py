"""``iblbridge journal``: what stands in a journal, as a table, as it grows, or exported as Parquet."""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from bridge.cli import lines
from bridge.cli.words import duration

if TYPE_CHECKING:
    from pathlib import Path

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
        return _show(args) if args.parquet is None else _export(args)
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

        for number, line in self._lines():
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

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield number and text of each line; of one that is half written the rest is waited for, if more can come."""
        number, rest, file = 0, b'', open(self.path, 'rb')  # noqa: SIM115 (another one may take its place)
        try:
            while True:
                piece = self._read(file)
                rest += piece
                if rest.endswith(b'\n') or (rest and not piece and not self._follow):
                    number += 1
                    yield number, rest
                    rest = b''
                elif not piece and (not self._follow or self.is_none):
                    return
                elif not piece and _was_begun_anew(self.path, file):
                    file.close()
                    number, rest, file = 0, b'', open(self.path, 'rb')  # noqa: SIM115
                    print(f'iblbridge journal: {self.path} was begun anew', file=sys.stderr)
                elif not piece:
                    time.sleep(LOOK)
        finally:
            file.close()

    def _read(self, file: BinaryIO) -> bytes:
        try:
            return file.readline()
        except OSError as e:
            e.filename = self.path
            raise

    @property
    def is_none(self) -> bool:
        """bool: what was read has lines, and not one of them is a journal's."""
        return bool(self.torn) and not self.found


def _was_begun_anew(path: str, file: BinaryIO) -> bool:
    """Tell whether another file stands at a path by now, or the same one was cut."""
    here = os.fstat(file.fileno())
    try:
        there = os.stat(path)
    except OSError:  # moved away: what has it open still may write to it
        return False
    return not os.path.samestat(here, there) or (stat.S_ISREG(here.st_mode) and here.st_size < file.tell())


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


def _not_to_be_replaced(journal: str, places: Sequence[Path]) -> str:
    """Return why one of the places must not be written to, though it be asked for; "" if all may."""
    for place in places:
        if place.exists() and os.path.exists(journal) and os.path.samefile(place, journal):
            return f'{place}: is the journal itself'
        if place.exists() and not place.is_file():
            return f'{place}: is no file'
    return ''
