"""The same of every language: the example of its kit, built and run with the commands of its guide.

Each test is a column of the matrix in examples/README.md, each language a row. What an example prints is described in
guides.read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from guides import Said, commands, read, require, run
from peers import StockServer, eventually

from bridge.cli.demo.children import Rig

LANGUAGES = {
    'c': ['cc'],
    'cpp': ['c++'],
    'csharp': ['mcs', 'mono'],
    'java': ['javac', 'java'],
    'luajit': ['luajit'],
    'matlab': ['octave-cli', 'mkoctfile'],
    'node': ['node', 'npm'],
    'python': ['python'],
}
SESSION = ['EXPINIT', 'EXPSTART', 'EXPSTATUS', 'EXPINFO', 'EXPEND', 'EXPCLEANUP']
NOT_ASKED = [name for name in SESSION if name != 'EXPSTATUS']


@pytest.fixture(params=LANGUAGES)
def example(request: pytest.FixtureRequest, kit_of: Callable[[str], Path]):
    """Return a function that runs the example of a language: exit status, what it said, standard error."""
    require(*LANGUAGES[request.param])
    place = kit_of(request.param)

    def execute(more: Sequence[str] = ()) -> tuple[int, Said, str]:
        done = run(' '.join([commands(place)[-1], *more]), place)
        print(done.stdout, done.stderr)
        return done.returncode, read(done.stdout), done.stderr

    return execute


def ran_through(said: Said) -> bool:
    """Whether all commands of a session were answered; EXPSTATUS is given up if that takes more than 100 ms."""
    names = [step.name for step in said.steps]
    return names == SESSION if not said.cancelled else (names, said.cancelled) == (NOT_ASKED, ['EXPSTATUS'])


def heard(rig: Rig, service: str) -> list[str]:
    """Return the messages that a service carried out, in order."""
    lines = [line for line in rig.children[service].output if ' -> ' in line and 'refused' not in line]
    return [line.split(': ', 1)[1].split()[0] for line in lines]


def test_a_session_runs_on_two_services_and_each_command_is_carried_out_once(example, rig):
    services = rig(cameras=[], ephys=[])
    status, said, errors = example()
    assert (status, errors) == (0, '')
    assert ran_through(said)
    assert all(step.done and list(step.services) == ['cameras', 'ephys'] for step in said.steps)
    assert said.steps[1].services == {'cameras': 'answered', 'ephys': 'answered'}
    assert said.events == []
    for service in ('cameras', 'ephys'):
        eventually(lambda name=service: heard(services, name)[-1:] == SESSION[-1:])
        assert heard(services, service) in (SESSION, NOT_ASKED)


def test_a_failing_service_is_caught_and_named_and_the_other_is_told(example, rig):
    rig(cameras=[], ephys=['--refuse', 'EXPSTART'])
    status, said, _ = example()
    assert status == 1
    assert [step.name for step in said.steps] == ['EXPINIT', 'EXPSTART', 'EXPINTERRUPT']
    failed = said.steps[1]
    assert (failed.done, failed.code) == (False, -8070)
    assert 'ephys' in failed.sentence and 'was told to refuse EXPSTART' in failed.sentence
    assert failed.services['cameras'] == 'answered'
    assert failed.services['ephys'].startswith('echoed, ') and 'Refusal' in failed.services['ephys']
    assert said.steps[2].done


def test_a_service_that_still_runs_after_the_end_is_a_warning_and_not_done(example, serve):
    with StockServer({4: [{'status': 20}]}) as cameras:  # EXPEND, answered with RUNNING
        serve('rig0', {'cameras': cameras.uri})
        status, said, errors = example()
    assert (status, errors) == (0, '')
    assert ran_through(said)
    ended = next(step for step in said.steps if step.name == 'EXPEND')
    assert ended.code == 5005
    assert 'cameras' in ended.sentence and 'RUNNING' in ended.sentence
    assert all(step.done for step in said.steps if step is not ended)


def test_the_response_is_data_of_the_language_and_no_character_is_lost(example, rig):
    rig(cameras__left=[], ephys=[])  # a colon in a name must survive
    _, said, _ = example(['2026-01-01_1_Mäuschen→x'])
    info = next(step for step in said.steps if step.name == 'EXPINFO')
    wanted = 'status 20, 2026-01-01_1_Mäuschen→x'
    assert info.services == {'cameras:left': wanted, 'ephys': wanted}


def test_a_camera_that_dies_is_an_event_and_ends_the_session(example, rig):
    rig(cameras=[], ephys=['--dies-after', '0.2'])
    status, said, _ = example()
    assert said.events == ['EXPINTERRUPT from ephys']
    assert status == 0 and ran_through(said)


def test_a_question_is_cancelled_and_the_next_commands_work(example, rig):
    rig(cameras=[], ephys=['--delay', '0.5'])
    status, said, _ = example()
    assert said.cancelled == ['EXPSTATUS']
    assert status == 0 and [step.name for step in said.steps] == NOT_ASKED


def test_without_a_segment_it_says_so(example):
    status, said, errors = example()
    assert status == 1 and said.steps == []
    assert '-8010' in errors and 'rig0' in errors
