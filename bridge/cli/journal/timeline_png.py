"""The timeline as a picture without a page, drawn by matplotlib.

Nobody can zoom in, so names that would cover others are left out: failures come first, then starts and ends of
experiments, then the rest. The marks of all are drawn, and the picture says how many names are missing.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Iterable, Sequence
from datetime import timedelta, timezone
from pathlib import Path

from matplotlib import dates
from matplotlib.figure import Figure

from bridge.cli.journal.timeline import Bar, Picture, Sign

_WAIT, _WORK, _BAD, _WARN, _INK, _RUN = '#9db7d6', '#2f6db3', '#c2261c', '#a15c00', '#1b1f24', '#6fb58a'
_DAY = 86400.0
_WIDTH = 840.0  # points that there are for all entries
_SLANTED = 18.0  # points between two names that are written at 30 degrees
_LETTER = 0.66  # of the size of the font: the width of a capital letter
_SIZE = 6  # points: the font of events
_RANKS = {'EXPINTERRUPT': 2, 'EXPSTART': 2, 'EXPEND': 2, 'EXPINIT': 3, 'EXPCLEANUP': 3}


def save(drawn: Picture, title: str, path: Path) -> None:
    """Draw a picture into a file, as PNG, 14 inches wide at 120 dots per inch."""
    zone = timezone(timedelta(seconds=drawn.offset))
    zero = drawn.zero / _DAY  # matplotlib counts days since 1970
    figure = Figure(figsize=(14, 1.6 + 0.8 * len(drawn.lanes)), dpi=120, layout='constrained')
    axes = figure.add_subplot(yticks=range(len(drawn.lanes)), yticklabels=drawn.lanes)
    axes.set_title(title, parse_math=False)
    axes.set_ylim(len(drawn.lanes) - 0.2, -0.6)  # the names of events stand below the last lane
    axes.grid(axis='x', color='#d9dde2')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right', 'left']].set_visible(False)
    locator = dates.AutoDateLocator(tz=zone)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(clock(locator, zone))
    for colour, spans in _spans(drawn.bars).items():
        rows, begins, ends = zip(*spans, strict=True) if spans else ((), (), ())
        axes.hlines(rows, [zero + at / _DAY for at in begins], [zero + at / _DAY for at in ends], colors=colour, lw=9)
    running = spans_of_running(drawn)
    rows, begins, ends = zip(*running, strict=True) if running else ((), (), ())
    axes.hlines(
        [row + 0.18 for row in rows], [zero + at / _DAY for at in begins], [zero + at / _DAY for at in ends],
        colors=_RUN, lw=4,
    )  # fmt: skip
    for marker, colour, points in _points(drawn):
        axes.plot([zero + at / _DAY for at, _ in points], [y for _, y in points], marker, color=colour, ms=7)
    bars, signs = names(drawn)
    for bar in bars:
        at = (zero + bar.sent / _DAY, bar.lane - 0.22)
        axes.annotate(bar.message, at, color=_colour(bar.mark), fontsize=7, rotation=30, parse_math=False)
    for sign in signs:
        at = (zero + sign.at / _DAY, sign.lane + 0.42)
        axes.annotate(sign.kind, at, color=_INK, fontsize=_SIZE, va='top', ha='center', parse_math=False)
    said = ['green: RUNNING, as it last said'] if running else []
    if left := len(drawn.bars) + len(drawn.signs) - len(bars) - len(signs):
        said.append(f'{left} names are left out, where they would cover others; a .html has them all')
    axes.set_xlabel('; '.join(said), fontsize=_SIZE + 1, loc='left')
    figure.savefig(path, format='png')


def clock(locator: dates.AutoDateLocator, zone: timezone) -> dates.ConciseDateFormatter:
    """Return what writes the times of the axis: those of a short session whole too, for 07.5 alone says nothing."""
    formatter = dates.ConciseDateFormatter(locator, tz=zone)  # type: ignore[no-untyped-call]
    formatter.formats[5] = formatter.zero_formats[5] = '%H:%M:%S.%f'
    return formatter


def names(drawn: Picture) -> tuple[list[Bar], list[Sign]]:
    """Return the commands and the events whose names can be written without one covering another."""
    times = [bar.sent for bar in drawn.bars] + [sign.at for sign in drawn.signs]
    begin = min(times, default=0.0)
    scale = _WIDTH / max(max(times, default=0.0) - begin, 1e-6)
    bars = free([((bar.sent - begin) * scale, (bar.sent - begin) * scale + _SLANTED, _rank(bar)) for bar in drawn.bars])
    signs: list[Sign] = []
    for lane in range(len(drawn.lanes)):
        own = [sign for sign in drawn.signs if sign.lane == lane]
        spans = []
        for sign in own:
            middle, half = (sign.at - begin) * scale, len(sign.kind) * _LETTER * _SIZE / 2 + 1
            spans.append((middle - half, middle + half, {'!': 0, '~': 1}.get(sign.mark, 2)))
        signs += [own[i] for i in free(spans)]
    return [drawn.bars[i] for i in bars], signs


def free(spans: Sequence[tuple[float, float, int]]) -> list[int]:
    """Return which of some stretches can be shown so that none covers another: lower ranks first, then earlier ones.

    Parameters
    ----------
    spans : sequence of (float, float, int)
        Begin, end and rank of each.

    Examples
    --------
    >>> free([(0, 10, 1), (5, 15, 0), (15, 25, 1)])
    [1, 2]
    """
    taken: list[tuple[float, float]] = []
    shown = []
    for i in sorted(range(len(spans)), key=lambda i: (spans[i][2], spans[i][0])):
        begin, end, _ = spans[i]
        place = bisect(taken, (begin, end))
        fits_before = place == 0 or taken[place - 1][1] <= begin
        fits_after = place == len(taken) or taken[place][0] >= end
        if fits_before and fits_after:
            insort(taken, (begin, end))
            shown.append(i)
    return sorted(shown)


def _rank(bar: Bar) -> int:
    return {'!': 0, '~': 1}.get(bar.mark, _RANKS.get(bar.message, 4))


def _colour(mark: str) -> str:
    return {'!': _BAD, '~': _WARN}.get(mark, _INK)


def _spans(bars: Iterable[Bar]) -> dict[str, list[tuple[int, float, float]]]:
    """Return lane, begin and end of all stretches of one colour."""
    spans: dict[str, list[tuple[int, float, float]]] = {_WAIT: [], _WORK: []}
    for bar in bars:
        if bar.finished is not None:
            spans[_WORK].append((bar.lane, bar.sent, bar.finished))
        for part in bar.parts:
            if part.sent is not None and part.echoed is not None:
                spans[_WAIT].append((part.lane, part.sent, part.echoed))
                spans[_WORK].append((part.lane, part.echoed, part.answered or part.echoed))
    return spans


def spans_of_running(drawn: Picture) -> list[tuple[int, float, float]]:
    """Return lane, begin and end of when services were RUNNING; what has not ended goes on to the last entry."""
    return [(run.lane, run.begin, _last(drawn) if run.end is None else run.end) for run in drawn.running]


def _last(drawn: Picture) -> float:
    """Return when the last thing that is drawn was, s."""
    return max([bar.finished or bar.sent for bar in drawn.bars] + [sign.at for sign in drawn.signs], default=0.0)


def _points(drawn: Picture) -> Iterable[tuple[str, str, list[tuple[float, float]]]]:
    """Yield marker, colour, and place of all signs of one kind."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def add(marker: str, mark: str, at: float, lane: float) -> None:
        found.setdefault((marker, _colour(mark)), []).append((at, lane))

    for sign in drawn.signs:
        add('^', sign.mark, sign.at, sign.lane + 0.25)
    for bar in drawn.bars:
        if bar.mark != ' ':
            add('x' if bar.mark == '!' else 'D', bar.mark, bar.finished or bar.sent, bar.lane)
        else:
            add('|', ' ', bar.sent, bar.lane)
        for part in bar.parts:
            at = next((at for at in (part.answered, part.echoed, part.sent) if at is not None), bar.sent)
            add('|' if part.ok else 'x', ' ' if part.ok else '!', at, part.lane)
    for (marker, colour), places in found.items():
        yield marker, colour, places
