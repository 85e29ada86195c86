"""All remote services behind one thread: a drop-in for ``iblrig.net.Auxiliaries`` that tells what each service did.

The only module that imports iblutil. A thread of our own runs an event loop; everything that touches a socket happens
there, in callbacks, and the calling threads only leave commands and wait for outcomes. Nothing polls.

    push / submit ──► Command ──► one Errand per service ──► Link (queue, socket) ──► Outcome ──► future, _log
    caller's thread   arguments checked and encoded            network thread

Three rules keep it honest:

- A command is resolved exactly once, by whoever takes it out of ``_pending``; what is left there when the thread ends,
  however it ends, is resolved too. So nobody waits for ever.
- The network thread never waits for a lock that a caller may hold: if ``response_received`` is taken, another thread
  publishes.
- A command goes over the wire as `link` and `exchange` do it, as long as ``services`` has iblutil's own methods. Where
  they have been replaced (a subclass, a test double) the replacement is awaited and its result returned as it stands.

Facts about iblutil's protocol: ``iblutil/io/net/app.py`` and ``base.py`` 1.20.0.
"""

import asyncio
import itertools
import json
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent import futures
from concurrent.futures import Future, InvalidStateError
from typing import Any

from iblutil.io import net

from bridge.exchange import INTERRUPT, Errand, Timing
from bridge.link import Link
from bridge.outcomes import ANSWERED, NOT_SENT, Aborted, NoAnswer, Outcome, failure, replies

log = logging.getLogger(__name__)

TIMEOUT = 10.0  # s, for all services' replies, as iblrig has it
RESOLVE_TIMEOUT = 1.0  # s, for a host name
CREATE_TIMEOUT = 3.0  # s, that the constructor waits at most
KEPT = 1000  # results in `_log`

ExpMessage = net.base.ExpMessage
METHODS = {
    'EXPINIT': 'init',
    'EXPSTART': 'start',
    'EXPEND': 'stop',
    'EXPINTERRUPT': 'stop',
    'EXPCLEANUP': 'cleanup',
    'EXPSTATUS': 'status',
    'EXPINFO': 'info',
    'ALYX': 'alyx',
}
_BY_NAME = {message.name: message for message in ExpMessage}
_STOCK = {method: getattr(net.app.Services, method) for method in METHODS.values()}


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


class Auxiliaries:
    """Send experiment messages to remote services and collect what they did.

    Parameters
    ----------
    clients : dict of str
        URI by service name, e.g. ``{'cameras': 'udp://192.168.0.5:11001'}``. UDP only.

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
        Echo time-out, resends, gaps.

    Notes
    -----
    The constructor returns when the communicators are there, or after 3 s. A service whose host name can not be
    resolved, or whose scheme is not supported, holds nobody up: its commands end ``not_sent`` with the reason.
    """

    def __init__(self, clients: dict[str, str]) -> None:
        self.refresh_rate = 0.2
        self.services: Any = None
        self.connected = threading.Condition()
        self.response_received = threading.Condition()
        self.on_event: Callable[[str, int, list[Any]], None] | None = None
        self.timing = Timing()
        self._clients = dict(clients or {})
        self._links = {
            name: Link(name, uri, self.timing, self._open, self._heard) for name, uri in self._clients.items()
        }
        self._order = itertools.count(1)
        self._pending: dict[int, Command] = {}
        self._log: dict[float, Any] = {}
        self._queued = Queue(lambda key: self._ring(self._adopt, key))
        self._last_key = 0.0
        self._finished: deque[Command] = deque()
        self._publishing = False
        self._lookups: dict[str, asyncio.Future[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # A selector loop everywhere: on Windows the default one goes deaf for UDP after an ICMP reset (cpython 91227,
        # 127057).
        self._loop = asyncio.SelectorEventLoop()
        self._ended: BaseException | None = None
        self._closing = False
        self._stop = asyncio.Event()
        self.stop_event = StopEvent(lambda: self._ring(self._stop.set))
        self._created = threading.Event()
        self._thread = threading.Thread(target=self._run, name='auxiliaries', daemon=True)
        self._thread.start()
        self._created.wait(CREATE_TIMEOUT)

    # State

    @property
    def is_running(self) -> bool:
        """bool: the network thread takes commands."""
        return self._ended is None and not self._closing and self._thread.is_alive()

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
            Seconds from a service's first datagram to its reply; by default ``services.timeout``.

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
        command.timeout = timeout
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
                self._enter(command, args, kwargs)
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
            self._enter(command, args, kwargs)
            self._dispatch(command)
            if self.response_received.wait_for(lambda: command.published, patience):
                return command.result
            assert command.key is not None
            self._drain()
            if command.published:
                return command.result
            withdrawn = command.future.cancel()
            what = 'and was withdrawn' if withdrawn else 'but is under way'
            error = RuntimeError(f'{command.name} has no result after {patience:.3g} s {what}')
            if withdrawn:
                self._pending.pop(command.order, None)
                self._queued.pop(command.key, None)
                self._record(command.key, error)
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
            error = 'aborted: the message queue was cleared'
            waiting = [c for c in tuple(self._pending.values()) if not c.begun and not c.future.cancelled()]
            for command in waiting:
                self._withdraw(command, error, Aborted(error))
            answer.set_result(len(waiting))

        if threading.current_thread() is self._thread:
            clear()
        elif not self._ring(clear):
            return 0
        while not answer.done() and self._thread.is_alive():
            futures.wait({answer}, timeout=0.2)
        with self.response_received:
            self._drain()
        return answer.result() if answer.done() else 0

    def close(self) -> None:
        """Stop the network thread; takes `refresh_rate` at most.

        Everything pending is resolved as aborted and the sockets are closed. May be called twice, and from a signal
        handler.
        """
        self._closing = True
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
            self._closing = True
            error = 'aborted: the network thread was closed'
            for command in tuple(self._pending.values()):
                self._withdraw(command, error, Aborted(error))
            for link in self._links.values():
                link.abort_all(error, Aborted(error))
            self.cleanup()
            for link in self._links.values():
                link.close()
            for task in tuple(self._tasks):
                task.cancel()
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
                self._give_back(command, cause)
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
        """Have iblutil make a communicator for a link.

        Raises
        ------
        ValueError
            The scheme is not supported, the host name unknown, or the port wrong.
        OSError
            The socket could not be made.
        """
        uri = str(link.uri)
        scheme, separator, rest = uri.rpartition('://')
        if separator and scheme.lower() != 'udp':
            raise ValueError(
                f'{scheme}:// is not supported, as iblutil frames no messages over TCP: use udp:// instead of {uri}'
            )
        address = link.uri
        if not net.base.is_valid_ip(rest.partition(':')[0]):
            address = await self._resolve_host(uri)
        # The factory gives the logger of that name a DEBUG handler on the console, which would print every message,
        # tokens too.
        console = logging.getLogger(link.name)
        handlers, level, disabled = console.handlers, console.level, console.disabled
        console.disabled = True
        try:
            com = await net.app.EchoProtocol.client(address, link.name)
        finally:
            console.handlers, console.disabled = handlers, disabled
            console.setLevel(level)
        if isinstance(com, net.app.EchoProtocol):
            com.logger = _silent()
            link.adopt(com)
        else:
            link.com = com
        if self._created.is_set():
            self._gather_services()

    async def _resolve_host(self, uri: str) -> str:
        """Look a host name up in a thread of its own; a silent name server must not stop the loop."""
        lookup = self._lookups.get(uri)
        if lookup is None:
            lookup = self._lookups[uri] = self._loop.create_future()

            def finish(address: str, error: Exception | None) -> None:
                self._lookups.pop(uri, None)
                if error is not None:
                    future.set_exception(error)
                    future.exception()  # nobody may be waiting any more
                else:
                    future.set_result(address)

            def look_up() -> None:
                try:
                    self._ring(finish, net.base.validate_uri(uri), None)
                except Exception as exc:
                    self._ring(finish, '', exc)

            future = lookup
            # Not the loop's executor: its threads can not be left behind when the program ends.
            threading.Thread(target=look_up, name='lookup', daemon=True).start()
        done, _ = await asyncio.wait({lookup}, timeout=RESOLVE_TIMEOUT)
        if not done:
            raise ValueError(f'{uri}: the host name could not be resolved within {RESOLVE_TIMEOUT:g} s')
        return lookup.result()

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
        # iblutil's check is slow the first time round: names as they should be written need none.
        known = _BY_NAME.get(message) if isinstance(message, str) else None
        message = ExpMessage.validate(message, allow_bitwise=False) if known is None else known
        command = Command(next(self._order), message, names, gate)
        command.stock = self._replaced(message, tuple(args), kwargs)
        if command.stock is None:
            try:
                command.text, command.wants_reply = encode(message, args, kwargs)
            except Exception as exc:
                command.result = exc
        return command

    def _replaced(self, message: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return a call of the `Services` method for this message if it is not iblutil's, else None."""
        name = METHODS[message.name]
        method = getattr(self.services, name, None)
        if method is None or getattr(method, '__func__', None) is _STOCK[name]:
            return None
        if message in (ExpMessage.EXPEND, ExpMessage.EXPINTERRUPT):
            kwargs = {**kwargs, 'immediately': message == ExpMessage.EXPINTERRUPT}
        elif message == ExpMessage.ALYX and not args:
            args = (None,)
        return lambda: method(*args, **kwargs)

    def _enter(self, command: Command, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # The key is the time, as in iblrig; two pushes within one tick of the clock still need two keys.
        command.key = self._last_key = max(time.time(), math.nextafter(self._last_key, math.inf))
        self._queued.put(command.key, [command.message, args, kwargs])

    def _dispatch(self, command: Command) -> None:
        self._pending[command.order] = command
        # The thread sets `_ended` before it looks at `_pending` for the last time; we look after adding. One of us sees
        # it.
        if not self._ring(self._begin, command) and self._ended is not None:
            self._give_back(command, self._ended)

    def _give_back(self, command: Command, cause: BaseException) -> None:
        """Resolve a command that the network thread did not take any more."""
        if isinstance(cause, Aborted):
            self._withdraw(command, f'not sent: {cause}', cause)
        else:
            self._resolve(command, cause)

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
            self._publish(command)
        else:
            self._dispatch(command)

    def _begin(self, command: Command) -> None:
        if command.order not in self._pending:
            return
        if command.stock is not None:
            task = self._loop.create_task(self._await_stock(command))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        if self._closing:
            self._withdraw(command, 'aborted: the network thread was closed', Aborted('the network thread was closed'))
            return
        timeout = self._timeout() if command.timeout is None else seconds(command.timeout, TIMEOUT)
        command.errands = self._errands(command, timeout)
        if command.result is not None:
            self._withdraw(command, str(command.result), command.result)
        elif not command.errands:
            self._resolve(command)
        else:
            for errand in command.errands:
                link = self._links[errand.name]
                try:
                    (link.interrupt if errand.event == INTERRUPT else link.enqueue)(errand)
                except Exception as exc:
                    log.exception('%s could not be sent to %s', command.name, errand.name)
                    link.withdraw(errand, f'{type(exc).__name__}: {exc}', exc)

    def _errands(self, command: Command, timeout: float) -> list[Errand]:
        def permit() -> bool:
            return self._permit(command)

        def done(errand: Errand) -> None:
            command.left -= 1
            if not command.left and not command.withdrawn:
                self._resolve(command)

        event, text, order, wants = int(command.message), command.text, command.order, command.wants_reply
        return [Errand(name, event, text, order, timeout, wants, permit, done) for name in command.names]

    def _permit(self, command: Command) -> bool:
        """Decide, directly before the first datagram, whether a command may leave."""
        if command.begun or command.withdrawn or not command.claim():
            if not command.begun:
                self._pending.pop(command.order, None)
                self._drop(command)
            return command.begun and not command.withdrawn
        if time.perf_counter() > command.deadline:
            error = f'not sent: it waited behind earlier commands for the {self._timeout():g} s it had'
            self._withdraw(command, error, NoAnswer(error))
            return False
        if command.gate is not None:
            try:
                command.gate()
            except BaseException as exc:
                self._resolve(command, exc)
                self._drop(command)
                return False
        command.begun = True
        return True

    def _drop(self, command: Command) -> None:
        """Take a command out of the queues of the links; it is resolved elsewhere."""
        command.withdrawn = True
        for errand in command.errands:
            self._links[errand.name].withdraw(errand, 'withdrawn', Aborted('withdrawn'))

    def _withdraw(self, command: Command, error: str, cause: BaseException) -> None:
        """End a command with one error for all services that have no outcome yet."""
        command.errands = command.errands or self._errands(command, 0.0)
        command.withdrawn = True
        for errand in command.errands:
            self._links[errand.name].withdraw(errand, error, cause)
        self._resolve(command)

    async def _await_stock(self, command: Command) -> None:
        """Await a replaced `Services` method."""
        if not self._permit(command):
            return
        assert command.stock is not None
        now = time.perf_counter_ns()
        try:
            waiting = asyncio.ensure_future(command.stock())
            command.result = await asyncio.wait_for(waiting, max(self._timeout(), 1.0))
        except asyncio.CancelledError:
            command.result = Aborted('aborted: the network thread was closed')
        except BaseException as exc:
            command.result = exc
        self._resolve(command, stock=now)

    def _resolve(self, command: Command, cause: BaseException | None = None, stock: int = 0) -> None:
        """Hand the result of a command to whoever waits for it; once, whoever comes first."""
        if self._pending.pop(command.order, None) is None:
            return
        outcomes = stock_outcomes(command, stock) if stock else {e.name: e.outcome() for e in command.errands}
        if cause is None and not stock:
            causes = {errand.name: errand.cause for errand in command.errands if errand.cause is not None}
            error = failure(outcomes.values(), causes)
            command.result = replies(outcomes.values()) if error is None else error
        elif cause is not None:
            command.result = cause
        if isinstance(command.result, BaseException):
            # What a service says of a failed ALYX callback may quote the token.
            told = command.result if command.message != ExpMessage.ALYX else type(command.result).__name__
            log.error('%s failed: %s', command.name, told)
        try:
            if command.claim():
                if cause is not None:
                    command.future.set_exception(cause)
                else:
                    command.future.set_result(outcomes)
        except InvalidStateError:
            pass
        if command.key is not None:
            self._publish(command)

    # Results of push

    def _publish(self, command: Command) -> None:
        """Move a pushed command from `_queued` to `_log` and tell those who wait."""
        self._finished.append(command)
        if self._publishing:
            return
        # A caller may hold this lock for as long as it likes, and the next interrupt must leave all the same.
        if self.response_received.acquire(timeout=0.001):
            try:
                self._drain()
            finally:
                self.response_received.release()
        else:
            self._publishing = True
            threading.Thread(target=self._publish_later, name='publisher', daemon=True).start()

    def _publish_later(self) -> None:
        with self.response_received:
            # First the flag: what comes after it is published by the network thread, what came before is in the queue
            # by now.
            self._publishing = False
            self._drain()

    def _drain(self) -> None:
        """Publish what has finished; the caller holds `response_received`."""
        while self._finished:
            command = self._finished.popleft()
            if command.key is not None:
                self._record(command.key, command.result)
                self._queued.pop(command.key, None)
            command.published = True
        self.response_received.notify_all()

    def _record(self, key: float, result: Any) -> None:
        self._log[key] = result
        while len(self._log) > KEPT:
            del self._log[next(iter(self._log))]


def encode(message: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[bytes, bool]:
    """Let iblutil build and check a message.

    Parameters
    ----------
    message : iblutil.io.net.base.ExpMessage
        One message.
    args, kwargs
        As of the `Services` method for it; `concurrent` is accepted and has no meaning here.

    Returns
    -------
    bytes
        The JSON list to send.
    bool
        Whether a reply is to be expected; an ALYX message that carries a token has none.

    Raises
    ------
    TypeError, ValueError, KeyError
        The arguments do not fit the message.
    """
    kwargs = {name: value for name, value in kwargs.items() if name != 'concurrent'}
    service = net.base.Service
    if message == ExpMessage.ALYX:
        if not args or isinstance(args[0], str):
            url, token = (*args, None, None)[:2]
            parts = (message, url, token or {})
        else:
            parts = service.alyx(None, *args, **kwargs)
        return json.dumps(parts).encode(), not all(parts)
    if message in (ExpMessage.EXPEND, ExpMessage.EXPINTERRUPT):
        kwargs['immediately'] = message == ExpMessage.EXPINTERRUPT
    try:
        parts = getattr(service, METHODS[message.name])(None, *args, **kwargs)
    except KeyError as exc:
        raise ValueError(f'{message.name}: {exc} is not known') from exc
    except TypeError as exc:
        raise TypeError(f'the arguments do not fit {message.name}: {exc}') from exc
    return json.dumps(parts).encode(), True


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


def _silent() -> logging.Logger:
    """Return a logger that says nothing and that nobody else has."""
    logger = logging.Logger('iblutil', logging.CRITICAL + 1)
    logger.addHandler(logging.NullHandler())
    logger.disabled = True
    return logger


async def _nothing() -> None:
    """Let the loop run once."""
