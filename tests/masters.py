"""A desk in virtual time, models of its masters, a path that does what it likes, and a program that takes its time.

==============  =====================================================================================================
`StockMaster`   iblutil's EchoProtocol (``app.py`` 1.20.0) under ``Services``: one send at a time, closes for good if
                its echo differs or does not come within 1 s, waits 10 s for the reply, sends back what it did not wait
                for
`OurMaster`     our own worker: pads, may repeat EXPSTATUS, EXPINFO and EXPINTERRUPT, never sends back what ends in a
                blank, never closes
==============  =====================================================================================================
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from virtual_time import VirtualTime

from bridge.listen import rules
from bridge.listen.asked import Asked, Note, Refusal, Send
from bridge.listen.desk import Desk
from bridge.listen.memory import Memory

MS = rules.MS
HOP = MS // 10
Fate = Callable[[], list[int]]
"""In how many ns a datagram arrives, once for each copy."""


class FakeProgram:
    """Does what is asked after `work` ns; knows what it was handed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.handed: list[Asked] = []
        self.taken: set[int] = set()
        self.withdrawn: set[int] = set()
        self.done: set[int] = set()
        self.wants = 255
        self.is_there = True
        self.work: Callable[[Asked], int | None] = lambda asked: MS
        self.answer: Callable[[Asked], Any] = lambda asked: {'asked': asked.data}
        self.fails: Callable[[Asked], str] = lambda asked: ''

    def hand(self, asked: Asked) -> Refusal | None:
        if not self.is_there:
            return Refusal('ConnectionError: no program serves cameras')
        if not asked.event & self.wants:
            return Refusal('', unwanted=True)
        self.handed.append(asked)
        work = self.work(asked)
        if work is not None:
            self.taken.add(asked.number)
            self.world.at(self.world.now + work, lambda: self.finish(asked))
        return None

    def finish(self, asked: Asked) -> None:
        if asked.number in self.withdrawn | self.done or not self.is_there:
            return
        self.done.add(asked.number)
        if what := self.fails(asked):
            assert self.world.desk.failed(asked.number, what)
        else:
            assert self.world.desk.answered(asked.number, -1, self.answer(asked))

    def die(self) -> None:
        self.is_there = False
        for asked in tuple(self.world.desk.in_hand.values()):
            self.done.add(asked.number)
            self.world.desk.failed(asked.number, 'ConnectionError: the program ended before it answered')
        self.world.desk.ended('the program ended', self.world.now)
        self.world.turn()

    def recall(self, asked: Asked) -> bool:
        return asked.number not in self.taken and self.withdraw(asked)

    def withdraw(self, asked: Asked) -> bool:
        if asked.number in self.done:
            return False
        self.withdrawn.add(asked.number)
        return True


class World(VirtualTime):
    """Time, the desk, its path and its masters."""

    def __init__(self, fate: Fate = lambda: [HOP], **options: Any) -> None:
        super().__init__(10**12)
        self.fate = fate
        self.program = FakeProgram(self)
        self.options = options
        self.desk = Desk('cameras', self.program, Memory(), **options)
        self.masters: dict[tuple[str, int], Any] = {}
        self.notes: list[Note] = []
        self.datagrams = 0

    def wake_at(self) -> int | None:
        return self.desk.wake_at()

    def to_desk(self, datagram: bytes, address: tuple[str, int]) -> None:
        for delay in self.fate():
            self.at(self.now + delay, lambda: self.desk.received(datagram, address, self.now))

    def turn(self) -> None:
        while (action := self.desk.next(self.now)) is not None:
            if isinstance(action, Note):
                self.notes.append(action)
                continue
            assert isinstance(action, Send)
            self.datagrams += 1
            assert self.datagrams < 20_000, 'a storm'
            master, payload = self.masters.get(action.address), action.payload
            for delay in self.fate():
                if master is not None:
                    self.at(self.now + delay, lambda master=master, payload=payload: master.hear(payload))

    def run(self, span: int) -> None:
        self.turn()
        super().run(span)


class StockMaster:
    def __init__(self, world: World, address: tuple[str, int] = ('127.0.0.1', 5001)) -> None:
        self.world, self.address = world, address
        world.masters[address] = self
        self.closed = ''
        self.waits_echo: bytes | None = None
        self.waits_reply = 0
        self.sent: list[bytes] = []
        self.echoes: Counter[bytes] = Counter()
        self.heard: list[list[Any]] = []
        self.payloads: Counter[bytes] = Counter()

    @property
    def is_free(self) -> bool:
        return not self.closed and self.waits_echo is None and not self.waits_reply

    def command(self, event: int, *data: Any) -> bytes:
        text = json.dumps([event, *data]).encode()
        self.waits_echo, self.waits_reply, self.since = text, event, len(self.sent)
        self.sent.append(text)
        self.world.to_desk(text, self.address)
        serial = len(self.sent)

        def no_echo() -> None:
            if self.waits_echo is not None and len(self.sent) == serial:
                self.closed = 'no echo'

        def no_reply() -> None:
            if len(self.sent) == serial:
                self.waits_reply = 0

        self.world.at(self.world.now + 1000 * MS, no_echo)
        self.world.at(self.world.now + 10_000 * MS, no_reply)
        return text

    def hear(self, datagram: bytes) -> None:
        if self.closed:
            return
        if self.waits_echo is not None:
            if datagram != self.waits_echo:
                self.closed = f'expected {self.waits_echo!r}, got {datagram!r}'
                return
            self.echoes[datagram] += 1
            self.waits_echo = None
            return
        message = json.loads(datagram)
        if datagram[1:2] != b'0':
            self.world.to_desk(datagram, self.address)
        if datagram in self.sent:
            self.echoes[datagram] += 1
            return
        self.payloads[datagram] += 1
        if self.payloads[datagram] == 1:
            self.heard.append(message)
            if message[0] == self.waits_reply or (message[0] == 0 and message[2] == self.waits_reply):
                self.waits_reply = 0


class OurMaster:
    def __init__(self, world: World, address: tuple[str, int] = ('127.0.0.1', 6001)) -> None:
        self.world, self.address = world, address
        world.masters[address] = self
        self.closed = ''
        self.turns = 0
        self.sent: list[bytes] = []
        self.repeated: Counter[bytes] = Counter()
        self.echoes: Counter[bytes] = Counter()
        self.heard: list[list[Any]] = []
        self.payloads: Counter[bytes] = Counter()
        self.waits_reply = 0

    @property
    def is_free(self) -> bool:
        return not self.waits_reply

    def command(self, event: int, *data: Any) -> bytes:
        self.turns = self.turns % 128 + 1
        text = json.dumps([event, *data]).encode() + b' ' * self.turns
        self.sent.append(text)
        self.waits_reply = event
        serial = len(self.sent)
        self.world.to_desk(text, self.address)
        if event in (rules.STATUS, rules.INFO, rules.INTERRUPT):

            def again() -> None:
                if not self.echoes[text]:
                    self.repeated[text] += 1
                    self.world.to_desk(text, self.address)

            self.world.at(self.world.now + 750 * MS, again)

        def no_reply() -> None:
            if len(self.sent) == serial:
                self.waits_reply = 0

        self.world.at(self.world.now + 10_000 * MS, no_reply)
        return text

    def hear(self, datagram: bytes) -> None:
        if datagram.endswith(b' '):
            self.echoes[datagram] += 1
            return
        message = json.loads(datagram)
        if message[0] != 0:
            self.world.to_desk(datagram, self.address)
        self.payloads[datagram] += 1
        if self.payloads[datagram] == 1:
            self.heard.append(message)
            if message[0] == self.waits_reply or (message[0] == 0 and message[2] == self.waits_reply):
                self.waits_reply = 0
