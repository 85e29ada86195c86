"""The operators of Bonsai as a program of the tests: compiled as Bonsai compiles them, and run by mono, one case a run.

`BonsaiCore.cs` stands for the little of Bonsai.Core that they need; the compiled operators lie in a folder of their
own, as Bonsai's temporary one, and run in the kit's folder.
"""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

from guides import environment, run
from peers import eventually

HERE = Path(__file__).with_name('bonsai')
# What Bonsai 2.6.3 gives to the compiler, whatever Extensions.csproj says; less System.Drawing, which plain mono lacks.
REFERENCES = ['System', 'System.Core', 'System.Xml', 'System.Reactive.Linq', 'Bonsai.Core']
RX = ['System.Reactive.Core', 'System.Reactive.Interfaces', 'System.Reactive.Linq']
STRICT = ['mcs', '-langversion:5', '-warnaserror+', '-nologo', '-noconfig']


class Operators:
    """One run of a case: what it prints, and the go-ahead where it pauses.

    Parameters
    ----------
    program : Path
        Operators.exe.
    place : Path
        The folder of the kit, which is that of the workflow.
    *words : str
        The case and its arguments.
    """

    def __init__(self, program: Path, place: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            ['mono', str(program), *words],
            cwd=place,
            env=environment(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip('\n') for line in self.process.stdout)

    def until(self, line: str) -> None:
        """Wait for a line."""
        eventually(lambda: line in self.lines or not self._reader.is_alive(), 20)
        assert line in self.lines, self.report()

    def go(self) -> None:
        """Let it go on where it pauses."""
        assert self.process.stdin is not None
        self.process.stdin.write('\n')
        self.process.stdin.flush()

    def report(self) -> str:
        """Return what it wrote."""
        if self.process.poll() is None:
            self.process.kill()
        assert self.process.stderr is not None
        return '\n'.join([*self.lines, self.process.stderr.read()])

    def end(self) -> list[str]:
        """Wait for its end, which is to be a good one, and return what it printed."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(30) == 0, self.report()
        self._reader.join(5)
        return self.lines

    def of(self, name: str) -> list[str]:
        """Return what it said under a name."""
        return [line.removeprefix(f'{name}: ') for line in self.lines if line.startswith(f'{name}: ')]


def compile_operators(kit: Path, place: Path) -> None:
    """Compile the operators of a kit and the program of the tests into a folder."""
    extensions = sorted((kit / 'Extensions').rglob('*.cs'))

    def compile_(output: str, sources: list[Path], references: list[str], kind: str = 'library') -> None:
        words = [*STRICT, f'-target:{kind}', f'-out:{output}', *(f'-r:{name}.dll' for name in references), *sources]
        done = run(words, place)
        assert done.returncode == 0, done.stderr

    core = ['System', 'System.Core', 'System.Xml']
    compile_('Bonsai.Core.dll', [HERE / 'BonsaiCore.cs'], [*core, *RX])
    compile_('Extensions.dll', extensions, REFERENCES)
    programs = [HERE / name for name in ('Operators.cs', 'Serving.cs', 'Workflow.cs')]
    compile_('Operators.exe', programs, [*core, *RX, 'Bonsai.Core', 'Extensions'], 'exe')
