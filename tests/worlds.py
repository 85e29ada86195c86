"""A world in virtual time: one `Line`, the path to its service, and models of services as they really behave.

The models are those of iblutil's EchoProtocol (``app.py`` 1.20.0), held against the real one in `test_models_are_true`:
a server echoes what it reads, and hears it; while it waits for the confirmation of what it said, it compares what it
reads with that, and closes for good if it differs, or if nothing comes for a second.

==============  =====================================================================================================
`Stock`         answers in the very callback
`SideBySide`    its callbacks run side by side and answer when they are ready
`OneLoop`       hears nothing while it works, and until it has come round again (iblrig's camera session)
==============  =====================================================================================================
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from virtual_time import MS, VirtualTime

from bridge.services.actions import Ended, Heard, Noted, Open, Send
from bridge.services.errand import Errand
from bridge.services.line import Line
from bridge.services.rules import CLEANUP, INTERRUPT, Timing

HOP = MS // 10  # ns that a datagram takes
ECHO_WAIT = 1000 * MS  # EchoProtocol.default_echo_timeout

Fate = Callable[[str, bytes], list[int]]
"""What the path does to a datagram ``'out'`` or ``'in'``: in how many ns it arrives, once for each copy."""


def straight(way: str, datagram: bytes) -> list[int]:
    """A path that does nothing wrong."""
    return [HOP]


class World(VirtualTime):
    """Time, the line, the path and the service.

    Attributes
    ----------
    ended : list of Errand
        In the order in which their outcomes were told.
    told : list of Heard
        What the line passed on.
    outcomes : dict of str to Errand
        By the serial number in the command's text.
    """

    def __init__(
        self, service: Callable[[World], Service], timing: Timing | None = None, fate: Fate = straight
    ) -> None:
        super().__init__(10**9)
        self.fate = fate
        self.line = Line('a', 'udp://a', timing or Timing())
        self.sent: list[Errand] = []
        self.ended: list[Errand] = []
        self.told: list[Heard] = []
        self.out: Counter[bytes] = Counter()
        self._serial = itertools.count(1)
        self.service = service(self)

    def wake_at(self) -> int | None:
        """Return when the line wants to be asked again."""
        return self.line.wake_at

    # --- the line, as `Link` does it ---

    def submit(self, event: int, *data: Any, timeout: float = 10.0, ttl: float = 10.0) -> Errand:
        """Give the line a command, whose text has a number of its own unless it has data."""
        number = next(self._serial)
        given = list(data) if data else [f'#{number}'] if event != 2 else [f'ref-{number}', None]
        text = json.dumps([event, *given]).encode()
        errand = Errand('a', event, text, number, timeout, self.now + ttl * 1e9)
        self.sent.append(errand)
        if event == INTERRUPT:
            self.line.interrupt(errand, self.now)
        else:
            self.line.submit(errand)
        self.turn()
        return errand

    def turn(self) -> None:
        """Do what the line says."""
        steps = 0
        while (action := self.line.next(self.now)) is not None:
            steps += 1
            assert steps < 1000, 'the line says the same for ever'
            if isinstance(action, Send):
                self.out[action.payload] += 1
                if action.errand is not None:
                    self.line.left(action.errand, self.now)
                self._pass('out', action.payload)
            elif isinstance(action, Open):
                self.line.opened()
            elif isinstance(action, Ended):
                self.ended.append(action.errand)
            elif isinstance(action, Heard):
                self.told.append(action)
            else:
                assert isinstance(action, Noted)

    def back(self, datagram: bytes) -> None:
        """The service sends something."""
        self._pass('in', datagram)

    def refuse(self) -> None:
        """The service's computer says that nobody listens."""
        self.at(self.now + HOP, lambda: self.line.refused(ConnectionRefusedError(111, 'refused'), self.now))

    def _pass(self, way: str, datagram: bytes) -> None:
        take = self.service.arrive if way == 'out' else lambda what: self.line.received(what, self.now)
        for delay in self.fate(way, datagram):
            self.at(self.now + delay, lambda: take(datagram))


@dataclass
class Service:
    """What the models share: a socket, stalls, and iblutil's echo and confirmation.

    Attributes
    ----------
    heard : list of bytes
        What its callbacks got, padding and all.
    read_at_close : bytes or None
        What closed it; b'' if no confirmation came.
    overlapped : bool
        It said something while it waited for a confirmation: iblutil forgets the first one then, and closes.
    confirmed : set of object
        Tokens of what it said that were confirmed.
    life : int
        How often it was restarted.
    """

    world: World
    answer: Callable[[int, list[Any]], list[Any] | None] = lambda event, data: [None]
    work: Callable[[bytes], int] = lambda datagram: 0
    buffer: list[bytes] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    echoed: list[bytes] = field(default_factory=list)
    pending: bytes | None = None
    closed: bool = False
    dead: bool = False
    read_at_close: bytes | None = None
    stalled_until: int = 0
    overlapped: bool = False
    confirmed: set[object] = field(default_factory=set)
    life: int = 0

    # --- its computer ---

    def arrive(self, datagram: bytes) -> None:
        """A datagram comes to its computer."""
        if self.closed or self.dead:
            self.world.refuse()
            return
        self.buffer.append(datagram)
        self._read()

    def stall(self, span: int) -> None:
        """Read nothing for a while, ns."""
        self.stalled_until = max(self.stalled_until, self.world.now + span)

    def restart(self) -> None:
        """End and begin anew: what lay in its socket is gone."""
        self.life += 1
        self.buffer.clear()
        self.pending, self.closed, self.dead, self.read_at_close = None, False, False, None
        self._begin()

    def _when_free(self, what: Callable[[], None]) -> None:
        if self.world.now < self.stalled_until:
            self.world.at(self.stalled_until, lambda: self._when_free(what))
        else:
            what()

    def _read(self) -> None:
        def read() -> None:
            if self.buffer and not self.closed:  # one in a turn of its loop, as asyncio does it
                self._take(self.buffer.pop(0))
                self.world.at(self.world.now, lambda: self._when_free(read))

        self._when_free(read)

    # --- iblutil ---

    def _take(self, datagram: bytes) -> None:
        if self.pending is not None:
            if datagram == self.pending:
                self.pending = None
                self.confirmed.add(self._token)
                self._confirmed()
            else:
                self.read_at_close, self.closed = datagram, True
            return
        event, *data = json.loads(datagram)
        if event:
            self.echoed.append(datagram)
            self.world.back(datagram)
            self._hear(datagram, event, data)

    def say(self, message: list[Any]) -> None:
        """Send a message and wait for its confirmation."""
        if self.closed:
            return
        text = json.dumps(message).encode()
        self.overlapped |= self.pending is not None
        token = self._token = object()  # a second one overwrites the first, which then is never confirmed
        self.pending = text
        self.world.back(text)
        at, life = self.world.now, self.life

        def look() -> None:
            if (
                token not in self.confirmed
                and life == self.life
                and not self.closed
                and self.world.now - at >= ECHO_WAIT
            ):
                if text in self.buffer:  # it was stalled itself
                    return
                self.read_at_close, self.closed = b'', True

        self.world.at(at + ECHO_WAIT, lambda: self._when_free(lambda: self.world.at(self.world.now, look)))

    def reply(self, event: int, data: list[Any]) -> None:
        """Say the answer to a message."""
        answer = self.answer(event, data)
        if answer is not None:
            self.say([INTERRUPT if event == CLEANUP else event, *answer])

    # --- what makes a kind ---

    def _begin(self) -> None:
        pass

    def _hear(self, datagram: bytes, event: int, data: list[Any]) -> None:
        raise NotImplementedError

    def _confirmed(self) -> None:
        pass


class Stock(Service):
    """Answers in the very callback."""

    def _hear(self, datagram: bytes, event: int, data: list[Any]) -> None:
        self.heard.append(datagram)
        self.reply(event, data)


@dataclass
class SideBySide(Service):
    """Its callbacks answer when they are ready, one after the other if two are at the same time."""

    ready: list[tuple[int, list[Any]]] = field(default_factory=list)

    def _begin(self) -> None:
        self.ready.clear()

    def _hear(self, datagram: bytes, event: int, data: list[Any]) -> None:
        self.heard.append(datagram)

        def done() -> None:
            if not self.closed:
                self.ready.append((event, data))
                self._next()

        self.world.at(self.world.now + self.work(datagram), lambda: self._when_free(done))

    def _next(self) -> None:
        if self.ready and not self.closed:
            self.reply(*self.ready.pop(0))

    def _confirmed(self) -> None:
        self._next()


@dataclass
class OneLoop(Service):
    """Hears one message, works, answers, waits for the confirmation, comes round; echoes all the while.

    Attributes
    ----------
    round : callable
        How long it takes to come round after a confirmation, ns.
    missed : list of bytes
        What it echoed and never heard.
    """

    round: Callable[[], int] = lambda: 0
    missed: list[bytes] = field(default_factory=list)
    listening: bool = True

    def _begin(self) -> None:
        self.listening = True

    def _hear(self, datagram: bytes, event: int, data: list[Any]) -> None:
        if not self.listening:
            self.missed.append(datagram)
            return
        self.listening = False
        self.heard.append(datagram)

        def done() -> None:
            self.reply(event, data)
            if self.pending is None and not self.closed:
                self._confirmed()

        self.world.at(self.world.now + self.work(datagram), lambda: self._when_free(done))

    def _confirmed(self) -> None:
        def listen() -> None:
            self.listening = True

        self.world.at(self.world.now + self.round(), lambda: self._when_free(listen))
