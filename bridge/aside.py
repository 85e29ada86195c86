"""What is done without waiting for it: a log may have a reader that stands still.

A console of Windows stops whoever writes to it while somebody selects text in it. The network thread must not be that:
a service whose answer is not confirmed within a second closes, and an interrupt has to leave.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)


def beside(what: Callable[[], object], name: str) -> None:
    """Call something in a thread of its own, or here if there can be no more threads, as at the exit of a program."""
    try:
        threading.Thread(target=what, name=name, daemon=True).start()
    except RuntimeError:
        what()


class Aside:
    """Calls things in order, in a thread of its own that is there while there is something to do."""

    def __init__(self) -> None:
        self._todo: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition()  # re-entrant: a signal handler may come in
        self._is_busy = False

    def do(self, what: Callable[[], object]) -> None:
        """Have something called soon; from any thread."""
        with self._changed:
            self._todo.append(what)
            if self._is_busy:
                return
        beside(self._run, 'aside')  # `_run` says that it is busy: Ctrl-C may come before there is anybody

    def wait(self, timeout: float) -> bool:
        """Wait until everything was called; False if the time is up, s."""
        if self._todo and not self._is_busy:  # Ctrl-C came before anybody began with it
            beside(self._run, 'aside')
        with self._changed:
            return self._changed.wait_for(lambda: not (self._is_busy or self._todo), timeout)

    def _run(self) -> None:
        with self._changed:
            if self._is_busy:
                return
            self._is_busy = True
        while True:
            with self._changed:
                if not self._todo:
                    self._is_busy = False
                    self._changed.notify_all()
                    return
                what = self._todo.popleft()
            try:
                what()
            except BaseException:  # sys.exit of a log's handler, too: nothing would be told any more
                with contextlib.suppress(BaseException):  # this may go to the same log
                    log.exception('what was put aside failed')
