"""The results of `Auxiliaries.push`: from ``_queued`` to ``_log``, as iblrig's code looks at them.

A caller may hold ``response_received`` for as long as it likes, and the network thread never waits for it: if the lock
is taken, another thread publishes.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from bridge.commands import Command, Queue

KEPT = 1000  # results in the log


class Results:
    """What was pushed and has no result yet, and the results.

    Parameters
    ----------
    ring : callable
        Called with the key of an entry that somebody put into the queue by hand.

    Attributes
    ----------
    received : threading.Condition
        Re-entrant; notified when results were moved from `queued` to `log`, and held by whoever looks at them.
    queued : Queue
        ``[message, args, kwargs]`` by key.
    log : dict
        The last 1,000 results by key.
    """

    def __init__(self, ring: Callable[[float], object]) -> None:
        self.received = threading.Condition()
        self.queued = Queue(ring)
        self.log: dict[float, Any] = {}
        self._last_key = 0.0
        self._finished: deque[Command] = deque()
        self._publishing = False

    def enter(self, command: Command, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Give a command its key and note that it is under way; the caller holds `received`."""
        # The key is the time, as in iblrig; two pushes within one tick of the clock still need two keys.
        command.key = self._last_key = max(time.time(), math.nextafter(self._last_key, math.inf))
        self.queued.put(command.key, [command.message, args, kwargs])

    def publish(self, command: Command) -> None:
        """Move a pushed command from `queued` to `log` and tell those who wait; in the network thread."""
        self._finished.append(command)
        if self._publishing:
            return
        # A caller may hold this lock for as long as it likes, and the next interrupt must leave all the same.
        if self.received.acquire(timeout=0.001):
            try:
                self.drain()
            finally:
                self.received.release()
        else:
            self._publishing = True
            threading.Thread(target=self._publish_later, name='publisher', daemon=True).start()

    def _publish_later(self) -> None:
        with self.received:
            # First the flag: what comes after it is published by the network thread, what came before is in the queue
            # by now.
            self._publishing = False
            self.drain()

    def drain(self) -> None:
        """Publish what has finished; the caller holds `received`."""
        while self._finished:
            command = self._finished.popleft()
            if command.key is not None:
                self.record(command.key, command.result)
            command.published = True
        self.received.notify_all()

    def record(self, key: float, result: Any) -> None:
        """Write a result down and take its command out of the queue; the caller holds `received`."""
        self.log[key] = result
        self.queued.pop(key, None)
        while len(self.log) > KEPT:
            del self.log[next(iter(self.log))]
