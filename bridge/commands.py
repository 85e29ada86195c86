"""What is on its way through `Auxiliaries`: commands, and how the calling threads and the network thread meet.

A `Command` is made and encoded in the caller's thread, carried out in the network thread (`dispatch`), and its result
handed back as a future, or, if it was pushed, by way of `_queued` and `_log` (`results`).
"""

import math
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any

from bridge.exchange import Errand
from bridge.outcomes import ANSWERED, NOT_SENT, Outcome


class Command:
    """One message to some services, on its way through the network thread.

    Attributes
    ----------
    order : int
        Position among all commands of one `Auxiliaries`.
    key : float or None
        Its key in ``_queued`` and ``_log``; None if it was not pushed.
    future : concurrent.futures.Future
        Resolves with one `Outcome` per service.
    begun : bool
        Its first datagram may have left.
    quiet : bool
        Its failure is nothing that the log has to know.
    once : bool
        It is never sent a second time.
    request : int or None
        Its number at a worker, if one carries it out (`remote`).
    stock : callable or None
        A coroutine function to await instead of sending ourselves.
    """

    def __init__(self, order: int, message: Any, names: Sequence[str], gate: Callable[[], None] | None) -> None:
        self.order, self.message, self.names, self.gate = order, message, tuple(names), gate
        self.name: str = message.name
        self.key: float | None = None
        self.future: Future[dict[str, Outcome]] = Future()
        self.text = b''
        self.wants_reply = True
        self.quiet = self.once = False
        self.request: int | None = None
        self.timeout: float | None = None
        self.deadline = math.inf
        self.begun = self.claimed = self.withdrawn = self.published = False
        self.stock: Callable[[], Coroutine[Any, Any, Any]] | None = None
        self.errands: list[Errand] = []
        self.left = len(self.names)
        self.result: Any = None

    def claim(self) -> bool:
        """Make the future ours; False if its holder has cancelled it."""
        if not self.claimed:
            self.claimed = True
            try:
                return bool(self.future.set_running_or_notify_cancel())
            except InvalidStateError:  # resolved as the thread ended
                return False
        return not self.future.cancelled()


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


class StopEvent(threading.Event):
    """An event that rings when it is set, so that nobody has to look at it from time to time."""

    def __init__(self, ring: Callable[[], object]) -> None:
        super().__init__()
        self._ring = ring

    def set(self) -> None:
        """Set the event and stop the network thread."""
        super().set()
        self._ring()


def stock_outcomes(command: Command, sent: int) -> dict[str, Outcome]:
    """Tell the result of a replaced `Services` method as outcomes."""
    now = time.perf_counter_ns()
    if isinstance(command.result, BaseException):
        return {name: Outcome(name, False, NOT_SENT, str(command.result)) for name in command.names}
    found = command.result if isinstance(command.result, dict) else {}
    event = int(command.message)
    return {name: Outcome(name, True, ANSWERED, '', found.get(name), event, sent, now, now) for name in command.names}


def seconds(value: Any, default: float) -> float:
    """Return a time span as a number; what is none (None, NaN, a test double) becomes the default."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return min(float(value), threading.TIMEOUT_MAX)
    return default
