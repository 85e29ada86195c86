"""What strangers can have the page say is said seldom: who reaches its port must not fill the worker's log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

PAUSE = 60.0  # s between two lines of a kind
STRANGERS = {'of_strangers': True}
"""dict: for ``extra=`` of a line that anybody can cause."""


class Seldom(logging.Filter):
    """Let through one record of a kind in a while, in one line, with the number of those before it that were not.

    Of a kind are those with one text before its arguments are put in. What is not of strangers passes as it is; of
    aiohttp all is, which logs each malformed request with a traceback.

    Parameters
    ----------
    clock : callable
        Seconds of a clock that only goes on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[Any, tuple[float, int]] = {}  # when it was said last, and what was left out since

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to log a record; it is shortened."""
        if not (record.name.startswith('aiohttp') or getattr(record, 'of_strangers', False)):
            return True
        now = self._clock()
        said, left_out = self._kinds.get(record.msg, (now - PAUSE, 0))
        if now - said < PAUSE:
            self._kinds[record.msg] = (said, left_out + 1)
            return False
        self._kinds[record.msg] = (now, 0)
        text = ' '.join(record.getMessage().split())
        if record.exc_info and record.exc_info[0]:
            text += f' ({record.exc_info[0].__name__})'
        if left_out:
            text += f'; and {left_out} more like it'
        record.msg, record.args, record.exc_info, record.exc_text = text, (), None, None
        return True
