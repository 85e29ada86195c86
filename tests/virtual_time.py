"""Time that passes as fast as it can be worked through, for the models of machines without a clock."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

MS = 10**6  # ns


class VirtualTime:
    """What happens when, and a machine that is asked after each of it.

    Attributes
    ----------
    now : int
        ns.
    """

    def __init__(self, now: int) -> None:
        self.now = now
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count(1)

    def wake_at(self) -> int | None:
        """Return when the machine wants to be asked again at the latest, ns; None for never."""
        raise NotImplementedError

    def turn(self) -> None:
        """Do what the machine says."""
        raise NotImplementedError

    def at(self, when: int, what: Callable[[], None]) -> None:
        """Have something happen."""
        heapq.heappush(self._events, (max(when, self.now), next(self._order), what))

    def run(self, span: int) -> None:
        """Let time pass, ns."""
        until = self.now + span
        while True:
            wake = self.wake_at()
            when = min([until] + ([self._events[0][0]] if self._events else []) + ([wake] if wake is not None else []))
            self.now = max(self.now, when)
            if self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            elif self.now >= until and not (wake is not None and wake <= self.now):
                return
            self.turn()

    def run_until(self, condition: Callable[[], Any], limit: int = 60_000 * MS) -> None:
        """Let time pass until something is so; an error if it never is."""
        end = self.now + limit
        while not condition():
            assert self.now < end, 'it never happens: something hangs'
            self.run(MS)


def histories(count: int, *, steps: int, same: bool) -> settings:
    """Return how a machine of hypothesis goes through so many histories, the same ones each time or others."""
    return settings(
        max_examples=count,
        derandomize=same,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
