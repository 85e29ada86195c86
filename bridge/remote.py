"""`Auxiliaries` through a worker: the same surface, over shared memory instead of sockets.

For a Python task on a rig where a worker serves the services already, so that no second master talks to them::

    aux = Auxiliaries.from_segment('rig0')
    aux.push('EXPSTART', '2026-01-01_1_subject', wait=True)

Each command that is under way has a thread that waits for its response; commands are few, and the threads end with
them. What differs from `Auxiliaries`:

- The services, their addresses and time-outs are the worker's; ``services.timeout`` is only how long `push` waits.
- A `gate` is called before the command is written into shared memory, not before its first datagram.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from bridge.client import Client
from bridge.commands import Command, StopEvent, seconds
from bridge.errors import BridgeError, NoWorker, OutcomeUnknown
from bridge.exchange import MESSAGE_NUMBERS
from bridge.outcomes import NOT_SENT, Aborted, NoAnswer, Outcome, failure, replies
from bridge.results import Results

log = logging.getLogger(__name__)

Encode = Callable[[Any, Sequence[Any], dict[str, Any]], list[Any]]

TIMEOUT = 10.0  # s, for all services' replies, as iblrig has it
_GRACE = 2.0  # s that a response may take on top of that
_SLICE = 0.5  # s: how often a waiting thread looks whether we were closed or a worker lives again


class RemoteAuxiliaries:
    """Send experiment messages through a worker and collect what the services did.

    Parameters
    ----------
    segment : str
        e.g. ``rig0``.
    name : str
        Name of this client; default ``pid-<pid>-<n>``.
    timeout : float
        How long to wait for a worker, s.
    validate : callable
        Returns iblutil's message for a name or number; raises ValueError or TypeError.
    encode : callable
        Takes such a message, args and kwargs, and returns the arguments as they go over the wire; raises if they do not
        fit.

    Attributes
    ----------
    services : SimpleNamespace or None
        `timeout` (s) bounds what `push` waits, `names` are the worker's services; None if it has none.
    connected, response_received, stop_event, refresh_rate
        As of `bridge.auxiliaries.Auxiliaries`.

    Raises
    ------
    bridge.errors.NoSegment, bridge.errors.NoWorker
        Nobody serves the segment.
    """

    def __init__(
        self,
        segment: str,
        name: str = '',
        timeout: float = 1.0,
        *,
        validate: Callable[[Any], Any],
        encode: Encode,
    ) -> None:
        self.refresh_rate = 0.2
        self.connected = threading.Condition()
        self._validate, self._encode = validate, encode
        self._client = Client(segment, name, timeout)
        try:
            names = [entry['name'] for entry in self._client.call('SERVICES', timeout=max(timeout, 1.0))['services']]
        except BaseException:
            self._client.close()
            raise
        self._names = names
        self.services = SimpleNamespace(timeout=TIMEOUT, names=tuple(names)) if names else None
        self._order = itertools.count(1)
        self._pending: dict[int, Command] = {}
        self._results = Results(self._adopt)
        self._queued, self._log = self._results.queued, self._results.log
        self.response_received = self._results.received
        self._closed = threading.Event()
        self.stop_event = StopEvent(self._end)
        self._on_event: Callable[[str, int, list[Any]], None] | None = None
        self._listener: threading.Thread | None = None

    # State

    @property
    def is_running(self) -> bool:
        """bool: it takes commands."""
        return not self._closed.is_set()

    @property
    def is_connected(self) -> bool:
        """bool: there are services, and a worker that commands can be sent to."""
        if self.services is None or self._closed.is_set():
            return False
        try:
            return self._client.worker_state().alive
        except BridgeError:
            return False

    @property
    def on_event(self) -> Callable[[str, int, list[Any]], None] | None:
        """Callable or None: called with service, event number and data of what a service sends by itself."""
        return self._on_event

    @on_event.setter
    def on_event(self, callback: Callable[[str, int, list[Any]], None] | None) -> None:
        self._on_event = callback
        if callback is not None and self._listener is None:
            self._client.subscribe(*MESSAGE_NUMBERS)
            self._listener = threading.Thread(target=self._hear, name='events', daemon=True)
            self._listener.start()

    # Sending

    def submit(
        self,
        message: Any,
        *args: Any,
        services: Sequence[str] | None = None,
        gate: Callable[[], None] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Future[dict[str, Outcome]]:
        """Send a message to some or all services; parameters, result and errors as of `Auxiliaries.submit`.

        The future gets a `bridge.errors.BridgeError` if there is no outcome by service: no worker, too old, refused.
        """
        if services is None:
            chosen = self._names
        else:
            wanted = {services} if isinstance(services, str) else set(services)
            if unknown := wanted.difference(self._names):
                raise KeyError(f'no service {sorted(map(str, unknown))}; there are {self._names}')
            chosen = [name for name in self._names if name in wanted]
        command, arguments = self._command(message, args, kwargs, chosen, gate)
        command.timeout = timeout
        self._send(command, arguments)
        return command.future

    def push(self, message: Any, *args: Any, wait: bool = False, **kwargs: Any) -> Any:
        """Send a message to all services; parameters, result and errors as of `Auxiliaries.push`."""
        command, arguments = self._command(message, args, kwargs, self._names, None)
        timeout = seconds(getattr(self.services, 'timeout', None), TIMEOUT)
        patience = timeout + seconds(self.refresh_rate, 0.0)
        if wait and not self.is_running:
            raise RuntimeError(f'{command.name} was not sent: it was closed')
        if wait and patience <= 0:
            raise RuntimeError(f'{command.name} was not sent: no time was given to it')
        with self.response_received:
            self._results.enter(command, args, kwargs)
            self._send(command, arguments)
            if not wait:
                return command.key
            if self.response_received.wait_for(lambda: command.published, patience):
                return command.result
            withdrawn = self._withdraw(command)
            what = 'and was withdrawn' if withdrawn else 'but is under way: ask EXPSTATUS before you repeat it'
            error = RuntimeError(f'{command.name} has no result after {patience:.3g} s {what}')
            self._results.drain()
            assert command.key is not None
            self._results.record(command.key, error)
        raise error

    def clear_message_queue(self) -> int:
        """Abort every command that the worker has not begun with; returns how many these were."""
        return sum(self._withdraw(command) for command in tuple(self._pending.values()))

    def close(self) -> None:
        """Detach from the segment; what is under way is carried out, its answer discarded. Harmless twice."""
        self._end()
        if not self.stop_event.is_set():
            self.stop_event.set()

    def cleanup(self, notify_services: bool = False) -> None:
        """Send EXPCLEANUP to every service if so wanted; the communicators are the worker's."""
        if notify_services and self.is_running:
            with contextlib.suppress(BridgeError):
                self._client.notify('EXPCLEANUP', None)

    async def create(self) -> None:
        """Do nothing: the communicators are the worker's."""

    async def listen(self) -> None:
        """Do nothing: each command has its own thread."""

    # A command's way

    def _command(
        self,
        message: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        names: Sequence[str],
        gate: Callable[[], None] | None,
    ) -> tuple[Command, list[Any]]:
        command = Command(next(self._order), self._validate(message), names, gate)
        try:
            return command, self._encode(command.message, args, kwargs)
        except Exception as exc:
            command.result = exc
            return command, []

    def _send(self, command: Command, arguments: list[Any]) -> None:
        self._pending[command.order] = command
        if self._closed.is_set():
            self._resolve(command, self._aborted(command, 'not sent: it was closed'))
            return
        if command.result is not None:
            self._resolve(command, [Outcome(n, error=str(command.result)) for n in command.names], command.result)
            return
        if not command.names:
            self._resolve(command, [])
            return
        try:
            if command.gate is not None:
                command.gate()
            request = self._client.send(command.name, *arguments, services=command.names)
        except BaseException as exc:
            self._resolve(command, [], exc)
            return
        command.request = request
        threading.Thread(target=self._await, args=(command, request), name=f'await-{request}', daemon=True).start()

    def _await(self, command: Command, request: int) -> None:
        """Wait for a response, in a thread of its own."""
        until = time.monotonic() + seconds(command.timeout, seconds(getattr(self.services, 'timeout', None), TIMEOUT))
        until += _GRACE
        while command.order in self._pending:
            try:
                body = self._client.wait(request, _SLICE)
            except OutcomeUnknown as exc:
                if exc.response is None and time.monotonic() < until:
                    continue
                self._resolve(command, [], exc)
            except NoWorker as exc:
                if time.monotonic() < until and not self._closed.wait(0.05):
                    continue
                self._resolve(command, [], exc)
            except BridgeError as exc:
                if command.withdrawn and exc.name in ('IBLB_E_CANCELLED', 'IBLB_E_REQUEST'):
                    return  # whoever took it back resolves it
                if exc.response and exc.response['services']:
                    self._resolve(command, [outcome(entry, command.name) for entry in exc.response['services']])
                elif self._closed.is_set():
                    self._resolve(command, self._aborted(command, 'aborted: it was closed'))
                else:
                    self._resolve(command, [], exc)
            else:
                found = [outcome(entry, command.name) for entry in body['services']]
                self._resolve(command, found, fine=body['code'] >= 0)

    def _withdraw(self, command: Command) -> bool:
        """Take a command back; True if nothing of it was sent."""
        if command.request is None or self._closed.is_set():
            return False
        command.withdrawn = True
        try:
            unsent = self._client.withdraw(command.request)
        except BridgeError:  # answered meanwhile
            return False
        if unsent:
            return self._resolve(command, self._aborted(command, 'aborted: the message queue was cleared'))
        command.withdrawn = False
        return False

    def _resolve(
        self, command: Command, outcomes: list[Outcome], error: BaseException | None = None, *, fine: bool = False
    ) -> bool:
        """Hand the result to whoever waits; once, whoever comes first."""
        if self._pending.pop(command.order, None) is None:
            return False
        failed = None if fine else failure(outcomes, {o.name: cause(o) for o in outcomes if not o.ok})
        command.result = error or failed or replies(outcomes)
        if isinstance(command.result, BaseException):
            told = command.result if command.name != 'ALYX' else type(command.result).__name__
            log.error('%s failed: %s', command.name, told)
        if command.claim():
            if error is not None and not outcomes:
                command.future.set_exception(error)
            else:
                command.future.set_result({found.name: found for found in outcomes})
        if command.key is not None:
            self._results.publish(command)
        return True

    def _aborted(self, command: Command, error: str) -> list[Outcome]:
        return [Outcome(name, False, NOT_SENT, error, aborted=True) for name in command.names]

    def _adopt(self, key: float) -> None:
        """Carry out what somebody put into the queue by hand."""
        try:
            message, args, kwargs = self._queued[key]
            if not hasattr(message, 'name') or message.name not in MESSAGE_NUMBERS:
                raise NotImplementedError(f'message {message!r}')
            command, arguments = self._command(message, args, kwargs, self._names, None)
            command.key = key
        except Exception as exc:
            log.error('the entry %r in the queue can not be carried out: %r', key, exc)
            with self.response_received:
                self._results.record(key, exc)
                self.response_received.notify_all()
        else:
            self._send(command, arguments)

    def _end(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._client.close()
            for command in tuple(self._pending.values()):
                self._resolve(command, self._aborted(command, 'aborted: it was closed'))

    def _hear(self) -> None:
        """Pass events on, in a thread of its own."""
        while not self._closed.is_set():
            try:
                event = self._client.next_event(_SLICE)
            except NoWorker:
                self._closed.wait(_SLICE)
                continue
            except BridgeError as exc:
                if not self._closed.is_set():
                    log.error('no more events: %s', exc)
                return
            if event is not None and self._on_event is not None:
                try:
                    data = reply(event['event'], event['data']) or []
                    self._on_event(event['service'], MESSAGE_NUMBERS[event['event']], data)
                except Exception:
                    log.exception('the callback for events failed')


def reply(message: str, data: Mapping[str, Any]) -> list[Any] | None:
    """Return the reply that a response's ``data`` was made of (`bridge.messages.reply_data`).

    Examples
    --------
    >>> reply('EXPINFO', {'status': 20, 'info': {}}), reply('EXPSTART', {'value': ['ref', None]}), reply('EXPINIT', {})
    ([20, {}], ['ref', None], None)
    """
    if not data:
        return None
    if 'value' not in data:
        return list(data.values())
    value = data['value']
    return list(value) if message in ('EXPSTART', 'ALYX') and isinstance(value, list) else [value]


def outcome(entry: Mapping[str, Any], message: str) -> Outcome:
    """Return an element of a response's ``services`` as `Auxiliaries` gives it."""
    said = reply(message, entry['data'])
    stamps = {key: entry[key] for key in ('sent', 'echoed', 'answered')}
    event = MESSAGE_NUMBERS[message] if entry['answered'] else 0
    aborted = not entry['ok'] and entry['error'].startswith('aborted')
    return Outcome(entry['name'], entry['ok'], entry['state'], entry['error'], said, event, **stamps, aborted=aborted)


def cause(found: Outcome) -> BaseException:
    """Return the exception that `Auxiliaries` would give for an outcome that is not ok."""
    kind: type[BaseException] = RuntimeError
    if found.aborted:
        kind = Aborted
    elif 'refused' in found.error:
        kind = ConnectionRefusedError
    elif 'no echo' in found.error or 'did not reply' in found.error:
        kind = NoAnswer
    return kind(f'{found.name}: {found.error}')
