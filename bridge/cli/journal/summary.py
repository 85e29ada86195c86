"""How long commands took and how many failed, by message and by service. Functions of values."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bridge.cli import lines
from bridge.cli.bench.statistics import percentile
from bridge.numbers import LOCAL

HEAD = ('message', 'service', 'count', 'failed', 'median ms', 'p99 ms')
ALL = 'all'


@dataclass
class Row:
    """The commands of one message at one service, or, for `ALL`, as their programs saw them."""

    message: str
    service: str
    count: int = 0
    failed: int = 0
    took: list[float] = field(default_factory=list)  # ms, of those that were answered
    rig: str = ''  # of several
    is_total: bool = False

    def cells(self) -> tuple[str, ...]:
        """Return the row as text, in the order of `HEAD`; times are "" if none was answered."""
        times = (f'{statistics.median(self.took):.1f}', f'{percentile(self.took, 99):.1f}') if self.took else ('', '')
        return (self.message, self.service, str(self.count), str(self.failed), *times)


def summarize(entries: Iterable[dict[str, Any]]) -> list[Row]:
    """Return a row for each message, followed by one for each of its services, and for each listener asked it.

    Parameters
    ----------
    entries : iterable of dict
        As `bridge.journal.Reading` yields them; only what was answered counts.
    """
    rows: dict[str, dict[str, Row]] = {}
    asked: dict[Any, Any] = {}  # when, of what masters asked and nobody has answered
    for entry in entries:
        kind, message, key = entry.get('kind'), lines.as_text(entry.get('message')), str(entry.get('command_id'))
        rig = f'{lines.as_text(entry["rig"])}/' if entry.get('rig') else ''
        if kind == 'asked':
            asked[key] = entry.get('time')
        if kind == 'replied':
            listener = f'as {rig}{lines.as_text(entry.get("service"))}'
            row = rows.setdefault(message, {}).setdefault(
                listener, Row(message, listener, rig=rig)
            )  # no service begins so
            _count(row, lines.mark(entry) == '!', asked.pop(key, 0), entry.get('time'))
        if kind not in ('outcome', 'notification'):
            continue
        of = rows.setdefault(message, {})
        total = of.setdefault(f'{rig}{ALL}', Row(message, f'{rig}{ALL}', rig=rig, is_total=True))
        _count(total, lines.mark(entry) == '!', entry.get('sent'), entry.get('finished'))
        services = entry.get('services')
        if entry.get('message') in LOCAL:
            continue  # the worker answers it alone: what it knows of services and listeners is nothing that they did
        for service in services if isinstance(services, list) else ():
            if isinstance(service, dict):
                name = f'{rig}{lines.as_text(service.get("name"))}'
                row = of.setdefault(f' {name}', Row(message, name, rig=rig))  # never `ALL`
                _count(row, service.get('ok') is not True, service.get('sent'), service.get('answered'))
    return [row for of in rows.values() for row in sorted(of.values(), key=lambda row: (row.rig, not row.is_total))]


def _count(row: Row, failed: bool, begin: Any, end: Any) -> None:
    row.count += 1
    row.failed += failed
    took = lines.elapsed_ms(begin, end)
    if took is not None:
        row.took.append(took)
