"""The kits' serving side: the simulated camera of each, built and run as its guide says, and commanded by real masters.

What a camera prints is the same in all languages: ``serving cameras at rig0``, so that one sees that it is there (``the
listener`` if it was told none), ``EXPSTART from 127.0.0.1:55123`` when it has taken a command, then
``EXPSTART: done``, ``EXPSTART: failed, sentence`` or ``EXPSTART: too late, ...``. Its arguments are segment, service,
how long it warms up (s), and after how much recording it dies (s).

What a camera does not show, a small program of each language does (``serving/``): it is started with the name of a
scenario, and prints one line of JSON after the other.
"""

from __future__ import annotations

import re
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from guides import SERVING, require, run, serving_commands
from peers import eventually, free_port
from processes import kill
from scenarios import PATIENCE, Program
from stock_masters import Stock

from bridge import Client, kit
from bridge.auxiliaries import Auxiliaries
from bridge.cli.demo.children import Child
from bridge.config import ListenerConfig
from bridge.numbers import CODES

JNA = '/usr/share/java/jna.jar'
HERE = Path(__file__).with_name('serving')
REF = '2026-01-01_1_subject'
ERROR, INIT, START, INTERRUPT, STATUS = 0, 1, 2, 16, 32
LATE = CODES['IBLB_E_LATE']


class Language(NamedTuple):
    """What a language needs, and how its program of scenarios is built and run in its kit."""

    needs: tuple[str, ...]
    source: str
    build: str
    run: str


LANGUAGES = {
    'csharp': Language(
        ('mcs', 'mono'),
        'Scenes.cs',
        'mcs -langversion:5 -warn:4 -warnaserror Scenes.cs Serving.cs BridgeClient.cs Native.cs',
        'mono Scenes.exe',
    ),
    'java': Language(
        ('javac', 'java'),
        'Serving.java',
        f'javac -Xlint:all,-options -Werror --release 8 -encoding UTF-8 -cp {JNA}:. Serving.java',
        f'java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp {JNA}:. Serving',
    ),
    'luajit': Language(('luajit',), 'serving.lua', '', 'luajit serving.lua'),
    'node': Language(('node', 'npm'), 'serving.js', '', 'node serving.js'),
    'python': Language(('python',), 'serving.py', '', 'python serving.py'),
}
CAMERAS = {
    'c': ('cc',),
    'cpp': ('c++',),
    'matlab': ('octave-cli', 'mkoctfile'),
    **{name: language.needs for name, language in LANGUAGES.items()},
}
"""The kits that have a camera; what else those do that are no `LANGUAGES` is in tests of their own."""
AT_A_TERMINAL = {'csharp'}  # mono hears Ctrl-C only there: test_csharp_serving.py


@pytest.mark.parametrize('name', kit.KITS)
def test_every_guide_says_how_a_program_becomes_a_service(name):
    guide = (kit.examples() / name / 'README.md').read_text(encoding='utf-8')
    section = guide.partition(SERVING)[2].replace('_', '').lower()
    words = ('serve', 'answer', 'fail', 'tell', 'expinterrupt', 'iblbridge serve --segment rig0 --listen')
    assert [word for word in words if word not in section] == []


@pytest.fixture(params=LANGUAGES)
def language(request) -> str:
    require(*LANGUAGES[request.param].needs)
    return str(request.param)


class Cameras:
    """A worker that listens, and the camera of a kit that serves it."""

    def __init__(self, place: Path, stack: ExitStack) -> None:
        self.place, self.stack, self.port = place, stack, free_port()
        self.worker = self.new_worker()

    def new_worker(self) -> Child:
        """Start a worker, also after the death of the one before."""
        listen = f'cameras=udp://127.0.0.1:{self.port}'
        self.worker = worker = Child('worker', 'serve', '--segment', 'rig0', '--listen', listen)
        self.stack.callback(worker.end)
        eventually(lambda: worker.ready, PATIENCE)
        return worker

    def start(self, *options: object) -> Program:
        """Start the camera, and return when it serves."""
        words = [*shlex.split(serving_commands(self.place)[-1]), *(['cameras', *options] if options else [])]
        camera = self.stack.enter_context(Program(words, self.place))
        with self.ours() as master:
            eventually(lambda: master.submit('EXPINFO', 0).result(10)['cameras'].ok, PATIENCE)
        assert camera.line() == f'serving {"cameras" if options else "the listener"} at rig0'
        return camera

    def ours(self) -> Auxiliaries:
        """Return a master as our worker is one."""
        return self.stack.enter_context(Master({'cameras': f'udp://127.0.0.1:{self.port}'}))

    def stock(self) -> Stock:
        """Return a master as iblrig is one."""
        return self.stack.enter_context(Stock(self.port))


class Master(Auxiliaries):
    def __enter__(self) -> Master:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(params=CAMERAS)
def cameras(request, kit_of: Callable[[str], Path]) -> Iterator[Cameras]:
    require(*CAMERAS[request.param])
    place = kit_of(request.param)
    for line in serving_commands(place)[:-1]:
        done = run(line, place, timeout=300)
        assert done.returncode == 0, f'{line}\n{done.stdout}{done.stderr}'
    with ExitStack() as stack:
        yield Cameras(place, stack)


def says(camera: Program, *messages: str, outcome: str = 'done') -> None:
    """Read what a camera prints of commands that come one after the other."""
    for message in messages:
        assert camera.line().startswith(f'{message} from 127.0.0.1:')
        assert camera.line().startswith(f'{message}: {outcome}')


def test_a_stock_master_takes_the_camera_through_an_experiment(cameras):
    camera = cameras.start()
    master = cameras.stock()
    ask, services = master.run, master.services
    assert ask(services.init({'exp_ref': REF}))['cameras'] == [10, {'exp_ref': REF}]
    assert ask(services.start(REF, {'note': 1}))['cameras'] == [REF, {'file': f'{REF}.avi', 'status': 20}]
    assert ask(services.status('RUNNING'))['cameras'] == [20]
    (ended,) = ask(services.stop())['cameras']
    assert ended['status'] == 30 and ended['frames'] >= 0
    assert ask(services.cleanup())['cameras'][0]['status'] == 0
    says(camera, 'EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP')
    assert {event for event, _ in master.told} <= {STATUS} and master.is_open


def test_a_handler_that_fails_is_told_to_the_master_once_and_the_camera_goes_on(cameras):
    camera = cameras.start()
    master = cameras.stock()
    master.begin(master.services.start(REF))
    eventually(lambda: master.told)
    says(camera, 'EXPSTART', outcome='failed, The camera is cold. Send EXPINIT first.')
    assert cameras.stock().run(master.services.init({'exp_ref': REF}))['cameras'][0] == 10
    says(camera, 'EXPINIT')
    ((event, (sentence, about)),) = master.told
    assert (event, about) == (ERROR, START) and 'The camera is cold. Send EXPINIT first.' in sentence


def test_an_interrupt_reaches_a_camera_that_is_busy_and_ends_what_it_does(cameras):
    camera = cameras.start(60)
    master, other = cameras.stock(), cameras.ours()
    master.begin(master.services.init({'exp_ref': REF}))
    assert camera.line().startswith('EXPINIT from')
    assert other.submit('EXPINTERRUPT').result(10)['cameras'].ok
    lines = [camera.line() for _ in range(3)]  # two threads may print
    lines.remove('EXPINIT: failed, An EXPINTERRUPT overtook this EXPINIT.')
    assert lines[0].startswith('EXPINTERRUPT from 127.0.0.1:') and lines[1] == 'EXPINTERRUPT: done'
    assert other.submit('EXPCLEANUP').result(10)['cameras'].ok
    says(camera, 'EXPCLEANUP')
    eventually(lambda: master.told)
    ((event, (sentence, about)),) = master.told
    assert (event, about) == (ERROR, INIT) and 'An EXPINTERRUPT overtook this EXPINIT.' in sentence


def test_a_camera_that_is_killed_with_a_command_in_hand_is_told_once_and_another_takes_its_place(cameras):
    camera = cameras.start(60)
    master = cameras.stock()
    master.begin(master.services.init({'exp_ref': REF}))
    assert camera.line().startswith('EXPINIT from')
    kill(camera.process)
    eventually(lambda: master.told)
    again, other = cameras.start(), cameras.ours()
    eventually(lambda: other.submit('EXPINIT', {'exp_ref': REF}).result(10)['cameras'].ok, PATIENCE)
    says(again, 'EXPINIT')
    ((event, (sentence, about)),) = master.told
    assert (event, about) == (ERROR, INIT) and 'ended' in sentence


def test_a_camera_that_is_killed_while_it_records_is_an_interrupt(cameras):
    camera = cameras.start()
    master = cameras.stock()
    master.run(master.services.init({'exp_ref': REF}))
    master.run(master.services.start(REF))
    says(camera, 'EXPINIT', 'EXPSTART')
    kill(camera.process)
    eventually(lambda: master.told)
    assert [event for event, _ in master.told] == [INTERRUPT]


def test_a_camera_that_dies_says_so_by_itself(cameras):
    camera = cameras.start(0, 0.2)
    master = cameras.stock()
    master.run(master.services.init({'exp_ref': REF}))
    master.run(master.services.start(REF))
    eventually(lambda: master.told)
    ((event, (data,)),) = master.told
    assert event == INTERRUPT and data['why'] == 'The camera died.' and data['status'] == 30
    says(camera, 'EXPINIT', 'EXPSTART')
    assert cameras.ours().submit('EXPINIT', {'exp_ref': REF}).result(10)['cameras'].ok


def test_a_camera_waits_for_the_next_worker(cameras):
    camera = cameras.start()
    kill(cameras.worker.process)
    cameras.new_worker()
    master = cameras.ours()
    eventually(lambda: master.submit('EXPINIT', {'exp_ref': REF}).result(10)['cameras'].ok, PATIENCE)
    assert master.submit('EXPSTART', REF).result(10)['cameras'].ok
    says(camera, 'EXPINIT', 'EXPSTART')


@pytest.mark.posix('Ctrl-C of a process that has no console')
@pytest.mark.parametrize('cameras', [name for name in CAMERAS if name not in AT_A_TERMINAL], indirect=True)
def test_ctrl_c_ends_a_camera_in_order(cameras):
    camera = cameras.start()
    with Client('rig0', 'watch') as watch:
        watch.subscribe('CLIENT_LOST')
        camera.process.send_signal(signal.SIGINT)
        status, errors = camera.end()
        assert status in (0, 1, 130) and errors == ''  # 1 is Octave's
        told = cameras.ours().submit('EXPINIT', {'exp_ref': REF}).result(10)['cameras']
        assert not told.ok and 'no program serves cameras' in told.error
        assert watch.next_event(0) is None


@pytest.mark.posix('Ctrl-C of a process that has no console')
@pytest.mark.parametrize('cameras', [name for name in CAMERAS if name not in AT_A_TERMINAL], indirect=True)
def test_ctrl_c_ends_a_camera_that_is_busy_at_once_and_its_master_is_told(cameras):
    camera = cameras.start(60)
    master = cameras.stock()
    master.begin(master.services.init({'exp_ref': REF}))
    assert camera.line().startswith('EXPINIT from')
    camera.process.send_signal(signal.SIGINT)
    status, errors = camera.end()
    assert status in (0, 1, 130) and errors == ''  # 1 is Octave's
    eventually(lambda: master.told)
    ((event, (_, about)),) = master.told
    assert (event, about) == (ERROR, INIT)


class Scenes:
    """Scenarios of a language's program, with a worker in this process."""

    def __init__(self, language: str, place: Path, serve: Callable[..., object], stack: ExitStack) -> None:
        self.language, self.place, self.serve, self.stack = LANGUAGES[language], place, serve, stack

    def play(self, scene: str, timeout: float = 8.0) -> tuple[Program, Auxiliaries]:
        """Start a worker and a scenario, and return when it serves: the program, and a master."""
        worker = self.serve('rig0', {}, listeners=(ListenerConfig('cameras', port=0, timeout=timeout),))
        self.port = worker.ports['cameras']
        program = self.stack.enter_context(Program([*shlex.split(self.language.run), scene], self.place))
        master = self.master()
        eventually(lambda: master.submit('EXPINFO', 0).result(10)['cameras'].ok, PATIENCE)
        return program, master

    def master(self) -> Auxiliaries:
        return self.stack.enter_context(Master({'cameras': f'udp://127.0.0.1:{self.port}'}))


@pytest.fixture
def scenes(language: str, kit_of: Callable[[str], Path], serve: Callable[..., object]) -> Iterator[Scenes]:
    place, chosen = kit_of(language), LANGUAGES[language]
    shutil.copy(HERE / chosen.source, place)
    if chosen.build:
        done = run(chosen.build, place, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    with ExitStack() as stack:
        yield Scenes(language, place, serve, stack)


def test_a_command_shows_all_that_the_library_says_of_it(scenes):
    program, master = scenes.play('show')
    outcome = master.submit('EXPSTART', REF, {'é': [1, None]}).result(10)['cameras']
    shown = program.says()
    assert shown.pop('master').startswith('127.0.0.1:')
    assert shown == {
        'service': 'cameras',
        'message': 'EXPSTART',
        'args': [REF, {'é': [1, None]}],
        'timeout_ms': 8000,
        'stamps': True,  # `time` is between two looks at the clock, and `wall` a text of a moment
    }
    assert outcome.reply == [REF, {'file': 'é.avi', 'status': 0}]  # as the program said with its answer


def test_a_command_that_leaves_its_scope_unanswered_fails_by_itself(scenes):
    program, master = scenes.play('leave')
    left = master.submit('EXPSTART', REF).result(10)['cameras']
    assert not left.ok and 'without an answer' in left.error and 'EXPSTART' in left.error
    assert master.submit('EXPEND').result(10)['cameras'].ok
    assert program.says() == ['EXPSTART', 'EXPEND']


def test_an_exception_in_a_handler_is_named_to_the_master_and_seen_by_the_program(scenes):
    program, master = scenes.play('attempt')
    failed = master.submit('EXPSTART', REF).result(10)['cameras']
    assert not failed.ok and 'the lens is gone 🐭' in failed.error
    assert program.says() == ['the lens is gone 🐭', 0]
    assert master.submit('EXPEND').result(10)['cameras'].reply == [{'value': 5, 'status': 30}]
    assert program.says() == ['', 0]


def test_an_exception_that_ends_the_loop_leaves_nobody_waiting_and_nobody_serves(scenes):
    program, master = scenes.play('throw')
    failed = master.submit('EXPSTART', REF).result(10)['cameras']
    assert not failed.ok and re.search('without an answer|the lens is gone', failed.error)  # as the language knows it
    assert program.says() == 'the lens is gone'
    told = master.submit('EXPINIT', {'exp_ref': REF}).result(10)['cameras']
    assert not told.ok and 'no program serves cameras' in told.error


def test_an_answer_that_comes_too_late_is_a_result_and_the_loop_goes_on(scenes):
    program, master = scenes.play('late', timeout=0.3)
    assert program.says() == 'serving'
    late = master.submit('EXPSTART', REF).result(10)['cameras']
    assert not late.ok
    assert program.says() == LATE
    eventually(lambda: master.submit('EXPEND').result(10)['cameras'].ok, PATIENCE)
    assert program.says() == 0


def test_work_that_takes_long_hears_of_an_interrupt_which_is_the_next_command(scenes):
    program, master = scenes.play('busy')
    start = master.submit('EXPSTART', REF)
    assert program.says() == 'EXPSTART'
    stop = scenes.master().submit('EXPINTERRUPT')
    assert [program.says(), program.says()] == ['interrupted', 'EXPINTERRUPT']
    assert start.result(10)['cameras'].ok and stop.result(10)['cameras'].ok
    assert master.submit('EXPEND').result(10)['cameras'].ok
    assert program.says() == 'EXPEND'


@pytest.mark.parametrize('language', ['java', 'node'], indirect=True)  # Lua has nobody else who could close it
def test_who_closes_the_rig_ends_what_it_is_at_and_the_loop(scenes):
    program, master = scenes.play('close')
    assert not master.submit('EXPSTART', REF).result(10)['cameras'].ok
    assert program.says() == [CODES['IBLB_E_CLOSED'], True]
    assert program.says() == 'over'


def test_what_cannot_be_said_is_refused_and_the_command_can_still_be_answered(scenes):
    program, master = scenes.play('wrong')
    assert master.submit('EXPSTART', REF).result(10)['cameras'].ok
    count = program.says()
    assert count > 10 and program.says() == [True] * count


def test_who_serves_no_more_is_asked_no_more(scenes):
    program, master = scenes.play('stop')
    assert master.submit('EXPSTART', REF).result(10)['cameras'].ok
    assert program.says() == 'stopped'
    told = master.submit('EXPINIT', {'exp_ref': REF}).result(10)['cameras']
    assert not told.ok and 'no program serves cameras' in told.error
