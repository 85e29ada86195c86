"""The worker's services, as code that holds ``Auxiliaries.services`` in its hands sees them.

Their communicators are the worker's: what is here can be asked who is there, and have callbacks registered.
"""

from __future__ import annotations

import logging
from collections import UserDict
from collections.abc import Callable, ItemsView, Sequence, ValuesView
from typing import Any

from bridge.carrier import TIMEOUT

log = logging.getLogger(__name__)

Callback = Callable[..., object]
Events = Callable[[Any], dict[int, tuple[Any, ...]]]


class RemoteService:
    """One of the worker's services, as code that uses ``services[name]`` sees it.

    No callback is called at an error (0): that a service reports one is the outcome of its command.

    Attributes
    ----------
    name : str
        As the worker has it.
    max_message_size : int
        Without effect here: it is the worker's setting of that name.
    """

    def __init__(self, name: str, is_connected: Callable[[], bool], events: Events) -> None:
        self.name = name
        self.max_message_size = 65535
        self._is_connected, self._events = is_connected, events
        self._callbacks: dict[int, list[tuple[Callback, tuple[Any, ...]]]] = {}

    @property
    def is_connected(self) -> bool:
        """bool: there is a worker."""
        return self._is_connected()

    def assign_callback(self, event: Any, callback: Callback, return_service: bool = False) -> None:
        """Have a function called with data and address (and service, if so wanted) at each message of an event.

        Raises
        ------
        TypeError, ValueError
            It is no function, or there is no such event.
        """
        check(callback)
        for number, more in self._events(event).items():
            self.add(number, callback, more, return_service)

    def add(self, number: int, callback: Callback, more: tuple[Any, ...], return_service: bool) -> None:
        """Have a function called at each message of this number, with `more` behind data and address."""
        self._callbacks.setdefault(number, []).append((callback, (*more, self) if return_service else more))

    def clear_callbacks(self, event: Any, callback: Callback | None = None) -> int:
        """Forget the callbacks of an event, or one of them; return how many."""
        cleared = 0
        for number in self._events(event):
            before = self._callbacks.get(number, [])
            kept = self._callbacks[number] = [one for one in before if callback not in (None, one[0])]
            cleared += len(before) - len(kept)
        return cleared

    def close(self) -> None:
        """Do nothing: the communicators are the worker's."""

    def tell(self, event: int, data: list[Any]) -> None:
        """Call the callbacks of an event."""
        for callback, more in tuple(self._callbacks.get(event, ())):
            try:
                callback(data, (self.name, 0), *more)
            except BaseException:  # sys.exit, too
                log.exception('a callback of %s failed', self.name)


class RemoteServices(UserDict[str, RemoteService]):
    """The worker's services, as code that uses ``Auxiliaries.services`` sees them.

    Parameters
    ----------
    names : sequence of str
        The services, in order.
    is_connected : callable
        Tells whether there is a worker.
    events : callable
        Returns the numbers of the messages that a callback is for, and what else it is called with at each of them.

    Attributes
    ----------
    timeout : float
        How long `push` waits, s.
    """

    def __init__(self, names: Sequence[str], is_connected: Callable[[], bool], events: Events) -> None:
        super().__init__()
        self.timeout = TIMEOUT
        self._is_connected, self._events = is_connected, events
        # For services that are still to come.
        self._of_all: list[tuple[int, Callback, tuple[Any, ...], bool]] = []
        self.follow(names)

    def follow(self, names: Sequence[str]) -> None:
        """Have these services, in this order: new ones get the callbacks that all have got."""
        known = {name: self.data.get(name) or self._made(name) for name in names}
        self.data = known  # not one by one: another thread may just go through what there was

    def _made(self, name: str) -> RemoteService:
        service = RemoteService(name, self._is_connected, self._events)
        for one in self._of_all:
            service.add(*one)
        return service

    def values(self) -> ValuesView[RemoteService]:
        """Return the services that there are now, whatever becomes of them meanwhile."""
        return self.data.values()

    def items(self) -> ItemsView[str, RemoteService]:
        """Return them with their names, likewise."""
        return self.data.items()

    @property
    def names(self) -> tuple[str, ...]:
        """Tuple of str: the services, in configured order."""
        return tuple(self)

    @property
    def is_connected(self) -> bool:
        """bool: there is a worker."""
        return bool(self) and self._is_connected()

    def assign_callback(self, event: Any, callback: Callback, return_service: bool = False) -> None:
        """Have a function called at each message of an event, as that of one service does."""
        check(callback)
        added = [(number, callback, more, return_service) for number, more in self._events(event).items()]
        self._of_all += added
        for service in self.values():
            for one in added:
                service.add(*one)

    def clear_callbacks(self, event: Any, callback: Callback | None = None) -> dict[str, int]:
        """Forget the callbacks of an event, or one of them, of all services; return how many by name."""
        numbers = self._events(event)
        self._of_all = [one for one in self._of_all if one[0] not in numbers or callback not in (None, one[1])]
        return {name: service.clear_callbacks(event, callback) for name, service in self.items()}

    def close(self) -> None:
        """Do nothing: the communicators are the worker's."""


def check(callback: Any) -> None:
    """Raise TypeError if this cannot be called."""
    if not callable(callback):  # iblutil takes a future, too, of the loop that its communicators are in
        raise TypeError(f'a callback through a segment is a function, not {callback!r}')
