"""The Python face of the C client for asyncio: what waits is awaited, the loop goes on.

A wait takes a thread of a pool for 100 ms at a time, which only looks whether something is there. It is taken in the
loop, so that a task that is cancelled loses nothing. All else is a matter of microseconds and done in the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any

from bridge.errors import BridgeError
from bridge.numbers import CODES
from bridge.segment.client import Client, WorkerState
from bridge.segment.commands import SERVED, Command
from bridge.segment.patience import seconds, slices

_THREADS = 32  # of more waits than that at a time, each gets its turn
_BUFFER, _TIMEOUT, _NO_WORKER = CODES['IBLB_E_BUFFER'], CODES['IBLB_E_TIMEOUT'], CODES['IBLB_E_NO_WORKER']
_Found = tuple[int, dict[str, Any]]


class AsyncClient:
    """`Client`, to be awaited: ``async with AsyncClient('rig0') as rig``.

    Parameters, methods, return values and errors are those of `Client`. To cancel a task (a time-out, a task group that
    fails) ends its wait at once: `call` gives its command up as well, `wait` leaves its request open.

    Parameters
    ----------
    segment : str
        Name of the segment, e.g. ``rig0``.
    name : str
        Name of this client. Default: ``pid-<pid>-<n>-<random>``.
    timeout : float or None
        How long to wait for a segment and a worker, s; None: for ever.
    """

    def __init__(self, segment: str, name: str = '', timeout: float | None = 1.0) -> None:
        self.segment, self.name = segment, name
        self._timeout = timeout
        self._opened: Client | None = None
        self._pool = ThreadPoolExecutor(_THREADS, 'iblbridge')

    def __repr__(self) -> str:
        named = f' {self.name!r}' if self.name else ''
        return f'<AsyncClient of {self.segment}{named}{"" if self._opened and self._opened.is_open else ", closed"}>'

    async def __aenter__(self) -> AsyncClient:
        """Open the segment; raises as `Client`."""
        opening = self._pool.submit(Client, self.segment, self.name, self._timeout)
        try:
            self._opened = await asyncio.wrap_future(opening)
        except BaseException:
            opening.add_done_callback(_close)
            self._pool.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.__exit__(kind, error, trace)  # first: what waits in other tasks ends by it
        self._pool.shutdown(wait=False)

    @property
    def _client(self) -> Client:
        if self._opened is None:
            raise RuntimeError('write "async with AsyncClient(...) as rig": it is not open yet')
        return self._opened

    async def call(
        self, message: str | int, *args: Any, services: Sequence[str] | None = None, timeout: float | None = 12.0
    ) -> dict[str, Any]:
        """Send a command and wait for its response, as `Client.call`; if the task is cancelled, so is the command."""
        patience = seconds(timeout)
        request = self._client.send(message, *args, services=services, ttl=timeout)
        try:
            code, body = await self._await(request, patience)
        except asyncio.CancelledError:
            with contextlib.suppress(BridgeError):  # it was answered in that moment
                self._client.cancel(request)
            raise
        if code in (_TIMEOUT, _NO_WORKER):
            raise self._client._given_up(request, code)
        return self._client._outcome(request, code, body)

    async def wait(self, request: int, timeout: float | None = 12.0) -> dict[str, Any]:
        """Wait for the response to a request, as `Client.wait`."""
        return self._client._outcome(request, *await self._await(request, seconds(timeout)))

    async def next_event(self, timeout: float | None = 1.0) -> dict[str, Any] | None:
        """Wait for the next event, as `Client.next_event`; if the task is cancelled, no event is lost."""
        client = self._client
        code, event = await self._slices(client._peek_for_event, client._look_for_event, seconds(timeout))
        if code == _TIMEOUT:
            return None
        client._check_wait(code)
        return event

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the events as they come, until this is closed; raises as `next_event`."""
        while self._client.is_open:
            try:
                event = await self.next_event(None)
            except BridgeError:
                if not self._client.is_open:
                    return
                raise
            if event is not None:
                yield event

    async def serve(self, service: str = '', messages: str | int | Sequence[str | int] = SERVED) -> None:
        """Get from now on what masters ask of a listener, as `Client.serve`."""
        serve = partial(self._client.serve, service, messages)
        await asyncio.wrap_future(self._pool.submit(serve))  # it may wait for a worker that has just started

    async def next_command(self, timeout: float | None = 1.0) -> Command | None:
        """Wait for the next command, as `Client.next_command`; if the task is cancelled, no command is lost."""
        client = self._client
        for pause in slices(seconds(timeout)):
            await asyncio.wrap_future(self._pool.submit(client._peek_for_command, pause))
            command = client._look_for_command(0, was_open=True)
            if command is not None:
                return command
        return None

    async def commands(self) -> AsyncIterator[Command]:
        """Yield the commands as they come, until this is closed; raises as `next_command`.

        To be reached by an EXPINTERRUPT while a command takes long, carry it out in a task, and look at its
        `interrupted`.
        """
        while self._client.is_open:
            try:
                command = await self.next_command(None)
            except BridgeError:
                if not self._client.is_open:
                    return
                raise
            if command is not None:
                yield command
            del command  # or one that was forgotten would live until the next one comes

    def tell(self, message: str | int, data: Any = None) -> None:
        """Say something without having been asked, as `Client.tell`."""
        self._client.tell(message, data)

    def send(
        self, message: str | int, *args: Any, services: Sequence[str] | None = None, ttl: float | None = 10.0
    ) -> int:
        """Write a command and return at once, as `Client.send`."""
        return self._client.send(message, *args, services=services, ttl=ttl)

    def notify(
        self, message: str | int, *args: Any, services: Sequence[str] | None = None, ttl: float | None = 10.0
    ) -> None:
        """Write a command that nobody waits for, as `Client.notify`."""
        self._client.notify(message, *args, services=services, ttl=ttl)

    def withdraw(self, request: int) -> bool:
        """Withdraw a command if no worker has accepted it, as `Client.withdraw`."""
        return self._client.withdraw(request)

    def cancel(self, request: int) -> bool:
        """Withdraw a command, or give up its answer, as `Client.cancel`."""
        return self._client.cancel(request)

    def subscribe(self, *events: str | int | Sequence[str | int]) -> None:
        """Choose the events, as `Client.subscribe`."""
        self._client.subscribe(*events)

    def unsubscribe(self) -> None:
        """Ask for no events any more."""
        self._client.unsubscribe()

    def worker_state(self) -> WorkerState:
        """Return whether a worker lives, as `Client.worker_state`."""
        return self._client.worker_state()

    async def _await(self, request: int, timeout: float) -> _Found:
        peek, look = self._client._peek, self._client._look
        return await self._slices(partial(peek, request), partial(look, request), timeout)

    async def _slices(self, peek: Callable[[int], int], look: Callable[[int], _Found], timeout: float) -> _Found:
        """Peek in a thread until there is something or the time is up, and take it."""
        code, found = CODES['IBLB_E_HANDLE'], dict[str, Any]()
        if not self._client.is_open:
            return code, found
        for pause in slices(timeout):
            code = await asyncio.wrap_future(self._pool.submit(peek, pause))
            if code == _BUFFER:
                code, found = look(0)
            if code != _TIMEOUT or not self._client.is_open:
                break
        return self._client._closed_meanwhile(code), found


def _close(opening: Future[Client]) -> None:
    """Close what was opened when nobody wanted it any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
