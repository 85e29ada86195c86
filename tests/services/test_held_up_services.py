"""A service that reads nothing for a while is not closed by what is sent to it meanwhile.

A stock service that comes to itself finds all of that in its socket. It answers the first message, and reads the
second one instead of the confirmation of its answer: then it closes itself, for good.
"""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from peers import aux_of, eventually
from sessions import Session

REF = '2026-01-01_1_subject'
KINDS = ('side-by-side', 'one-loop')


def heard(session: Session) -> list[str]:
    """What it heard, where an interrupt that was said again counts once: that is allowed."""
    names = itertools.groupby(session.heard)
    return [name for name, group in names for _ in range(1 if name == 'EXPINTERRUPT' else len(list(group)))]


@pytest.mark.parametrize('kind', KINDS)
def test_a_command_behind_one_that_was_given_up_does_not_close_a_service_that_was_held_up(kind):
    with Session(kind) as session, aux_of(cameras=session.uri) as aux:
        assert aux.submit('EXPINIT', {'exp_ref': REF}).result(5)['cameras'].ok
        session.stall(1.5, 'EXPSTART')
        start = aux.submit('EXPSTART', REF).result(5)['cameras']
        assert (start.state, start.ok) == ('unreachable', False)
        end = aux.submit('EXPEND').result(15)['cameras']
        eventually(lambda: 'EXPEND' in session.heard or not session.connected)
        report = session.report()
        assert report['connected'], report['errors']
        assert session.heard == ['EXPINIT', 'EXPSTART', 'EXPEND']
        assert end.ok, end
        assert aux.submit('EXPINFO', 'CONNECTED', {}).result(5)['cameras'].ok


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('stall', [0.03, 0.1, 0.5])
def test_an_interrupt_behind_a_command_does_not_close_a_service_that_is_held_up(kind, stall):
    with Session(kind) as session, aux_of(cameras=session.uri) as aux:
        assert aux.submit('EXPINIT', {'exp_ref': REF}).result(5)['cameras'].ok
        leaves = threading.Event()
        session.stall(stall, 'EXPSTART')
        start = aux.submit('EXPSTART', REF, gate=leaves.set)
        assert leaves.wait(5)
        time.sleep(0.005)  # by then it has left, and was not read
        interrupt = aux.submit('EXPINTERRUPT').result(15)['cameras']
        start.result(15)
        eventually(lambda: 'EXPINTERRUPT' in session.heard or not session.connected)
        report = session.report()
        assert report['connected'], report['errors']
        assert heard(session) == ['EXPINIT', 'EXPSTART', 'EXPINTERRUPT']
        assert interrupt.ok, interrupt
        assert aux.submit('EXPINFO', 'CONNECTED', {}).result(5)['cameras'].ok


@pytest.mark.parametrize('kind', KINDS)
def test_a_service_that_says_the_same_twice_is_heard_twice_and_confirmed_twice(kind):
    events: list[tuple[object, ...]] = []
    with Session(kind) as session, aux_of(cameras=session.uri) as aux:
        aux.on_event = lambda *event: events.append(event)
        assert aux.submit('EXPINFO', 'CONNECTED', {}).result(5)['cameras'].ok
        for word in map(str, range(3)):
            events.clear()
            assert len(session.say('EXPINTERRUPT', word, 2)) == 2, 'both were confirmed'
            report = session.report()
            assert report['connected'], report['errors']
            eventually(lambda word=word: events == [('cameras', 16, [word])] * 2)
