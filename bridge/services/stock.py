"""A master as iblutil and iblrig have it: its own communicator under its own ``Services``, nothing of ours in between.

For the demo of the other direction: what it is told is what any master is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple

from bridge.numbers import MESSAGES
from bridge.outcome import NO_STATUS
from bridge.sayable import sentence
from bridge.services import rules
from bridge.services.iblutil import net, silent_client


class Told(NamedTuple):
    """What a master was told.

    Attributes
    ----------
    status : int
        What the service reports of itself; -1: nothing.
    data : list
        The reply, without the event number; empty if there was none.
    error : str
        Why there was none.
    took : float
        s.
    """

    status: int
    data: list[Any]
    error: str
    took: float


class StockMaster:
    """Stock ``Services`` with one service, in a loop of its own.

    Parameters
    ----------
    uri : str
        Of the service, such as ``udp://127.0.0.1:11001``.
    name : str
        What it is called.
    timeout : float
        How long a reply may take, s.
    """

    def __init__(self, uri: str, name: str, timeout: float = 10.0) -> None:
        self._loop = asyncio.SelectorEventLoop()  # not Windows' own, whose UDP goes deaf
        self._name = name
        self._com = self._loop.run_until_complete(silent_client(uri, name))
        self._services = net.app.Services([self._com], timeout=timeout)
        self._failed: list[str] = []
        self._com.assign_callback(0, self._fail)

    def _fail(self, data: Sequence[Any], address: object) -> None:
        self._failed.append(sentence(str(data[0])))

    def command(self, message: str, *args: Any) -> Told:
        """Give a command, and return what came of it; raises nothing of the network's."""
        services = self._services
        send = {
            'EXPINFO': services.info,
            'EXPINIT': services.init,
            'EXPSTART': services.start,
            'EXPSTATUS': services.status,
            'EXPEND': services.stop,
            'EXPCLEANUP': services.cleanup,
        }[message]
        begun, self._failed = time.perf_counter(), []
        try:
            given = args or (('CONNECTED',) if message == 'EXPSTATUS' else ())  # what stock masters must give it
            data = self._loop.run_until_complete(self._until_failed(send(*given)))
        except Exception as error:
            what = self._failed[0] if self._failed else sentence(f'{type(error).__name__}: {error}')
            return Told(NO_STATUS, [], what, time.perf_counter() - begun)
        reply = list(data[self._name])
        status = rules.reported_status(MESSAGES[message], reply)
        return Told(status, reply, '', time.perf_counter() - begun)

    async def _until_failed(self, sending: Coroutine[Any, Any, Any]) -> Any:
        """Return what the services say; stock ones wait on although they were told of an error."""
        task = asyncio.ensure_future(sending)
        while not task.done() and not self._failed:
            await asyncio.wait([task], timeout=0.02)
        if not task.done():
            task.cancel()
            raise RuntimeError(self._failed[0])
        return task.result()

    def close(self) -> None:
        """Close the communicator and the loop."""

        async def close() -> None:
            self._com.close()
            await asyncio.sleep(0.01)

        self._loop.run_until_complete(close())
        self._loop.close()
