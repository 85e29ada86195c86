"""The demo: its verdict as a function of values, and that nothing stays behind, however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from demos import Demo, demos
from systems import END_SIGNALS, KILLED, ask_to_end, ctrl_c, kill, let_everybody_write

from bridge.cli.console import own_name, tool_name
from bridge.cli.demo import PARTIAL, PLAN, SERVICES, Record, cell, ended, judge, show


def entry(name: str, *, ok: bool = True) -> dict:
    """Return a service's entry in a response body."""
    error = '' if ok else 'no echo within 1 s.'
    stamps = {'sent': 1, 'echoed': 2, 'answered': 3} if ok else {'sent': 1, 'echoed': 0, 'answered': 0}
    return {'name': name, 'ok': ok, 'state': 'answered' if ok else 'unreachable', 'error': error, 'data': {}, **stamps}


def records(silent: str | None = None) -> list[Record]:
    """Return what a demo should bring."""
    result = []
    for i, (message, _) in enumerate(PLAN):
        fails = silent is not None and i >= 3
        services = [entry(name, ok=not (fails and name == silent)) for name in SERVICES]
        body = {'message': message, 'code': PARTIAL if fails else 0, 'services': services}
        result.append(Record(message, int(fails), body, f'{silent}: no echo within 1 s.' if fails else ''))
    return result


def test_an_experiment_that_went_well_has_nothing_wrong():
    assert judge(records(), None) == []


@pytest.mark.parametrize('silent', SERVICES)
def test_a_silent_service_that_is_reported_from_expstatus_on_is_as_expected(silent):
    assert judge(records(silent), silent) == []


@pytest.mark.parametrize('silent', SERVICES)
def test_a_failure_nobody_ordered_is_wrong_and_so_is_a_success_where_a_failure_was_ordered(silent):
    assert judge(records(silent), None)
    assert judge(records(), silent)
    assert judge(records(silent), next(name for name in SERVICES if name != silent))


@pytest.mark.parametrize('number', range(len(PLAN)))
@pytest.mark.parametrize('silent', [None, 'cameras'])
@pytest.mark.parametrize(
    'spoil',
    [
        lambda r: replace(r, exit_status=4),
        lambda r: replace(r, body=None),
        lambda r: replace(r, body={**r.body, 'code': -8071}),
        lambda r: replace(r, body={**r.body, 'services': r.body['services'][:1]}),
        lambda r: replace(r, body={**r.body, 'services': [entry('cameras'), entry('ephys', ok=False)]}),
        lambda r: replace(
            r, body={**r.body, 'services': [entry('cameras', ok=r.code != 0), entry('ephys', ok=r.code != 0)]}
        ),
        lambda r: replace(
            r, body={**r.body, 'services': [{**s, 'state': 'echoed', 'error': ''} for s in r.body['services']]}
        ),
    ],
)
def test_anything_unexpected_in_any_command_is_noticed_naming_the_command(
    number, silent, spoil: Callable[[Record], Record]
):
    spoilt = records(silent)
    spoilt[number] = spoil(spoilt[number])
    wrong = judge(spoilt, silent)
    assert wrong
    assert all(sentence.startswith(PLAN[number][0]) for sentence in wrong)


def test_a_sentence_that_does_not_name_the_silent_service_is_wrong():
    spoilt = [replace(r, sentence=r.sentence.replace('cameras', 'a service')) for r in records('cameras')]
    assert len(judge(spoilt, 'cameras')) == 3


def test_commands_that_were_not_run_are_noticed():
    assert judge(records()[:4], None)
    assert judge([], None)


@pytest.mark.parametrize(
    ('data', 'text'),
    [
        ({'status': 20}, 'RUNNING'),
        ({'status': 0, 'info': {'exp_ref': None}}, 'CONNECTED'),
        ({'value': {'status': 30}}, 'STOPPED'),
        ({'value': ['2026-01-01_1_subject', {'status': 10}]}, 'INITIALIZED'),
        ({'value': None}, 'answered'),
        ({'status': 7}, 'answered'),
        ({'status': [1]}, 'answered'),
        ({}, 'answered'),
    ],
)
def test_the_table_shows_the_state_that_the_service_replied(data, text):
    assert cell({**entry('cameras'), 'data': data}).split() == [text, '0.0', 'ms']


def test_the_table_shows_how_far_a_failed_command_came():
    assert cell(entry('cameras', ok=False)) == 'UNREACHABLE'
    assert cell({}) == '-'


@pytest.fixture
def demo(tmp_path) -> Iterator[Callable[..., Demo]]:
    """Return a function that starts a demo."""
    with demos(tmp_path) as start:
        yield start


def test_every_command_is_answered_by_both_services_and_nothing_is_left(demo):
    run = demo()
    assert run.finish() == 0, run.output
    rows = [line.split() for line in run.output.splitlines() if line.startswith('  EXP')]
    assert [row[0] for row in rows] == [message for message, _ in PLAN]
    said = ['CONNECTED', 'INITIALIZED', 'RUNNING', 'RUNNING', 'STOPPED', 'CONNECTED']
    assert [(row[1], row[4]) for row in rows] == [(state, state) for state in said]
    assert 'All 6 commands were answered by both services' in run.output
    assert run.left() == []


def test_rows_appear_as_the_commands_are_done(demo):
    run = demo('--fail', 'cameras')
    run.read_until('EXPSTART .*RUNNING')
    assert run.process.poll() is None
    assert run.processes()
    assert run.finish() == 0, run.output


@pytest.mark.parametrize('silent', SERVICES)
def test_a_silent_service_is_named_and_the_other_is_served(demo, silent):
    run = demo('--fail', silent)
    assert run.finish() == 0, run.output
    assert re.search(r'status +-8070 IBLB_E_PARTIAL', run.output)
    assert re.search(rf'sentence +.*{silent}', run.output)
    told = json.loads(re.search(rf'^  {silent} +(\{{.*\}})$', run.output, re.MULTILINE)[1])
    assert (told['ok'], told['answered']) == (False, 0)
    rows = [line for line in run.output.splitlines() if line.startswith('  EXP')]
    assert ['UNREACHABLE' in row for row in rows] == [False] * 3 + [True] * 3
    assert run.left() == []


@pytest.mark.parametrize('name', END_SIGNALS)
@pytest.mark.parametrize(
    ('moment', 'not_printed'),
    [
        ('start', '  segment'),
        pytest.param('segment', '  EXPSTATUS', marks=pytest.mark.not_wine('it hangs, see Demo.await_command')),
        ('EXPSTART .*RUNNING', '  EXPSTATUS'),
        ('EXPSTATUS', '  EXPEND'),
    ],
)
def test_a_signal_at_any_moment_ends_the_demo_and_leaves_nothing(demo, name, moment, not_printed):
    run = demo('--fail', 'cameras')
    if moment == 'start':
        while len(run.processes()) < 3:  # the services; it waits for them
            assert run.process.poll() is None
    else:
        run.read_until(moment)
        if moment.startswith('EXP'):
            run.await_command()
    ask_to_end(run.process, name)
    assert run.finish() == 128 + getattr(signal, name), run.output
    assert 'Traceback' not in run.output
    assert not_printed not in run.output
    assert run.left() == []


def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_is_handled_alike(demo):
    run = demo('--fail', 'cameras')
    run.read_until('EXPSTATUS')
    run.await_command()
    ctrl_c(run.process)
    assert run.finish() == 130, run.output
    assert 'Stopped by SIGINT. All processes are gone' in run.output
    assert run.left() == []


def test_impatient_ctrl_c_does_not_interrupt_the_clean_up(demo):
    run = demo('--fail', 'cameras')
    run.read_until('EXPSTATUS')
    run.await_command()
    while run.process.poll() is None:
        ask_to_end(run.process, 'SIGINT')
        time.sleep(0.01)
    # Python itself takes back its handlers shortly before it ends; by then all is done.
    assert run.finish() in (130, -signal.SIGINT), run.output
    assert 'Stopped by SIGINT. All processes are gone' in run.output
    assert run.left() == []


def test_the_children_end_by_themselves_when_the_demo_is_killed(demo):
    run = demo('--fail', 'cameras')
    run.read_until('EXPSTART .*RUNNING')
    run.process.kill()
    assert run.left(20.0) == []


@contextmanager
def killed(run: Demo, child: str) -> Iterator[None]:
    """Kill a child of a demo after its start."""
    pid = int(run.read_until(rf'^  {child} +pid (\d+)')[1])
    run.read_until('EXPSTART .*RUNNING')
    kill(pid)
    yield


@pytest.mark.parametrize('child', ['worker', 'ephys'])
def test_a_part_that_crashes_spoils_the_verdict_and_nothing_is_left(demo, child):
    run = demo('--fail', 'cameras')
    with killed(run, child):
        assert run.finish() == 1, run.output
    assert 'Not as it should be' in run.output
    assert f'{child} ended with exit status {KILLED}' in run.output
    assert run.left() == []


def test_a_part_that_can_not_start_is_shown_with_what_it_said(demo):
    run = demo()
    let_everybody_write(run.directory)  # long before its worker looks at it
    assert run.finish() == 3, run.output
    assert 'worker ended with exit status' in run.output
    assert run.left() == []


def test_a_rig_that_stays_serves_another_program_until_ctrl_c(demo):
    from bridge.native import IBLB

    run = demo('--stay', '--segment', 'rig0')
    run.read_until('The rig is up')
    assert run.read_until(r'^next, in another shell: .*bridge send rig0 (\w+)')[1] == 'EXPSTART'
    words = [IBLB, 'call', 'rig0', 'EXPINIT']
    environment = {**os.environ, 'IBLBRIDGE_DIR': str(run.directory)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    ask_to_end(run.process, 'SIGINT')
    assert run.finish() == 130, run.output
    assert run.left() == []


def test_a_rig_that_stays_ends_with_a_sentence_when_a_part_of_it_dies(demo):
    run = demo('--stay')
    pid = int(run.read_until(r'^  ephys +pid (\d+)')[1])
    run.read_until('The rig is up')
    kill(pid)
    assert run.finish() == 3, run.output
    assert f'ephys ended with exit status {KILLED}' in run.output
    assert run.left() == []


def test_the_first_command_of_a_program_that_waits_for_the_rig_finds_its_services(demo):
    """Four of five came too early: the segment was there before the services listened."""
    from bridge.native import IBLB

    run = demo('--stay', '--segment', 'rig0')
    words = [IBLB, 'call', 'rig0', 'EXPINIT', '--open', '30s']
    environment = {**os.environ, 'IBLBRIDGE_DIR': str(run.directory)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    ask_to_end(run.process, 'SIGINT')
    assert run.finish() == 130, run.output


def test_the_worker_starts_when_its_services_listen(monkeypatch):
    from bridge.cli.demo import children

    born: list[list[bool]] = []

    class Slow:
        """A process that is ready at the third look."""

        def __init__(self, name: str, *_: str) -> None:
            born.append([bool(other.looks >= 3) for other in rig.children.values()] if name == 'worker' else [])
            self.name, self.looks = name, 0
            self.process = self

        def poll(self) -> None:
            """It goes on."""

        @property
        def ready(self) -> list[str]:
            self.looks += 1
            return ['rig0', '/nowhere'] if self.looks >= 3 else []

    monkeypatch.setattr(children, 'Child', Slow)
    rig = children.Rig('rig0', {name: [] for name in SERVICES}, children.Halt())
    rig.start()
    assert born == [[], [], [True, True]]


def test_that_the_c_program_was_ended_by_a_signal_is_said_in_words():
    """It said: EXPSTATUS exit status -2."""
    assert ended(-signal.SIGTERM) == 'the C program was ended by SIGTERM'
    assert ended(3) == 'the C program ended with exit status 3'
    wrong = judge([replace(records()[0], exit_status=-2), *records()[1:]], None)
    assert 'status -2' not in ' '.join(wrong) and 'SIGINT' in wrong[0]


def test_what_to_type_next_can_be_typed(monkeypatch, tmp_path):
    """Behind .venv/bin/iblbridge demo stood iblbridge, which is not on PATH."""
    program = tmp_path / 'venv' / 'iblbridge'
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, 'argv', [str(program), 'demo'])
    monkeypatch.setenv('PATH', str(tmp_path))
    assert own_name() == str(program)
    monkeypatch.setenv('PATH', str(program.parent))
    monkeypatch.setattr('shutil.which', lambda _: str(program))
    assert own_name() == 'iblbridge'
    monkeypatch.setattr(sys, 'argv', ['/somewhere/bridge/__main__.py'])
    assert own_name().endswith('-m bridge')


def test_the_c_program_that_is_to_be_typed_next_is_named_by_its_path_if_it_is_not_found(monkeypatch, tmp_path):
    from bridge.native import IBLB

    monkeypatch.setenv('PATH', str(tmp_path))
    assert tool_name() == str(IBLB)
    monkeypatch.setattr('shutil.which', lambda _: str(IBLB))
    assert tool_name() == 'iblb'


@pytest.mark.parametrize('width', [60, 80])
def test_the_table_fits_the_terminal_and_is_plain_without_colour(width, capsys):
    from rich.console import Console

    console = Console(width=width, soft_wrap=True)
    body = {'code': 0, 'sent': 1, 'finished': 99_000_000, 'services': []}
    answer = {'ok': True, 'state': 'answered', 'data': {'status': 10}, 'sent': 1, 'answered': 9_000_000}
    body['services'] = [{'name': name, **answer} for name in SERVICES]
    show(console, Record('EXPCLEANUP', 0, body, ''))
    line = capsys.readouterr().out.rstrip('\n')
    assert len(line) <= width and '\x1b' not in line
    assert line.split()[:2] == ['EXPCLEANUP', 'INITIALIZED'] and line.endswith('99.0 ms')
