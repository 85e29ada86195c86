"""The line against anything: a network, a service, a clock and a carrier that do what they like, in any order.

`test_line_model` holds the line against services as they are. Here nothing is as it should be: sockets that cannot be
had, or are closed in the middle; refusals; gates that deny; answers that nobody asked for, copies and junk at any time;
a computer that stands still for ten seconds, a service that is another one by now. What must hold all the same is
looked at after every step, and at the end. As many others as one likes by
``HISTORIES=1000000 python -m pytest -m long tests/services/test_line_anything.py``.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from virtual_time import MS, VirtualTime, histories

from bridge.outcome import Reason
from bridge.services import rules
from bridge.services.actions import Ended, Open, Send
from bridge.services.copies import SAID_MOST
from bridge.services.errand import Errand
from bridge.services.line import Line
from bridge.services.owed import OWED_MOST
from bridge.services.rules import CLEANUP, ERROR, INTERRUPT, REPEATABLE, Channel, Stage, Timing

S = 1000 * MS
COMMANDS = (1, 2, 4, 8, 32, 64, 128)
SPANS = [0, 1, 2, 5, 19, 21, 50, 99, 101, 150, 599, 601, 749, 751, 1000, 1100, 2001, 3000, 11_000, 31_000]
WORDS: list[list[Any]] = [[None], ['a', None], ['b', None], [{'exp_ref': 'a', 'status': 20}], [20]]
JUNK = [b'', b'x', b'[3,1]', b'[0, "e", null]', b'[16, "a camera died"]', b'[2, "of the worker before us"]   ']
EVER = 40 * S  # nothing of these histories takes longer


class Anything(VirtualTime, RuleBasedStateMachine):
    """A line of which every promise is looked at after every step."""

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        VirtualTime.__init__(self, S)
        self.line = Line('a', 'udp://a', Timing())
        self.errands: list[Errand] = []
        self.ended: Counter[int] = Counter()
        self.left: Counter[int] = Counter()
        self.received: Counter[bytes] = Counter()
        self.confirmed: Counter[bytes] = Counter()
        self.said: list[bytes] = []
        self.fates: list[str] = []
        self.opens: list[str] = []
        self.habit: tuple[list[int], list[int], bool] = ([], [], False)  # see `_serve`

    # --- the carrier and the network, as `Link` stands between them and the line ---

    def wake_at(self) -> int | None:
        return self.line.wake_at

    def turn(self) -> None:
        """Do what the line says, and look at it."""
        line = self.line
        for _ in range(500):
            action = line.next(self.now)
            if action is None:
                break
            if isinstance(action, Send):
                self._send(action.payload, action.errand)
            elif isinstance(action, Open):
                self._open(self.opens.pop(0) if self.opens else 'opened')
            elif isinstance(action, Ended):
                assert action.errand.has_ended
                self.ended[id(action.errand)] += 1
        else:
            raise AssertionError('the line says the same for ever')
        self._look()

    def _send(self, payload: bytes, errand: Errand | None) -> None:
        line = self.line
        if errand is None:
            self._send_more(payload)
            return
        assert errand.stage is Stage.WAITING and not errand.blocked and self.now < errand.deadline
        assert line.channel is Channel.OPEN and line.held is None
        assert errand.event == INTERRUPT or not line.flying, 'two at a time'
        assert errand.event == INTERRUPT or not [one for one in line.urgent if not one.has_ended]
        fate = self.fates.pop(0) if self.fates else 'left'
        if fate == 'left':
            self.left[id(errand)] += 1
            line.left(errand, self.now)
            self._serve(payload)
            if errand.event == INTERRUPT:
                older = [one for one in self.errands if one.order < errand.order and one.event != INTERRUPT]
                assert all(one.has_ended for one in older)
        elif fate == 'not left':
            line.not_left(errand, OSError('the buffer is full'), self.now)
        else:
            line.withdraw(errand, Reason.EXPIRED, 'the gate says no', self.now)
            line.denied(errand)

    def _send_more(self, payload: bytes) -> None:
        """A command goes once more, or a message is confirmed."""
        flying = next((one for one in self.errands if one.payload == payload and not one.has_ended), None)
        if flying is not None:
            assert self.now < flying.due, 'sent again and given up at once'
            self.left[id(flying)] += 1
            self._serve(payload)
            return
        self.confirmed[payload] += 1
        assert not rules.is_echo(payload), 'a command was sent again that had ended, or an echo was echoed'
        assert self.confirmed[payload] <= self.received[payload], 'confirmed more often than it was said'

    def _serve(self, payload: bytes) -> None:
        """Echo and answer a command, or say that it failed, as many ms later as is the service's habit."""
        echoes, answers, fails = self.habit
        event, *data = json.loads(payload)
        answer = [ERROR, 'Error: no', event] if fails else [INTERRUPT if event == CLEANUP else event, *data]
        for span in echoes:
            self.at(self.now + span * MS, lambda: self.take(payload))
        for span in answers:
            self.at(self.now + span * MS, lambda: self.take(json.dumps(answer).encode()))

    def _open(self, fate: str) -> None:
        if fate == 'opened':
            self.line.opened()
        elif fate == 'not opened':
            self.line.not_opened(Reason.ADDRESS, 'nobody knows it', self.now)
        else:  # it takes its time
            self.at(self.now + 3 * S, lambda: self._open(fate[6:]))

    def _look(self) -> None:
        line, wake = self.line, self.line.wake_at
        assert wake is None or wake > self.now, 'it would be asked again and again'
        waiting = [one for one in (*line.urgent, *line.waiting) if not one.has_ended]
        if line.flying or line.held or [one for one in waiting if one.deadline < math.inf]:
            assert wake is not None, 'nobody would look again'
        if waiting and wake is None:
            first = (line.urgent or line.waiting)[0]
            assert first.blocked or line.channel is Channel.OPENING
        for one in self.errands:
            assert self.ended[id(one)] == one.has_ended
            most = 1 if one.once or one.event not in REPEATABLE else 2 + sum(self.received.values())
            assert self.left[id(one)] <= most, 'sent twice'
            assert bool(one.sent) == bool(self.left[id(one)])
            assert one.sent <= (one.echoed or one.sent) <= (one.answered or one.echoed or one.sent)
        assert len(line.owed.given_up) <= OWED_MOST and len(line.copies.said) <= SAID_MOST + 1

    # --- what may happen ---

    @rule(
        event=st.sampled_from(COMMANDS),
        words=st.sampled_from(WORDS),
        timeout=st.sampled_from([10.0, 10.0, 1.5, 0.2]),
        ttl=st.sampled_from([10.0, 10.0, math.inf, 1 / 3, 0.0]),
        more=st.sampled_from([{}, {}, {}, {'once': True}, {'yields': True}, {'blocked': True}, {'order': 0}]),
    )
    def command(self, event: int, words: list[Any], timeout: float, ttl: float, more: dict[str, Any]) -> None:
        values = {'order': len(self.errands) + 1, **more}
        text, deadline = json.dumps([event, *words]).encode(), self.now + ttl * 1e9
        errand = Errand('a', event, text, timeout=timeout, deadline=deadline, wants_reply=event != 128, **values)
        self.errands.append(errand)
        self.line.submit(errand)
        self.turn()

    @rule(ttl=st.sampled_from([10.0, 10.0, math.inf, 0.5]))
    def interrupt(self, ttl: float) -> None:
        errand = Errand('a', INTERRUPT, b'[16, null]', len(self.errands) + 1, deadline=self.now + ttl * 1e9)
        self.errands.append(errand)
        self.line.interrupt(errand, self.now)
        self.turn()

    @rule(which=st.integers(0, 3))
    def withdraw(self, which: int) -> None:
        for errand in self.errands[-1 - which :][:1]:
            self.line.withdraw(errand, Reason.WITHDRAWN, 'withdrawn', self.now)
        self.turn()

    @rule()
    def release(self) -> None:
        for errand in self.errands:
            errand.blocked = False
        self.turn()

    @initialize(
        echoes=st.sampled_from([[1], [1], [30], [1200], [1, 700], []]),
        answers=st.sampled_from([[2], [40], [700], [5000], [12_000], [2, 300], []]),
        fails=st.sampled_from([False, False, True]),
    )
    def begin(self, echoes: list[int], answers: list[int], fails: bool) -> None:
        self.habit = echoes, answers, fails

    @rule(
        echoes=st.lists(st.sampled_from([1, 1, 30, 1200]), max_size=2),
        answers=st.lists(st.sampled_from([2, 2, 15, 40, 700, 1500, 2500, 12_000]), max_size=2),
        fails=st.sampled_from([False, False, True]),
    )
    def behave(self, echoes: list[int], answers: list[int], fails: bool) -> None:
        self.habit = echoes, answers, fails

    @rule(fates=st.lists(st.sampled_from(['left', 'not left', 'denied']), max_size=3))
    def gate(self, fates: list[str]) -> None:
        self.fates = fates

    @rule(opens=st.lists(st.sampled_from(['opened', 'not opened', 'later opened', 'later not opened']), max_size=3))
    def address(self, opens: list[str]) -> None:
        self.opens = opens

    @rule(
        error=st.sampled_from([ConnectionRefusedError('nobody'), ConnectionResetError('nobody'), OSError('no route')])
    )
    def refused(self, error: OSError) -> None:
        self.line.refused(error, self.now)
        self.turn()

    @rule()
    def lost(self) -> None:
        self.line.lost(self.now)
        self.turn()

    @rule(which=st.integers(0, 3))
    def echo(self, which: int) -> None:
        sent = [one for one in self.errands if one.sent]
        for errand in sent[-1 - which :][:1]:
            self.take(errand.payload)

    @rule(event=st.sampled_from([*COMMANDS, INTERRUPT]), words=st.sampled_from(WORDS))
    def say(self, event: int, words: list[Any]) -> None:
        self.take(json.dumps([event, *words]).encode())

    @rule(words=st.sampled_from(WORDS), fails=st.booleans())
    def answer(self, words: list[Any], fails: bool) -> None:
        for errand in self.line.flying[-1:]:
            event = INTERRUPT if errand.event == CLEANUP else errand.event
            self.take(json.dumps([ERROR, 'Error: no', errand.event] if fails else [event, *words]).encode())

    @rule(which=st.integers(0, 3))
    def say_again(self, which: int) -> None:
        for datagram in self.said[-1 - which :][:1]:
            self.take(datagram)

    @rule(junk=st.sampled_from(JUNK))
    def junk(self, junk: bytes) -> None:
        self.take(junk)

    def take(self, datagram: bytes) -> None:
        """Receive a datagram: it ends one command at the most, and answers only what it may."""
        self.said.append(datagram)
        self.received[datagram] += 1
        before = [one for one in self.line.flying if not one.answered and one.reason is Reason.NONE]
        self.line.received(datagram, self.now)
        done = [one for one in before if one.answered == self.now or one.reason is Reason.CALLBACK_FAILED]
        # What was held before may be told at the same moment.
        assert len(done) <= 1 + (len(before) > 1), 'one answer for two commands'
        for one in done:
            assert one.wants_reply or one.reason is Reason.CALLBACK_FAILED
            assert one.reason is Reason.CALLBACK_FAILED or rules.accepts(one.event, one.reply_event)
        self.turn()

    @rule(span=st.sampled_from(SPANS))
    def let(self, span: int) -> None:
        self.run(span * MS)

    @rule(span=st.sampled_from([101, 700, 10_000, 3_600_000]))
    def stand_still(self, span: int) -> None:
        """The computer slept: what had come meanwhile comes now, and every timer is late."""
        self.now += span * MS
        self.turn()

    # --- the end ---

    def teardown(self) -> None:
        for errand in self.errands:
            errand.blocked = False
        self.fates, self.opens = [], []
        self.turn()
        self.run(EVER * (1 + len(self.errands)))
        undone = [one for one in self.errands if not one.has_ended]
        assert not undone, f'they never end: {undone}'
        assert self.line.wake_at is None and self.line.is_over(self.now)


HISTORIES = os.environ.get('HISTORIES')

TestAnything = Anything.TestCase
TestAnything.settings = histories(int(HISTORIES or 600), steps=20, same=True)
TestAnything.pytestmark = [pytest.mark.timeout(600)]


@pytest.mark.long
@pytest.mark.timeout(0)
def test_a_great_many_histories_of_anything() -> None:
    run_state_machine_as_test(Anything, settings=histories(int(HISTORIES or 100_000), steps=20, same=False))
