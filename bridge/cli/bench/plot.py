"""The ratios as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge.cli.bench.peers import INSTALL

if TYPE_CHECKING:
    from bridge.cli.bench.rows import Row


def missing() -> str:
    """Return what to do to have pictures; empty if nothing."""
    import importlib.util

    return '' if importlib.util.find_spec('matplotlib') else f'matplotlib is not installed: {INSTALL}'


def draw(rows: Sequence[Row], path: str) -> None:
    """Write a picture: of each row, our time as a multiple of each peer's."""
    from matplotlib.figure import Figure

    bars = [(f'{row.title}\nbeside {peer}', ratio) for row in rows for peer, ratio in row.against.items()][::-1]
    figure = Figure(figsize=(10, 1 + 0.45 * len(bars)), layout='constrained')
    axes = figure.subplots()
    axes.barh([name for name, _ in bars], [ratio for _, ratio in bars])
    axes.set_xscale('log')
    axes.axvline(1, color='black', linewidth=1)
    axes.tick_params(axis='y', labelsize=7)
    axes.set_xlabel("our time as a multiple of the other's (under 1: we are faster)")
    figure.savefig(path, dpi=120)
