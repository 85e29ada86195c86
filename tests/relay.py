"""A lossy network: a UDP relay between the bridge and one service that treats each datagram as a rule says.

A rule is a function of what a datagram is (below), its bytes and how many of its kind went before; it returns what
arrives: pairs of delay (s) and bytes, none for a loss. `chance` makes a rule of probabilities with a seed.

    command       bridge ──► service        echo          the same bytes back
    reply         service ──► bridge        confirmation  the same bytes back
"""

from __future__ import annotations

import heapq
import itertools
import random
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

Arrivals = Sequence[tuple[float, bytes]]
Rule = Callable[[str, bytes, int], Arrivals]


def passes(kind: str, datagram: bytes, before: int) -> Arrivals:
    """Let everything through."""
    return [(0.0, datagram)]


def only(kind: str, what: Callable[[bytes], Arrivals], times: int = 1) -> Rule:
    """Treat the first few datagrams of a kind so, and let the rest through."""

    def rule(got: str, datagram: bytes, before: int) -> Arrivals:
        return what(datagram) if got == kind and before < times else [(0.0, datagram)]

    return rule


def drop(datagram: bytes) -> Arrivals:
    """Lose it."""
    return []


def duplicate(datagram: bytes) -> Arrivals:
    """Deliver it twice."""
    return [(0.0, datagram), (0.0005, datagram)]


def delay(seconds: float) -> Callable[[bytes], Arrivals]:
    """Deliver it later; what comes behind it overtakes it."""
    return lambda datagram: [(seconds, datagram)]


def truncate(datagram: bytes) -> Arrivals:
    """Deliver its first half."""
    return [(0.0, datagram[: len(datagram) // 2])]


def corrupt(datagram: bytes) -> Arrivals:
    """Deliver it with one bit of its first byte turned over."""
    return [(0.0, bytes([datagram[0] ^ 4]) + datagram[1:])]


def chance(seed: int, **by_kind: dict[str, float]) -> Rule:
    """Drop, duplicate or delay datagrams of a kind with a probability each, independently.

    Parameters
    ----------
    seed : int
        The same seed gives the same decisions.
    **by_kind
        e.g. ``echo={'drop': 0.25, 'duplicate': 0.25, 'delay': 0.25}``; delays are 0 to 5 ms.
    """
    dice = random.Random(seed)

    def rule(kind: str, datagram: bytes, before: int) -> Arrivals:
        chances = by_kind.get(kind, {})
        if dice.random() < chances.get('drop', 0):
            return []
        copies = 2 if dice.random() < chances.get('duplicate', 0) else 1
        late = dice.random() < chances.get('delay', 0)
        return [(dice.random() * 0.005 if late else 0.0, datagram) for _ in range(copies)]

    return rule


class Relay:
    """Stands between the bridge and the service at a port; a context manager.

    Attributes
    ----------
    uri : str
        What the bridge is to be given.
    rule : callable
        May be changed at any time.
    counts : Counter
        How many datagrams of each kind came in.
    lost : Counter
        How many of them did not go out.
    """

    def __init__(self, port: int, rule: Rule = passes) -> None:
        self.rule = rule
        self.counts: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self._front = _socket()
        self._back = _socket()
        self._back.connect(('127.0.0.1', port))
        self.uri = f'udp://127.0.0.1:{self._front.getsockname()[1]}'
        self._client: tuple[str, int] | None = None
        self._commands: set[bytes] = set()
        self._replies: set[bytes] = set()
        self._later: list[tuple[float, int, bool, bytes]] = []
        self._order = itertools.count()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._thread.join(5)
        self._front.close()
        self._back.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._front, selectors.EVENT_READ, True)
            selector.register(self._back, selectors.EVENT_READ, False)
            while not self._closing:
                wait = self._later[0][0] - time.monotonic() if self._later else 0.05
                for key, _ in selector.select(max(min(wait, 0.05), 0.0)):
                    self._take(key.fileobj, key.data)
                while self._later and self._later[0][0] <= time.monotonic():
                    _, _, inward, datagram = heapq.heappop(self._later)
                    self._send(inward, datagram)

    def _take(self, source: socket.socket, inward: bool) -> None:
        try:
            datagram, address = source.recvfrom(65535)
        except ConnectionError:  # the service refuses: so would its computer
            return
        if inward:
            self._client = address
        kind = self._kind(inward, datagram)
        before = self.counts[kind]
        self.counts[kind] += 1
        arrivals = self.rule(kind, datagram, before)
        self.lost[kind] += not arrivals
        for late, what in arrivals:
            if late:
                heapq.heappush(self._later, (time.monotonic() + late, next(self._order), inward, what))
            else:
                self._send(inward, what)

    def _kind(self, inward: bool, datagram: bytes) -> str:
        if inward:
            if datagram in self._replies:
                return 'confirmation'
            self._commands.add(datagram)
            return 'command'
        if datagram in self._commands:
            return 'echo'
        self._replies.add(datagram)
        return 'reply'

    def _send(self, inward: bool, datagram: bytes) -> None:
        try:
            if inward:
                self._back.send(datagram)
            elif self._client:
                self._front.sendto(datagram, self._client)
        except ConnectionError:
            pass


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(('127.0.0.1', 0))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    return made
