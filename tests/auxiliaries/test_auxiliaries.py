"""Auxiliaries with real services on loopback: what each message does, in which order, and what the gate decides."""

import logging
import threading
import time
from types import SimpleNamespace

import pytest
from peers import ScriptedPeer, StockServer, echo_and_reply, eventually, only_echo

from bridge import auxiliaries
from bridge.auxiliaries import Auxiliaries

MESSAGES = [
    ('EXPINIT', ({'a': 1},), [1, {'a': 1}]),
    ('EXPSTART', ({'date': '2026-01-01', 'sequence': '001', 'subject': 'foo'},), [2, '2026-01-01_1_foo', None]),
    ('EXPEND', (), [4, None]),
    ('EXPCLEANUP', (), [8, None]),
    ('EXPINTERRUPT', ('why',), [16, 'why']),
    ('EXPSTATUS', ('RUNNING',), [32, 20]),
    ('EXPINFO', (0, {'b': [None]}), [64, 0, {'b': [None]}]),
    ('ALYX', (), [128, None, {}]),
    ('ALYX', ('https://alyx',), [128, 'https://alyx', {}]),
]


@pytest.mark.parametrize(('message', 'args', 'wire'), MESSAGES)
def test_each_message_reaches_a_stock_service_and_is_answered(aux, server, message, args, wire) -> None:
    outcome = aux.submit(message, *args).result(3)['cameras']
    assert outcome.ok and outcome.state == 'answered' and not outcome.error
    assert outcome.event == wire[0]
    assert outcome.reply == wire[1:]
    assert 0 < outcome.sent <= outcome.echoed <= outcome.answered
    assert server.saw == [wire]
    # The service heard each of our echoes, so it is still there.
    assert aux.push(message, *args, wait=True) == {'cameras': wire[1:]}


def test_statuses_are_taken_by_name_and_by_number(aux) -> None:
    for status in ('STOPPED', 30, auxiliaries.net.base.ExpStatus.STOPPED):
        assert aux.push('EXPSTATUS', status, wait=True) == {'cameras': [30]}
        assert aux.push('expinfo', status, wait=True) == {'cameras': [30, None]}


@pytest.mark.parametrize(
    ('message', 'args'),
    [
        ('EXPSTATUS', ('ASLEEP',)),
        ('EXPSTATUS', (11,)),
        ('EXPSTATUS', ()),
        ('EXPSTART', ()),
        ('EXPINIT', (object(),)),
        ('EXPINFO', ({},)),
    ],
)
def test_arguments_that_do_not_fit_are_never_sent(aux, server, message, args) -> None:
    outcome = aux.submit(message, *args).result(3)['cameras']
    assert (outcome.ok, outcome.state) == (False, 'not_sent')
    assert outcome.error
    assert isinstance(aux.push(message, *args, wait=True), (TypeError, ValueError))
    assert aux.push('EXPEND', wait=True) == {'cameras': [None]}
    assert server.saw == [[4, None]]


def test_an_alyx_object_and_plain_values_send_the_same_token(aux, server) -> None:
    server.answers[128] = None  # as real services do: a token is not answered
    alyx = SimpleNamespace(base_url='https://alyx', user='me', _token={'token': 'secret'}, is_logged_in=True)
    for args in ((alyx,), ('https://alyx', {'me': {'token': 'secret'}})):
        outcome = aux.submit('ALYX', *args).result(3)['cameras']
        assert (outcome.ok, outcome.state) == (True, 'echoed')
    assert aux.push('ALYX', alyx, wait=True) == {'cameras': None}
    # It is echoed before the service looks at it.
    eventually(lambda: server.saw == [[128, 'https://alyx', {'me': {'token': 'secret'}}]] * 3)


def test_a_token_that_is_asked_for_comes_back_by_service_name() -> None:
    with StockServer({128: lambda data: ['https://alyx', {'me': {'token': 'x'}}]}) as server:
        aux = Auxiliaries({'cameras': server.uri})
        for args in ((), (None,)):
            assert aux.push('ALYX', *args, wait=True) == {'cameras': ['https://alyx', {'me': {'token': 'x'}}]}
        aux.close()


def test_no_token_is_ever_logged_or_printed(caplog, capfd) -> None:
    caplog.set_level(logging.DEBUG)
    secret = 'f00dcafe' * 5

    def refuse(peer: ScriptedPeer, datagram: bytes) -> None:
        peer.send([0, f'KeyError: {secret}', 128])
        peer.send([128, 'https://alyx', {'me': secret}])

    with StockServer({128: None}) as good, ScriptedPeer(refuse) as bad:
        aux = Auxiliaries({'good': good.uri, 'bad': bad.uri})
        aux.submit('ALYX', 'https://alyx', {'me': secret}).result(3)
        assert isinstance(aux.push('ALYX', 'https://alyx', {'me': secret}, wait=True), RuntimeError)
        aux.push('ALYX', 'https://alyx', {'me': {secret}}, wait=True)
        eventually(lambda: len(bad.datagrams) >= 4)
        eventually(lambda: len(good.saw) == 2)
        aux.close()
    captured = capfd.readouterr()
    assert secret not in caplog.text + captured.out + captured.err
    assert captured.out == ''


def test_the_answers_come_in_configured_order_for_the_addressed_services_only() -> None:
    with StockServer() as one, StockServer() as two, StockServer() as three:
        aux = Auxiliaries({'c': one.uri, 'b': two.uri, 'a': three.uri})
        assert list(aux.submit('EXPINIT').result(3)) == ['c', 'b', 'a']
        assert list(aux.submit('EXPSTART', 'x', services=['a', 'c']).result(3)) == ['c', 'a']
        assert aux.submit('EXPSTART', 'x', services=[]).result(3) == {}
        with pytest.raises((KeyError, ValueError)):
            aux.submit('EXPINIT', services=['a', 'd'])
        assert [len(server.saw) for server in (one, two, three)] == [2, 1, 2]
        aux.close()


# Order, gate, withdrawal


def test_commands_to_one_service_leave_in_the_order_of_submission(aux, server) -> None:
    futures = [aux.submit('EXPINIT', number) for number in range(12)]
    for number, future in enumerate(futures):
        assert future.result(5)['cameras'].reply == [number]
    assert server.saw == [[1, number] for number in range(12)]


def test_a_service_gets_a_pause_between_its_reply_and_the_next_command() -> None:
    with ScriptedPeer(echo_and_reply) as peer:
        aux = Auxiliaries({'a': peer.uri})
        futures = [aux.submit('EXPINIT') for _ in range(4)]
        outcomes = [future.result(3)['a'] for future in futures]
        for before, after in zip(outcomes, outcomes[1:], strict=False):
            assert after.sent - before.answered > 4_900_000
        aux.close()


def test_the_gate_is_called_once_in_the_network_thread_before_the_first_datagram() -> None:
    calls = []
    with ScriptedPeer(echo_and_reply) as one, ScriptedPeer(echo_and_reply) as two:
        aux = Auxiliaries({'one': one.uri, 'two': two.uri})

        def gate() -> None:
            calls.append((threading.current_thread(), len(one.datagrams) + len(two.datagrams), time.perf_counter_ns()))

        outcomes = aux.submit('EXPINIT', gate=gate).result(3)
        assert [(thread, seen) for thread, seen, _ in calls] == [(aux._thread, 0)]
        assert all(calls[0][2] <= outcome.sent for outcome in outcomes.values())
        aux.close()


def test_a_gate_that_raises_stops_the_command_everywhere() -> None:
    class ExpiredError(Exception):
        pass

    def gate() -> None:
        raise ExpiredError

    with ScriptedPeer(only_echo) as busy, ScriptedPeer(echo_and_reply) as free:
        aux = Auxiliaries({'busy': busy.uri, 'free': free.uri})
        first = aux.submit('EXPINIT', 'first', services=['busy'], timeout=0.2)
        with pytest.raises(ExpiredError):
            aux.submit('EXPINIT', 'second', gate=gate).result(1)
        third = aux.submit('EXPINIT', 'third', timeout=0.2)
        assert first.result(1)['busy'].state == 'echoed'
        assert third.result(1)['free'].ok
        assert [m[1] for m in busy.messages] == ['first', 'third']
        assert [d for d in free.messages if d == [1, 'second']] == []
        aux.close()


def test_the_free_service_is_sent_to_at_once_and_the_busy_one_later_with_one_gate() -> None:
    gates = []
    with ScriptedPeer(only_echo) as busy, ScriptedPeer(echo_and_reply) as free:
        aux = Auxiliaries({'busy': busy.uri, 'free': free.uri})
        aux.submit('EXPINIT', services=['busy'], timeout=0.3)
        both = aux.submit('EXPEND', gate=lambda: gates.append(1), timeout=0.3)
        eventually(lambda: free.datagrams, 0.2)
        assert len(busy.datagrams) < 2 and gates == [1]
        outcomes = both.result(2)
        assert outcomes['busy'].sent - outcomes['free'].sent > 200_000_000
        assert gates == [1]
        aux.close()


def test_a_cancelled_future_is_withdrawn() -> None:
    with ScriptedPeer(only_echo) as peer:
        aux = Auxiliaries({'a': peer.uri})
        first = aux.submit('EXPINIT', timeout=0.2)
        eventually(lambda: peer.datagrams)
        assert not first.cancel()
        second = aux.submit('EXPEND', gate=lambda: pytest.fail('must not leave'))
        assert second.cancel()
        third = aux.submit('EXPCLEANUP', timeout=0.05)
        assert first.result(1)['a'].state == third.result(1)['a'].state == 'echoed'
        assert [m[0] for m in peer.messages] == [1, 8]
        assert not aux._carrier.plans
        aux.close()
