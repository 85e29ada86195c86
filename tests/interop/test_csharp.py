"""C#: the client under mono, compiled as C# 5 with what the script compiler of Bonsai refers to.

What is checked in C# stands in csharp/Checks.cs, one method per test; here are the services it is checked against.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest
from guides import ROOT, environment, require, run
from peers import ScriptedPeer, StockServer, echo_and_reply, eventually, free_port, is_command, only_echo
from processes import WORKER, kill, program
from scenarios import first_snippet

from bridge import kit
from bridge.config import ServiceConfig
from bridge.native import LIBRARY

CHECKS = Path(__file__).parent / 'csharp' / 'Checks.cs'
CHECKING = CHECKS.with_name('Checking.cs')
COMPILE = 'mcs -langversion:5 -warn:4 -warnaserror -noconfig'
SEGMENT = 'rig0'
EXPINIT, EXPSTART, EXPEND, EXPINTERRUPT = 1, 2, 4, 16


@pytest.fixture(scope='session')
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit with the program of checks."""
    require('mcs', 'mono')
    place = tmp_path_factory.mktemp('csharp') / 'kit'
    kit.write('csharp', place)
    line = f'{COMPILE} -r:System -r:System.Core -out:Checks.exe {CHECKS} {CHECKING} BridgeClient.cs Native.cs'
    done = run(line, place)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@contextmanager
def checking(built: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """Run a method of Checks.cs; it must succeed."""
    pipe = subprocess.PIPE
    words = ['mono', str(built / 'Checks.exe'), name]
    with subprocess.Popen(words, env=environment(), text=True, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
            said, errors = process.communicate(timeout=60)
            assert (process.returncode, errors) == (0, ''), said + errors
        finally:
            process.kill()


@pytest.fixture
def check(built: Path) -> Callable[[str], None]:
    """Return a function that runs a method of Checks.cs by itself."""

    def run_it(name: str) -> None:
        with checking(built, name):
            pass

    return run_it


def said(process: subprocess.Popen[str], word: str) -> None:
    """Wait until a check has come to where it says a word."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == f'{word}\n', line + (process.stderr.read() if process.stderr else '')


def go_on(process: subprocess.Popen[str]) -> None:
    """Let a check that has said a word go on."""
    assert process.stdin is not None
    process.stdin.write('\n')
    process.stdin.flush()


def slowly(peer: ScriptedPeer, datagram: bytes) -> None:
    """Echo at once, and reply after a while."""
    if is_command(datagram):
        peer.send(datagram)
        peer.later(0.9, json.loads(datagram))


# -- what is compiled


def test_only_numbers_and_bytes_cross_into_the_library():
    text = (ROOT / 'examples' / 'csharp' / 'Native.cs').read_text(encoding='utf-8')
    delegates = re.findall(r'(\[.*\])\s+internal delegate (\w+) \w+\(([^)]*)\);', text)
    assert len(delegates) > 10
    for attribute, returned, parameters in delegates:
        assert attribute == '[UnmanagedFunctionPointer(CallingConvention.Cdecl)]' and returned == 'int'
        for parameter in filter(None, re.split(r',\s*', parameters)):
            assert re.fullmatch(r'(?:int|out int|out double|byte\[\]|\[Out\] byte\[\])\s+\w+', parameter)


def test_the_project_names_both_frameworks_and_the_files_of_the_client(built):
    project = ElementTree.parse(built / 'IblBridge.csproj').getroot()
    assert project.get('Sdk') == 'Microsoft.NET.Sdk'
    assert project.findtext('.//TargetFrameworks') == 'netstandard2.0;net462'
    assert project.findtext('.//LangVersion') == '5'
    files = [element.get('Include') for element in project.iter('Compile')]
    assert files == ['BridgeClient.cs', 'Native.cs', 'Serving.cs']
    assert all((built / str(name)).is_file() for name in files)
    copied = [element.get('Update', '') for element in project.iter('None')]
    assert LIBRARY.name in copied[0].split(';')


@pytest.mark.parametrize(
    ('service', 'end'),
    [(echo_and_reply, 'cameras: answered\nephys: answered\n'), (only_echo, '(IBLB_E_PARTIAL, -8070)\n1 did it\n')],
)
def test_the_snippet_of_the_guide_runs(built, serve, service, end):
    (built / 'Start.cs').write_text(first_snippet(built, 'csharp'))
    assert run('mcs Start.cs BridgeClient.cs Native.cs', built).returncode == 0
    with ScriptedPeer(echo_and_reply) as cameras, ScriptedPeer(service) as ephys:
        serve(SEGMENT, {'cameras': cameras.uri, 'ephys': ephys.uri}, timeout=0.3)
        assert run('mono Start.exe', built).stdout.endswith(end)


# -- errors and warnings


def test_objects_print_what_they_are(check, serve):
    with StockServer() as cameras:
        serve(SEGMENT, {'cameras': cameras.uri})
        check('ObjectsPrintWhatTheyAre')


def test_an_error_carries_code_name_sentence_and_response(check, serve):
    def refuses(_):
        raise ValueError('it was told to refuse')

    with StockServer() as cameras, StockServer({EXPSTART: refuses}) as ephys:
        serve(SEGMENT, {'cameras': cameras.uri, 'ephys:ä→😀': ephys.uri})
        check('ErrorsCarryAll')


def test_an_entry_says_why_in_a_word_for_programs_and_what_its_service_says_it_does(check, rig):
    running = rig(cameras=[], ephys=[])
    kill(running.children['ephys'].process)
    check('EntriesSayWhyAndWhatServicesDo')


def test_a_time_out_that_is_none_is_refused_before_anything_is_sent(check, serve):
    serve(SEGMENT, {})
    check('ATimeOutThatIsNoneIsRefused')


def test_a_warning_is_read_and_not_thrown(check, serve):
    with StockServer() as cameras:
        lamp = ServiceConfig('lamp', f'udp://127.0.0.1:{free_port()}', optional=True)
        serve(SEGMENT, [ServiceConfig('cameras', cameras.uri), lamp])
        check('WarningsAreNotThrown')


# -- values


def test_values_arrive_at_the_service_as_they_were_given(check, serve):
    with StockServer() as server:
        serve(SEGMENT, {'cameras': server.uri})
        check('ValuesArrive')
        got = [arguments for _, *arguments in server.saw]
    assert got[0][0] == {
        'cameras:left': 'Mäuschen→😀 "\\/\b\f\n\r\t\u0001\u2028',
        'numbers': [1, -2, 1.0, 0.1, 1e300, 2**64 - 1, 3.1, 7, 4096],
        'words': [True, False, None],
        'empty': [[], {}, ''],
        'character': 'ä',
    }
    assert isinstance(got[0][0]['numbers'][2], float)
    assert [arguments[0] for arguments in got[1:3]] == [None, [1, 2]]


def test_values_come_back_with_keys_stamps_and_numbers_exact(check, serve):
    answer = {
        'a:b "ä': '"\\/\b\f\n\r\t\u0001\u007fMäuschen→😀',
        'exact': 2**53 + 1,
        'least': -(2**63),
        'most': 2**64 - 1,
        'real': -1.5e-7,
        'one': 1.0,
        'none': None,
        'yes': True,
        'no': False,
        'nested': [1, [{'deep': 2}, [], {}]],
        '': '',
    }
    with StockServer({EXPINIT: [answer]}) as server:
        serve(SEGMENT, {'cameras:left': server.uri})
        check('ValuesComeBack')


def test_a_response_larger_than_the_buffer_arrives_whole(check, serve):
    with ScriptedPeer(echo_and_reply) as cameras, ScriptedPeer(echo_and_reply) as ephys:
        serve(SEGMENT, {'cameras': cameras.uri, 'ephys': ephys.uri})
        check('BigResponsesArriveWhole')


# -- events


def test_events_come_in_order_and_whole_and_a_dead_worker_is_told(built):
    with (
        ScriptedPeer(echo_and_reply) as cameras,
        program(WORKER, SEGMENT, cameras.uri) as worker,
        checking(built, 'EventsComeInOrder') as client,
    ):
        said(client, 'listening')
        cameras.send([EXPINTERRUPT, 'first'])
        eventually(lambda: cameras.messages[-1] == [EXPINTERRUPT, 'first'])  # echoed
        cameras.send([EXPINTERRUPT, 'ä' * 5000])
        go_on(client)
        said(client, 'kill the worker')
        kill(worker)
        go_on(client)


# -- asynchronous calls


def test_asynchronous_calls_are_sent_in_their_order(check, serve):
    with ScriptedPeer(echo_and_reply) as cameras:
        serve(SEGMENT, {'cameras': cameras.uri})
        check('CallsKeepTheirOrder')
        assert [message[1] for message in cameras.messages if message[0] == EXPINIT][::2] == list(range(20))


def test_waits_hold_no_thread_of_the_pool(check, serve):
    with ScriptedPeer(only_echo) as cameras:
        serve(SEGMENT, {'cameras': cameras.uri}, timeout=30.0)
        check('WaitsHoldNoThreadOfThePool')


def test_a_token_cancels_and_leaves_no_request_behind(check, serve):
    with ScriptedPeer(only_echo) as cameras:
        serve(SEGMENT, {'cameras': cameras.uri}, timeout=30.0)
        check('ATokenCancels')
        assert not [message for message in cameras.messages if message[0] != EXPINIT]  # none of the 1,100 was sent


def test_cancel_tells_whether_a_command_was_sent(built, serve):
    with ScriptedPeer(only_echo) as cameras:
        serve(SEGMENT, {'cameras': cameras.uri}, timeout=30.0)
        with checking(built, 'CancelTellsWhetherItWasSent') as client:
            said(client, 'accepted')
            eventually(lambda: cameras.datagrams)
            go_on(client)


def test_the_end_of_the_time_leaves_a_request_that_can_be_waited_for(check, serve):
    with ScriptedPeer(slowly) as cameras:
        serve(SEGMENT, {'cameras': cameras.uri}, timeout=5.0)
        check('EndsOfTimeLeaveTheRequest')


# -- the worker, the client, threads


def test_a_worker_that_dies_during_waits_is_told_and_a_new_one_answers(built):
    with ScriptedPeer(only_echo) as cameras, checking(built, 'AWorkerThatDiesIsTold') as client:
        with program(WORKER, SEGMENT, cameras.uri) as worker:
            said(client, 'kill the worker')
            eventually(lambda: cameras.datagrams)
            kill(worker)
            go_on(client)
            said(client, 'start a new one')
        with program(WORKER, SEGMENT, cameras.uri):
            go_on(client)
            said(client, 'done')
            eventually(lambda: [message[0] for message in cameras.messages] == [EXPINIT, EXPEND])
            go_on(client)
            client.wait(30)


def test_a_call_whose_worker_dies_with_the_command_says_so_and_not_that_time_is_up(built):
    with (
        ScriptedPeer(only_echo) as cameras,
        program(WORKER, SEGMENT, cameras.uri) as worker,
        checking(built, 'ACallWhoseWorkerDiesSaysSo') as client,
    ):
        said(client, 'kill the worker')
        eventually(lambda: cameras.datagrams)
        kill(worker)
        go_on(client)


def test_dispose_ends_waits_and_only_its_own_client(check, serve):
    with ScriptedPeer(only_echo) as cameras:
        serve(SEGMENT, {'cameras': cameras.uri}, timeout=30.0)
        check('DisposeEndsWaits')


def test_clients_that_are_forgotten_leave_no_slot_taken(check, serve):
    serve(SEGMENT, {})
    check('ForgottenClientsLeaveNothing')


def test_a_program_may_end_in_the_middle_of_everything(check, serve):
    with ScriptedPeer(only_echo) as cameras:
        serve(SEGMENT, {'cameras': cameras.uri}, timeout=30.0)
        for _ in range(3):
            check('EndsInTheMiddle')


def test_threads_share_a_client_and_each_gets_its_own_answers(check, serve):
    with ScriptedPeer(echo_and_reply) as cameras:
        serve(SEGMENT, {'cameras': cameras.uri})
        check('ThreadsShareAClient')


# -- where the library is


def load(program: Path, place: Path, named: object = '') -> tuple[str, str]:
    """Return what a program in some folder says that only loads the library; `place` is the current folder."""
    words = ['mono', str(program), 'LibraryLoads']
    more = {**environment(), 'IBLBRIDGE_LIBRARY': str(named)}
    done = subprocess.run(words, cwd=place, env=more, text=True, capture_output=True, check=False, timeout=30)
    return done.stdout, done.stderr


@pytest.fixture
def lonely(built: Path, tmp_path: Path) -> Path:
    """The program of checks in a folder ``package/lib/net462``, without the library."""
    folder = tmp_path / 'package' / 'lib' / 'net462'
    folder.mkdir(parents=True)
    return Path(shutil.copy(built / 'Checks.exe', folder))


def test_a_library_that_is_nowhere_is_told_with_every_place(lonely, tmp_path):
    workflow = tmp_path / 'wörkflow'
    workflow.mkdir()
    _, errors = load(lonely, workflow)
    package = lonely.parents[2]
    machine, runtime = ('x64', 'runtimes/linux-x64/native') if kit.BITS == 64 else ('x86', 'runtimes/linux-x86/native')
    here = [
        folder / more
        for folder in (lonely.parent, workflow, workflow / 'Extensions')
        for more in ('', machine, runtime)
    ]
    for place in [*here, package / runtime, package / 'build' / 'native' / 'bin' / machine]:
        assert f'\n  {place / "libiblbridge.so"}: is not there' in errors
    assert 'DllNotFoundException' in errors and 'IBLBRIDGE_LIBRARY' in errors and f'{kit.BITS}-bit' in errors


@pytest.mark.parametrize(
    'place',
    [
        'package/lib/net462',
        'package/lib/net462/x64',
        'package/runtimes/linux-x64/native',
        'package/build/native/bin/x64',
        'wörkflow',
        'wörkflow/Extensions',
    ],
)
def test_the_library_is_found_beside_the_code_in_a_package_and_beside_a_workflow(lonely, tmp_path, place):
    if kit.BITS != 64:
        place = place.replace('x64', 'x86')
    (tmp_path / 'wörkflow').mkdir()
    (tmp_path / place).mkdir(exist_ok=True, parents=True)
    shutil.copy(LIBRARY, tmp_path / place / 'libiblbridge.so')
    said, errors = load(lonely, tmp_path / 'wörkflow')
    assert said.startswith('Some services did') and not errors


def test_a_program_that_is_no_package_is_not_given_what_lies_two_folders_above_it(lonely, tmp_path):
    program = tmp_path / 'home' / 'bin' / 'Checks.exe'  # in /tmp/rig/bin it would be a folder that all can write to
    program.parent.mkdir(parents=True)
    lonely.rename(program)
    for folder in ('runtimes/linux-x64/native', 'build/native/bin/x64'):
        place = tmp_path / (folder if kit.BITS == 64 else folder.replace('x64', 'x86'))
        place.mkdir(parents=True)
        shutil.copy(LIBRARY, place / 'libiblbridge.so')
    workflow = tmp_path / 'wörkflow'
    workflow.mkdir()
    _, errors = load(program, workflow)
    assert 'DllNotFoundException' in errors
    assert all(f'\n  {tmp_path / folder}' not in errors for folder in ('runtimes', 'build'))


def test_the_variable_alone_decides_and_what_is_wrong_with_it_is_told(lonely, tmp_path):
    shutil.copy(LIBRARY, lonely.parent / 'libiblbridge.so')
    elsewhere = tmp_path / 'other name'
    _, errors = load(lonely, tmp_path, elsewhere)
    assert f'{elsewhere}: is not there' in errors and str(lonely.parent) not in errors.split('\n  at ')[0]
    elsewhere.write_text('no library')
    _, errors = load(lonely, tmp_path, elsewhere)
    assert f'{elsewhere}: {elsewhere}:' in errors  # the system's words: file too short, invalid ELF header
    shutil.copy(LIBRARY, elsewhere)
    (lonely.parent / 'libiblbridge.so').unlink()
    assert load(lonely, tmp_path, elsewhere)[0].startswith('Some services did')
    libc = next(Path('/lib').glob('*-linux-gnu/libc.so.6'))
    _, errors = load(lonely, tmp_path, libc)
    assert f'{libc} has no iblb_open' in errors
