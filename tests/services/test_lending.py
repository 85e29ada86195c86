"""Whoever submits a command may begin it: in which order that is, and who may not."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest
from peers import StockServer

from bridge.carrier import Command
from bridge.segment.client import Client
from bridge.services.carrier import UdpCarrier
from bridge.services.errand import Errand
from bridge.worker import signals

PATIENCE = 10.0  # s, against hangs


@pytest.fixture
def carrier(server: StockServer) -> Iterator[UdpCarrier]:
    carrier = UdpCarrier({'cameras': server.uri})
    carrier.lends = True
    carrier.start()
    yield carrier
    carrier.close()


def begun(carrier: UdpCarrier, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, threading.Thread]]:
    """Note which errands are given to the link, and by which thread."""
    seen: list[tuple[str, threading.Thread]] = []
    link = carrier.links['cameras']
    enqueue = link.enqueue

    def noted(errand: Errand) -> None:
        seen.append((errand.command.command.args[0], threading.current_thread()))
        enqueue(errand)

    monkeypatch.setattr(link, 'enqueue', noted)
    return seen


def sleeps(carrier: UdpCarrier) -> None:
    until = time.monotonic() + PATIENCE
    while not carrier.thread.borrow(lambda: None):
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_command_is_begun_by_who_submits_it_while_the_network_thread_sleeps(carrier, monkeypatch):
    seen = begun(carrier, monkeypatch)
    sleeps(carrier)
    outcomes = carrier.submit(Command('EXPINIT', ('a',), names=('cameras',))).result(PATIENCE)
    assert outcomes['cameras'].ok
    assert seen == [('a', threading.current_thread())]


def test_a_command_that_waits_for_the_network_thread_is_begun_before_a_later_one(carrier, monkeypatch):
    seen = begun(carrier, monkeypatch)
    sleeps(carrier)
    with monkeypatch.context() as patched:  # the thread has been rung for the first one, and is not there yet
        patched.setattr(carrier.thread, 'borrow', lambda callback: False)
        patched.setattr(carrier.thread, 'ring', lambda *_: True)
        first = carrier.submit(Command('EXPINIT', ('first',), names=('cameras',)))
    sleeps(carrier)
    second = carrier.submit(Command('EXPINIT', ('second',), names=('cameras',)))
    assert all(future.result(PATIENCE)['cameras'].ok for future in (first, second))
    assert [args for args, _ in seen] == ['first', 'second']


def test_a_command_submitted_by_the_network_thread_itself_is_carried_out(carrier):
    answers = []
    done = threading.Event()

    def submit() -> None:
        future = carrier.submit(Command('EXPSTATUS', (0,), names=('cameras',)))
        future.add_done_callback(lambda done_: (answers.append(done_.result()['cameras'].ok), done.set()))

    carrier.thread.ring(submit)
    assert done.wait(PATIENCE)
    assert answers == [True]


def test_a_thread_that_a_signal_may_interrupt_anywhere_begins_nothing(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert signals.may_raise()
        in_another: list[bool] = []
        thread = threading.Thread(target=lambda: in_another.append(signals.may_raise()))
        thread.start()
        thread.join(PATIENCE)
        assert in_another == [False]
        signal.signal(signal.SIGINT, lambda *_: None)
        assert not signals.may_raise()
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_worker_begins_what_it_takes(serve, server, monkeypatch):
    worker = serve('rig', {'cameras': server.uri})
    seen = begun(worker._carrier, monkeypatch)
    with Client('rig') as client:
        for turn in range(20):
            sleeps(worker._carrier)
            assert client.call('EXPINIT', str(turn))['code'] == 0
            if seen[-1][1] is not worker._carrier.thread.thread:
                break
    assert any(thread is not worker._carrier.thread.thread for _, thread in seen)
