"""What the crash tests share: building actor.c, running it, looking into its segment, and the verdict on its log.

The verdict is the heart: `violations` knows nothing of rings and states, only what each actor wrote down before and
after each call, and what the worker wrote down where a datagram would have left.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import signal
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sources import library

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / 'csrc'
ACTOR = [HERE / 'actor.c', HERE / 'fault.c']
INCLUDES = ['-DIBLB_FAULT', f'-I{HERE}', f'-I{HERE.parent / "c"}']
WRAPPED = ('os_lock', 'os_unlock', 'os_publish', 'os_create', 'os_close', 'os_wake', 'os_park', 'os_clock_ns')
WRAP = [f'-Wl,{",".join(f"--wrap={name}" for name in WRAPPED)}']
KILLED = 137

NO_WORKER, NOT_SENT, EXPIRED, ABORTED, UNKNOWN = -8018, -8053, -8072, -8073, -8074
NEVER_SENT = {NO_WORKER, NOT_SENT, EXPIRED, ABORTED}

OVERDUE = 10_000
"""int: ms; a wait of 100 ms that takes longer hangs. The promise is 200 ms; a busy machine must not fail a test."""
FREE_WITHIN = 20.0
"""float: s from a dead client's last answer until its slot is free. The promise is 1 s; the measured one is printed."""


def compiler() -> str | None:
    """Return the C compiler's path, or None."""
    return shutil.which(os.environ.get('CC', 'cc'))


@contextlib.contextmanager
def folder_in_memory(what: str, otherwise: Path = Path('/tmp')) -> Iterator[Path]:
    """A directory of our own in memory if there is one, else elsewhere; removed at the end."""
    base = Path('/dev/shm') if os.access('/dev/shm', os.W_OK) else otherwise
    path = base / f'iblbridge-{what}-{os.getpid()}'
    path.mkdir(mode=0o700)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def need_compiler() -> None:
    """Skip the test if there is no C compiler; in CI that is a failure."""
    if compiler() is None:
        if 'CI' in os.environ:
            pytest.fail('there is no C compiler')
        pytest.skip('there is no C compiler')


def build(folder: Path, sources: Path = CSRC, *, more: Iterable[str] = (), actor: str = 'actor') -> Path:
    """Compile the actors with the library's sources and a stop at every access of shared memory.

    Parameters
    ----------
    folder : pathlib.Path
        Where the program is put.
    sources : pathlib.Path
        The library's sources, or a copy of them with a bug in it.
    more : iterable of str
        Further arguments of the compiler.
    actor : str
        Which file: actor, serving.
    """
    program = folder / actor
    command = [
        compiler() or 'cc', '-std=c11', '-O1', '-g', '-pthread',
        '-D_POSIX_C_SOURCE=200809L', '-D_DEFAULT_SOURCE', *INCLUDES, f'-I{sources}',
        *map(str, [HERE / f'{actor}.c', HERE / 'fault.c', *library(csrc=sources)]), *WRAP, *more, '-o', str(program),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return program


# --- processes ---


class Process:
    """A child that is waited for by its id and signalled through its descriptor."""

    def __init__(self, program: Path, arguments: Iterable[object], environment: Mapping[str, str]) -> None:
        words = [str(program), *map(str, arguments)]
        self.pid = os.posix_spawn(program, words, dict(environment))
        self._descriptor = os.pidfd_open(self.pid)
        self.code: int | None = None

    def wait(self, *, stops: bool = False) -> int | None:
        """Return the exit code (negative: a signal), or None if the child has only been stopped."""
        if self.code is None:
            _, status = os.waitpid(self.pid, os.WUNTRACED if stops else 0)
            if os.WIFSTOPPED(status):
                return None
            self.code = os.waitstatus_to_exitcode(status)
            os.close(self._descriptor)
        return self.code

    def send(self, number: int) -> None:
        """Send a signal; nothing happens if the child is gone."""
        if self.code is None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._descriptor, number)


class Host:
    """Where actors run, and how they name what is here: this system. See also ``windows/host.py``."""

    ahead_ns = 0
    """int: how far the clock of the actors is ahead of ours."""
    lanes = 6
    """int: rigs at a time; most of a turn is waiting."""
    pace = 0.0005
    """float: s between two turns of a bystander; nothing waits for it."""
    life = 0.05
    """float: s, about how long an actor lives until it is killed at random: long enough to come to something."""

    def start(self, program: Path, arguments: Iterable[object], environment: Mapping[str, str]) -> Process:
        """Start an actor."""
        return Process(program, arguments, environment)

    def name(self, path: Path) -> str:
        """Return a path as actors write it."""
        return str(path)

    def offsets(self, program: Path) -> dict[str, int]:
        """Return where to find what in a segment."""
        return json.loads(subprocess.check_output([program, 'offsets']))


class Rig:
    """One segment, its log, and the actors on it.

    Parameters
    ----------
    program : pathlib.Path
        What `build` made.
    folder : pathlib.Path
        Of this rig alone.
    slots : int
        Of the segment; the last is for tools.
    patience : float
        How long clients wait for an answer before they call it lost, s.
    host : Host
        Where they run.
    """

    def __init__(
        self, program: Path, folder: Path, slots: int = 16, patience: float = 20.0, host: Host | None = None
    ) -> None:
        folder.mkdir(mode=0o700)
        self.folder, self.program, self.slots, self.patience = folder, program, slots, patience
        self.host = host or Host()
        self.log = folder / 'log'
        self.board = folder / 'board'
        self.path = folder / 'rig'
        self._offsets = self.host.offsets(program)
        self._started: list[Process] = []
        self._segment: mmap.mmap | None = None
        self._board: mmap.mmap | None = None

    def start(self, *arguments: object, at: str = '', action: str = 'exit', count: Path | None = None) -> Process:
        """Start an actor; `at`: the point at which it exits or stops, section:number."""
        environment = {
            'IBLBRIDGE_DIR': self.host.name(self.folder),
            'CRASH_SEGMENT': 'rig',
            'CRASH_LOG': self.host.name(self.log),
            'CRASH_BOARD': self.host.name(self.board),
            'CRASH_SLOTS': str(self.slots),
            'CRASH_PACE_US': str(int(self.host.pace * 1e6)),
            'CRASH_PATIENCE_MS': str(int(self.patience * 1000)),
            'IBLB_FAULT_ACTION': action,
        }
        if at:
            environment['IBLB_FAULT_AT'] = at
        if count:
            environment['IBLB_FAULT_COUNT'] = self.host.name(count)
        process = self.host.start(self.program, arguments, environment)
        self._started.append(process)
        return process

    def claimed(self) -> dict[str, int]:
        """Return the names of the clients whose slots are not free, and the slots' states."""
        if self._segment is None:
            with self.path.open('rb') as file:
                self._segment = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        names = {}
        for slot in range(self.slots):
            base = self._offsets['first'] + slot * self._offsets['slot']
            (state,) = struct.unpack_from('=I', self._segment, base)
            if state:
                names[self._name(base)] = state
        return names

    def _name(self, base: int) -> str:
        assert self._segment is not None
        start = base + self._offsets['name']
        return self._segment[start : start + 64].split(b'\0')[0].decode()

    def turns(self) -> tuple[int, float, float]:
        """Return the bystander's turns, the longest of them and how long the one under way takes, s."""
        if self._board is None:
            if not self.board.exists() or self.board.stat().st_size < 4096:
                return 0, 0.0, 0.0
            with self.board.open('r+b') as file:
                self._board = mmap.mmap(file.fileno(), 4096)
        turns, began, longest = struct.unpack_from('=QQQ', self._board)
        return turns, longest / 1e9, (time.monotonic_ns() + self.host.ahead_ns - began) / 1e9 if began else 0.0

    def lines(self) -> list[Line]:
        """Return what all actors wrote, in the order of time, by our clock; each may have a log of its own."""
        lines = [line for path in self.folder.glob(f'{self.log.name}*') for line in read_log(path)]
        for line in lines:
            line.ns -= self.host.ahead_ns
        return sorted(lines, key=lambda line: line.ns)

    def close(self) -> None:
        """End what still runs, let go of the mappings, and delete everything. Harmless twice."""
        for process in self._started:
            if process.code is None:
                process.send(signal.SIGKILL)
                process.wait()
        self._started.clear()
        for mapping in (self._segment, self._board):
            if mapping is not None:
                mapping.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def until(condition: Any, patience: float = 20.0) -> bool:
    """Wait for a condition; return whether it came."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0005)
    return True


# --- the log and the verdict ---


@dataclass
class Line:
    """One line of the log."""

    ns: int
    who: str
    what: str
    command: str
    rest: list[str]


def read_log(path: Path) -> list[Line]:
    """Read all whole lines; one that makes no sense (a command's name came from scribbled memory) is itself wrong."""
    lines = []
    texts = path.read_text(errors='replace').split('\n') if path.exists() else []
    for text in (text.removesuffix(' .') for text in texts if text.endswith(' .')):
        ns, *words = text.split(' ')
        if ns.isdecimal() and len(words) > 2:
            lines.append(Line(int(ns), words[0], words[1], words[2], words[3:]))
        else:
            lines.append(Line(0, 'log', 'wrong', text[:80], ['cannot be read']))
    return lines


@dataclass
class Command:
    """What the log says of one command."""

    name: str
    client: str = ''
    said: Counter[str] = field(default_factory=Counter)
    codes: list[int] = field(default_factory=list)
    dispatched: int = 0
    refused: set[int] = field(default_factory=set)
    orphans: int = 0
    died: int = -1


def commands_of(lines: Iterable[Line]) -> tuple[dict[str, Command], list[str]]:
    """Return what was logged of each command, and what actors themselves found wrong."""
    commands: dict[str, Command] = {}
    wrong = []
    for line in lines:
        if line.what == 'wrong':
            wrong.append(f'{line.who}: {line.command} {" ".join(line.rest)}')
        if line.what == 'waited' and int(line.rest[0]) > OVERDUE:
            wrong.append(f'{line.who}: a wait of 100 ms for {line.command} took {line.rest[0]} ms')
        if line.command == '-':
            continue
        command = commands.setdefault(line.command, Command(line.command))
        if line.what == 'dispatch':
            command.dispatched += 1
        elif line.what == 'refused':
            command.refused.add(int(line.rest[0]))
        elif line.what == 'orphan':
            command.orphans += 1
        elif line.what == 'died':
            command.died = int(line.rest[0])
        if line.who != 'worker':
            command.client = line.who
            command.said[line.what] += 1
            if line.what == 'got':
                command.codes.append(int(line.rest[0]))
    return commands, wrong


def _violations_of(command: Command, dead: bool, worker_died: bool) -> Iterable[str]:
    said, code = command.said, command.codes[0] if command.codes else None
    withdrawn = said['withdrawn'] or command.died == 2 or code in (NO_WORKER, NOT_SENT)
    published = said['sent'] or said['notified'] or command.died > 0
    if command.dispatched > 1:
        yield f'dispatched {command.dispatched} times'
    if not said['try']:
        yield 'nobody sent it'
    if len(command.codes) > 1:
        yield f'answered {len(command.codes)} times'
    if command.dispatched and (withdrawn or code in NEVER_SENT):
        yield f'dispatched, and its client was told that it is not ({code or "withdrawn"})'
    if command.dispatched and said['unsent'] or command.died == 0 and command.dispatched:
        yield 'dispatched though it was never published'
    if code == 0 and command.dispatched != 1:
        yield f'OK, but dispatched {command.dispatched} times'
    if code == UNKNOWN and not worker_died:
        yield 'of unknown outcome, but no worker died'
    if published and not dead and not (said['notified'] or said['got'] or said['withdrawn'] or said['discarded']):
        yield 'without an answer'
    carried_out = command.dispatched or command.refused or command.orphans or withdrawn
    if published and not carried_out and not (dead and said['cancel']) and not (worker_died and code == UNKNOWN):
        yield 'lost: published, and no worker ever had it'


def violations(lines: Iterable[Line], dead: Iterable[str] = (), *, worker_died: bool = False) -> list[str]:
    """Return every broken promise, as sentences.

    Parameters
    ----------
    lines : iterable of Line
        The whole log, after everything came to rest.
    dead : iterable of str
        Clients that were killed.
    worker_died : bool
        A worker was killed.
    """
    commands, found = commands_of(lines)
    gone = set(dead)
    for command in commands.values():
        for sentence in _violations_of(command, command.client in gone, worker_died):
            found.append(f'{command.name}: {sentence}')
    return found
