"""The face that iblrig knows: a drop-in for ``iblrig.net.Auxiliaries``, over any carrier.

    push, submit ──► Command ──► Carrier ──► one Outcome per service ──► future, or `_queued` → `_log`
    caller's thread              its thread

`Auxiliaries(clients)` speaks UDP; ``Auxiliaries.from_segment('rig0')`` is the same class through the worker that serves
a segment. What is here is iblrig's surface alone, as its documentation has it and as its code uses it: keys and results
of pushed commands, the events that are conditions as well, coroutines that a subclass may replace, ``Services`` whose
methods a test may replace. The worker needs none of it, and talks to a carrier.

To route what it logs: set `Auxiliaries.logger`. By default it is that of ``iblrig.net`` where iblrig is loaded, else
``bridge.auxiliaries``, which propagates as any other.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

from bridge import discretion
from bridge.aside import Aside
from bridge.carrier import TIMEOUT, Command, Outcomes, ThreadedCarrier
from bridge.outcome import ANSWERED, Aborted, Outcome, failure, replies
from bridge.results import UNSET, Pushed, Results, Signal, StopEvent, seconds
from bridge.services.carrier import UdpCarrier
from bridge.services.iblutil import METHODS, arguments, events, net, replaced, validate
from bridge.services.rules import MESSAGE_NUMBERS, Timing

ExpMessage = net.base.ExpMessage
_LOG = 1.0  # s, that what went wrong is given to be logged before a close, or a cleared queue, is told


class Auxiliaries:
    """Send experiment messages to remote services and collect what they did.

    Parameters
    ----------
    clients : dict of str
        URI by service name, e.g. ``{'cameras': 'udp://192.168.0.5:11001'}``. UDP only.
    timings : mapping of str to bridge.services.rules.Timing, optional
        How patient to be with some of the services; the others share `timing`.
    after : mapping of str to sequence of str, optional
        Which services a service comes after: EXPINIT and EXPSTART reach it when those have answered, EXPEND before
        them.

    Attributes
    ----------
    services : iblutil.io.net.app.Services or None
        The stock handler of all communicators; None if there are none. Its `timeout` (s) bounds the wait for replies.
        Through a segment: `bridge.segment.remote.RemoteServices`.
    connected : Signal
        Set when the services were created.
    response_received : Signal
        Notified when results were moved from ``_queued`` to ``_log``; a re-entrant condition.
    stop_event : threading.Event
        Setting it ends the network thread, as `close`, which waits for that.
    refresh_rate : float
        Seconds that `push` waits on top of ``services.timeout``.
    close_timeout : float
        Seconds that `close` gives what is under way to be answered: a service whose reply is not confirmed closes
        itself.
    logger : logging.Logger or None
        Where failures are told; None: see the module.
    on_event : callable or None
        Called in the network thread with service name, event number and data of each message that answers no command.

    Notes
    -----
    The constructor returns when the communicators are there, or after 3 s. A service whose host name cannot be
    resolved, or whose scheme is not supported, holds nobody up: its commands end ``not_sent`` with the reason.

    Two names with one address are both opened, as ``iblrig.net.Auxiliaries`` does it, and that service gets every
    command twice; a warning is logged. (A worker refuses such a configuration.)
    """

    services: Any = None
    connected: Any = None
    response_received: Any = None
    stop_event: Any = None
    refresh_rate: float = 0.2
    close_timeout: float = 5.0
    logger: logging.Logger | None = None
    _clients: Any = None
    _queued: Any = None
    _log: Any = None
    _thread: Any = None

    def __init__(
        self,
        clients: dict[str, str],
        timings: Mapping[str, Timing] | None = None,
        after: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._start(UdpCarrier(dict(clients or {}), timings, after), dict(clients or {}))

    @classmethod
    def from_segment(cls, segment: str, name: str = '', timeout: float | None = 1.0) -> Auxiliaries:
        """Return the same surface through the worker of a segment, so that no second master talks to the services.

        The services, their addresses and time-outs are the worker's, and what is sent twice; ``services.timeout`` is
        only how long `push` waits. A `gate` is called before the command is written into shared memory. A command
        without a `deadline` is not sent any more after 10 s.

        Parameters
        ----------
        segment : str
            e.g. ``rig0``.
        name : str
            Name of this client; default ``pid-<pid>-<n>-<random>``.
        timeout : float or None
            How long to wait for a worker, s; None: for ever.

        Raises
        ------
        bridge.errors.NoSegment, bridge.errors.NoWorker
            Nobody serves the segment.
        """
        from bridge.segment.carrier import SegmentCarrier

        carrier = SegmentCarrier(segment, name, timeout, arguments, events)
        made = cls.__new__(cls)
        weakref.finalize(made, carrier.forget).atexit = False  # first: Ctrl-C may come as soon as there is a thread
        made._start(carrier, dict.fromkeys(carrier.names, f'segment {segment}'))
        return made

    def _start(self, carrier: ThreadedCarrier, clients: dict[str, str]) -> None:
        self._carrier = carrier
        self._clients = clients
        here, self._stopped = weakref.ref(self), asyncio.Event()
        stopped = self._stopped
        self._results = Results(lambda key: carrier.thread.ring(_adopt, here, key))
        self._queued, self._log = self._results.queued, self._results.log
        self.response_received = self._results.received
        self.connected = Signal(lasting=True)
        self.stop_event = StopEvent(lambda: carrier.thread.ring(stopped.set))
        self._aside = Aside()
        self._awaited: set[asyncio.Task[None]] = set()
        self._cleaned = False
        carrier.on_opened = lambda: _gather(here)
        if isinstance(carrier, UdpCarrier):
            carrier.timeout = self._timeout
            carrier.logger = lambda: self._logger
            for repeats in carrier.repeats.values():
                repeats.write = self._aside.do
        self._loop = carrier.thread.loop
        self._thread = carrier.thread.thread
        if type(self).listen is Auxiliaries.listen and not isinstance(carrier, UdpCarrier):
            carrier.start(lambda: _listen(here, carrier, stopped))  # whoever is forgotten gives its slot back
        else:
            carrier.start(self.listen)

    def __repr__(self) -> str:
        named = ', '.join(self._carrier.names) or 'nothing'
        return f'<{type(self).__name__} of {named}{"" if self.is_running else ", closed"}>'

    # State

    @property
    def is_running(self) -> bool:
        """bool: the network thread takes commands."""
        return bool(self._carrier.is_running)

    @property
    def is_connected(self) -> bool:
        """bool: there are services that commands can be sent to.

        Whether they live only their answers can tell. A communicator that was closed is opened again for the next
        command, so this stays True until `close` or `cleanup`.
        """
        return (
            self.services is not None
            and self.is_running
            and not self.stop_event.is_set()
            and not self._cleaned
            and self._carrier.is_connected
        )

    @property
    def timing(self) -> Timing:
        """Timing: echo time-out, resends, pauses, of the services that have no timing of their own."""
        if isinstance(self._carrier, UdpCarrier):
            return self._carrier.timing
        raise AttributeError("how patient to be with the services is the worker's configuration")

    @property
    def on_event(self) -> Callable[[str, int, list[Any]], None] | None:
        """Callable or None: called with service, event number and data of what a service says by itself."""
        return self._carrier.on_event

    @on_event.setter
    def on_event(self, callback: Callable[[str, int, list[Any]], None] | None) -> None:
        self._carrier.on_event = callback

    # Sending

    def submit(
        self,
        message: Any,
        *args: Any,
        services: Sequence[str] | None = None,
        gate: Callable[[], None] | None = None,
        timeout: float | None = None,
        deadline: float = math.inf,
        once: bool = False,
        **kwargs: Any,
    ) -> Future[Outcomes]:
        """Send a message to some or all services; returns at once, from any thread.

        Parameters
        ----------
        message : str, int or iblutil.io.net.base.ExpMessage
            One message, e.g. 'EXPSTART'.
        *args, **kwargs
            As of the `Services` method for that message; with ``concurrent=False`` each service is sent it when the one
            before it has answered, and EXPEND with ``immediately=True`` is an EXPINTERRUPT. ALYX takes
            an Alyx object, or a base URL and ``{user: token}``, or, to ask for a token, a base URL or nothing.
        services : sequence of str, optional
            Names of the services; all by default.
        gate : callable, optional
            Called once, in the network thread, directly before the first datagram. If it raises, nothing is sent to
            anyone and the future gets that exception. Not called for a command that never gets as far as a datagram.
        timeout : float, optional
            Seconds from a service's first datagram to its reply; by default that of its timing, or
            ``services.timeout``.
        deadline : float
            The ``time.perf_counter`` after which no service is sent it any more that has not got it; those end
            ``not_sent``.
        once : bool
            Never send it a second time, whatever the message is.

        Returns
        -------
        concurrent.futures.Future
            Resolves with a dict of one `bridge.outcome.Outcome` per addressed service, in configured order. Cancelling
            it before the first datagram withdraws the command.

        Raises
        ------
        ValueError
            No such message.
        TypeError
            The message is neither a string nor a number.
        KeyError
            No such service.
        """
        name = validate(message).name
        command = self._command(name, args, kwargs, services)
        command.gate, command.timeout, command.deadline = gate, timeout, deadline
        command.once = once
        self._dispatch(command)
        return command.future

    def push(self, message: Any, *args: Any, wait: bool = False, **kwargs: Any) -> Any:
        """Send a message to all services.

        Parameters
        ----------
        message : str, int or iblutil.io.net.base.ExpMessage
            One message, e.g. 'EXPSTART'.
        *args, **kwargs
            As of the `Services` method for that message (EXPINFO and EXPSTATUS need a status); see `submit`.
        wait : bool
            Wait for the replies.

        Returns
        -------
        float
            Without `wait`, the command's key in ``_queued`` and later in ``_log``.
        dict or Exception
            With `wait`, the data of the replies by service name (None for an ALYX token, which has no reply), or, if
            one service did not do it, the exception that says which and why. A reply whose status contradicts the
            command is a reply: a warning is logged.

        Raises
        ------
        ValueError
            No such message.
        RuntimeError
            The network thread has ended, or gave nothing within ``services.timeout + refresh_rate``; a command that had
            not left by then is withdrawn.
        """
        message = validate(message)
        command = self._command(message.name, args, kwargs)
        if not wait:
            with self.response_received:
                pushed = self._results.enter(message, args, kwargs)
            self._dispatch(command, pushed)
            return pushed.key
        timeout = self._timeout()
        patience = timeout + seconds(self.refresh_rate, 0.0)
        if not self.is_running:
            raise RuntimeError(f'{command.message} was not sent: the network thread has ended')
        if self._carrier.thread.is_current:
            raise RuntimeError(
                f'{command.message} was not sent: the network thread cannot wait for itself; push without wait'
            )
        if patience <= 0:
            raise RuntimeError(f'{command.message} was not sent: it was given no time')
        command.deadline = time.perf_counter() + patience + 0.01  # whoever waits takes it back before
        with self.response_received:
            pushed = self._results.enter(message, args, kwargs)
            self._dispatch(command, pushed)
            if not self.response_received.wait_for(lambda: pushed.published, patience):
                self._results.drain()
            if pushed.published:
                return pushed.result
            if pushed.result is not UNSET:  # the log takes no line at the moment
                return self._results.settle(pushed, pushed.result)
            withdrawn = self._carrier.withdraw(command)
            self._results.drain()
            what = 'and was withdrawn' if withdrawn else 'but is under way: ask EXPSTATUS before you repeat it'
            if not self._carrier.is_connected:
                what += '; no worker serves the segment'
            error = RuntimeError(f'{command.message} has no result after {patience:.3g} s {what}')
            if withdrawn:
                self._results.settle(pushed, error)
        raise error

    def clear_message_queue(self) -> int:
        """Abort every command of which nothing was sent yet.

        Returns
        -------
        int
            How many were aborted. Each is resolved, with state ``not_sent``.
        """
        cleared = int(self._carrier.clear())
        self._await_log()
        with self.response_received:
            self._results.drain()
        return cleared

    # Its end

    def close(self) -> None:
        """Stop, and wait for the network thread to end.

        Nothing new is sent, be it pushed already: wait for what has to arrive. What is under way has `close_timeout` to
        be answered, then it is resolved as aborted, and the sockets are closed. Called again, it ends at once. May be
        called from a signal handler.
        """
        self._carrier.close(seconds(self.close_timeout, 5.0))
        if not self.stop_event.is_set():
            self.stop_event.set()
        self._await_log()

    async def cleanup(self, notify_services: bool = False) -> None:
        """Close all communicators, in whatever loop; called by `listen` when it ends.

        Parameters
        ----------
        notify_services : bool
            Send EXPCLEANUP to every service before, and wait for the replies.
        """
        if notify_services and self._carrier.names:
            command = self._command('EXPCLEANUP', (), {})
            command.last = True
            self._dispatch(command)
            waits: set[asyncio.Future[Any]] = {asyncio.wrap_future(command.future)}
            waits.add(asyncio.wrap_future(self._carrier.hurried))
            await asyncio.wait(waits, timeout=self._timeout() + 1, return_when=asyncio.FIRST_COMPLETED)
        self._cleaned = True
        shut: Future[None] = Future()

        def clean() -> None:
            try:
                self._carrier.close_sockets()
                if self.services is not None:
                    self.services.close()
            finally:
                shut.set_result(None)

        if self._carrier.thread.is_current:
            clean()
        elif self._carrier.thread.ring(clean):
            await asyncio.wait({asyncio.wrap_future(shut)}, timeout=1.0)

    # Network thread: life

    async def create(self) -> None:
        """Create the communicators and the `Services` of them all; runs in the network thread."""
        await self._carrier.open()
        try:
            self._gather_services()
        except Exception:
            self._logger.exception('the services could not be created')
        self._carrier.created.set()
        self.connected.set()

    async def listen(self) -> None:
        """Create the services and serve commands until `stop_event` is set or `close` called; in the network thread."""
        await _listen(lambda: self, self._carrier, self._stopped)

    def _gather_services(self) -> None:
        """Make a new stock `Services`: the one we have cannot take a new communicator."""
        timeout = self._timeout()
        if not isinstance(self._carrier, UdpCarrier):
            self.services = self._carrier.services
            return
        communicators = [com for name in self._clients if (com := self._carrier.communicators.get(name)) is not None]
        self.services = net.app.Services(communicators, timeout=timeout) if communicators else None
        self._cleaned = False

    # Commands

    @property
    def _logger(self) -> logging.Logger:
        if self.logger is not None:
            return self.logger
        return logging.getLogger('iblrig.net' if 'iblrig.net' in sys.modules else __name__)

    def _await_log(self) -> None:
        """Give what went wrong a moment to be logged, and published behind that."""
        if not self._carrier.thread.is_current:
            self._aside.wait(_LOG)

    def _timeout(self) -> float:
        return seconds(getattr(self.services, 'timeout', None), TIMEOUT)

    def _chosen(self, services: Sequence[str] | None) -> tuple[str, ...]:
        names: tuple[str, ...] = self._carrier.names
        if services is None:
            return names
        wanted = {services} if isinstance(services, str) else set(services)
        if unknown := wanted.difference(names):
            raise KeyError(f'no service {sorted(map(str, unknown))}; there are {list(names)}')
        return tuple(name for name in names if name in wanted)

    def _command(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], services: Sequence[str] | None = None
    ) -> Command:
        if name == 'EXPEND' and kwargs.get('immediately'):  # of `Services.stop`, which both messages go by
            name = 'EXPINTERRUPT'
        names, concurrent = self._chosen(services), bool(kwargs.get('concurrent', True))
        return Command(name, args, kwargs, names, concurrent=concurrent, for_all=services is None)

    def _dispatch(self, command: Command, pushed: Pushed | None = None) -> None:
        command.future.write = self._aside.do
        command.future.add_done_callback(lambda future: self._done(command, future, pushed))
        stock = replaced(self.services, command.message, command.args, command.kwargs)
        if stock is None:
            self._carrier.submit(command)
        elif not self._carrier.thread.ring(self._begin_stock, command, stock, pushed):
            command.resolve({}, self._carrier.thread.ended)

    def _done(self, command: Command, future: Future[Outcomes], pushed: Pushed | None) -> None:
        """Publish the result of a pushed command, behind the log of a failure; in whatever thread resolves it."""
        lines: list[tuple[int, str]] = []
        if pushed is not None and pushed.result is not UNSET:  # of a replaced method: as it stands
            result = pushed.result
        else:
            try:
                outcomes = future.result()
                found = None if command.forgiven else failure(outcomes.values())
                result = command.fault or found or replies(outcomes.values())
                for outcome in outcomes.values():
                    if not outcome.ok and not outcome.failed:
                        lines.append((logging.WARNING, f'{command.message}: {outcome.name} {outcome.error}'))
            except CancelledError:
                return  # whoever withdrew it records it
            except BaseException as exc:
                result = exc
        if isinstance(result, BaseException):
            error = discretion.error(command.message, result)
            lines.append((logging.ERROR, f'{command.message} failed: {error}'))
        if pushed is not None:
            pushed.result = result
        if lines:
            self._aside.do(lambda: self._tell(lines, pushed))
        elif pushed is not None:
            self._results.publish(pushed)

    def _tell(self, lines: Sequence[tuple[int, str]], pushed: Pushed | None) -> None:
        """Log what went wrong, then tell who waits."""
        try:
            for level, text in lines:
                self._logger.log(level, '%s', text)
        finally:
            if pushed is not None:
                self._results.publish(pushed)

    def _adopt(self, key: float) -> None:
        """Carry out what somebody put into `_queued` by hand."""
        pushed = Pushed(key)
        try:
            message, args, kwargs = self._queued[key]
            if not isinstance(message, ExpMessage):
                raise TypeError(f'{type(message).__name__} in the queue instead of a message')
            if message.name not in METHODS:
                raise NotImplementedError(f'message {message!r}')
            self._dispatch(self._command(message.name, tuple(args), dict(kwargs)), pushed)
        except Exception as exc:
            pushed.result = exc
            line = logging.ERROR, f'the entry {key!r} in the queue cannot be carried out: {exc!r}'
            self._aside.do(lambda: self._tell([line], pushed))

    # Where a method of `services` has been replaced (a subclass, a test double), it is awaited instead.

    def _begin_stock(self, command: Command, stock: Callable[[], Any], pushed: Pushed | None) -> None:
        task = self._loop.create_task(self._await_stock(command, stock, pushed))
        self._awaited.add(task)
        task.add_done_callback(self._awaited.discard)

    async def _await_stock(self, command: Command, stock: Callable[[], Any], pushed: Pushed | None) -> None:
        sent = time.perf_counter_ns()
        result: Any
        try:
            if time.perf_counter() > command.deadline or not command.claim():
                raise Aborted('not sent: it had been given up')
            if command.gate is not None:
                command.gate()
            result = await asyncio.wait_for(asyncio.ensure_future(stock()), max(self._timeout(), 1.0))
        except asyncio.CancelledError:
            result = Aborted('aborted: the network thread was closed')
        except BaseException as exc:
            result = exc
        if isinstance(result, BaseException):
            command.resolve({}, result)
            return
        if pushed is not None:
            pushed.result = result
        now, event = time.perf_counter_ns(), MESSAGE_NUMBERS[command.message]
        found = result if isinstance(result, dict) else {}
        command.resolve(
            {
                name: Outcome(
                    name, True, ANSWERED, reply=found.get(name), event=event, sent=sent, echoed=now, answered=now
                )
                for name in command.names
            }
        )


async def _listen(which: Callable[[], Auxiliaries | None], carrier: ThreadedCarrier, stopped: asyncio.Event) -> None:
    """Do what `Auxiliaries.listen` does, without holding the object meanwhile.

    Parameters
    ----------
    which : callable
        Returns the object; None if it is forgotten.
    carrier : ThreadedCarrier
        Its carrier.
    stopped : asyncio.Event
        It is to end.
    """
    try:
        if made := which():
            await made.create()
            del made
        stops = [asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(carrier.stopped())]
        await asyncio.wait(stops, return_when=asyncio.FIRST_COMPLETED)
        for stop in stops:
            stop.cancel()
        made = which()
        await carrier.drain(seconds(made.close_timeout, 5.0) if made else 0.0)
        if made:
            await made.cleanup()
    finally:
        carrier.shut()
        if made := which():
            for task in tuple(made._awaited):
                task.cancel()
            made.stop_event.set()


def _gather(which: Callable[[], Auxiliaries | None]) -> None:
    if made := which():
        made._gather_services()


def _adopt(which: Callable[[], Auxiliaries | None], key: float) -> None:
    if made := which():
        made._adopt(key)
