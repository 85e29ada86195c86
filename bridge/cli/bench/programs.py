"""The processes of the benchmark: each ends with us, for its standard input does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PATIENCE = 120.0  # s, for one answer: nothing here takes that long
# A session of its own: Ctrl-C reaches only us, and we end who asks before who answers.
APART: dict[str, Any] = {'start_new_session': True}
if sys.platform == 'win32':
    APART = {'creationflags': subprocess.CREATE_NEW_PROCESS_GROUP}
PEER = 'import sys; sys.path.insert(0, sys.argv.pop(1)); from bridge.cli.bench.peers import main; main()'


class BenchError(Exception):
    """Something cannot be measured; the message says why."""


class Program:
    """A process that says "ready", and then answers lines with lines.

    Parameters
    ----------
    *words : str
        The program and its arguments.
    cwd : str, optional
        The folder it runs in: the path of a local socket has a bound of about 100 bytes, a name in it has not.

    Raises
    ------
    BenchError
        If it does not get ready.

    Attributes
    ----------
    more : str
        What it said behind "ready".
    """

    def __init__(self, *words: str, cwd: str | None = None) -> None:
        pipe = subprocess.PIPE
        self.process: subprocess.Popen[str] = subprocess.Popen(
            words, stdin=pipe, stdout=pipe, text=True, cwd=cwd, **APART
        )
        try:
            said, _, self.more = self._line().partition(' ')
            if said != 'ready':
                raise BenchError(f'{Path(words[0]).name} says: {f"{said} {self.more}".strip() or "nothing"}')
        except BaseException:
            self.end()
            raise

    def _line(self) -> str:
        assert self.process.stdout
        watchdog = threading.Timer(PATIENCE, self.process.kill)
        watchdog.daemon = True  # a signal may come before the next line, and nobody would cancel it
        watchdog.start()
        try:
            return self.process.stdout.readline().strip()
        finally:
            watchdog.cancel()

    def ask(self, what: str, count: int, pause: float, message: int) -> list[float]:
        """Return the times (s) of `count` times `what`, with `pause` (s) behind each; see ``caller.c``."""
        assert self.process.stdin
        with suppress(BrokenPipeError):
            self.process.stdin.write(f'{what} {count} {round(pause * 1e6)} {message}\n')
            self.process.stdin.flush()
        line = self._line()
        if not line or line.startswith('failed'):
            raise BenchError(line or 'the C program ended')
        return [int(word) / 1e9 for word in line.split()]

    def end(self) -> None:
        """Return when it is gone."""
        assert self.process.stdin and self.process.stdout
        with suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@contextmanager
def running(*words: str, cwd: str | None = None) -> Iterator[Program]:
    """Run a program that says "ready"."""
    program = Program(*words, cwd=cwd)
    try:
        yield program
    finally:
        program.end()


@contextmanager
def peer(kind: str, where: str, *uris: str, cwd: str) -> Iterator[Program]:
    """Run one of `peers`."""
    import bridge

    with running(
        sys.executable, '-c', PEER, str(Path(str(bridge.__file__)).parents[1]), kind, where, *uris, cwd=cwd
    ) as program:
        yield program


def compiler() -> str | None:
    """Return the C compiler: that of the variable CC, else the first there is."""
    return next(filter(None, map(shutil.which, (os.environ.get('CC') or 'cc', 'gcc', 'clang'))), None)


def build(folder: Path, name: str = 'caller') -> str:
    """Return one of the C programs, built in `folder` and linked with the installed library; ``caller`` is the rig's.

    Raises
    ------
    BenchError
        Without a compiler, on Windows, or if it fails; the message says what helps.
    """
    from bridge.native import PREFIX

    if sys.platform == 'win32':
        raise BenchError('the C program is for Linux and macOS')
    if not (found := compiler()):
        raise BenchError('there is no C compiler; on Debian or Ubuntu: apt install gcc')
    program, lib = folder / name, PREFIX / 'lib'
    words = [found, '-O2', f'-I{PREFIX / "include"}', str(Path(__file__).with_name(f'{name}.c')), '-o', str(program)]
    # -Xlinker, not -Wl: a folder may have a comma in its name.
    links = [f'-L{lib}', '-liblbridge', '-ldl', '-Xlinker', '-rpath', '-Xlinker', str(lib)]
    # If it is killed, it leaves its temporary files: in our folder they go with it.
    own = os.environ | {'TMPDIR': str(folder)}
    built = subprocess.run([*words, *links], check=False, capture_output=True, text=True, env=own)
    if built.returncode:
        raise BenchError(f'{found} cannot build the C program: {built.stderr.strip()[:500]}')
    return str(program)


def processor_time(pid: int) -> float | None:
    """Return what all threads of a process have used, s; None where the system does not tell."""
    try:
        tasks = [path.read_text() for path in Path(f'/proc/{pid}/task').glob('*/schedstat')]
        return sum(int(text.split()[0]) for text in tasks) / 1e9 if tasks else None
    except (OSError, ValueError, IndexError):
        return None
