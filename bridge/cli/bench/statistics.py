"""What is made of the times: functions of values."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

WIN = 1.2  # a ratio nearer to 1 is called neither faster nor slower


class Summary(NamedTuple):
    """A kind of command, over all rounds.

    Parameters
    ----------
    p50, p99 : float
        Medians of the rounds' own, in the unit of the times.
    """

    p50: float
    p99: float


def percentile(times: Sequence[float], percent: float) -> float:
    """Return the smallest of `times` that at least `percent` of them do not exceed.

    Raises
    ------
    ValueError
        Of no times.
    """
    if not times:
        raise ValueError('of no times there is no percentile')
    ordered = sorted(times)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def summary(rounds: Sequence[Sequence[float]]) -> Summary:
    """Return the medians of what each round has as p50 and p99."""
    return Summary(*(statistics.median(percentile(times, p) for times in rounds) for p in (50, 99)))


def ratio(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """Return the median of the ratios inside a round, of the p50: what else the computer did then met both."""
    return statistics.median(percentile(a, 50) / percentile(b, 50) for a, b in zip(ours, theirs, strict=True))


def verdict(times: float) -> str:
    """Return what a ratio of our time to another's may be called."""
    if times * WIN <= 1:
        return 'faster'
    return 'slower' if times >= WIN else '≈'
