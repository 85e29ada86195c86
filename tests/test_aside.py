"""What is put aside is done, in order, whatever becomes of who puts it there, or in what is done."""

from __future__ import annotations

import logging
import sys
import threading

import pytest
from peers import eventually

from bridge.aside import Aside
from bridge.results import Results


class Exits(logging.Handler):
    """A log's handler that ends the program, as it believes."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.exit(1)


def interrupt(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Have Ctrl-C come where the next thread is started: before it is there, or behind that."""
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, 'start', start)
        if when == 'behind':
            start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, 'start', interrupted)


def test_what_is_put_aside_is_done_behind_what_exits() -> None:
    """The thread ended, and was thought to be there: nothing was logged or published any more."""
    aside, done, log = Aside(), list[int](), logging.getLogger('bridge.aside')
    log.addHandler(handler := Exits())
    try:
        aside.do(sys.exit)
        aside.do(lambda: done.append(1))
        assert aside.wait(5) and done == [1]
    finally:
        log.removeHandler(handler)


@pytest.mark.parametrize('when', ['before', 'behind'])
@pytest.mark.parametrize('more', [[], [2, 3]])
def test_what_is_put_aside_is_done_although_ctrl_c_came_as_that_began(monkeypatch, when, more) -> None:
    aside, done = Aside(), list[int]()
    interrupt(monkeypatch, when)
    with pytest.raises(KeyboardInterrupt):
        aside.do(lambda: done.append(1))
    for number in more:
        aside.do(lambda number=number: done.append(number))
    assert aside.wait(5) and done == [1, *more]


@pytest.mark.parametrize('when', ['before', 'behind'])
def test_results_are_published_although_ctrl_c_came_as_that_was_left_to_another_thread(monkeypatch, when) -> None:
    results, holds, goes_on = Results(lambda key: None), threading.Event(), threading.Event()
    pushed = [results.enter('EXPINIT', (), {}) for _ in range(2)]

    def hold() -> None:
        with results.received:
            holds.set()
            goes_on.wait(30)

    threading.Thread(target=hold, daemon=True).start()
    assert holds.wait(5)
    interrupt(monkeypatch, when)
    with pytest.raises(KeyboardInterrupt):
        results.publish(pushed[0])
    results.publish(pushed[1])
    goes_on.set()
    eventually(lambda: all(one.published for one in pushed))
