"""What a service says again and again is logged once, and then how often: junk must not fill a disk.

The first of a kind is logged at once; those of the next `INTERVAL` are counted, and told at its end. In the network
thread.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable

INTERVAL = 10.0  # s
KINDS_MOST = 32  # of one service; kinds are few, and a bound is a bound

Later = Callable[[float, Callable[[], None]], object]


def _by_the_loop(delay: float, what: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(delay, what)


class Repeats:
    """The lines of the log that one service causes by itself.

    Parameters
    ----------
    name : str
        Of the service.
    logger : logging.Logger
        Where to.
    later : callable
        Has something called in so many s.

    Attributes
    ----------
    write : callable
        Calls what writes a line; may do so later.
    """

    def __init__(self, name: str, logger: logging.Logger, later: Later = _by_the_loop) -> None:
        self._name, self._log, self._later = name, logger, later
        self._left_out: dict[str, int] = {}
        self.write: Callable[[Callable[[], None]], object] = lambda line: line()

    def tell(self, level: int, kind: str, text: str, *, trace: bool = False) -> None:
        """Log a line, unless one of its kind was logged lately; `kind` in words, as the count names it."""
        if not self._log.isEnabledFor(level):
            return
        if kind in self._left_out:
            self._left_out[kind] += 1
        elif len(self._left_out) < KINDS_MOST:
            self._left_out[kind] = 0
            self.say(level, text, sys.exc_info()[1] if trace else None)
            self._later(INTERVAL, lambda: self._sum_up(level, kind))

    def say(self, level: int, text: str, fault: BaseException | None = None) -> None:
        """Log a line, however often it was logged."""
        self.write(lambda: self._log.log(level, '%s', text, exc_info=fault))

    def _sum_up(self, level: int, kind: str) -> None:
        count = self._left_out.pop(kind)
        if count:
            self.say(level, f'{self._name}: {count} more of {kind} within {INTERVAL:g} s')
            self._left_out[kind] = 0  # it goes on: only the number is told until it has been quiet for once
            self._later(INTERVAL, lambda: self._sum_up(level, kind))
