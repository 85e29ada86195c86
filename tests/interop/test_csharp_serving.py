"""C#: programs that serve, under mono. What is checked in C# stands in csharp/Serves.cs, one method per test.

What is the same in every language is in test_cameras.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from guides import SERVING, environment, require, run, serving_commands
from peers import eventually, free_port
from processes import kill, program
from scenarios import PATIENCE, Program
from stock_masters import Stock

from bridge.auxiliaries import Auxiliaries
from bridge.config import ListenerConfig

SERVES = Path(__file__).parent / 'csharp' / 'Serves.cs'
CHECKING = SERVES.with_name('Checking.cs')
REF = '2026-01-01_1_subject'
LISTENING = """
import sys
from bridge.config import ListenerConfig
from bridge.worker import Worker
worker = Worker('rig0', {}, listeners=[ListenerConfig('cameras', port=int(sys.argv[1]))])
print('ready', flush=True)
worker.run()
"""
AT_A_TERMINAL = 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))'


@pytest.fixture(scope='session')
def built(kit_of: Callable[[str], Path]) -> Path:
    """A kit with the program of checks."""
    require('mcs', 'mono')
    place = kit_of('csharp')
    done = run(
        'mcs -langversion:5 -warn:4 -warnaserror -noconfig -r:System -r:System.Core '
        f'-out:Serves.exe {SERVES} {CHECKING} '
        'Serving.cs BridgeClient.cs Native.cs',
        place,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return place


class Serving:
    """A method of Serves.cs that runs, and masters of what it serves."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def said(self, word: str) -> None:
        """Wait until it has come to where it says a word."""
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        assert line == f'{word}\n', line + self.process.stderr.read()

    def go_on(self) -> None:
        """Let it go on after a word."""
        assert self.process.stdin is not None
        self.process.stdin.write('\n')
        self.process.stdin.flush()

    @contextmanager
    def master(self) -> Iterator[Auxiliaries]:
        """Return a master as our worker is one, when the program serves."""
        master = Auxiliaries({'cameras': f'udp://127.0.0.1:{self.port}'})
        try:
            eventually(lambda: master.submit('EXPINFO', 0).result(10)['cameras'].ok, PATIENCE)
            yield master
        finally:
            master.close()


@contextmanager
def running(built: Path, name: str, port: int) -> Iterator[Serving]:
    """Run a method of Serves.cs; it must succeed."""
    pipe = subprocess.PIPE
    words = ['mono', str(built / 'Serves.exe'), name]
    with subprocess.Popen(words, env=environment(), text=True, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield Serving(process, port)
            said, errors = process.communicate(timeout=60)
            assert (process.returncode, errors) == (0, ''), said + errors
        finally:
            process.kill()


@pytest.fixture
def serving(built: Path, serve: Callable[..., Any]) -> Callable[..., Any]:
    """Return a context manager: a method of Serves.cs with a worker that listens."""

    def start(name: str, timeout: float = 8.0) -> Any:
        worker = serve('rig0', {}, listeners=(ListenerConfig('cameras', port=0, timeout=timeout),))
        return running(built, name, worker.ports['cameras'])

    return start


def ask(master: Auxiliaries, message: str, *arguments: Any) -> Any:
    """Ask a master's service, and return what became of it."""
    return master.submit(message, *arguments).result(20)['cameras']


def test_commands_are_taken_one_by_one_and_each_is_answered_once(serving):
    with serving('CommandsAreTakenOneByOne') as program, program.master() as master:
        program.said('serving')
        left = ask(master, 'EXPINIT', {'exp_ref': REF})
        assert not left.ok and 'The program left EXPINIT without an answer.' in left.error
        assert ask(master, 'EXPSTART', REF).reply == [REF, {'status': 20, 'value': [1, 'ä']}]
        assert 'no such→file 🐭 �' in ask(master, 'EXPEND').error


def test_a_command_larger_than_the_buffer_arrives_whole(serving):
    big = {'text': 'ä→' * 5000}
    with serving('BigCommandsArriveWhole') as program, program.master() as master:
        assert ask(master, 'EXPINIT', big).reply[1]['text'] == big['text']
        assert ask(master, 'EXPEND', big).ok


def test_an_interrupt_cancels_what_came_before_it_also_if_it_was_answered(serving):
    with serving('AnInterruptCancelsWhatCameBefore') as program, program.master() as master:
        assert ask(master, 'EXPSTART', REF).ok
        program.said('EXPSTART')
        busy = master.submit('EXPINIT', {'exp_ref': REF})
        program.said('busy')
        with program.master() as other:
            assert ask(other, 'EXPINTERRUPT').ok
            program.said('EXPINIT')
            program.said('EXPINTERRUPT')
            busy.result(20)
            assert ask(other, 'EXPCLEANUP').ok


def test_a_callback_that_throws_at_an_interrupt_ends_the_loop_and_is_told(serving):
    with serving('ACallbackThatThrowsEndsTheLoop') as program, program.master() as master:
        assert ask(master, 'EXPSTART', REF).ok
        program.said('answered')
        failed = ask(master, 'EXPINTERRUPT')
        assert not failed.ok and 'InvalidOperationException: the lens is gone' in failed.error


def test_what_its_master_has_given_up_while_the_program_was_busy_is_not_begun(serving):
    with serving('WhatWasGivenUpIsNotBegun', timeout=0.3) as program, program.master() as master:
        assert not ask(master, 'EXPINIT', {'exp_ref': REF}).ok
        program.said('busy')
        assert not ask(master, 'EXPSTART', REF).ok
        program.go_on()
        assert ask(master, 'EXPEND').ok


def test_a_handler_is_awaited_and_what_it_throws_or_returns_is_the_answer(serving):
    with serving('HandlersAreAwaited') as program, program.master() as master:
        program.said('serving')
        said = ask(master, 'EXPINIT', {'exp_ref': REF}).reply
        assert said == [10, {'exp_ref': REF, 'value': 'not said after an answer'}]
        failed = ask(master, 'EXPSTART', REF)
        assert not failed.ok and 'InvalidOperationException: the lens is gone' in failed.error
        assert ask(master, 'EXPEND').reply == [{'status': 0, 'value': 5}]
        program.go_on()


def test_what_a_handler_throws_after_its_answer_is_not_swallowed(serving):
    with serving('ErrorsAfterTheAnswerAreThrown') as program, program.master() as master:
        assert ask(master, 'EXPINIT', {'exp_ref': REF}).ok
        program.said('ended')
        assert 'no program serves cameras' in ask(master, 'EXPSTART', REF).error
        program.go_on()


def test_dispose_in_another_thread_ends_loops_and_waits(serving):
    with serving('DisposeEndsLoops') as program, program.master() as master:
        program.said('serving')
        assert ask(master, 'EXPINIT', {'exp_ref': REF}).ok
        program.go_on()
        program.said('waiting')
        program.go_on()
        eventually(lambda: ask(master, 'EXPINFO', 0).ok, PATIENCE)
        failed = ask(master, 'EXPSTART', REF)
        assert not failed.ok and 'ended before it answered' in failed.error


def test_the_end_of_a_loop_ends_what_its_commands_have_begun(serving):
    with serving('TheEndOfALoopEndsWhatWasBegun') as program, program.master() as master:
        program.said('serving')
        busy = master.submit('EXPINIT', {'exp_ref': REF})
        program.said('busy')
        program.go_on()
        assert 'The program stopped serving before it had done this EXPINIT.' in busy.result(20)['cameras'].error
        eventually(lambda: ask(master, 'EXPINFO', 0).ok, PATIENCE)
        assert ask(master, 'EXPSTART', REF).ok
        program.said('serving')
        eventually(lambda: ask(master, 'EXPINFO', 0).ok, PATIENCE)
        busy = master.submit('EXPINIT', {'exp_ref': REF})
        program.said('busy')
        program.go_on()
        assert 'ended before it answered' in busy.result(20)['cameras'].error


def test_the_end_of_a_loop_is_the_end_of_serving_unless_it_serves_anew(serving):
    with serving('TheEndOfALoopIsTheEndOfServing') as program, program.master() as master:
        left = ask(master, 'EXPSTART', REF)
        assert not left.ok and 'The program left EXPSTART without an answer.' in left.error
        program.said('ended')
        assert 'no program serves cameras' in ask(master, 'EXPSTART', REF).error
        program.go_on()
        eventually(lambda: ask(master, 'EXPINFO', 0).ok, PATIENCE)
        assert ask(master, 'EXPEND').ok


def test_what_is_answered_while_no_worker_lives_the_next_one_delivers(built):
    port = free_port()
    with (
        running(built, 'TheNextWorkerDelivers', port) as client,
        program(LISTENING, str(port)) as worker,
        client.master(),
        Stock(port) as master,
    ):
        asked = master.begin(master.services.start(REF))
        client.said('kill the worker')
        kill(worker)
        client.go_on()
        client.said('start a new one')
        with program(LISTENING, str(port)):
            assert asked.result(10)['cameras'] == [REF, {'status': 20}]
        client.go_on()


def test_await_foreach_finds_what_it_needs_and_it_does_what_it_should(serving):
    with serving('AwaitForeachFindsWhatItNeeds') as program, program.master() as master:
        program.said('serving')
        assert ask(master, 'EXPINIT', {'exp_ref': REF}).ok


# -- the guide


def test_the_core_of_the_guide_runs(built, serve):
    guide = (built / 'README.md').read_text(encoding='utf-8').partition(SERVING)[2]
    core = re.search(r'^```csharp\n(.*?)^```', guide, re.DOTALL | re.MULTILINE)
    assert core
    (built / 'Core.cs').write_text(
        'using System.Collections.Generic;\nusing System.Threading;\nusing IblBridge;\n'
        'static class Core\n{\n    static readonly CancellationTokenSource end = new CancellationTokenSource();\n'
        '    static object Start(string reference, CancellationToken interrupted) { return reference + ".avi"; }\n'
        '    static int Stop() { end.Cancel(); return 7; }\n'
        f'    static void Main()\n    {{\n{core[1]}    }}\n}}\n'
    )
    line = 'mcs -langversion:5 -warn:4 -warnaserror Core.cs Serving.cs BridgeClient.cs Native.cs'
    assert (done := run(line, built)).returncode == 0, done.stdout + done.stderr
    worker = serve('rig0', {}, listeners=(ListenerConfig('cameras', port=0),))
    with Program(['mono', 'Core.exe'], built) as core_program:
        with Serving(core_program.process, worker.ports['cameras']).master() as master:
            assert ask(master, 'EXPINIT', {'exp_ref': REF}).ok
            assert ask(master, 'EXPSTART', REF).reply == [REF, {'file': f'{REF}.avi', 'status': 20}]
            assert ask(master, 'EXPEND').reply == [{'frames': 7, 'status': 30}]
        assert core_program.end() == (0, '')


@pytest.mark.posix('a terminal')
@pytest.mark.parametrize('warm_up', ['0.1', '60'])
def test_ctrl_c_at_a_terminal_ends_the_camera_in_order_also_a_busy_one(built, serve, warm_up):
    for line in serving_commands(built)[:-1]:
        assert run(line, built).returncode == 0
    worker = serve('rig0', {}, listeners=(ListenerConfig('cameras', port=0),))
    words = [sys.executable, '-c', AT_A_TERMINAL, *serving_commands(built)[-1].split(), 'cameras', warm_up]
    with (
        open(built / 'said', 'wb') as said,
        subprocess.Popen(words, cwd=built, env=environment(), stdin=subprocess.PIPE, stdout=said) as process,
    ):
        try:
            with Serving(process, worker.ports['cameras']).master() as master:
                busy = master.submit('EXPINIT', {'exp_ref': REF}) if warm_up == '60' else None
                eventually(lambda: not busy or b'EXPINIT from' in (built / 'said').read_bytes(), PATIENCE)
                assert process.stdin is not None
                process.stdin.write(b'\x03')
                process.stdin.flush()
                assert process.wait(PATIENCE) == 0
                assert not busy or 'The program stopped serving before' in busy.result(20)['cameras'].error
                assert 'no program serves cameras' in ask(master, 'EXPSTART', REF).error
        finally:
            process.kill()
