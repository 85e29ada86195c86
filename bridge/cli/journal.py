"""``iblbridge journal``: what stands in a journal, as a table, or exported as Parquet."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from typing import Any

from bridge.cli.send import PIPE_WIDTH

SHOWN = ('kind', 'time', 'wall', 'command_id', 'message', 'event', 'service', 'client', 'code', 'error')


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'journal',
        help='show what a worker has written down',
        description='Show the journal that "iblbridge serve --journal FILE" writes, also while it is written.',
    )
    parser.add_argument('file', metavar='FILE', help='the journal')
    parser.add_argument('--parquet', metavar='OUT', help='export to this Parquet file instead')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show or export; 2 if the file can't be read or written."""
    from bridge.journal import read

    try:
        lines = list(read(args.file))
        entries = [entry for entry in lines if not isinstance(entry, int)]
        if args.parquet:
            export(entries, args.parquet)
        else:
            show(entries)
    except OSError as e:
        print(f'iblbridge journal: {e.filename or args.file}: {e.strerror or e}', file=sys.stderr)
        return 2
    for number in (line for line in lines if isinstance(line, int)):
        print(f'iblbridge journal: line {number} is torn and was skipped', file=sys.stderr)
    return 0


def show(entries: Iterable[dict[str, Any]]) -> None:
    """Print entries as a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table('when', 'kind', 'what', 'command', 'code', 'details', box=box.SIMPLE_HEAD)
    for entry in entries:
        what = entry.get('message') or entry.get('event') or ''
        cells = (str(entry.get('wall', '')), entry['kind'], what, entry.get('command_id', ''), entry.get('code', ''))
        table.add_row(*(Text(str(cell)) for cell in (*cells, details(entry))))
    console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(table)


def details(entry: dict[str, Any]) -> str:
    """Return what a person wants to know of an entry, beside its kind and key."""
    kind = entry['kind']
    if kind == 'command':
        to = f'to {entry["services"]}' if entry.get('services') else ''
        return ' '.join(filter(None, (to, json.dumps(entry.get('args', [])))))
    if kind == 'event':
        whom = entry.get('service') or entry.get('client') or ''
        return ' '.join(filter(None, (whom, json.dumps(entry['data']) if entry.get('data') else '')))
    if kind == 'gap':
        return f'{entry.get("lost", "?")} entries are missing'
    services = entry.get('services')
    told = [f'{s.get("name")}: {s.get("state")}' for s in services or () if isinstance(s, dict)]
    return '; '.join(filter(None, (', '.join(told), str(entry.get('error', '')))))


def export(entries: Iterable[dict[str, Any]], path: str) -> None:
    """Write entries to a Parquet file: the usual columns, and everything else as JSON text in ``details``."""
    from datetime import datetime

    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            *((name, pa.string()) for name in SHOWN if name not in ('time', 'wall', 'code')),
            ('time', pa.int64()),
            ('wall', pa.timestamp('us', 'UTC')),
            ('code', pa.int64()),
            ('details', pa.string()),
        ]
    )
    rows = []
    for entry in entries:
        row = {name: entry.get(name) for name in SHOWN}
        row['wall'] = datetime.fromisoformat(entry['wall']) if entry.get('wall') else None
        row['details'] = json.dumps({name: value for name, value in entry.items() if name not in SHOWN})
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
