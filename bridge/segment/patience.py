"""Waiting in Python: in slices, so that Ctrl-C is heard.

Python hears a signal between two calls of the library and not in one. The clock is passed in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

SLICE = 0.1
"""float: the longest wait inside of the library, s."""

_MOST_MS = 2**31 - 1


def slices(timeout: float, clock: Callable[[], float] = time.monotonic) -> Iterator[int]:
    """Yield how long to wait at a time, ms, until the time is up; at least once.

    Parameters
    ----------
    timeout : float
        s; infinity for ever.
    clock : callable
        The time now, s.
    """
    until = clock() + timeout
    left = timeout
    while True:
        yield math.ceil(min(left, SLICE) * 1000)
        left = until - clock()
        if left <= 0:
            return


def seconds(value: float | None, what: str = 'timeout') -> float:
    """Return a time-out, s; None is for ever.

    Raises
    ------
    TypeError, ValueError
        It is none; before anything is sent.
    """
    if value is None:
        return math.inf
    if isinstance(value, (str, bytes, bool)) or not hasattr(value, '__float__'):
        raise TypeError(f'{what} must be a number of seconds or None, not {value!r}')
    number = float(value)
    if not number >= 0:
        raise ValueError(f'{what} must be a number of seconds, 0 or more, not {value!r}')
    return number


def milliseconds(timeout: float) -> int:
    """Return a time-out, s, as the library takes a time to live: ms, at least 1; -1 for none."""
    return -1 if timeout * 1000 >= _MOST_MS else max(round(timeout * 1000), 1)
