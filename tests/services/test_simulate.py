"""The simulated service: its state machine as values, and what stock iblutil clients and plain sockets see of it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systems import APART, END_SIGNALS, ask_to_end

from bridge.cli import main
from bridge.segment.client import Client
from bridge.services.simulate import MESSAGES, TRANSITIONS, Behaviour, Memory, Refusal, Simulator, State, respond

CAMERAS = Behaviour('cameras')
REF = '2026-01-01_1_subject'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)


def after(*messages: str) -> Memory:
    """Return the memory after some messages."""
    memory = Memory()
    for message in messages:
        memory = respond(CAMERAS, memory, message, []).memory
    return memory


def test_an_experiment_goes_through_all_states_and_back():
    states, memory = [], Memory()
    for message in ('EXPINFO', 'EXPINIT', 'EXPSTATUS', 'EXPSTART', 'EXPEND', 'EXPCLEANUP'):
        memory = respond(CAMERAS, memory, message, [REF, None]).memory
        states.append(memory.state.name)
    assert states == ['CONNECTED', 'INITIALIZED', 'INITIALIZED', 'RUNNING', 'STOPPED', 'CONNECTED']


def test_an_interrupt_stops_a_running_service():
    assert after('EXPINIT', 'EXPSTART', 'EXPINTERRUPT').state is State.STOPPED


def test_a_message_that_comes_twice_changes_nothing_more():
    for message in ('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPINTERRUPT', 'EXPCLEANUP'):
        for state in State:
            if (message, state) == ('EXPSTART', State.STOPPED):  # refused
                continue
            once = respond(CAMERAS, Memory(state), message, []).memory
            assert respond(CAMERAS, once, message, []).memory == once, (state, message)


def test_questions_never_change_the_state():
    assert not [key for key in TRANSITIONS if key[1] in ('EXPSTATUS', 'EXPINFO', 'ALYX')]


def test_replies_have_iblutils_form():
    memory = respond(CAMERAS, after('EXPINIT'), 'EXPSTART', [REF, None]).memory
    info = {'exp_ref': REF, 'main_sync': False, 'name': 'cameras'}
    assert respond(CAMERAS, memory, 'EXPSTATUS', [0]).reply == [20]
    assert respond(CAMERAS, memory, 'EXPINFO', [0, {}]).reply == [20, info]
    assert respond(CAMERAS, memory, 'EXPSTART', [REF, None]).reply == [REF, {**info, 'status': 20}]
    assert respond(CAMERAS, memory, 'EXPEND', [None]).reply == [{**info, 'status': 30}]
    assert respond(CAMERAS, memory, 'EXPCLEANUP', [None]).reply == [{**info, 'exp_ref': None, 'status': 0}]


def test_the_reference_is_taken_from_init_too():
    assert respond(CAMERAS, Memory(), 'EXPINIT', [{'exp_ref': REF}]).memory.exp_ref == REF


def test_an_alyx_token_is_stored_without_a_reply_and_given_when_asked_for():
    assert respond(CAMERAS, Memory(), 'ALYX', [None, {}]).reply == [None, {}]
    stored = respond(CAMERAS, Memory(), 'ALYX', ['https://alyx', {'user': 'token'}])
    assert stored.reply is None
    assert respond(CAMERAS, stored.memory, 'ALYX', [None, {}]).reply == ['https://alyx', {'user': 'token'}]


def test_what_is_refused_raises_and_names_service_and_message():
    with pytest.raises(Refusal, match=r'cameras .*EXPSTART'):
        respond(Behaviour('cameras', refuse=frozenset({'EXPSTART'})), Memory(), 'EXPSTART', [])


@settings(max_examples=50)
@given(st.sampled_from(State), st.sampled_from(MESSAGES), st.lists(JSON))
def test_any_data_from_the_network_gets_a_reply_that_json_can_say(state, message, data):
    echoed = respond(Behaviour('echo', echo=True), Memory(state), message, data).reply
    assert message == 'ALYX' or echoed == data
    if (message, state) == ('EXPSTART', State.STOPPED):
        return
    reply = respond(CAMERAS, Memory(state), message, data).reply
    assert reply is not None or message == 'ALYX'
    json.dumps(reply)


@contextmanager
def running(behaviour: Behaviour, port: int = 0) -> Iterator[tuple[Simulator, list[str]]]:
    """Run a simulator in a thread; yields it and what it announced, once it listens."""
    lines: list[str] = []
    ready, box = threading.Event(), []

    def announce(line: str) -> None:
        lines.append(line)
        if line.startswith('READY'):
            ready.set()

    def serve() -> None:
        async def main() -> None:
            box.append((Simulator(behaviour, port=port, announce=announce, verbose=True), asyncio.get_running_loop()))
            await box[0][0].run()

        asyncio.run(main())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert ready.wait(20)
        yield box[0][0], lines
    finally:
        if box:
            box[0][1].call_soon_threadsafe(box[0][0].stop)
        thread.join(10)
        assert not thread.is_alive()


@contextmanager
def peer(simulator: Simulator) -> Iterator[socket.socket]:
    """Return a plain socket that is connected to a simulator."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.connect(('127.0.0.1', simulator.port))
        yield s


def command(s: socket.socket, *message: object) -> list:
    """Send a command, check its echo, return the reply and echo it."""
    sent = json.dumps(message).encode()
    s.send(sent)
    assert s.recv(65535) == sent
    reply = s.recv(65535)
    s.send(reply)
    return json.loads(reply)


def is_silent(s: socket.socket) -> bool:
    """Return True if nothing comes within a short while."""
    s.settimeout(0.2)
    try:
        s.recv(65535)
    except TimeoutError:
        return True
    finally:
        s.settimeout(5)
    return False


def test_a_stock_iblutil_client_runs_an_experiment():
    from bridge.auxiliaries import net

    async def experiment(port: int) -> list:
        client = await net.app.EchoProtocol.client(f'udp://127.0.0.1:{port}', 'cameras')
        client.logger.handlers.clear()
        services = net.app.Services([client], timeout=5)
        try:
            return [
                await services.info('CONNECTED', {}),
                await services.init(),
                await services.start(REF),
                await services.status('RUNNING'),
                await services.stop(),
                await services.cleanup(),
            ]
        finally:
            services.close()

    with running(CAMERAS) as (simulator, _):
        info, init, start, status, stop, cleanup = (
            answer['cameras'] for answer in asyncio.run(experiment(simulator.port))
        )
    assert info[:1] == [0]
    assert init[0]['status'] == 10
    assert start[0] == REF
    assert status == [20]
    assert stop[0]['status'] == 30
    assert cleanup[0]['status'] == 0


def test_a_missed_echo_closes_the_stock_server_and_it_comes_back_with_its_state():
    with running(CAMERAS) as (simulator, lines), peer(simulator) as s, peer(simulator) as other:
        assert command(s, 2, REF, None)[0] == 2
        question = b'[32, 0]'
        s.send(question)
        assert s.recv(99) == question
        assert json.loads(s.recv(99)) == [32, 20]
        s.send(b'[32, 1]')  # not the echo that it waits for: a stock server closes for all its clients
        deadline = threading.Event()
        while not any('opening it again' in line for line in lines):
            assert not deadline.wait(0.01)
        for _ in range(100):
            try:
                assert command(other, 32, 0) == [32, 20]
                break
            except ConnectionError:
                deadline.wait(0.01)
        else:
            pytest.fail('the service did not come back')


def test_a_slow_service_echoes_at_once_and_replies_later():
    import time

    with running(Behaviour('slow', delay=0.3)) as (simulator, _), peer(simulator) as s:
        begin = time.monotonic()
        s.send(b'[32, 0]')
        assert s.recv(99) == b'[32, 0]'
        reply = s.recv(99)
        assert time.monotonic() - begin >= 0.3
        s.send(reply)


def test_two_quick_messages_to_a_slow_service_are_both_answered():
    with running(Behaviour('slow', delay=0.05)) as (simulator, _), peer(simulator) as s:
        sent = [b'[32, 0]', b'[64, 0, null]']
        for message in sent:
            s.send(message)
            assert s.recv(99) == message
        first = s.recv(999)
        assert json.loads(first)[0] == 32
        assert is_silent(s)  # a second reply before the first one's echo would close a stock server
        s.send(first)
        second = s.recv(999)
        assert json.loads(second)[0] == 64
        s.send(second)


def test_a_deaf_service_neither_echoes_nor_refuses():
    with running(Behaviour('deaf', deaf=True)) as (simulator, lines), peer(simulator) as s:
        s.send(b'[32, 0]')
        assert is_silent(s)
        assert any('deaf to' in line for line in lines)


def test_a_service_goes_deaf_after_it_has_answered_the_given_message():
    with running(Behaviour('cameras', deaf_after='EXPSTART')) as (simulator, lines), peer(simulator) as s:
        assert command(s, 1, None)[0] == 1
        assert command(s, 2, REF, None)[:2] == [2, REF]
        while not any('deaf from now on' in line for line in lines):
            threading.Event().wait(0.01)
        s.send(b'[32, 0]')
        assert is_silent(s)


def test_a_refusing_service_echoes_and_then_sends_iblutils_error_message():
    with running(Behaviour('cameras', refuse=frozenset({'EXPSTART'}))) as (simulator, _), peer(simulator) as s:
        s.send(b'[2, null, null]')
        assert s.recv(99) == b'[2, null, null]'
        number, text, event = json.loads(s.recv(999))
        assert (number, event) == (0, 2)
        assert text.startswith('Refusal: cameras')
        assert command(s, 32, 0) == [32, 0]


@pytest.mark.filterwarnings('ignore:Expected list', 'ignore:Failed to decode')
@pytest.mark.parametrize(
    'junk', [b'', b'x', b'\xff\xff', b'[3,1]', b'["foo",1]', b'[null,1]', b'[' * 5000, b'[0,"E: e",99]', b'{}']
)
def test_junk_does_not_stop_the_service(junk):
    with running(CAMERAS) as (simulator, _), peer(simulator) as s, peer(simulator) as other:
        s.send(junk)
        assert command(other, 32, 0) == [32, 0]


def test_a_port_that_is_taken_is_said_with_exit_status_3():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(('127.0.0.1', 0))
        words = [sys.executable, '-m', 'bridge', 'simulate', '--name', 'cameras', '--port', str(s.getsockname()[1])]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    assert 'cannot listen' in done.stderr
    assert len(done.stderr.splitlines()) == 1, 'asyncio told of a task that was destroyed'


@pytest.mark.parametrize('end', ['EXPEND', 'EXPINTERRUPT'])
def test_a_start_after_the_end_is_refused_until_the_next_experiment_is_initialized(end):
    memory = after('EXPINIT', 'EXPSTART', end)
    with pytest.raises(Refusal, match='cameras has ended its experiment; send EXPINIT before'):
        respond(CAMERAS, memory, 'EXPSTART', [REF])
    for message in ('EXPINIT', 'EXPCLEANUP'):
        ready = respond(CAMERAS, memory, message, []).memory
        assert respond(CAMERAS, ready, 'EXPSTART', [REF]).memory.state is State.RUNNING


def test_a_service_that_replies_what_it_got_shows_what_a_program_sends():
    with running(Behaviour('cameras', echo=True)) as (simulator, _), peer(simulator) as s:
        assert command(s, 2, REF, {'note': 1}) == [2, REF, {'note': 1}]
        assert command(s, 4, None) == [4, None]
        assert command(s, 2, REF) == [2, REF]


def test_the_command_line_has_it_too(serve):
    words = [sys.executable, '-m', 'bridge', 'simulate', '--name', 'cameras', '--port', '0', '--echo', '--until-eof']
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **APART) as process:
        try:
            uri = process.stdout.readline().split()[2]
            serve('rig', {'cameras': uri})
            with Client('rig') as client:
                body = client.call('EXPSTART', REF, {'note': 'é'})
                assert body['services'][0]['data'] == {'value': [REF, {'note': 'é'}]}
                assert client.call('EXPEND')['code'] == 0
        finally:
            process.kill()


@pytest.mark.parametrize('end', [*END_SIGNALS[:2], 'EOF'])
def test_the_command_says_where_it_listens_and_ends_cleanly(end):
    words = [sys.executable, '-m', 'bridge', 'simulate', '--name', 'cameras', '--port', '0', '-v', '--until-eof']
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **APART) as process:
        try:
            ready = re.fullmatch(r'READY cameras udp://127\.0\.0\.1:(\d+)\n', process.stdout.readline())
            assert ready
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(5)
                s.connect(('127.0.0.1', int(ready[1])))
                assert command(s, 32, 0) == [32, 0]
            assert 'EXPSTATUS' in process.stdout.readline()
            if end == 'EOF':
                process.stdin.close()
            else:
                ask_to_end(process, end)
            assert process.wait(10) == 0
            assert process.stderr.read() == ''
        finally:
            process.kill()


def test_a_service_whose_camera_dies_stops_and_says_so_by_itself():
    with running(Behaviour('cameras', dies_after=0.05)) as (simulator, _), peer(simulator) as s:
        assert command(s, 2, REF, None)[:2] == [2, REF]
        told = s.recv(999)
        assert json.loads(told) == [16, 'the camera of cameras died']
        s.send(told)
        assert command(s, 32, 0) == [32, 30]


def test_a_service_that_was_stopped_before_its_camera_died_says_nothing():
    with running(Behaviour('cameras', dies_after=0.1)) as (simulator, _), peer(simulator) as s:
        assert command(s, 2, REF, None)[:2] == [2, REF]
        assert command(s, 4, None)[0] == 4
        assert is_silent(s)


@pytest.mark.parametrize('name', ['', 'a\nb', ' cameras', 'a,b'])
def test_a_simulated_service_has_a_name_that_a_worker_can_call_it_by(name, capsys):
    """Its line READY would be two, or would name nobody."""
    assert main(['simulate', '--name', name, '--port', '0']) == 2
    assert capsys.readouterr().err.count('\n') == 1
