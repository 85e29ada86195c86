"""``iblbridge journal``: what stands in a journal, as a table, as it grows, as a picture, or exported as Parquet."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.cli import lines
from bridge.cli.journal import selection
from bridge.cli.whole import write_whole
from bridge.cli.words import example
from bridge.segment.words import counted

if TYPE_CHECKING:
    from rich.console import Console

    from bridge.journal.files import Journals


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'journal',
        help='show what was commanded, and what became of it',
        description='Show a journal, as "iblbridge serve --journal FILE" writes it, as a table, or export it as '
        'Parquet. Failures are marked with !, warnings with ~. Several files, or all of a folder, are read as one, in '
        'the order in which they were written, compressed or not; several rigs are merged by time.',
        epilog=example(
            'iblbridge journal rig0.jsonl --since 15min --failures',
            'Exit status: 0 all is well, 1 nothing was found, 2 misuse, or a file that cannot be read or written.',
        ),
    )
    parser.add_argument(
        'files',
        metavar='FILE',
        nargs='+',
        help='the journal, files of it, or a folder with all; with '
        '--since, --until or --reference its complete files too',
    )
    selection.add_options(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument('--follow', action='store_true', help='go on with what is added, until Ctrl-C')
    how.add_argument(
        '--parquet',
        metavar='OUT',
        help='write a row for each command to OUT.parquet; beside it, files with a row for each service and command, '
        'and for each event. To a folder, if OUT does not end in .parquet: with a folder for each day',
    )
    how.add_argument(
        '--timeline',
        metavar='OUT',
        help='draw a lane for each service, with all commands and events: OUT.html is one file for any browser, '
        'OUT.png a picture',
    )
    how.add_argument('--summary', action='store_true', help='count commands and failures by message and service')
    parser.add_argument('--json', action='store_true', help='print the entries themselves, one JSON object per line')
    parser.add_argument('--force', action='store_true', help='let --parquet and --timeline overwrite files')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show or export; 1 if nothing was found, 2 if a file cannot be read or written, or is no journal."""
    from bridge.journal import NewerSchema
    from bridge.journal.files import Journals

    try:
        try:
            whole = bool(args.since or args.until or args.reference is not None)
            journals = Journals(args.files, follow=args.follow, on_new=_say_new, whole=whole, since=args.since)
        except ValueError as e:
            return _refuse(str(e))
        _say_older([] if whole or args.follow else journals.alone())
        if args.parquet is not None:
            return _export(args, journals)
        if args.timeline is not None:
            return _draw(args, journals)
        return _summarize(args, journals) if args.summary else _show(args, journals)
    except NewerSchema as e:
        return _refuse(str(e))
    except OSError as e:
        if not e.filename:
            raise  # not a file's, but the output's
        print(f'iblbridge journal: {e.filename}: {e.strerror or e}', file=sys.stderr)
        return 2


def _say_older(journals: Sequence[Path]) -> None:
    """Say of present files how much of their journals is in others, and what reads those too."""
    from bridge.journal.rotation import complete_files

    for path in journals:
        count = len(complete_files(path))
        files = 'complete file beside it is' if count == 1 else 'complete files beside it are'
        print(
            f'iblbridge journal: {path}: {count} {files} not read; for all of them add --since 2000-01-01',
            file=sys.stderr,
        )


def _say_new() -> None:
    print('iblbridge journal: the file was begun anew', file=sys.stderr)


def _show(args: argparse.Namespace, journals: Journals) -> int:
    """Print the entries, and, if nothing more can come, how many commands failed."""
    from bridge.cli.console import plain_console
    from bridge.cli.journal.experiments import ANSWERING

    console = plain_console()
    printer = Printer(console, as_json=args.json)
    shown = commands = failed = warned = 0
    for entry in selection.select(journals, args):
        printer.show(entry)
        shown += 1
        if entry['kind'] in ANSWERING:
            commands += 1
            failed += lines.mark(entry) == '!'
            warned += lines.mark(entry) == '~'
    if not shown and selection.is_narrow(args) and journals.found:
        return _nothing(args, journals)
    if (status := _complaints(journals)) == 0 and not args.json and not args.failures:
        warnings = f', {warned} with a warning' if warned else ''
        answered = f'{counted(commands, "command")} {"was" if commands == 1 else "were"} answered'
        said = f'{answered}: {failed} failed{warnings}.' if commands else 'No command was answered.'
        console.print(said if journals.found else 'It is empty.')
    return status


def _complaints(journals: Journals) -> int:
    """Say what could not be read; 2 if nothing of it is a journal, or something is damaged."""
    status, several = 0, len(journals.readings) > 1
    for reading in journals.readings:
        where = f'{reading.path}: ' if several or reading.is_none or reading.is_damaged else ''
        if reading.is_none:
            said = ['this is not a journal: none of its lines is an entry that serve --journal writes']
            status = status if journals.found else 2
        else:
            said = [f'line {number} is incomplete and was skipped' for number in reading.torn]
        if reading.is_damaged:
            said = [f'the compressed file is damaged; {reading.found} entries of it could be read']
            status = 2
        for sentence in said:
            print(f'iblbridge journal: {where}{sentence}', file=sys.stderr)
    return status


def _nothing(args: argparse.Namespace, journals: Journals) -> int:
    """Say that there is nothing to show; 1, or 2 if the reason is that it could not be read."""
    if status := _complaints(journals):
        return status
    why = 'no entry is one of those that were asked for' if selection.is_narrow(args) else 'there is nothing in it'
    print(f'iblbridge journal: {why}', file=sys.stderr)
    return 1


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


def _export(args: argparse.Namespace, journals: Journals) -> int:
    """Write the Parquet files and say which."""
    from bridge.cli.journal import parquet

    if args.parquet and Path(args.parquet).suffix.lower() != '.parquet':
        return _export_days(args, journals)
    try:
        places = parquet.places(args.parquet)
    except ValueError:
        return _refuse(f'--parquet: {args.parquet!r} names no file; write rig0.parquet')
    if wrong := _not_to_be_written(args, journals, places):
        return _refuse(wrong)
    entries = list(selection.select(journals, args))
    if not (entries and journals.found):
        return _nothing(args, journals)
    for place, count, of in parquet.export(entries, places):
        print(parquet.sentence(place, count, of))
    return _complaints(journals)


def _export_days(args: argparse.Namespace, journals: Journals) -> int:
    """Write folders of Parquet files, by day, and say which."""
    from bridge.cli.journal import parquet

    folder = Path(args.parquet)
    if folder.exists() and not folder.is_dir():
        return _refuse(f'--parquet: {folder}: is no folder; name a folder, or a file that ends in .parquet')
    there = [str(place) for name in parquet.TABLES if (place := folder / name).exists()]
    if there and not args.force:
        return _refuse(f'{", ".join(there)}: already there; add --force to write these days anew, and keep others')
    entries = selection.select(journals, args)
    first = next(entries, None)
    if first is None or not journals.found:
        return _nothing(args, journals)
    for place, count, of in parquet.export_days(chain([first], entries), folder):
        print(parquet.sentence(place, count, of))
    return _complaints(journals)


def _draw(args: argparse.Namespace, journals: Journals) -> int:
    """Draw the timeline and say where."""
    from bridge.cli.journal import timeline
    from bridge.cli.journal.summary import summarize

    place = Path(args.timeline)
    if place.suffix.lower() not in ('.html', '.htm', '.png'):
        return _refuse(f'--timeline: {args.timeline!r} ends neither in .html nor in .png')
    if wrong := _not_to_be_written(args, journals, [place]):
        return _refuse(wrong)
    entries = list(selection.select(journals, args))
    if not (entries and journals.found):
        return _nothing(args, journals)
    drawn, title = timeline.picture(entries), _title(args)
    if place.suffix.lower() == '.png':
        try:
            from bridge.cli.journal import timeline_png
        except ImportError:
            return _refuse("a .png needs matplotlib: pip install 'iblbridge[plot]'; a .html needs nothing")
        write_whole(place, partial(timeline_png.save, drawn, title))
    else:
        text = timeline.page(drawn, title, summarize(entries))
        write_whole(place, lambda part: part.write_text(text, 'ascii'))
    print(f'{place}: {counted(len(drawn.bars), "command")}, {counted(len(drawn.signs), "event")}')
    return _complaints(journals)


def _title(args: argparse.Namespace) -> str:
    """Return what a picture is of."""
    names = [Path(name).resolve().name for name in args.files]
    return ', '.join([names[0] if len(names) == 1 else f'{names[0]} to {names[-1]}', *filter(None, [args.reference])])


def _summarize(args: argparse.Namespace, journals: Journals) -> int:
    """Print counts and times by message and service."""
    from bridge.cli.console import plain_console
    from bridge.cli.journal.summary import HEAD, summarize

    entries = selection.select(journals, args)
    first = next(entries, None)
    if first is None and selection.is_narrow(args):
        return _nothing(args, journals)
    rows = summarize(chain([first] if first else [], entries))
    if args.json:
        for row in rows:
            print(json.dumps(dict(zip(HEAD, row.cells(), strict=True))))
    elif rows:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for number, name in enumerate(HEAD):
            table.add_column(name, justify='left' if number < 2 else 'right', overflow='fold')
        for row in rows:
            table.add_row(*row.cells())
        plain_console().print(table)
    return _complaints(journals)


def _refuse(why: str) -> int:
    print(f'iblbridge journal: {why}', file=sys.stderr)
    return 2


def _not_to_be_written(args: argparse.Namespace, journals: Journals, places: Sequence[Path]) -> str:
    """Return why one of the places must not be written to; "" if all may."""
    for place in places:
        if place.exists() and any(os.path.samefile(place, path) for path in journals.paths()):
            return f'{place}: is the journal itself; name another file'
        if place.exists() and not place.is_file():
            return f'{place}: is no file; name another file'
    there = [str(place) for place in places if place.exists()]
    if there and not args.force:
        return f'{", ".join(there)}: already there; add --force to overwrite, or name another file'
    return ''
