"""``serve --http`` and ``iblbridge page``: a process of its own, and whatever becomes of it, the rig goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
import systems
from peers import StockServer, eventually
from processes import kill
from systems import APART, ask_to_end, go_on, stop

from bridge.cli import main
from bridge.errors import BridgeError
from bridge.segment.client import Client

pytest.importorskip('aiohttp', reason='the extra web is not installed')
pytest.importorskip('prometheus_client', reason='the extra web is not installed')

HERE = '127.0.0.1:0'
REF = '2026-01-01_1_subject'
TOKEN = 'a-long-word-of-your-own'


class Rig:
    """A worker with a page, in processes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.said = process, list[str]()
        self.url = self.until(r'status page: (http://\S+)')[1]

    def until(self, pattern: str) -> re.Match[str]:
        """Return the match of the first line of the log that has one."""
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f'{pattern} did not come: {self.said}')

    def state(self) -> dict:
        """Return the state, {} if there is none now."""
        return state(self.url)

    def page(self) -> int:
        """Return the process of the page."""
        (slot,) = [line for line in doctor() if 'iblb-page-' in line]
        return int(re.search(r'iblb-page-(\d+)', slot)[1])


def state(url: str, **headers: str) -> dict:
    try:
        request = urllib.request.Request(f'{url}api/state', headers=headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)
    except (urllib.error.URLError, ConnectionError):
        return {}


def doctor() -> list[str]:
    command = [sys.executable, '-m', 'bridge', 'doctor']
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.splitlines()


@contextmanager
def rig(*options: object, **environment: str) -> Iterator[Rig]:
    command = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig', '--http', HERE, *map(str, options)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ | environment, **APART)
    try:
        rig = Rig(process)
        assert process.stdout.readline().startswith('READY ')
        yield rig
    finally:
        process.kill()
        process.communicate(timeout=20)


def test_the_page_tells_of_services_commands_and_the_experiment_with_the_keys_of_services():
    with (
        StockServer({2: lambda data: [*data, {'status': 20}]}) as server,
        rig('--service', f'cameras={server.uri}') as served,
    ):
        eventually(lambda: (s := served.state()) and s['services'] and s['services'][0]['uri'])
        with Client('rig', 'stimulus') as client:
            client.call('EXPSTART', REF)
            known = client.call('SERVICES')['services'][0]['data']
            said = eventually(lambda: (s := served.state()) and s['experiment']['running'] and s['programs'] and s)
        (cameras,) = said['services']
        assert {key: cameras[key] for key in known if key != 'age_ms'} == {
            key: value for key, value in known.items() if key != 'age_ms'
        }
        assert said['experiment']['exp_ref'] == REF
        (command,) = said['commands']
        assert (command['message'], command['client'], command['services'][0]['ok']) == ('EXPSTART', 'stimulus', True)
        assert [program['client'] for program in said['programs']] == ['stimulus']


@pytest.mark.slow
def test_a_question_neither_goes_on_with_the_recording_of_the_dead_nor_undoes_a_failure():
    def refuse(data: list) -> list:
        raise OSError('the disk is full')

    second = '2026-01-01_2_subject'
    replies = {1: refuse, 2: lambda data: [*data, {'status': 20}], 3: lambda data: [{'status': 30}], 6: [30]}
    with StockServer(replies) as ephys, ExitStack() as power, ExitStack() as stack:
        cameras = power.enter_context(StockServer(replies))
        served = stack.enter_context(rig('--service', f'cameras={cameras.uri}', '--service', f'ephys={ephys.uri}'))
        client = stack.enter_context(Client('rig', 'stimulus'))

        def tell(message: str, *args: object, to: str | None = None) -> dict:
            """Send a command, whatever becomes of it, and return the state once the page knows that."""
            with suppress(BridgeError):
                client.call(message, *args, services=to)
            told.append(message)
            ended = [(one, True) for one in told]
            return eventually(lambda: (s := served.state()) and ended == of_commands(s) and s)

        def of_commands(state: dict) -> list[tuple[str, bool]]:
            return [(one['message'], one['finished']) for one in state['commands']]

        told: list[str] = []
        eventually(
            lambda: (s := served.state()) and s['services'] and s['services'][0]['uri']
        )  # it has begun to listen
        assert tell('EXPSTART', REF)['experiment']['running']
        power.close()
        assert tell('EXPSTATUS', 20, to='cameras')['experiment']['running'], 'it was not ended'
        assert not tell('EXPEND')['experiment']['running']
        said = tell('EXPSTATUS', 20, to='cameras')
        assert not said['experiment']['running'] and said['experiment']['exp_ref'] == REF
        assert [alarm['title'] for alarm in said['alarms']] == ['cameras is lost']
        assert tell('EXPINIT', second, to='ephys')['services'][1]['light'] == 'yellow'
        failed = tell('EXPSTATUS', 20, to='ephys')['services'][1]
        assert failed['light'] == 'yellow' and 'the disk is full' in failed['last_error']
        assert client.call('SERVICES')['services'][1]['data']['last_error'] == failed['last_error']
        said = tell('EXPSTART', second, to='ephys')
        assert said['experiment']['running'] and said['experiment']['exp_ref'] == second
        assert said['services'][1]['light'] == 'green'


@pytest.mark.slow
def test_the_page_adds_nothing_to_the_journal(tmp_path):
    journal = tmp_path / 'rig.jsonl'
    with StockServer() as server, rig('--service', f'cameras={server.uri}', '--journal', journal) as served:
        eventually(lambda: (s := served.state()) and s['services'])
        with Client('rig', 'stimulus') as client:
            client.call('PING')  # what the page had asked stands before it

        def written() -> list[str]:
            entries = [json.loads(line) for line in journal.read_text().splitlines()]
            return [entry['message'] for entry in entries if entry['kind'] in ('command', 'outcome')]

        assert eventually(lambda: (said := written())[1:] and said) == ['PING', 'PING']


@pytest.mark.slow
def test_a_page_that_is_killed_is_started_anew_and_the_rig_goes_on():
    with StockServer() as server, rig('--service', f'cameras={server.uri}') as served:
        eventually(served.state)
        first = eventually(served.page)
        systems.kill(first)
        with Client('rig', 'stimulus') as client:
            assert client.call('EXPSTATUS', 20)['code'] == 0
        served.until('the status page has ended .* is started anew')
        served.url = served.until(r'status page: (http://\S+)')[1]
        assert eventually(served.state)['worker']['state'] == 'serving'


@pytest.mark.slow
@pytest.mark.posix('who is no child of ours is stopped by a signal')
def test_a_page_that_is_stopped_does_not_hold_the_rig_up_nor_its_end():
    with StockServer() as server, rig('--service', f'cameras={server.uri}') as served:
        eventually(served.state)
        os.kill(eventually(served.page), signal.SIGSTOP)
        with Client('rig', 'stimulus') as client:
            for _ in range(300):
                client.call('PING')
            assert client.call('EXPSTATUS', 20)['code'] == 0
        ask_to_end(served.process)
        assert served.process.wait(20) == 0


@pytest.mark.slow
@pytest.mark.parametrize('how', ['asked', 'killed'])
def test_the_page_ends_with_its_worker_and_its_address_is_free_for_the_next(how):
    with rig() as served:
        eventually(served.state)
        (kill if how == 'killed' else ask_to_end)(served.process)
        served.process.wait(20)
        port = int(served.url.rstrip('/').rpartition(':')[2])
        eventually(lambda: not served.state())
    with rig('--http', f'127.0.0.1:{port}') as again:
        assert again.url == served.url and eventually(again.state)['worker']['state'] == 'serving'


@pytest.mark.slow
@pytest.mark.posix('the system does not say who is stopped')
def test_a_worker_that_is_stopped_is_said_to_be():
    with rig() as served:
        eventually(served.state)
        stop(served.process)
        eventually(lambda: served.state()['worker']['state'] == 'stopped')
        go_on(served.process)
        eventually(lambda: served.state()['worker']['state'] == 'serving')


def test_a_page_of_a_rig_that_does_not_exist_yet_says_that_it_waits_for_it():
    """A name that was mistyped looked as ready as any other."""
    command = [sys.executable, '-m', 'bridge', 'page', 'nosuch', '--http', HERE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **APART) as process:
        try:
            assert process.stdout.readline().startswith('READY ')
            assert any(line.startswith('there is no rig nosuch yet; the page waits for') for line in process.stderr)
        finally:
            process.kill()


def test_while_an_address_is_taken_nothing_runs_and_who_starts_it_may_try_again(capfd):
    """It was called misuse, after which systemd does not try again."""
    with socket.create_server(('127.0.0.1', 0)) as other:
        at = f'127.0.0.1:{other.getsockname()[1]}'
        assert main(['serve', '--segment', 'rig', '--http', at]) == 3
    said = capfd.readouterr()
    assert 'READY' not in said.out
    assert f'iblbridge serve: --http: {at} cannot be had: ' in said.err and 'choose another port' in said.err


@pytest.mark.parametrize('words', [['serve', '--segment', 'rig'], ['page', 'rig']])
def test_an_address_of_another_computer_is_not_said_to_be_taken(words, capfd):
    """One was told to end the program that has it."""
    assert main([*words, '--http', '192.0.2.1:8650']) == 3  # RFC 5737: of examples
    assert (
        '192.0.2.1:8650 cannot be had: this computer has no such address; use one of its own' in capfd.readouterr().err
    )


@pytest.mark.parametrize('missing', ['aiohttp', 'prometheus_client'])
def test_without_the_extra_a_sentence_says_what_to_install(tmp_path, monkeypatch, capfd, missing):
    (tmp_path / 'hidden').mkdir()
    (tmp_path / 'hidden' / f'{missing}.py').write_text(f'raise ModuleNotFoundError("none", name={missing!r})')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path / 'hidden'), prepend=os.pathsep)
    assert main(['serve', '--segment', 'rig', '--http', HERE]) == 2
    assert (
        "iblbridge serve: the status page needs the extra web: pip install 'iblbridge[web]'." in capfd.readouterr().err
    )


SLOW_TO_START = """
import os, pathlib, sys, time
if 'page' in sys.orig_argv:
    here = pathlib.Path(os.environ['SLOW_TO_START'])
    (here / 'begun').touch()
    while not (here / 'go on').exists():
        time.sleep(0.01)
"""


@pytest.mark.posix('has process groups, to which a terminal sends Ctrl-C')
def test_ctrl_c_while_the_page_reads_its_modules_is_no_wrong_setting(tmp_path, monkeypatch):
    """It ended the page with a traceback, which the worker took for why there is no page: exit status 2."""
    (tmp_path / 'sitecustomize.py').write_text(SLOW_TO_START)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    monkeypatch.setenv('SLOW_TO_START', str(tmp_path))
    command = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig', '--http', HERE]
    streams = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.PIPE}
    with subprocess.Popen(command, text=True, start_new_session=True, **streams) as serving:
        eventually((tmp_path / 'begun').exists, 30)
        os.killpg(serving.pid, signal.SIGINT)
        (tmp_path / 'go on').touch()
        _, said = serving.communicate(timeout=30)
    assert serving.returncode == 0 and 'stopped by SIGINT' in said and 'Traceback' not in said, said


def test_without_the_option_nothing_of_the_page_is_loaded():
    code = (
        'import sys; from bridge.cli import main; status = main(sys.argv[1:])\n'
        'print([name for name in sys.modules if name.split(".")[0] in ("aiohttp", "prometheus_client")], status)'
    )
    words = ['serve', '--segment', 'rig', '--until-eof']
    done = subprocess.run(
        [sys.executable, '-c', code, *words], input='', capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines()[-1] == '[] 0', done.stderr


@pytest.mark.slow
def test_for_others_than_this_pc_a_token_is_made_and_printed_or_the_given_one_is_used(tmp_path):
    with rig('--http', '0.0.0.0:0') as served:
        assert '0.0.0.0' not in served.said[-1], 'no browser finds that'
        made = re.search(rf'http://{re.escape(socket.gethostname())}:(\d+)/\?token=(\S{{16,}})$', served.said[-1])
        url = f'http://127.0.0.1:{made[1]}/'
        assert not state(url)
        assert eventually(lambda: state(url, Authorization=f'Bearer {made[2]}'))['segment'] == 'rig'
        assert not state(url)
        assert TOKEN not in served.url
    with rig('--http', '0.0.0.0:0', IBLBRIDGE_HTTP_TOKEN=TOKEN) as served:
        assert served.url.endswith(f'/?token={TOKEN}')
        assert not [line for line in doctor() if TOKEN in line]
    file = tmp_path / 'rig.yaml'
    file.write_text(f'_rig: {{http: {{address: "0.0.0.0:1", token: {TOKEN}}}}}')
    with rig('--services', file) as served:
        assert served.url.startswith('http://127.0.0.1:') and served.url.endswith(f'/?token={TOKEN}')


def test_a_token_that_is_easily_guessed_is_refused(monkeypatch, capsys):
    monkeypatch.setenv('IBLBRIDGE_HTTP_TOKEN', 'rig0')
    for words in (['serve', '--segment', 'rig', '--http', HERE], ['page', 'rig', '--http', HERE]):
        assert main(words) == 2
        assert 'IBLBRIDGE_HTTP_TOKEN: the token is not 16 to 200' in capsys.readouterr().err


@pytest.mark.parametrize('address', ['', 'rig0', '127.0.0.1:99999'])
def test_an_address_that_is_none_is_refused(address, capsys):
    assert main(['serve', '--segment', 'rig', '--http', address]) == 2
    assert '--http: ' in capsys.readouterr().err


def test_a_page_alone_is_where_the_help_says_without_any_option(monkeypatch, capsys):
    from bridge.cli import page

    asked = []
    monkeypatch.setattr(page, '_serve', lambda args, found, token: asked.append(found.address) or 0)
    assert main(['page', 'rig']) == 0
    assert main(['page', 'rig', '--http', '0.0.0.0:80']) == 0
    assert asked == ['127.0.0.1:8650', '0.0.0.0:80']
    assert main(['page', '--help']) == 0
    assert 'default 127.0.0.1:8650' in ' '.join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_page_alone_waits_for_its_rig_shows_it_and_ends_in_order(serve, server):
    command = [sys.executable, '-u', '-m', 'bridge', 'page', 'rig', '--http', HERE]
    pipe = subprocess.PIPE
    page = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **APART)
    try:
        url = page.stdout.readline().split()[1]
        assert eventually(lambda: state(url))['worker']['state'] == 'none'
        worker = serve('rig', {'cameras': server.uri})
        eventually(lambda: (s := state(url)) and s['worker']['state'] == 'serving' and s['services'])
        with Client('rig') as client:
            client.subscribe('CLIENT_LOST')
            worker.end_of_test()
            eventually(lambda: state(url)['worker']['state'] == 'none')
            serve('rig', {'cameras': server.uri})
            eventually(lambda: state(url)['worker']['state'] == 'serving')
            ask_to_end(page)
            assert page.wait(20) == 0
            assert not client.next_event(0.5), 'its end is no program that was lost'
    finally:
        page.kill()
        assert 'Traceback' not in page.communicate()[1]


def test_a_rig_without_a_place_for_the_page_is_shown_all_the_same_and_the_button_says_why_it_does_nothing(
    serve, server
):
    from bridge.web.follow import Follower

    serve('rig', {'cameras': server.uri}, segment_options={'slots': 2}, ask=True)
    shown: list[str] = []
    with Client('rig', 'stimulus'), Client('rig', 'iblb-other'):
        follower = Follower('rig', shown.append)
        follower.start()
        try:
            eventually(lambda: shown and json.loads(shown[-1])['services'])
            last = json.loads(shown[-1])
            assert (last['worker']['state'], last['services'][0]['name']) == ('serving', 'cameras')
            eventually(lambda: 'All 2 client slots' in follower.press()['error'])
            assert not follower.press()['sent']
        finally:
            follower.stop()
    assert not [event for event, *_ in server.saw if event == 16]


def test_a_press_that_fails_at_a_service_says_which_one(serve, server):
    from bridge.web.follow import Follower

    with StockServer({16: None}) as mute:
        serve('rig', {'cameras': server.uri, 'ephys': mute.uri}, timeout=0.5)
        follower = Follower('rig', lambda text: None)
        follower.start()
        try:
            said = eventually(lambda: (said := follower.press())['sent'] and said)
        finally:
            follower.stop()
    assert said['code_name'] == 'IBLB_E_PARTIAL' and 'ephys' in said['error']
    assert [(one['name'], one['ok']) for one in said['services']] == [('cameras', True), ('ephys', False)]


def test_a_page_that_takes_long_to_start_is_not_waited_for(monkeypatch, caplog):
    from bridge.cli.page import process as page_process
    from bridge.web.address import PageConfig

    monkeypatch.setattr(page_process, 'AT_FIRST', 0.01)
    caplog.set_level('INFO')
    page = page_process.PageProcess('rig', PageConfig(port=0))
    try:
        page.wait()
        assert 'the rig does not wait for it' in caplog.text
        eventually(lambda: 'status page: http://127.0.0.1:' in caplog.text, 30)
    finally:
        page.close()


def test_a_page_that_the_system_refuses_to_start_for_a_while_is_started_when_it_can_be(monkeypatch, caplog):
    """Nobody tried again: there was no page until the worker ended."""
    from bridge.cli.page import process as page_process
    from bridge.web.address import PageConfig

    monkeypatch.setattr(page_process, 'PAUSES', (0.05,))
    refused, real = [], page_process.PageProcess._start

    def start(page: page_process.PageProcess) -> subprocess.Popen[str]:
        if len(refused) < 3:
            refused.append(page)
            raise BlockingIOError('Resource temporarily unavailable')
        return real(page)

    page = page_process.PageProcess('rig', PageConfig(port=0))
    try:
        page.wait()
        monkeypatch.setattr(page_process.PageProcess, '_start', start)
        first = page._process
        first.kill()
        eventually(lambda: page._process is not first, 30)
        assert len(refused) == 3 and 'cannot be started' in caplog.text
        eventually(lambda: page._process.poll() is None)
    finally:
        page.close()
