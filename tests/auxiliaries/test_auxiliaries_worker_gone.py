"""What is told of commands to whose response there is no way: worker, `Auxiliaries`, time or threads are gone."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from crowds import Crowd, ok
from peers import eventually
from processes import kill, program

from bridge.auxiliaries import Auxiliaries
from bridge.errors import Misuse, NoWorker, OutcomeUnknown
from bridge.outcome import Reason
from bridge.segment import carrier as segment_carrier

REF = '2026-01-01_1_subject'
SHARED = """
import json, sys
from bridge.worker import Worker
worker = Worker('rig', json.loads(sys.argv[1]), timeout=30.0, shared_addresses=True)
print('ready', flush=True)
worker.run()
"""


@contextlib.contextmanager
def through_a_worker(services: Crowd) -> Iterator[tuple[Auxiliaries, subprocess.Popen[str]]]:
    """Run a worker that can be killed, and have Auxiliaries that wait for no other one for long."""
    with program(SHARED, json.dumps(services.clients)) as worker:
        aux = Auxiliaries.from_segment('rig')
        try:
            services.meet(aux)
            aux.services.timeout = 0.1
            yield aux, worker
        finally:
            aux.close_timeout = 0.0
            aux.close()


@pytest.mark.parametrize('concurrent', [True, False])
def test_what_a_worker_that_was_killed_had_sent_is_not_told_as_not_sent(monkeypatch, concurrent):
    monkeypatch.setattr(segment_carrier, '_GRACE', 0.1)
    with Crowd(*'abc') as services, through_a_worker(services) as (aux, worker):
        services.held = {'b'}
        future = aux.submit('EXPSTART', REF, concurrent=concurrent)
        assert services.got('b EXPSTART', 'a answers')
        kill(worker)
        if concurrent:
            with pytest.raises(OutcomeUnknown):
                future.result(10)
        else:
            outcomes = future.result(10)
            assert outcomes['a'].ok
            assert (outcomes['b'].state, outcomes['b'].reason) == ('unreachable', Reason.UNKNOWN)
            assert outcomes['c'].state == 'not_sent'


def test_what_was_told_to_have_no_worker_is_not_sent_by_the_next_one(serve, monkeypatch):
    monkeypatch.setattr(segment_carrier, '_GRACE', 0.1)
    with Crowd(*'ab') as services, through_a_worker(services) as (aux, worker):
        kill(worker)
        with pytest.raises(NoWorker, match='withdrawn'):
            aux.submit('EXPSTART', REF).result(10)
        serve('rig', services.clients, shared_addresses=True)
        aux.services.timeout = 10.0
        assert len(ok(aux.submit('EXPSTATUS', 0))) == 2
        assert [entry for entry in services.row if 'EXPSTART' in entry] == []


def test_a_push_that_no_worker_takes_says_that_there_is_none():
    with Crowd('a') as services, through_a_worker(services) as (aux, worker):
        kill(worker)
        with pytest.raises(RuntimeError, match='was withdrawn; no worker serves the segment'):
            aux.push('EXPEND', wait=True)


@pytest.mark.parametrize('concurrent', [True, False])
def test_what_a_worker_has_is_not_told_as_not_sent_by_who_closes(serve, concurrent):
    with Crowd(*'abc') as services:
        serve('rig', services.clients, shared_addresses=True)
        aux = Auxiliaries.from_segment('rig')
        services.meet(aux)
        services.held = {'b'}
        future = aux.submit('EXPSTART', REF, concurrent=concurrent)
        assert services.got('b EXPSTART', 'a answers')
        aux.close_timeout = 0.0
        aux.close()
        outcomes = future.result(10)
        assert {outcome.reason for outcome in outcomes.values() if not outcome.ok} == {Reason.CLOSED}
        assert outcomes['a'].state == ('unreachable' if concurrent else 'answered')
        assert outcomes['b'].state == 'unreachable'
        assert outcomes['c'].state == ('unreachable' if concurrent else 'not_sent')
        services.answer('b')


def test_an_answer_is_passed_on_once_although_services_have_their_turns(serve):
    with Crowd(*'ab') as services:
        serve('rig', services.clients, shared_addresses=True)
        with contextlib.closing(Auxiliaries.from_segment('rig')) as aux:
            services.meet(aux)
            heard: list[Any] = []
            aux.services.assign_callback('EXPSTART', lambda data, addr: heard.append(addr[0]))
            assert len(ok(aux.submit('EXPSTART', REF, concurrent=False))) == 2
            assert heard == ['a', 'b']


def test_what_is_given_up_leaves_no_request_open(serve, monkeypatch):
    monkeypatch.setattr(segment_carrier, '_GRACE', 0.0)
    with Crowd('a') as services:
        serve('rig', services.clients, timeout=30.0)
        aux = Auxiliaries.from_segment('rig')
        services.meet(aux)
        services.held = {'a'}
        future = aux.submit('EXPSTART', REF, timeout=0.05)
        (plan,) = aux._carrier._plans.values()
        with pytest.raises(OutcomeUnknown, match='EXPSTATUS'):
            future.result(10)
        with pytest.raises(Misuse, match='unknown'):  # there may be 1,024 open ones, and then no more command leaves
            aux._carrier._client.wait(plan.request, 0)
        services.answer('a')
        aux.close()


def test_services_without_a_time_out_have_the_usual_one(serve):
    with Crowd('a') as services:
        serve('rig', services.clients)
        with contextlib.closing(Auxiliaries.from_segment('rig')) as aux:
            for none in (None, float('nan'), 'ten'):
                aux.services.timeout = none
                assert ok(aux.submit('EXPSTATUS', 0)) == ['a']


def test_a_response_that_cannot_be_read_is_an_end_as_well(serve, monkeypatch):
    def refuse(entry: dict[str, Any], message: str) -> None:
        raise ValueError('of a later version')

    with Crowd('a') as services:
        serve('rig', services.clients)
        with contextlib.closing(Auxiliaries.from_segment('rig')) as aux:
            monkeypatch.setattr(segment_carrier, 'from_entry', refuse)
            with pytest.raises(ValueError, match='of a later version'):
                aux.submit('EXPSTATUS', 0).result(10)


@pytest.mark.parametrize('concurrent', [True, False])
def test_where_no_thread_can_be_started_a_command_is_followed_in_the_callers(serve, monkeypatch, concurrent):
    # At the exit of a program, from Python 3.12 on.
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with Crowd(*'ab') as services:
        serve('rig', services.clients, shared_addresses=True)
        with contextlib.closing(Auxiliaries.from_segment('rig')) as aux:
            services.meet(aux)
            monkeypatch.setattr(threading.Thread, 'start', refuse)
            future = aux.submit('EXPEND', concurrent=concurrent)
            assert future.done() and ok(future) == ['a', 'b']
            monkeypatch.undo()


@pytest.mark.parametrize(
    ('where', 'concurrent'),
    [
        ('behind the send', True),
        ('before its thread', True),
        ('behind its thread', True),
        ('before its thread', False),
        ('behind its thread', False),
    ],
)
def test_what_ctrl_c_came_behind_is_told_as_it_ended(serve, monkeypatch, where, concurrent):
    """It was told as KeyboardInterrupt, or not at all, although the services did it; and a close waited for it."""
    with Crowd('a', 'b') as services:
        serve('rig', services.clients, shared_addresses=True)
        with contextlib.closing(Auxiliaries.from_segment('rig')) as aux:
            services.meet(aux)
            client, start = aux._carrier._client, threading.Thread.start
            publish = client._publish

            def sent(*args: Any) -> None:
                publish(*args)
                raise KeyboardInterrupt

            def started(thread: threading.Thread) -> None:
                monkeypatch.setattr(threading.Thread, 'start', start)
                if where == 'behind its thread':
                    start(thread)
                raise KeyboardInterrupt

            if where == 'behind the send':
                monkeypatch.setattr(client, '_publish', sent)
            else:
                monkeypatch.setattr(threading.Thread, 'start', started)
            with pytest.raises(KeyboardInterrupt):
                aux.push('EXPEND', concurrent=concurrent)
            (result,) = eventually(lambda: list(aux._log.values()))
            assert aux._carrier._plans == {}
    done = {entry.partition(' ')[0] for entry in services.row}
    assert done == {'a', 'b'} or (not concurrent and not done)
    assert result.keys() == done if done else isinstance(result, KeyboardInterrupt)


def test_ctrl_c_while_a_command_is_written_is_the_callers(serve, monkeypatch):
    def interrupted(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    with Crowd('a') as services:
        serve('rig', services.clients)
        with contextlib.closing(Auxiliaries.from_segment('rig')) as aux:
            monkeypatch.setattr(aux._carrier._client, 'send', interrupted)
            with pytest.raises(KeyboardInterrupt):
                aux.push('EXPEND', wait=True)
            eventually(lambda: aux._queued == {})
