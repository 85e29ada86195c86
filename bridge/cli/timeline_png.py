"""The timeline as a picture without a page, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta, timezone
from pathlib import Path

from matplotlib import dates
from matplotlib.figure import Figure

from bridge.cli.timeline import Bar, Picture

_WAIT, _WORK, _BAD, _WARN, _INK = '#9db7d6', '#2f6db3', '#c2261c', '#a15c00', '#1b1f24'
_DAY = 86400.0
_NAMES = 60  # commands; of more the names would cover each other


def save(drawn: Picture, title: str, path: Path) -> None:
    """Draw a picture into a file, as PNG, 14 inches wide at 120 dots per inch."""
    zone = timezone(timedelta(seconds=drawn.offset))
    zero = drawn.zero / _DAY  # matplotlib counts days since 1970
    figure = Figure(figsize=(14, 1.4 + 0.8 * len(drawn.lanes)), dpi=120, layout='constrained')
    axes = figure.add_subplot(yticks=range(len(drawn.lanes)), yticklabels=drawn.lanes)
    axes.set_title(title, parse_math=False)
    axes.set_ylim(len(drawn.lanes) - 0.5, -0.6)
    axes.grid(axis='x', color='#d9dde2')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right', 'left']].set_visible(False)
    locator = dates.AutoDateLocator(tz=zone)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=zone))  # type: ignore[no-untyped-call]
    for colour, spans in _spans(drawn.bars).items():
        rows, begins, ends = zip(*spans, strict=True) if spans else ((), (), ())
        axes.hlines(rows, [zero + at / _DAY for at in begins], [zero + at / _DAY for at in ends], colors=colour, lw=9)
    for marker, colour, points in _points(drawn):
        axes.plot([zero + at / _DAY for at, _ in points], [y for _, y in points], marker, color=colour, ms=7)
    if len(drawn.bars) <= _NAMES:
        for bar in drawn.bars:
            at = (zero + bar.sent / _DAY, -0.22)
            axes.annotate(bar.message, at, color=_INK, fontsize=7, rotation=30, parse_math=False)
    if len(drawn.signs) <= _NAMES:
        for sign in drawn.signs:
            at = (zero + sign.at / _DAY, sign.lane + 0.42)
            axes.annotate(sign.kind, at, color=_INK, fontsize=6, va='top', ha='center', parse_math=False)
    figure.savefig(path, format='png')


def _spans(bars: Iterable[Bar]) -> dict[str, list[tuple[int, float, float]]]:
    """Return lane, begin and end of all stretches of one colour."""
    spans: dict[str, list[tuple[int, float, float]]] = {_WAIT: [], _WORK: []}
    for bar in bars:
        if bar.finished is not None:
            spans[_WORK].append((0, bar.sent, bar.finished))
        for part in bar.parts:
            if part.sent is not None and part.echoed is not None:
                spans[_WAIT].append((part.lane, part.sent, part.echoed))
                spans[_WORK].append((part.lane, part.echoed, part.answered or part.echoed))
    return spans


def _points(drawn: Picture) -> Iterable[tuple[str, str, list[tuple[float, float]]]]:
    """Yield marker, colour, and place of all signs of one kind."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def add(marker: str, mark: str, at: float, lane: float) -> None:
        colour = {'!': _BAD, '~': _WARN}.get(mark, _INK)
        found.setdefault((marker, colour), []).append((at, lane))

    for sign in drawn.signs:
        add('^', sign.mark, sign.at, sign.lane + 0.25)
    for bar in drawn.bars:
        if bar.mark != ' ':
            add('x' if bar.mark == '!' else 'D', bar.mark, bar.finished or bar.sent, 0)
        else:
            add('|', ' ', bar.sent, 0)
        for part in bar.parts:
            at = next((at for at in (part.answered, part.echoed, part.sent) if at is not None), bar.sent)
            add('|' if part.ok else 'x', ' ' if part.ok else '!', at, part.lane)
    for (marker, colour), places in found.items():
        yield marker, colour, places
