"""A journal as Parquet: one row per command, one per service and command, one per everything else.

In three files, or in a folder with a folder for each of the three and in that one for each day, as pandas, polars and
DuckDB read it: ``commands/day=2026-11-27/part-0.parquet``. A command is of the day on which it was sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from bridge.cli.lines import elapsed_ms
from bridge.cli.whole import write_whole
from bridge.segment.words import counted

WALL = 'timestamp'
COMMANDS = {
    'command_id': str, 'message': str, 'client': str, 'addressed': str, 'args': str, 'notification': bool, 'wall': WALL,
    'code': int, 'error': str, 'sent': int, 'accepted': int, 'finished': int, 'latency_ms': float, 'rig': str,
}  # fmt: skip
SERVICES = {
    'command_id': str, 'message': str, 'client': str, 'wall': WALL, 'service': str, 'ok': bool, 'state': str,
    'reason': str, 'error': str, 'status': int, 'data': str, 'sent': int, 'echoed': int, 'answered': int,
    'echo_ms': float, 'reply_ms': float, 'rig': str,
}  # fmt: skip
EVENTS = {
    'kind': str, 'time': int, 'wall': WALL, 'event': str, 'service': str, 'client': str, 'details': str, 'rig': str,
}  # fmt: skip

TABLES = ('commands', 'services', 'events')
ROW = 'row'  # of the services: what one of them is
NO_DAY = '__HIVE_DEFAULT_PARTITION__'  # as null is called in such folders


def places(path: str) -> tuple[Path, ...]:
    """Return where the three tables go: `path` itself, and beside it ``-services`` and ``-events``."""
    base = Path(path)
    return base, *(base.with_name(f'{base.stem}-{what}{base.suffix}') for what in ('services', 'events'))


def sentence(place: Path, count: int, of: str) -> str:
    """Return what was written where.

    Examples
    --------
    >>> sentence(Path('a'), 1, 'command'), sentence(Path('b'), 33, ROW)
    ('a: 1 command', 'b: 33 rows, one per service and command')
    """
    return f'{place}: {counted(count, of)}' + (', one per service and command' if of == ROW else '')


def export(entries: Sequence[dict[str, Any]], paths: Sequence[Path]) -> Iterator[tuple[Path, int, str]]:
    """Write the tables; yields of each its path, how many rows it has, and what they are.

    Raises
    ------
    OSError
        A file cannot be written.
    """
    for path, (columns, rows, of) in zip(paths, _tables(entries), strict=True):
        _write(path, columns, rows)
        yield path, len(rows), of


def export_days(entries: Iterable[dict[str, Any]], folder: Path) -> Iterator[tuple[Path, int, str]]:
    """Write the tables as folders with a folder for each day; of days that are there already, in their place.

    No more than two days are held at a time. Yields at the end of each table its folder, how many rows it got, and what
    they are.

    Raises
    ------
    OSError
        A file cannot be written.
    """
    written: dict[Path, int] = {}
    totals = dict.fromkeys(TABLES, 0)
    of = dict.fromkeys(TABLES, '')
    for day, group in by_day(entries):
        for name, (columns, rows, what) in zip(TABLES, _tables(group), strict=True):
            place = folder / name / f'day={day}'
            place.mkdir(parents=True, exist_ok=True)
            number = written.setdefault(place, 0)
            _write(place / f'part-{number}.parquet', columns, rows)
            if not number:
                for other in place.glob('part-*.parquet'):  # of an export before
                    if other.name != 'part-0.parquet':
                        other.unlink()
            written[place] += 1
            totals[name] += len(rows)
            of[name] = what
    yield from ((folder / name, totals[name], of[name]) for name in TABLES)


def by_day(entries: Iterable[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield days and what is of them; usually each day once, but again if the clock was set back by more than a day.

    An outcome is of the day of its command. What does not say when it was is of the day of what stands before it.
    """
    held: dict[str, list[dict[str, Any]]] = {}
    asked: dict[str, str] = {}  # the day of each command that is not answered
    now = NO_DAY
    for entry in entries:
        key, own = entry.get('command_id'), _day(entry) or now
        if own != now:
            for day in [day for day in held if day not in (own, now)]:
                yield day, held.pop(day)
            asked = {one: day for one, day in asked.items() if day in held}
            now = own
        day = own
        if isinstance(key, str):
            if entry['kind'] == 'command':
                asked[key] = own
            elif entry['kind'] in ('outcome', 'notification'):
                day = asked.pop(key, own)
        held.setdefault(day, []).append(entry)
    yield from held.items()


def _day(entry: dict[str, Any]) -> str:
    """Return the day of an entry, where it was written; "" if it does not say."""
    wall = fit(entry.get('wall'), WALL)
    return wall.date().isoformat() if wall else ''


def _tables(entries: Sequence[dict[str, Any]]) -> tuple[tuple[dict[str, Any], list[dict[str, Any]], str], ...]:
    """Return columns, rows and what one of them is, of each table."""
    others = ('command', 'outcome', 'notification')
    return (
        (COMMANDS, list(command_rows(entries)), 'command'),
        (SERVICES, list(service_rows(entries)), ROW),
        (EVENTS, [_event_row(entry) for entry in entries if entry['kind'] not in others], 'event'),
    )


def _write(path: Path, columns: dict[str, Any], rows: Iterable[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), WALL: pa.timestamp('us', 'UTC')}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    fitted = [{name: fit(row.get(name), kind) for name, kind in columns.items()} for row in rows]
    write_whole(path, partial(pq.write_table, pa.Table.from_pylist(fitted, schema)))


def command_rows(entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield one row per command, in the order in which they were taken; without a code if it was never answered."""
    rows: dict[Any, dict[str, Any]] = {}
    for number, entry in enumerate(entries):
        kind, key = entry['kind'], entry.get('command_id') or number
        if kind == 'command':
            row = rows.setdefault(str(key), {})
            row |= entry | {'addressed': entry.get('services'), 'args': _json(entry.get('args'))}
        elif kind in ('outcome', 'notification'):
            row = rows.setdefault(str(key), {})
            row |= {name: value for name, value in entry.items() if name != 'wall' or 'wall' not in row}
            row |= {'notification': kind == 'notification'}
            row |= {'latency_ms': elapsed_ms(entry.get('sent'), entry.get('finished'))}
    yield from rows.values()


def service_rows(entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield one row per service of each command that was answered."""
    for entry in entries:
        services = entry.get('services')
        if entry['kind'] not in ('outcome', 'notification') or not isinstance(services, list):
            continue
        about = {name: entry.get(name) for name in ('command_id', 'message', 'client', 'wall', 'rig')}
        for service in services:
            if isinstance(service, dict):
                sent = service.get('sent')
                yield {
                    **about,
                    **service,
                    'service': service.get('name'),
                    'data': _json(service.get('data')),
                    'echo_ms': elapsed_ms(sent, service.get('echoed')),
                    'reply_ms': elapsed_ms(sent, service.get('answered')),
                }


def _event_row(entry: dict[str, Any]) -> dict[str, Any]:
    return entry | {'details': _json({name: value for name, value in entry.items() if name not in EVENTS})}


def fit(value: Any, kind: Any) -> Any:
    """Return a value as its column takes it; None for what it cannot take: the file may have been edited."""
    if kind is WALL:
        try:
            return datetime.fromisoformat(value) if value else None
        except (TypeError, ValueError):
            return None
    if kind is str:
        return None if value is None else str(value).encode('utf-8', 'backslashreplace').decode()
    if kind is int and (isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63):
        return None
    return value if isinstance(value, kind) else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
