"""What programs are told agrees with what services did and with the journal, whoever is killed meanwhile."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soaking
from soaking import Report, judge, soak

KEY, ID = 'p0-1-1', '00-00-1'
ENTRY = {'name': 'cameras', 'ok': True, 'state': 'answered', 'data': {'value': {'key': KEY}}}
BODY = {'command_id': ID, 'code': 0, 'services': [ENTRY], 'sent': 10**9, 'finished': 2 * 10**9}
TRUTH: dict[str, Any] = {
    'programs': [{'sends': KEY, 'message': 'EXPSTART'}, {'told': KEY, 'code': 'IBLB_OK', 'body': BODY}],
    'services': {'cameras': [{'heard': 'EXPSTART', 'key': KEY}]},
    'journal': [{'kind': 'command', 'command_id': ID}, {'kind': 'outcome', **BODY}],
    'killed': [],
}


@pytest.mark.posix('a program waits for the end of its standard input by select')
@pytest.mark.timeout(3600)
@pytest.mark.slow
@pytest.mark.parametrize('seconds', [20, pytest.param(600, marks=pytest.mark.long)])
def test_programs_worker_and_services_are_killed_and_what_was_told_is_what_was_done(tmp_path: Path, seconds: int):
    report = soak(tmp_path, seconds)
    print('\n' + report.table())
    assert not report.wrong, '\n'.join(report.wrong[:20])
    assert min(report.deaths[kind] for kind in ('program', 'service', 'worker')) > 0
    assert 0 < report.told['IBLB_OK'] < report.commands


def judged(change: Callable[[dict[str, Any]], None] = lambda truth: None) -> list[str]:
    truth, report = copy.deepcopy(TRUTH), Report()
    change(truth)
    judge(report, **truth)
    return report.wrong


def test_the_truth_is_not_wrong():
    assert judged() == []


def set_entry(**values: Any) -> Callable[[dict[str, Any]], None]:
    def change(truth: dict[str, Any]) -> None:
        for body in (truth['programs'][1]['body'], truth['journal'][1]):
            body['services'][0].update(values)

    return change


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (lambda truth: truth['services']['cameras'].clear(), 'never heard it'),
        (lambda truth: truth['services']['cameras'].append(truth['services']['cameras'][0]), 'EXPSTART p0-1-1 2 times'),
        (lambda truth: truth['programs'].pop(0), 'which nobody sent'),
        (set_entry(ok=False, state='not_sent', data={}), 'was not sent to cameras, which heard it'),
        (set_entry(data={'value': ['ref', {'key': 'another'}]}), 'the answer to another'),
        (
            lambda truth: truth['programs'][1].update(body=None, code='IBLB_E_NOT_SENT'),
            'IBLB_E_NOT_SENT, and was heard',
        ),
        (lambda truth: truth['journal'].pop(), 'no outcome in the journal'),
        (lambda truth: truth['journal'].append(truth['journal'][1]), '1 commands with 2 outcomes'),
        (lambda truth: truth['journal'].append(truth['journal'][0]), '2 commands with 1 outcomes'),
        (lambda truth: truth['journal'][1].update(code=-8071), 'the journal says'),
    ],
)
def test_each_disagreement_is_found(change, says):
    (wrong,) = judged(change)
    assert says in wrong


def test_what_a_kill_of_the_worker_tore_is_no_disagreement():
    for change in (lambda truth: truth['journal'].pop(), lambda truth: truth['journal'].append(truth['journal'][1])):

        def torn(truth: dict[str, Any], change: Any = change) -> None:
            truth['killed'].append((2 * 10**9, 3 * 10**9))
            change(truth)

        assert judged(torn) == []


def test_the_soak_by_hand_takes_ten_minutes():
    assert soaking.__doc__ is not None and '--seconds 600' in soaking.__doc__
