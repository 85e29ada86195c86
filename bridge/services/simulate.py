"""A simulated service, for demos, tests and the development of programs that have no rig at hand.

It is a plain iblutil `EchoProtocol.server`: it echoes each message, then sends its reply as a message of its own.
Behind it stands the state machine of a camera service::

    CONNECTED --EXPINIT--> INITIALIZED --EXPSTART--> RUNNING --EXPEND/EXPINTERRUPT--> STOPPED --EXPCLEANUP--> CONNECTED

Rules:

- `TRANSITIONS` is the whole machine and `respond` decides the reply; both are values and functions of values.
  Sockets, time and printing are in `Simulator`.
- What the table does not list leaves the state alone and is answered all the same, as iblrig's camera service does:
  datagrams may come twice. But an EXPSTART after the experiment's end is refused, as it is there, until EXPINIT or
  EXPCLEANUP has come.
- Replies go one after the other, each after `Behaviour.delay`, for a stock communicator that has two messages on
  their way to one address closes itself.
- A stock server that misses an echo closes its socket for good. This one comes back on the same port, remembering its
  state.
- Real camera services miss what comes before their last reply is out; this one does not.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

from bridge import numbers

MESSAGES = tuple(name for name in numbers.MESSAGES if name not in numbers.LOCAL)
REBIND_TRIES = 50
REBIND_PAUSE = 0.02  # s
TICK = 0.5 if sys.platform == 'win32' else None  # s; Windows' select() does not return for a signal


class State(IntEnum):
    """The states of a service, with the numbers of iblutil's ExpStatus."""

    CONNECTED = 0
    INITIALIZED = 10
    RUNNING = 20
    STOPPED = 30


TRANSITIONS: Mapping[tuple[State, str], State] = {
    (State.CONNECTED, 'EXPINIT'): State.INITIALIZED,
    (State.CONNECTED, 'EXPSTART'): State.RUNNING,  # a start without init initializes first
    (State.INITIALIZED, 'EXPSTART'): State.RUNNING,
    (State.INITIALIZED, 'EXPEND'): State.STOPPED,
    (State.INITIALIZED, 'EXPINTERRUPT'): State.STOPPED,
    (State.RUNNING, 'EXPEND'): State.STOPPED,
    (State.RUNNING, 'EXPINTERRUPT'): State.STOPPED,
    (State.STOPPED, 'EXPINIT'): State.INITIALIZED,
    **{(state, 'EXPCLEANUP'): State.CONNECTED for state in State},
}


class Refusal(RuntimeError):
    """What a refusing service raises; iblutil sends it back as ``[0, "Refusal: ...", event]``."""


@dataclass(frozen=True)
class Behaviour:
    """How a simulated service behaves.

    Parameters
    ----------
    name : str
        Its name.
    delay : float
        Seconds before each reply. The echo comes at once.
    deaf : bool
        Never echo, never reply.
    deaf_after : str
        Become deaf once this message was answered; "" for never.
    refuse : frozenset of str
        Messages whose callback raises.
    main_sync : bool
        What EXPINFO says of it.
    echo : bool
        Reply what it got, in place of what it is: one sees what a program really sends. Not ALYX, which has a token.
    dies_after : float or None
        Seconds after a start at which it stops and says EXPINTERRUPT by itself, as when its camera dies.
    """

    name: str
    delay: float = 0.0
    deaf: bool = False
    deaf_after: str = ''
    refuse: frozenset[str] = frozenset()
    main_sync: bool = False
    dies_after: float | None = None
    echo: bool = False


class Memory(NamedTuple):
    """What a service remembers from message to message."""

    state: State = State.CONNECTED
    exp_ref: str | None = None
    url: str | None = None
    token: dict[str, Any] = {}  # noqa: RUF012 (never changed, only replaced)


class Response(NamedTuple):
    """What a message brings about: the memory after it, and the list after the event number (None: no reply)."""

    memory: Memory
    reply: list[Any] | None


def respond(behaviour: Behaviour, memory: Memory, message: str, data: list[Any]) -> Response:
    """Return what a service does at a message.

    Parameters
    ----------
    behaviour : Behaviour
        How it was told to behave.
    memory : Memory
        What it remembers.
    message : str
        The name of an ExpMessage.
    data : list
        What stood after the event number; of any length and type, for it comes from the network.

    Returns
    -------
    Response
        The memory after the message, and the reply.

    Raises
    ------
    Refusal
        If it was told to refuse this message, or it starts what has ended.
    """
    if message in behaviour.refuse:
        raise Refusal(f'{behaviour.name} was told to refuse {message}')
    if message == 'ALYX':
        url, token = [*data, None, None][:2]
        if url and isinstance(token, dict) and token:
            return Response(memory._replace(url=url, token=token), None)
        return Response(memory, [memory.url, memory.token])
    if message == 'EXPSTART' and memory.state is State.STOPPED and not behaviour.echo:
        raise Refusal(f'{behaviour.name} has ended its experiment; send EXPINIT before the next EXPSTART')
    state = TRANSITIONS.get((memory.state, message), memory.state)
    exp_ref = memory.exp_ref
    if message in ('EXPINIT', 'EXPSTART'):
        exp_ref = _reference(data) or exp_ref
    elif message == 'EXPCLEANUP':
        exp_ref = None
    memory = memory._replace(state=state, exp_ref=exp_ref)
    info: dict[str, Any] = {'exp_ref': exp_ref, 'main_sync': behaviour.main_sync, 'name': behaviour.name}
    told = {**info, 'status': int(state)}
    replies: dict[str, list[Any]] = {
        'EXPSTATUS': [int(state)],
        'EXPINFO': [int(state), info],
        'EXPSTART': [exp_ref, told],
    }
    return Response(memory, list(data) if behaviour.echo else replies.get(message, [told]))


def _reference(data: list[Any]) -> str | None:
    """Return the experiment reference of EXPSTART (``[ref, data]``) or EXPINIT (``[{"exp_ref": ref}]``), or None."""
    first = data[0] if data else None
    ref = first.get('exp_ref') if isinstance(first, dict) else first
    return ref if isinstance(ref, str) else None


@dataclass
class Simulator:
    """The server around the state machine.

    Parameters
    ----------
    behaviour : Behaviour
        How it behaves.
    host : str
        The address to bind to.
    port : int
        The UDP port; 0 takes a free one.
    announce : Callable
        Called with each line to print; the first says READY and where.
    verbose : bool
        Announce each message, too.
    """

    behaviour: Behaviour
    host: str = '127.0.0.1'
    port: int = 0
    announce: Callable[[str], None] = print
    verbose: bool = False
    memory: Memory = field(default_factory=Memory)
    deaf: bool = field(init=False)

    def __post_init__(self) -> None:
        self.deaf = self.behaviour.deaf
        self._server: Any = None
        self._stop = asyncio.Event()
        self._turn = asyncio.Lock()
        self._replies: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """End `run`. To be called in the thread of its loop."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`.

        Raises
        ------
        OSError
            If the address cannot be bound to.
        """
        self._server = await self._open()
        stopped = asyncio.ensure_future(self._stop.wait())
        self.announce(f'READY {self.behaviour.name} udp://{self.host}:{self.port}')
        try:
            while not self._stop.is_set():
                closed = self._server.on_connection_lost
                await asyncio.wait({stopped, closed}, timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
                if closed.done() and not self._stop.is_set():
                    self._say(
                        'iblutil closed the socket, as a message of ours was not echoed correctly; opening it again'
                    )
                    self._server = await self._open()
        finally:
            stopped.cancel()
            for task in self._replies:
                task.cancel()
            await asyncio.gather(*self._replies, return_exceptions=True)
            self._server.close()

    async def _open(self) -> Any:
        """Return a stock server bound to the address.

        It is tried again for a second, for the socket before may still be closing, or another program may have taken
        the port that was free.
        """
        from bridge.services.iblutil import net  # takes a while to import, and only this function needs it

        log = _silent_logger()
        for tries_left in reversed(range(REBIND_TRIES)):
            port = self.port or free_port(self.host)
            try:
                server: Any = await net.app.EchoProtocol.server(
                    f'udp://{self.host}:{port}', self.behaviour.name, log=log
                )
                break
            except OSError as e:
                if e.errno != errno.EADDRINUSE or not tries_left:
                    raise
                await asyncio.sleep(REBIND_PAUSE)
        self.port = port
        for message in MESSAGES:
            server.assign_callback(message, partial(self._receive, message, int(net.base.ExpMessage[message])))
        server.datagram_received = partial(self._hear, server.datagram_received)
        return server

    def _hear(self, hear: Callable[[bytes, tuple[str, int]], None], data: bytes, addr: tuple[str, int]) -> None:
        """Hand a datagram to iblutil, unless deaf."""
        if self.deaf:
            self._say(f'deaf to {data[:60]!r}')
            return
        try:
            hear(data, addr)
        except Exception as e:  # whatever iblutil makes of what comes from the network, the service goes on
            self._say(f'{data[:60]!r} is not understood: {type(e).__name__}: {e}')

    def _receive(self, message: str, number: int, data: list[Any], addr: tuple[str, int]) -> None:
        """Take a message that iblutil has echoed; what is raised here it sends back as an error."""
        try:
            response = respond(self.behaviour, self.memory, message, list(data))
        except Refusal as e:
            self._say(f'{message} {data!r} -> refused: {e}')
            raise
        self._say(f'{message} {data!r} -> {response.memory.state.name} {response.reply!r}')
        started = State.RUNNING is response.memory.state is not self.memory.state
        self.memory = response.memory
        self._do(self._reply(message, number, response.reply, addr))
        if started and self.behaviour.dies_after is not None:
            self._do(self._die(self.behaviour.dies_after, addr))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine beside the others."""
        task = asyncio.get_running_loop().create_task(work)
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)

    async def _die(self, after: float, addr: tuple[str, int]) -> None:
        """Stop as a service does whose camera dies, and tell the master, unless it was stopped in the meantime."""
        await asyncio.sleep(after)
        if self.memory.state is State.RUNNING:
            self.memory = self.memory._replace(state=State.STOPPED)
            await self._reply(
                'EXPINTERRUPT', numbers.MESSAGES['EXPINTERRUPT'], [f'the camera of {self.behaviour.name} died'], addr
            )

    async def _reply(self, message: str, number: int, reply: list[Any] | None, addr: tuple[str, int]) -> None:
        """Send a reply when those before it are out."""
        async with self._turn:
            await asyncio.sleep(self.behaviour.delay)
            if reply is not None and not self.deaf:
                try:
                    await self._server.confirmed_send([number, *reply], addr=addr)
                except Exception as e:  # iblutil has closed the socket; `run` opens it again
                    self._say(f'the reply to {message} failed: {type(e).__name__}: {e}')
            if message == self.behaviour.deaf_after:
                self._say('deaf from now on')
                self.deaf = True

    def _say(self, line: str) -> None:
        """Announce a line if verbose."""
        if self.verbose:
            self.announce(f'{self.behaviour.name}: {line}')


def _silent_logger() -> logging.Logger:
    """Return a logger that goes nowhere, for iblutil's default writes every datagram to standard output."""
    logger = logging.getLogger(f'{__name__}.silent')
    logger.handlers = [logging.NullHandler()]
    logger.propagate = False
    logger.setLevel(logging.CRITICAL)
    return logger


def free_port(host: str) -> int:
    """Return a UDP port that is free at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((host, 0))
        return int(s.getsockname()[1])
