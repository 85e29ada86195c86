"""What is told of commands whose worker, or whose `Auxiliaries`, is gone before there is a response."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from crowds import Crowd, ok
from processes import kill, program

from bridge.auxiliaries import Auxiliaries
from bridge.errors import NoWorker, OutcomeUnknown
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
