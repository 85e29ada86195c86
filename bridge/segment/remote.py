"""The worker's services, as code that holds ``Auxiliaries.services`` in its hands sees them.

Their communicators are the worker's: what is here can be asked who is there, and have callbacks registered.
"""

from __future__ import annotations

import logging
from collections import UserDict
from collections.abc import Callable, Sequence
from typing import Any

from bridge.carrier import TIMEOUT
from bridge.numbers import MESSAGES

log = logging.getLogger(__name__)

Callback = Callable[..., object]


class RemoteService:
    """One of the worker's services, as code that uses ``services[name]`` sees it.

    Attributes
    ----------
    name : str
        As the worker has it.
    max_message_size : int
        Without effect here: it is the worker's setting of that name.
    """

    def __init__(self, name: str, is_connected: Callable[[], bool]) -> None:
        self.name = name
        self.max_message_size = 65535
        self._is_connected = is_connected
        self._callbacks: dict[int, list[tuple[Callback, bool]]] = {}

    @property
    def is_connected(self) -> bool:
        """bool: there is a worker."""
        return self._is_connected()

    def assign_callback(self, event: Any, callback: Callback, return_service: bool = False) -> None:
        """Have a function called with data and address (and service, if so wanted) at each message of an event."""
        self._callbacks.setdefault(_number(event), []).append((callback, return_service))

    def clear_callbacks(self, event: Any, callback: Callback | None = None) -> int:
        """Forget the callbacks of an event, or one of them; return how many."""
        before = self._callbacks.get(_number(event), [])
        kept = [] if callback is None else [one for one in before if one[0] != callback]
        self._callbacks[_number(event)] = kept
        return len(before) - len(kept)

    def close(self) -> None:
        """Do nothing: the communicators are the worker's."""

    def tell(self, event: int, data: list[Any]) -> None:
        """Call the callbacks of an event."""
        for callback, return_service in tuple(self._callbacks.get(event, ())):
            try:
                callback(data, (self.name, 0), *([self] if return_service else []))
            except Exception:
                log.exception('a callback of %s failed', self.name)


class RemoteServices(UserDict[str, RemoteService]):
    """The worker's services, as code that uses ``Auxiliaries.services`` sees them.

    Attributes
    ----------
    timeout : float
        How long `push` waits, s.
    """

    def __init__(self, names: Sequence[str], is_connected: Callable[[], bool]) -> None:
        super().__init__({name: RemoteService(name, is_connected) for name in names})
        self.timeout = TIMEOUT
        self._is_connected = is_connected
        self._of_all: list[tuple[int, Callback, bool]] = []  # callbacks, for services that are still to come

    def follow(self, names: Sequence[str]) -> None:
        """Have these services, in this order: new ones get the callbacks that all have got."""
        for name in names:
            if name not in self.data:
                self.data[name] = RemoteService(name, self._is_connected)
                for event, callback, return_service in self._of_all:
                    self.data[name].assign_callback(event, callback, return_service)
        self.data = {name: self.data[name] for name in names}

    @property
    def names(self) -> tuple[str, ...]:
        """Tuple of str: the services, in configured order."""
        return tuple(self)

    @property
    def is_connected(self) -> bool:
        """bool: there is a worker."""
        return bool(self) and self._is_connected()

    def assign_callback(self, event: Any, callback: Callback, return_service: bool = False) -> None:
        """Have a function called with data and address (and service, if so wanted) at each message of an event."""
        self._of_all.append((_number(event), callback, return_service))
        for service in self.values():
            service.assign_callback(event, callback, return_service)

    def clear_callbacks(self, event: Any, callback: Callback | None = None) -> dict[str, int]:
        """Forget the callbacks of an event, or one of them, of all services; return how many by name."""
        here = [one for one in self._of_all if one[0] == _number(event) and callback in (None, one[1])]
        self._of_all = [one for one in self._of_all if one not in here]
        return {name: service.clear_callbacks(event, callback) for name, service in self.items()}

    def close(self) -> None:
        """Do nothing: the communicators are the worker's."""


def _number(event: Any) -> int:
    """Return the number of a message given by name, number or iblutil's enumeration."""
    return MESSAGES[event.strip().upper()] if isinstance(event, str) else int(event)
