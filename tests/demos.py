"""A demo that runs, and what it leaves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from peers import eventually
from systems import APART, family

MARK = 'IBLBRIDGE_TEST_MARK'
ALONE = APART or {'start_new_session': True}


class Demo:
    """A running demo, in a directory for segments of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.mark = uuid.uuid4().hex
        environment = {**os.environ, 'IBLBRIDGE_DIR': str(directory), MARK: self.mark}
        pipe = subprocess.PIPE
        words = [sys.executable, '-u', '-m', 'bridge', 'demo', *arguments]
        self.process = subprocess.Popen(
            words, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environment, **ALONE
        )
        self.output = ''

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read lines until one contains `pattern`."""
        for line in self.process.stdout:
            self.output += line
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f'{pattern} did not come:\n{self.output}')

    def await_command(self) -> None:
        """Wait until its C program runs, and has been started.

        Under Wine a Ctrl-C that comes while its main thread starts a process leaves it hanging for ever: the event is a
        Unix signal there, whose handler makes a thread, and waits for the memory allocator that fork() has locked.
        """
        eventually(
            lambda: [name for name in self.processes().values() if re.search(r'\biblb(\.exe$| call )', name)], 20
        )

    def finish(self) -> int:
        """Return the exit status, after reading the rest."""
        try:
            self.output += self.process.communicate(timeout=60)[0]
        except subprocess.TimeoutExpired:
            there = self.processes()
            for pid in there:  # on Windows a pipe that is still read cannot even be closed
                with suppress(OSError):
                    os.kill(pid, signal.SIGTERM)
            self.process.kill()
            raise AssertionError(f'it does not end; there are {[*there.values()]}:\n{self.output}') from None
        return self.process.returncode

    def processes(self) -> dict[int, str]:
        """Return all living processes that the demo or its children started, by pid."""
        return family(self.process, f'{MARK}={self.mark}')

    def left(self, patience: float = 0.0) -> list[str]:
        """Return the processes and files that are left, waiting up to `patience` (s) for there to be none."""
        end = time.monotonic() + patience
        while (left := [*self.processes().values(), *map(str, self.directory.iterdir())]) and time.monotonic() < end:
            time.sleep(0.02)
        return left


@contextmanager
def demos(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Return a function that starts a demo."""
    if sys.platform not in ('linux', 'win32'):
        pytest.skip('looks for processes in /proc')
    started: list[Demo] = []

    def start(*arguments: str) -> Demo:
        directory = tmp_path / 'Übung mit ж'
        directory.mkdir(mode=0o700)
        started.append(Demo(directory, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        each.process.stdout.close()
        assert each.left(20.0) == []
