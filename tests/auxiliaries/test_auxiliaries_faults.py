"""Auxiliaries against services that are dead, deaf, late, early, double or talkative."""

import asyncio
import json
import subprocess
import sys
import threading
import time

import pytest
from peers import ScriptedPeer, StockServer, ask, aux_of, echo_and_reply, eventually, free_port, is_command


@pytest.mark.not_wine('it does not tell of a refusal')
def test_a_refused_port_is_told_within_milliseconds() -> None:
    with aux_of(a=f'udp://127.0.0.1:{free_port()}') as aux:
        aux.timing.echo_timeout = 20
        start = time.perf_counter()
        outcome = ask(aux, 'EXPINIT')
        assert time.perf_counter() - start < 10, 'it waited for an echo'
        assert (outcome.state, outcome.ok) == ('unreachable', False)
        assert 'refused' in outcome.error
        for _ in range(3):
            assert isinstance(aux.push('EXPINIT', wait=True), ConnectionRefusedError)


def test_a_deaf_peer_is_unreachable_and_gets_a_start_only_once() -> None:
    with ScriptedPeer() as deaf, aux_of(a=deaf.uri) as aux:
        aux.timing.echo_timeout = 0.2
        aux.timing.resend_at = 0.05
        for message in ('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP', 'ALYX'):
            args = ('x', {'u': 't'})[: {'ALYX': 2, 'EXPSTART': 1}.get(message, 0)]
            outcome = ask(aux, message, *args, timeout=30)
            assert (outcome.state, outcome.ok) == ('unreachable', False)
            assert 0.15 < time.perf_counter() - outcome.sent / 1e9 < 25, 'it waited for a reply as well'
        eventually(lambda: len(deaf.datagrams) >= 5)
        assert len(deaf.datagrams) == 5
        assert isinstance(aux.push('EXPINIT', wait=True), TimeoutError)


@pytest.mark.parametrize('message', ['EXPSTATUS', 'EXPINFO', 'EXPINTERRUPT'])
def test_what_may_be_repeated_is_sent_twice(message) -> None:
    with ScriptedPeer() as deaf, aux_of(a=deaf.uri) as aux:
        aux.timing.echo_timeout = 0.2
        aux.timing.resend_at = 0.04
        assert ask(aux, message, 0).state == 'unreachable'
        eventually(lambda: len(deaf.datagrams) >= 2)
        assert len(deaf.datagrams) == 2 and len(set(deaf.datagrams)) == 1


def test_a_lost_command_is_repeated_and_answered() -> None:
    def second_time(peer: ScriptedPeer, datagram: bytes) -> None:
        if peer.datagrams.count(datagram) == 2:
            echo_and_reply(peer, datagram)

    with ScriptedPeer(second_time) as peer, aux_of(a=peer.uri) as aux:
        aux.timing.resend_at = 0.04
        first, second = aux.submit('EXPSTATUS', 0), aux.submit('EXPINIT', timeout=0.1)
        first, second = first.result(20)['a'], second.result(20)['a']
        assert first.ok
        # The answer to the first one may still be under way: it must not cross the next command.
        assert second.sent - first.answered > 49_000_000


def test_a_lost_echo_is_made_up_for_by_the_reply() -> None:
    def no_echo(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send([1, 'done'])

    with ScriptedPeer(no_echo) as peer, aux_of(a=peer.uri) as aux:
        outcome = ask(aux, 'EXPINIT')
        assert (outcome.state, outcome.reply) == ('answered', ['done'])
        assert outcome.echoed == outcome.answered


def test_a_duplicated_echo_starts_no_storm() -> None:
    def echoing_all(peer: ScriptedPeer, datagram: bytes) -> None:
        for _ in range(3):
            peer.send(datagram)
        if is_command(datagram):
            peer.send([1, 'done'])

    with ScriptedPeer(echoing_all) as peer, aux_of(a=peer.uri) as aux:
        for _ in range(3):
            assert ask(aux, 'EXPINIT').reply == ['done']
        eventually(lambda: len(peer.datagrams) >= 6)
        assert [is_command(d) for d in peer.datagrams] == [True, False] * 3


def test_the_late_echo_of_a_command_that_was_given_up_is_swallowed() -> None:
    def late(peer: ScriptedPeer, datagram: bytes) -> None:
        if len(peer.datagrams) > 1:
            echo_and_reply(peer, datagram)

    with ScriptedPeer(late) as peer, aux_of(a=peer.uri) as aux:
        aux.timing.echo_timeout = 0.05
        assert ask(aux, 'EXPINIT').state == 'unreachable'
        aux.timing.echo_timeout, aux.timing.unread_for = 5.0, 0.1
        eventually(lambda: peer.datagrams)
        peer.send(peer.datagrams[0])
        assert ask(aux, 'EXPINIT').ok
        eventually(lambda: len(peer.datagrams) >= 3)
        assert len(peer.datagrams) == 3


def test_the_late_reply_to_a_command_that_was_given_up_does_not_answer_the_next() -> None:
    def behind(peer: ScriptedPeer, datagram: bytes) -> None:
        commands = [d for d in peer.datagrams if is_command(d)]
        if is_command(datagram) and len(commands) == 1:
            peer.send(datagram)
        elif is_command(datagram):
            peer.send([1, 'first'])
            peer.send(datagram)
            peer.send([1, 'second'])

    with ScriptedPeer(behind) as peer, aux_of(a=peer.uri) as aux:
        assert ask(aux, 'EXPINIT', timeout=0.5).state == 'echoed'
        assert ask(aux, 'EXPINIT').reply == ['second']


def test_a_reply_before_the_echo_answers() -> None:
    def reversed_order(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send([2, 'ref', None])
            peer.send(datagram)

    with ScriptedPeer(reversed_order) as peer, aux_of(a=peer.uri) as aux:
        for _ in range(3):
            assert ask(aux, 'EXPSTART', 'ref').ok
        assert [is_command(d) for d in peer.datagrams[:5]] == [True, False, True, False, True]


def test_two_replies_are_both_confirmed_and_the_first_counts() -> None:
    events = []

    def twice(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send(datagram)
            peer.send([1, 'one'])
            peer.send([1, 'two'])

    with ScriptedPeer(twice) as peer, aux_of(a=peer.uri) as aux:
        aux.on_event = lambda *event: events.append(event)
        for count in (1, 2):
            assert ask(aux, 'EXPINIT').reply == ['one']
            eventually(lambda: json.loads(peer.datagrams[-1]) == [1, 'two'])
            eventually(lambda count=count: events == [('a', 1, ['two'])] * count)


def test_a_reply_copied_by_the_network_is_confirmed_once() -> None:
    def copied(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send(datagram)
            peer.send([1, 'done'])
            peer.send([1, 'done'])

    with ScriptedPeer(copied) as peer, aux_of(a=peer.uri) as aux:
        for _ in range(3):
            assert ask(aux, 'EXPINIT').ok
        eventually(lambda: len(peer.datagrams) == 6)
        assert [is_command(d) for d in peer.datagrams] == [True, False] * 3


def test_a_failed_callback_is_told_at_once() -> None:
    def failing(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send(datagram)
            peer.send([0, 'ValueError: no camera', json.loads(datagram)[0]])

    with ScriptedPeer(failing) as peer, aux_of(a=peer.uri) as aux:
        start = time.perf_counter()
        outcome = ask(aux, 'EXPINIT', timeout=20)
        assert time.perf_counter() - start < 10, 'it waited for a reply'
        assert (outcome.state, outcome.ok, outcome.reply) == ('echoed', False, None)
        assert 'ValueError: no camera' in outcome.error
        assert isinstance(aux.push('EXPEND', wait=True), RuntimeError)
        # Errors are never echoed: two commands are all the peer saw.
        assert len(peer.datagrams) == 2


@pytest.mark.parametrize('message', ['EXPSTATUS', 'EXPINTERRUPT'])
def test_a_service_that_was_held_up_for_a_moment_does_not_close(message) -> None:
    # Once it did: it found the command three times, and the second one instead of the echo of its reply.
    with StockServer() as server, aux_of(a=server.uri) as aux:
        assert ask(aux, 'EXPINIT').ok
        held = threading.Event()
        server._loop.call_soon_threadsafe(lambda: (held.set(), time.sleep(0.4)))
        assert held.wait(5)
        assert ask(aux, message, 0, timeout=5).ok
        assert ask(aux, 'EXPEND', timeout=5).ok
        assert server.com.is_connected and [event for event, *_ in server.saw] in ([1, 32, 4], [1, 16, 4])


@pytest.mark.parametrize('first', ['nothing', 'error'])
def test_a_service_that_failed_before_is_believed_however_long_it_takes(first) -> None:
    # Its answer could be that to the command before only if that one had arrived and had no answer.
    def slow(peer: ScriptedPeer, datagram: bytes) -> None:
        if not is_command(datagram):
            return
        if json.loads(datagram) == [1, 'second']:
            peer.send(datagram)
            peer.later(0.1, [1, 'done'])
        elif first == 'error':
            peer.send(datagram)
            peer.send([0, 'OSError: disk full', 1])

    with ScriptedPeer(slow) as peer, aux_of(a=peer.uri) as aux:
        aux.timing.echo_timeout = 0.1
        assert not ask(aux, 'EXPINIT', 'first').ok
        aux.timing.echo_timeout, aux.timing.unread_for = 5.0, 0.2
        assert ask(aux, 'EXPINIT', 'second', timeout=3).reply == ['done']


def test_the_error_of_a_stock_service_is_told_at_once() -> None:
    def fail(_: object) -> None:
        raise ValueError('no camera')

    with StockServer({1: fail}) as server, aux_of(a=server.uri) as aux:
        outcome = ask(aux, 'EXPINIT', timeout=5)
        assert (outcome.state, outcome.ok) == ('echoed', False) and 'no camera' in outcome.error
        assert ask(aux, 'EXPEND').ok


def test_cleanup_may_be_answered_by_an_interrupt_and_nothing_else_may() -> None:
    events = []

    def camera(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send(datagram)
            peer.send([16, 'stopped'])

    with ScriptedPeer(camera) as peer, aux_of(a=peer.uri) as aux:
        aux.on_event = lambda *event: events.append(event)
        outcome = ask(aux, 'EXPCLEANUP')
        assert outcome.ok and (outcome.event, outcome.reply) == (16, ['stopped'])
        assert ask(aux, 'EXPSTART', 'x', timeout=0.1).state == 'echoed'
        eventually(lambda: events == [('a', 16, ['stopped'])])


def test_an_unasked_message_is_confirmed_and_handed_on() -> None:
    events = []
    with StockServer() as server, aux_of(a=server.uri) as aux:
        aux.on_event = lambda *event: events.append(event)
        assert ask(aux, 'EXPINIT').ok
        addr = '127.0.0.1', aux._carrier.ports['a']
        server.say([64, 20, {'frame': 7}], addr)  # raises without our echo
        eventually(lambda: events == [('a', 64, [20, {'frame': 7}])])
        aux.on_event = lambda *event: 1 / 0
        server.say([64, 20, {'frame': 8}], addr)
        assert ask(aux, 'EXPEND').ok


def test_a_stock_callback_still_hears_the_service() -> None:
    heard = []
    with StockServer() as server, aux_of(a=server.uri) as aux:
        aux.services.assign_callback('EXPINIT', lambda data, addr: heard.append(data))
        assert ask(aux, 'EXPINIT', 'x').ok
        eventually(lambda: heard == [['x']])


def test_the_stock_services_still_work_on_top() -> None:
    with StockServer() as server, StockServer() as other, aux_of(a=server.uri, b=other.uri) as aux:
        future = asyncio.run_coroutine_threadsafe(aux.services.start('ref', {'n': 1}), aux._loop)
        assert future.result(20) == {'a': ['ref', {'n': 1}], 'b': ['ref', {'n': 1}]}


@pytest.mark.posix('no system but POSIX has fork()')
def test_in_a_child_nobody_waits_for_the_thread_of_its_parent():
    code = """
import os, sys
from bridge.auxiliaries import Auxiliaries
aux = Auxiliaries({'a': sys.argv[1]})
assert aux.submit('EXPINIT').result(10)['a'].ok
reader, writer = os.pipe()
if os.fork() == 0:
    said = [aux.is_running, aux.is_connected, aux.clear_message_queue()]
    try:
        aux.push('EXPSTART', 'x', wait=True)
    except RuntimeError:
        said.append('refused')
    said.append(str(aux.submit('EXPSTART', 'x').exception(10)))
    aux.close()
    os.write(writer, repr(said).encode())
    os._exit(0)
os.wait()
print(os.read(reader, 1000).decode())
print(aux.submit('EXPINIT').result(10)['a'].ok)
aux.close()
"""
    with StockServer() as server:
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', code, server.uri],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        forked = 'the network thread is in the process that this was forked from'
        assert done.stdout.splitlines() == [f"[False, False, 0, 'refused', {forked!r}]", 'True'], done.stderr
        assert [event for event, *_ in server.saw] == [1, 1]
