"""The processes of the demo: started together, watched, and ended whatever happens.

- Signals only set a flag (`Halt`), which every wait looks at; so no exception can fall between starting a process and
  noting it.
- All children are ended in one place, with bounded waits: the end of their standard input asks, then SIGTERM, then
  SIGKILL. If this process is killed outright, the system closes those pipes, and the children end by themselves.
- The worker removes the segment; this is verified.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STARTS = 3  # tries; another program may take a port between its choice and its use
START_TIMEOUT = 30.0  # s
TICK = 0.05  # s
# The package of this process, wherever it was found: -m would look into the current directory first.
RUN = 'import sys; sys.path.insert(0, sys.argv.pop(1)); from bridge.cli import main; raise SystemExit(main())'


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class PortTaken(DemoError):
    """Another program took a port that had been free."""


class Interrupted(Exception):
    """A signal asked for the end; the argument is its name."""


class Halt:
    """The flag that signals set and every wait looks at."""

    def __init__(self) -> None:
        self.signal = ''

    def set(self, name: str) -> None:
        """Note the first signal."""
        self.signal = self.signal or name

    def check(self) -> None:
        """Raise Interrupted if there was one."""
        if self.signal:
            raise Interrupted(self.signal)


class Child:
    """An ``iblbridge`` process of ours, whose output is kept.

    Parameters
    ----------
    name : str
        What it is called in messages.
    *arguments : str
        Of the command.
    """

    def __init__(self, name: str, *arguments: str) -> None:
        import bridge

        self.name = name
        self.output: deque[str] = deque(maxlen=100)
        self.ready: list[str] = []
        # A session of its own: Ctrl-C in a terminal reaches only us, and we end our children in order.
        apart: dict[str, Any] = {'start_new_session': True}
        if sys.platform == 'win32':
            apart = {'creationflags': subprocess.CREATE_NEW_PROCESS_GROUP}
        self.process = subprocess.Popen(
            [sys.executable, '-c', RUN, str(Path(str(bridge.__file__)).parents[1]), *arguments, '--until-eof'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding='utf-8',
            errors='replace',
            **apart,
        )
        self._reader = threading.Thread(target=self._read, name=name, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line.rstrip())
            if line.startswith('READY ') and not self.ready:
                self.ready = line.rstrip().split(maxsplit=2)[1:]

    def ask_to_end(self) -> None:
        """Close its standard input."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()

    def end(self, patience: float = 5.0) -> None:
        """Return when it is gone, after at most three times `patience` (s)."""
        for step in (self.ask_to_end, self.process.terminate, self.process.kill):
            step()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
                break
        self._reader.join(1.0)

    def report(self) -> str:
        """Return how it ended and what it wrote."""
        status = self.process.poll()
        how = 'is running' if status is None else f'ended with exit status {status}'
        said = '\n'.join(f'    {line}' for line in self.output) or '    (nothing)'
        return f'{self.name} {how} and wrote:\n{said}'


@dataclass
class Rig:
    """The services and the worker of one demo.

    Parameters
    ----------
    segment : str
        The name of the segment.
    services : dict
        By name: more arguments of ``iblbridge simulate``.
    halt : Halt
        Looked at in all waits.
    worker : sequence of str
        More arguments of ``iblbridge serve``.
    """

    segment: str
    services: dict[str, list[str]]
    halt: Halt
    worker: Sequence[str] = ()
    children: dict[str, Child] = field(default_factory=dict)
    path: Path | None = None

    def start(self) -> None:
        """Start the services, and when they listen the worker; return when that is ready.

        Raises
        ------
        DemoError
            If one ended, or took more than 30 s; the message holds what it wrote.
        Interrupted
            If a signal came.
        """
        for tries_left in reversed(range(STARTS)):
            try:
                self._start()
                return
            except PortTaken:
                self.end()
                if not tries_left:
                    raise

    def _start(self) -> None:
        from bridge.services.simulate import free_port

        ports = {name: str(free_port('127.0.0.1')) for name in self.services}
        options = [option for name in ports for option in ('--service', f'{name}=udp://127.0.0.1:{ports[name]}')]
        for name, more in self.services.items():
            self.children[name] = Child(name, 'simulate', '--name', name, '--port', ports[name], *more)
        self._await_ready(ports)
        # Not before: with its segment programs may begin, and what they command must find the services.
        # It asks nobody: its services say what they hear, and let that be what the program sends.
        own = ('--no-ask', '--remove', *self.worker)
        self.children['worker'] = Child('worker', 'serve', '--segment', self.segment, *options, *own)
        self._await_ready(ports)
        self.path = Path(self.children['worker'].ready[1])

    def _await_ready(self, ports: Container[str]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not all(child.ready for child in self.children.values()):
            self.halt.check()
            for child in self.children.values():
                if (status := child.process.poll()) is not None:
                    child.end()
                    raise (PortTaken if status == 3 and child.name in ports else DemoError)(child.report())
                if time.monotonic() > deadline and not child.ready:
                    raise DemoError(f'not ready within {START_TIMEOUT:g} s: {child.report()}')
            time.sleep(TICK)

    def end(self) -> list[str]:
        """End all processes, remove what they left, and return what was not as it should be."""
        wrong = []
        for child in self.children.values():
            child.ask_to_end()
        for child in self.children.values():
            child.end()
            if child.process.returncode and child.ready:
                wrong.append(child.report())
        from bridge.segment import kept

        worker = self.children.get('worker')
        path = Path(worker.ready[1]) if worker and len(worker.ready) > 1 else None
        if path and path.exists():
            path.unlink()
            kept.forget(path)
            wrong.append(f'the worker left its segment {path} behind; it has been removed.')
        self.children.clear()
        return wrong


def run_tool(words: Sequence[str], timeout: float, halt: Halt) -> tuple[int, str, str]:
    """Run a program that is no child of the rig, and return exit status, standard output and standard error.

    Parameters
    ----------
    words : sequence of str
        The program and its arguments.
    timeout : float
        Seconds after which it is ended.
    halt : Halt
        Looked at while it runs.

    Raises
    ------
    DemoError
        If it cannot be started, or the time is up.
    Interrupted
        If a signal came.
    """
    deadline = time.monotonic() + timeout
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors='replace'
        )
    except OSError as e:
        raise DemoError(f'cannot run {words[0]}: {e.strerror}.') from e
    with process:
        try:
            while True:
                try:
                    out, err = process.communicate(timeout=TICK)
                    return process.returncode, out, err
                except subprocess.TimeoutExpired:
                    halt.check()
                    if time.monotonic() > deadline:
                        raise DemoError(f'{" ".join(words[:4])} did not end within {timeout:g} s.') from None
        finally:
            process.kill()
