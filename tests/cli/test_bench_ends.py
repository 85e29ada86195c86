"""However `iblbridge bench` is ended, no process and no file of it stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from systems import END_SIGNALS, ask_to_end, ctrl_c, family

from bridge.cli.bench import programs

pytestmark = [
    pytest.mark.posix('the C program is for Linux and macOS'),
    pytest.mark.skipif(not programs.compiler(), reason='there is no C compiler'),
    pytest.mark.skipif(not os.path.exists('/proc/self/environ'), reason='processes are found by their environment'),
]
MARK = 'IBLBRIDGE_TEST_MARK'


class Run:
    """A benchmark in a session of its own, with folders that nobody else uses."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.files, self.segments, self.mark = folder / 'files', folder / 'segments', uuid.uuid4().hex
        self.files.mkdir()
        self.segments.mkdir(mode=0o700)
        own = {'TMPDIR': str(self.files), 'IBLBRIDGE_DIR': str(self.segments), MARK: self.mark}
        command = [sys.executable, '-m', 'bridge', 'bench', *(options or ['--full'])]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, env=os.environ | own, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def wait_for(self, moment: str) -> None:
        """Return when it builds (``caller``'s folder is there), serves (a segment), or measures (a socket).

        The same with fast services: each row has a socket of its own.
        """
        while not {
            'builds': lambda: any(self.files.iterdir()),
            'serves': lambda: any(self.segments.rglob('*bench*')),
            'measures': lambda: any(self.files.rglob('stock')),
            'measures fast services': lambda: any(self.files.rglob('fast_1')),
        }[moment]():
            assert self.process.poll() is None
            time.sleep(0.001)

    def finish(self) -> int:
        """Return its exit status."""
        try:
            self.output, _ = self.process.communicate(timeout=60)
        finally:
            self.process.kill()
        return self.process.returncode

    def processes(self) -> dict[int, str]:
        """Return the names of all processes that it started, and its own, by their numbers."""
        return family(self.process, f'{MARK}={self.mark}')

    def left(self) -> list[str]:
        """Return the names of all processes and files that are there."""
        files = [*self.files.rglob('*'), *self.segments.rglob('*bench*')]
        return [*map(str, files), *self.processes().values()]


MOMENTS = pytest.mark.parametrize('moment', ['builds', 'serves', 'measures'])


@MOMENTS
@pytest.mark.parametrize('name', END_SIGNALS)
def test_a_signal_at_any_moment_leaves_nothing(tmp_path, moment, name):
    run = Run(tmp_path)
    run.wait_for(moment)
    ask_to_end(run.process, name)
    assert run.finish() == 128 + getattr(signal, name), run.output
    assert 'Traceback' not in run.output
    assert run.left() == []


@MOMENTS
def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_leaves_nothing(tmp_path, moment):
    run = Run(tmp_path)
    run.wait_for(moment)
    ctrl_c(run.process)
    assert run.finish() == 130, run.output
    assert run.output.strip() == 'iblbridge bench: stopped by SIGINT'
    assert run.left() == []


@MOMENTS
def test_impatient_ctrl_c_does_not_interrupt_the_clean_up(tmp_path, moment):
    run = Run(tmp_path)
    run.wait_for(moment)
    while run.process.poll() is None:
        ctrl_c(run.process)
        time.sleep(0.005)
    # Python itself takes back its handlers shortly before it ends; by then all is done.
    assert run.finish() in (130, -signal.SIGINT), run.output
    assert 'Traceback' not in run.output
    assert run.left() == []


def test_ctrl_c_reaches_no_service_that_somebody_still_asks(tmp_path):
    """The services were in the group of the terminal; what asked them waited for 5 s, and said so in 42 lines."""
    run = Run(tmp_path, '--rounds', '1')
    run.wait_for('measures fast services')
    reached = []
    for pid, name in run.processes().items():
        with suppress(ProcessLookupError):
            if pid != run.process.pid and os.getsid(pid) == run.process.pid:
                reached.append(name)
    ctrl_c(run.process)
    assert run.finish() == 130, run.output
    assert reached == []
    assert run.output.strip() == 'iblbridge bench: stopped by SIGINT'
    assert run.left() == []
