"""How the table is shown. Functions of values, but for `machine` and `load`."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.cli.bench.statistics import verdict

if TYPE_CHECKING:
    from bridge.cli.bench.rows import Row

HEAD = ('work', 'here (p50; p99)', 'beside the others', 'aim', 'reached')
REACHED = {True: 'yes', False: 'no', None: '-'}
LEGEND = (
    'Each line: p50 (half took longer); p99 (one in 100 took longer). "0.50 × X": our p50 is half that of X. '
    'An aim is what we set ourselves.'
)
JUDGED = {True: 'reached', False: 'not reached', None: 'not judged'}


def load() -> float | None:
    """Return how many programs wanted a core in the last minute; None where the system does not tell."""
    return round(os.getloadavg()[0], 1) if hasattr(os, 'getloadavg') else None


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    from bridge import __version__

    model = platform.processor() or platform.machine()
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        model = next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), model)
    except OSError:
        pass
    return {
        'version': __version__,
        'date': datetime.now().astimezone().isoformat(timespec='minutes'),
        'processor': model,
        'cores': os.cpu_count(),
        'system': f'{platform.system()} {platform.release()}',
        'python': platform.python_version(),
        'load_before': load(),
    }


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as texts, as many as `HEAD` has."""
    here = 'not measured' if row.value is None else f'{_figure(row.value)} {row.unit}'
    if row.p99 is not None:
        here += f'; {_figure(row.p99)} {row.unit}'
    return row.title, here, '; '.join(beside(row)), row.aim, REACHED[row.reached]


def beside(row: Row) -> list[str]:
    """Return what stands beside our figures: the ratios, and what else there is to say."""
    ratios = [f'{ratio:.2f} × {peer} ({verdict(ratio)})' for peer, ratio in row.against.items()]
    return [*ratios, row.note] if row.note else ratios


def markdown(machine: dict[str, Any], rows: Sequence[Row]) -> str:
    """Return the table for ``bridge/README.md``."""
    lines = [HEAD, ['---'] * len(HEAD), *map(cells, rows)]
    return '\n'.join(_above(machine)) + '\n\n' + '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def plain(machine: dict[str, Any], rows: Sequence[Row]) -> str:
    """Return the table for the console, a few lines for each row."""
    lines = [*_above(machine), LEGEND, '']
    for row in rows:
        title, here, _, aim, _ = cells(row)
        lines.append(f'{title}: {here}')
        lines += [f'    {part}' for part in beside(row)]
        if aim:
            lines.append(f'    aim: {aim}: {JUDGED[row.reached]}')
    return '\n'.join(lines)


def _above(machine: dict[str, Any]) -> list[str]:
    return [sentence(machine), machine['missing']] if machine.get('missing') else [sentence(machine)]


def sentence(machine: dict[str, Any]) -> str:
    """Return what the figures depend on, in a sentence."""
    return (
        f'iblbridge {machine["version"]}, {machine["date"]}: {machine["cores"]} cores of {machine["processor"]}, '
        f'{machine["system"]}, Python {machine["python"]}; load {machine["load_before"]} before, '
        f'{machine.get("load_after")} after.'
    )


def _figure(value: float) -> str:
    return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'
