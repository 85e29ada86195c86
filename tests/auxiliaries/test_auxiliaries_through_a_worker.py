"""The surface of Auxiliaries through a worker: what it returns is what the sockets would have given."""

from __future__ import annotations

import threading
import time

import pytest
from crowds import Crowd, ok
from peers import (
    NobodyThere,
    ScriptedPeer,
    StockServer,
    aux_of,
    echo_and_reply,
    eventually,
    free_port,
    is_command,
    only_echo,
)

from bridge.auxiliaries import Auxiliaries, net
from bridge.config import ServiceConfig
from bridge.errors import BridgeError, NoSegment
from bridge.outcome import Reason

OTHER = '2026-01-01_2_subject'
REF = '2026-01-01_1_subject'
COMMANDS = [
    ('EXPINIT', ({'a': 1},), {}),
    ('EXPINIT', ([1, 2],), {}),
    ('EXPSTART', ({'date': '2026-01-01', 'sequence': '001', 'subject': 'foo'},), {'data': 5}),
    ('EXPEND', (), {}),
    ('EXPCLEANUP', (), {}),
    ('EXPINTERRUPT', ('why',), {}),
    ('EXPSTATUS', ('RUNNING',), {}),
    ('EXPINFO', (0, {'b': [None]}), {}),
    ('ALYX', (), {}),
    ('ALYX', ('https://alyx',), {}),
    ('ALYX', ('https://alyx', None), {}),
]


@pytest.mark.parametrize(('message', 'args', 'kwargs'), COMMANDS)
def test_each_message_gives_what_auxiliaries_give(serve, message, args, kwargs):
    with StockServer() as server, aux_of(a=server.uri) as direct:
        expected = direct.push(message, *args, wait=True, **kwargs)
        straight = direct.submit(message, *args, **kwargs).result(5)['a']
        serve('rig', {'a': server.uri})
        remote = Auxiliaries.from_segment('rig', 'task')
        assert remote.push(message, *args, wait=True, **kwargs) == expected
        through = remote.submit(message, *args, **kwargs).result(5)['a']
        for key in ('name', 'ok', 'state', 'reason', 'error', 'reply', 'event', 'status', 'aborted'):
            assert getattr(through, key) == getattr(straight, key), key
        assert 0 < through.sent < through.echoed <= through.answered
        assert server.saw[0] == server.saw[-1]
        remote.close()


@pytest.mark.not_wine('it does not tell of a refusal: both services fail alike')
def test_failures_are_the_same_exceptions(serve):
    with ScriptedPeer(only_echo) as slow:
        uris = {'dead': f'udp://127.0.0.1:{free_port()}', 'slow': slow.uri}
        serve('rig', [ServiceConfig(name, uri, timeout=0.1) for name, uri in uris.items()])
        remote = Auxiliaries.from_segment('rig')
        with aux_of(**uris) as direct:
            direct.services.timeout = 0.1
            for push in (direct.push, remote.push):
                error = push('EXPINIT', wait=True)
                assert type(error) is RuntimeError
                assert 'dead: ' in str(error) and 'slow: ' in str(error)
        outcomes = remote.submit('EXPINIT').result(5)
        assert [outcome.state for outcome in outcomes.values()] == ['unreachable', 'echoed']
        assert isinstance(remote.push('EXPSTART', wait=True), TypeError)
        for unknown in ('EXPBAR', 3):
            with pytest.raises(ValueError, match='.'):
                remote.push(unknown)
        with pytest.raises(KeyError):
            remote.submit('EXPINIT', services=['nobody'])
        remote.close()


def test_one_dead_service_is_the_exception_it_is(serve):
    serve('rig', {'a': f'udp://127.0.0.1:{free_port()}'})
    remote = Auxiliaries.from_segment('rig')
    assert isinstance(remote.push('EXPINIT', wait=True), NobodyThere)
    remote.close()


def test_a_failing_optional_service_is_none_in_the_result(serve):
    with StockServer() as server:
        lamp = ServiceConfig('lamp', f'udp://127.0.0.1:{free_port()}', optional=True)
        serve('rig', [ServiceConfig('a', server.uri), lamp])
        remote = Auxiliaries.from_segment('rig')
        assert remote.push('EXPINIT', 1, wait=True) == {'a': [1], 'lamp': None}
        remote.close()


def test_a_push_without_wait_moves_from_the_queue_to_the_log(serve):
    with StockServer() as server:
        serve('rig', {'a': server.uri})
        remote = Auxiliaries.from_segment('rig')
        with remote.response_received:
            key = remote.push('EXPINIT', 1)
            assert isinstance(key, float) and key in remote._queued
            assert remote.response_received.wait(5)
        assert remote._log[key] == {'a': [1]} and key not in remote._queued
        with remote.response_received:
            remote._queued[1] = [net.base.ExpMessage.ALYX & net.base.ExpMessage.EXPEND, (), {}]
            assert remote.response_received.wait(5)
            assert isinstance(remote._log[1], NotImplementedError)
            remote._queued[2] = [net.base.ExpMessage.EXPINIT, ('by hand',), {}]
        eventually(lambda: remote._log.get(2) == {'a': ['by hand']})
        remote.close()


def test_commands_to_some_services_go_to_those_and_a_gate_can_stop_them(serve):
    def refuse() -> None:
        raise TimeoutError('too old')

    with StockServer() as one, StockServer() as two:
        serve('rig', {'one': one.uri, 'two': two.uri})
        remote = Auxiliaries.from_segment('rig')
        assert list(remote.submit('EXPINIT', services=['two']).result(5)) == ['two']
        assert isinstance(remote.submit('EXPINIT', gate=refuse).exception(5), TimeoutError)
        assert (one.saw, two.saw) == ([], [[1, None]])
        remote.close()


def test_what_waits_is_withdrawn_and_what_is_under_way_is_interrupted(serve):
    def only_interrupts(peer, datagram):
        (echo_and_reply if b'[16' in datagram else only_echo)(peer, datagram)

    with ScriptedPeer(only_interrupts) as peer:
        serve('rig', {'a': peer.uri}, timeout=60.0)
        remote = Auxiliaries.from_segment('rig')
        begun = remote.submit('EXPSTART', REF, timeout=60)
        eventually(lambda: peer.datagrams)
        assert remote.submit('EXPINTERRUPT').result(5)['a'].ok
        assert begun.result(5)['a'].aborted
        begun = remote.submit('EXPSTART', OTHER, timeout=60)  # told from the one before at any time
        eventually(lambda: [m[0] for m in peer.messages[: peer.handled]].count(2) == 2)  # and is echoed
        behind = remote.submit('EXPINIT', timeout=60)
        assert remote.clear_message_queue() == 1
        assert behind.result(5)['a'].state == 'not_sent' and behind.result()['a'].aborted
        assert not begun.done(), 'what is under way keeps its answer'
        peer.send([2, OTHER, None])
        assert begun.result(5)['a'].ok
        remote.close()


def test_a_push_that_gets_no_answer_in_time_is_a_runtime_error_as_ever(serve):
    with ScriptedPeer(only_echo) as peer:
        serve('rig', {'a': peer.uri}, timeout=60.0)
        remote = Auxiliaries.from_segment('rig')
        remote.refresh_rate = remote.services.timeout = 0.1
        with pytest.raises(RuntimeError, match='under way'):
            remote.push('EXPSTART', REF, wait=True)
        with pytest.raises(RuntimeError, match='withdrawn'):
            remote.push('EXPEND', wait=True)
        remote.close()


def test_events_reach_the_callback(serve):
    def speaking(peer: ScriptedPeer, datagram: bytes) -> None:
        echo_and_reply(peer, datagram)
        if is_command(datagram):
            peer.send([64, 20, {'frame': 7}])

    events: list[tuple] = []
    with ScriptedPeer(speaking) as peer:
        serve('rig', {'a': peer.uri})
        remote = Auxiliaries.from_segment('rig')
        remote.on_event = lambda *event: events.append(event)
        remote.push('EXPINIT', wait=True)
        eventually(lambda: events == [('a', 64, [20, {'frame': 7}])])
        remote.close()


def test_close_aborts_what_is_pending_and_leaves_no_thread(serve):
    with ScriptedPeer(only_echo) as peer:
        serve('rig', {'a': peer.uri}, timeout=60.0)
        remote = Auxiliaries.from_segment('rig')
        assert remote.is_connected and remote.is_running
        pending = remote.submit('EXPSTART', REF, timeout=60)
        eventually(lambda: peer.datagrams)
        remote.close()
        remote.close()
        assert pending.result(5)['a'].aborted
        assert not remote.is_connected and not remote.is_running and remote.stop_event.is_set()
        with pytest.raises(RuntimeError):
            remote.push('EXPINIT', wait=True)
        assert remote.submit('EXPINIT').result(5)['a'].aborted
        eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith('await-')])


def test_a_worker_may_be_waited_for_as_long_as_it_takes(serve):
    with StockServer() as server:
        starts = threading.Timer(0.1, serve, ('rig', {'a': server.uri}))
        starts.start()
        remote = Auxiliaries.from_segment('rig', timeout=None)
        assert remote.push('EXPINIT', 1, wait=True) == {'a': [1]}
        remote.close()
        starts.join()


def test_without_a_worker_there_is_nothing_to_attach_to(serve):
    with pytest.raises(NoSegment):
        Auxiliaries.from_segment('rig', timeout=0.05)
    worker = serve('rig', {})
    remote = Auxiliaries.from_segment('rig')
    assert remote.services is None and not remote.is_connected
    assert remote.push('EXPINIT', wait=True) == {}
    worker.end_of_test()
    remote.close()
    with pytest.raises(BridgeError):
        Auxiliaries.from_segment('rig', timeout=0.05)


@pytest.mark.parametrize('concurrent', [True, False])
def test_what_could_not_leave_by_its_deadline_is_not_sent(serve, concurrent):
    with Crowd('a', 'b') as services:
        serve('rig', services.clients, shared_addresses=True)
        aux = Auxiliaries.from_segment('rig')
        services.meet(aux)
        late = aux.submit('EXPSTART', REF, concurrent=concurrent, deadline=time.perf_counter())
        assert {outcome.reason for outcome in late.result(5).values()} == {Reason.EXPIRED}
        services.held = {'b'}
        begun = aux.submit('EXPINIT', services=['b'])
        assert services.got('b EXPINIT')
        late = aux.submit('EXPSTART', REF, concurrent=concurrent, deadline=time.perf_counter() + 0.3)
        assert late.result(5)['b'].reason is Reason.EXPIRED, 'it waited as long as any command may'
        services.answer('b')
        assert ok(begun) == ['b'] and 'b EXPSTART' not in services.row
        aux.close()
