"""The whole path on Windows, run by Wine: programs in C and C#, the worker in Windows Python, iblutil's services.

What is installed is the wheel; what the programs are built from are the kits that it writes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from wine import PATIENCE, Program, command, run, windows

TESTS = Path(__file__).resolve().parents[1]
COMPILERS = {64: 'x86_64-w64-mingw32-gcc', 32: 'i686-w64-mingw32-gcc'}
EXPERIMENT = ['EXPINIT', 'EXPSTART', 'EXPSTATUS', 'EXPINFO', 'EXPEND', 'EXPCLEANUP']
RUNTIME = {'runtimeOptions': {'framework': {'name': 'Microsoft.NETCore.App', 'version': '3.1.0'}}}


@pytest.fixture(scope='session')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as pip installs it."""
    wheel = os.environ.get('IBLBRIDGE_WHEEL')
    if not wheel:
        pytest.fail('IBLBRIDGE_WHEEL is not set: the wheel for win_amd64')
    place = tmp_path_factory.mktemp('site')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


# Wine sets LOCALAPPDATA itself when a program starts.
AT_HOME = r"""
import os, subprocess, sys, threading
os.environ['LOCALAPPDATA'] = sys.argv[1]
sys.stdout.reconfigure(encoding='utf-8')
from bridge.cli import main
from bridge.worker import Worker
worker = Worker('rig')
thread = threading.Thread(target=worker.run)
thread.start()
subprocess.run([sys.argv[2], 'ping', 'rig'], check=True)
assert main(['doctor']) == 0
worker.stop()
thread.join()
assert os.path.isfile(worker.path)
print(worker.path)
worker.close(remove=True)
"""


class Service(NamedTuple):
    """A service that runs."""

    program: Program
    port: int
    notes: Path

    @property
    def messages(self) -> list[list]:
        """What it heard, in its order."""
        return [json.loads(line) for line in self.notes.read_text().splitlines()]

    @property
    def names(self) -> list[str]:
        return [message[0] for message in self.messages]


class Rig:
    """A directory of segments, and what runs in it."""

    def __init__(self, site: Path, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.native = site / 'bridge' / 'native'
        self.environment = {'PYTHONPATH': windows(site), 'IBLBRIDGE_DIR': windows(folder)}
        self.programs: list[Program] = []
        self.python = command('WINE_PYTHON')

    def start(self, *words: object, **environment: str) -> Program:
        self.programs.append(Program(list(words), self.environment | environment))
        return self.programs[-1]

    def iblbridge(self, *words: object, timeout: float = PATIENCE) -> tuple[int, str, str]:
        return run([*self.python, '-m', 'bridge', *words], self.environment, timeout)

    def iblb(self, *words: object) -> tuple[int, str, str]:
        return run([*command('WINE'), self.native / 'bin' / 'iblb.exe', *words], self.environment)

    def service(self, name: str) -> Service:
        """A service of plain iblutil, in Windows Python."""
        notes = self.folder.parent / f'{name}.jsonl'
        notes.touch()
        words = windows(Path(__file__).with_name('service.py')), name, windows(notes)
        program = self.start(*self.python, *words)
        return Service(program, int(program.line('READY').split()[1]), notes)

    def serve(self, segment: str = 'rig', **services: Service) -> Program:
        options = [word for name, one in services.items() for word in ('--service', f'{name}=127.0.0.1:{one.port}')]
        words = ['-m', 'bridge', 'serve', '--segment', segment, '--until-eof', '--no-ask', *options]
        program = self.start(*self.python, *words)
        assert program.line('READY').startswith(f'READY {segment} Z:')
        return program

    def end(self) -> None:
        for program in reversed(self.programs):
            program.__exit__()


@pytest.fixture
def rig(site: Path, tmp_path: Path) -> Iterator[Rig]:
    made = Rig(site, tmp_path / 'segments')
    yield made
    made.end()


def kit(rig: Rig, language: str, folder: Path) -> Path:
    status, out, err = rig.iblbridge('kit', f'--{language}', windows(folder))
    assert status == 0, err
    return folder


# --- one command, many programs ---


@pytest.mark.parametrize('options', [[], ['--fail', 'cameras']])
def test_the_demo_runs_whole(rig, options):
    status, out, err = rig.iblbridge('demo', *options)
    assert status == 0, out + err
    assert ('As expected' if options else 'All 6 commands were answered by both services.') in out
    assert not list(rig.folder.iterdir())


@pytest.mark.parametrize('bits', [64, 32])
def test_a_c_program_built_from_its_kit_runs_an_experiment_on_services_of_iblutil(rig, tmp_path, bits):
    if bits == 32 and not os.environ.get('WINE32'):
        pytest.skip('WINE32 is not set: Wine here runs 64-bit programs')
    place = kit(rig, 'c', tmp_path / 'kit')
    program = place / 'experiment.exe'
    library = f'iblbridge_{bits}'
    subprocess.run([COMPILERS[bits], '-I.', 'experiment.c', '-o', program, f'{library}.lib'], cwd=place, check=True)
    wine = command('WINE')
    if bits == 32:  # the worker has to be where the program is
        wine, rig.python = command('WINE32'), command('WINE32_PYTHON')
    cameras, ephys = rig.service('cameras'), rig.service('ephys')
    rig.serve(cameras=cameras, ephys=ephys)
    status, out, err = run([*wine, program, 'rig'], rig.environment)
    assert status == 0, out + err
    assert cameras.names == ephys.names == EXPERIMENT
    assert cameras.messages[1] == ['EXPSTART', '2026-01-01_1_subject', None]


def test_a_csharp_program_built_from_its_kit_runs_an_experiment_on_dotnet(rig, tmp_path):
    if not shutil.which('mcs'):
        pytest.fail('mcs is not installed')
    place = kit(rig, 'csharp', tmp_path / 'kit')
    sources = ['Experiment.cs', 'BridgeClient.cs', 'Native.cs']
    subprocess.run(['mcs', '-out:experiment.dll', '-target:exe', *sources], cwd=place, check=True)
    (place / 'experiment.runtimeconfig.json').write_text(json.dumps(RUNTIME))
    cameras, ephys = rig.service('cameras'), rig.service('ephys')
    rig.serve(cameras=cameras, ephys=ephys)
    status, out, err = run([*command('WINE_DOTNET'), windows(place / 'experiment.dll'), 'rig'], rig.environment)
    assert status == 0, out + err
    for message in ('EXPINIT', 'EXPSTART', 'EXPEND'):
        print(message, cameras, ephys, cameras.names, ephys.names, out, err)
        assert cameras.names.count(message) == ephys.names.count(message) == 1


# --- the tool ---


def test_the_tool_says_in_utf8_what_it_is_told_in_utf16(rig):
    cameras = rig.service('cameras')
    rig.serve(**{'caméras': cameras})
    status, out, err = rig.iblb('call', 'rig', 'EXPSTART', '["2026-01-01_1_Zoë_日本"]', '--services', 'caméras')
    assert status == 0, out + err
    assert json.loads(out)['services'][0]['name'] == 'caméras'
    assert 'Zoë_日本' in json.dumps(cameras.messages, ensure_ascii=False)
    assert rig.iblb('state', 'rig')[1] == 'worker alive, 1 service: 0 down, 1 up'
    assert rig.iblb('call', 'rig', 'EXPSTART', '[1')[0] == 2
    assert rig.iblb('call', 'other', 'EXPINFO', '--open', '0')[0] == 3


def test_a_segment_lies_where_its_user_is_though_the_name_is_not_ascii(rig, tmp_path):
    home = tmp_path / 'Zoë 日本'
    home.mkdir(mode=0o700)
    words = [*command('WINE_PYTHON'), '-c', AT_HOME, windows(home), windows(rig.native / 'bin' / 'iblb.exe')]
    status, out, err = run(words, rig.environment | {'IBLBRIDGE_DIR': ''})
    assert (status, out.splitlines()[-1]) == (0, windows(home) + '\\iblbridge\\rig'), out + err


# --- what goes wrong ---


def test_a_killed_worker_is_noticed_at_once_and_a_new_one_goes_on(rig):
    cameras = rig.service('cameras')
    first = rig.serve(cameras=cameras)
    assert rig.iblb('call', 'rig', 'EXPINIT')[0] == 0
    first.kill()
    assert rig.iblb('state', 'rig')[1].startswith('worker gone')
    status, _, err = rig.iblb('call', 'rig', 'EXPSTART', '["2026-01-01_1_s"]', '--open', '0')
    assert status == 3 and 'No worker serves' in err
    second = rig.serve(cameras=cameras)
    status, _, err = rig.iblbridge('serve', '--segment', 'rig')
    assert status != 0 and 'Another worker holds the segment' in err
    assert rig.iblb('call', 'rig', 'EXPSTART', '["2026-01-01_1_s"]')[0] == 0
    assert cameras.names == ['EXPINIT', 'EXPSTART']
    assert second.end() == 0


def test_a_service_that_is_gone_is_told_and_the_other_served(rig):
    cameras, ephys = rig.service('cameras'), rig.service('ephys')
    rig.serve(cameras=cameras, ephys=ephys)
    status, out, err = rig.iblb('call', 'rig', 'EXPINIT')
    assert status == 0, out + err
    ephys.program.kill()
    status, out, err = rig.iblb('call', 'rig', 'EXPSTART', '["2026-01-01_1_s"]')
    states = {entry['name']: entry['state'] for entry in json.loads(out)['services']}
    assert status == 1 and states == {'cameras': 'answered', 'ephys': 'unreachable'}, err


@pytest.mark.parametrize('seed', [1, 2])
def test_who_scribbles_in_its_own_slot_harms_itself_alone(rig, seed):
    cameras = rig.service('cameras')
    worker = rig.serve(cameras=cameras)
    words = windows(Path(__file__).with_name('scribbler.py')), 'rig', windows(rig.folder / 'rig'), seed, 3
    guilty = rig.start(*command('WINE_PYTHON'), *words)
    guilty.line('READY')
    pings = 0
    while guilty.process.poll() is None:
        status, out, err = rig.iblb('ping', 'rig')
        assert status == 0, err
        pings += 1
    assert guilty.end() == 0 and int(guilty.said['out'][-1]) > 1000 and pings > 5
    assert rig.iblb('call', 'rig', 'EXPINIT')[0] == 0
    assert worker.process.poll() is None and cameras.names == ['EXPINIT']


def test_ctrl_c_ends_an_idle_worker_at_once_and_it_removes_what_it_was_told_to(rig):
    # Once it heard of it when it came up by itself, up to 5 s later.
    worker = rig.start(*command('WINE_PYTHON'), '-m', 'bridge', 'serve', '--segment', 'rig', '--remove')
    worker.line('READY')
    time.sleep(0.5)  # it is idle now
    began = time.monotonic()
    worker.process.send_signal(signal.SIGINT)
    assert worker.end() == 0 and time.monotonic() - began < 4
    assert 'stopped by SIGINT' in worker.said['err'][-1]
    assert not (rig.folder / 'rig').exists()


def test_a_second_ctrl_c_ends_a_worker_that_waits_for_a_service(rig):
    words = '-m', 'bridge', 'simulate', '--name', 'cameras', '--port', '0', '--delay', '60', '-v'
    slow = rig.start(*command('WINE_PYTHON'), *words)
    port = slow.line('READY').rpartition(':')[2]
    words = (
        '-m',
        'bridge',
        'serve',
        '--segment',
        'rig',
        '--timeout',
        '120',
        '--no-ask',
        '--service',
        f'cameras=127.0.0.1:{port}',
    )
    worker = rig.start(*command('WINE_PYTHON'), *words)
    worker.line('READY')
    call = rig.start(*command('WINE'), rig.native / 'bin' / 'iblb.exe', 'call', 'rig', 'EXPINIT', '--timeout', '90000')
    slow.line()  # it has heard it
    for _ in range(2):
        worker.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert worker.end() == 0
    assert call.end() in (1, 4), call.said


def test_ctrl_c_ends_the_tool_with_the_status_that_its_help_says(rig):
    tool = rig.start(*command('WINE'), rig.native / 'bin' / 'iblb.exe', 'ping', 'rig', '--open', '60000')
    time.sleep(2)  # it waits
    tool.process.send_signal(signal.SIGINT)
    assert tool.end() == 130


@pytest.mark.parametrize('said', ['{} ', '"{}"', '{}\\', '{}/'])
def test_a_directory_is_the_one_that_was_meant(rig, said):
    # "set IBLBRIDGE_DIR=C:\\lab && iblbridge serve" has a space at the end.
    rig.environment['IBLBRIDGE_DIR'] = said.format(windows(rig.folder))
    rig.serve()
    assert (rig.folder / 'rig').is_file()
    assert rig.iblb('ping', 'rig')[0] == 0
    assert rig.iblbridge('doctor')[0] == 0
