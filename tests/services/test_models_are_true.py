"""The models of services in `worlds` do what the real iblutil does: the same scripts against both.

A script is a list of steps of what is sent to the service, in real time for the real one and in virtual time for the
model. Compared is what came back, in order, what its callbacks heard, and whether it closed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from iblutil.io.net.app import EchoProtocol
from iblutil.io.net.base import ExpMessage
from peers import free_port
from worlds import MS, OneLoop, Service, SideBySide, Stock, World

KINDS = {'stock': Stock, 'side by side': SideBySide, 'one loop': OneLoop}
INIT, START, END, STATUS = b'[1, null]  ', b'[2, "ref", null] ', b'[4, null]   ', b'[32, 0]    '
CONFIRM = {event: json.dumps([event, 'done']).encode() for event in (1, 2, 4, 32)}


@dataclass
class Seen:
    """What a script brought to light."""

    back: list[bytes] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    closed: bool = False


# --- the real one ---


class Real:
    """A service of one of the kinds, made of iblutil as it is.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    work : float
        How long it works on a message before it answers, s.
    """

    def __init__(self, kind: str, work: float) -> None:
        self.kind, self.work = kind, work
        self.heard: list[bytes] = []
        self.tasks: list[asyncio.Task[Any]] = []

    async def open(self, port: int) -> None:
        quiet = logging.Logger('quiet', logging.CRITICAL)
        self.com = await EchoProtocol.server(f'udp://127.0.0.1:{port}', name='service', log=quiet)
        if self.kind == 'one loop':
            self._keep(self._round())
            await asyncio.sleep(0)
            return
        for event in (1, 2, 4, 32):
            self.com.assign_callback(event, lambda data, addr, event=event: self._callback(event, data, addr))

    def say(self, message: list[Any], addr: tuple[str, int]) -> None:
        self._keep(self.com.confirmed_send(message, addr=addr))

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.com.is_connected:
            self.com.close()

    def _keep(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(coroutine))

    def _callback(self, event: int, data: list[Any], addr: tuple[str, int]) -> None:
        self.heard.append(json.dumps([event, *data]).encode())
        self._keep(self._answer(event, addr))

    async def _answer(self, event: int, addr: tuple[str, int]) -> None:
        if self.work and self.kind != 'stock':
            await asyncio.sleep(self.work)
        await self.com.confirmed_send(CONFIRM[event], addr=addr)

    async def _round(self) -> None:
        # Message by message: from Python 3.12 on iblutil does not say which of several came.
        every = (ExpMessage.EXPINIT, ExpMessage.EXPSTART, ExpMessage.EXPEND, ExpMessage.EXPSTATUS)
        while True:
            future = asyncio.get_running_loop().create_future()

            def take(message: Any, data: list[Any], addr: tuple[str, int], future: Any = future) -> None:
                if not future.done():
                    future.set_result((data, addr, message))

            for message in every:
                self.com.assign_callback(message, partial(take, message))
            data, addr, event = await future
            for message in every:
                self.com.clear_callbacks(message)
            self.heard.append(json.dumps([int(event), *data]).encode())
            await self._answer(int(event), addr)


Step = tuple[str, Any]
"""``('send', datagrams)``, ``('wait', ms)`` or ``('say', message)``."""


async def _really(kind: str, work: int, steps: list[Step]) -> Seen:
    seen, port = Seen(), free_port()
    real = Real(kind, work / 1000)
    await real.open(port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as us:
        us.bind(('127.0.0.1', 0))
        us.setblocking(False)

        def take() -> None:
            try:
                while True:
                    seen.back.append(us.recv(65535))
            except (BlockingIOError, ConnectionError):
                pass

        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        asyncio.get_running_loop().add_reader(us, take)
        for step, what in steps:
            if step == 'send':
                for datagram in what:  # all of them lie in its socket before it reads
                    us.sendto(datagram, ('127.0.0.1', port))
            elif step == 'say':
                real.say(what, us.getsockname())
            await asyncio.sleep(what / 1000 if step == 'wait' else 0)
        asyncio.get_running_loop().remove_reader(us)
        seen.heard, seen.closed = real.heard, not real.com.is_connected
        await real.close()
    return seen


def really(kind: str, work: int, steps: list[Step]) -> Seen:
    """Run a script against iblutil."""
    loop = asyncio.SelectorEventLoop()
    try:
        return loop.run_until_complete(_really(kind, work, steps))
    finally:
        loop.close()


# --- the model ---


def in_theory(kind: str, work: int, steps: list[Step]) -> Seen:
    """Run a script against the model."""
    seen = Seen()

    def make(world: World) -> Service:
        return KINDS[kind](world, lambda event, data: ['done'], lambda datagram: work * MS)

    world = World(make)
    world.back = seen.back.append  # type: ignore[method-assign]
    world.refuse = lambda: None  # type: ignore[method-assign]
    for step, what in steps:
        if step == 'send':
            for datagram in what:
                world.service.buffer.append(datagram)
            world.service._read()
        elif step == 'say':
            world.service.say(what)
        else:
            world.run(what * MS)
    seen.heard = [datagram.rstrip() for datagram in world.service.heard]
    seen.closed = world.service.closed
    return seen


def send(*datagrams: bytes) -> Step:
    return ('send', datagrams)


def wait(ms: int) -> Step:
    return ('wait', ms)


SCRIPTS: dict[str, list[Step]] = {
    'a command and its confirmation': [send(INIT), wait(150), send(CONFIRM[1]), wait(50)],
    'no confirmation': [send(INIT), wait(1300)],
    'a late confirmation': [send(INIT), wait(800), send(CONFIRM[1]), wait(50), send(START), wait(150)],
    'a confirmation after the second': [send(INIT), wait(1300), send(CONFIRM[1]), wait(50)],
    'a confirmation that nobody waits for is a command': [send(CONFIRM[1]), wait(150)],
    'a second confirmation is a command': [
        *[send(INIT), wait(150), send(CONFIRM[1]), wait(20), send(CONFIRM[1]), wait(150)],
    ],
    'two commands at once': [send(INIT, START), wait(150)],
    'a command twice': [send(STATUS, STATUS), wait(150)],
    'a command in place of the confirmation': [send(INIT), wait(150), send(START), wait(100)],
    'one after the other': [
        *[send(INIT), wait(150), send(CONFIRM[1]), wait(50), send(START), wait(150), send(CONFIRM[2]), wait(50)],
        *[send(END), wait(150), send(CONFIRM[4]), wait(50)],
    ],
    'its own message, confirmed': [('say', [32, 20]), wait(50), send(b'[32, 20]'), wait(50)],
    'its own message, crossed': [('say', [32, 20]), wait(50), send(INIT), wait(50)],
    'its own message, not confirmed': [('say', [32, 20]), wait(1300)],
    'an error is not echoed': [send(b'[0, "OSError: x", 1]'), wait(50)],
}
WORKS = {'stock': (0,), 'side by side': (0, 60), 'one loop': (0, 60)}


@pytest.mark.parametrize('script', sorted(SCRIPTS))
@pytest.mark.parametrize(('kind', 'work'), [(kind, work) for kind in KINDS for work in WORKS[kind]])
def test_the_model_does_what_iblutil_does(kind: str, work: int, script: str) -> None:
    expected = in_theory(kind, work, SCRIPTS[script])
    for _ in range(3):  # its times are real ones, and this computer may be busy
        if (found := really(kind, work, SCRIPTS[script])) == expected:
            break
    assert found == expected


OVERLAPS: dict[str, tuple[str, int, list[Step]]] = {
    # The second confirmed_send overwrites the first one's entry: the first is never confirmed, and the service closes.
    'two answers at once': ('side by side', 60, [send(INIT), wait(10), send(START), wait(150), send(CONFIRM[1])]),
    'it says something while it waits': (
        'stock',
        0,
        [('say', [32, 20]), wait(300), ('say', [64, 20, None]), wait(20), send(b'[64, 20, null]'), wait(1200)],
    ),
}


def with_overlap(case: str) -> Callable[[], tuple[Seen, Seen]]:
    kind, work, steps = OVERLAPS[case]
    steps = [*steps, wait(100)]
    return lambda: (in_theory(kind, work, steps), really(kind, work, steps))


def test_two_answers_at_once() -> None:
    model, real = with_overlap('two answers at once')()
    assert model == real


def test_it_says_something_while_it_waits() -> None:
    model, real = with_overlap('it says something while it waits')()
    assert model == real
