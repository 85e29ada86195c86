"""iblbridge reload, and SIGHUP: the worker reads its files again, and says what came of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from peers import StockServer, eventually
from processes import kill, serving

from bridge.cli import console
from bridge.cli.install.systemd import unit
from bridge.errors import BridgeError, NoWorker, OutcomeUnknown
from bridge.numbers import MESSAGES
from bridge.segment.client import Client
from bridge.segment.served import RELOAD

LAMP = 'lamp: ws://127.0.0.1:8888\n'  # is not served, and needs no peer


def reload(*words):
    command = [sys.executable, '-m', 'bridge', 'reload', 'rig', *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def file(tmp_path, server):
    path = tmp_path / 'services.yaml'
    path.write_text(f'cameras: {server.uri}\n')
    return path


def names(client):
    return [entry['name'] for entry in client.call('SERVICES')['services']]


def test_a_reload_says_what_is_different_and_a_refusal_has_exit_status_2(file, server):
    before = file.read_text()
    with serving('--services', file), Client('rig', timeout=10) as client:
        done = reload()
        assert (done.returncode, done.stdout, done.stderr) == (0, 'rig: nothing has changed\n', '')
        file.write_text(before + LAMP)
        done = reload('--check')
        assert (done.returncode, done.stdout) == (0, 'rig: would change: added lamp\n')
        assert names(client) == ['cameras']
        done = reload()
        assert (done.returncode, done.stdout) == (0, 'rig: added lamp\n')
        assert names(client) == ['cameras', 'lamp']
        for wrong, says in (('', 'is empty'), ('cameras: {', 'not valid YAML'), ('ephys: 192.168.0\n', 'not an IPv4')):
            file.write_text(wrong)
            done = reload()
            assert (done.returncode, done.stdout) == (2, '')
            assert says in done.stderr and done.stderr.endswith('. Nothing was changed.\n')
            assert names(client) == ['cameras', 'lamp']
        file.unlink()
        done = reload()
        assert done.returncode == 2 and 'No such file' in done.stderr
        assert names(client) == ['cameras', 'lamp']


def test_what_stands_on_the_command_line_stays_on_top(file, tmp_path):
    settings = tmp_path / 'settings.yaml'
    settings.write_text('cameras: {timeout: 30}\n')
    options = ['--services', file, '--settings', settings, '--service', 'ephys=127.0.0.1:9', '--no-ask']
    with serving(*options), Client('rig', timeout=10) as client:
        file.write_text(file.read_text() + LAMP)
        settings.write_text('cameras: {timeout: 20}\n_rig: {ask: true}\n')
        done = reload()
        assert (done.returncode, done.stdout) == (0, 'rig: added lamp; changed cameras\n')
        assert names(client) == ['cameras', 'lamp', 'ephys']
        file.write_text(f'{LAMP}ephys: 127.0.0.1:10\n')
        done = reload()
        assert done.returncode == 2 and 'ephys is given twice' in done.stderr


@pytest.mark.parametrize(
    'setting', ['journal_rotate: 1MB', 'http: 127.0.0.1:8650', 'listen: {lamp: {uri: "udp://:0"}}']
)
def test_what_takes_a_restart_is_refused_by_its_name(file, setting):
    with serving('--services', file), Client('rig', timeout=10) as client:
        file.write_text(f'{file.read_text()}{LAMP}_rig: {{{setting}}}\n')
        done = reload()
        assert done.returncode == 2 and f'{setting.partition(":")[0]}:' in done.stderr and 'restart' in done.stderr
        assert names(client) == ['cameras']


def test_nobody_to_be_asked_has_exit_status_3(file):
    done = reload()
    assert done.returncode == 3 and 'IBLB_E_NO_SEGMENT' in done.stderr
    with serving('--services', file) as worker:
        kill(worker)
        done = reload('--timeout', '0.5')
        assert done.returncode == 3


@pytest.mark.posix('SIGHUP')
def test_sighup_has_the_files_read_again(file):
    with serving('--services', file) as worker, Client('rig', timeout=10) as client:
        file.write_text(file.read_text() + LAMP)
        worker.send_signal(signal.SIGHUP)
        eventually(lambda: names(client) == ['cameras', 'lamp'], 10)
        file.write_text('')
        worker.send_signal(signal.SIGHUP)
        assert any('is refused' in line for line in worker.stderr)
        assert names(client) == ['cameras', 'lamp']


@pytest.mark.posix('SIGHUP')
def test_sighup_of_a_terminal_that_is_closed_still_ends_the_worker(file):
    """Whoever closes the window wants the worker to end, as with any other program."""
    import pty

    command = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig', '--services', str(file)]
    pid, terminal = pty.fork()
    if not pid:
        os.execv(sys.executable, command)
    try:
        with Client('rig', timeout=20) as client:
            eventually(lambda: client.worker_state().alive, 20)
            file.write_text(file.read_text() + LAMP)
            os.kill(pid, signal.SIGHUP)  # its terminal is there
            eventually(lambda: names(client) == ['cameras', 'lamp'], 10)
            os.close(terminal)
            ended = eventually(lambda: (found := os.waitpid(pid, os.WNOHANG))[0] and found, 20)
            pid = 0
            assert os.waitstatus_to_exitcode(ended[1]) == 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.mark.posix('SIGHUP')
def test_a_hangup_that_is_ignored_stays_ignored():
    came, before = [], signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        console.on_hangup(came.append, came.append)
        signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not came


@pytest.mark.parametrize('number', range(6))
def test_a_worker_that_is_killed_while_it_reloads_leaves_nothing_behind(file, server, tmp_path, number):
    """The next one begins with what the files say, and every command has one answer."""
    with StockServer() as other:
        texts = [f'cameras: {server.uri}\nephys: {other.uri}\n', f'ephys: {server.uri}\n', f'a: {other.uri}\n']
        answers = []

        def command(client):
            for i in range(40):
                request = client.send('EXPINIT', i, ttl=None)
                while True:
                    try:
                        answers.append(client.wait(request, 30)['code'])
                    except NoWorker:
                        continue
                    except BridgeError as error:
                        answers.append(error.code)
                    break

        with (
            serving('--services', file) as worker,
            Client('rig', 'program', timeout=10) as program,
            Client('rig', 'asks', timeout=10) as asks,
        ):
            commanding = threading.Thread(target=command, args=(program,))
            commanding.start()
            requests = []
            for i in range(number + 1):
                file.write_text(texts[i % 3])
                requests.append(asks.send(RELOAD, ttl=None))
                eventually(lambda i=i: len(answers) > 2 * i, 20)
            kill(worker)
            with serving('--services', file):
                commanding.join(120)
                assert len(answers) == 40
                for request in requests:
                    try:
                        assert asks.wait(request, 30)['code'] == 0
                    except OutcomeUnknown as error:
                        assert error.name == 'IBLB_E_OUTCOME_UNKNOWN'
                assert asks.call(RELOAD, timeout=30)['services'][0]['data']['said'] == 'nothing has changed'
                last = [line.split(':')[0] for line in file.read_text().splitlines()]
                assert names(asks) == last
    for peer in (server, other):
        seen = [one[1] for one in peer.saw if one[0] == MESSAGES['EXPINIT']]
        assert len(seen) == len(set(seen))


def test_a_unit_of_systemd_is_reloaded_by_the_same_python():
    words = ['/opt/venv/bin/python', '-m', 'bridge', 'serve', '--segment', 'rig0', '--services', '/etc/rig0.yaml']
    text = unit('rig0', words, {})
    assert 'ExecReload="/opt/venv/bin/python" "-m" "bridge" "reload" "rig0"\n' in text
