"""What carries commands to services: one interface.

Over the network it is `bridge.services.carrier`, through a segment that a worker serves `bridge.segment.carrier`.
A `Command` is made by whoever wants something and handed to a `Carrier`, which makes one errand per service of it and
resolves `Command.future` exactly once, with one `Outcome` per service, whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from bridge.loop import LoopThread
from bridge.nearest import did_you_mean
from bridge.outcome import Aborted, Outcome, Reason

log = logging.getLogger(__name__)

Outcomes = dict[str, Outcome]

TIMEOUT = 10.0  # s, for all services' replies, as iblrig has it
CREATE_TIMEOUT = 3.0  # s, that `ThreadedCarrier.start` waits at most
REVERSED = frozenset(('EXPEND', 'EXPINTERRUPT', 'EXPCLEANUP'))
"""frozenset of str: what goes to the services in reverse order, as iblutil's ``Services`` does it."""


class CommandFuture(Future[Outcomes]):
    """A future that can be cancelled only if its command can be taken back: else it would say what is not so.

    Attributes
    ----------
    take_back : callable or None
        Takes the command back, and returns whether nothing of it was sent; None: nothing was, as long as nobody has
        claimed the command.
    write : callable
        Calls what writes a line of the log; may do so later.
    """

    take_back: Callable[[], bool] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.write: Callable[[Callable[[], None]], object] = lambda line: line()

    def cancel(self) -> bool:
        """Take the command back; False if it is under way, or over."""
        take_back = self.take_back  # another thread may just change it
        if not self.done() and take_back is not None and not take_back():
            return False
        return super().cancel()

    def add_done_callback(self, fn: Callable[[Future[Outcomes]], object]) -> None:
        """Have something called at the end; one that calls sys.exit ends no thread of ours, nor the others."""
        super().add_done_callback(fn if self.done() else partial(self._call, fn))

    def _call(self, callback: Callable[[Future[Outcomes]], object], _: Future[Outcomes]) -> None:
        try:
            callback(self)
        except BaseException as exc:
            if not isinstance(exc, Exception) and threading.current_thread() is threading.main_thread():
                raise
            self.write(partial(log.error, 'what was to be called at the end of a command failed', exc_info=exc))


@dataclass(eq=False)
class Command:
    """One message to some services.

    Attributes
    ----------
    message : str
        Its name, e.g. ``EXPSTART``.
    args, kwargs : tuple, dict
        As of iblutil's ``Services`` method for that message.
    names : tuple of str
        The services, in configured order.
    for_all : bool
        It is for all services that there are by the time that it leaves; `names` are those that are known.
    gate : callable, optional
        Called once, directly before the first datagram. If it raises, nothing is sent to anyone and the future gets
        that exception.
    timeout : float, optional
        Seconds from a service's first datagram to its reply; by default that of its timing, or of the carrier.
    deadline : float
        The ``time.perf_counter`` (s) after which no service is sent it any more that has not got it.
    once : bool
        It is never sent a second time.
    concurrent : bool
        Whether all services are sent it at once, or each when the one before it has answered.
    last : bool
        It may leave although the carrier is being closed.
    key : str
        What journals call it; "": they do not know it.
    yields : bool
        It is a question that nobody waits for long: other commands go first, and wait for its answer 1 s behind its
        echo, or 3 s if there is none.
    told : callable, optional
        For who neither waits nor cancels: called once, with what `future` would resolve with, outcomes and exception.
        There is no future then: its lock costs as much as all other objects of a command.
    future : CommandFuture
        Resolves with one `Outcome` per service, in the order of `names`.
    fault : Exception or None
        What was wrong with it before anything was sent.
    forgiven : bool
        Whoever failed is optional.
    """

    message: str
    args: Sequence[Any] = field(default=(), repr=False)
    kwargs: dict[str, Any] = field(default_factory=dict, repr=False)
    names: tuple[str, ...] = ()
    gate: Callable[[], None] | None = None
    timeout: float | None = None
    deadline: float = math.inf
    once: bool = False
    concurrent: bool = True
    for_all: bool = False
    last: bool = False
    yields: bool = False
    key: str = ''
    told: Callable[[Outcomes, BaseException | None], object] | None = field(default=None, repr=False)
    future: CommandFuture = field(init=False, repr=False)
    fault: Exception | None = field(default=None, init=False)
    forgiven: bool = field(default=False, init=False)
    claimed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.told is None:
            self.future = CommandFuture()

    def claim(self) -> bool:
        """Make the future ours; False if its holder has cancelled it."""
        if self.told is not None:
            return True
        if not self.claimed:
            self.claimed = True
            try:
                return bool(self.future.set_running_or_notify_cancel())
            except InvalidStateError:  # resolved as the thread ended
                return False
        return not self.future.cancelled()

    def unsent(self, reason: Reason, error: str) -> Outcomes:
        """Return the outcomes of a command that was not sent to anybody."""
        return {name: Outcome(name, reason=reason, error=error) for name in self.names}

    def end(self, reason: Reason, error: str) -> None:
        """Resolve it as not sent to anybody."""
        self.resolve(self.unsent(reason, error))

    def misfit(self, fault: Exception) -> None:
        """Resolve it as one whose arguments do not fit its message."""
        self.fault = fault
        self.end(Reason.ARGUMENTS, str(fault))

    def resolve(self, outcomes: Outcomes, error: BaseException | None = None) -> None:
        """Hand the result to whoever waits; later calls do nothing."""
        if self.told is not None:
            self._tell(outcomes, error)
            return
        try:
            if self.claim():
                if error is not None:
                    self.future.set_exception(error)
                else:
                    self.future.set_result(outcomes)
        except InvalidStateError:
            pass

    def _tell(self, outcomes: Outcomes, error: BaseException | None) -> None:
        if self.told is None or self.claimed:
            return
        self.claimed = True
        try:
            self.told(outcomes, error)
        except Exception:  # as a future does it
            log.exception('what became of %s could not be told', self.message)


class Carrier(Protocol):
    """Carries commands to services.

    Attributes
    ----------
    names : tuple of str
        The services, in configured order.
    on_event : callable or None
        Called with service, event number and data of each message that a service sends by itself.
    """

    names: tuple[str, ...]
    on_event: Callable[[str, int, list[Any]], None] | None

    def submit(self, command: Command) -> Future[Outcomes]:
        """Send a command, or let it wait for its turn; returns at once, from any thread."""

    def withdraw(self, command: Command) -> bool:
        """Take a command back; True if nothing of it was sent."""

    def clear(self) -> int:
        """Take back every command of which nothing was sent; return how many."""

    def close(self, patience: float = 0.0) -> None:
        """Begin nothing new, give what is under way `patience` (s) to be answered, and end; again: at once."""


def check_order(names: Iterable[str], after: Mapping[str, Sequence[str]]) -> None:
    """Raise ValueError if a service comes after one that there is not, or after itself by way of others.

    Parameters
    ----------
    names : iterable of str
        The services.
    after : mapping of str to sequence of str
        Which services a service comes after.
    """
    left = {name: set(after.get(name, ())) for name in names}
    for name, before in after.items():
        if isinstance(before, str):
            raise ValueError(f'{name}: after: {before!a} is text; write a list of services')
        if unknown := [one for one in (name, *before) if one not in left]:
            offer = did_you_mean(unknown[0], left) or '; remove it'
            raise ValueError(f'{name}: after: there is no service {unknown[0]!a}{offer}')
    while free := [name for name, before in left.items() if not before]:
        for name in free:
            del left[name]
        for others in left.values():
            others.difference_update(free)
    if left:
        raise ValueError(f'after: {", ".join(left)} wait for each other; remove one of them')


class ThreadedCarrier(ABC):
    """How both carriers live and end: a thread with a loop, and a stop that lets what is under way be answered.

    Attributes
    ----------
    thread : LoopThread
        Where `serve`, or what `start` was given instead, runs.
    created : threading.Event
        Set when it is open.
    hurried : concurrent.futures.Future
        Resolved when all is to end at once.
    services : object
        What stands for iblutil's ``Services``, if it is not that itself.
    on_opened : callable
        Called when there are other services, or new communicators.
    ended_by : str
        What has happened, for whoever's command ends with this.
    """

    names: tuple[str, ...] = ()
    services: Any = None
    ended_by: str = 'Auxiliaries was closed'
    on_event: Callable[[str, int, list[Any]], None] | None = None

    def __init__(self, name: str) -> None:
        self.on_opened: Callable[[], None] = lambda: None
        self.thread = LoopThread(name)
        self.created = threading.Event()
        self._closing = self._closed = False
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()  # a command has ended, or there is less patience
        self._until = math.inf  # time.monotonic: what is under way has until then
        self.hurried: Future[None] = Future()  # resolved when nobody wants to wait any more

    # What the two do differently

    @property
    def is_connected(self) -> bool:
        """bool: there is what commands go through."""
        return True

    @abstractmethod
    def submit(self, command: Command) -> Future[Outcomes]:
        """Send a command, or let it wait for its turn; returns at once, from any thread."""

    @abstractmethod
    def withdraw(self, command: Command) -> bool:
        """Take a command back; True if nothing of it was sent."""

    @abstractmethod
    def clear(self) -> int:
        """Take back every command of which nothing was sent; return how many."""

    @abstractmethod
    def close_sockets(self) -> None:
        """Close all communicators; the next command opens them again. In the thread."""

    @abstractmethod
    async def open(self) -> None:
        """Make ready to carry commands."""

    @abstractmethod
    def _end_unsent(self) -> None:
        """End what has not left and must not any more."""

    @abstractmethod
    def _is_busy(self) -> bool:
        """Tell whether commands are under way."""

    @abstractmethod
    def shut(self) -> None:
        """End everything; in the thread."""

    @abstractmethod
    def _at_end(self, cause: BaseException) -> None:
        """Resolve what is left, however the thread ended."""

    # What they share

    @property
    def is_running(self) -> bool:
        """bool: it takes commands."""
        return self.thread.ended is None and not self._closing and self.thread.thread.is_alive()

    def start(self, main: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """Start the thread, and wait until all is open, 3 s at most.

        Parameters
        ----------
        main : callable, optional
            Coroutine function to run there instead of `serve`.
        """
        try:
            self.thread.start(main or self.serve, self._at_end, Aborted(self.ended_by))
            self.created.wait(CREATE_TIMEOUT)
        except BaseException:  # Ctrl-C: nobody will have this to close it
            self.close()
            raise

    async def serve(self) -> None:
        """Carry commands until `close`."""
        try:
            await self.open()
            self.created.set()
            await self.stopped()
            await self.drain(math.inf)
        finally:
            self.shut()

    async def stopped(self) -> None:
        """Wait until `close` is called."""
        await self._stop.wait()

    async def drain(self, patience: float) -> None:
        """Begin nothing new, and give what is under way `patience` (s) to be answered, or less if `close` says so."""
        self._closing = True
        self._until = min(self._until, time.monotonic() + patience)
        self._end_unsent()
        while self._is_busy() and (left := self._until - time.monotonic()) > 0:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), None if left == math.inf else left)
            except (asyncio.TimeoutError, TimeoutError):
                break

    def begin_nothing(self) -> None:
        """Take no new commands but the last ones, and end what has not left; from any thread."""
        self._closing = True
        self.thread.ring(self._end_unsent)

    def close(self, patience: float = 0.0) -> None:
        """Stop: nothing new is begun, what is under way has `patience` (s) to be answered, then all ends.

        Called again, or with no patience, it ends at once. From any thread or signal handler; in the network thread it
        does not wait.
        """
        if self._closed:
            patience = 0.0
            with contextlib.suppress(InvalidStateError):  # others close it as well
                self.hurried.set_result(None)
        self._closing = self._closed = True
        self.thread.ring(self._begin_stop, patience)
        self.thread.join(patience + 1.0)

    def _begin_stop(self, patience: float) -> None:
        self._until = min(self._until, time.monotonic() + patience)
        self._stop.set()
        self._changed.set()
