"""`Auxiliaries` as its documentation has it and as iblrig's code uses it, member by member, by a user of the class."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import math
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, create_autospec, patch

import pytest
from crowds import MOMENT, Crowd, crowd, ok
from peers import (
    NOBODY_SAYS,
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
from processes import program
from sessions import Session
from systems import ENDS, PATIENCE, ask_to_end

from bridge import auxiliaries, carrier
from bridge.auxiliaries import Auxiliaries, ExpMessage
from bridge.config import ServiceConfig
from bridge.errors import error_for
from bridge.numbers import CODES
from bridge.outcome import Aborted, Reason

REF = '2026-01-01_1_subject'
INIT = ('EXPINIT', {'exp_ref': REF})
TIMEOUTS = (asyncio.TimeoutError, TimeoutError)
GONE = f'udp://127.0.0.1:{free_port()}'


@pytest.fixture(params=['network', 'segment'])
def through(request: Any, serve: Callable[..., Any]) -> Iterator[Callable[..., Auxiliaries]]:
    """Return a function that makes Auxiliaries, or a subclass, of services: directly, or through a worker."""
    with contextlib.ExitStack() as stack:

        def make(kind: type[Auxiliaries] = Auxiliaries, **clients: str) -> Auxiliaries:
            if request.param == 'segment':
                serve('rig', clients)
            aux = kind(clients) if request.param == 'network' else kind.from_segment('rig')
            stack.callback(aux.close)
            return aux

        yield make


@contextlib.contextmanager
def thread(function: Callable[[], Any]) -> Iterator[list[Any]]:
    """Call a function in a thread, which must have ended at the end; its result is in the list then."""
    results: list[Any] = []
    running = threading.Thread(target=lambda: results.append(function()))
    running.start()
    try:
        yield results
    finally:
        running.join(20)
        assert not running.is_alive()


# Attributes of the class


def test_the_documented_attributes_are_those_of_the_class() -> None:
    for name in ('services', 'connected', 'response_received', 'stop_event', '_clients', '_queued', '_log', '_thread'):
        assert vars(Auxiliaries)[name] is None, name
    assert Auxiliaries.refresh_rate == 0.2
    for name in ('is_connected', 'is_running'):
        assert isinstance(vars(Auxiliaries)[name], property)
    for name in ('create', 'listen', 'cleanup'):
        assert inspect.iscoroutinefunction(getattr(Auxiliaries, name)), name


def test_instances_share_nothing(server) -> None:
    with aux_of(a=server.uri) as one, aux_of(b=server.uri) as two:
        for name in ('services', 'connected', 'response_received', 'stop_event', '_clients', '_queued', '_log'):
            assert getattr(one, name) is not getattr(two, name), name
        assert (Auxiliaries.services, Auxiliaries.connected, Auxiliaries._log) == (None, None, None)


def test_a_mock_with_its_specification_has_all_that_iblrig_uses() -> None:
    with patch('bridge.auxiliaries.Auxiliaries', autospec=True) as mock:
        made = auxiliaries.Auxiliaries({'cameras': '127.0.0.1'})
        for name in ('services', 'connected', 'response_received', 'stop_event', 'refresh_rate', '_queued', '_log'):
            getattr(made, name)
        made.services.assign_callback('EXPINTERRUPT', print)
        made.services.get('cameras')
        made.push('EXPINFO', 'CONNECTED', {}, wait=True)
        made.push.assert_called_once()
        assert isinstance(made.cleanup, AsyncMock)
        with pytest.raises(AttributeError):
            made.nothing_of_that_name  # noqa: B018
        with pytest.raises(TypeError):
            made.push()
        with pytest.raises(TypeError):
            auxiliaries.Auxiliaries()
        mock.assert_called_once_with({'cameras': '127.0.0.1'})
    made = create_autospec(Auxiliaries, instance=True, spec_set=True)
    made.is_connected, made.services = True, {}


def test_a_subclass_sets_how_long_a_push_waits() -> None:
    class Impatient(Auxiliaries):
        refresh_rate = 0.3

    with ScriptedPeer(only_echo) as peer:
        aux = Impatient({'a': peer.uri})
        aux.services.timeout = 0.0
        aux.timing.timeout = 20.0
        before = time.monotonic()
        with pytest.raises(RuntimeError):
            aux.push('EXPSTART', REF, wait=True)
        assert 0.29 < time.monotonic() - before < 5
        aux.close_timeout = 0.0
        aux.close()


class Contended(Future[None]):
    """A future that somebody else has resolved whenever one looks away."""

    def done(self) -> bool:
        return False


def test_a_subclass_sets_how_long_a_close_waits(through) -> None:
    class Impatient(Auxiliaries):
        close_timeout = 0.3

    with ScriptedPeer(only_echo) as peer:
        aux = through(Impatient, a=peer.uri)
        pending = aux.submit('EXPSTART', REF, timeout=60)
        eventually(lambda: peer.datagrams)
        before = time.monotonic()
        aux.close()
        assert 0.29 < time.monotonic() - before < 3
        assert pending.result(1)['a'].reason == Reason.CLOSED


def test_times_without_an_end_are_waited_for(through, server) -> None:
    aux = through(a=server.uri)
    aux.services.timeout = aux.close_timeout = math.inf
    assert aux.push('EXPINIT', 1, wait=True) == {'a': [1]}
    aux.close()
    assert not aux._thread.is_alive()


def test_many_may_close_at_once(through, server) -> None:
    aux = through(a=server.uri)
    aux._carrier.hurried = Contended()
    for _ in range(3):
        aux.close()
    assert not aux.is_running


# Events that are conditions as well


def test_connected_is_an_event_and_a_condition(through, server) -> None:
    aux = through(a=server.uri)
    before = time.monotonic()
    assert aux.connected.is_set()
    assert aux.connected.wait(2) is True and aux.connected.wait() is True
    with aux.connected:
        assert aux.connected.wait(2) is True and aux.connected.wait() is True
        with aux.connected:
            assert aux.connected.wait(timeout=2) is True
    assert time.monotonic() - before < 1


def test_connected_is_false_until_the_services_are_there(server, monkeypatch) -> None:
    monkeypatch.setattr(carrier, 'CREATE_TIMEOUT', 0.05)
    released = threading.Event()

    class Late(Auxiliaries):
        async def create(self) -> None:
            await asyncio.get_running_loop().run_in_executor(None, released.wait)
            await super().create()

    aux = Late({'a': server.uri})
    assert not aux.connected.is_set() and not aux.is_connected
    assert aux.connected.wait(0.05) is False
    with aux.connected:
        assert aux.connected.wait(0.05) is False
    with thread(lambda: aux.connected.wait(10)) as event, thread(lambda: holding(aux.connected)) as condition:
        released.set()
    assert event == condition == [True]
    assert aux.is_connected
    aux.close()


def holding(signal: Any) -> bool:
    with signal:
        return bool(signal.wait(10))


def test_a_response_wakes_whoever_holds_the_condition(through, server) -> None:
    aux = through(a=server.uri)
    for number in range(3):
        with aux.response_received:
            key = aux.push('EXPINIT', number)
            assert key in aux._queued and key not in aux._log
            assert aux.response_received.wait(5)
        assert aux._log[key] == {'a': [number]} and key not in aux._queued


def test_a_response_sets_the_event_until_it_is_cleared(through, server) -> None:
    aux = through(a=server.uri)
    for number in range(3):
        aux.response_received.clear()
        assert not aux.response_received.is_set()
        assert aux.response_received.wait(0.02) is False
        key = aux.push('EXPINIT', number)
        assert aux.response_received.wait(5) is True
        assert aux.response_received.is_set() and aux._log[key] == {'a': [number]}
        assert aux.response_received.wait(0) is True


def test_no_response_is_false_for_both_uses() -> None:
    with ScriptedPeer(only_echo) as peer, aux_of(a=peer.uri) as aux:
        aux.close_timeout = 0.0
        aux.push('EXPINIT')
        assert aux.response_received.wait(0.05) is False
        with aux.response_received:
            assert aux.response_received.wait(0.05) is False
        assert not aux.response_received.is_set()


def test_clearing_an_empty_queue_is_no_response(through, server) -> None:
    aux = through(a=server.uri)
    aux.response_received.clear()
    assert aux.clear_message_queue() == 0
    assert not aux.response_received.is_set()


def test_several_who_wait_are_all_told(server) -> None:
    def wait() -> bool:
        with aux.response_received:
            waiting.append(1)
            return bool(aux.response_received.wait(10))

    waiting: list[int] = []
    with aux_of(a=server.uri) as aux, thread(wait) as one, thread(wait) as two:
        eventually(lambda: len(waiting) == 2)
        aux.push('EXPINIT')
    assert one == two == [True]


# cleanup


class Notifying(Auxiliaries):
    """As a laboratory would have it: what is connected is told that all is over."""

    async def cleanup(self, notify_services: bool = False) -> None:
        await super().cleanup(True)


@pytest.mark.parametrize('end', ['close', 'stop_event'])
def test_the_cleanup_of_a_subclass_runs_when_it_ends_and_may_tell_the_services(through, end) -> None:
    with Session('one-loop', '--work', 'EXPCLEANUP=0.5') as session:
        aux = through(Notifying, cameras=session.uri)
        assert aux.push('EXPSTATUS', 0, wait=True) == {'cameras': [0]}
        if end == 'close':
            aux.close()
        else:
            aux.stop_event.set()
        eventually(lambda: not aux._thread.is_alive())
        assert session.heard == ['EXPSTATUS', 'EXPCLEANUP']
        with aux_of(cameras=session.uri) as next_one:  # it has come round, so its answer was confirmed
            assert next_one.push('EXPSTATUS', 0, wait=True) == {'cameras': [30]}
        assert session.connected and session.report()['errors'] == []


def test_a_cleanup_without_notice_tells_nobody(through) -> None:
    with StockServer() as server:
        aux = through(a=server.uri)
        assert aux.push('EXPINIT', wait=True) == {'a': [None]}
        aux.close()
        assert server.saw == [[1, None]]


def test_a_cleanup_can_be_awaited_in_another_loop(through) -> None:
    with Session('one-loop', '--work', 'EXPCLEANUP=0.5') as session:
        aux = through(cameras=session.uri)
        assert aux.push('EXPSTATUS', 0, wait=True) == {'cameras': [0]}
        asyncio.run(aux.cleanup(True))
        assert not aux.is_connected
        with aux_of(cameras=session.uri) as next_one:
            assert next_one.push('EXPSTATUS', 0, wait=True) == {'cameras': [30]}
        assert session.heard == ['EXPSTATUS', 'EXPCLEANUP', 'EXPSTATUS']
        assert session.connected and session.report()['errors'] == []
        aux.close()
        asyncio.run(aux.cleanup(True))  # over
        asyncio.run(aux.cleanup())
        assert session.heard == ['EXPSTATUS', 'EXPCLEANUP', 'EXPSTATUS']


def test_a_cleanup_tells_those_that_live_although_one_is_gone() -> None:
    with StockServer() as server, aux_of(gone=GONE, a=server.uri) as aux:
        before = time.monotonic()
        asyncio.run(aux.cleanup(notify_services=True))
        assert time.monotonic() - before < 5
        assert server.saw == [[8, None]]


def test_a_cleanup_that_fails_keeps_nobody_waiting(through) -> None:
    class Failing(Auxiliaries):
        async def cleanup(self, notify_services: bool = False) -> None:
            raise OSError('no')

    with StockServer() as server:
        aux = through(Failing, a=server.uri)
        aux.close()
        assert not aux.is_running and aux.stop_event.is_set()
        assert eventually(aux.submit('EXPINIT').done)
        with pytest.raises(RuntimeError):
            aux.push('EXPINIT', wait=True)


# close


def test_a_close_lets_what_is_under_way_be_answered_and_begins_nothing(through) -> None:
    with Session('one-loop', '--work', 'EXPINIT=1') as session:
        aux = through(cameras=session.uri)
        with thread(lambda: aux.push(*INIT, wait=True)) as result:
            eventually(lambda: session.heard)
            queued = aux.submit('EXPSTART', REF)
            key = aux.push('EXPSTATUS', 0)
            aux.close()
        assert result[0]['cameras'][0]['status'] == 10, result
        outcome = queued.result(1)['cameras']
        assert (outcome.state, outcome.reason) == ('not_sent', Reason.CLOSED)
        assert isinstance(eventually(lambda: aux._log.get(key)), Aborted)
        assert not aux.is_connected and not aux.is_running and not aux._thread.is_alive()
        with aux_of(cameras=session.uri) as next_one:
            assert next_one.push('EXPSTATUS', 0, wait=True) == {'cameras': [10]}
        assert session.heard == ['EXPINIT', 'EXPSTATUS']
        assert session.connected and session.report()['errors'] == []


def test_a_close_answers_only_those_services_that_were_sent_to() -> None:
    with Session('one-loop', '--work', 'EXPINIT=1') as session, ScriptedPeer(only_echo) as busy:
        with aux_of(cameras=session.uri, busy=busy.uri) as aux:
            aux.submit('EXPSTATUS', 0, services=['busy'], timeout=20)
            eventually(lambda: busy.datagrams)
            init = aux.submit(*INIT)
            eventually(lambda: session.heard)
            aux.close_timeout = 2.0
            aux.close()
            outcomes = init.result(1)
        assert outcomes['cameras'].ok
        assert (outcomes['busy'].state, outcomes['busy'].reason) == ('not_sent', Reason.CLOSED)
        assert session.connected


def test_a_close_waits_no_longer_than_it_should(through) -> None:
    with Session('one-loop', '--work', 'EXPINIT=60') as session:
        aux = through(cameras=session.uri)
        aux.close_timeout = 0.5
        with thread(lambda: aux.push(*INIT, wait=True)) as result:
            eventually(lambda: session.heard)
            before = time.monotonic()
            aux.close()
            assert 0.49 < time.monotonic() - before < 4
        assert isinstance(result[0], Aborted)


def test_a_close_that_is_called_again_ends_at_once(through) -> None:
    with Session('one-loop', '--work', 'EXPINIT=60') as session:
        aux = through(cameras=session.uri)
        aux.close_timeout = 50.0
        with thread(lambda: aux.push(*INIT, wait=True)) as result:
            eventually(lambda: session.heard)
            with thread(aux.close):
                eventually(lambda: not aux.is_running)
                before = time.monotonic()
                aux.close()
                assert time.monotonic() - before < 4
                assert not aux._thread.is_alive()
        assert isinstance(result[0], Aborted)


def test_a_second_close_does_not_wait_for_a_cleanup_that_is_not_answered() -> None:
    with ScriptedPeer(only_echo) as peer:
        aux = Notifying({'a': peer.uri})
        with thread(aux.close):
            eventually(lambda: peer.datagrams)
            before = time.monotonic()
            aux.close()
            assert time.monotonic() - before < 4
            assert not aux._thread.is_alive()


def test_a_close_with_nothing_under_way_is_quick(through, server) -> None:
    aux = through(a=server.uri)
    assert aux.push('EXPINIT', wait=True) == {'a': [None]}
    before = time.monotonic()
    aux.close()
    assert time.monotonic() - before < 1 and not aux._thread.is_alive()


def test_a_callback_may_close(through) -> None:
    def speaking(peer: ScriptedPeer, datagram: bytes) -> None:
        echo_and_reply(peer, datagram)
        if is_command(datagram):
            peer.send([16, 'a camera died'])

    with ScriptedPeer(speaking) as peer:
        aux = through(a=peer.uri)
        aux.on_event = lambda *event: aux.close()
        aux.push('EXPINIT', wait=True)
        eventually(lambda: not aux._thread.is_alive())


SIGTERM_PROGRAM = """
import signal, sys
from bridge.auxiliaries import Auxiliaries
aux = Auxiliaries({'cameras': sys.argv[1]})
def end(*_):
    aux.close()
    print('closed', aux._thread.is_alive(), flush=True)
    if sys.argv[2] == 'exit':
        raise SystemExit(0)
signal.signal(getattr(signal, sys.argv[4]), end)
print('ready', flush=True)
print(aux.push('EXPINIT', {'exp_ref': sys.argv[3]}, wait=True), flush=True)
"""


@pytest.mark.parametrize('then', ['return', 'exit'])
def test_a_close_in_the_handler_of_sigterm_leaves_the_service_connected(then) -> None:
    with Session('one-loop', '--work', 'EXPINIT=1') as session:
        with program(SIGTERM_PROGRAM, session.uri, then, REF, ENDS) as process:
            eventually(lambda: session.heard)
            ask_to_end(process)
            assert process.stdout.readline() == 'closed False\n'
            if then == 'return':
                assert "'status': 10" in process.stdout.readline()
            assert process.wait(10) == 0
        with aux_of(cameras=session.uri) as next_one:
            assert next_one.push('EXPSTATUS', 0, wait=True) == {'cameras': [10]}
        assert session.connected and session.report()['errors'] == []


# Where failures are logged


def errors(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    """Return what was logged as an error by a logger."""
    return [r.getMessage() for r in caplog.records if (r.name, r.levelno) == (name, logging.ERROR)]


def test_a_failure_is_logged_by_the_logger_of_the_module(through, caplog) -> None:
    aux = through(a=GONE)
    caplog.clear()
    assert isinstance(aux.push('EXPINIT', wait=True), NobodyThere)
    (said,) = errors(caplog, 'bridge.auxiliaries')
    assert 'EXPINIT' in said and NOBODY_SAYS in said
    key = aux.push('EXPSTART')  # without the reference
    assert isinstance(eventually(lambda: aux._log.get(key)), TypeError)
    assert len(errors(caplog, 'bridge.auxiliaries')) == 2


def test_a_failure_is_logged_where_iblrig_looks(through, caplog, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'iblrig.net', types.ModuleType('iblrig.net'))
    written: list[str] = []
    file = logging.Handler()
    file.emit = lambda record: written.append(record.getMessage())
    logger = logging.getLogger('iblrig')
    monkeypatch.setattr(logger, 'handlers', [file])
    aux = through(a=GONE)
    aux.push('EXPINIT', wait=True)
    (said,) = errors(caplog, 'iblrig.net')
    assert said in written and not errors(caplog, 'bridge.auxiliaries')


def test_a_failure_is_logged_by_the_logger_that_is_set(through, caplog, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'iblrig.net', types.ModuleType('iblrig.net'))
    monkeypatch.setattr(Auxiliaries, 'logger', logging.getLogger('of.all'))
    aux = through(a=GONE)
    aux.push('EXPINIT', wait=True)
    aux.logger = logging.getLogger('of.this.one')
    aux.push('EXPINIT', wait=True)
    assert (len(errors(caplog, 'of.all')), len(errors(caplog, 'of.this.one'))) == (1, 1)
    assert not errors(caplog, 'iblrig.net') + errors(caplog, 'bridge.auxiliaries')


class Frozen(logging.Handler):
    """A console in which somebody selects text."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.goes_on.wait(30)


@contextlib.contextmanager
def frozen(*names: str) -> Iterator[Frozen]:
    handler = Frozen()
    try:
        for name in names:
            logging.getLogger(name).addHandler(handler)
        yield handler
    finally:
        handler.goes_on.set()
        for name in names:
            logging.getLogger(name).removeHandler(handler)


@pytest.mark.not_wine('it does not tell of a refusal')
def test_a_log_that_stands_still_holds_no_service_up(through) -> None:
    with StockServer() as server, frozen('bridge.auxiliaries') as console:
        aux = through(a=server.uri, dead=f'udp://127.0.0.1:{free_port()}')
        key = aux.push('EXPINIT', 1)
        eventually(lambda: console.lines)
        assert aux.submit('EXPINTERRUPT', services=['a']).result(5)['a'].ok
        assert ['closed itself'] not in server.saw
        aux.services.timeout = aux.refresh_rate = 0.3
        assert isinstance(aux.push('EXPSTATUS', 0, wait=True), NobodyThere), 'it was known'
        assert key not in aux._log
        console.goes_on.set()
        eventually(lambda: isinstance(aux._log.get(key), NobodyThere))
        aux.close()
        assert [line.partition(' ')[0] for line in console.lines] == ['EXPINIT', 'EXPSTATUS']


def test_what_a_service_says_by_itself_is_not_held_up_by_the_log() -> None:
    def complains(peer: ScriptedPeer, datagram: bytes) -> None:
        echo_and_reply(peer, datagram)
        if is_command(datagram) and datagram.startswith(b'[32'):
            peer.send([0, 'RuntimeError: no disk', 2])

    with ScriptedPeer(complains) as peer, frozen('bridge.services.carrier') as console, aux_of(a=peer.uri) as aux:
        aux.push('EXPSTATUS', 0, wait=True)
        eventually(lambda: console.lines)
        assert aux.push('EXPINIT', 1, wait=True) == {'a': [1]}


def raises(*_: Any) -> None:
    raise ZeroDivisionError


def test_a_callback_that_fails_is_not_waited_for_until_somebody_reads_that() -> None:
    with ScriptedPeer(speaks) as peer, frozen('bridge') as console, aux_of(a=peer.uri) as aux:
        aux.on_event = raises
        assert aux.push('EXPSTATUS', 0, wait=True) == {'a': [0]}
        eventually(lambda: console.lines)
        assert aux.push('EXPINIT', 1, wait=True) == {'a': [1]}


def test_a_callback_of_a_future_that_fails_is_not_waited_for_until_somebody_reads_that() -> None:
    with ScriptedPeer(speaks) as peer, frozen('bridge', 'concurrent.futures') as console, aux_of(a=peer.uri) as aux:
        aux.submit('EXPINIT', 1).add_done_callback(raises)
        eventually(lambda: console.lines)
        assert aux.push('EXPINIT', 2, wait=True) == {'a': [2]}


def test_a_service_that_cannot_be_reached_does_not_hold_up_the_others_until_somebody_reads_that(monkeypatch) -> None:
    def unknown(host: str) -> str:
        raise OSError(f'{host} is not known')

    monkeypatch.setattr('socket.gethostbyname', unknown)
    with StockServer() as server, frozen('bridge') as console:
        aux = Auxiliaries({'a': server.uri, 'b': 'udp://rig-pc:11001'})
        eventually(lambda: console.lines)
        assert aux.submit('EXPINIT', 1, services=['a']).result(5)['a'].ok
        assert ['closed itself'] not in server.saw
        console.goes_on.set()
        aux.close()
    assert [line for line in console.lines if line.startswith('b cannot be reached for now')]


@pytest.mark.not_wine('it does not tell of a refusal')
def test_a_name_that_is_not_found_any_more_does_not_hold_up_the_others_until_somebody_reads_that(monkeypatch) -> None:
    def unknown(host: str) -> str:
        raise OSError(f'{host} is not known')

    monkeypatch.setattr('socket.gethostbyname', lambda host: '127.0.0.1')
    with StockServer() as server, frozen('bridge.services') as console:
        aux = Auxiliaries({'a': server.uri, 'b': f'udp://rig-pc:{free_port()}'})
        assert aux.submit('EXPINIT', 1, services=['b']).result(5)['b'].reason is Reason.REFUSED
        monkeypatch.setattr('socket.gethostbyname', unknown)
        aux.submit('EXPINIT', 1, services=['b'])
        eventually(lambda: console.lines)
        assert aux.submit('EXPINIT', 2, services=['a']).result(5)['a'].ok
        assert ['closed itself'] not in server.saw
        console.goes_on.set()
        aux.close()


# services


def speaks(peer: ScriptedPeer, datagram: bytes) -> None:
    """Answer, and say at EXPSTATUS that a camera died."""
    echo_and_reply(peer, datagram)
    if is_command(datagram) and datagram.startswith(b'[32'):
        peer.send([16, 'a camera died'])


def test_through_a_segment_it_is_auxiliaries_with_services(serve) -> None:
    class Own(Auxiliaries):
        refresh_rate = 0.1

    with StockServer() as server, StockServer() as other:
        serve('rig', {'cameras': server.uri, 'ephys': other.uri})
        aux = Own.from_segment('rig')
        assert isinstance(aux, Own) and isinstance(aux, Auxiliaries)
        assert aux.is_connected and aux.is_running and aux.refresh_rate == 0.1
        services = aux.services
        assert services.get('cameras').name == 'cameras' and services.get('nobody') is None
        assert services.get('nobody', 1) == 1
        assert list(services) == list(services.keys()) == ['cameras', 'ephys'] and len(services) == 2
        assert [(name, service.name) for name, service in services.items()] == [(name, name) for name in services]
        assert 'ephys' in services and services['ephys'] in list(services.values())
        assert services.is_connected and services.timeout == 10
        with pytest.raises(KeyError):
            services['nobody']
        aux.close()


@pytest.mark.parametrize('event', ['EXPINTERRUPT', 16, ExpMessage.EXPINTERRUPT])
def test_a_callback_gets_what_a_service_says_by_itself(through, event) -> None:
    said: list[Any] = []
    with ScriptedPeer(speaks) as peer:
        aux = through(a=peer.uri)
        aux.services.assign_callback(event, lambda data, addr: said.append((data, addr)))
        assert aux.push('EXPSTATUS', 0, wait=True) == {'a': [0]}
        eventually(lambda: said)
        ((data, addr),) = said
        assert data == ['a camera died'] and isinstance(addr, tuple) and len(addr) == 2


@pytest.mark.parametrize('events', [ExpMessage.any(), ExpMessage.EXPINIT | ExpMessage.EXPEND])
def test_a_callback_may_be_for_several_events(through, events) -> None:
    said: list[Any] = []
    with ScriptedPeer(echo_and_reply) as peer:
        aux = through(a=peer.uri)
        aux.services.assign_callback(events, lambda data, addr, *which: said.append((data, which)))
        for number, message in enumerate(('EXPINIT', 'EXPEND'), 1):
            aux.push(message, number, wait=True)
            eventually(lambda number=number: len(said) == number)
        told = events not in ExpMessage  # as iblutil has it, until Python 3.11
        which = [(ExpMessage.EXPINIT,), (ExpMessage.EXPEND,)] if told else [(), ()]
        assert said == [([1], which[0]), ([2], which[1])]
        assert aux.services.clear_callbacks(events) == {'a': len(list(events))}


@pytest.mark.parametrize(('event', 'error'), [('EXPBAR', ValueError), ('PING', ValueError), (None, TypeError)])
def test_a_callback_for_what_is_no_event_is_refused(through, event, error) -> None:
    with ScriptedPeer(echo_and_reply) as peer:
        services = through(a=peer.uri).services
        for call in (services.assign_callback, services['a'].assign_callback, services.clear_callbacks):
            with pytest.raises(error):
                call(event, print)
        for one in (services, services['a']):
            with pytest.raises(TypeError):
                one.assign_callback('EXPINIT', 'print')


def test_a_callback_gets_answers_too_before_they_are_returned(through) -> None:
    said: list[Any] = []
    with ScriptedPeer(echo_and_reply) as one, ScriptedPeer(echo_and_reply) as two:
        aux = through(a=one.uri, b=two.uri)
        aux.services.assign_callback('EXPINFO', lambda *what: said.append(what))
        aux.services['b'].assign_callback('EXPINIT', lambda *what: said.append(what))
        aux.push('EXPINFO', 'RUNNING', {'x': 1}, wait=True)
        eventually(lambda: len(said) == 2)
        assert [data for data, _ in said] == [[20, {'x': 1}]] * 2
        aux.push('EXPINIT', 5, wait=True)
        eventually(lambda: len(said) == 3)
        assert said[-1][0] == [5]


def test_a_callback_may_want_the_service_and_may_be_taken_back(through) -> None:
    said: list[Any] = []

    def callback(*what: Any) -> None:
        said.append(what)

    with ScriptedPeer(speaks) as one, ScriptedPeer(speaks) as two:
        aux = through(a=one.uri, b=two.uri)
        aux.services.assign_callback('EXPINTERRUPT', callback, return_service=True)
        aux.push('EXPSTATUS', 0, wait=True)
        eventually(lambda: len(said) == 2)
        assert {service.name: data for data, _, service in said} == dict.fromkeys('ab', ['a camera died'])
        assert all(service is aux.services[service.name] for *_, service in said)
        assert aux.services.clear_callbacks('EXPINTERRUPT', callback) == {'a': 1, 'b': 1}
        others: list[Any] = []
        aux.services.assign_callback('EXPINTERRUPT', lambda *what: others.append(what))
        aux.push('EXPSTATUS', 0, wait=True)
        eventually(lambda: len(others) == 2)
        assert len(said) == 2
        assert aux.services.clear_callbacks('EXPINTERRUPT') == {'a': 1, 'b': 1}


def test_a_callback_that_fails_disturbs_neither_answers_nor_the_next_callback_of_its_kind(through) -> None:
    said: list[Any] = []

    def fail(data: list[Any], addr: Any) -> None:
        said.append(data)
        raise ZeroDivisionError

    with ScriptedPeer(speaks) as peer:
        aux = through(a=peer.uri)
        aux.services.assign_callback('EXPINTERRUPT', fail)
        aux.services.assign_callback('EXPSTATUS', fail)
        for number in range(1, 4):
            assert aux.push('EXPSTATUS', 0, wait=True) == {'a': [0]}
            eventually(lambda number=number: len(said) == 2 * number)


@pytest.mark.filterwarnings('error')
def test_a_callback_that_exits_leaves_all_that_follows_to_be_sent_and_heard(through) -> None:
    said: list[Any] = []

    def leave(*what: Any) -> None:
        said.append(what)
        sys.exit(1)

    with ScriptedPeer(speaks) as peer:
        aux = through(a=peer.uri)
        aux.on_event = leave
        aux.services.assign_callback('EXPSTATUS', leave)
        for number in range(1, 4):
            assert aux.push('EXPSTATUS', 0, wait=True) == {'a': [0]}
            eventually(lambda number=number: len(said) == 2 * number)
        assert aux.is_running


@pytest.mark.filterwarnings('error')
def test_a_callback_of_a_future_that_exits_leaves_all_that_follows_to_be_sent_and_the_others_to_be_called() -> None:
    called: list[Any] = []
    with ScriptedPeer(only_echo) as peer, aux_of(a=peer.uri) as aux:
        aux.close_timeout = 0.0
        begun = [aux.submit('EXPINIT', number) for number in range(4)]
        for future in begun:
            future.add_done_callback(lambda _: sys.exit(1))
            future.add_done_callback(called.append)
        eventually(lambda: peer.datagrams)
        assert aux.clear_message_queue() == 3
        eventually(lambda: called == begun[1:])
        assert aux.is_running
        peer.send([1, 'done'])
        assert begun[0].result(5)['a'].ok
        eventually(lambda: called == [*begun[1:], begun[0]])
        left = [aux.submit('EXPINTERRUPT') for _ in range(3)]
        for future in left:
            future.add_done_callback(lambda _: sys.exit(1))
        aux.close()
        assert all(future.done() for future in left)


# Echoes that are cut

LONG = {'x': 'y' * 6000}


def cuts(reply: Callable[[ScriptedPeer, bytes], None]) -> Callable[[ScriptedPeer, bytes], None]:
    """Return what a service does that reads 4,096 bytes of the echo's buffer, and all of the command."""

    def script(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send(datagram[:4096])
            reply(peer, datagram)

    return script


def answer_late(peer: ScriptedPeer, datagram: bytes) -> None:
    peer.later(0.6, [1, 'done'])


def test_without_the_setting_a_cut_echo_is_none_but_a_reply_is_proof() -> None:
    with ScriptedPeer(cuts(lambda peer, _: peer.send([1, 'done']))) as peer, aux_of(a=peer.uri) as aux:
        assert aux.push('EXPINIT', LONG, wait=True) == {'a': ['done']}
    with ScriptedPeer(cuts(answer_late)) as peer, aux_of(a=peer.uri) as aux:
        aux.timing.echo_timeout = 0.2
        outcome = aux.submit('EXPINIT', LONG).result(5)['a']
        assert (outcome.state, outcome.reason) == ('unreachable', Reason.NO_ECHO)


def test_with_the_setting_a_cut_echo_is_an_echo() -> None:
    with ScriptedPeer(cuts(answer_late)) as peer, aux_of(a=peer.uri) as aux:
        aux.services['a'].max_message_size = 4096
        assert aux.services['a'].max_message_size == 4096
        aux.timing.echo_timeout = 0.2
        for number in range(2):
            outcome = aux.submit('EXPINIT', {**LONG, 'number': number}).result(5)['a']
            assert outcome.ok and outcome.reply == ['done']
            assert outcome.echoed < outcome.answered - 300_000_000
        aux.services['a'].close()  # opened again, it keeps it
        assert aux.submit('EXPINIT', LONG).result(5)['a'].ok


def test_with_the_setting_a_short_message_is_echoed_whole() -> None:
    with ScriptedPeer(cuts(lambda peer, _: peer.send([1, 'done']))) as peer, aux_of(a=peer.uri) as aux:
        aux.services['a'].max_message_size = 4096
        for length in (0, 4000, 4080, 4081, 4082, 4083, 4084, 4085, 4086, 4096, 60_000):
            outcome = aux.submit('EXPINIT', 'y' * length).result(5)['a']
            assert outcome.ok, length
        assert not [d for d in peer.datagrams if is_command(d) and peer.datagrams.count(d) > 1]


def test_with_the_setting_what_is_cut_elsewhere_is_no_echo() -> None:
    def wrong(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send(datagram[:4095])
            peer.send(b'z' * 4096)

    with ScriptedPeer(wrong) as peer, aux_of(a=peer.uri) as aux:
        aux.services['a'].max_message_size = 4096
        aux.timing.echo_timeout = 0.2
        assert aux.submit('EXPINIT', LONG).result(5)['a'].reason == Reason.NO_ECHO


@pytest.mark.parametrize('size', [4096, 0])
def test_a_worker_has_the_setting_of_its_configuration(serve, size) -> None:
    with ScriptedPeer(cuts(answer_late)) as peer:
        serve('rig', [ServiceConfig('a', peer.uri, echo_timeout=0.2, max_message_size=size)])
        aux = Auxiliaries.from_segment('rig')
        outcome = aux.submit('EXPINIT', LONG).result(5)['a']
        assert outcome.reason == (Reason.NONE if size else Reason.NO_ECHO)
        aux.close()


# Order

BACKWARD = ['EXPEND', 'EXPINTERRUPT', 'EXPCLEANUP']
FORWARD = [('EXPINIT',), ('EXPSTART', REF), ('EXPSTATUS', 0), ('EXPINFO', 0), ('ALYX',), ('ALYX', 'u', {'u': 't'})]


@pytest.mark.parametrize('message', BACKWARD)
def test_what_ends_something_leaves_in_reverse_order(message) -> None:
    with crowd(*'abcde') as (services, aux):
        services.held = set(services.names)
        aux.submit(message)
        entries = [f'{name} {message}' for name in 'edcba']
        assert services.got(*entries)
        assert [entry for entry in services.row if 'answers' not in entry] == entries


@pytest.mark.parametrize('command', FORWARD)
def test_all_else_leaves_in_configured_order(command) -> None:
    with crowd(*'abcde') as (services, aux):
        services.held = set(services.names)
        aux.submit(*command)
        entries = [f'{name} {command[0]}' for name in 'abcde']
        assert services.got(*entries)
        assert services.row == entries


@pytest.mark.parametrize('message', ['EXPEND', 'EXPCLEANUP'])
def test_the_order_is_kept_right_behind_other_answers(message) -> None:
    """By default there is a pause between an answer and the next command, and those came one by one."""
    with Crowd(*'abc') as services, aux_of(**services.clients) as aux:
        services.meet(aux)
        services.delay = {'b': 0.02 * PATIENCE, 'c': 0.04 * PATIENCE}
        assert len(ok(aux.submit('EXPSTART', REF))) == 3
        services.row.clear()
        assert len(ok(aux.submit(message))) == 3
        sent = [entry for entry in services.row if 'answers' not in entry]
        assert sent == [f'{name} {message}' for name in 'cba']


def test_the_order_is_kept_though_the_loop_takes_for_due_what_is_so_in_a_moment() -> None:
    """As on Windows, where that is 16 ms: the last one to have answered was passed over, and came last."""
    with Crowd(*'abc') as services, aux_of(**services.clients) as aux:
        aux._loop._clock_resolution = 0.09
        services.meet(aux)
        services.delay = {'b': 0.02 * PATIENCE, 'c': 0.04 * PATIENCE}
        assert len(ok(aux.submit('EXPSTART', REF))) == 3
        services.row.clear()
        end = aux.submit('EXPEND')
        while not end.done():
            aux._loop.call_soon_threadsafe(lambda: None)  # it looks what is due
            time.sleep(0.001)
        assert [entry for entry in services.row if 'answers' not in entry] == ['c EXPEND', 'b EXPEND', 'a EXPEND']


@pytest.mark.parametrize('way', ['network', 'segment'])
@pytest.mark.parametrize('message', ['EXPINIT', 'EXPSTART', 'EXPEND'])
def test_one_after_the_other_waits_for_each_answer(serve, way, message) -> None:
    order = 'cba' if message == 'EXPEND' else 'abc'
    with Crowd(*'abc') as services, contextlib.ExitStack() as stack:
        if way == 'segment':
            serve('rig', services.clients, shared_addresses=True)
        aux = Auxiliaries(services.clients) if way == 'network' else Auxiliaries.from_segment('rig')
        stack.callback(aux.close)
        services.meet(aux)
        services.delay = dict.fromkeys('abc', MOMENT)
        services.failing = {order[0]}  # which is no reason to leave the others out
        outcomes = aux.submit(message, REF, concurrent=False).result(10)
        assert [name for name, outcome in outcomes.items() if outcome.ok] == sorted(order[1:])
        assert services.row == [f'{name} {what}' for name in order for what in (message, 'answers')]


@pytest.mark.parametrize(
    ('fault', 'reason', 'state'),
    [
        ('IBLB_E_NO_WORKER', Reason.INTERNAL, 'not_sent'),
        ('IBLB_E_OUTCOME_UNKNOWN', Reason.UNKNOWN, 'unreachable'),
    ],
)
def test_a_worker_that_dies_between_one_and_the_other_hides_not_what_the_first_did(
    serve, monkeypatch, fault, reason, state
):
    """There was an exception, and nothing of the service that had started."""
    with Crowd(*'abc') as services:
        serve('rig', services.clients, shared_addresses=True)
        with contextlib.closing(Auxiliaries.from_segment('rig')) as aux:
            services.meet(aux)
            stock = aux._carrier._client.send

            def send(*args: Any, **options: Any) -> int:
                if options['services'] == ('b',):
                    raise error_for(CODES[fault])
                return stock(*args, **options)

            monkeypatch.setattr(aux._carrier._client, 'send', send)
            outcomes = aux.submit('EXPSTART', REF, concurrent=False).result(10)
            assert outcomes['a'].ok
            assert (outcomes['b'].reason, outcomes['b'].state) == (reason, state)
            assert (outcomes['c'].ok, outcomes['c'].state) == (False, 'not_sent')
            assert [entry for entry in services.row if 'EXPSTART' in entry] == ['a EXPSTART']


def test_an_end_does_not_overtake_a_start_that_goes_from_one_to_the_other() -> None:
    with crowd(*'ab') as (services, aux):
        services.held = {'a'}
        start = aux.submit('EXPSTART', REF, concurrent=False)
        assert services.got('a EXPSTART')
        end = aux.submit('EXPEND')
        services.held.clear()
        services.answer('a')
        start.result(10), end.result(10)
        assert [entry for entry in services.row if entry.startswith('b EXP')][-1] == 'b EXPEND'


def test_an_interrupt_ends_what_goes_from_one_to_the_other() -> None:
    with crowd(*'abcdef') as (services, aux):
        services.held = {'a'}
        start = aux.submit('EXPSTART', REF, concurrent=False)
        assert services.got('a EXPSTART')
        assert len(ok(aux.submit('EXPINTERRUPT'))) == 6
        assert {outcome.reason for outcome in start.result(5).values()} == {Reason.ABORTED}
        assert [entry for entry in services.row if 'EXPSTART' in entry] == ['a EXPSTART']


# ALYX


def tell_token_later(peer: ScriptedPeer, datagram: bytes) -> None:
    """Answer a request for a token, not at once; a token is not answered."""
    if is_command(datagram):
        peer.send(datagram)
        if not all(json.loads(datagram)):
            peer.later(0.1, [128, 'https://alyx', {'me': {'token': 'x'}}])


ASLEEP = SimpleNamespace(base_url='https://alyx', user='me', _token=None, is_logged_in=False)


@pytest.mark.parametrize(
    ('args', 'wire'),
    [
        (('https://alyx',), ['https://alyx', {}]),
        (('https://alyx', None), ['https://alyx', {}]),
        (('https://alyx', {}), ['https://alyx', {}]),
        ((ASLEEP,), ['https://alyx', {}]),
        ((), [None, {}]),
        ((None,), [None, {}]),
    ],
)
def test_alyx_without_a_token_asks_for_one_and_waits_for_it(through, args, wire) -> None:
    with ScriptedPeer(tell_token_later) as peer:
        aux = through(a=peer.uri)
        assert aux.push('ALYX', *args, wait=True) == {'a': ['https://alyx', {'me': {'token': 'x'}}]}
        assert peer.messages[0] == [128, *wire]


def test_alyx_that_nobody_answers_is_a_failure() -> None:
    with ScriptedPeer(only_echo) as peer, aux_of(a=peer.uri) as aux:
        aux.services.timeout = 0.2
        outcome = aux.submit('ALYX', 'https://alyx').result(5)['a']
        assert (outcome.state, outcome.reason) == ('echoed', Reason.NO_REPLY)


def test_alyx_takes_its_client_by_name_as_the_stock_method() -> None:
    client = SimpleNamespace(base_url='https://alyx', user='me', _token={'token': 'x'}, is_logged_in=True)
    with ScriptedPeer(tell_token_later) as peer, aux_of(a=peer.uri) as aux:
        assert aux.push('ALYX', alyx=client, wait=True) == {'a': None}
        assert peer.messages == [[128, 'https://alyx', {'me': {'token': 'x'}}]]


# Arguments, and the queue


@pytest.mark.parametrize('message', ['EXPBAR', '', 3, 0, 'EXPINIT|EXPEND', ExpMessage.EXPINIT | ExpMessage.EXPEND])
def test_what_is_no_message_is_refused_at_once(through, server, message) -> None:
    aux = through(a=server.uri)
    for call in (aux.push, aux.submit):
        with pytest.raises(ValueError, match='.'):
            call(message)
    assert not aux._queued and not aux._log


def test_messages_are_taken_by_name_number_and_themselves(through, server) -> None:
    aux = through(a=server.uri)
    for message in ('EXPINIT', 'expinit', 1, ExpMessage.EXPINIT):
        assert aux.push(message, 5, wait=True) == {'a': [5]}


@pytest.mark.parametrize(
    ('message', 'args', 'kwargs'),
    [
        ('EXPSTART', (), {}),
        ('EXPINIT', (), {'dataa': 1}),
        ('EXPINIT', (1, 2, 3, 4), {}),
        ('EXPSTATUS', ('ASLEEP',), {}),
        ('EXPSTART', ({'date': '2026-01-01'},), {}),
        ('ALYX', ('https://alyx', {}, 'more'), {}),
        ('ALYX', ('https://alyx',), {'nothing': 1}),
        ('EXPEND', (object(),), {}),
    ],
)
def test_arguments_that_do_not_fit_are_an_error_and_nothing_is_sent(through, server, message, args, kwargs) -> None:
    aux = through(a=server.uri)
    assert isinstance(aux.push(message, *args, wait=True, **kwargs), (TypeError, ValueError))
    key = aux.push(message, *args, **kwargs)
    assert isinstance(eventually(lambda: aux._log.get(key)), (TypeError, ValueError))
    outcome = aux.submit(message, *args, **kwargs).result(5)['a']
    assert (outcome.state, outcome.reason) == ('not_sent', Reason.ARGUMENTS)
    assert aux.push('EXPEND', wait=True) == {'a': [None]} and server.saw == [[4, None]]


@pytest.mark.parametrize(('immediately', 'event'), [(True, 16), (False, 4)])
def test_an_end_that_is_to_be_immediate_is_an_interrupt(through, immediately, event) -> None:
    with ScriptedPeer(echo_and_reply) as peer:
        aux = through(a=peer.uri)
        assert aux.push('EXPEND', 'why', immediately=immediately, wait=True) == {'a': ['why']}
        assert aux.submit('EXPEND', immediately=immediately).result(5)['a'].event == event
        assert [message[0] for message in peer.messages if message[0] != 32][0] == event


def test_a_service_that_there_is_not_is_a_key_error(through, server) -> None:
    aux = through(a=server.uri)
    with pytest.raises(KeyError, match='nobody'):
        aux.submit('EXPINIT', services=['a', 'nobody'])
    assert aux.submit('EXPINIT', services='a').result(5)['a'].ok


def test_clearing_the_queue_aborts_what_was_not_sent_and_says_how_many(through) -> None:
    with ScriptedPeer(only_echo) as peer:
        aux = through(a=peer.uri)
        aux.close_timeout = 0.0
        assert aux.clear_message_queue() == 0
        begun = aux.push('EXPINIT')
        eventually(lambda: peer.datagrams)
        keys = [aux.push(message, REF) for message in ('EXPSTART', 'EXPEND')]
        with thread(lambda: aux.push('EXPSTATUS', 0, wait=True)) as pushed:
            eventually(lambda: len(aux._queued) == 4)
            # It is in the queue before it is written, where that is a segment.
            cleared = 0
            before = time.monotonic()
            while cleared < 3 and time.monotonic() < before + 5:
                cleared += aux.clear_message_queue()
        assert cleared == 3 and time.monotonic() - before < 5
        assert isinstance(pushed[0], Aborted)
        assert all(isinstance(eventually(lambda key=key: aux._log.get(key)), Aborted) for key in keys)
        assert list(aux._queued) == [begun]
        peer.send([1, 'done'])
        assert eventually(lambda: aux._log.get(begun)) == {'a': ['done']}
        eventually(lambda: peer.messages[1:])
        assert peer.messages == [[1, None], [1, 'done']], 'what was cleared has left'
    aux.close()
    assert aux.clear_message_queue() == 0
