"""Runs the actors of the crash tests (``tests/crash``) as Windows programs.

One program, host.c, starts, kills and stops them all, as other Windows programs would: to start one through Wine's
own command takes much longer, and only a Windows program can end another one as TerminateProcess does. Segments,
logs and counts are files that both sides see.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

from actors import ACTOR, CSRC, INCLUDES, WRAP, Host, Process
from programs import build, command, run
from sources import library
from wine import PATIENCE, windows

HERE = Path(__file__).parent
KILLED_STATUS = 0xDEAD  # system_windows.h
MOST = 8192  # host.c
LIFE = 300.0  # s: no actor lives for longer
ORDERS = {SIGTERM: 'ask', SIGKILL: 'kill', SIGSTOP: 'stop', SIGCONT: 'go'}


def build_actor(folder: Path, sources: Path = CSRC, bits: int = 64) -> Path:
    """Compile actor.c with the library's sources, or with a copy of them that has a bug in it."""
    parts = [*ACTOR, *library('Windows', sources)]
    return build(folder / f'actor-{bits}.exe', parts, *INCLUDES, *WRAP, bits=bits)


def fixed_addresses() -> list[str]:
    """Return what keeps addresses from being random, where that can be had.

    Else a part of Wine comes to lie where another has to be in one start of some thousands, and the program ends.
    """
    words = ['setarch', '-R']
    probe = [*words, 'true']
    possible = shutil.which(words[0]) and subprocess.run(probe, check=False, capture_output=True).returncode == 0
    return words if possible else []


class Actor(Process):
    """A Windows program, waited for and signalled through the host."""

    def __init__(self, host: WindowsHost, number: int) -> None:
        self.pid = 0
        self.code: int | None = None
        self._host, self._number = host, number
        self._changed = threading.Condition()
        self._still = False

    def hear(self, what: str, value: int) -> None:
        """Take what the host says of it."""
        with self._changed:
            if what == 'pid':
                self.pid = value
            elif what == 'still':
                self._still = True
            else:
                self.code = -SIGKILL if value == KILLED_STATUS else value
            self._changed.notify_all()

    def started(self) -> None:
        """Wait until it has a number."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.pid or self.code is not None, PATIENCE), 'it does not start'

    def wait(self, *, stops: bool = False) -> int | None:
        """Return the exit code (negative: a signal), or None if it stands still."""
        with self._changed:
            heard = self._changed.wait_for(lambda: self.code is not None or (stops and self._still), LIFE)
            assert heard, f'an actor lives longer than {LIFE} s; {self._host.noise}'
            self._still = False
            return self.code

    def send(self, number: int) -> None:
        """Do what comes nearest to a signal."""
        if self.code is None:
            self._host.tell(ORDERS[number], self._number)  # type: ignore[index]


class WindowsHost(Host):
    """The host program.

    Parameters
    ----------
    folder : pathlib.Path
        Where it is built.
    bits : int
        32: it runs where 32-bit actors can run as well.
    """

    pace = 0.005  # all share one wineserver
    life = 0.25  # a program takes some 30 ms to start

    def __init__(self, folder: Path, bits: int = 64) -> None:
        program = build(folder / 'host.exe', [HERE / 'host.c'])
        words = [*fixed_addresses(), *command(bits), program]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self._bits = bits
        self._offsets: dict[str, int] = {}
        self._numbers = itertools.count()
        self._actors: dict[int, Actor] = {}
        self._guard = threading.Lock()
        self.noise: list[str] = []
        """list of str: what else was said, by a program that crashed for example."""
        self._clock: list[int] = []
        self._clock_came = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.ahead_ns = self._compare_clocks()

    def tell(self, *words: object) -> None:
        """Give an order."""
        assert self._process.stdin
        with self._guard:
            self._process.stdin.write('\t'.join(map(str, words)) + '\n')
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            answer = re.fullmatch(r'(pid|still|ended|clock) (\d+) ?(\d*)\s*', line)
            if not answer:
                self.noise.append(line.rstrip())
            elif answer[1] == 'clock':
                self._clock.append(int(answer[3]))
                self._clock_came.set()
            else:
                self._actors[int(answer[2])].hear(answer[1], int(answer[3] or 0))

    def _compare_clocks(self) -> int:
        best = (1 << 62, 0)
        for _ in range(20):
            self._clock_came.clear()
            before = time.monotonic_ns()
            self.tell('clock')
            assert self._clock_came.wait(PATIENCE), 'the host does not answer'
            after = time.monotonic_ns()
            best = min(best, (after - before, self._clock[-1] - (before + after) // 2))
        return best[1]

    def start(self, program: Path, arguments: Iterable[object], environment: Mapping[str, str]) -> Process:
        """Start an actor."""
        number = next(self._numbers) % MOST
        self._actors[number] = actor = Actor(self, number)
        line = ' '.join([f'"{windows(program)}"', *(f'"{word}"' for word in map(str, arguments))])
        self.tell('start', number, line, *(f'{name}={value}' for name, value in environment.items()))
        actor.started()
        return actor

    def name(self, path: Path) -> str:
        """Return a path as actors write it."""
        return windows(path)

    def offsets(self, program: Path) -> dict[str, int]:
        """Return where to find what in a segment."""
        if not self._offsets:
            self._offsets = json.loads(run(program, 'offsets', bits=self._bits, timeout=PATIENCE).stdout)
        return self._offsets

    def close(self) -> None:
        """End it, and all that it has started."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join(5)
