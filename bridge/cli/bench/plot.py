"""The ratios as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.cli.bench.peers import INSTALL

if TYPE_CHECKING:
    from bridge.cli.bench.rows import Row

TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
LEAST, MOST = 0.5, 2.0  # of the scale, if no ratio is beyond


def refusal(path: str) -> str:
    """Return why there can be no picture of this name, and what to do; "" if there can."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return f'matplotlib is not installed: {INSTALL}'
    known = Figure().canvas.get_supported_filetypes()
    ending = Path(path).suffix.lower().removeprefix('.')
    return '' if ending in known else f'{path} does not end in .png, .pdf or .svg'


def draw(machine: dict[str, Any], rows: Sequence[Row], path: str) -> None:
    """Write a picture: of each row, our time as a multiple of each peer's. A bar goes from 1, to either side."""
    from matplotlib.figure import Figure

    bars = [(f'{row.title}\nbeside {peer}', ratio) for row in rows for peer, ratio in row.against.items()][::-1]
    ratios = [ratio for _, ratio in bars]
    figure = Figure(figsize=(10, 1.5 + 0.4 * len(bars)), layout='constrained')
    axes = figure.subplots()
    axes.barh([name for name, _ in bars], [ratio - 1 for ratio in ratios], left=1)
    axes.set_xscale('log')
    least, most = min([LEAST, *ratios]) / 1.1, max([MOST, *ratios]) * 1.1
    ticks = [tick for tick in TICKS if least <= tick <= most]
    axes.set_xticks(ticks, [f'{tick:g}' for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(least, most)
    axes.set_ylim(-0.6, max(len(bars), 1) - 0.4)
    axes.grid(axis='x', color='#d9dde2')
    axes.set_axisbelow(True)
    axes.axvline(1, color='black', linewidth=1)
    axes.tick_params(axis='y', labelsize=7)
    title = (
        f'iblbridge {machine["version"]}, {machine["date"]}\n'
        f'{machine["cores"]} cores of {machine["processor"]}, {machine["system"]}'
    )
    figure.suptitle(title, fontsize=9, parse_math=False)
    axes.set_xlabel("our time as a multiple of the other's (under 1: we are faster)")
    figure.savefig(path, dpi=120)
