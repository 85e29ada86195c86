"""``iblbridge bench --ways``: how long one command takes, beside the bare exchange of the same datagrams.

Four ways to have a command carried out by all services, taking turns in one run, so that whatever else the computer
does meets all of them:

=======  ================================================================================================
bare     asyncio, one datagram protocol a service: command out; echo and reply in; confirmation out
await    ``await Services.init(...)`` of iblutil, its log silent: no thread, no recovery, no hardening
submit   `Auxiliaries.submit`, from a calling thread to the outcomes
worker   `Client.call`: C library, shared memory, ``iblbridge serve`` in a process of its own, and back
=======  ================================================================================================

First with one service as laboratories run it (iblutil's, as ``iblbridge simulate``), whose own time both share; then
with services that take next to none, one small C program (or, without a C compiler, a Python one). The pause after
replies is 0.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bridge.cli.bench import programs
from bridge.cli.bench.programs import BenchError
from bridge.cli.bench.rows import FAULTS
from bridge.cli.demo.children import Child

BLOCK = 25  # commands in a row before the next way has its turn
PATIENCE = 12.0  # s, for a bare exchange, as the other ways have it

PYTHON_RESPONDER = """
import os, selectors, socket, sys, threading
selector = selectors.DefaultSelector()
print('ready', end=' ')
for _ in range(int(sys.argv[1])):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(('127.0.0.1', 0))
    print(one.getsockname()[1], end=' ')
    selector.register(one, selectors.EVENT_READ)
print(flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
answered = set()
while True:
    for key, _ in selector.select():
        datagram, address = key.fileobj.recvfrom(65536)
        where = key.fd, address
        if where in answered:
            answered.remove(where)
            continue
        answered.add(where)
        key.fileobj.sendto(datagram, address)
        key.fileobj.sendto(datagram.rstrip(), address)
"""


def run(args: argparse.Namespace, folder: str) -> int:
    """Measure and print; 1 if something could not be measured, 2 for numbers that make no sense.

    What is built and written is in `folder`.
    """
    numbers = [int(n) for n in args.services.split(',') if n.strip().isdecimal()]
    if not numbers or not all(1 <= n <= 64 for n in numbers) or args.commands < 1:
        print('iblbridge bench: --services takes numbers from 1 to 64, --commands one above 0', file=sys.stderr)
        return 2
    command = responder(folder)
    print(f'responder: {"C" if len(command) == 1 else "Python"}; {args.commands} commands each; median (p99), µs')
    print('services           bare                await                       submit                      worker')
    found = {'iblutil, 1': stock()} | {f'fast, {count}': running(command, count) for count in numbers}
    failed = False
    for name, services in found.items():
        try:
            print(row(name, measure(services, args.commands, folder)), flush=True)
        except FAULTS as e:
            print(f'{name:10s}  not measured: {e}', flush=True)
            failed = True
    return int(failed)


def row(name: str, times: dict[str, list[float]]) -> str:
    """Return one line of the table, from s."""
    bare = statistics.median(times['bare'])
    cells = []
    for way, took in times.items():
        ordered = sorted(took)
        median, p99 = statistics.median(took), ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)]
        ratio = '' if way == 'bare' else f' {median / bare:5.2f} x'
        cells.append(f'{median * 1e6:7.0f} ({p99 * 1e6:6.0f}){ratio}')
    return f'{name:10s} ' + '   '.join(cells)


def measure(services: AbstractContextManager[list[int]], commands: int, folder: str) -> dict[str, list[float]]:
    """Return the times of the three ways, s; `services` gives their ports."""
    with ExitStack() as stack:
        uris = [f'udp://127.0.0.1:{port}' for port in stack.enter_context(services)]
        ways: dict[str, Callable[[], float]] = {
            'bare': stack.enter_context(bare(uris)),
            'await': stack.enter_context(_await(uris)),
            'submit': stack.enter_context(_submit(uris)),
            'worker': stack.enter_context(_worker(uris, folder)),
        }
        for way in ways.values():
            for _ in range(20):
                way()
        times: dict[str, list[float]] = {name: [] for name in ways}
        while len(times['worker']) < commands:
            for name, way in ways.items():
                times[name] += [way() for _ in range(min(BLOCK, commands - len(times[name])))]
    return times


class _Exchange(asyncio.DatagramProtocol):
    """The bare exchange with one service."""

    def __init__(self) -> None:
        self.turn = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def begin(self) -> asyncio.Future[None]:
        self.turn = self.turn % 100 + 1
        self.command = b'[1, null]' + b' ' * self.turn
        self.done = asyncio.get_running_loop().create_future()
        self.transport.sendto(self.command)
        return self.done

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data != self.command and not self.done.done():
            self.transport.sendto(data)
            self.done.set_result(None)

    def error_received(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


@contextmanager
def bare(uris: list[str]) -> Iterator[Callable[[], float]]:
    """Give what carries out one bare exchange with all services, and returns its time, s."""
    loop = asyncio.SelectorEventLoop()
    ports = [int(uri.rpartition(':')[2]) for uri in uris]
    made = [
        loop.run_until_complete(loop.create_datagram_endpoint(_Exchange, remote_addr=('127.0.0.1', port)))
        for port in ports
    ]

    watched = math.inf  # until when an exchange may take

    async def once() -> float:
        started = time.perf_counter()
        waiting = [protocol.begin() for _, protocol in made]
        for future in waiting:
            await future
        return time.perf_counter() - started

    def bounded() -> float:
        # A timer that is set once and looks again costs the exchange nothing, unlike `asyncio.wait_for`.
        nonlocal watched
        watched = time.monotonic() + PATIENCE
        return loop.run_until_complete(once())

    def watch() -> None:
        if time.monotonic() > watched:
            for _, protocol in made:
                protocol.error_received(TimeoutError(f'no answer within {PATIENCE:g} s'))
        loop.call_later(1.0, watch)

    loop.call_soon(watch)
    try:
        yield bounded
    finally:
        for transport, _ in made:
            transport.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@contextmanager
def _await(uris: list[str]) -> Iterator[Callable[[], float]]:
    from bridge.services.iblutil import net, silent_client

    loop = asyncio.SelectorEventLoop()

    async def open_all() -> Any:
        made = [await silent_client(uri, f's{i}') for i, uri in enumerate(uris)]
        return net.app.Services(made, timeout=10)

    services = loop.run_until_complete(open_all())

    async def once() -> float:
        started = time.perf_counter()
        try:
            await services.init(None)
        except asyncio.TimeoutError as e:  # no OSError before Python 3.11
            raise BenchError(f'iblutil: {e}') from e
        return time.perf_counter() - started

    try:
        yield lambda: loop.run_until_complete(once())
    finally:
        services.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@contextmanager
def _submit(uris: list[str]) -> Iterator[Callable[[], float]]:
    from bridge.auxiliaries import Auxiliaries

    auxiliaries = Auxiliaries({f's{i}': uri for i, uri in enumerate(uris)})
    auxiliaries.timing.reply_gap = 0.0

    def once() -> float:
        started = time.perf_counter()
        outcomes = auxiliaries.submit('EXPINIT').result(20)
        took = time.perf_counter() - started
        for outcome in outcomes.values():
            if not outcome.ok:
                raise BenchError(f'submit: {outcome.error}')
        return took

    try:
        yield once
    finally:
        auxiliaries.close()


@contextmanager
def serving(uris: list[str], folder: str, *more: str) -> Iterator[tuple[str, int]]:
    """Run a worker for these services; gives the segment and the worker's process."""
    segment = f'bench-{os.getpid()}'
    services = Path(folder) / 'services.yaml'
    services.write_text(''.join(f's{i}: {{uri: "{uri}", reply_gap: 0}}\n' for i, uri in enumerate(uris)) or '{}\n')
    named = ('--services', str(services)) if uris else ()
    with _child('worker', 'serve', '--segment', segment, *named, '--no-ask', '--remove', *more) as child:
        yield segment, child.process.pid


@contextmanager
def _worker(uris: list[str], folder: str) -> Iterator[Callable[[], float]]:
    from bridge.segment.client import Client

    with serving(uris, folder) as (segment, _), Client(segment, timeout=5.0) as client:

        def once() -> float:
            started = time.perf_counter()
            client.call('EXPINIT')
            return time.perf_counter() - started

        yield once


@contextmanager
def _child(name: str, *arguments: str) -> Iterator[Child]:
    """Run a command of ours, which says READY."""
    child = Child(name, *arguments)
    try:
        until = time.monotonic() + 30
        while not child.ready:
            if child.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(child.report())
            time.sleep(0.01)
        yield child
    finally:
        child.end()


@contextmanager
def stock() -> Iterator[list[int]]:
    """Run a service of iblutil; gives its port."""
    with _child('service', 'simulate', '--name', 'service', '--port', '0') as child:
        yield [int(child.ready[1].rpartition(':')[2])]


def responder(folder: str) -> list[str]:
    """Return the command that starts the services; a C program if there is a compiler."""
    compiler, program = shutil.which('cc') or shutil.which('gcc'), str(Path(folder) / 'responder')
    source = str(Path(__file__).with_name('responder.c'))
    own = os.environ | {'TMPDIR': folder}
    if compiler and not subprocess.run([compiler, '-O2', source, '-o', program], check=False, env=own).returncode:
        return [program]
    return [sys.executable, '-c', PYTHON_RESPONDER]


@contextmanager
def running(responder: list[str], count: int) -> Iterator[list[int]]:
    """Run fast services; gives their ports."""
    with programs.running(*responder, str(count)) as program:
        ports = [int(port) for port in program.more.split()]
        if len(ports) != count:
            raise BenchError(f'the program of {count} services gave {len(ports)} ports')
        yield ports
