"""Services to test against: a stock iblutil server, and a scripted peer that misbehaves as told.

Both live in threads of their own, on 127.0.0.1 with a port that the kernel picks, and are context managers. Tests wait
for what a peer `saw` or did, with `eventually`; nothing here sleeps and hopes.
"""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from iblutil.io import net
from systems import PATIENCE, WINE

from bridge.auxiliaries import Auxiliaries
from bridge.outcome import NoAnswer, Outcome, Reason

# What a command comes to at a port on which nobody listens: Wine does not tell of a refusal.
NOBODY = Reason.NO_ECHO if WINE else Reason.REFUSED
NobodyThere: type[Exception] = NoAnswer if WINE else ConnectionRefusedError
NOBODY_SAYS = 'no echo' if WINE else 'refused'


def eventually(condition: Callable[[], Any], timeout: float = 5.0) -> Any:
    """Return the first true value of a condition; fail if there is none in time."""
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        last = time.monotonic() >= deadline  # known before the look: it counts, whenever it ends
        if value := condition():
            return value
        assert not last, 'did not happen in time'
        time.sleep(0.001)


def free_port() -> int:
    """Return a UDP port on which nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(('127.0.0.1', 0))
        return int(probe.getsockname()[1])


class StockServer:
    """A service as a laboratory writes it: plain iblutil, one callback per event that answers with the same event.

    `answers` maps an event number to the data of its reply, or to a callable of the received data; an event mapped to
    None is echoed and never answered.
    """

    def __init__(self, answers: dict[int, Any] | None = None, port: int = 0) -> None:
        self.port = port or free_port()
        self.uri = f'udp://127.0.0.1:{self.port}'
        self.answers = answers or {}
        self.saw: list[list[Any]] = []
        self.com: Any = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> 'StockServer':
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: Any) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    def say(self, message: list[Any], addr: tuple[str, int]) -> None:
        """Send a message of its own accord; raises if it is not confirmed."""
        # A stock server forgets what it sends while it is still busy with its last reply.
        eventually(lambda: not self.com._last_sent)
        asyncio.run_coroutine_threadsafe(self.com.confirmed_send(message, addr=addr), self._loop).result(5)

    def _run(self) -> None:
        self._loop = asyncio.SelectorEventLoop()
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        quiet = logging.Logger('quiet', logging.CRITICAL)
        self.com = await net.app.EchoProtocol.server(self.uri, name='peer', log=quiet)
        for message in net.base.ExpMessage:
            self.com.assign_callback(message, self._callback(int(message)))
        self._ready.set()
        await self._stop.wait()
        self.com.close()
        await asyncio.sleep(0.01)

    def _callback(self, event: int) -> Callable[[Any, Any], None]:
        def call(data: Any, addr: Any) -> None:
            self.saw.append([event, *data])
            answer = self.answers.get(event, data)
            if callable(answer):
                answer = answer(data)
            if answer is not None:
                asyncio.ensure_future(self._reply([event, *answer], addr))

        return call

    async def _reply(self, message: list[Any], addr: Any) -> None:
        try:
            await self.com.confirmed_send(message, addr=addr)
        except (RuntimeError, asyncio.TimeoutError, TimeoutError):
            self.saw.append(['closed itself'])


class ScriptedPeer:
    """A raw UDP socket whose behaviour is a function.

    `script(peer, datagram)` is called for every datagram in the peer's thread and uses `send`, `later`, `echo`.
    `datagrams` holds all that arrived, `messages` the same as lists; of `handled` of them the script has done its part.
    """

    def __init__(self, script: Callable[['ScriptedPeer', bytes], None] | None = None, port: int = 0) -> None:
        self.script = script or (lambda peer, datagram: None)
        self.datagrams: list[bytes] = []
        self.times: list[float] = []
        self.handled = 0
        self.addr: Any = None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(('127.0.0.1', port))
        self.port = int(self._socket.getsockname()[1])
        self.uri = f'udp://127.0.0.1:{self.port}'
        self._timers: list[threading.Timer] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> 'ScriptedPeer':
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._closing = True
        for timer in self._timers:
            timer.cancel()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bell:
            bell.sendto(b'', ('127.0.0.1', self.port))
        self._thread.join(5)
        self._socket.close()

    @property
    def messages(self) -> list[Any]:
        """All that arrived, read as JSON."""
        return [json.loads(datagram) for datagram in self.datagrams]

    def send(self, message: Any) -> None:
        """Send bytes as they are, anything else as JSON."""
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        self._socket.sendto(data, self.addr)

    def later(self, delay: float, message: Any) -> None:
        """Send after some seconds."""
        timer = threading.Timer(delay, self._send_if_open, (message,))
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _send_if_open(self, message: Any) -> None:
        if not self._closing:
            self.send(message)

    def _run(self) -> None:
        while True:
            try:
                datagram, addr = self._socket.recvfrom(65535)
            except ConnectionError:  # Windows reports an ICMP refusal here
                continue
            if self._closing:
                return
            self.addr = addr
            self.datagrams.append(datagram)
            self.times.append(time.monotonic())
            self.script(self, datagram)
            self.handled += 1


def is_command(datagram: bytes) -> bool:
    """Tell a command (iblbridge pads them with spaces) from the echo of a reply."""
    return datagram.endswith(b' ')


def echo_and_reply(peer: ScriptedPeer, datagram: bytes) -> None:
    """Do what a healthy service does."""
    if is_command(datagram):
        peer.send(datagram)
        peer.send(json.loads(datagram))


def only_echo(peer: ScriptedPeer, datagram: bytes) -> None:
    """Receive everything, answer nothing."""
    if is_command(datagram):
        peer.send(datagram)


@contextmanager
def aux_of(**clients: str) -> Iterator[Auxiliaries]:
    """Make Auxiliaries for some services and close them at the end."""
    aux = Auxiliaries(clients)
    try:
        yield aux
    finally:
        aux.close()


def ask(aux: Auxiliaries, *command: object, timeout: float = 5.0) -> Outcome:
    """Send one command to the service 'a' and return its outcome; `timeout` (s) is what it has for its reply."""
    return aux.submit(*command, services=['a'], timeout=timeout).result(timeout + 20)['a']
