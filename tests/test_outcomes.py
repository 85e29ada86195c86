"""Outcomes: the steps, and several failures folded into one exception."""

import asyncio
from itertools import product

from bridge.outcomes import STATES, Aborted, NoAnswer, Outcome, failure, replies, state


def test_the_state_is_the_furthest_step_that_was_proved() -> None:
    for sent, echoed, answered in product((0, 5), repeat=3):
        furthest = 3 if answered else 2 if echoed else 1 if sent else 0
        assert state(sent, echoed, answered) == STATES[furthest]


def test_a_new_outcome_claims_nothing() -> None:
    outcome = Outcome('a')
    assert (outcome.ok, outcome.state, outcome.reply, outcome.sent) == (False, 'not_sent', None, 0)


def test_replies_are_told_by_name() -> None:
    assert replies([Outcome('b', True, reply=[1]), Outcome('a', True)]) == {'b': [1], 'a': None}


def test_no_failure_is_none_and_an_only_cause_is_itself() -> None:
    cause = KeyError('x')
    assert failure([Outcome('a', True)], {}) is None
    assert failure([Outcome('a', True), Outcome('b', error='x')], {'b': cause}) is cause
    assert failure([Outcome('a', error='x'), Outcome('b', error='x')], {'a': cause, 'b': cause}) is cause


def test_failures_of_one_type_stay_of_that_type_and_name_each_service() -> None:
    outcomes = [Outcome('a', error='no echo'), Outcome('b', True), Outcome('c', error='no reply')]
    folded = failure(outcomes, {'a': NoAnswer('1'), 'c': NoAnswer('2')})
    assert type(folded) is NoAnswer and str(folded) == 'a: no echo; c: no reply'
    mixed = failure(outcomes, {'a': NoAnswer('1'), 'c': Aborted('2')})
    assert type(mixed) is RuntimeError and str(mixed) == 'a: no echo; c: no reply'
    assert isinstance(failure(outcomes, {}), RuntimeError)


def test_an_exception_type_that_can_not_be_made_again_becomes_a_runtime_error() -> None:
    class OddError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(one, two)

    folded = failure([Outcome('a', error='x'), Outcome('b', error='y')], {'a': OddError(1, 2), 'b': OddError(1, 2)})
    assert type(folded) is RuntimeError and str(folded) == 'a: x; b: y'


def test_no_answer_is_caught_as_either_timeout_error() -> None:
    assert issubclass(NoAnswer, TimeoutError)
    assert issubclass(NoAnswer, asyncio.TimeoutError)
