"""The Python face of the C client: what a foreign program does, from Python, through the same functions.

A wait looks in slices: Ctrl-C ends it within 100 ms. The request stays open then, and a response that came in that
moment is kept for whoever asks next.
"""

from __future__ import annotations

import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from bridge import plain
from bridge.errors import BridgeError, check, error_for
from bridge.numbers import CODES, EVENTS
from bridge.segment.calls import attach, read, text
from bridge.segment.commands import Serves
from bridge.segment.library import ffi, last_error, lib
from bridge.segment.patience import milliseconds, seconds, slices
from bridge.segment.payload import event_number, message_number

_BUFFER, _TIMEOUT, _NO_WORKER = CODES['IBLB_E_BUFFER'], CODES['IBLB_E_TIMEOUT'], CODES['IBLB_E_NO_WORKER']
_HANDLE, _CLOSED = CODES['IBLB_E_HANDLE'], CODES['IBLB_E_CLOSED']
_WITHDRAWN = 'No worker serves the segment. The command was withdrawn; nothing was sent. Start the worker.'
_DIED = 'The worker died with the command. Start it again and wait for the same request; do not repeat the command.'


class WorkerState(NamedTuple):
    """What `Client.worker_state` tells."""

    alive: bool
    services: int
    services_up: int


class Client(Serves):
    """Attached to a segment; sends commands to its worker and waits for the responses.

    It can be a service as well, which masters command: `serve` and all that belongs to it are those of `Serves`.

    Any thread may call anything. In a ``with`` block it is closed at the end. If the block ends by an exception, or the
    program without `close`, or the client is forgotten (with a ResourceWarning), the worker takes the client for lost
    (event ``CLIENT_LOST``, setting ``on_client_lost``), as if it had been killed.

    Parameters
    ----------
    segment : str
        Name of the segment, e.g. ``rig0``.
    name : str
        Name of this client; another living process of the same name is refused. Default: ``pid-<pid>-<n>-<random>``.
    timeout : float or None
        How long to wait for a segment and a worker, s; None: for ever.

    Attributes
    ----------
    segment, name : str
        As they were given.

    Raises
    ------
    bridge.errors.NoSegment
        There is no usable segment or no free slot.
    bridge.errors.Misuse
        A name cannot be used.
    """

    def __init__(self, segment: str, name: str = '', timeout: float | None = 1.0) -> None:
        super().__init__()
        self.segment, self.name = segment, name
        self._handle = 0
        self._saved: dict[int, dict[str, Any]] = {}  # responses that came as somebody pressed Ctrl-C
        self._saved_events: deque[dict[str, Any]] = deque()
        place = ffi.new('int *')
        try:
            attach(text(segment, 'the name of a segment'), text(name, 'the name of a client'), seconds(timeout), place)
            self._handle = int(place[0])
            self._forgotten = weakref.finalize(self, self._forget, self._handle, repr(self))
            self._forgotten.atexit = False  # the library closes what is left then
        except BaseException:
            lib.iblb_close(place[0])
            raise

    def __reduce__(self) -> Any:
        raise TypeError('a client belongs to its process: open one where it is to be used, in place of a copy')

    def __repr__(self) -> str:
        named = f' {self.name!r}' if self.name else ''
        return f'<{type(self).__name__} of {self.segment}{named}{"" if self._handle else ", closed"}>'

    def send(
        self, message: str | int, *args: Any, services: Sequence[str] | None = None, ttl: float | None = 10.0
    ) -> int:
        """Write a command and return at once.

        Parameters
        ----------
        message : str or int
            Name or number, e.g. ``'EXPSTART'``.
        *args
            The message's arguments: anything that `bridge.plain` can say in JSON.
        services : sequence of str, optional
            Which services; all by default. An empty one is refused: a list that was filtered until nothing is left
            does not mean everybody.
        ttl : float or None
            If the command has not begun to be sent within this time it never will be, s; None: no limit.

        Returns
        -------
        int
            The request number, for `wait` and `cancel`.

        Raises
        ------
        bridge.errors.Misuse
            The message, a service or the arguments are none. Nothing was sent.
        TypeError, ValueError
            JSON cannot express an argument, there is no such message, or `services` names none. Nothing was sent.
        bridge.errors.NoSegment
            The segment is gone: open again.
        bridge.errors.BridgeError
            ``IBLB_E_FULL``, ``IBLB_E_TOO_MANY``: wait for some responses first.
        """
        request = ffi.new('int *')
        try:
            self._publish(request, message, args, services, milliseconds(seconds(ttl, 'ttl')))
            return int(request[0])
        except BaseException as error:
            _tell(error, request[0])
            raise

    def notify(
        self, message: str | int, *args: Any, services: Sequence[str] | None = None, ttl: float | None = 10.0
    ) -> None:
        """Write a command that nobody waits for. Parameters and errors as for `send`."""
        number, ttl_ms = message_number(message), milliseconds(seconds(ttl, 'ttl'))
        check(lib.iblb_notify(self._handle, _names(services), number, _arguments(args), ttl_ms), self._handle)

    def wait(self, request: int, timeout: float | None = 12.0) -> dict[str, Any]:
        """Wait for the response to a request.

        Parameters
        ----------
        request : int
            What `send` returned.
        timeout : float or None
            s; None: for ever.

        Returns
        -------
        dict
            The response body (see iblbridge.h); ``code`` is 0 or a warning.

        Raises
        ------
        bridge.errors.ServiceFailure
            A service did not do what was asked, or the command was not carried out; `response` says who did what.
        bridge.errors.OutcomeUnknown
            The time is up (`request` stays open: wait again), or the worker died in the middle of it.
        bridge.errors.NoWorker
            At once if no worker lives; `request` stays open, and a new worker answers it.
        bridge.errors.Misuse
            The arguments do not fit the message, or the request is none that is open.
        bridge.errors.NoSegment
            The segment is gone: open again.
        KeyboardInterrupt
            Within 100 ms after Ctrl-C; its `request` stays open.
        """
        try:
            return self._outcome(request, *self._await(request, seconds(timeout)))
        except BaseException as error:
            _tell(error, request)
            raise

    def call(
        self, message: str | int, *args: Any, services: Sequence[str] | None = None, timeout: float | None = 12.0
    ) -> dict[str, Any]:
        """Send a command and wait for its response; `timeout` is its time to live as well, s.

        Parameters, return value and errors as for `send` and `wait`. If no response came, a command that no worker
        had accepted is withdrawn: then ServiceFailure (``IBLB_E_NOT_SENT``) or NoWorker says so. After a
        KeyboardInterrupt it is not: `wait` for its `request`, or `cancel` it.
        """
        request, patience = ffi.new('int *'), seconds(timeout)
        try:
            self._publish(request, message, args, services, milliseconds(patience))
            code, body = self._await(request[0], patience)
            if code in (_TIMEOUT, _NO_WORKER):
                raise self._given_up(request[0], code)
            return self._outcome(request[0], code, body)
        except BaseException as error:
            _tell(error, request[0])
            raise

    def withdraw(self, request: int) -> bool:
        """Withdraw a command if no worker has accepted it.

        Returns
        -------
        bool
            True if it will never be sent; False if a worker had accepted it: then its answer can be waited for still.
        """
        return check(lib.iblb_withdraw(self._handle, request), self._handle) == 0

    def cancel(self, request: int) -> bool:
        """Withdraw a command, or give up its answer.

        Returns
        -------
        bool
            True if it will never be sent; False if a worker had accepted it: then its answer is discarded.
        """
        return check(lib.iblb_cancel(self._handle, request), self._handle) == 0

    def subscribe(self, *events: str | int | Sequence[str | int]) -> None:
        """Choose which events `next_event` gives; replaces the earlier choice.

        Parameters
        ----------
        *events : str, int or sequence of them
            Names or numbers: messages that services send by themselves (``'EXPINTERRUPT'``: a camera died) and
            ``'SERVICE_UP'``, ``'SERVICE_DOWN'``, ``'CLIENT_LOST'``, ``'WORKER_RESTARTED'``, ``'EXPERIMENT_LOST'``,
            ``'SERVICES_CHANGED'``. None at all: every event.

        Raises
        ------
        ValueError, bridge.errors.Misuse
            There is no such event.
        """
        chosen: list[str | int] = []
        for event in events or (list(EVENTS),):
            chosen += [event] if isinstance(event, (str, int)) else event
        mask = 0
        for one in chosen:
            mask |= event_number(one)
        check(lib.iblb_subscribe(self._handle, mask), self._handle)

    def unsubscribe(self) -> None:
        """Ask for no events any more."""
        check(lib.iblb_subscribe(self._handle, 0), self._handle)

    def next_event(self, timeout: float | None = 1.0) -> dict[str, Any] | None:
        """Wait for the next event.

        Parameters
        ----------
        timeout : float or None
            s; None: for ever.

        Returns
        -------
        dict or None
            With the keys of iblb_next_event in iblbridge.h; None if there was none in time.

        Raises
        ------
        bridge.errors.NoWorker
            At once if no worker lives that could send one.
        bridge.errors.NoSegment
            The segment is gone: open again.
        KeyboardInterrupt
            Within 100 ms after Ctrl-C; no event is lost.
        """
        was_open = self.is_open
        for pause in slices(seconds(timeout)):
            code, event = self._look_for_event(pause)
            if code != _TIMEOUT:
                self._check_wait(self._closed_meanwhile(code) if was_open else code)
                return event
        return None

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events as they come, until `close` is called in another thread.

        Raises
        ------
        bridge.errors.NoWorker, bridge.errors.NoSegment
            As `next_event`.
        """
        while self._handle:
            try:
                event = self.next_event(None)
            except BridgeError:
                if not self._handle:
                    return
                raise
            if event is not None:
                yield event

    def worker_state(self) -> WorkerState:
        """Return whether a worker lives, how many services it has, and how many of them are up."""
        alive, services, services_up = ffi.new('int *'), ffi.new('int *'), ffi.new('int *')
        check(lib.iblb_worker_state(self._handle, alive, services, services_up), self._handle)
        return WorkerState(bool(alive[0]), int(services[0]), int(services_up[0]))

    @property
    def is_open(self) -> bool:
        """bool: it was not closed."""
        return self._handle > 0

    def close(self) -> None:
        """Give the slot back. Calling it twice is harmless."""
        self._end(lib.iblb_close)

    def abandon(self) -> None:
        """Give the slot back, but say that the work is not done: the client is lost. Harmless after `close`."""
        self._end(lib.iblb_abandon)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:  # it did not do its work: its services are to be looked after
            self.abandon()

    @staticmethod
    def _forget(handle: int, which: str) -> None:
        """Give the slot of a client back that nobody has closed."""
        warnings.warn(f'{which} was never closed: write "with", or call close()', ResourceWarning, stacklevel=2)
        lib.iblb_abandon(handle)

    def _end(self, end: Callable[[int], int]) -> None:
        """Give the slot back in one of two ways, if that was not done yet."""
        handle, self._handle = self._handle, 0  # before: who waits in another thread ends by it, and looks here
        if handle:
            end(handle)
        self._forgotten.detach()  # not before: a signal's handler may raise between any two steps

    def _publish(
        self, request: Any, message: str | int, args: Sequence[Any], services: Sequence[str] | None, ttl_ms: int
    ) -> None:
        number, arguments = message_number(message), _arguments(args)
        check(lib.iblb_send(self._handle, _names(services), number, arguments, ttl_ms, request), self._handle)

    def _await(self, request: int, timeout: float) -> tuple[int, dict[str, Any]]:
        """Wait for a response; return the status and the body, which is empty if there is none."""
        was_open = self.is_open
        for pause in slices(timeout):
            code, body = self._look(request, pause)
            if code != _TIMEOUT:
                break
        return self._closed_meanwhile(code) if was_open else code, body

    def _closed_meanwhile(self, code: int) -> int:
        """Return the status of a wait that had begun: a handle that is none any more was closed."""
        return _CLOSED if code == _HANDLE or (code == _TIMEOUT and not self._handle) else code

    def _peek(self, request: int, pause: int) -> int:
        """Wait for a response for `pause` ms, and leave it there: ``IBLB_E_BUFFER`` if there is one."""
        if request in self._saved:
            return _BUFFER
        return int(lib.iblb_wait(self._handle, request, pause, ffi.NULL, 0, ffi.new('int *')))

    def _peek_for_event(self, pause: int) -> int:
        """Wait for an event for `pause` ms, and leave it there: ``IBLB_E_BUFFER`` if there is one."""
        if self._saved_events:
            return _BUFFER
        return int(lib.iblb_next_event(self._handle, pause, ffi.NULL, ffi.NULL, 0, ffi.new('int *')))

    def _look(self, request: int, pause: int) -> tuple[int, dict[str, Any]]:
        """Wait for a response for `pause` ms."""
        body = self._saved.pop(request, None)
        if body is not None:
            return int(body['code']), body
        return read(
            lambda *place: int(lib.iblb_wait(self._handle, request, pause, *place)),
            lambda body: self._saved.update({request: body}),
        )

    def _look_for_event(self, pause: int) -> tuple[int, dict[str, Any]]:
        """Wait for an event for `pause` ms."""
        if self._saved_events:
            return 0, self._saved_events.popleft()
        return read(
            lambda *place: int(lib.iblb_next_event(self._handle, pause, ffi.NULL, *place)), self._saved_events.append
        )

    def _outcome(self, request: int, code: int, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body of a response; raise the error that it, or the status of a wait, tells."""
        if code < 0:
            stays = request if code in (_TIMEOUT, _NO_WORKER) else 0
            sentence = body.get('error') or ('' if code == _CLOSED else last_error(self._handle))
            raise error_for(code, sentence, body or None, stays)
        return body

    def _check_wait(self, code: int) -> None:
        """Raise the error of a wait that gives no response."""
        self._outcome(0, code, {})

    def _given_up(self, request: int, code: int) -> BridgeError:
        """Take back what no worker has accepted, as iblb_call does it, and return the error that says which."""
        taken_back = lib.iblb_withdraw(self._handle, request)
        if taken_back < 0:  # somebody else has closed it
            return error_for(taken_back, last_error(self._handle))
        if taken_back == 0:
            return error_for(_NO_WORKER, _WITHDRAWN) if code == _NO_WORKER else error_for(CODES['IBLB_E_NOT_SENT'])
        return error_for(CODES['IBLB_E_PENDING'], _DIED if code == _NO_WORKER else '', request=request)


def _tell(error: BaseException, request: int) -> None:
    """Give Ctrl-C, and whatever else ends a wait from outside, the request that stays open; 0: there is none."""
    if request and not isinstance(error, Exception):
        error.request = request  # type: ignore[attr-defined]
        if hasattr(error, 'add_note'):
            error.add_note(f'Request {request} stays open: wait({request}) for its response, or cancel({request}).')


def _names(services: Sequence[str] | None) -> bytes:
    if services is None:
        return b''
    names = [services] if isinstance(services, str) and services else list(services)
    listed = [text(name, 'the name of a service') for name in names]
    if not names:  # the library would take it for all of them
        raise ValueError('services names no service; leave it out to reach all')
    if any(not name.strip() for name in names):
        raise ValueError('a name in the list of services is empty')
    return b','.join(listed)


def _arguments(args: Sequence[Any]) -> bytes:
    return plain.dumps(list(args)).encode() if args else b''
