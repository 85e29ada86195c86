"""A loop that is lent: whoever stands in for its thread is alone with it, and nothing wanted later is forgotten."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bridge.loop import LoopThread

PATIENCE = 10.0  # s, against hangs


@contextmanager
def running(thread: LoopThread) -> Iterator[LoopThread]:
    """Run a loop that does nothing until it is told."""
    begun, ended = threading.Event(), asyncio.Event()

    async def main() -> None:
        begun.set()
        await ended.wait()

    thread.start(main, lambda cause: None, RuntimeError('over'))
    assert begun.wait(PATIENCE)
    yield thread
    thread.ring(ended.set)
    thread.join(PATIENCE)
    assert not thread.thread.is_alive()


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    with running(LoopThread('lent')) as thread:
        yield thread


def borrowed(thread: LoopThread, callback: Callable[[], object]) -> None:
    """Borrow the loop as soon as it sleeps."""
    until = time.monotonic() + PATIENCE
    while not thread.borrow(callback):
        assert time.monotonic() < until, 'the loop is never idle'
        time.sleep(0.001)


def test_a_borrower_runs_in_its_own_thread_as_if_it_were_the_loop(thread):
    found = []
    borrowed(thread, lambda: found.append((threading.current_thread(), asyncio.get_running_loop())))
    assert found == [(threading.current_thread(), thread.loop)]
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_a_loop_that_has_something_to_do_is_not_lent(thread):
    busy, go_on = threading.Event(), threading.Event()
    thread.ring(lambda: (busy.set(), go_on.wait(PATIENCE)))
    assert busy.wait(PATIENCE)
    called = []
    assert not thread.borrow(lambda: called.append('while it was busy'))
    go_on.set()
    assert not called


def test_a_loop_that_is_lent_does_nothing_and_is_lent_to_nobody_else(thread):
    order = []
    rung = threading.Event()

    def callback() -> None:
        thread.ring(lambda: (order.append('the thread'), rung.set()))
        assert not rung.wait(0.05)
        assert not thread.borrow(lambda: order.append('another borrower'))
        order.append('the borrower')

    borrowed(thread, callback)
    assert rung.wait(PATIENCE)
    assert order == ['the borrower', 'the thread']


@pytest.mark.parametrize(
    'later',
    [
        pytest.param(lambda loop, done: loop.call_soon(done), id='call_soon'),
        pytest.param(lambda loop, done: loop.call_later(0.01, done), id='call_later'),
        pytest.param(lambda loop, done: loop.call_at(loop.time(), done), id='call_at'),
        pytest.param(lambda loop, done: loop.create_task(_calls(done)), id='a task'),
    ],
)
def test_what_a_borrower_wants_done_later_is_done_by_a_thread_that_slept(thread, later):
    done = threading.Event()
    who = []

    def callback() -> None:
        who.append(threading.current_thread())
        done.set()

    borrowed(thread, lambda: later(asyncio.get_running_loop(), callback))
    assert done.wait(PATIENCE)
    assert who == [thread.thread]


@pytest.fixture
def by_select(monkeypatch) -> Iterator[LoopThread]:
    """Give a loop that waits by select, as on Windows."""
    monkeypatch.setattr(selectors, 'DefaultSelector', selectors.SelectSelector)
    module = importlib.util.module_from_spec(importlib.util.find_spec('bridge.loop'))
    module.__spec__.loader.exec_module(module)
    with running(module.LoopThread('lent')) as thread:
        yield thread


def test_a_socket_that_a_borrower_waits_for_is_heard_also_where_a_wait_does_not_see_new_ones(by_select):
    """With select, a reply was heard only when something else woke the loop."""
    thread = by_select
    ours, theirs = socket.socketpair()
    heard = threading.Event()
    with ours, theirs:
        borrowed(thread, lambda: thread.loop.add_reader(ours, lambda: (ours.recv(1), heard.set())))
        theirs.send(b'x')
        assert heard.wait(PATIENCE)
        thread.ring(thread.loop.remove_reader, ours)


@pytest.mark.parametrize('closes', ['while it waits', 'before it waits'])
@pytest.mark.parametrize('kind', ['by_select', 'thread'])
def test_a_socket_that_is_closed_under_the_loop_ends_neither_the_loop_nor_what_others_hear(request, kind, closes):
    """With select, the network thread ended, and with it every command from then on."""
    thread = request.getfixturevalue(kind)
    (ours, theirs), (gone, far) = socket.socketpair(), socket.socketpair()
    begun, heard, told = threading.Event(), threading.Event(), []

    def begin() -> None:
        thread.loop.add_reader(ours, lambda: (ours.recv(1), heard.set()))
        thread.loop.add_reader(gone, lambda: told.append('closed'))
        if closes == 'before it waits':
            gone.close()
        begun.set()

    with ours, theirs, far:
        thread.ring(begin)
        assert begun.wait(PATIENCE)
        borrowed(thread, gone.close)
        for _ in range(3):
            heard.clear()
            theirs.send(b'x')
            assert heard.wait(PATIENCE)
            assert thread.ended is None
        # Once when it is found; once more if its end was seen as well.
        assert len(told) in ((1, 2) if kind == 'by_select' or sys.platform == 'win32' else (0,))
        thread.ring(thread.loop.remove_reader, ours)


async def _calls(done: Callable[[], object]) -> None:
    done()


def test_what_a_borrower_fails_at_is_logged_and_the_loop_goes_on(thread, caplog):
    def fails() -> None:
        raise ValueError('broken')

    with caplog.at_level(logging.ERROR, 'asyncio'):
        borrowed(thread, fails)
    assert 'broken' in caplog.text
    alive = threading.Event()
    thread.ring(alive.set)
    assert alive.wait(PATIENCE)
    borrowed(thread, lambda: None)


def test_a_loop_that_does_not_run_is_not_lent():
    thread = LoopThread('lent')
    assert not thread.borrow(lambda: None)

    async def at_once() -> None:
        pass

    thread.start(at_once, lambda cause: None, RuntimeError('over'))
    thread.join(PATIENCE)
    assert not thread.thread.is_alive()
    assert not thread.borrow(lambda: None)


def test_borrowers_do_not_keep_the_loop_from_its_own_work(thread):
    stop = threading.Event()

    def greedy() -> None:
        while not stop.is_set():
            thread.borrow(lambda: sum(range(1000)))

    others = [threading.Thread(target=greedy) for _ in range(3)]
    for other in others:
        other.start()
    try:
        for _ in range(50):
            had_its_turn = threading.Event()
            thread.ring(had_its_turn.set)
            assert had_its_turn.wait(PATIENCE)
    finally:
        stop.set()
        for other in others:
            other.join(PATIENCE)
