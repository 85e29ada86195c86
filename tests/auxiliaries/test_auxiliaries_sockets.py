"""Auxiliaries with addresses that do not work, messages that do not fit, junk, closed sockets, all at once."""

import json
import random
import socket
import subprocess
import sys
import threading

import pytest
from peers import ScriptedPeer, ask, aux_of, echo_and_reply, eventually, free_port, is_command, only_echo
from sources import ROOT


def test_addresses_that_can_not_work_hold_nobody_up() -> None:
    bad = {
        'b': 'ws://127.0.0.1:9',
        'c': 'tcp://127.0.0.1:9',
        'd': 'udp://no-such-host.invalid',
        'e': 'udp://127.0.0.1:99999',
    }
    with ScriptedPeer(echo_and_reply) as peer, aux_of(**bad, a=peer.uri) as aux:
        assert aux.is_connected
        outcomes = aux.submit('EXPINIT').result(5)
        assert list(outcomes) == ['b', 'c', 'd', 'e', 'a']
        assert outcomes['a'].ok
        for name in bad:
            assert outcomes[name].state == 'not_sent' and outcomes[name].error, name


def test_a_silent_name_server_holds_nobody_up(monkeypatch) -> None:
    release = threading.Event()

    def lookup(host: str) -> str:
        release.wait(10)
        raise socket.gaierror

    monkeypatch.setattr('bridge.services.carrier.RESOLVE_TIMEOUT', 0.1)
    monkeypatch.setattr('socket.gethostbyname', lookup)
    with ScriptedPeer(echo_and_reply) as peer, aux_of(slow='udp://slow', a=peer.uri) as aux:
        both = aux.submit('EXPINIT')
        assert ask(aux, 'EXPSTATUS', 0).ok
        assert 'resolved' in both.result(2)['slow'].error
        release.set()


@pytest.mark.parametrize('start', ['udp://localhost', 'UDP://localhost', 'Udp://127.0.0.1', 'localhost', '127.0.0.1'])
def test_an_address_may_have_a_name_and_its_scheme_be_written_in_any_way(start) -> None:
    with ScriptedPeer(echo_and_reply) as peer, aux_of(a=f'{start}:{peer.port}') as aux:
        assert ask(aux, 'EXPINIT').ok


def test_a_message_too_long_is_not_sent_and_the_longest_is() -> None:
    with ScriptedPeer(echo_and_reply) as peer, aux_of(a=peer.uri) as aux:
        aux.timing.echo_timeout = 0.1  # this peer takes what ends in no space for no command
        longest = 'x' * (65507 - len('[1, ""]'))
        outcome = ask(aux, 'EXPINIT', longest + 'x')
        assert outcome.state == 'not_sent' and '65508' in outcome.error
        ask(aux, 'EXPINIT', longest)
        assert [len(d) for d in peer.datagrams] == [65507]
        assert ask(aux, 'EXPINIT').ok


JUNK = [
    b'',
    b'x',
    b'\xff\xfe',
    b'[3,1]',
    b'["foo",1]',
    b'[null,1]',
    b'[' * 60000,
    b'[0]',
    b'[0,"x",[]]',
    b'{}',
    b'[1e999]',
    b'[true,1]',
]


def test_junk_neither_stops_the_loop_nor_the_communicator() -> None:
    complaints = []

    def noisy(peer: ScriptedPeer, datagram: bytes) -> None:
        for junk in JUNK:
            peer.send(junk)
            peer.send(junk)
        echo_and_reply(peer, datagram)

    with ScriptedPeer(noisy) as peer, aux_of(a=peer.uri) as aux:
        aux._loop.set_exception_handler(lambda loop, context: complaints.append(context))
        for _ in range(3):
            assert ask(aux, 'EXPSTATUS', 0, timeout=10).ok  # may be sent again: so much junk can fill a socket
        assert complaints == []


def test_a_communicator_closed_in_mid_wait_is_an_error_at_once() -> None:
    with ScriptedPeer(only_echo) as peer, aux_of(a=peer.uri) as aux:
        future = aux.submit('EXPINIT')
        eventually(lambda: aux._carrier.links['a'].line.flying and aux._carrier.links['a'].line.flying[0].echoed)
        aux._loop.call_soon_threadsafe(aux.services.close)
        outcome = future.result(0.5)['a']
        assert outcome.state == 'echoed' and 'closed' in outcome.error


def test_an_old_refusal_does_not_swallow_the_next_command() -> None:
    with aux_of(a=f'udp://127.0.0.1:{free_port()}') as aux:
        link = aux._carrier.links['a']
        port = aux._carrier.communicators['a'].port
        with ScriptedPeer(echo_and_reply, port) as peer:
            assert ask(aux, 'EXPINIT').ok
            eventually(lambda: len(peer.datagrams) == 2)
        # Two datagrams to nobody: the refusal of the first is pending when the second is handed over.
        done = threading.Event()

        def provoke() -> None:
            for _ in range(3):
                assert link.transmit(b'[1, null]') is None
            done.set()

        aux._loop.call_soon_threadsafe(provoke)
        assert done.wait(1)
        with ScriptedPeer(echo_and_reply, port):
            assert eventually(lambda: ask(aux, 'EXPINIT').ok)


# Everything at once


@pytest.mark.parametrize('seed', [1, 2])
def test_with_echoes_lost_doubled_and_delayed_every_command_is_carried_out_exactly_once(seed) -> None:
    chance = random.Random(seed)

    def flaky(peer: ScriptedPeer, datagram: bytes) -> None:
        if not is_command(datagram):
            return
        fate = chance.randrange(4)
        if fate == 1:
            peer.send(datagram)
            peer.send(datagram)
        elif fate == 2:
            peer.later(0.004, datagram)
        elif fate == 3:
            peer.send(datagram)
        peer.send(json.loads(datagram))

    with ScriptedPeer(flaky) as peer, aux_of(a=peer.uri) as aux:
        for number in range(40):
            assert ask(aux, 'EXPINIT', number).reply == [number]
        commands = [json.loads(d)[1] for d in peer.datagrams if is_command(d)]
        assert commands == list(range(40))


def test_many_threads_and_interrupts_leave_nobody_waiting() -> None:
    with ScriptedPeer(echo_and_reply) as one, ScriptedPeer(only_echo) as two, aux_of(a=one.uri, b=two.uri) as aux:
        aux.timing.reply_gap = 0
        futures = []

        def hammer(n: int) -> None:
            for i in range(25):
                message = 'EXPINTERRUPT' if (i + n) % 9 == 0 else 'EXPSTATUS'
                futures.append(aux.submit(message, 0, timeout=0.01))
                if i % 7 == 0:
                    futures[-1].cancel()

        threads = [threading.Thread(target=hammer, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        for future in futures:
            if not future.cancelled():
                assert list(future.result(10)) == ['a', 'b']
        assert not aux._carrier.plans and aux.is_running


def test_close_may_be_called_from_a_signal_handler() -> None:
    code = """
import os, signal, sys, threading, time
from bridge.auxiliaries import Auxiliaries
aux = Auxiliaries({'a': 'udp://127.0.0.1:%d'})
aux.close_timeout = 0.1
def stop(*_):
    start = time.perf_counter(); aux.close(); aux.close()
    print('quick' if time.perf_counter() - start < 2 else 'slow', aux.is_running, flush=True)
signal.signal(signal.SIGTERM, stop)
end = signal.raise_signal if sys.platform == 'win32' else lambda number: os.kill(os.getpid(), number)
threading.Timer(0.1, end, (signal.SIGTERM,)).start()
print(type(aux.push('EXPINIT', wait=True)).__name__)
"""
    with ScriptedPeer(only_echo) as peer:
        run = subprocess.run(
            [sys.executable, '-c', code % peer.port], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
        )
    assert run.stdout.split() == ['quick', 'False', 'Aborted'], run.stderr
