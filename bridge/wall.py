"""The wall clock as text, cheaply: ISO 8601 with milliseconds and the offset of the time zone.

A worker stamps every command and every entry of its journal. What changes once a second, the offset of summer time
included, is made once a second.
"""

from __future__ import annotations

import time
from datetime import datetime

_second: tuple[int, str, str] = (-1, '', '')  # one value, so that any thread reads what belongs together


def wall(now: int | None = None) -> str:
    """Return a moment as text.

    Parameters
    ----------
    now : int, optional
        ns of ``time.time_ns``; without it the present one.

    Returns
    -------
    str
        What ``datetime.fromtimestamp(now / 1e9).astimezone().isoformat(timespec='milliseconds')`` says, rounded down.
    """
    global _second
    seconds, rest = divmod(time.time_ns() if now is None else now, 10**9)
    second, head, tail = _second
    if second != seconds:
        text = datetime.fromtimestamp(seconds).astimezone().isoformat(timespec='seconds')
        head, tail = text[:19], text[19:]
        _second = seconds, head, tail
    return f'{head}.{rest // 10**6:03d}{tail}'
