"""Outcomes: the steps, and several failures folded into one exception."""

import asyncio
import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.numbers import LOCAL, MESSAGES, REASONS
from bridge.outcome import STATES, NoAnswer, Outcome, Reason, failure, from_entry, replies, state, to_entry


def test_the_state_is_the_furthest_step_that_was_proved() -> None:
    for sent, echoed, answered in product((0, 5), repeat=3):
        furthest = 3 if answered else 2 if echoed else 1 if sent else 0
        assert state(sent, echoed, answered) == STATES[furthest]


def test_a_new_outcome_claims_nothing() -> None:
    outcome = Outcome('a')
    assert (outcome.ok, outcome.state, outcome.reply, outcome.sent) == (False, 'not_sent', None, 0)


def test_replies_are_told_by_name() -> None:
    assert replies([Outcome('b', True, reply=[1]), Outcome('a', True)]) == {'b': [1], 'a': None}


def test_no_failure_is_none_and_an_only_one_is_the_exception_of_its_reason() -> None:
    fine, refused = Outcome('a', True), Outcome('b', reason=Reason.REFUSED, error='nobody there')
    assert failure([fine]) is None
    assert type(failure([fine, refused])) is ConnectionRefusedError
    assert str(failure([fine, refused])) == 'b: nobody there'


def test_failures_of_one_type_stay_of_that_type_and_name_each_service() -> None:
    first, second = (Outcome(name, reason=Reason.NO_ECHO, error=f'no {name}') for name in ('a', 'c'))
    folded = failure([first, Outcome('b', True), second])
    assert type(folded) is NoAnswer and str(folded) == 'a: no a; c: no c'
    mixed = failure([first, Outcome('c', reason=Reason.ABORTED, error='stopped')])
    assert type(mixed) is RuntimeError and str(mixed) == 'a: no a; c: stopped'


def test_nothing_is_guessed_from_words() -> None:
    # Once "its callback failed with OSError: connection refused" became a ConnectionRefusedError.
    outcome = Outcome('a', reason=Reason.CALLBACK_FAILED, error='its callback failed with OSError: connection refused')
    assert type(outcome.exception()) is RuntimeError


def test_a_status_that_contradicts_is_no_exception() -> None:
    assert failure([Outcome('a', False, 'answered', Reason.STATUS, 'reports RUNNING', [None])]) is None


@pytest.mark.parametrize('reason', [reason for reason in Reason if reason])
def test_every_reason_has_an_exception_and_stands_in_the_interface(reason) -> None:
    assert isinstance(Outcome('a', reason=reason, error='x').exception(), Exception)
    assert reason.value in REASONS


def test_the_interface_has_no_reason_that_is_never_given() -> None:
    assert set(REASONS) - {''} == {reason.value for reason in Reason} - {''}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.sampled_from([name for name in MESSAGES if name not in LOCAL]),
    st.none() | st.lists(JSON, max_size=3),
    st.sampled_from(list(Reason)),
    st.sampled_from([0, 16]),
)
def test_an_outcome_comes_through_shared_memory_as_it_is(message, reply, reason, other) -> None:
    answered = 3 if reply is not None else 0
    event = (other or MESSAGES[message]) if answered else 0
    outcome = Outcome('a', not reason, 'answered', reason, 'why', reply, event, 20, 1, 2, answered)
    entry = json.loads(json.dumps(to_entry(outcome, message)))
    assert list(entry) == [
        *('name', 'ok', 'state', 'reason', 'error', 'data', 'status', 'sent', 'echoed', 'answered'),
    ]
    assert from_entry(entry, message) == outcome


@pytest.mark.parametrize(
    ('message', 'reply', 'data'),
    [
        ('EXPINFO', [20, {'a': 1}], {'status': 20, 'info': {'a': 1}}),
        ('EXPSTATUS', [20], {'status': 20}),
        ('EXPINIT', [{'a': 1}], {'value': {'a': 1}}),
        ('EXPSTART', ['ref', None], {'value': ['ref', None]}),
        ('EXPEND', None, {}),
        ('EXPEND', [], {}),
        ('EXPSTART', [['ref']], {'value': ['ref'], 'reply': [['ref']]}),
        ('EXPINFO', [20], {'status': 20, 'info': None, 'reply': [20]}),
    ],
)
def test_the_data_of_an_entry(message, reply, data) -> None:
    assert to_entry(Outcome('a', True, reply=reply), message)['data'] == data


def test_no_answer_is_caught_as_either_timeout_error() -> None:
    assert issubclass(NoAnswer, TimeoutError)
    assert issubclass(NoAnswer, asyncio.TimeoutError)
