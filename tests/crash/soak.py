"""Kills clients and workers at random for as long as asked, and counts what was lost.

    python tests/crash/soak.py --seconds 60
    python tests/crash/soak.py --clients 10000 --workers 1000
    python tests/crash/soak.py --points --seconds 60         every crash point of both sides first
    python tests/crash/soak.py --services --seconds 60       the real Python worker, and UDP services that count

Clients send, wait, withdraw and interrupt at random; they and the worker are killed (SIGKILL) or stopped for a moment
(SIGSTOP, SIGCONT) at random times, and started again, while bystanders send and wait. All of them log what they are
about to do and what came of it; at the end the log is judged, see actors.py. --seed repeats a run as far as chance
allows. Exit status 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from actors import Host, Process, Rig, build, commands_of, until, violations
from points import Rigs, count_points, run_client_side, run_worker_side

CLIENTS = 6  # that are killed, at a time
STOPPED = 0.02  # s, at most


@dataclass
class Report:
    """What a soak came to."""

    seed: int
    seconds: float = 0.0
    client_kills: int = 0
    client_stops: int = 0
    worker_kills: int = 0
    worker_stops: int = 0
    messages: int = 0
    dispatched: int = 0
    duplicates: int = 0
    losses: int = 0
    unknown: int = 0
    stall: float = 0.0
    freed: float = 0.0
    broken: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return the report as text."""
        rows = [
            ('seed', self.seed),
            ('seconds', f'{self.seconds:.0f}'),
            ('clients killed / stopped', f'{self.client_kills} / {self.client_stops}'),
            ('workers killed / stopped', f'{self.worker_kills} / {self.worker_stops}'),
            ('commands', self.messages),
            ('dispatched', self.dispatched),
            ('of unknown outcome', self.unknown),
            ('duplicates', self.duplicates),
            ('losses', self.losses),
            ('other broken promises', len(self.broken) - self.duplicates - self.losses),
            ('longest turn of a bystander', f'{self.stall * 1000:.0f} ms'),
            ('slots of the dead free after', f'{self.freed * 1000:.0f} ms'),
        ]
        width = max(len(name) for name, _ in rows)
        return '\n'.join(f'{name:{width}}  {value}' for name, value in rows)


class Killer:
    """Keeps one kind of process running, and kills it again and again.

    Parameters
    ----------
    start : callable
        Gives the next process.
    life : tuple of float
        How long each lives, s, at least and at most.
    kills : int
        How many are to be killed; 0: no end.
    """

    def __init__(self, start, life, kills: int, seed: int, lanes: int = 1) -> None:
        self._start, self._life, self._left = start, life, kills or 1 << 60
        self.kills = self.stops = 0
        self.dead: set[str] = set()
        self.dead_at: dict[str, float] = {}
        self.ended: list[tuple[str, int]] = []
        self._ending = threading.Event()
        self._guard = threading.Lock()
        self.threads = [
            threading.Thread(target=self._run, args=(random.Random(seed * 1000 + i),)) for i in range(lanes)
        ]
        for thread in self.threads:
            thread.start()

    def _run(self, chance: random.Random) -> None:
        while True:
            name, process = self._start()
            while True:
                self._ending.wait(chance.uniform(*self._life))
                if self._ending.is_set() or chance.random() < 0.75:
                    break
                process.send(SIGSTOP)
                self._ending.wait(chance.uniform(0, STOPPED))
                process.send(SIGCONT)
                with self._guard:
                    self.stops += 1
            with self._guard:
                kill = not self._ending.is_set() and self._left > 0
                self._left -= kill
            if not kill:
                self._ending.wait()
                process.send(SIGTERM)
                code = process.wait() or 0
                with self._guard:
                    if code == -SIGTERM:  # it had not come to handling signals yet
                        self.dead.add(name)
                    else:
                        self.ended.append((name, code))
                return
            process.send(SIGKILL)
            code = process.wait()
            with self._guard:
                if code == -SIGKILL:
                    self.kills += 1
                    self.dead.add(name)
                    self.dead_at[name] = time.monotonic()
                else:
                    self.ended.append((name, code or 0))

    @property
    def done(self) -> bool:
        """bool: as many were killed as wanted."""
        return self._left <= 0

    def end(self) -> None:
        """Let the last ones end by themselves."""
        self._ending.set()
        for thread in self.threads:
            thread.join()


def _count(report: Report, rig: Rig, dead: set[str], worker_kills: int) -> None:
    lines = rig.lines()
    commands, _ = commands_of(lines)
    report.broken += violations(lines, dead, worker_died=worker_kills > 0)
    report.messages = len(commands)
    report.dispatched = sum(command.dispatched > 0 for command in commands.values())
    report.unknown = sum(command.orphans > 0 for command in commands.values())
    report.duplicates = sum(command.dispatched > 1 for command in commands.values())
    report.losses = sum('lost' in sentence or 'no answer' in sentence for sentence in report.broken)


def soak(
    program: Path,
    folder: Path,
    *,
    seconds: float = 0.0,
    clients: int = 0,
    workers: int = 0,
    seed: int | None = None,
    host: Host | None = None,
) -> Report:
    """Kill clients and workers of actor.c.

    Parameters
    ----------
    program : pathlib.Path
        What `actors.build` made.
    folder : pathlib.Path
        For the rig.
    seconds : float
        How long; or
    clients, workers : int
        until so many of each were killed.
    seed : int, optional
        Of all chance.
    host : Host, optional
        Where they run, if not here.
    """
    seed = random.SystemRandom().randrange(1 << 30) if seed is None else seed
    report = Report(seed)
    rig = Rig(program, folder, 64, host=host)
    began, numbers = time.monotonic(), iter(range(1 << 60))

    def client() -> tuple[str, Process]:
        number = next(numbers)
        return f'c{number}', rig.start('traffic', f'c{number}', seed + number)

    bystanders = [rig.start('bystander', f'bystander{i}') for i in range(2)]
    most = rig.host.life
    life = most if seconds or not workers else min(most, most / 10 * clients / workers)
    killers = [
        Killer(lambda: ('worker', rig.start('worker')), (life / 2, 2 * life), workers, seed),
        Killer(client, (0.0, most), clients, seed + 1, CLIENTS),
    ]
    if seconds:
        threading.Event().wait(seconds)
    else:
        until(lambda: all(killer.done for killer in killers), 86400)
    worker, client_killer = killers
    client_killer.end()
    for process in bystanders:
        process.send(SIGTERM)
    endings = [process.wait() for process in bystanders]
    at_rest = time.monotonic()
    if not until(lambda: not rig.claimed(), 5.0):
        report.broken.append(f'slots are never freed: {rig.claimed()}')
    report.freed = time.monotonic() - at_rest
    worker.end()
    report.seconds = time.monotonic() - began
    report.client_kills, report.client_stops = client_killer.kills, client_killer.stops
    report.worker_kills, report.worker_stops = worker.kills, worker.stops
    report.stall = rig.turns()[1]
    report.broken += [f'{name} ended with {code}' for name, code in client_killer.ended + worker.ended if code != 0]
    report.broken += [f'a bystander ended with {code}' for code in endings if code != 0]
    _count(report, rig, client_killer.dead, worker.kills)
    if not report.broken:
        rig.close()
    return report


# --- through the real worker ---

PYTHON_WORKER = """
import signal, sys
import bridge.auxiliaries
from bridge.worker import Worker
print('ready', flush=True)
sys.stdin.readline()
worker = Worker('rig', dict(pair.split('=') for pair in sys.argv[1:]), timeout=5.0)
signal.signal(signal.SIGTERM, lambda *_: worker.stop())
worker.run()
worker.close()
"""


class CountingService:
    """A raw UDP service that echoes and replies at once, and counts what it received."""

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(('127.0.0.1', 0))
        self.uri = f'udp://127.0.0.1:{self._socket.getsockname()[1]}'
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            datagram, peer = self._socket.recvfrom(65535)
            if not datagram:
                return
            if not datagram.endswith(b' '):  # the echo of our reply; commands are padded
                continue
            message = json.loads(datagram)
            self.received[str(message[-1])] += 1
            self._socket.sendto(datagram, peer)
            self._socket.sendto(json.dumps([message[0], *message[2:]]).encode(), peer)

    def close(self) -> None:
        """End the thread."""
        self._socket.sendto(b'', self._socket.getsockname())
        self._thread.join(5)
        self._socket.close()


class PythonWorkers:
    """Worker processes one after the other; the next is always loaded already, so that one is rarely missing."""

    def __init__(self, services: dict[str, CountingService], environment: dict[str, str]) -> None:
        self._pairs = [f'{name}={service.uri}' for name, service in services.items()]
        self._environment = environment
        self._next = self._load()

    def _load(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, '-c', PYTHON_WORKER, *self._pairs],
            env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def start(self) -> subprocess.Popen[str]:
        """Let the next one serve."""
        process = self._next
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.write('go\n')
        process.stdin.flush()
        self._next = self._load()
        return process

    def close(self) -> None:
        """End the one that never served."""
        end(self._next)


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process of ours and clean up after it."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


class PythonClients:
    """Threads that call through bridge.segment.client, each name of a command used once, and note what came of it."""

    def __init__(self, count: int) -> None:
        from bridge.errors import BridgeError
        from bridge.segment.client import Client

        self.codes: dict[str, int] = {}
        self.wrong: list[str] = []
        self.longest = 0.0
        self._stop = threading.Event()

        def run(name: str) -> None:
            number = 0
            with Client('rig', name, timeout=20) as client:
                while not self._stop.is_set():
                    label, began = f'{name}-{number}', time.monotonic()
                    number += 1
                    start = ('EXPSTART', '2026-01-01_1_subject', label) if number % 2 else ('EXPEND', label)
                    request = client.send(*start, ttl=None)
                    while True:
                        try:
                            self.codes[label] = client.wait(request, 0.5)['code']
                            break
                        except BridgeError as error:
                            if error.name not in ('IBLB_E_NO_WORKER', 'IBLB_E_TIMEOUT'):
                                self.codes[label] = error.code
                                break
                            if time.monotonic() - began > 30:
                                self.wrong.append(f'{label} has no answer')
                                break
                            time.sleep(0.001)
                    self.longest = max(self.longest, time.monotonic() - began)

        def guarded(name: str) -> None:
            try:
                run(name)
            except Exception as error:
                self.wrong.append(f'{name}: {error!r}')

        self._threads = [threading.Thread(target=guarded, args=(f'p{i}',)) for i in range(count)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let each finish what it has sent."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def soak_with_services(folder: Path, *, seconds: float, kills: int = 0, seed: int | None = None) -> Report:
    """Kill real Python workers between Python clients and UDP services.

    Parameters
    ----------
    folder : pathlib.Path
        For the segment.
    seconds : float
        How long.
    kills : int
        How many there are to be at least, however long that takes.
    seed : int, optional
        Of all chance.
    """
    seed = random.SystemRandom().randrange(1 << 30) if seed is None else seed
    chance, report = random.Random(seed), Report(seed)
    folder.mkdir(mode=0o700, exist_ok=True)
    environment = {**os.environ, 'IBLBRIDGE_DIR': str(folder)}
    before = os.environ.get('IBLBRIDGE_DIR')
    os.environ['IBLBRIDGE_DIR'] = str(folder)
    services = {'cameras': CountingService(), 'ephys': CountingService()}
    workers = PythonWorkers(services, environment)
    began = time.monotonic()
    worker = workers.start()
    clients = PythonClients(3)
    idle = threading.Event()
    while time.monotonic() - began < seconds or report.worker_kills < kills:
        idle.wait(chance.uniform(0.2, 1.0))
        if chance.random() < 0.3:
            worker.send_signal(SIGSTOP)
            idle.wait(chance.uniform(0, 0.3))
            worker.send_signal(SIGCONT)
            report.worker_stops += 1
            continue
        end(worker)
        report.worker_kills += 1
        worker = workers.start()
    clients.end()
    worker.send_signal(SIGTERM)
    worker.wait(20)
    end(worker)
    workers.close()
    for service in services.values():
        service.close()
    if before is None:
        del os.environ['IBLBRIDGE_DIR']
    else:
        os.environ['IBLBRIDGE_DIR'] = before
    report.seconds = time.monotonic() - began
    report.stall = clients.longest
    report.broken += clients.wrong
    report.messages = len(clients.codes)
    for name, service in services.items():
        for label, count in service.received.items():
            if count > 1:
                report.duplicates += 1
                report.broken.append(f'{name} received {label} {count} times')
    for label, code in clients.codes.items():
        reached = [service.received[label] for service in services.values()]
        report.dispatched += any(reached)
        report.unknown += code == -8074
        if code == 0 and 0 in reached:
            report.losses += 1
            report.broken.append(f'{label} is OK and was received {reached}')
        elif code not in (0, -8074):
            report.broken.append(f'{label} ended with {code}')
    return report


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make a directory in memory, deleted if it is empty of logs worth keeping."""
    path = Path(tempfile.mkdtemp(prefix='iblbridge-soak-', dir='/dev/shm' if os.access('/dev/shm', os.W_OK) else None))
    yield path
    if not any(path.glob('*/log')):
        shutil.rmtree(path, ignore_errors=True)


def try_points(program: Path, folder: Path) -> list[str]:
    """Kill and stop both sides at every point, print a row for each, and return what was broken."""
    rigs = Rigs(program, folder)
    counted = count_points(rigs)
    broken = []
    for action, done in (('exit', 'killed'), ('stop', 'stopped')):
        sides = {
            f'client, {done}': run_client_side(rigs, counted.client, [action]),
            f'worker, {done}': run_worker_side(rigs, [[point] for point in counted.worker], [action]),
        }
        for side, result in sides.items():
            print(result.row(side), flush=True)
            broken += result.found
    return broken


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=0.0)
    parser.add_argument('--clients', type=int, default=0, help='how many are to be killed')
    parser.add_argument('--workers', type=int, default=0, help='how many are to be killed')
    parser.add_argument('--seed', type=int)
    parser.add_argument('--services', action='store_true', help='the real Python worker and UDP services')
    parser.add_argument('--points', action='store_true', help='before, every crash point of both sides')
    options = parser.parse_args()
    if not (options.seconds or options.clients or options.workers):
        options.seconds = 60.0
    with scratch() as folder:
        broken = try_points(build(folder), folder) if options.points else []
        if options.services:
            report = soak_with_services(folder / 'rig', seconds=options.seconds or 60.0, seed=options.seed)
        else:
            report = soak(
                build(folder), folder / 'rig',
                seconds=options.seconds, clients=options.clients, workers=options.workers, seed=options.seed,
            )  # fmt: skip
        print(report.table())
        broken += report.broken
        for sentence in broken[:20]:
            print('broken:', sentence)
        for log in folder.glob('*/log'):
            print('the log is kept:', log)
    return 1 if broken else 0


if __name__ == '__main__':
    sys.exit(main())
