"""The defects of the class that `Auxiliaries` replaces: none may come back. Then how its thread lives and ends."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
import warnings

import pytest
from peers import NobodyThere, ScriptedPeer, StockServer, echo_and_reply, eventually, free_port, only_echo
from sources import ROOT
from systems import PATIENCE

from bridge import carrier, results
from bridge.auxiliaries import Auxiliaries
from bridge.outcome import Reason
from bridge.segment.inspection import inspect
from bridge.services.rules import Timing


def test_instances_share_nothing() -> None:
    with StockServer() as server:
        one, two = Auxiliaries({'a': server.uri}), Auxiliaries({})
        for name in ('connected', 'response_received', 'stop_event', '_queued', '_log', '_thread', '_loop'):
            assert getattr(one, name) is not getattr(two, name)
        one.push('EXPINIT', wait=True)
        assert len(one._log) == 1 and not two._log
        one.close()
        assert two.is_running
        two.close()


def test_a_push_right_after_construction_works(server) -> None:
    for _ in range(20):
        aux = Auxiliaries({'a': server.uri})
        assert aux.is_connected
        assert aux.push('EXPINIT', wait=True) == {'a': [None]}
        aux.close()


def test_expinfo_does_not_kill_the_thread(aux) -> None:
    assert aux.push('EXPINFO', 'CONNECTED', {'main_sync': True}, wait=True) == {'cameras': [0, {'main_sync': True}]}
    assert aux.is_running


def test_expend_does_not_send_an_empty_list(aux, server) -> None:
    aux.push('EXPEND', wait=True)
    aux.push('EXPINTERRUPT', wait=True)
    assert server.saw == [[4, None], [16, None]]


def test_no_error_kills_the_thread(aux, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError('on purpose')

    link = aux._carrier.links['cameras']
    for name in ('permitted', 'enqueue', 'transmit'):
        with monkeypatch.context() as patch:
            patch.setattr(link, name, broken)
            for message in ('EXPINIT', 'EXPINTERRUPT'):
                outcome = aux.submit(message).result(2)['cameras']
                assert outcome.ok or 'on purpose' in outcome.error, name
        assert aux.is_running
    assert aux.push('EXPINIT', wait=True) == {'cameras': [None]}


def test_a_service_refused_once_is_contacted_again() -> None:
    port = free_port()
    aux = Auxiliaries({'a': f'udp://127.0.0.1:{port}'})
    assert aux.submit('EXPINIT').result(PATIENCE)['a'].state == 'unreachable'
    with StockServer(port=port) as server:
        assert aux.push('EXPINIT', wait=True) == {'a': [None]}
        assert server.saw == [[1, None]]
    aux.close()


def test_nothing_is_polled() -> None:
    with ScriptedPeer(echo_and_reply) as peer:
        aux = Auxiliaries({'a': peer.uri})
        aux.refresh_rate = 5
        aux.timing.reply_gap = 0
        start = time.perf_counter()
        for _ in range(50):
            assert isinstance(aux.push('EXPINIT', wait=True), dict)
        assert time.perf_counter() - start < 60, 'at 5 s a look this takes minutes'
        aux.close()


def test_no_waiter_takes_the_notification_of_another() -> None:
    with StockServer() as server:
        aux = Auxiliaries({'a': server.uri})
        results: list[object] = []
        threads = [
            threading.Thread(target=lambda n=n: results.append((n, aux.push('EXPINIT', n, wait=True))))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        assert sorted(results) == [(n, {'a': [n]}) for n in range(8)]
        aux.close()


def test_a_push_that_ended_in_a_runtime_error_is_not_sent_later() -> None:
    with ScriptedPeer(only_echo) as peer:
        aux = Auxiliaries({'a': peer.uri})
        long = aux.submit('EXPINIT', timeout=0.5)
        aux.services.timeout, aux.refresh_rate = 0.05, 0.05
        with pytest.raises(RuntimeError):
            aux.push('EXPSTART', 'too late', wait=True)
        assert not aux._queued
        assert [type(result) for result in aux._log.values()] == [RuntimeError]
        assert long.result(1)['a'].state == 'echoed'
        aux.submit('EXPEND', timeout=0.05).result(1)
        assert [message[0] for message in peer.messages] == [1, 4]
        aux.close()


def test_clearing_the_queue_does_not_race_with_the_thread(aux) -> None:
    cleared = 0
    for _ in range(20):
        keys = [aux.push('EXPSTATUS', 0) for _ in range(3)]
        cleared += aux.clear_message_queue()
        eventually(lambda keys=keys: all(key in aux._log for key in keys))
        assert not aux._queued
    assert cleared >= 20
    assert aux.push('EXPINIT', wait=True) == {'cameras': [None]}
    assert aux.clear_message_queue() == 0


def test_clearing_the_queue_resolves_what_it_aborts_also_with_the_lock_held() -> None:
    with ScriptedPeer(only_echo) as peer:
        aux = Auxiliaries({'a': peer.uri})
        first = aux.submit('EXPINIT', timeout=0.3)
        eventually(lambda: peer.datagrams)
        with aux.response_received:
            key = aux.push('EXPSTART', 'x')
            future = aux.submit('EXPEND')
            assert aux.clear_message_queue() == 2
            assert isinstance(aux._log[key], RuntimeError) and not aux._queued
        outcome = future.result(0)['a']
        assert (outcome.state, outcome.ok) == ('not_sent', False) and 'cleared' in outcome.error
        assert first.result(1)['a'].state == 'echoed'
        assert len(peer.datagrams) == 1
        aux.close()


def test_close_is_quick_in_flight_and_resolves_everything() -> None:
    with ScriptedPeer(only_echo) as peer:
        aux = Auxiliaries({'a': peer.uri})
        flying, queued, key = aux.submit('EXPINIT'), aux.submit('EXPEND'), aux.push('EXPCLEANUP')
        eventually(lambda: peer.datagrams)
        aux.close_timeout = 0.1
        start = time.perf_counter()
        aux.close()
        assert time.perf_counter() - start < 5, 'it waited for the reply for longer than it may'
        assert flying.result(0)['a'].error and queued.result(0)['a'].state == 'not_sent'
        eventually(lambda: key in aux._log)
        late = aux.submit('EXPINIT').result(0)['a']
        assert late.state == 'not_sent' and late.error
        with pytest.raises(RuntimeError):
            aux.push('EXPINIT', wait=True)
        aux.close()


def test_setting_the_stop_event_ends_the_thread(aux) -> None:
    aux.stop_event.set()
    eventually(lambda: not aux.is_running, 1)


def test_asking_for_a_token_does_not_wedge_the_thread() -> None:
    with ScriptedPeer(only_echo) as peer:
        aux = Auxiliaries({'a': peer.uri})
        aux.services.timeout = 0.1
        assert isinstance(aux.push('ALYX', None, wait=True), TimeoutError)
        assert aux.submit('EXPINIT').result(1)['a'].state == 'echoed'
        aux.close()


def test_the_thread_does_not_keep_the_interpreter_alive(server) -> None:
    code = (
        'from bridge.auxiliaries import Auxiliaries\n'
        f"aux = Auxiliaries({{'a': '{server.uri}', 'b': 'udp://127.0.0.1:9'}})\n"
        "print(aux.push('EXPINIT', wait=True).__class__.__name__)\n"
        "aux.submit('ALYX')\n"
    )
    run = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert (run.returncode, run.stdout) == (0, f'{NobodyThere.__name__}\n')


def test_the_log_is_trimmed(aux, monkeypatch) -> None:
    monkeypatch.setattr(results, 'KEPT', 3)
    aux.timing.reply_gap = 0
    keys = [aux.push('EXPSTATUS', 0) for _ in range(6)]
    eventually(lambda: not aux._queued)
    assert list(aux._log) == keys[3:]


# Life and death of the thread


def test_of_what_is_pending_when_the_thread_dies_each_outcome_says_whether_it_had_left() -> None:
    with ScriptedPeer(only_echo) as peer:
        aux = Auxiliaries({'a': peer.uri})
        left, key = aux.submit('EXPINIT'), aux.push('EXPEND')
        waits = aux.submit('EXPCLEANUP')
        eventually(lambda: peer.datagrams)
        aux._loop.call_soon_threadsafe(aux._loop.stop)
        for future, is_sent in ((left, True), (waits, False)):
            outcome = future.result(2)['a']
            assert outcome.reason is Reason.INTERNAL and 'network thread ended' in outcome.error
            assert bool(outcome.sent) is is_sent
        eventually(lambda: not aux._thread.is_alive())
        assert not aux.is_running
        eventually(lambda: key in aux._log)
        with pytest.raises(RuntimeError):
            aux.submit('EXPINIT').result(0)
        aux.close()


def test_a_lock_held_by_a_caller_does_not_hold_up_the_network_thread() -> None:
    with ScriptedPeer(echo_and_reply) as peer:
        aux = Auxiliaries({'a': peer.uri})
        with aux.response_received:
            keys = [aux.push('EXPINIT', n) for n in range(5)]
            assert aux.submit('EXPSTATUS', 0).result(1)['a'].ok
            assert sorted(aux._queued) == keys
        eventually(lambda: not aux._queued)
        assert [aux._log[key] for key in keys] == [{'a': [n]} for n in range(5)]
        aux.close()


def test_a_constructor_that_is_interrupted_leaves_no_thread(server, monkeypatch):
    class Interrupted(threading.Event):
        def wait(self, timeout=None):
            raise KeyboardInterrupt

    start = carrier.ThreadedCarrier.start

    def interrupted(self, main=None):
        self.created = Interrupted()
        start(self, main)

    monkeypatch.setattr(carrier.ThreadedCarrier, 'start', interrupted)
    with pytest.raises(KeyboardInterrupt):
        Auxiliaries({'a': server.uri})
    eventually(lambda: 'auxiliaries' not in [thread.name for thread in threading.enumerate()])


@pytest.mark.parametrize('where', ['as its thread is started', 'as all is made'])
def test_a_constructor_that_is_interrupted_elsewhere_leaves_nothing_either(serve, server, monkeypatch, where):
    """Whoever came behind the thread's start, and before anybody waited for it, left thread, sockets and slot."""
    serve('rig', {'a': server.uri})
    start, make, before = threading.Thread.start, Auxiliaries._start, set(threading.enumerate())

    def started(thread):
        start(thread)
        if thread.name in ('auxiliaries', 'segment'):
            raise KeyboardInterrupt

    def made(*what):
        make(*what)
        raise KeyboardInterrupt

    if where == 'as all is made':
        monkeypatch.setattr(Auxiliaries, '_start', made)
    else:
        monkeypatch.setattr(threading.Thread, 'start', started)
        with pytest.raises(KeyboardInterrupt):
            Auxiliaries({'a': server.uri})
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ResourceWarning)  # of what is forgotten
        with pytest.raises(KeyboardInterrupt) as caught:
            Auxiliaries.from_segment('rig')
        del caught
        gc.collect()
        eventually(
            lambda: not {'auxiliaries', 'segment'} & {thread.name for thread in {*threading.enumerate()} - before}
        )
        eventually(lambda: not inspect('rig').slots)


def test_a_timing_of_a_service_that_there_is_not_is_no_small_matter(server):
    with pytest.raises(ValueError, match="no service 'camera'"):
        Auxiliaries({'cameras': server.uri}, timings={'camera': Timing()})


def test_no_socket_is_left_behind() -> None:
    gc.collect()  # what other tests have left
    with StockServer() as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        aux = Auxiliaries({'a': server.uri, 'b': server.uri, 'c': f'udp://127.0.0.1:{free_port()}'})
        aux.push('EXPINIT', wait=True)
        asyncio.run_coroutine_threadsafe(aux.cleanup(), aux._loop).result(5)
        aux.push('EXPINIT', wait=True)
        aux.close()
        del aux
        gc.collect()
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == []


def test_cleanup_notifies_and_closes_and_the_next_command_opens_again(aux, server) -> None:
    before = aux.services
    asyncio.run_coroutine_threadsafe(aux.cleanup(notify_services=True), aux._loop).result(5)
    assert server.saw == [[8, None]] and server.com.is_connected, 'its reply was awaited, and confirmed'
    assert not before.is_connected and not aux.is_connected
    assert aux.push('EXPINIT', wait=True) == {'cameras': [None]}
    assert aux.is_connected


def test_a_communicator_closed_by_anything_is_made_anew(aux, server) -> None:
    before = aux.services
    aux._loop.call_soon_threadsafe(aux.services.close)
    eventually(lambda: not before.is_connected)
    assert aux.push('EXPINIT', wait=True) == {'cameras': [None]}
    assert aux.services is not before and aux.services.is_connected


def test_a_push_of_a_signal_handler_takes_no_key_from_the_push_that_it_interrupts(monkeypatch):
    held, pushed = results.Results(lambda key: None), []
    put = held.queued.put

    def interrupted(key, value):
        put(key, value)
        if not pushed:
            pushed.append(None)
            pushed.append(held.enter('EXPINTERRUPT', (), {}))

    monkeypatch.setattr(held.queued, 'put', interrupted)
    pushed.append(held.enter('EXPSTART', (), {}))
    _, inner, outer = pushed
    assert [held.queued[one.key][0] for one in (inner, outer)] == ['EXPINTERRUPT', 'EXPSTART']


def test_a_result_is_published_where_no_thread_can_be_started(monkeypatch):
    # At the exit of a program, from Python 3.12 on.
    held, refused, start = results.Results(lambda key: None), threading.Event(), threading.Thread.start

    def refuse(thread):
        if thread is network:
            start(thread)
        else:
            refused.set()
            raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, 'start', refuse)
    with held.received:
        pushed = held.enter('EXPEND', (), {})
        network = threading.Thread(target=held.publish, args=(pushed,))
        network.start()
        assert refused.wait(5)
    network.join(5)
    assert pushed.published
