"""What programs are told agrees with what services did and with the journal, whoever is killed meanwhile."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soaking
import soaking_both
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
@pytest.mark.parametrize('both', [False, True], ids=['one direction', 'both'])
def test_whoever_is_killed_what_was_told_is_what_was_done(tmp_path: Path, seconds: int, *, both: bool):
    report = soak(tmp_path, seconds, both=both)
    print('\n' + report.table())
    assert not report.wrong, '\n'.join(report.wrong[:20])
    kinds = ('program', 'service', 'worker', *(('camera', 'master') if both else ()))
    assert min(report.deaths[kind] for kind in kinds) > 0
    assert 0 < report.told['IBLB_OK'] < report.commands
    assert not both or report.asked['replied'] > 0
    assert 'Traceback' not in (tmp_path / 'errors').read_text()


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


ASKED: dict[str, Any] = {
    'masters': [
        {'asks': KEY, 'message': 'EXPSTART', 'time': 10},
        {'replied': KEY, 'what': ['r', {'key': KEY}], 'time': 20},
    ],
    'camera': [{'took': KEY, 'message': 'EXPSTART'}, {'answered': KEY, 'code': 0}],
    'gaps': [],
}
SECOND = 10**9


def asked(**changes: Any) -> list[str]:
    return list(soaking_both.judge(**copy.deepcopy({**ASKED, **changes})))


def came_of_it(kind: str, what: str) -> list[dict[str, Any]]:
    return [ASKED['masters'][0], {kind: KEY, 'what': what, 'time': 20}]


def test_what_a_master_was_told_and_the_camera_did_is_not_wrong():
    assert asked() == []
    assert asked(masters=came_of_it('failed', 'no film'), camera=[{'took': KEY}, {'failed': KEY, 'code': 0}]) == []
    assert asked(masters=came_of_it('failed', 'it did not answer'), camera=[{'took': KEY}]) == []
    assert asked(masters=came_of_it('failed', 'no program serves video'), camera=[]) == []
    assert asked(masters=came_of_it('nothing', 'no echo'), camera=[], gaps=[(5, 15)]) == []
    assert asked(masters=came_of_it('failed', soaking_both.UNKNOWN), gaps=[(5, 15)]) == []


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        ({'camera': [*ASKED['camera'], {'took': KEY}]}, f'was asked EXPSTART {KEY} 2 times'),
        ({'camera': [{'took': 'x'}, *ASKED['camera']]}, "was asked 'x', which no master asked"),
        ({'camera': []}, 'the camera never took it'),
        ({'camera': [{'took': KEY}, {'answered': KEY, 'code': soaking_both.LATE}]}, 'was told -80'),
        ({'masters': [ASKED['masters'][0], {'replied': KEY, 'what': ['r', {'key': 'x'}], 'time': 20}]}, 'to another'),
        ({'masters': [*ASKED['masters'], ASKED['masters'][1]]}, 'told of 2 times'),
        ({'masters': came_of_it('failed', 'no program serves video'), 'camera': [{'took': KEY}]}, 'the camera took it'),
        ({'masters': came_of_it('failed', 'it was not done')}, 'that its answer counts'),
        ({'masters': came_of_it('failed', soaking_both.UNKNOWN), 'camera': []}, 'no worker had died'),
        ({'masters': came_of_it('nothing', 'no echo'), 'camera': []}, 'no worker had died'),
        (
            {'masters': came_of_it('nothing', 'no echo'), 'camera': [], 'gaps': [(10 * SECOND, 11 * SECOND)]},
            'no worker had died',
        ),
    ],
)
def test_each_disagreement_of_masters_and_camera_is_found(changes, says):
    assert any(says in wrong for wrong in asked(**changes)), asked(**changes)
