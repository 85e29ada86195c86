"""A journal as Parquet: one row per command, one per service and command, one per everything else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from bridge.cli.lines import elapsed_ms
from bridge.cli.whole import write_whole

WALL = 'timestamp'
COMMANDS = {
    'command_id': str, 'message': str, 'client': str, 'addressed': str, 'args': str, 'notification': bool, 'wall': WALL,
    'code': int, 'error': str, 'sent': int, 'accepted': int, 'finished': int, 'latency_ms': float,
}  # fmt: skip
SERVICES = {
    'command_id': str, 'message': str, 'client': str, 'wall': WALL, 'service': str, 'ok': bool, 'state': str,
    'reason': str, 'error': str, 'status': int, 'data': str, 'sent': int, 'echoed': int, 'answered': int,
    'echo_ms': float, 'reply_ms': float,
}  # fmt: skip
EVENTS = {
    'kind': str, 'time': int, 'wall': WALL, 'event': str, 'service': str, 'client': str, 'details': str,
}  # fmt: skip


def places(path: str) -> tuple[Path, ...]:
    """Return where the three tables go: `path` itself, and beside it ``-services`` and ``-events``."""
    base = Path(path)
    return base, *(base.with_name(f'{base.stem}-{what}{base.suffix}') for what in ('services', 'events'))


def export(entries: Sequence[dict[str, Any]], paths: Sequence[Path]) -> Iterator[tuple[Path, int, str]]:
    """Write the tables; yields of each its path, how many rows it has, and what they are.

    Raises
    ------
    OSError
        A file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), WALL: pa.timestamp('us', 'UTC')}
    others = ('command', 'outcome', 'notification')
    tables = (
        (COMMANDS, list(command_rows(entries)), 'commands'),
        (SERVICES, list(service_rows(entries)), 'services of commands'),
        (EVENTS, [_event_row(entry) for entry in entries if entry['kind'] not in others], 'events'),
    )
    for path, (columns, rows, of) in zip(paths, tables, strict=True):
        schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
        fitted = [{name: fit(row.get(name), kind) for name, kind in columns.items()} for row in rows]
        write_whole(path, partial(pq.write_table, pa.Table.from_pylist(fitted, schema)))
        yield path, len(rows), of


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
        about = {name: entry.get(name) for name in ('command_id', 'message', 'client', 'wall')}
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
