"""What a command costs the worker's Python: nothing that one command alone, or one that nobody watches, can spare.

Calls of functions are counted, not time. The bounds are above what CPython 3.10 to 3.13 need, and below what was
before.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from peers import StockServer

from bridge.config import ServiceConfig
from bridge.outcome import Outcome
from bridge.segment import inspection, served
from bridge.segment.client import Client
from bridge.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker whose loop is the test itself."""
    with Worker('rig', [ServiceConfig('cameras', 'udp://127.0.0.1:9')]) as worker:
        worker._pass(0.0)
        yield worker


def calls(what: Callable[[], object]) -> int:
    """Return how many functions are called, those of C included."""
    seen = 0

    def look(frame: Any, event: str, arg: Any) -> None:
        nonlocal seen
        seen += event in ('call', 'c_call')

    sys.setprofile(look)
    try:
        what()
    finally:
        sys.setprofile(None)
    return seen


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[tuple[Any, ...]]:
    """Return the arguments of each call of a method, as they come."""
    seen: list[tuple[Any, ...]] = []
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **more: (seen.append((*args, more)), real(*args, **more))[1])
    return seen


@pytest.mark.parametrize(('send', 'count', 'most'), [('send', 1, 55), ('notify', 1, 43), ('notify', 50, 24)])
def test_a_ping_is_answered_with_few_calls(worker, send, count, most):
    with Client('rig') as client:
        for _ in range(2):  # the first one has the library's functions looked up
            for _ in range(count):
                getattr(client, send)('PING')
            found = calls(lambda: worker._pass(10.0))
        assert found / count <= most


def test_a_further_service_costs_few_calls():
    few, many = calls_of_a_command(2), calls_of_a_command(6)
    assert (many - few) / 4 <= 190  # 213 before


def calls_of_a_command(services: int) -> float:
    """Return how many functions the worker's threads call for a command to so many services, when all goes well."""
    seen = 0

    def look(frame: Any, event: str, arg: Any) -> None:
        nonlocal seen
        if threading.get_ident() != own:
            seen += event in ('call', 'c_call')

    own = threading.get_ident()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(StockServer()) for _ in range(services)]
        threading.setprofile(look)  # of threads that begin from now on
        stack.callback(threading.setprofile, None)
        listed = [ServiceConfig(f's{i}', server.uri, reply_gap=0.0) for i, server in enumerate(servers)]
        stack.enter_context(contextlib.closing(worker := Worker('rig', listed)))
        thread = threading.Thread(target=worker.run)
        thread.start()
        stack.callback(thread.join, 10)
        stack.callback(worker.stop)
        client, rounds = stack.enter_context(Client('rig')), []
        for _ in range(10):
            before = seen
            for _ in range(10):
                assert client.call('EXPSTART', '2026-01-01_1_subject')['code'] == 0
            rounds.append((seen - before) / 10)
    return min(rounds)  # where no answer came late, and nothing was due besides


def test_commands_are_taken_without_numpy(worker, monkeypatch):
    monkeypatch.setattr(served, 'np', None)
    with Client('rig') as client:
        requests = [client.send('PING') for _ in range(3)]
        worker._pass(10.0)
        assert [client.wait(request)['code'] for request in requests] == [0, 0, 0]


def test_whether_somebody_watches_is_asked_once_for_all_that_was_taken(worker, monkeypatch):
    asked = counted(monkeypatch, worker._segment, 'is_wanted')
    with Client('rig') as client:
        for _ in range(20):
            client.notify('PING')
        worker._pass(10.0)
    assert len(asked) == 1


def test_while_commands_come_what_is_due_is_not_reckoned(serve, monkeypatch):
    worker = serve('rig', {})
    with Client('rig') as client:
        client.call('PING')
        reckoned, ticks = counted(monkeypatch, worker._watch, 'pause'), counted(monkeypatch, worker._house, 'tick')
        for _ in range(50):
            client.call('PING')
        assert len(reckoned) <= len(ticks) + 1


def test_health_is_shown_in_the_segment_when_something_else_stands_there(worker, monkeypatch):
    shown = counted(monkeypatch, worker._segment, 'publish_service_health')
    second = time.perf_counter_ns() // 10**9 * 10**9

    def heard(after: float) -> None:
        at = second + round(after * 1e9)
        worker._watch.health['cameras'].note(Outcome('cameras', ok=True, sent=at, echoed=at, answered=at), 'EXPINIT')
        worker._house._turn('cameras', at)

    for after in (0.1, 0.2, 0.9):
        heard(after)
    assert len(shown) == 1
    heard(1.1)
    assert len(shown) == 2
    worker._watch.health['cameras'].note(Outcome('cameras', sent=second + 2 * 10**9, error='no echo'), 'EXPINIT')
    worker._house._turn('cameras', second + 2 * 10**9)
    assert len(shown) == 3


def test_what_was_heard_while_the_worker_began_stands_in_the_segment(monkeypatch):
    real = served.Segment.publish_services
    now = time.perf_counter_ns()

    def publish(self: served.Segment, names: Any) -> None:
        worker._watch.health['cameras'].heard = now
        worker._house._turn('cameras', now)
        real(self, names)

    worker = Worker.__new__(Worker)
    monkeypatch.setattr(served.Segment, 'publish_services', publish)
    with StockServer() as server:
        worker.__init__('rig', {'cameras': server.uri})  # type: ignore[misc]
        with worker:
            assert inspection.inspect('rig').health[0].age is not None
