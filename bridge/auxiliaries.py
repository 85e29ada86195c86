"""All remote services behind one thread: a drop-in for ``iblrig.net.Auxiliaries`` that tells what each service did.

The only module that imports iblutil. A thread of our own runs an event loop; everything that touches a socket happens
there, in callbacks, and the calling threads only leave commands and wait for outcomes. Nothing polls.

    push / submit ──► Command ──► Dispatcher ──► one Errand per service ──► Link (queue, socket) ──► Outcome
    caller's thread   commands    network thread, dispatch                  link, exchange           future, results

Two rules keep it honest:

- A command is resolved exactly once, by whoever takes it out of ``_pending``; what is left there when the thread ends,
  however it ends, is resolved too. So nobody waits for ever.
- The network thread never waits for a lock that a caller may hold (`results`).

Facts about iblutil's protocol: ``iblutil/io/net/app.py`` and ``base.py`` 1.20.0.
"""

import asyncio
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future
from typing import Any

from iblutil.io import net

from bridge.commands import Command, StopEvent, seconds
from bridge.dispatch import Dispatcher
from bridge.exchange import Timing
from bridge.link import Link
from bridge.outcomes import Aborted, Outcome
from bridge.remote import RemoteAuxiliaries
from bridge.results import Results
from bridge.wire import METHODS, Messages, Opener

log = logging.getLogger(__name__)

TIMEOUT = 10.0  # s, for all services' replies, as iblrig has it
RESOLVE_TIMEOUT = 1.0  # s, for a host name
CREATE_TIMEOUT = 3.0  # s, that the constructor waits at most

ExpMessage = net.base.ExpMessage
_MESSAGES = Messages(net)


class Auxiliaries:
    """Send experiment messages to remote services and collect what they did.

    Parameters
    ----------
    clients : dict of str
        URI by service name, e.g. ``{'cameras': 'udp://192.168.0.5:11001'}``. UDP only.
    timings : mapping of str to bridge.exchange.Timing, optional
        How patient to be with some of the services; the others share `timing`.

    Attributes
    ----------
    services : iblutil.io.net.app.Services or None
        The stock handler of all communicators; None if there are none. Its `timeout` (s) bounds the wait for replies.
    connected : threading.Condition
        Notified when the services were created.
    response_received : threading.Condition
        Re-entrant; notified when results were moved from ``_queued`` to ``_log``.
    stop_event : threading.Event
        Setting it ends the network thread.
    refresh_rate : float
        Seconds that a stop takes at most, and that `push` waits on top of ``services.timeout``.
    on_event : callable or None
        Called in the network thread with service name, event number and data of each message that answers no command.
    timing : bridge.exchange.Timing
        Echo time-out, resends, gaps, of the services that have no timing of their own.

    Notes
    -----
    The constructor returns when the communicators are there, or after 3 s. A service whose host name can not be
    resolved, or whose scheme is not supported, holds nobody up: its commands end ``not_sent`` with the reason.
    """

    def __init__(self, clients: dict[str, str], timings: Mapping[str, Timing] | None = None) -> None:
        self.refresh_rate = 0.2
        self.services: Any = None
        self.connected = threading.Condition()
        self.on_event: Callable[[str, int, list[Any]], None] | None = None
        self.timing = Timing()
        self._clients = dict(clients or {})
        self._links = {
            name: Link(name, uri, (timings or {}).get(name, self.timing), self._open, self._heard)
            for name, uri in self._clients.items()
        }
        self._order = itertools.count(1)
        self._results = Results(lambda key: self._ring(self._adopt, key))
        self._queued, self._log = self._results.queued, self._results.log
        self.response_received = self._results.received
        self._dispatcher = Dispatcher(self._links, self._results, self._timeout)
        self._pending = self._dispatcher.pending
        self._opener = Opener(net, self._ring, RESOLVE_TIMEOUT)
        # A selector loop everywhere: on Windows the default one goes deaf for UDP after an ICMP reset (cpython 91227,
        # 127057).
        self._loop = asyncio.SelectorEventLoop()
        self._ended: BaseException | None = None
        self._stop = asyncio.Event()
        self.stop_event = StopEvent(lambda: self._ring(self._stop.set))
        self._created = threading.Event()
        self._thread = threading.Thread(target=self._run, name='auxiliaries', daemon=True)
        self._thread.start()
        self._created.wait(CREATE_TIMEOUT)

    @classmethod
    def from_segment(cls, segment: str, name: str = '', timeout: float = 1.0) -> RemoteAuxiliaries:
        """Return the same surface through the worker of a segment; parameters and errors as `RemoteAuxiliaries`."""
        return RemoteAuxiliaries(segment, name, timeout, validate=_MESSAGES.validate, encode=_MESSAGES.arguments)

    # State

    @property
    def is_running(self) -> bool:
        """bool: the network thread takes commands."""
        return self._ended is None and not self._dispatcher.closing and self._thread.is_alive()

    @property
    def is_connected(self) -> bool:
        """bool: there are services that commands can be sent to.

        Whether they live only their answers can tell. A communicator that was closed is opened again for the next
        command, so this stays True until `close`.
        """
        return self.services is not None and self.is_running and not self.stop_event.is_set()

    # Sending

    def submit(
        self,
        message: Any,
        *args: Any,
        services: Sequence[str] | None = None,
        gate: Callable[[], None] | None = None,
        timeout: float | None = None,
        deadline: float = math.inf,
        quiet: bool = False,
        once: bool = False,
        **kwargs: Any,
    ) -> 'Future[dict[str, Outcome]]':
        """Send a message to some or all services; returns at once, from any thread.

        Parameters
        ----------
        message : str, int or iblutil.io.net.base.ExpMessage
            One message, e.g. 'EXPSTART'.
        *args, **kwargs
            As of the `Services` method for that message. ALYX takes an Alyx object, or a base URL and ``{user:
            token}``, or nothing to ask for a token.
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
            ``not_sent``. Before the first datagram of all a `gate`, if there is one, decides instead.
        quiet : bool
            Do not log a failure as an error.
        once : bool
            Never send it a second time, whatever the message is.

        Returns
        -------
        concurrent.futures.Future
            Resolves with a dict of one `Outcome` per addressed service, in configured order. Cancelling it before the
            first datagram withdraws the command.

        Raises
        ------
        ValueError
            No such message.
        TypeError
            The message is neither a string nor a number.
        KeyError
            No such service.
        """
        command = self._command(message, args, kwargs, self._names(services), gate)
        command.timeout, command.deadline, command.quiet, command.once = timeout, deadline, quiet, once
        self._dispatch(command)
        return command.future

    def push(self, message: Any, *args: Any, wait: bool = False, **kwargs: Any) -> Any:
        """Send a message to all services.

        Parameters
        ----------
        message : str, int or iblutil.io.net.base.ExpMessage
            One message, e.g. 'EXPSTART'.
        *args, **kwargs
            As of the `Services` method for that message; see `submit`.
        wait : bool
            Wait for the replies.

        Returns
        -------
        float
            Without `wait`, the command's key in ``_queued`` and later in ``_log``.
        dict or Exception
            With `wait`, the data of the replies by service name (None for an ALYX token, which has no reply), or, if
            one service did not do it, the exception that says which and why.

        Raises
        ------
        ValueError
            No such message.
        RuntimeError
            The network thread has ended, or gave nothing within ``services.timeout + refresh_rate``; a command that had
            not left by then is withdrawn.
        """
        command = self._command(message, args, kwargs, tuple(self._links), None)
        if not wait:
            with self.response_received:
                self._results.enter(command, args, kwargs)
            self._dispatch(command)
            assert command.key is not None
            return command.key
        timeout = self._timeout()
        patience = timeout + seconds(self.refresh_rate, 0.0)
        if not self.is_running:
            raise RuntimeError(f'{command.name} was not sent: the network thread has ended')
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                f'{command.name} was not sent: the network thread can not wait for itself, push without wait'
            )
        if patience <= 0:
            raise RuntimeError(f'{command.name} was not sent: no time was given to it')
        command.deadline = time.perf_counter() + timeout
        with self.response_received:
            self._results.enter(command, args, kwargs)
            self._dispatch(command)
            if self.response_received.wait_for(lambda: command.published, patience):
                return command.result
            assert command.key is not None
            self._results.drain()
            if command.published:
                return command.result
            withdrawn = command.future.cancel()
            what = 'and was withdrawn' if withdrawn else 'but is under way'
            error = RuntimeError(f'{command.name} has no result after {patience:.3g} s {what}')
            if withdrawn:
                self._pending.pop(command.order, None)
                self._results.record(command.key, error)
        raise error

    def clear_message_queue(self) -> int:
        """Abort every command of which nothing was sent yet.

        Returns
        -------
        int
            How many were aborted. Each is resolved, with state ``not_sent``.
        """
        answer: Future[int] = Future()

        def clear() -> None:
            answer.set_result(self._dispatcher.clear())

        if threading.current_thread() is self._thread:
            clear()
        elif not self._ring(clear):
            return 0
        while not answer.done() and self._thread.is_alive():
            futures.wait({answer}, timeout=0.2)
        with self.response_received:
            self._results.drain()
        return answer.result() if answer.done() else 0

    def close(self) -> None:
        """Stop the network thread; takes `refresh_rate` at most.

        Everything pending is resolved as aborted and the sockets are closed. May be called twice, and from a signal
        handler.
        """
        self._dispatcher.closing = True
        self._ring(self._stop.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(max(seconds(self.refresh_rate, 0.2), 0.2))
        if not self.stop_event.is_set():
            self.stop_event.set()

    def cleanup(self, notify_services: bool = False) -> None:
        """Close all communicators; the next command opens them again.

        Parameters
        ----------
        notify_services : bool
            Send EXPCLEANUP to every service before, without waiting for anything.
        """
        done = threading.Event()

        def clean() -> None:
            try:
                for link in self._links.values():
                    if notify_services:
                        link.notify(b'[8, null]')
                if self.services is not None:
                    self.services.close()
            finally:
                done.set()

        if threading.current_thread() is self._thread:
            clean()
        elif self._ring(clean):
            done.wait(max(seconds(self.refresh_rate, 0.2), 0.2))

    # Network thread: life

    async def create(self) -> None:
        """Create the communicators and the `Services` of them all; runs in the network thread."""
        faults = await asyncio.gather(*map(self._open, self._links.values()), return_exceptions=True)
        for name, fault in zip(self._links, faults, strict=True):
            if fault is not None:
                log.error('%s can not be reached for now: %s', name, fault)
        try:
            self._gather_services()
        except Exception:
            log.exception('the services could not be created')
        self._created.set()
        with self.connected:
            self.connected.notify_all()

    async def listen(self) -> None:
        """Create the services and serve commands until `stop_event` is set; runs in the network thread."""
        try:
            await self.create()
            if not self.stop_event.is_set():
                await self._stop.wait()
        finally:
            self._dispatcher.end()
            self.cleanup()
            for link in self._links.values():
                link.close()
            self._dispatcher.end_tasks()
            # Transports close their sockets in a callback of their own: two rounds of the loop.
            rounds = self._loop.create_future()
            self._loop.call_soon(self._loop.call_soon, rounds.set_result, None)
            await rounds

    def _run(self) -> None:
        cause: BaseException = Aborted('the network thread was closed')
        try:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self.listen())
        except BaseException as exc:
            log.exception('the network thread ended')
            cause = RuntimeError(f'the network thread ended: {exc!r}')
        finally:
            # Order matters, see `_dispatch`: first say that nothing will be done any more, then resolve what is there.
            self._ended = cause
            for command in tuple(self._pending.values()):
                self._dispatcher.give_back(command, cause)
            try:
                left = asyncio.all_tasks(self._loop)
                for task in left:
                    task.cancel()
                if left:
                    self._loop.run_until_complete(asyncio.wait(left, timeout=0.1))
                for link in self._links.values():
                    link.close()
                self._loop.run_until_complete(self._loop.create_task(_nothing()))
            except BaseException:
                log.exception('the network thread could not be tidied up')
            self._loop.close()
            self.stop_event.set()
            self._created.set()

    def _ring(self, callback: Callable[..., None], *args: Any) -> bool:
        """Have the network thread call something; False if it has ended."""
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed
            return False
        return self._ended is None

    # Network thread: communicators

    async def _open(self, link: Link) -> None:
        """Have iblutil make a communicator for a link; raises as `Opener.open`."""
        await self._opener.open(link)
        if self._created.is_set():
            self._gather_services()

    def _gather_services(self) -> None:
        """Make a new stock `Services`: the one we have can not take a new communicator."""
        timeout = seconds(getattr(self.services, 'timeout', None), TIMEOUT)
        communicators = [link.com for link in self._links.values() if link.com is not None]
        self.services = net.app.Services(communicators, timeout=timeout) if communicators else None

    def _heard(self, link: Link, event: int, data: list[Any], datagram: bytes, answer: bool) -> None:
        """Pass a message on: to callbacks registered at the stock communicator, and to `on_event`."""
        if any(link.com._callbacks.get(event, ())):
            net.base.Communicator._receive(link.com, datagram, (link.com.hostname, link.com.port))
        if answer:
            return
        log.log(logging.INFO if event else logging.WARNING, '%s sent event %d unasked', link.name, event)
        if self.on_event is not None:
            self.on_event(link.name, event, data)

    # Commands: made in the caller's thread, carried out in the network thread

    def _names(self, services: Sequence[str] | None) -> tuple[str, ...]:
        if services is None:
            return tuple(self._links)
        wanted = {services} if isinstance(services, str) else set(services)
        if unknown := wanted.difference(self._links):
            raise KeyError(f'no service {sorted(map(str, unknown))}; there are {list(self._links)}')
        return tuple(name for name in self._links if name in wanted)

    def _timeout(self) -> float:
        return seconds(getattr(self.services, 'timeout', None), TIMEOUT)

    def _command(
        self, message: Any, args: Sequence[Any], kwargs: dict[str, Any], names: Sequence[str], gate: Any
    ) -> Command:
        message = _MESSAGES.validate(message)
        command = Command(next(self._order), message, names, gate)
        command.stock = _MESSAGES.replaced(self.services, message, tuple(args), kwargs)
        if command.stock is None:
            try:
                command.text, command.wants_reply = _MESSAGES.encode(message, args, kwargs)
            except Exception as exc:
                command.result = exc
        return command

    def _dispatch(self, command: Command) -> None:
        self._pending[command.order] = command
        # The thread sets `_ended` before it looks at `_pending` for the last time; we look after adding. One of us sees
        # it.
        if not self._ring(self._dispatcher.begin, command) and self._ended is not None:
            self._dispatcher.give_back(command, self._ended)

    def _adopt(self, key: float) -> None:
        """Carry out what somebody put into `_queued` by hand."""
        try:
            message, args, kwargs = self._queued[key]
            if not isinstance(message, ExpMessage):
                raise TypeError(f'{type(message).__name__} in the queue instead of a message')
            if message.name not in METHODS:
                raise NotImplementedError(f'message {message!r}')
            command = self._command(message, args, kwargs, tuple(self._links), None)
            command.key = key
        except Exception as exc:
            log.error('the entry %r in the queue can not be carried out: %r', key, exc)
            command = Command(next(self._order), ExpMessage.EXPINFO, (), None)
            command.key, command.result = key, exc
            self._results.publish(command)
        else:
            self._dispatch(command)


async def _nothing() -> None:
    """Let the loop run once."""
