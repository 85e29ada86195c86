"""A call of the library takes no more instructions than are stored (``instructions.py``)."""

from __future__ import annotations

import json

import instructions
import pytest
from c_programs import COMPILER, unavailable


@pytest.mark.posix('valgrind counts instructions on Linux')
@pytest.mark.timeout(600)
def test_no_call_takes_more_instructions_than_are_stored() -> None:
    if not COMPILER or instructions.missing():
        unavailable(f'no {instructions.missing() or "C compiler"}')
    stored, here = json.loads(instructions.STORED.read_text()), instructions.surroundings()
    if here not in stored:
        pytest.skip(f'no counts are stored for {here}: python tests/c/instructions.py --write')
    grown = instructions.grown(instructions.count(), stored[here])
    assert not grown, '\n'.join([*grown, 'If that is worth it: python tests/c/instructions.py --write'])


def test_five_percent_more_are_let_pass_and_no_more() -> None:
    assert instructions.grown({'send': 1050, 'take': 1}, {'send': 1000, 'take': 10}) == []
    assert len(instructions.grown({'send': 1051, 'take': 10}, {'send': 1000})) == 2


def test_the_instructions_of_a_call_hold_all_below_it_and_are_those_of_its_caller() -> None:
    profile = """
fn=(1) send
10 5
cfn=(2) iblb_send
calls=2 40
10 300
cfn=(3) need
calls=2 3
11 8
fn=(2)
40 100
cfn=(4) memcpy
calls=2 0
41 200
fn=(5) take
cfn=(2)
calls=1 40
20 70
cfn=(2)
calls=1 40
21 80
"""
    assert instructions.read_profile(profile.splitlines(), ['send', 'take']) == {'send': 150, 'take': 75}


def test_the_counts_of_the_compiler_of_ci_are_stored() -> None:
    stored = json.loads(instructions.STORED.read_text())
    names = {'send_msgpack', 'take_1', 'take_64', 'respond_1'}
    assert names <= set(stored['gcc 12, glibc 2.36, x86_64'])
