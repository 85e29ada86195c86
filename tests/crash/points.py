"""Runs every crash point of one side, one by one, in several rigs next to each other.

Client side: worker and bystander live on; client after client is stopped at the next point, by `_exit` or by SIGSTOP.
Worker side: a rig of its own for every point; the worker is stopped there and a successor, or the same one, goes on.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGTERM

from actors import FREE_WITHIN, KILLED, Host, Rig, until, violations

TRIES = 2
LOOK = 0.02  # s: how exactly the freeing of slots is measured
TURNS = 3  # of the bystander, while a client stands still


@dataclass
class Result:
    """What the runs of one side came to."""

    points: int = 0
    exits: int = 0
    stops: int = 0
    places: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    commands: int = 0
    stall: float = 0.0
    freed: float = 0.0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def row(self, side: str) -> str:
        """Return what was tried, as one row."""
        return (
            f'{side}: {self.points} points ({len(self.missed)} not reached), '
            f'{self.exits} kills, {self.stops} stops, {self.commands} commands, '
            f'{len(self.found)} broken promises, longest turn of a bystander {self.stall * 1000:.0f} ms, '
            f'slots free after {self.freed * 1000:.0f} ms'
        )

    def add(self, label: str, sentences: Iterable[str]) -> None:
        """Note what went wrong in one run."""
        with self._guard:
            self.found += [f'{label}: {sentence}' for sentence in sentences]

    def count(self, exits: int, stops: int) -> None:
        """Count what was done to the actors."""
        with self._guard:
            self.exits += exits
            self.stops += stops

    def look_at(
        self, label: str, rig: Rig, dead: Iterable[str] = (), *, stopped: Iterable[str] = (), worker_died: bool = False
    ) -> None:
        """Judge a rig's log; how long waits took only of clients that never stood still themselves."""
        lines = [line for line in rig.lines() if line.what != 'waited' or line.who not in stopped]
        died = [line for line in lines if line.what == 'died']
        sentences = violations(lines, dead, worker_died=worker_died)
        if sentences and died:
            sentences.append(f'died at {sorted({" ".join(line.rest[1:]) for line in died})}'[:400])
        self.add(label, sentences)
        with self._guard:
            self.commands += sum(line.what == 'try' for line in lines)
            self.places.update(' '.join(line.rest[1:-1]) for line in died)


def name_of(action: str, point: str) -> str:
    """Return a client's name that tells what happens to it."""
    return f'{action}-{point}'.replace(' ', '_')


class Rigs:
    """Makes rigs in a folder, with names that are never used twice."""

    def __init__(self, program: Path, folder: Path, patience: float = 20.0, host: Host | None = None) -> None:
        self.program, self.folder, self.patience, self.host = program, folder, patience, host or Host()
        self._made = 0
        self._rigs: list[Rig] = []
        self._guard = threading.Lock()

    def make(self, slots: int) -> Rig:
        """Return a new rig."""
        with self._guard:
            self._made += 1
            rig = Rig(self.program, self.folder / f'rig-{self._made}', slots, self.patience, self.host)
            self._rigs.append(rig)
            return rig

    def close(self) -> None:
        """End whatever still runs, also after a failure."""
        for rig in self._rigs:
            rig.close()


@dataclass
class Points:
    """The points of each side, as section:number, in the order in which a life passes them first."""

    client: list[str]
    worker: list[str]


def _read_counts(path: Path) -> Counter[str]:
    return Counter(line.rsplit(' ', 1)[0] for line in path.read_text().splitlines())


def count_points(rigs: Rigs, runs: int = 5) -> Points:
    """Return the points that clients and workers pass in lives without a fault: of each section the most seen."""
    most: dict[str, Counter[str]] = {'client': Counter(), 'worker': Counter()}
    for _ in range(runs):
        rig = rigs.make(2)
        files = {side: rig.folder / f'{side}.count' for side in most}
        worker = rig.start('worker', 'refuse', count=files['worker'])
        assert rig.start('client', 'counted', count=files['client']).wait() == 0
        assert until(lambda: not rig.claimed())  # noqa: B023
        worker.send(SIGTERM)
        assert worker.wait() == 0
        assert not violations(rig.lines())
        for side, file in files.items():
            most[side] |= _read_counts(file)
        rig.close()
    return Points(
        *(
            [f'{section}:{number}' for section, count in most[side].items() for number in range(1, count + 1)]
            for side in most
        )
    )


# --- the client's side ---


def _one_stopped_client(rig: Rig, name: str, point: str, knock: bool, result: Result) -> bool:
    client = rig.start('client', name, at=point, action='stop')
    code = client.wait(stops=True)
    stopped = code is None
    if stopped:
        before = rig.turns()[0]
        if not until(lambda: rig.turns()[0] >= before + TURNS, 20.0):
            result.add(name, ['the bystander stands still while this client does'])
        if knock and rig.start('knock', f'{name}-knock').wait() != 0:
            result.add(name, ['nobody can open while this client stands still'])
        client.send(SIGCONT)
        code = client.wait()
    if code != 0:
        result.add(name, [f'went on after SIGCONT and ended with {code}'])
    return stopped


class _Slots:
    """Watches, in a thread of its own, how long the slots of dead clients stay taken."""

    def __init__(self, rig: Rig, result: Result) -> None:
        self._rig, self._result = rig, result
        self._died: dict[str, float] = {}
        self.freed: dict[str, float] = {}
        self._guard = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def died(self, name: str) -> None:
        """Begin to watch."""
        with self._guard:
            self._died[name] = time.monotonic()

    def _run(self) -> None:
        while not self._ending.wait(LOOK):
            with self._guard:
                taken = self._rig.claimed() if self._died else {}
                for name in [name for name in self._died if name not in taken]:
                    del self._died[name]
                    self.freed[name] = time.monotonic()

    def end(self) -> bool:
        """Wait for all slots to become free; return whether they did."""
        free = until(lambda: not self._died, 30.0)
        self._ending.set()
        self._thread.join()
        return free

    def judge(self, began: dict[str, float]) -> None:
        """Compare with the last thing that the worker did for each client."""
        for name in self._died:
            self._result.add(name, ['its slot never became free'])
        last = dict(began)
        for line in self._rig.lines():
            if line.who == 'worker' and line.command != '-':
                client = line.command.rsplit('-', 2)[0]
                last[client] = max(last.get(client, 0.0), line.ns / 1e9)
        for name, freed in self.freed.items():
            took = freed - last[name]
            self._result.freed = max(self._result.freed, took)
            if took > FREE_WITHIN:
                self._result.add(name, [f'its slot became free {took:.2f} s after its last answer'])


def _client_lane(rigs: Rigs, points: list[str], action: str, result: Result, quick: bool) -> None:
    rig = rigs.make(16)
    worker = rig.start('worker', 'refuse')
    bystander = rig.start('bystander', 'bystander')
    until(lambda: rig.turns()[0] > 0)
    slots, died, dead, stopped = _Slots(rig, result), {}, [], []
    for point in points:
        for attempt in range(TRIES):  # how often a waiting client looks around varies
            name = name_of(action, point) + '~' * attempt
            if action == 'stop':
                reached = _one_stopped_client(
                    rig, name, point, point.startswith('open:') and point.endswith('5'), result
                )
                result.count(0, reached)
                stopped.append(name)
            else:
                code = rig.start('client', name, at=point).wait()
                died[name] = time.monotonic()
                reached = code == KILLED
                result.count(reached, 0)
                if reached:
                    dead.append(name)
                elif code != 0:
                    result.add(name, [f'ended with {code}'])
                slots.died(name)
            if reached:
                break
        else:
            result.missed.append(point)
        if quick and result.found:
            break
    if not slots.end():
        result.add('rig', ['slots of dead clients are not freed'])
    slots.judge(died)
    for process in (bystander, worker):
        process.send(SIGTERM)
        if (code := process.wait()) != 0:
            result.add('rig', [f'worker or bystander ended with {code}'])
    result.stall = max(result.stall, rig.turns()[1])
    result.look_at('client side', rig, dead, stopped=stopped)
    rig.close()


def run_client_side(
    rigs: Rigs, points: list[str], actions: Iterable[str] = ('exit', 'stop'), *, quick: bool = False
) -> Result:
    """Try points of the client's side.

    Parameters
    ----------
    rigs : Rigs
        Makes the rigs.
    points : list of str
        Which, as section:number. While a client stands still within iblb_open, another one opens.
    actions : iterable of str
        exit, stop.
    quick : bool
        End soon after the first broken promise.
    """
    result, lanes = Result(points=len(points)), rigs.host.lanes
    with ThreadPoolExecutor(lanes) as pool:
        jobs = [
            pool.submit(_client_lane, rigs, points[lane::lanes], action, result, quick)
            for action in actions
            for lane in range(lanes)
        ]
        for job in jobs:
            job.result()
    return result


# --- the worker's side ---


class _Supervisor:
    """Starts workers one after the other, each with its own fault, until it is told to end."""

    def __init__(self, rig: Rig, faults: list[str], action: str, result: Result, *, linger: bool) -> None:
        self._rig, self._faults, self._action, self._result, self._linger = rig, faults, action, result, linger
        self._ending = False
        self._guard = threading.Lock()
        self.deaths = self.stops = 0
        self._start()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _start(self) -> None:
        at = self._faults.pop(0) if self._faults else ''
        first = ['refuse'] if not self.deaths else []  # a successor carries out what its predecessor refuses
        self.worker = self._rig.start('worker', *first, at=at, action=self._action)

    def _run(self) -> None:
        while True:
            code = self.worker.wait(stops=True)
            if code is None:
                self.stops += 1
                self._while_it_stands_still()
                self.worker.send(SIGCONT)
            elif code == KILLED:
                with self._guard:
                    self.deaths += 1
                    self._start()
                    if self._ending:
                        self.worker.send(SIGTERM)
            else:
                if code != -SIGTERM and code != 0:
                    self._result.add(self._rig.folder.name, [f'a worker ended with {code}'])
                return

    def _while_it_stands_still(self) -> None:
        """Try to start a second one; see that waits end."""
        if self._ending or not self._rig.path.exists():  # it has let go, or has not linked its segment into place yet
            return
        code = self._rig.start('worker').wait()
        text = [line for line in self._rig.lines() if line.what == 'unopened']
        if code != 6 or not text:
            self._result.add(self._rig.folder.name, [f'a second worker was not refused ({code})'])
        elif f'process {self.worker.pid} ' not in ' '.join(text[-1].rest):
            self._result.add(self._rig.folder.name, [f'the first is not named: {" ".join(text[-1].rest)}'])
        if self._linger:
            time.sleep(0.25)  # what is measured: waits of 100 ms end although the worker stands still

    def end(self) -> None:
        """Stop the worker that lives, and wait for it."""
        with self._guard:
            self._ending = True
            self.worker.send(SIGTERM)
        self._thread.join()


def _one_worker(
    rigs: Rigs, label: str, faults: list[str], action: str, result: Result, *, linger: bool = False
) -> bool:
    """Return whether a worker came to its point."""
    rig = rigs.make(2)
    supervisor = _Supervisor(rig, list(faults), action, result, linger=linger)
    code = rig.start('client', label).wait()
    closed = time.monotonic()
    if code != 0:
        result.add(label, [f'its client ended with {code}'])
    if until(lambda: not rig.claimed(), 10.0):
        result.freed = max(result.freed, time.monotonic() - closed)
    else:
        result.add(label, [f'slots are not freed: {rig.claimed()}'])
    supervisor.end()
    result.count(supervisor.deaths, supervisor.stops)
    result.look_at(label, rig, worker_died=supervisor.deaths > 0)
    rig.close()
    return supervisor.deaths + supervisor.stops > 0


def run_worker_side(
    rigs: Rigs, faults: list[list[str]], actions: Iterable[str] = ('exit', 'stop'), *, quick: bool = False
) -> Result:
    """Try points of the worker's side.

    Parameters
    ----------
    rigs : Rigs
        Makes the rigs.
    faults : list of list of str
        For each run the point at which the first worker ends, then that of its successor, ...
    actions : iterable of str
        exit, stop.
    quick : bool
        End soon after the first broken promise.
    """
    result = Result(points=len(faults))

    def turn(job: tuple[str, int, list[str]]) -> None:
        action, number, points = job
        if not (quick and result.found):
            label = name_of(action, '+'.join(points))
            # How often an idle worker looks around varies; a point that a life did not come to is tried again.
            if not any(_one_worker(rigs, label, points, action, result, linger=number % 10 == 0) for _ in range(TRIES)):
                result.missed.append(points[0])

    with ThreadPoolExecutor(rigs.host.lanes) as pool:
        jobs = [(action, number, points) for action in actions for number, points in enumerate(faults)]
        for done in [pool.submit(turn, job) for job in jobs]:
            done.result()
    return result
