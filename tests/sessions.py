"""Peers of plain iblutil in processes of their own, whose interpreter and loop are nobody else's.

    python tests/sessions.py one-loop      as iblrig's camera session: deaf from a message to the answer's confirmation
    python tests/sessions.py side-by-side  callbacks that run as tasks, each answering when it is ready

The program says ``READY <port>`` when it listens, and ends when its standard input is closed. Until then each line
of that is a command, which it answers by one line of JSON:

    report                         what it heard so far, whether it still is connected, what went wrong
    stall SECONDS [MESSAGE]        read nothing at all for so long: now, or from the next MESSAGE on, unread
    say MESSAGE WORD TIMES         send a message unasked, each confirmed before the next one

`Session` starts one from a test. The one-loop peer can be held up at random after an answer: as a whole (what comes
waits in its socket), or only the task that listens (what comes is echoed, and never heard).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import random
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from typing import Any

from iblutil.io import net

Message, Status = net.base.ExpMessage, net.base.ExpStatus
FAILURES = (AssertionError, RuntimeError, ValueError, TypeError, TimeoutError, asyncio.TimeoutError)


class Session:
    """Run a peer in a process of its own; a context manager.

    Parameters
    ----------
    kind : {'one-loop', 'side-by-side'}
    *options : object
        Of the program, e.g. ``'--held-up-loop', 0, 0.03, 0.15``.

    Attributes
    ----------
    port, uri
        Where it listens.
    process : subprocess.Popen
        To be stopped or killed.
    """

    def __init__(self, kind: str, *options: object) -> None:
        self._command = [sys.executable, __file__, kind, *map(str, options)]

    def __enter__(self) -> Session:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True)
        said = self._line()
        assert said.startswith('READY '), said
        self.port = int(said.split()[1])
        self.uri = f'udp://127.0.0.1:{self.port}'
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait(10)
        self.process.stdout.close()
        assert kind or code == 0, f'the peer ended with {code}'

    def report(self) -> dict[str, Any]:
        """Return what the peer knows.

        Returns
        -------
        dict
            ``heard``, a list of ``[message, time.monotonic of it, data]``; ``connected``; ``status``, 0 to 30;
            ``errors``, what its session or callbacks ended with.
        """
        return self._ask('report')

    @property
    def heard(self) -> list[str]:
        """The names of the messages that it heard, in order."""
        return [name for name, *_ in self.report()['heard']]

    @property
    def connected(self) -> bool:
        """Its communicator is open."""
        return bool(self.report()['connected'])

    def stall(self, seconds: float, message: str = '') -> None:
        """Let it stand still from now on, or from the next such message on; returns at once."""
        self._ask('stall', seconds, message)

    def say(self, message: str, word: str, times: int = 1) -> list[float]:
        """Let it send a message to whom it heard last; returns when it was confirmed.

        Returns
        -------
        list of float
            The `time.monotonic` of each that was confirmed.
        """
        return list(self._ask('say', message, word, times)['said'])

    def _ask(self, *words: object) -> dict[str, Any]:
        print(*words, file=self.process.stdin, flush=True)
        return dict(json.loads(self._line()))

    def _line(self) -> str:
        line = self.process.stdout.readline()
        assert line, f'the peer ended with {self.process.wait(10)}'
        return line


class Peer:
    """What both kinds have in common: a stock server, the log of what it heard, and the command channel."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.heard: list[tuple[str, float, Any]] = []
        self.errors: list[str] = []
        self.status = Status.CONNECTED
        self.com: Any = None
        self._addr: Any = None
        self._stalls = {Message[name]: float(seconds) for name, seconds in options.stall}
        self._work = dict(work.rpartition('=')[::2] for work in options.work)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the standard input is closed."""
        self._over = asyncio.Event()
        quiet = logging.Logger('quiet', logging.CRITICAL)
        self.com = await net.app.EchoProtocol.server(f'udp://127.0.0.1:{self.options.port}', name='peer', log=quiet)
        self.com.datagram_received = self._datagram_received
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read_commands, args=(loop,), daemon=True).start()
        self._spawn(self.live())
        await self._over.wait()
        self.com.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def live(self) -> None:
        """Hear and answer."""
        raise NotImplementedError

    def ready(self) -> None:
        """Say that it listens."""
        _print(f'READY {self.com._socket.getsockname()[1]}')

    async def work(self, event: Message) -> None:
        """Take the time that a message takes."""
        seconds = float(self._work.get(event.name, self._work.get('', 0)))
        if seconds:
            await asyncio.sleep(seconds)

    def hear(self, event: Message, data: list[Any]) -> None:
        """Log a message."""
        self.heard.append((event.name, time.monotonic(), data))

    def _spawn(self, what: Any) -> None:
        async def guarded() -> None:
            try:
                await what
            except FAILURES as exc:
                self.errors.append(repr(exc))
                if isinstance(exc, AssertionError):
                    self.com.close()

        task = asyncio.ensure_future(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _datagram_received(self, datagram: bytes, addr: Any) -> None:
        self._addr = addr
        for event in tuple(self._stalls):
            if datagram.startswith(b'[%d,' % event):
                time.sleep(self._stalls.pop(event))
        type(self.com).datagram_received(self.com, datagram, addr)

    def _read_commands(self, loop: asyncio.AbstractEventLoop) -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(self._obey, *line.split())
        loop.call_soon_threadsafe(self._over.set)

    def _obey(self, command: str, *words: str) -> None:
        match command, words:
            case 'report', ():
                connected = bool(self.com.is_connected)
                _say(heard=self.heard, connected=connected, status=self.status, errors=self.errors)
            case 'stall', (seconds,):
                _say(stalled=float(seconds))
                time.sleep(float(seconds))
            case 'stall', (seconds, message):
                self._stalls[Message[message]] = float(seconds)
                _say(stalls=message)
            case 'say', (message, word, times):
                self._spawn(self._say(Message[message], word, int(times)))
            case _:
                raise ValueError(f'{command} {words}')

    async def _say(self, event: Message, word: str, times: int) -> None:
        said: list[float] = []
        try:
            while self.com._last_sent:  # a stock server forgets what it sends while its last answer is not confirmed
                await asyncio.sleep(0.001)
            for _ in range(times):
                await self.com.confirmed_send([event, word], addr=self._addr)
                said.append(time.monotonic())
        finally:
            _say(said=said)


class OneLoop(Peer):
    """A session with one loop: a message is worked on to the end, its answer confirmed, before it listens again."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.exp_ref: str | None = None
        self._dice = random.Random(options.seed)

    async def live(self) -> None:
        self._awaited = asyncio.get_running_loop().create_future()
        self._awaited.cancel()
        for message in Message:
            self.com.assign_callback(message, partial(self._take, message))
        tasks = {asyncio.create_task(self._over.wait(), name='camera')}
        self.ready()
        while self.com.is_connected:
            if not any(task.get_name() == 'remote' for task in tasks):
                tasks.add(asyncio.create_task(self._listen(), name='remote'))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.get_name() == 'remote':
                    await self._serve(*task.result())
                    await self._be_held_up()
                tasks.remove(task)

    async def _listen(self) -> tuple[Message, list[Any], Any]:
        """Do what `on_event` does with all messages; from Python 3.12 on that does not say which came."""
        self._awaited = asyncio.get_running_loop().create_future()
        return await self._awaited

    def _take(self, event: Message, data: list[Any], addr: Any) -> None:
        if not self._awaited.done():
            self._awaited.set_result((event, data, addr))

    async def _be_held_up(self) -> None:
        for what, (shortest, longest, chance) in (
            ('process', self.options.held_up),
            ('task', self.options.held_up_loop),
        ):
            if self._dice.random() >= chance:
                continue
            seconds = self._dice.uniform(shortest, longest)
            if what == 'process':
                time.sleep(seconds)
            else:
                await asyncio.sleep(seconds)

    async def _serve(self, event: Message, data: list[Any], addr: Any) -> None:
        self.hear(event, data)
        await self.work(event)
        info = {'main_sync': False, 'exp_ref': self.exp_ref}
        match event:
            case Message.EXPINIT:
                (what,) = data
                ref = (what or {}).get('exp_ref')
                assert ref, 'No experiment reference found'
                if self.status == Status.RUNNING and ref != self.exp_ref:
                    return  # logged by a camera, and not answered
                self.exp_ref, self.status = ref, Status.INITIALIZED
                await self.com.init({'status': self.status, 'exp_ref': ref, 'main_sync': False}, addr=addr)
            case Message.EXPSTART:
                ref, _ = data
                assert self.status == Status.INITIALIZED and ref == self.exp_ref, f'{self.status!r}, {self.exp_ref}'
                self.status = Status.RUNNING
                await self.com.start(ref, info | {'status': self.status}, addr=addr)
            case Message.EXPEND | Message.EXPINTERRUPT | Message.EXPCLEANUP:
                told = Status.RUNNING
                if not self.options.camera_status:
                    told = self.status = Status.STOPPED
                at_once = event is not Message.EXPEND
                await self.com.stop(info | {'status': told}, immediately=at_once, addr=addr)
            case Message.EXPSTATUS:
                await self.com.status(self.status, addr=addr)
            case Message.EXPINFO:
                await self.com.info(self.status, info, addr=addr)


class SideBySide(Peer):
    """A stock server: each message starts a task that answers with what was received."""

    async def live(self) -> None:
        for message in Message:
            self.com.assign_callback(message, partial(self._take, message))
        self.ready()

    def _take(self, event: Message, data: list[Any], addr: Any) -> None:
        self.hear(event, data)
        self._spawn(self._answer(event, data, addr))

    async def _answer(self, event: Message, data: list[Any], addr: Any) -> None:
        await self.work(event)
        await self.com.confirmed_send([event, *data], addr=addr)


def _print(line: str) -> None:
    print(line, flush=True)


def _say(**what: Any) -> None:
    _print(json.dumps(what))


def main() -> None:
    """Run one peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    never, times = (0.0, 0.0, 0.0), ('MIN', 'MAX', 'CHANCE')
    add('kind', choices=('one-loop', 'side-by-side'))
    add('--port', type=int, help='one that the kernel picks by default')
    add('--work', action='append', default=[], metavar='[MESSAGE=]SECONDS', help='that an answer takes')
    add('--stall', action='append', default=[], nargs=2, metavar=('MESSAGE', 'SECONDS'), help='block at its arrival')
    add('--held-up', nargs=3, type=float, default=never, metavar=times, help='block after an answer, s')
    add('--held-up-loop', nargs=3, type=float, default=never, metavar=times, help='do not listen after an answer, s')
    add('--seed', type=int, default=1)
    add('--camera-status', action='store_true', help='EXPEND and its like are answered with 20 and change nothing')
    options = parser.parse_args()
    if not options.port:  # a stock server does not take 0 for any
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(('127.0.0.1', 0))
            options.port = probe.getsockname()[1]
    loop = asyncio.SelectorEventLoop()
    loop.run_until_complete((OneLoop if options.kind == 'one-loop' else SideBySide)(options).run())
    loop.close()


if __name__ == '__main__':
    main()
