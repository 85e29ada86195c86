"""The line to a service in virtual time, against models of real services and a path that does what it likes.

A thousand histories in a run, the same each time, or twice the environment's ``HISTORIES``; five thousand by
``-m slow``; as many others as one likes by
``HISTORIES=1000000 python -m pytest -m long tests/services/test_line_model.py``.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from virtual_time import histories
from worlds import HOP, MS, OneLoop, SideBySide, Stock, World

from bridge.outcome import ANSWERED, NOT_SENT, Reason
from bridge.services.errand import Errand
from bridge.services.rules import INFO, INTERRUPT, PROMPT, REPEATABLE, STATUS, Timing

COMMANDS = (64, 1, 2, 4, 8, 32)
KINDS = {'stock': Stock, 'side by side': SideBySide, 'one loop': OneLoop}
ANSWERS = {
    'the same': lambda event, data: [20] if event in (STATUS, INFO) else [None],
    'what it was asked': lambda event, data: data,
    'its state': lambda event, data: [{'status': 20 if event == 2 else 10}],
}


class Histories(RuleBasedStateMachine):
    """Commands, interrupts, stalls, restarts and what a service says by itself, in any order."""

    @initialize(
        kind=st.sampled_from(sorted(KINDS)),
        answer=st.sampled_from(sorted(ANSWERS)),
        work=st.sampled_from([0, 0, 1, 30, 400, 3000]),
        round_=st.sampled_from([0, 0, 30]),
    )
    def begin(self, kind: str, answer: str, work: int, round_: int) -> None:
        self.work, self.kind = work * MS, kind

        def make(world: World) -> Any:
            options = {'round': lambda: round_ * MS} if kind == 'one loop' else {}
            return KINDS[kind](world, ANSWERS[answer], lambda datagram: self.work, **options)

        self.world = World(make, Timing(), self.fate)
        self.fates: dict[str, list[list[int]]] = {'in': [], 'out': []}
        self.troubled: list[tuple[str, bytes]] = []
        self.doubled: Counter[bytes] = Counter()
        self.copies: list[int] = []
        self.stalled = self.restarted = self.spoke = False

    def fate(self, way: str, datagram: bytes) -> list[int]:
        if not self.fates[way]:
            return [HOP]
        fate = self.fates[way].pop(0)
        if fate != [HOP]:
            self.troubled.append((way, datagram))
        if len(fate) > 1:
            if way == 'out':
                self.doubled[datagram] += len(fate) - 1
            else:
                self.copies += [self.world.now + delay for delay in fate]
        return fate

    @rule(event=st.sampled_from(COMMANDS))
    def command(self, event: int) -> None:
        self.world.submit(event)

    @rule(event=st.sampled_from(COMMANDS), timeout=st.sampled_from([0.2, 1.5]), ttl=st.sampled_from([0.5, 30]))
    def impatient_command(self, event: int, timeout: float, ttl: float) -> None:
        self.world.submit(event, timeout=timeout, ttl=ttl)

    @rule()
    def interrupt(self) -> None:
        self.world.submit(INTERRUPT)

    @rule(span=st.sampled_from([0, 1, 2, 5, 50, 99, 101, 150, 700, 1000, 1100, 2600, 11_000]))
    def let(self, span: int) -> None:
        self.world.run(span * MS)

    @rule(span=st.sampled_from([5, 30, 200, 700, 1500, 5000]))
    def stall(self, span: int) -> None:
        self.stalled = True
        self.world.service.stall(span * MS)

    @rule()
    def speak(self) -> None:
        line, service = self.world.line, self.world.service
        at_rest = self.world.now >= service.stalled_until and not service.buffer
        if service.pending is None and at_rest and not (line.flying or line.waiting or line.urgent or line.pace.unread):
            self.spoke = True
            self.world.service.say([INTERRUPT, 'a camera died'])
            self.world.run(MS)

    def teardown(self) -> None:
        if not hasattr(self, 'world'):
            return
        world, service = self.world, self.world.service
        world.run_until(lambda: len(world.ended) == len(world.sent), 200_000 * MS)
        world.run(3000 * MS)
        assert len(set(map(id, world.ended))) == len(world.ended) == len(world.sent)
        for errand in world.sent:
            self.check(errand)
        if service.overlapped:  # then it closes by itself: did we send two at once?
            assert self.two_at_once()
        elif not self.troubled and not self.restarted:
            known = {errand.payload for errand in world.sent}
            assert not [heard for heard in service.heard if heard not in known], 'a confirmation became a command'
            if service.read_at_close is not None:
                assert self.excuse(service.read_at_close), f'closed by {service.read_at_close!r}'

    def check(self, errand: Errand) -> None:
        """What is told agrees with what was done."""
        world, service, outcome = self.world, self.world.service, errand.outcome()
        times = world.out[errand.payload] if errand.payload else 0
        if errand.event not in REPEATABLE:
            assert times <= 1, 'sent twice'
            assert service.heard.count(errand.payload) <= 1 + self.doubled[errand.payload]
        assert times <= 2 + len(world.sent)
        assert outcome.ok == (outcome.reason is Reason.NONE)
        if outcome.state == NOT_SENT:
            assert not times and errand.payload not in service.heard
        if outcome.state == ANSWERED and outcome.ok and errand.event not in (STATUS, INFO):
            excused = any(abs(at - errand.echoed) <= PROMPT for at in self.copies)
            excused |= self.spoke and errand.event == INTERRUPT  # it was about to interrupt by itself
            excused |= bool(self.doubled)  # a doubled confirmation is a command, which it answers
            # Interrupts on their way at once share their answers.
            same = [old.payload for old in world.sent if old is errand or old.event == errand.event == INTERRUPT]
            assert excused or not set(same).isdisjoint(service.heard), f'{outcome} and the service never heard it'
        if outcome.reason is Reason.NO_REPLY:
            assert errand.payload in service.echoed

    def two_at_once(self) -> bool:
        """Tell whether it may have had two commands at the same time, as it is documented."""
        sent = self.world.sent
        repeated = any(self.world.out[errand.payload] > 1 for errand in sent if errand.payload)
        given_up = any(errand.sent and not errand.answered for errand in sent)
        return repeated or given_up or bool(self.doubled) or any(errand.event == INTERRUPT for errand in sent)

    def excuse(self, read: bytes) -> bool:
        """Tell whether the documentation says that this cannot be helped."""
        world = self.world
        errand = next((errand for errand in world.sent if errand.payload == read), None)
        if errand is None:
            return False
        if world.out[read] > 1:  # a repeat that it found beside the first
            return True
        before = [old for old in world.sent if old.sent and old.sent < errand.sent]
        slow = [old for old in before if not old.answered or old.answered - old.echoed > 2 * MS]
        if errand.event == INTERRUPT:  # it meets the answer to a command that takes its time
            return bool(slow)
        # A service that answers after its time is up, or reads after ten seconds.
        return any(old.reason in (Reason.NO_REPLY, Reason.ABORTED, Reason.NO_ECHO) for old in slow)


class RoughPaths(Histories):
    """The same behind a path that loses, doubles, delays and reorders everything in both directions."""

    @rule(
        way=st.sampled_from(['in', 'out']),
        skip=st.integers(0, 3),
        fate=st.sampled_from([[], [HOP, 3 * HOP], [HOP, 30 * MS], [HOP, 300 * MS], [5 * MS], [150 * MS], [1200 * MS]]),
    )
    def trouble(self, way: str, skip: int, fate: list[int]) -> None:
        self.fates[way] += [[HOP]] * skip + [fate]

    @rule(dead=st.booleans())
    def restart(self, dead: bool) -> None:
        self.restarted = True
        self.world.service.restart()
        self.world.service.dead = dead


HISTORIES = os.environ.get('HISTORIES')

TestHistories = Histories.TestCase
TestHistories.settings = histories(int(HISTORIES or 500), steps=14, same=True)
TestHistories.pytestmark = [pytest.mark.timeout(600)]
TestRoughPaths = RoughPaths.TestCase
TestRoughPaths.settings = histories(int(HISTORIES or 500), steps=14, same=True)
TestRoughPaths.pytestmark = [pytest.mark.timeout(600)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize('machine', [Histories, RoughPaths])
def test_five_thousand_histories(machine: type[RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(machine, settings=histories(2500, steps=14, same=True))


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize('machine', [Histories, RoughPaths])
def test_a_great_many_histories(machine: type[RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(machine, settings=histories(int(HISTORIES or 100_000), steps=14, same=False))
