"""The Python face of the C client: what a foreign program does, from Python, through the same functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

from bridge.errors import check
from bridge.numbers import CODES
from bridge.segment.library import ffi, lib
from bridge.segment.payload import event_number, message_number

_FIRST_CAPACITY = 16 << 10


class WorkerState(NamedTuple):
    """What `Client.worker_state` tells."""

    alive: bool
    services: int
    services_up: int


class Client:
    """Attached to a segment; sends commands to its worker and waits for the responses.

    In a ``with`` block it is closed at the end. If the block ends by an exception, or the program without `close`, the
    worker takes the client for lost (event ``CLIENT_LOST``, setting ``on_client_lost``), as if it had been killed.

    Parameters
    ----------
    segment : str
        Name of the segment, e.g. ``rig0``.
    name : str
        Name of this client; another living process of the same name is refused. Default: ``pid-<pid>-<n>``.
    timeout : float
        How long to wait for a segment and a worker, s.

    Raises
    ------
    bridge.errors.NoSegment
        There is no usable segment or no free slot.
    """

    def __init__(self, segment: str, name: str = '', timeout: float = 1.0) -> None:
        handle = ffi.new('int *')
        check(lib.iblb_open(segment.encode(), name.encode(), _ms(timeout), handle))
        self._handle = int(handle[0])

    def send(self, message: str | int, *args: Any, services: Sequence[str] = (), ttl: float | None = 10.0) -> int:
        """Write a command and return at once.

        Parameters
        ----------
        message : str or int
            Name or number, e.g. ``'EXPSTART'``.
        *args
            The message's arguments: anything JSON can say.
        services : sequence of str
            Which services; empty for all.
        ttl : float or None
            If the command has not begun to be sent within this time it never will be, s; None: no limit.

        Returns
        -------
        int
            The request number, for `wait` and `cancel`.
        """
        request = ffi.new('int *')
        check(
            lib.iblb_send(
                self._handle, _names(services), message_number(message), _arguments(args), _ttl(ttl), request
            ),
            self._handle,
        )
        return int(request[0])

    def notify(self, message: str | int, *args: Any, services: Sequence[str] = (), ttl: float | None = 10.0) -> None:
        """Write a command that nobody waits for. Parameters as for `send`."""
        number = message_number(message)
        check(lib.iblb_notify(self._handle, _names(services), number, _arguments(args), _ttl(ttl)), self._handle)

    def wait(self, request: int, timeout: float = 12.0) -> dict[str, Any]:
        """Wait for the response to a request.

        Parameters
        ----------
        request : int
            What `send` returned.
        timeout : float
            s.

        Returns
        -------
        dict
            The response body (see iblbridge.h); ``code`` is 0 or a warning.

        Raises
        ------
        bridge.errors.BridgeError
            The command's error, with the body as `response` if there is one.
        """
        capacity, milliseconds, needed = _FIRST_CAPACITY, _ms(timeout), ffi.new('int *')
        code = CODES['IBLB_E_BUFFER']
        while code == CODES['IBLB_E_BUFFER']:
            buffer = ffi.new('char[]', capacity)
            code = lib.iblb_wait(self._handle, request, milliseconds, buffer, capacity, needed)
            capacity = needed[0]
        body: dict[str, Any] = json.loads(ffi.string(buffer)) if needed[0] else {}
        check(code, self._handle, body or None)
        return body

    def call(
        self, message: str | int, *args: Any, services: Sequence[str] = (), timeout: float = 12.0
    ) -> dict[str, Any]:
        """Send a command and wait for its response; `timeout` is its time to live as well, s.

        Parameters, return value and errors as for `send` and `wait`. If no response came, a command that no worker
        had accepted is withdrawn.
        """
        request, buffer = ffi.new('int *'), ffi.new('char[]', _FIRST_CAPACITY)
        number = message_number(message)
        code = lib.iblb_call(
            self._handle, _names(services), number, _arguments(args), _ms(timeout), buffer, _FIRST_CAPACITY, request
        )
        if code == CODES['IBLB_E_BUFFER']:
            return self.wait(request[0], 0)
        body: dict[str, Any] = json.loads(ffi.string(buffer)) if buffer[0] != b'\0' else {}
        check(code, self._handle, body or None)
        return body

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

    def subscribe(self, *events: str | int) -> None:
        """Choose which events `next_event` gives; replaces the earlier choice.

        Parameters
        ----------
        *events : str or int
            Names or numbers: messages that services send by themselves (``'EXPINTERRUPT'``: a camera died) and
            ``'SERVICE_UP'``, ``'SERVICE_DOWN'``, ``'CLIENT_LOST'``, ``'WORKER_RESTARTED'``; none for no events.
        """
        mask = 0
        for event in events:
            mask |= event_number(event)
        check(lib.iblb_subscribe(self._handle, mask), self._handle)

    def next_event(self, timeout: float = 1.0) -> dict[str, Any] | None:
        """Wait for the next event.

        Parameters
        ----------
        timeout : float
            s.

        Returns
        -------
        dict or None
            With the keys of iblb_next_event in iblbridge.h; None if there was none in time.

        Raises
        ------
        bridge.errors.NoWorker
            No worker lives that could send one.
        """
        capacity, needed, code = _FIRST_CAPACITY, ffi.new('int *'), CODES['IBLB_E_BUFFER']
        while code == CODES['IBLB_E_BUFFER']:
            buffer = ffi.new('char[]', capacity)
            code = lib.iblb_next_event(self._handle, _ms(timeout), ffi.NULL, buffer, capacity, needed)
            capacity = needed[0]
        if code == CODES['IBLB_E_TIMEOUT']:
            return None
        check(code, self._handle)
        event: dict[str, Any] = json.loads(ffi.string(buffer))
        return event

    def worker_state(self) -> WorkerState:
        """Return whether a worker lives, how many services it has, and how many of them are up."""
        alive, services, services_up = ffi.new('int *'), ffi.new('int *'), ffi.new('int *')
        check(lib.iblb_worker_state(self._handle, alive, services, services_up), self._handle)
        return WorkerState(bool(alive[0]), int(services[0]), int(services_up[0]))

    def close(self) -> None:
        """Give the slot back. Harmless twice."""
        if self._handle:
            lib.iblb_close(self._handle)
            self._handle = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._handle:  # it did not do its work: its services are to be looked after
            lib.iblbw_abandon(self._handle)
            self._handle = 0
        self.close()


def _ms(seconds: float) -> int:
    return min(max(round(seconds * 1000), 0), 2**31 - 1)


def _ttl(seconds: float | None) -> int:
    return -1 if seconds is None else max(_ms(seconds), 1)


def _names(services: Sequence[str]) -> bytes:
    return ','.join([services] if isinstance(services, str) else services).encode()


def _arguments(args: Sequence[Any]) -> bytes:
    return json.dumps(list(args)).encode() if args else b''
