"""What iblrig's code holds in its hands: the queue and the log of pushed commands, and the events of `Auxiliaries`.

A caller may hold ``response_received`` for as long as it likes, and the network thread never waits for it: if the lock
is taken, another thread publishes.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from bridge.aside import beside

KEPT = 1000  # results in the log
UNSET: Any = object()
_PIECE = 0.1  # s


class Signal(threading.Condition):
    """An event, as the class is documented, that is a condition as well, as iblrig's code uses it.

    Used as an event, without holding it, it stays set until `clear`. Used as a condition, within ``with``, `wait` waits
    for the next notification; unless it is `lasting`: then what has happened has happened, and `wait` returns at once.

    Parameters
    ----------
    lasting : bool
        It is set once and for all.
    """

    def __init__(self, lasting: bool = False) -> None:
        super().__init__()  # re-entrant
        self._is_owned: Callable[[], bool]
        self._set, self._lasting = False, lasting
        self._times = 0  # that it was notified

    def is_set(self) -> bool:
        """Tell whether it has happened."""
        return self._set

    def set(self) -> None:
        """Say that it has happened."""
        with self:
            self.notify_all()

    def clear(self) -> None:
        """Wait for it anew."""
        self._set = False

    def notify(self, n: int = 1) -> None:
        """Say that it has happened; the caller holds it."""
        self._set = True
        self._times += 1
        super().notify(n)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it happens.

        Parameters
        ----------
        timeout : float, optional
            s.

        Returns
        -------
        bool
            False if the time is up.
        """
        if self._is_owned() and not self._lasting:
            return self._wait(timeout)
        until = None if timeout is None else time.monotonic() + timeout
        with self:
            while not self._set:
                left = None if until is None else until - time.monotonic()
                if (left is not None and left <= 0) or not self._wait(left):
                    return self._set
        return True

    def _wait(self, timeout: float | None) -> bool:
        """Wait for the next notification; on Windows in pieces, as nothing interrupts the wait for a lock there."""
        if sys.platform != 'win32':
            return super().wait(timeout)
        before, until = self._times, math.inf if timeout is None else time.monotonic() + timeout
        while self._times == before and (left := until - time.monotonic()) > 0:
            super().wait(min(left, _PIECE))
        return self._times != before


class StopEvent(threading.Event):
    """An event that rings when it is set, so that nobody has to look at it from time to time."""

    def __init__(self, ring: Callable[[], object]) -> None:
        super().__init__()
        self._ring = ring

    def set(self) -> None:
        """Set the event, and have the network thread stop."""
        super().set()
        self._ring()


class Queue(dict[float, list[Any]]):
    """The pushed commands that have no result yet; an entry set by hand is carried out as well."""

    def __init__(self, ring: Callable[[float], object]) -> None:
        super().__init__()
        self._ring = ring

    def __setitem__(self, key: float, value: list[Any]) -> None:
        super().__setitem__(key, value)
        self._ring(key)

    def put(self, key: float, value: list[Any]) -> None:
        """Set an entry whose command is on its way already."""
        super().__setitem__(key, value)


class Pushed:
    """One pushed command: its key, and its result as soon as there is one.

    Attributes
    ----------
    key : float
        In the queue and in the log.
    result : object
        What `push` returns with ``wait``.
    published : bool
        It was moved from the queue to the log.
    """

    def __init__(self, key: float) -> None:
        self.key = key
        self.result: Any = UNSET
        self.published = False


class Results:
    """What was pushed and has no result yet, and the results.

    Parameters
    ----------
    ring : callable
        Called with the key of an entry that somebody put into the queue by hand.

    Attributes
    ----------
    received : Signal
        Notified when results were moved from `queued` to `log`, and held by whoever looks at them.
    queued : Queue
        ``[message, args, kwargs]`` by key.
    log : dict
        The last 1,000 results by key.
    """

    def __init__(self, ring: Callable[[float], object]) -> None:
        self.received = Signal()
        self.queued = Queue(ring)
        self.log: dict[float, Any] = {}
        self._last_key = 0.0
        self._finished: deque[Pushed] = deque()
        self._publishing = False

    def enter(self, message: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pushed:
        """Give a command its key and note that it is under way; the caller holds `received`."""
        # The key is the time, as in iblrig; two pushes within one tick of the clock still need two keys. So does
        # one of a signal handler in the middle of this: the lock lets it in.
        key = self._last_key = max(time.time(), math.nextafter(self._last_key, math.inf))
        self.queued.put(key, [message, args, kwargs])
        return Pushed(key)

    def publish(self, pushed: Pushed) -> None:
        """Move a pushed command from `queued` to `log` and tell those who wait."""
        self._finished.append(pushed)
        if self._publishing:
            return
        # A caller may hold this lock for as long as it likes, and the next interrupt must leave all the same.
        if self.received.acquire(timeout=0.001):
            try:
                self.drain()
            finally:
                self.received.release()
        else:
            try:
                self._publishing = True
                beside(self._publish_later, 'publisher')
            except BaseException:  # Ctrl-C, perhaps before there was a publisher: nothing would be published any more
                self._publishing = False
                raise

    def _publish_later(self) -> None:
        with self.received:
            # First the flag: what comes after it is published by the network thread, what came before is in the queue
            # by now.
            self._publishing = False
            self.drain()

    def drain(self) -> None:
        """Publish what has finished; the caller holds `received`."""
        published = bool(self._finished)
        with contextlib.suppress(IndexError):  # a signal handler may have drained it meanwhile
            while self._finished:
                pushed = self._finished.popleft()
                if not pushed.published:
                    self._record(pushed)
        if published:
            self.received.notify_all()

    def settle(self, pushed: Pushed, result: Any) -> Any:
        """Publish a result, whatever came before it or comes behind it, and return it; the caller holds `received`."""
        pushed.result = result
        self._record(pushed)
        self.received.notify_all()
        return result

    def _record(self, pushed: Pushed) -> None:
        """Write a result down and take its command out of the queue."""
        pushed.published = True
        self.log[pushed.key] = pushed.result
        self.queued.pop(pushed.key, None)
        while len(self.log) > KEPT:
            self.log.pop(next(iter(self.log)), None)


def seconds(value: Any, default: float) -> float:
    """Return a time span as a number; what is none (None, NaN, a test double) becomes the default."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return min(float(value), threading.TIMEOUT_MAX / 2)  # with room for what is added: a lock takes no more
    return default
