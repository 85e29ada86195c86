"""Programs for Windows that are run by Wine on Linux.

The environment names the commands, as ``.ci/windows-setup`` prints them: ``WINE`` runs a 64-bit program,
``WINE_PYTHON`` is Windows Python, ``WINE_DOTNET`` is .NET. ``IBLBRIDGE_WHEEL`` is the wheel that is tested.
"""

from __future__ import annotations

import os
import queue
import shlex
import subprocess
import threading
import time
from collections.abc import Mapping

import pytest

PATIENCE = 110.0  # s; each of Wine's first steps may take some


def command(name: str) -> list[str]:
    """Return the words of WINE, WINE_PYTHON or WINE_DOTNET."""
    if not os.environ.get(name):
        pytest.fail(f'{name} is not set: eval "$(bash .ci/windows-setup)", or run .ci/windows')
    return shlex.split(os.environ[name])


def windows(path: object) -> str:
    """Return a path as Windows programs see it."""
    return 'Z:' + str(path).replace('/', '\\')


class Program:
    """A program whose output is read as it comes; a context manager that ends it.

    Parameters
    ----------
    words : sequence of object
        The command.
    environment : mapping of str to str
        More variables.
    """

    def __init__(self, words: list[object], environment: Mapping[str, str] = {}, **options: object) -> None:  # noqa: B006
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            list(map(str, words)), stdin=pipe, stdout=pipe, stderr=pipe, env=os.environ | environment, **options
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.said: dict[str, list[str]] = {'out': [], 'err': []}
        self._readers = [
            threading.Thread(target=self._read, args=(stream, name), daemon=True)
            for stream, name in ((self.process.stdout, 'out'), (self.process.stderr, 'err'))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, name: str) -> None:
        for line in stream:
            text = line.decode(errors='replace').rstrip('\r\n')
            self.said[name].append(text)
            if name == 'out':
                self.lines.put(text)

    def line(self, begins: str = '', timeout: float = PATIENCE) -> str:
        """Return the next line that begins so."""
        until = time.monotonic() + timeout
        while True:
            try:
                found = self.lines.get(timeout=max(until - time.monotonic(), 0.01))
            except queue.Empty:
                raise AssertionError(f'it did not say {begins!r} in time, but {self.said}') from None
            if found.startswith(begins):
                return found

    def write(self, text: str) -> None:
        """Write a line to its standard input."""
        self.process.stdin.write(text.encode() + b'\n')
        self.process.stdin.flush()

    def end(self, timeout: float = PATIENCE) -> int:
        """Close its standard input and return its exit status."""
        if not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f'it does not end; it said {self.said}') from None
        for reader in self._readers:
            reader.join(2)
        return status

    def kill(self) -> None:
        """End it as TerminateProcess does."""
        self.process.kill()
        self.process.wait(10)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        if not self.process.stdin.closed:
            self.process.stdin.close()


def run(words: list[object], environment: Mapping[str, str] = {}, timeout: float = PATIENCE) -> tuple[int, str, str]:  # noqa: B006
    """Run a program to its end; return exit status, standard output and standard error."""
    with Program(words, environment) as program:
        status = program.end(timeout)
        return status, '\n'.join(program.said['out']), '\n'.join(program.said['err'])
