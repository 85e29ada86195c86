"""``iblbridge watch``: what happens on a rig, as it happens; who watches holds nothing up and is told no secret."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import StockServer, eventually
from systems import APART, ask_to_end, go_on, stop

from bridge.cli import main
from bridge.cli.console import Ended
from bridge.errors import BridgeError
from bridge.segment import inspection
from bridge.segment.client import Client
from bridge.segment.response import command_event, pack
from bridge.segment.served import COMMANDS
from bridge.segment.tool import Tool

REF = '2026-01-01_1_subject'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3),
    max_leaves=6,
)


class Watching:
    """A running ``iblbridge watch``."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, '-u', '-m', 'bridge', 'watch', *words]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, encoding='utf-8', **APART)
        self.said()

    def said(self) -> str:
        """Return the next line about the rig itself."""
        return str(self.process.stderr.readline())

    def until(self, word: str) -> list[str]:
        """Return the next lines, up to one that holds a word."""
        found: list[str] = []
        for line in self.process.stdout:
            found.append(line)
            if word in line:
                return found
        raise AssertionError(f'{word} did not come: {found}')


@pytest.fixture
def watch() -> Iterator[type[Watching]]:
    """Return a function that starts to watch, and returns when it does."""
    started = []

    def start(*words: str) -> Watching:
        started.append(Watching(*words))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


def test_commands_of_all_programs_and_events_are_shown_as_they_happen_until_ctrl_c(serve, server, watch):
    serve('rig', {'cameras': server.uri})
    seen = watch('rig')
    with Client('rig', 'stimulus') as client, Client('rig', 'größer') as other:
        client.call('EXPSTART', REF)
        lines = ''.join(seen.until('outcome  EXPSTART'))
        for word in ('command  EXPSTART', 'stimulus', REF, 'SERVICE_UP', 'cameras: answered'):
            assert word in lines
        other.notify('EXPSTATUS', services=['cameras'])
        assert 'größer' in seen.until('notified EXPSTATUS')[-1]
        with pytest.raises(BridgeError):
            client.call('EXPSTATUS', 'ASLEEP')
        assert seen.until('outcome  EXPSTATUS')[-1].startswith('! ')
    ask_to_end(seen.process, 'SIGINT')
    assert seen.process.wait(20) == 130
    assert 'Traceback' not in seen.process.stderr.read()


def test_what_the_worker_answers_itself_is_not_called_not_sent(serve, server, watch):
    serve('rig', {'cameras': server.uri})
    seen = watch('rig')
    with Client('rig', 'stimulus') as client:
        for message in ('PING', 'SERVICES'):
            client.call(message)
            assert seen.until(f'outcome  {message}')[-1].rstrip().endswith(' ms, answered by the worker')


def test_the_end_of_a_watch_is_no_program_that_was_lost(serve, server, watch):
    serve('rig', {'cameras': server.uri})
    ended, other = watch('rig'), watch('rig')
    with Client('rig', 'stimulus') as client:
        client.subscribe('CLIENT_LOST')
        ask_to_end(ended.process, 'SIGINT')
        assert ended.process.wait(20) == 130
        other.process.kill()
        event = client.next_event(20)
    assert event['client'] == f'iblb-watch-{other.process.pid}'


ENDED_OTHERWISE = pytest.mark.posix('SIGTERM there is the end of a process, and no signal')
TOOLS = (['watch', 'rig'], ['send', 'rig', 'EXPSTART', REF])


@ENDED_OTHERWISE
@pytest.mark.parametrize('words', TOOLS, ids=['watch', 'send'])
@pytest.mark.parametrize('how', ['SIGTERM', 'SIGHUP'])
def test_a_tool_that_a_service_manager_ends_is_no_program_that_was_lost(serve, words, how):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, Client_of_a_rig(serve, silent) as client:
        tool = subprocess.Popen([sys.executable, '-m', 'bridge', *words], stderr=subprocess.PIPE, text=True, **APART)
        name = f'iblb-{words[0]}-{tool.pid}'
        eventually(lambda: attached(name), 20)
        ask_to_end(tool, how)
        assert tool.wait(20) == 128 + getattr(signal, how)
        tool.communicate()
        eventually(lambda: not attached(name), 20)
        Client('rig', 'last').abandon()
        assert client.next_event(20)['client'] == 'last'


def ended_at(step, what):
    """Do something; end it before its n-th byte code as a signal's handler does; tell whether it came so far."""
    steps = itertools.count(1)

    def trace(frame, kind, argument):
        if f'{os.sep}segment{os.sep}' not in frame.f_code.co_filename and frame.f_code is not what.__code__:
            return None
        frame.f_trace_opcodes = True
        if kind == 'opcode' and next(steps) == step:
            raise Ended(15)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        what()
    except Ended:
        return True
    finally:
        sys.settrace(before)
    return False


def test_a_tool_that_is_ended_at_any_step_of_its_coming_and_going_is_no_program_that_was_lost(serve):
    # Once it was, if the signal came between the client's opening and what closes it.
    def come_and_go():
        with Tool('rig', 'watch'):
            pass

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, Client_of_a_rig(serve, silent) as client:
        step = 1
        while ended_at(step, come_and_go):
            step += 1
        assert step > 100
        eventually(lambda: not attached(f'iblb-watch-{os.getpid()}'), 20)
        Client('rig', 'last').abandon()
        assert client.next_event(20)['client'] == 'last'


def Client_of_a_rig(serve, silent):
    silent.bind(('127.0.0.1', 0))
    serve('rig', {'cameras': f'udp://127.0.0.1:{silent.getsockname()[1]}'})
    client = Client('rig', 'stimulus')
    client.subscribe('CLIENT_LOST')
    return client


def attached(name):
    return any(slot.client == name for slot in inspection.inspect('rig').slots)


def test_each_line_is_an_object_if_json_is_asked_for_and_no_token_is_in_it(serve, server, watch):
    serve('rig', {'cameras': server.uri})
    seen = watch('rig', '--json')
    with Client('rig', 'stimulus') as client:
        client.notify('ALYX', 'https://alyx', {'me': 's3cret'})
        client.notify('EXPINIT', 'x' * 50_000)
        client.call('PING')
        lines = seen.until('"outcome", "sequence"')
    found = [json.loads(line) for line in lines]
    assert 's3cret' not in ''.join(lines)
    commands = [(e['message'], e['client'], e['args']) for e in found if e['kind'] == 'command']
    assert commands == [('ALYX', 'stimulus', []), ('EXPINIT', 'stimulus', ['(left out)']), ('PING', 'stimulus', [])]


def test_what_is_not_read_in_time_is_lost_to_who_watches_alone_and_said(serve, server, watch):
    serve('rig', {'cameras': server.uri})
    seen = watch('rig')
    with Client('rig', 'stimulus') as client:
        stop(seen.process)
        for _ in range(400):
            client.call('PING')
        go_on(seen.process)
        eventually(lambda: client.call('PING') and any('entries are missing' in line for line in seen.until('PING')))


def test_a_worker_that_goes_and_comes_back_is_said_and_what_it_does_then_is_shown(serve, server, watch):
    worker = serve('rig', {'cameras': server.uri})
    seen = watch('rig')
    worker.end_of_test()
    assert 'no worker serves it' in seen.said()
    worker = serve('rig', {'cameras': server.uri})
    assert 'watching' in seen.said()
    assert seen.until('WORKER_RESTARTED')
    with Client('rig') as client:
        client.call('PING')
        assert seen.until('outcome  PING')


def test_a_rig_that_there_is_not_is_said_with_exit_status_3(capsys):
    assert main(['watch', 'rig9']) == 3
    assert 'IBLB_E_NO_SEGMENT' in capsys.readouterr().err


def test_nothing_is_made_for_those_who_do_not_watch(serve, server, monkeypatch):
    worker = serve('rig', {'cameras': server.uri})
    made = []
    monkeypatch.setattr(worker._segment, 'publish_command', made.append)
    with Client('rig') as client:
        client.subscribe('SERVICE_UP', 'EXPINTERRUPT')
        client.call('EXPINIT')
        assert not made
        client.subscribe(COMMANDS)
        eventually(lambda: worker._segment.is_wanted(COMMANDS))
        client.call('PING')
        told = [(body['kind'], body['message']) for body in made if body['kind'] != 'tick']
        assert told == [('command', 'PING'), ('outcome', 'PING')]


SERVICES = st.text() | st.lists(
    st.fixed_dictionaries({'name': st.text(), 'ok': st.booleans(), 'error': st.text(), 'data': JSON}), max_size=3
)


def test_who_looks_closely_is_told_what_each_service_does_when_it_has_done_it_and_that_the_worker_goes_on(serve):
    told: list[dict] = []
    with StockServer() as quick, StockServer({32: None}) as silent:
        worker = serve('rig', {'cameras': quick.uri, 'ephys': silent.uri}, timeout=2.0)
        with Client('rig', 'stimulus') as client, Client('rig', 'page') as close:
            close.subscribe(COMMANDS)
            eventually(lambda: worker._segment.is_wanted(COMMANDS))
            client.send('EXPSTATUS', 20)
            while not told or told[-1]['kind'] != 'outcome':
                if event := close.next_event(5):
                    told += [event] if event['kind'] != 'tick' else []
            eventually(lambda: (event := close.next_event(5)) and event['kind'] == 'tick', 20)
    command, first, second, outcome = told
    assert [entry['kind'] for entry in told] == ['command', 'progress', 'progress', 'outcome']
    assert {entry['command_id'] for entry in told} == {command['command_id']}
    assert first['services'][0]['name'] == first['health']['name'] == 'cameras' and first['services'][0]['ok']
    assert first['health'].keys() > {'health', 'age_ms', 'rtt_us', 'status', 'exp_ref', 'last_error'}
    assert second['health']['last_error'] and not second['services'][0]['ok']
    assert outcome['finished'] > second['time'] > first['time']


def test_a_watch_does_not_show_what_only_those_who_look_closely_want(serve, server, watch):
    serve('rig', {'cameras': server.uri})
    seen = watch('rig', '--json')
    with Client('rig', 'stimulus') as client:
        client.call('EXPSTATUS', 20)
        lines = seen.until('"outcome"')
    assert {json.loads(line)['kind'] for line in lines} <= {'command', 'outcome', 'event'}


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON, SERVICES, st.integers(1, 40_000))
def test_whatever_a_command_says_an_event_can_carry_it(args, services, times):
    entry = {
        'code': -1,
        'sent': 2**63,
        'args': args,
        'services': services,
        'error': 'é' * times,
        'client': 'c' * 63,
        'message': 'EXPINIT',
    }
    for kind in ('outcome', 'progress'):
        health = {'health': {'last_error': 'é' * times}} if kind == 'progress' else {}
        body = command_event(kind, entry | health, time=1, wall='2026-01-01T00:00:00.000+00:00')
        assert len(pack(body)) <= 16 << 10
