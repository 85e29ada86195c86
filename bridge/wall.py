"""The wall clock as text, cheaply: ISO 8601 with milliseconds and the offset of the time zone.

A worker stamps every command and every entry of its journal. What changes once a second, the offset of summer time
included, is made once a second, and a text once for each millisecond.
"""

from __future__ import annotations

import time
from datetime import datetime

# One value each, so that any thread reads what belongs together.
_second: tuple[int, str, str] = (-1, '', '')
_last: tuple[int, str] = (-1, '')


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
    global _second, _last
    milliseconds = (time.time_ns() if now is None else now) // 10**6
    last, text = _last
    if last != milliseconds:
        seconds, rest = divmod(milliseconds, 1000)
        second, head, tail = _second
        if second != seconds:
            whole = datetime.fromtimestamp(seconds).astimezone().isoformat(timespec='seconds')
            head, tail = whole[:19], whole[19:]
            _second = seconds, head, tail
        text = f'{head}.{rest:03d}{tail}'
        _last = milliseconds, text
    return text
