"""How a worker ends: what is under way is answered, nothing new is begun, and a second request ends it at once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import processes
import pytest
from peers import ScriptedPeer, echo_and_reply, eventually, is_command, only_echo
from sessions import Session
from systems import END_SIGNALS, ENDS, PATIENCE, ask_to_end

from bridge.cli import main
from bridge.errors import BridgeError, ServiceFailure
from bridge.segment.client import Client
from bridge.worker import Worker

REF = '2026-01-01_1_subject'
WORKS = 'one-loop', '--work', 'EXPINIT=1.5'
LONG = 'one-loop', '--work', 'EXPINIT=8'


def serving(session: Session | ScriptedPeer, *options: object) -> AbstractContextManager[subprocess.Popen[str]]:
    """Run ``iblbridge serve`` for one session, of which the log is not read."""
    service = '--service', f'cameras={session.uri}', '--no-ask'
    return processes.serving(*service, *options, errors=subprocess.DEVNULL)


def attached() -> Client:
    return Client('rig', timeout=5)


@pytest.fixture
def call() -> Iterator[Any]:
    """A function that calls a command in a thread of its own; returns the future of its body or error."""
    with ThreadPoolExecutor(8) as pool:

        def begin(client: Client, message: str, *args: Any) -> Future[dict[str, Any]]:
            return pool.submit(lambda: client.call(message, *args, timeout=20))

        yield begin


def stopping(worker: subprocess.Popen[str], client: Client, how: str = ENDS) -> None:
    """Send a signal and wait until it has been taken: from then on commands are refused."""
    ask_to_end(worker, how)

    def refuses() -> bool:
        try:
            client.call('EXPSTATUS', 0, timeout=0.05)
        except BridgeError as error:
            return error.name == 'IBLB_E_ABORTED'
        return False

    eventually(refuses)


def aborted(future: Future[dict[str, Any]]) -> str:
    with pytest.raises(BridgeError) as error:
        future.result(5)
    return error.value.name


def test_what_is_under_way_is_answered_and_the_session_stays_connected(call) -> None:
    with Session(*WORKS) as session, serving(session) as worker, attached() as client:
        init = call(client, 'EXPINIT', {'exp_ref': REF})
        eventually(lambda: 'EXPINIT' in session.heard)
        ask_to_end(worker)
        body = init.result(10)
        assert body['code'] == 0 and body['services'][0]['state'] == 'answered'
        assert worker.wait(10) == 0
        with serving(session):
            assert client.call('EXPSTART', REF)['code'] == 0, 'it would read that instead of a confirmation'
        report = session.report()
        assert report['connected'] and report['errors'] == [], report


def test_the_answer_to_what_is_under_way_is_confirmed(call) -> None:
    def answers_late(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send(datagram)
            peer.later(1.0, b'[1, "late"]')

    with ScriptedPeer(answers_late) as peer, serving(peer) as worker, attached() as client:
        init = call(client, 'EXPINIT')
        eventually(lambda: peer.datagrams)
        ask_to_end(worker)
        assert init.result(10)['services'][0]['data'] == {'value': 'late'}
        assert worker.wait(10) == 0
        eventually(lambda: peer.datagrams[1:] == [b'[1, "late"]'])


@pytest.mark.parametrize('how', END_SIGNALS[:2])
def test_what_is_sent_after_the_signal_is_aborted_and_reaches_nobody(call, how) -> None:
    with Session(*WORKS) as session, serving(session) as worker, attached() as client:
        init = call(client, 'EXPINIT', {'exp_ref': REF})
        eventually(lambda: 'EXPINIT' in session.heard)
        stopping(worker, client, how)
        assert not init.done()
        for message, args in (('EXPSTART', (REF,)), ('EXPSTATUS', (0,)), ('EXPEND', ()), ('EXPCLEANUP', ())):
            with pytest.raises(ServiceFailure) as refused:
                client.call(message, *args, timeout=5)
            assert refused.value.name == 'IBLB_E_ABORTED', message
        client.notify('EXPSTART', REF)
        assert init.result(10)['code'] == 0
        assert worker.wait(10) == 0
        assert session.heard == ['EXPINIT'] and session.connected


def test_what_waits_for_its_turn_at_the_signal_is_not_begun(call) -> None:
    with Session(*WORKS) as session, serving(session) as worker, attached() as client:
        init = call(client, 'EXPINIT', {'exp_ref': REF})
        eventually(lambda: 'EXPINIT' in session.heard)
        start = client.send('EXPSTART', REF, ttl=None)
        assert client.call('PING')['code'] == 0, 'the worker has taken what was before'
        ask_to_end(worker)
        with pytest.raises(ServiceFailure) as refused:
            client.wait(start, 1)
        assert refused.value.name == 'IBLB_E_ABORTED' and not init.done()
        assert refused.value.response['services'][0]['state'] == 'not_sent'
        assert init.result(10)['code'] == 0
        assert worker.wait(10) == 0
        assert session.heard == ['EXPINIT'] and session.connected


@pytest.mark.parametrize('kind', ['one-loop', 'side-by-side'])
def test_an_interrupt_that_is_sent_after_the_signal_still_reaches_the_service(call, kind) -> None:
    with Session(kind, *WORKS[1:]) as session, serving(session) as worker, attached() as client:
        init = call(client, 'EXPINIT', {'exp_ref': REF})
        eventually(lambda: 'EXPINIT' in session.heard)
        stopping(worker, client)
        interrupt = client.call('EXPINTERRUPT', timeout=10)
        assert interrupt['code'] == 0 and interrupt['services'][0]['state'] == 'answered'
        assert aborted(init) == 'IBLB_E_ABORTED'
        assert worker.wait(10) == 0
        report = session.report()
        assert 'EXPINTERRUPT' in session.heard
        assert report['connected'] and report['errors'] == [], report


def test_a_second_signal_ends_at_once_and_the_client_and_the_journal_are_told(call, tmp_path) -> None:
    journal = tmp_path / 'journal'
    with Session(*LONG) as session, serving(session, '--journal', journal) as worker, attached() as client:
        init = call(client, 'EXPINIT', {'exp_ref': REF})
        eventually(lambda: 'EXPINIT' in session.heard)
        stopping(worker, client)
        assert not init.done()
        started = time.monotonic()
        ask_to_end(worker)
        assert aborted(init) == 'IBLB_E_ABORTED'
        assert worker.wait(5) == 0
        assert time.monotonic() - started < 1
    stop = json.loads(journal.read_text().splitlines()[-1])
    assert (stop['kind'], stop['reason']) == ('stop', ENDS)


def test_with_nothing_under_way_it_ends_soon() -> None:
    with Session('one-loop') as session, serving(session) as worker, attached() as client:
        assert client.call('EXPINIT', {'exp_ref': REF})['code'] == 0
        started = time.monotonic()
        ask_to_end(worker)
        assert worker.wait(5) == 0
        assert time.monotonic() - started < 0.7
        assert session.connected


def test_a_service_that_does_not_answer_is_given_its_time_and_no_more(call) -> None:
    with Session(*LONG) as session, serving(session, '--timeout', 1) as worker, attached() as client:
        init = call(client, 'EXPINIT', {'exp_ref': REF})
        eventually(lambda: 'EXPINIT' in session.heard)
        started = time.monotonic()
        ask_to_end(worker)
        assert aborted(init) == 'IBLB_E_ALL_FAILED', 'no reply within its time'
        assert worker.wait(5) == 0
        assert time.monotonic() - started < 2


# EXPCLEANUP at the end


def outcomes_in(journal: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, journal.read_text().splitlines())
    return [line for line in lines if line['kind'] == 'outcome' and line['message'] == 'EXPCLEANUP']


@pytest.mark.parametrize('seconds', [0, 0.5, 3])
def test_a_cleanup_is_sent_at_the_end_and_its_reply_waited_for(tmp_path, seconds) -> None:
    journal = tmp_path / 'journal'
    with Session('one-loop', '--work', f'EXPCLEANUP={seconds}') as session:
        with serving(session, '--notify', '--journal', journal) as worker, attached() as client:
            assert client.call('EXPINIT', {'exp_ref': REF})['code'] == 0
            ask_to_end(worker)
            assert worker.wait(10) == 0
        assert session.heard == ['EXPINIT', 'EXPCLEANUP']
        (outcome,) = outcomes_in(journal)
        assert outcome['services'][0]['state'] == 'answered', outcome
        with serving(session), attached() as client:
            assert client.call('EXPSTATUS', 0)['services'][0]['status'] == 30
        report = session.report()
        assert report['connected'] and report['errors'] == [], report


def test_the_reply_to_a_cleanup_at_the_end_is_confirmed() -> None:
    with ScriptedPeer(echo_and_reply) as peer, serving(peer, '--notify') as worker, attached() as client:
        assert client.call('PING')['code'] == 0
        ask_to_end(worker)
        assert worker.wait(10) == 0
        eventually(lambda: len(peer.datagrams) >= 2)
        assert peer.messages == [[8, None]] * 2
        assert [is_command(datagram) for datagram in peer.datagrams] == [True, False]


def test_a_cleanup_follows_the_answer_to_what_is_under_way(call, tmp_path) -> None:
    journal = tmp_path / 'journal'
    with Session(*WORKS) as session, serving(session, '--notify', '--journal', journal) as worker:
        with attached() as client:
            init = call(client, 'EXPINIT', {'exp_ref': REF})
            eventually(lambda: 'EXPINIT' in session.heard)
            ask_to_end(worker)
            assert init.result(10)['code'] == 0
            assert worker.wait(10) == 0
        assert session.heard == ['EXPINIT', 'EXPCLEANUP']
        assert session.connected, session.report()
    (outcome,) = outcomes_in(journal)
    assert outcome['services'][0]['state'] == 'answered', outcome


def test_a_second_signal_sends_no_cleanup(call) -> None:
    with Session(*LONG) as session, serving(session, '--notify') as worker, attached() as client:
        init = call(client, 'EXPINIT', {'exp_ref': REF})
        eventually(lambda: 'EXPINIT' in session.heard)
        stopping(worker, client)
        started = time.monotonic()
        ask_to_end(worker)
        assert aborted(init) == 'IBLB_E_ABORTED'
        assert worker.wait(5) == 0
        assert time.monotonic() - started < 1


# A signal at a bad moment


def test_a_signal_right_behind_ready_ends_it_as_any_other(monkeypatch) -> None:
    """Once the worker's loop was not entered any more: what was queued stayed so, and no cleanup was sent."""
    stops: list[Any] = []

    class Output:
        def write(self, text: str) -> None:
            if 'READY' in text:
                stops[0]('SIGTERM')

        def flush(self) -> None:
            pass

    monkeypatch.setattr('bridge.cli.console.on_stop_signals', stops.append)
    monkeypatch.setattr('gc.freeze', lambda: None)
    with ScriptedPeer(echo_and_reply) as peer:
        monkeypatch.setattr(sys, 'stdout', Output())
        assert main(['serve', '--segment', 'rig', '--service', f'cameras={peer.uri}', '--notify']) == 0
        eventually(lambda: len(peer.datagrams) >= 2)
        assert peer.messages == [[8, None]] * 2


SIGNAL_WHILE_CFFI_IS_BUSY = """
import sys
from bridge.segment.library import ffi
from bridge.worker import Worker
worker = Worker('rig')
with ffi._lock:
    worker.stop()
worker.run()
"""
SIGNAL_AT_ANY_LINE_OF_THE_HANDLER = """
import sys
from bridge.worker import Worker
worker = Worker('rig')
worker.stop()

def trace(frame, event, arg):
    if event == 'line':
        worker.stop()
    return trace

sys.settrace(trace)
worker.stop()
sys.settrace(None)
worker.run()
"""


@pytest.mark.parametrize(
    'code', [SIGNAL_WHILE_CFFI_IS_BUSY, SIGNAL_AT_ANY_LINE_OF_THE_HANDLER], ids=['of cffi', 'of its own']
)
def test_a_signal_handler_waits_for_no_lock_that_what_it_interrupts_may_hold(code) -> None:
    """A SIGTERM soon behind READY once left `serve` standing still for ever."""
    subprocess.run([sys.executable, '-c', code], check=True, timeout=20 * PATIENCE)


# In this process


def test_a_worker_that_is_stopped_twice_ends_at_once_and_the_client_is_told(serve, call) -> None:
    with ScriptedPeer(only_echo) as peer, a_worker_of_a_deaf_peer(serve, peer) as (worker, client):
        init = call(client, 'EXPINIT')
        eventually(lambda: peer.datagrams)
        worker.stop()
        later = call(client, 'EXPSTART', REF)
        assert aborted(later) == 'IBLB_E_ABORTED'
        assert not init.done()
        started = time.monotonic()
        worker.stop()
        assert aborted(init) == 'IBLB_E_ABORTED'
        assert time.monotonic() - started < 1
        assert 'the worker was stopped' in str(init.exception()) and 'thread' not in str(init.exception())
        eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == 'worker'], 1)
        assert {message[0] for message in peer.messages} == {1}


@contextmanager
def a_worker_of_a_deaf_peer(serve: Any, peer: ScriptedPeer) -> Iterator[tuple[Any, Client]]:
    worker = serve('rig', {'cameras': peer.uri}, timeout=30.0)
    with Client('rig') as client:
        yield worker, client


def test_stopping_a_worker_again_when_it_has_ended_does_no_harm(serve) -> None:
    with ScriptedPeer(only_echo) as peer:
        worker = serve('rig', {'cameras': peer.uri})
        worker.stop()
        eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == 'worker'])
        worker.stop()
        worker.close()
        worker.close()


SIGNAL_IN_ANOTHER_THREAD = """
import signal, sys, threading
from bridge.worker import Worker
worker = Worker('rig')
signal.signal(signal.SIGTERM, lambda *_: worker.stop())
other = threading.Event()
def idle():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    print('ready', flush=True)
    other.wait()
threading.Thread(target=idle, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
worker.run()
"""


@pytest.mark.posix('Windows hands signals to a thread of its own; tests/windows/test_whole_path.py')
def test_a_signal_that_another_thread_gets_ends_the_worker_at_once():
    # Once it ended when the main thread came up from its wait by itself, up to 5 s later.
    with subprocess.Popen(
        [sys.executable, '-c', SIGNAL_IN_ANOTHER_THREAD], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == 'ready\n'
        time.sleep(0.5)  # it has been idle for a moment
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        took = time.monotonic() - began
    assert took < 2.5, took


def test_a_worker_that_cannot_send_any_more_ends_and_says_of_each_command_whether_it_had_left(tmp_path, monkeypatch):
    """It went on, and told each command from then on that the worker had failed at it."""
    monkeypatch.setenv('IBLBRIDGE_DIR', str(tmp_path))
    with ScriptedPeer(only_echo) as peer, ThreadPoolExecutor(4) as pool:
        worker = Worker('rig', {'cameras': peer.uri}, ask=False)
        run = pool.submit(worker.run)
        with Client('rig', 'first', timeout=5) as client, Client('rig', 'second', timeout=5) as other:
            requests = [client.send('EXPINIT'), client.send('EXPSTART', REF)]
            answers = [pool.submit(client.wait, request, 10) for request in requests]
            line = worker._carrier.links['cameras'].line
            eventually(lambda: line.flying and line.flying[0].echoed and len(worker._carrier.plans) == 2)
            worker._carrier.thread.loop.call_soon_threadsafe(worker._carrier.thread.loop.stop)
            for answer, state in zip(answers, ('echoed', 'not_sent'), strict=True):
                body = answer.exception(10).response
                (entry,) = body['services']
                assert (entry['state'], entry['reason']) == (state, 'internal') and 'network thread' in entry['error']
            with pytest.raises(RuntimeError, match='the network thread ended'):
                run.result(10)
            open_still = other.send('EXPEND')
            worker.close()
            with pytest.raises(BridgeError) as caught:
                other.wait(open_still, 10)
            assert caught.value.name == 'IBLB_E_NO_WORKER'
        another = Worker('rig', {'cameras': peer.uri}, ask=False)
        run = pool.submit(another.run)
        try:  # what had not begun is its own
            eventually(lambda: any(json.loads(datagram)[0] == 4 for datagram in peer.datagrams))
        finally:
            another.stop()
            another.stop()
            run.result(10)
            another.close()
