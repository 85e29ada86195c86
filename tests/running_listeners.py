"""A worker that listens, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from bridge.config import ListenerConfig
from bridge.worker import Worker


class Running:
    """A worker in a thread, with the port of its first listener."""

    def __init__(
        self,
        *listeners: ListenerConfig,
        services: Mapping[str, str] | None = None,
        segment: str = 'rig',
        **options: Any,
    ) -> None:
        listeners = listeners or (ListenerConfig('cameras', port=0),)
        self.worker = Worker(segment, services or {}, listeners=listeners, **options)
        self.port = self.worker.ports[listeners[0].name]
        self._thread = threading.Thread(target=self.worker.run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()
        self.worker.close()
