"""What a worker that is killed owes its masters: how it is kept, and what the next one does about it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.listen import owed, rules
from bridge.listen.owed import Left

REF = '2026-01-01_1_subject'
ROW = [['127.0.0.1', 5], 2, 10, 3, 4, True, REF, [0, 'why', 2], '']
ANYTHING = st.one_of(st.integers(), st.text(max_size=3), st.none(), st.floats(), st.just([]), st.just([2]))


@given(st.integers(0, len(ROW) - 1), ANYTHING)
def test_what_is_damaged_of_what_was_owed_is_not_believed(place, value):
    row = [*ROW]
    row[place] = value
    for one in owed.left({'open': [row, ROW[:-1], value]}):
        assert type(one.event) is int and type(one.datagram) is bytes
        assert owed.left({'open': [owed.to_row(one)]}) == [one]
    assert owed.left({'open': value}) == []


@pytest.mark.parametrize('event', [*rules.USUAL, *rules.QUESTIONS, rules.ALYX])
def test_what_is_owed_is_read_as_it_was_written(event):
    one = Left(('127.0.0.1', 5), event, 10, 3, 4, True, REF)
    assert owed.left({'open': [json.loads(json.dumps(owed.to_row(one)))]}) == [one]


def test_of_what_may_bring_a_token_no_text_is_kept():
    given = Left(('127.0.0.1', 5), rules.ALYX, 10, message=[128, 'secret'], datagram=b'secret')
    assert 'secret' not in json.dumps(owed.to_row(given))


HERE, THERE = ('127.0.0.1', 5), ('127.0.0.1', 6)


def waited(event, arrived, **known):
    return Left(HERE, event, arrived, datagram=b'[%d, null]' % event, **known)


def test_what_waited_is_carried_out_but_for_what_came_before_an_interrupt():
    start, stop, end = waited(rules.START, 1), waited(rules.INTERRUPT, 2), waited(rules.END, 3)
    asked = waited(rules.STATUS, 1)
    assert owed.not_begun([start, asked, end], 0, questions=False) == [start, end]
    assert owed.not_begun([start, asked, stop, end], 0, questions=False) == [stop, end]
    assert owed.not_begun([start, asked, stop, end], 0, questions=True) == [asked]
    assert owed.not_begun([start._replace(datagram=b'')], 0, questions=False) == []
    assert owed.not_begun([start, stop, end], 2, questions=False) == [end]


def test_what_a_program_may_have_is_never_carried_out_again():
    for row in (waited(rules.START, 1, handed=True), waited(rules.START, 1, message=[2, REF])):
        assert owed.not_begun(owed.left({'open': [owed.to_row(row)]}), 0, questions=False) == []


def test_an_answer_is_to_what_stood_in_its_place_or_to_what_was_just_handed_over():
    known = Left(HERE, rules.START, 1, 3, 7, handed=True, ref=REF)
    handing = Left(HERE, rules.START, 2, handed=True, ref='another')
    waits, others = waited(rules.START, 3), Left(THERE, rules.START, 4, handed=True)
    rows = [others, waits, handing, known]
    assert owed.answered(rows, HERE, rules.START, (3, 7)) is known
    assert owed.answered(rows, HERE, rules.START, (3, 8)) is handing
    assert owed.answered([others, waits], HERE, rules.START, (3, 7)) == Left(HERE, rules.START, 0, 3, 7)
