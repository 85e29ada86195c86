"""Answers that wait for room: what a program leaves unread is kept for it, and costs nobody else anything.

- A response that finds no room in its client's ring waits behind the earlier ones of that client. Only the first one of
  each client is tried again, so a pass costs the same however many wait.
- Of one client at most `MOST` bytes wait whole. What comes beyond that waits without data: states, errors and stamps,
  as of a response that is too large. How many can wait, the client's command ring bounds: each command keeps its place
  there until its response is placed.
- Neither thread waits for the other longer than one response takes to be placed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from bridge.segment.response import pack_response, without_data
from bridge.segment.served import Taken

MOST = 4 << 20  # bytes of responses that wait whole for one client

Respond = Callable[[Taken, int, bytes], bool]


class Outbox:
    """The way of responses into the clients' rings; called by any thread.

    Parameters
    ----------
    respond : callable
        Places a response; False if there is no room. See `bridge.segment.served.Segment.respond`.
    largest : int
        The most that one response may take, bytes.
    most : int
        The most that waits whole for one client, bytes.
    """

    def __init__(self, respond: Respond, largest: int, most: int = MOST) -> None:
        self._respond, self._largest, self._most = respond, largest, most
        self._waiting: dict[int, deque[tuple[Taken, int, bytes]]] = {}  # by slot
        self._bytes: dict[int, int] = {}
        self._lock = threading.Lock()  # between a look at what waits and what is done about it

    def __len__(self) -> int:
        """Return how many responses wait."""
        return sum(map(len, tuple(self._waiting.values())))

    def put(self, taken: Taken, body: dict[str, Any]) -> None:
        """Place the response to a command, now or when there is room; raises as `respond`."""
        code, packed = pack_response(body, self._largest)
        slot = taken.slot
        with self._lock:
            if slot not in self._waiting and self._respond(taken, code, packed):
                return
            if self._bytes.get(slot, 0) + len(packed) > self._most:
                code, packed = without_data(body, f'{self._most >> 20} MiB of earlier answers are not read yet')
            self._waiting.setdefault(slot, deque()).append((taken, code, packed))
            self._bytes[slot] = self._bytes.get(slot, 0) + len(packed)

    def deliver(self) -> None:
        """Place what has room by now; raises as `respond`."""
        if not self._waiting:
            return
        with self._lock:
            for slot, queue in tuple(self._waiting.items()):
                while queue and self._respond(*queue[0]):
                    self._bytes[slot] -= len(queue.popleft()[2])
                if not queue:
                    del self._waiting[slot], self._bytes[slot]
