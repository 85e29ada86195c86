"""A master as iblutil and iblrig have it: stock communicators under ``Services``, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from typing import Any

from iblutil.io import net


class Stock:
    """Stock ``Services`` of one service.

    Attributes
    ----------
    told : list
        What the service says of errors and by itself: event and data.
    """

    def __init__(self, port: int, host: str = '127.0.0.1', timeout: float = 10.0) -> None:
        self.told: list[tuple[int, Any]] = []
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.com = self.run(self._open(f'udp://{host}:{port}'))
        self.services = net.app.Services([self.com], timeout=timeout)
        for event in (0, 16, 32):
            self.com.assign_callback(event, lambda data, addr, event=event: self.told.append((event, data)))

    async def _open(self, uri: str) -> Any:
        quiet = logging.Logger('quiet', logging.CRITICAL)
        return await net.app.EchoProtocol.client(uri, 'cameras', log=quiet)

    def run(self, what: Coroutine[Any, Any, Any], timeout: float = 20.0) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout)

    def begin(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop)

    @property
    def is_open(self) -> bool:
        return not self.com._transport.is_closing()

    def close(self) -> None:
        async def close() -> None:
            self.com.close()
            await asyncio.sleep(0.01)

        self.run(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def __enter__(self) -> Stock:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
