"""The rows of the table, and how contestants take turns."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from bridge.cli.bench import statistics
from bridge.cli.bench.programs import BenchError
from bridge.errors import BridgeError

Contestant = Callable[[int, float], list[float]]
"""Takes a number and a pause behind each (s), and returns the times, s."""
FAULTS = (BenchError, BridgeError, RuntimeError, OSError, ValueError)
"""What ends a part of the table, and no other: a contestant, a service or the worker did not do what it should."""


@dataclass
class Row:
    """One line of the table.

    Parameters
    ----------
    key, title : str
        For programs, and for people.
    unit : str
        Of `value` and `p99`.
    aim : str
        In words.
    value, p99 : float, optional
        Ours; None if it was not measured.
    against : dict
        By peer: our time as a multiple of its.
    reached : bool, optional
        Whether all that is aimed at and was measured is so; None if nothing was.
    note : str
        Why something is missing, or what else was seen.
    failed : bool
        Whether it could not be measured although it should.
    """

    key: str
    title: str
    unit: str
    aim: str
    value: float | None = None
    p99: float | None = None
    against: dict[str, float] = field(default_factory=dict)
    reached: bool | None = None
    note: str = ''
    failed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, with what each ratio may be called."""
        return {**asdict(self), 'verdict': {peer: statistics.verdict(r) for peer, r in self.against.items()}}


def reached(against: dict[str, float], aims: dict[str, float]) -> bool | None:
    """Return whether every ratio is as small as is aimed at; None if one is missing, and none too big."""
    judged = [against[peer] <= aim for peer, aim in aims.items() if peer in against]
    if not all(judged):
        return False
    return True if len(judged) == len(aims) else None


def compare(contestants: dict[str, Contestant], rounds: int, count: int, pause: float) -> dict[str, list[list[float]]]:
    """Return the times of each by round; in each round they take turns in another order."""
    times: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for contestant in contestants.values():
        contestant(10, 0.0)
    for _ in range(rounds):
        for name in random.sample(list(contestants), len(contestants)):
            times[name].append(contestants[name](count, pause))
    return times


@dataclass
class Part:
    """Rows that are measured with the same processes.

    Parameters
    ----------
    titles : dict
        Of its rows, by their keys.
    measure : callable
        Gives the rows; what it opens in the stack is closed behind the last one.
    """

    titles: dict[str, str]
    measure: Callable[[ExitStack], Iterable[Row]]

    def rows(self, progress: Callable[[str], object] = lambda title: None) -> list[Row]:
        """Measure, and tell the title of each row before; what fails ends here, and is a row that says why."""
        done: dict[str, Row] = {}
        titles = iter(self.titles.values())
        try:
            with ExitStack() as stack:
                progress(next(titles, ''))
                for row in self.measure(stack):
                    done[row.key] = row
                    progress(next(titles, ''))
        except FAULTS as e:
            note = ' '.join(f'{e}'.split())[:500]
            left = ((key, title) for key, title in self.titles.items() if key not in done)
            done |= {key: Row(key, title, '', '', note=note, failed=True) for key, title in left}
        return list(done.values())
