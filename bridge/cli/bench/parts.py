"""The parts of the table: what is measured, beside what, and what is aimed at."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bridge.cli.bench import peers, programs, statistics, ways
from bridge.cli.bench.programs import Program
from bridge.cli.bench.rows import FAULTS, Contestant, Part, Row, compare, reached
from bridge.numbers import MESSAGES

EXPINIT, EXPSTART, EXPINTERRUPT, PING = (MESSAGES[it] for it in ('EXPINIT', 'EXPSTART', 'EXPINTERRUPT', 'PING'))
PAUSES = ((0.0, '', ''), (0.001, '_paused', ', 1 ms between'))  # s; and its name in keys and titles
SKEWED = 8  # services
NO_STAMPS = 'only the kernel of Linux stamps datagrams as they arrive'
NO_TIMES = 'only Linux tells the processor time of threads'


@dataclass
class Bench:
    """What all parts share.

    Parameters
    ----------
    folder : Path
        For what is built and written.
    rounds, count : int
        How many turns each contestant has, and how many commands in each.
    progress : callable
        Is told the title of each row before it is measured.
    """

    folder: Path
    rounds: int
    count: int
    progress: Callable[[str], object] = lambda title: None

    def rows(self) -> Iterator[Row]:
        """Measure, and yield each row when it is there."""
        try:
            self.caller = programs.build(self.folder)
        except FAULTS as e:
            yield Row('not_measured', 'what needs the C program', '', '', note=str(e), failed=True)
            return
        self.responder = ways.responder(str(self.folder))
        for part in self.parts():
            yield from part.rows(self.progress)

    def parts(self) -> Iterator[Part]:
        """Give the parts, each with processes of its own."""
        aims = {'ZeroMQ bridge': 0.7, 'bare asyncio': 1.6}
        yield self._commands('stock', 'C program, one stock iblutil service and back', ways.stock, aims)
        for n, zmq, bare in ((1, 0.6, 2.0), (2, 0.5, 1.6), (8, 0.35, 1.3)):
            title = f'C program, {n} fast C service{"s" * (n > 1)} and back'
            aims = {'ZeroMQ bridge': zmq, 'bare asyncio': bare}
            yield self._commands(f'fast_{n}', title, partial(ways.running, self.responder, n), aims)
        yield self._single('idle', 'processor time of an idle worker', self._idle)
        aims = {'ZeroMQ echo': 0.5, 'SEQPACKET': 1.2}
        yield self._compared('ping', 'PING, C program, worker and back', self._pingers, aims)
        yield self._single('ping_processor', 'processor time of the worker for one PING', self._processor)
        yield self._single('send', 'iblb_send_msgpack of 128 bytes, worker awake', self._sends)
        title = 'notifications (PING) taken, carried out and done with'
        yield self._single('notify', title, self._notifications)
        yield self._single('notify_journal', f'{title}, with a journal', self._journal)
        title = f"skew: first to last of {SKEWED} services' datagrams of one EXPSTART"
        yield self._compared('skew', title, self._starters, {'C loop of sendto': 1.5})
        title = 'an event from a service to the C program'
        yield self._compared('event', title, self._tellers, {'PING one way': 1.3})

    # --- what several parts need ---

    def _compared(
        self, key: str, title: str, begin: Callable[[ExitStack], dict[str, Contestant]], aims: dict[str, float]
    ) -> Part:
        """Return a part of two rows, without and with a pause; of the contestants that begin, ours is ``worker``."""
        titles = {key + suffix: title + when for _, suffix, when in PAUSES}

        def measure(stack: ExitStack) -> Iterator[Row]:
            contestants = begin(stack)
            aim = ', '.join(f'≤ {most} × {peer}' for peer, most in aims.items())
            if not contestants:
                yield from (Row(name, text, '', aim, note=NO_STAMPS) for name, text in titles.items())
                return
            for pause, suffix, when in PAUSES:
                times = compare(contestants, self.rounds, self.count, pause)
                ours = times.pop('worker')
                against = {peer: statistics.ratio(ours, theirs) for peer, theirs in times.items()}
                p50, p99 = (seconds * 1e6 for seconds in statistics.summary(ours))
                yield Row(key + suffix, title + when, 'µs', aim, p50, p99, against, reached(against, aims))

        return Part(titles, measure)

    def _single(self, key: str, title: str, fill: Callable[[ExitStack, Row], None]) -> Part:
        """Return a part of one row, which is filled in."""

        def measure(stack: ExitStack) -> Iterator[Row]:
            row = Row(key, title, '', '')
            fill(stack, row)
            yield row

        return Part({key: title}, measure)

    def _worker(self, stack: ExitStack, services: int = 1, *more: str) -> tuple[Program, int]:
        """Run a worker with so many fast services and the C program; return that, and the worker's process."""
        ports = stack.enter_context(ways.running(self.responder, services)) if services else []
        segment, pid = self._serving(stack, [f'udp://127.0.0.1:{port}' for port in ports], *more)
        return self._program(stack, 'iblb', segment), pid

    def _serving(self, stack: ExitStack, uris: list[str], *more: str) -> tuple[str, int]:
        return stack.enter_context(ways.serving(uris, str(self.folder), *more))

    def _program(self, stack: ExitStack, *words: str) -> Program:
        return stack.enter_context(programs.running(self.caller, *words, cwd=str(self.folder)))

    def _peer(self, stack: ExitStack, kind: str, where: str, *uris: str) -> None:
        stack.enter_context(programs.peer(kind, where, *uris, cwd=str(self.folder)))

    # --- the rows that stand beside others ---

    def _commands(
        self, key: str, title: str, services: Callable[[], AbstractContextManager[list[int]]], aims: dict[str, float]
    ) -> Part:
        def begin(stack: ExitStack) -> dict[str, Contestant]:
            uris = [f'udp://127.0.0.1:{port}' for port in stack.enter_context(services())]
            segment, _ = self._serving(stack, uris)
            contestants = {'worker': calls(self._program(stack, 'iblb', segment), EXPINIT)}
            if library := peers.libzmq():
                endpoint = f'ipc://{key}'
                self._peer(stack, 'bridge', endpoint, *uris)
                contestants['ZeroMQ bridge'] = calls(self._program(stack, 'zmq', str(library), endpoint), EXPINIT)
            contestants['bare asyncio'] = repeated(stack.enter_context(ways.bare(uris)))
            return contestants

        return self._compared(key, title, begin, aims)

    def _pingers(self, stack: ExitStack) -> dict[str, Contestant]:
        contestants = {'worker': calls(self._worker(stack)[0], PING)}
        if sys.platform == 'linux':  # macOS has no such sockets
            self._peer(stack, 'seqpacket', 'seqpacket')
            contestants['SEQPACKET'] = calls(self._program(stack, 'seqpacket', 'seqpacket'), PING)
        if library := peers.libzmq():
            self._peer(stack, 'echo', 'ipc://echo')
            contestants['ZeroMQ echo'] = calls(self._program(stack, 'zmq', str(library), 'ipc://echo'), PING)
        return contestants

    def _witness(self, stack: ExitStack, count: int) -> tuple[Program, list[str]]:
        """Run services that tell when something reached them; return their program and ports."""
        witness = stack.enter_context(programs.running(programs.build(self.folder, 'witness'), str(count)))
        return witness, witness.more.split()

    def _starters(self, stack: ExitStack) -> dict[str, Contestant]:
        if sys.platform != 'linux':
            return {}
        witness, ports = self._witness(stack, SKEWED)
        segment, _ = self._serving(stack, [f'udp://127.0.0.1:{port}' for port in ports])

        def skews(program: Program) -> Contestant:
            def contestant(count: int, pause: float) -> list[float]:
                program.ask('call', count, pause, EXPSTART)
                return witness.ask('skew', count, 0, EXPSTART)

            return contestant

        return {
            'worker': skews(self._program(stack, 'iblb', segment)),
            'C loop of sendto': skews(self._program(stack, 'loop', *ports)),
        }

    def _tellers(self, stack: ExitStack) -> dict[str, Contestant]:
        if sys.platform != 'linux':
            return {}
        _, (port,) = self._witness(stack, 1)
        segment, _ = self._serving(stack, [f'udp://127.0.0.1:{port}'])
        program = self._program(stack, 'event', segment, port)
        program.ask('call', 1, 0, EXPINIT)  # from now on the service knows whom to tell
        there_and_back = calls(program, PING)
        return {
            'worker': calls(program, EXPINTERRUPT),
            'PING one way': lambda count, pause: [seconds / 2 for seconds in there_and_back(count, pause)],
        }

    # --- the rows that stand alone ---

    def _idle(self, stack: ExitStack, row: Row) -> None:
        row.unit, row.aim = '% of a core', '≤ 0.1 %'
        _, pid = self._worker(stack)
        seconds, before = max(1.0, min(10.0, self.count / 10)), programs.processor_time(pid)
        time.sleep(seconds)
        after = programs.processor_time(pid)
        if before is None or after is None:
            row.note = NO_TIMES
            return
        row.value = (after - before) / seconds * 100
        row.reached = row.value <= 0.1

    def _processor(self, stack: ExitStack, row: Row) -> None:
        row.unit, row.aim = 'µs', '≤ 60 µs'
        program, pid = self._worker(stack)
        program.ask('call', 10, 0, PING)
        used = []
        for _ in range(self.rounds):
            before = programs.processor_time(pid)
            program.ask('call', self.count, 0, PING)
            after = programs.processor_time(pid)
            if before is None or after is None:
                row.note = NO_TIMES
                return
            used.append([(after - before) / self.count * 1e6])
        row.value = statistics.summary(used).p50
        row.reached = row.value <= 60

    def _sends(self, stack: ExitStack, row: Row) -> None:
        row.unit, row.aim = 'ns', '≤ 100 ns'
        program, _ = self._worker(stack)
        times = [program.ask('send', self.count, 0, PING) for _ in range(self.rounds)]
        row.value, row.p99 = (seconds * 1e9 for seconds in statistics.summary(times))
        row.reached = row.value <= 100

    def _notifications(self, stack: ExitStack, row: Row) -> None:
        self._notified(row, self._worker(stack)[0], 120_000)

    def _journal(self, stack: ExitStack, row: Row) -> None:
        journal = self.folder / 'journal.jsonl'
        with ExitStack() as until_written:
            program, _ = self._worker(until_written, 0, '--journal', str(journal))
            self._notified(row, program, 60_000)
        with journal.open(encoding='utf-8') as entries:
            gaps = sum(json.loads(entry).get('kind') == 'gap' for entry in entries)
        row.aim += ', no gap'
        row.note, row.reached = f'{gaps} gaps' if gaps else 'no gap', bool(row.reached and not gaps)

    def _notified(self, row: Row, program: Program, least: int) -> None:
        count = 50 * self.count
        rates = [[count / program.ask('notify', count, 0, PING)[0]] for _ in range(self.rounds)]
        row.unit, row.aim, row.value = '/s', f'≥ {least:,} a second', statistics.summary(rates).p50
        row.reached = row.value >= least


def calls(program: Program, message: int) -> Contestant:
    """Return the contestant that is a C program, which sends a message and waits for what comes of it."""
    return lambda count, pause: program.ask('call', count, pause, message)


def repeated(once: Callable[[], float]) -> Contestant:
    """Return the contestant that is a function of this process."""

    def contestant(count: int, pause: float) -> list[float]:
        times = []
        for _ in range(count):
            times.append(once())
            time.sleep(pause)
        return times

    return contestant
