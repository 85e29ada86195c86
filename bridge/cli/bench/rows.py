"""The rows of the table: what is measured, beside what, and what is aimed at."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bridge.cli.bench import peers, programs, statistics, ways
from bridge.cli.bench.programs import BenchError
from bridge.numbers import MESSAGES

Contestant = Callable[[int, float], list[float]]
"""Takes a number and a pause behind each (s), and returns the times, s."""
NOT_MEASURED = {
    'skew': ("first to last of 8 services' datagrams of one EXPSTART", 'is not measured yet'),
    'event': ('an event from a service to the foreign program', 'is not measured yet'),
}
EXPINIT, PING = MESSAGES['EXPINIT'], MESSAGES['PING']


@dataclass
class Row:
    """One line of the table.

    Parameters
    ----------
    key, title : str
        For programs, and for people.
    unit : str
        Of `value` and `p99`.
    aim : str
        In words.
    value, p99 : float, optional
        Ours; None if it was not measured.
    against : dict
        By peer: our time as a multiple of its.
    reached : bool, optional
        Whether all that is aimed at and was measured is so; None if nothing was.
    note : str
        Why something is missing, or what else was seen.
    """

    key: str
    title: str
    unit: str
    aim: str
    value: float | None = None
    p99: float | None = None
    against: dict[str, float] = field(default_factory=dict)
    reached: bool | None = None
    note: str = ''

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, with what each ratio may be called."""
        return {**asdict(self), 'verdict': {peer: statistics.verdict(r) for peer, r in self.against.items()}}


def reached(against: dict[str, float], aims: dict[str, float]) -> bool | None:
    """Return whether every ratio is as small as is aimed at; None if one is missing, and none too big."""
    judged = [against[peer] <= aim for peer, aim in aims.items() if peer in against]
    if not all(judged):
        return False
    return True if len(judged) == len(aims) else None


def compare(contestants: dict[str, Contestant], rounds: int, count: int, pause: float) -> dict[str, list[list[float]]]:
    """Return the times of each by round; in each round they take turns in another order."""
    times: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for contestant in contestants.values():
        contestant(10, 0.0)
    for _ in range(rounds):
        for name in random.sample(list(contestants), len(contestants)):
            times[name].append(contestants[name](count, pause))
    return times


@dataclass
class Bench:
    """What all rows share.

    Parameters
    ----------
    folder : Path
        For what is built and written.
    caller : str
        The C program.
    rounds, count : int
        How many turns each contestant has, and how many commands in each.
    """

    folder: Path
    caller: str
    rounds: int
    count: int

    def rows(self) -> Iterator[Row]:
        """Measure, and yield each row when it is there."""
        responder = ways.responder(str(self.folder))
        aims = {'ZeroMQ bridge': 0.7, 'bare asyncio': 1.6}
        yield from self._commands('stock', 'C program, one stock iblutil service and back', ways.stock(), aims)
        for n, zmq, bare in ((1, 0.6, 2.0), (2, 0.5, 1.6), (8, 0.35, 1.3)):
            aims = {'ZeroMQ bridge': zmq, 'bare asyncio': bare}
            title = f'C program, {n} fast C service{"s" * (n > 1)} and back'
            yield from self._commands(f'fast_{n}', title, ways.running(responder, n), aims)
        yield from self._alone(ways.running(responder, 1))
        yield from (Row(key, title, '', '', note=why) for key, (title, why) in NOT_MEASURED.items())

    def _library(self) -> Path | None:
        return peers.libzmq()

    def _missing(self) -> str:
        return '' if self._library() else f'pyzmq is not installed: {peers.INSTALL}'

    def _compared(
        self, key: str, title: str, contestants: dict[str, Contestant], aims: dict[str, float]
    ) -> Iterator[Row]:
        aim = ', '.join(f'≤ {most} × {peer}' for peer, most in aims.items())
        for pause, suffix, when in ((0.0, '', ''), (0.001, '_paused', ', 1 ms between')):
            times = compare(contestants, self.rounds, self.count, pause)
            ours = times.pop('worker')
            against = {peer: statistics.ratio(ours, theirs) for peer, theirs in times.items()}
            p50, p99 = (seconds * 1e6 for seconds in statistics.summary(ours))
            done = reached(against, aims)
            yield Row(key + suffix, title + when, 'µs', aim, p50, p99, against, done, self._missing())

    def _commands(
        self, key: str, title: str, services: AbstractContextManager[list[int]], aims: dict[str, float]
    ) -> Iterator[Row]:
        with ExitStack() as stack:
            uris = [f'udp://127.0.0.1:{port}' for port in stack.enter_context(services)]
            segment, _ = stack.enter_context(ways.serving(uris, str(self.folder)))
            contestants = {'worker': self._caller(stack, EXPINIT, 'iblb', segment)}
            if library := self._library():
                endpoint = f'ipc://{key}'
                stack.enter_context(programs.peer('bridge', endpoint, *uris, cwd=str(self.folder)))
                contestants['ZeroMQ bridge'] = self._caller(stack, EXPINIT, 'zmq', str(library), endpoint)
            bare = stack.enter_context(ways.bare(uris))

            def asyncio_alone(count: int, pause: float) -> list[float]:
                times = []
                for _ in range(count):
                    times.append(bare())
                    time.sleep(pause)
                return times

            contestants['bare asyncio'] = asyncio_alone
            yield from self._compared(key, title, contestants, aims)

    def _caller(self, stack: ExitStack, message: int, *words: str) -> Contestant:
        program = stack.enter_context(programs.running(self.caller, *words, cwd=str(self.folder)))
        return lambda count, pause: program.ask('call', count, pause, message)

    def _alone(self, services: AbstractContextManager[list[int]]) -> Iterator[Row]:
        """Measure what needs no service, or only that one is known."""
        with ExitStack() as stack:
            uris = [f'udp://127.0.0.1:{port}' for port in stack.enter_context(services)]
            segment, pid = stack.enter_context(ways.serving(uris, str(self.folder)))
            program = stack.enter_context(programs.running(self.caller, 'iblb', segment))
            yield self._idle(pid)
            contestants: dict[str, Contestant] = {
                'worker': lambda count, pause: program.ask('call', count, pause, PING)
            }
            if sys.platform == 'linux':  # macOS has no such sockets
                path = 'seqpacket'
                stack.enter_context(programs.peer('seqpacket', path, cwd=str(self.folder)))
                contestants['SEQPACKET'] = self._caller(stack, PING, 'seqpacket', path)
            if library := self._library():
                endpoint = 'ipc://echo'
                stack.enter_context(programs.peer('echo', endpoint, cwd=str(self.folder)))
                contestants['ZeroMQ echo'] = self._caller(stack, PING, 'zmq', str(library), endpoint)
            title = 'PING, C program, worker and back'
            yield from self._compared('ping', title, contestants, {'ZeroMQ echo': 0.5, 'SEQPACKET': 1.2})
            yield self._processor(program, pid)
            times = [program.ask('send', self.count, 0, PING) for _ in range(self.rounds)]
            p50, p99 = (seconds * 1e9 for seconds in statistics.summary(times))
            yield Row('send', 'iblb_send_msgpack of 128 bytes', 'ns', '≤ 100 ns', p50, p99, reached=p50 <= 100)
            yield self._notified('notify', program, 120_000)
        with ExitStack() as stack:
            journal = self.folder / 'journal.jsonl'
            segment, _ = stack.enter_context(ways.serving([], str(self.folder), '--journal', str(journal)))
            program = stack.enter_context(programs.running(self.caller, 'iblb', segment))
            row = self._notified('notify_journal', program, 60_000)
        gaps = [entry for entry in map(json.loads, journal.open()) if entry.get('kind') == 'gap']
        row.title, row.aim = row.title + ', with a journal', row.aim + ', no gap'
        row.note, row.reached = f'{len(gaps)} gaps' if gaps else 'no gap', bool(row.reached and not gaps)
        yield row

    def _idle(self, pid: int) -> Row:
        row = Row('idle', 'processor time of an idle worker', '% of a core', '≤ 0.1 %')
        seconds, before = max(1.0, min(10.0, self.count / 10)), programs.processor_time(pid)
        time.sleep(seconds)
        after = programs.processor_time(pid)
        if before is None or after is None:
            row.note = 'only Linux tells the processor time of threads'
            return row
        row.value = (after - before) / seconds * 100
        row.reached = row.value <= 0.1
        return row

    def _processor(self, program: programs.Program, pid: int) -> Row:
        row = Row('ping_processor', 'processor time of the worker for one PING', 'µs', '≤ 60 µs')
        used = []
        for _ in range(self.rounds):
            before = programs.processor_time(pid)
            program.ask('call', self.count, 0, PING)
            after = programs.processor_time(pid)
            if before is None or after is None:
                row.note = 'only Linux tells the processor time of threads'
                return row
            used.append([(after - before) / self.count * 1e6])
        row.value, row.p99 = statistics.summary(used).p50, None
        row.reached = row.value <= 60
        return row

    def _notified(self, key: str, program: programs.Program, least: int) -> Row:
        count = 50 * self.count
        rates = [[count / program.ask('notify', count, 0, PING)[0]] for _ in range(self.rounds)]
        rate = statistics.summary(rates).p50
        title = 'notifications (PING) taken, carried out and done with'
        return Row(key, title, '/s', f'≥ {least:,} a second', rate, reached=rate >= least)


def unmeasured(error: BenchError) -> Row:
    """Return what stands in place of the rows that could not be measured."""
    return Row('not_measured', 'what needs the C program', '', '', note=str(error))
