"""The command: what it imports, how it takes arguments, and its exit statuses."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from systems import APART, WINDOWS, ask_to_end

import bridge
from bridge.cli import console, exit_status, main
from bridge.cli.command import parser
from bridge.cli.send import milliseconds
from bridge.native import IBLB
from bridge.segment.client import Client

HEAVY = ('iblutil', 'numba', 'pandas', 'scipy', 'pyarrow')


def iblbridge(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    words = [sys.executable, '-m', 'bridge', *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False, **options)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """Have segments searched in an empty directory of our own."""
    directory = tmp_path / 'segments'
    directory.mkdir(mode=0o700)
    monkeypatch.setenv('IBLBRIDGE_DIR', str(directory))
    return directory


@pytest.mark.parametrize(
    'arguments',
    [['--help'], ['send', 'rig0', 'EXPSTATUS', '--timeout', '0.1'], ['simulate', '--help'], ['demo', '--help']],
)
def test_help_and_send_import_nothing_heavy(arguments, nowhere):
    code = (
        'import sys; from bridge.cli import main; status = main(sys.argv[1:]); '
        f'print("heavy:", [m for m in {HEAVY!r} if m in sys.modules], status)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert re.search(r'heavy: \[\] [03]$', done.stdout), done


# Raises what a Ctrl-C does, in the moment in which a module is looked for.
INTERRUPTED = """
import sys
class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            raise KeyboardInterrupt
sys.modules.pop(sys.argv[1], None)
sys.meta_path.insert(0, CtrlC())
from bridge.cli import main
raise SystemExit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize('module', ['argparse', 'logging', 'bridge.cli.console', 'bridge.cli.demo', 'numpy', 'iblutil'])
def test_ctrl_c_while_modules_are_read_is_no_traceback(module, nowhere):
    """In the first second it was told in 12 to 50 lines, and which they were depended on the moment."""
    words = [sys.executable, '-c', INTERRUPTED, module, 'serve', '--segment', 'rig', '--service', 'a=127.0.0.1']
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, '', '')


def test_before_it_is_told_what_to_do_the_command_has_imported_nothing():
    """There is nobody to take a Ctrl-C then."""
    code = 'import sys; before = set(sys.modules); import bridge.cli; print([*{*sys.modules} - before])'
    where = str(Path(str(bridge.__file__)).parents[1])
    read = [sys.executable, '-S', '-c', f'import sys; sys.path.append({where!r}); {code}']
    said = subprocess.run(read, capture_output=True, text=True, timeout=30, check=True).stdout
    assert sorted(ast.literal_eval(said)) == ['__future__', 'bridge', 'bridge.cli']


def test_the_test_for_heavy_imports_would_notice_them():
    code = f'import sys, bridge.auxiliaries; print([m for m in {HEAVY!r} if m in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=True)
    assert 'iblutil' in done.stdout


def test_help_names_every_subcommand(capsys):
    assert main(['--help']) == 0
    out = capsys.readouterr().out
    for name in ('demo', 'serve', 'send', 'simulate', 'journal', 'bench'):
        assert re.search(rf'^ +{name} ', out, re.MULTILINE)


def test_the_help_of_each_command_fits_80_columns_and_has_an_example_that_can_be_typed(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')
    assert main(['help']) == 0
    whole = capsys.readouterr().out
    names = re.findall(r'^    ([a-z]+) ', whole, re.MULTILINE)
    (commands,) = (action.choices for action in parser()._actions if isinstance(action.choices, dict))
    assert names == list(commands), 'each has its words beside it; those of uninstall stood below, and nobody looked'
    for name in ('', *names):
        words = [name] if name else []
        assert main(['help', *words]) == 0
        said = capsys.readouterr().out
        assert main([*words, '--help']) == 0
        assert capsys.readouterr().out == said
        assert max(map(len, said.splitlines())) <= 80
        (line,) = re.findall(r'^Example:\n\n  (iblbridge .*)$', said, re.MULTILINE)
        assert not name or line.split()[1] == name
        parser().parse_args(shlex.split(line)[1:])


def test_help_of_a_command_that_there_is_not_offers_the_nearest(capsys):
    assert main(['help', 'sned']) == 2
    assert "there is no command 'sned'; did you mean send?" in capsys.readouterr().err


@pytest.mark.parametrize(
    'arguments',
    [
        ['unknown'],
        ['serve'],
        ['send', 'rig0'],
        ['demo', '--fail', 'nobody'],
        ['demo', '--segment', 'a b'],
        ['simulate', '--name', 'a', '--port', '65536'],
    ],
)
def test_misuse_has_exit_status_2(arguments, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert 'usage:' in said and said.count('\n') == 1


@pytest.mark.parametrize(
    ('code', 'status'),
    [
        (0, 0), (5001, 0), (5004, 0),
        (-8070, 1), (-8071, 1), (-8072, 1), (-8073, 1), (-8075, 1), (-8053, 1),
        (-8001, 2), (-8005, 2), (-8030, 2), (-8035, 2), (-8038, 2),
        (-8010, 3), (-8015, 3), (-8018, 3), (-8019, 3), (-8022, 3),
        (-8050, 4), (-8054, 4), (-8074, 4),
    ],
)  # fmt: skip
def test_every_group_of_codes_has_its_exit_status(code, status):
    assert exit_status(code) == status


def test_a_stamp_that_never_came_leaves_its_cell_empty():
    assert milliseconds(1_000_000, 3_500_000) == '2.5'
    assert milliseconds(0, 5) == milliseconds(5, 0) == ''


def test_send_without_a_segment_says_so_with_exit_status_3(nowhere):
    done = iblbridge('send', 'rig0', 'EXPSTATUS')
    assert done.returncode == 3
    assert 'IBLB_E_NO_SEGMENT' in done.stderr
    assert done.stdout == ''


@pytest.mark.parametrize(
    'arguments',
    [
        ['--service', 'cameras'],
        ['--services', 'absent.yaml'],
        ['--service', 'a=127.0.0.1', '--service', 'a=127.0.0.1'],
        ['--timeout', 'nan'],
        ['--journal', 'absent/journal'],
        ['--service', '_rig=127.0.0.1'],
        ['--services', ''],  # as "$FILE" of a variable that is not set: a rig would go without
        ['--settings', ''],
        ['--journal', ''],
    ],
)
def test_serve_refuses_a_wrong_configuration_in_one_sentence(arguments, nowhere):
    done = iblbridge('serve', '--segment', 'rig0', *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert list(nowhere.iterdir()) == []


@pytest.fixture
def worker(nowhere, tmp_path):
    """Run ``iblbridge serve`` without a service that could be reached; yields the process, once it is ready."""
    file = tmp_path / 'remote_devices.yaml'
    file.write_text('mesoscope: ws://127.0.0.1:8888\n')
    words = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig0', '--services', str(file), '--remove']
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **APART) as process:
        try:
            assert process.stdout.readline() == f'READY rig0 {nowhere / "rig0"}\n'
            yield process
        finally:
            process.kill()


def test_serve_says_what_it_serves_and_ends_with_0_removing_its_segment(worker, nowhere):
    assert iblbridge('send', 'rig0', 'PING').returncode == 0
    ask_to_end(worker)
    assert worker.wait(10) == 0
    log = worker.stderr.read()
    assert str(nowhere / 'rig0') in log
    assert 'mesoscope is not served: ws://' in log
    assert 'Traceback' not in log
    assert list(nowhere.iterdir()) == []


def test_serve_takes_settings_and_a_journal_and_says_farewell_if_asked(nowhere, tmp_path):
    file, journal = tmp_path / 'remote_devices.yaml', tmp_path / 'journal'
    file.write_text(
        'scope: {uri: "ws://127.0.0.1:8888", optional: true, timeout: 5, repeat: []}\n'
        '_rig: {heartbeat: 60, on_client_lost: {client: stimulus, send: EXPEND, after_s: 60}}\n'
    )
    words = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig0', '--services', str(file)]
    words += ['--journal', str(journal), '--notify']
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **APART) as process:
        try:
            assert process.stdout.readline().startswith('READY')
            done = iblbridge('send', 'rig0', 'EXPINIT')
            assert done.returncode == 0 and 'IBLB_W_OPTIONAL' not in done.stdout
            ask_to_end(process)
            assert process.wait(10) == 0
        finally:
            process.kill()
    shown = iblbridge('journal', str(journal))
    kinds = re.findall(r'(command|outcome)[ |]+(EXPINIT|EXPCLEANUP)', shown.stdout)
    assert kinds == [(kind, message) for message in ('EXPINIT', 'EXPCLEANUP') for kind in ('command', 'outcome')]


def test_a_second_worker_is_refused_naming_the_first_with_exit_status_3(worker):
    done = iblbridge('serve', '--segment', 'rig0')
    assert done.returncode == 3
    assert str(worker.pid) in done.stderr
    assert worker.poll() is None


def test_send_prints_the_response_as_json(worker):
    done = iblbridge('send', 'rig0', 'SERVICES', '--json')
    assert done.returncode == 0
    body = json.loads(done.stdout)
    assert [s['name'] for s in body['services']] == ['mesoscope']


def test_send_shows_the_configured_services_as_a_table(worker):
    done = iblbridge('send', 'rig0', 'services')
    assert done.returncode == 0
    assert re.search(r'mesoscope[ |]+ws://127\.0\.0\.1:8888[ |]+\w+', done.stdout)


def test_send_shows_what_a_failed_command_came_to_and_says_it_in_a_sentence(worker):
    done = iblbridge('send', 'rig0', 'EXPSTATUS')
    assert done.returncode == 1
    assert re.search(r'mesoscope[ |]+no[ |]+not sent', done.stdout)
    assert 'IBLB_E_ALL_FAILED: mesoscope' in done.stderr


def test_send_claims_no_answer_if_the_worker_refused_the_arguments(worker):
    done = iblbridge('send', 'rig0', 'EXPSTART')
    assert (done.returncode, done.stdout) == (2, '')
    assert 'IBLB_E_ARGS' in done.stderr


def test_send_claims_no_answer_to_a_command_that_reached_nobody(serve):
    serve('rig0')
    done = iblbridge('send', 'rig0', 'EXPSTART', '2026-01-01_1_subject')
    assert (done.returncode, done.stdout) == (0, '') and 'reached nobody' in done.stderr
    done = iblbridge('send', 'rig0', 'PING')
    assert done.returncode == 0 and re.fullmatch(r'PING: answered by the worker in [0-9.]+ ms\n', done.stdout)


def test_send_refuses_an_unknown_message_with_exit_status_2(worker):
    assert iblbridge('send', 'rig0', 'EXPSTRAT').returncode == 2
    assert iblbridge('send', 'rig0', '3').returncode == 2


def test_a_stop_signal_is_handed_to_the_callback():
    names = []
    wanted = ['SIGINT', 'SIGTERM', 'SIGBREAK' if WINDOWS else 'SIGHUP']
    old = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in wanted}
    try:
        console.on_stop_signals(names.append)
        for number in old:
            signal.raise_signal(number)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    assert names == wanted


def test_a_stop_while_the_sockets_are_opened_is_no_lost_one(nowhere):
    code = (
        'import signal; from bridge.worker import worker; from bridge.cli import main\n'
        'really = worker.open_services\n'
        'def interrupted(*args, **more):\n'
        '    signal.raise_signal(signal.SIGINT)\n'
        '    return really(*args, **more)\n'
        'worker.open_services = interrupted\n'
        'raise SystemExit(main(["serve", "--segment", "rig0", "--remove"]))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ['READY', 'rig0'])
    assert 'stopped by SIGINT' in done.stderr
    assert list(nowhere.iterdir()) == []


def test_the_end_of_standard_input_is_noticed():
    code = (
        'import threading; from bridge.cli.console import on_stdin_end; done = threading.Event(); '
        'on_stdin_end(done.set); '
        'raise SystemExit(not done.wait(10))'
    )
    with subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE) as process:
        assert not threading.Event().wait(0.2)
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_library_that_asks_for_standard_input_is_not_held_up_by_who_waits_for_its_end():
    """Importing numpy did, on Windows, until standard input ended: a read holds up all that look at the pipe."""
    code = (
        'from bridge.cli.console import on_stdin_end; on_stdin_end(lambda: None); '
        'import numpy, os; os.fstat(0); print("imported", flush=True); import time; time.sleep(60)'
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, '-c', code], stdin=pipe, stdout=pipe, text=True) as process:
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        assert process.stdout.readline() == 'imported\n'
        watchdog.cancel()
        process.kill()


def test_serve_ends_in_order_when_the_program_that_started_it_closes_its_pipe(nowhere):
    words = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig0', '--until-eof', '--remove']
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout.readline().startswith('READY')
            process.stdin.write('what is said is not read\n')
            process.stdin.flush()
            assert iblbridge('send', 'rig0', 'PING').returncode == 0
            process.stdin.close()
            assert process.wait(10) == 0
            assert 'stopped by the end of standard input' in process.stderr.read()
        finally:
            process.kill()
    assert list(nowhere.iterdir()) == []


def test_serve_needs_neither_standard_output_nor_standard_error(nowhere):
    """Windows' pythonw.exe, which runs programs without a window, has neither."""
    code = (
        'import sys; sys.stdout = sys.stderr = None; from bridge.cli import main; '
        'raise SystemExit(main(["serve", "--segment", "rig0", "--until-eof", "--remove"]))'
    )
    with subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE) as process:
        try:
            with Client('rig0', timeout=20) as client:
                client.call('PING')
            process.stdin.close()
            assert process.wait(10) == 0
        finally:
            process.kill()


def test_what_the_other_end_can_not_show_is_no_reason_to_fail(nowhere):
    """The reader of a pipe on Windows, or a terminal with a character set of its own."""
    words = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig0', '--service', 'камера=127.0.0.1:9']
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout.readline().startswith(b'READY rig0')
            environment = os.environ | {'PYTHONIOENCODING': 'cp1252'}
            words = [sys.executable, '-m', 'bridge', 'send', 'rig0', 'SERVICES']
            done = subprocess.run(words, env=environment, capture_output=True, check=False, timeout=30)
            assert done.returncode == 0, done.stderr
            assert 'камера'.encode() in done.stdout or ascii('камера')[1:-1].encode() in done.stdout
        finally:
            process.kill()


def test_a_reader_that_goes_away_leaves_no_traceback():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, '-m', 'bridge', '--help'],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    os.close(write)
    assert 'Traceback' not in done.stderr


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='there is no disk that is always full')
@pytest.mark.parametrize(
    'words',
    [['--version'], ['send', 'rig0', 'SERVICES'], ['send', 'rig0', 'PING', '--json'], ['doctor'], ['doctor', '--json']],
)
def test_output_that_can_not_be_written_is_said_in_one_line(words, worker):
    for tool in ([sys.executable, '-m', 'bridge'], [str(IBLB)]):
        if tool[0] == str(IBLB):
            words = ['call', 'rig0', 'PING'] if words[0] == 'send' else ['codes']
        with open('/dev/full', 'w') as full:
            done = subprocess.run(
                [*tool, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False
            )
        assert done.returncode == 2 and done.stderr.count('\n') == 1
        assert 'the output cannot be written' in done.stderr


@pytest.mark.posix('a shell closes the output')
@pytest.mark.parametrize('words', [['send', 'rig0', 'PING'], ['send', 'rig0', 'SERVICES'], ['doctor'], ['--version']])
def test_who_closes_our_output_wants_none(words, worker):
    tools = [[sys.executable, '-m', 'bridge', *words], [str(IBLB), 'call', 'rig0', 'SERVICES']]
    for tool in tools:
        shell = ['sh', '-c', 'exec "$@" >&-', 'sh', *tool]
        done = subprocess.run(shell, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, '')


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='there is no disk that is always full')
@pytest.mark.parametrize('gone', [False, True])
def test_a_rig_goes_on_if_nobody_takes_its_output(nowhere, gone):
    """Its disk is full, or who read it has gone."""
    words = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig0', '--until-eof']
    read, write = os.pipe()
    os.close(read)
    with (
        open('/dev/full', 'w') as full,
        subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=write if gone else full, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        os.close(write)
        try:
            with Client('rig0', 'stimulus', timeout=20) as client:
                assert client.call('PING')['code'] == 0
            _, said = process.communicate(timeout=30)
            assert process.returncode == 0 and 'Traceback' not in said and 'end of standard input' in said
        finally:
            process.kill()
