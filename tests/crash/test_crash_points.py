"""Every point at which a process can be killed or stopped between two accesses of shared memory, tried one by one.

The usual run kills at every point and stops (SIGSTOP) at every third. All of them, with the counts:
``pytest tests/crash/test_crash_points.py -m "slow or not slow" -s``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT, SIGTERM

import pytest
from actors import CSRC, KILLED, Process, Rig, build, folder_in_memory, need_compiler, until, violations
from points import Points, Rigs, count_points, run_client_side, run_worker_side

pytestmark = pytest.mark.timeout(900)  # hundreds of processes, however loaded the PC is
FIRST = ('respond stack:5', 'accept leave:20')  # a first worker that leaves several commands accepted, and several not
MOST = 5000  # points of one side; 1,300 and 1,900 are usual
SECOND = 250  # points of a successor that adopts what a dead worker left, and begins to serve


@pytest.fixture(scope='module')
def folder() -> Iterator[Path]:
    """A directory in memory."""
    need_compiler()
    with folder_in_memory('crash') as path:
        yield path


@pytest.fixture(scope='module')
def rigs(folder: Path) -> Iterator[Rigs]:
    rigs = Rigs(build(folder), folder)
    yield rigs
    rigs.close()


@pytest.fixture(scope='module')
def counted(rigs: Rigs) -> Points:
    points = count_points(rigs)
    assert max(len(points.client), len(points.worker)) < MOST, 'an actor spins: no end of points, and none of them new'
    return points


@pytest.fixture(params=[5, pytest.param(1, marks=pytest.mark.slow)], ids=['some', 'all'])
def every(request: pytest.FixtureRequest) -> int:
    """Which points are tried: every fifth, or all."""
    return int(request.param)


def test_a_client_may_die_at_any_point(rigs, counted):
    result = run_client_side(rigs, counted.client, ['exit'])
    print('\n' + result.row('client, killed'))
    assert not result.found, '\n'.join(result.found[:20])
    assert result.exits > 300
    assert len(result.missed) < 0.2 * result.points, result.missed
    assert len(result.places) > 50


def test_a_client_may_stand_still_at_any_point(rigs, counted, every):
    result = run_client_side(rigs, counted.client[::every], ['stop'])
    print('\n' + result.row('client, stopped'))
    assert not result.found, '\n'.join(result.found[:20])
    assert result.stops > 300 / every


def test_a_worker_may_die_at_any_point(rigs, counted):
    result = run_worker_side(rigs, [[point] for point in counted.worker], ['exit'])
    print('\n' + result.row('worker, killed'))
    assert not result.found, '\n'.join(result.found[:20])
    assert result.exits > 500
    assert len(result.missed) < 0.25 * result.points, result.missed


def test_a_worker_may_stand_still_at_any_point_and_no_second_one_gets_in(rigs, counted, every):
    result = run_worker_side(rigs, [[point] for point in counted.worker[::every]], ['stop'])
    print('\n' + result.row('worker, stopped'))
    assert not result.found, '\n'.join(result.found[:20])
    assert result.stops > 500 / every


def test_a_worker_may_die_while_it_takes_over_from_a_dead_one(rigs, counted, every):
    faults = [[first, f':{point}'] for first in FIRST for point in range(1, SECOND, every)]
    result = run_worker_side(rigs, faults, ['exit'])
    print('\n' + result.row('worker, killed twice'))
    assert not result.found, '\n'.join(result.found[:20])
    assert result.exits > len(faults) * 1.5


def stop_worker(worker: Process) -> None:
    worker.send(SIGTERM)
    worker.wait()


def left_in_order(rigs: Rigs, how: str) -> Rig:
    """Return a rig without a worker, and with one slot for clients, that a client has left in order."""
    rig = rigs.make(2)
    worker = rig.start('worker', 'refuse')
    assert until(lambda: any(line.what == 'serving' for line in rig.lines()))
    stop_worker(worker)
    assert rig.start(how, 'first').wait() == 0
    assert 'first' in rig.claimed()
    return rig


@pytest.mark.parametrize('how', ['visit', 'leave'], ids=['with nothing pending', 'with commands pending'])
@pytest.mark.parametrize('action', ['exit', 'stop'])
def test_a_client_may_die_or_stand_still_while_it_claims_what_another_left_without_a_worker(rigs, every, action, how):
    rig = left_in_order(rigs, how)
    arriving = rig.start('arrive', 'counted', count=rig.folder / 'count')
    assert until(lambda: any(line.what == 'opened' and line.who == 'counted' for line in rig.lines()))
    worker = rig.start('worker', 'refuse')
    assert arriving.wait() == 0
    points = sum(line.startswith('arrive ') for line in (rig.folder / 'count').read_text().splitlines())
    stop_worker(worker)
    rig.close()
    print(f'\n{points} points')
    assert points > 30
    for point in range(1, points + 1, every):
        rig = left_in_order(rigs, how)
        dies = rig.start('arrive', 'dies', at=f'arrive:{point}', action=action)
        assert dies.wait(stops=True) == (KILLED if action == 'exit' else None), point
        again = rig.start(how, 'again')  # before the worker, or after it
        worker = rig.start('worker', 'refuse')
        assert until(lambda: sum(line.what == 'serving' for line in rig.lines()) == 2)  # noqa: B023
        dies.send(SIGCONT)
        assert again.wait() == 0, point
        assert dies.wait() == (KILLED if action == 'exit' else 0), point
        assert rig.start('knock', 'next').wait() == 0, point
        assert until(lambda: not rig.claimed()), point  # noqa: B023
        stop_worker(worker)
        assert violations(rig.lines(), ['dies'] if action == 'exit' else []) == [], point
        rig.close()


def test_a_client_that_is_faster_than_the_worker_is_not_told_that_a_service_is_unknown(rigs):
    rig = rigs.make(2)
    probe = rig.start('worker', count=rig.folder / 'count')
    until(lambda: any(line.what == 'serving' for line in rig.lines()))
    probe.send(SIGTERM)
    assert probe.wait() == 0
    made = sum(line.startswith('make ') for line in (rig.folder / 'count').read_text().splitlines())
    rig.close()

    rig = rigs.make(2)
    worker = rig.start('worker', at=f'make or adopt:{made}', action='stop')
    assert worker.wait(stops=True) is None
    client = rig.start('knock', 'early')
    until(lambda: 'early' in rig.claimed())
    worker.send(SIGCONT)
    client.wait()
    worker.send(SIGTERM)
    worker.wait()
    assert violations(rig.lines()) == []
    rig.close()


# --- the tests can fail ---

ANSWERED_FIRST = [
    (
        'worker.c',
        r'(else if \(!view->reclaimed && [^{]*\{\n)(.*?place_response)',
        r'\1        store64_release(control, (uint64_t)worker->epoch << 32 | STATE_ANSWERED);\n\2',
    )
]
ACCEPT_BY_STORE = [
    (
        'worker.c',
        r'!swap_if64\(control, STATE_PUBLISHED, \(uint64_t\)worker->epoch << 32 \| STATE_ACCEPTED\)',
        r'(store64_release(control, (uint64_t)worker->epoch << 32 | STATE_ACCEPTED), 0)',
    )
]
DISPATCHES_ORPHANS = [
    ('worker.c', r'\(uint32_t\)control == STATE_ACCEPTED \? \(uint32_t\)IBLBW_ORPHAN : 0', r'control == 0'),
    ('worker.c', r'!swap_if64\(control, STATE_PUBLISHED,', r'!swap_if64(control, load64_acquire(control),'),
]
FREED_TOO_EARLY = [
    (
        'view.c',
        r'(ring_tail\(&view->slot\.command, view->head, &tail\) != RING_EMPTY)\)\n(\s+)return;',
        r'\1 && 0)\n\2return;',
    ),
    ('worker.c', r'if \(sweep \|\|', 'if (1 ||'),  # a sweep in each pass, so that one soon falls between two commands
]
PUBLISHED_TOO_EARLY = [
    (
        'commands.c',
        r'(    shared_write\(space\.record, &record, sizeof record\);\n)',
        r'    ring_publish(ring, &space);\n\1',
    )
]
ADVANCED_TOO_EARLY = [
    (
        'view.c',
        r'state_of\(control\) != STATE_ANSWERED && state_of\(control\) != STATE_CANCELLED\)',
        r'state_of(control) == STATE_PUBLISHED)',
    )
]

NOTHING_WIPED = [('worker.c', r'(header->state\)) != (SLOT_FREE\)) \{', r'\1 == \2 {')]


def plant(bug: list[tuple[str, str, str]], folder: Path) -> Path:
    """Copy the library's sources with a bug in them."""
    sources = folder / 'csrc'
    shutil.copytree(CSRC, sources)
    for name, pattern, replacement in bug:
        text, count = re.subn(pattern, replacement, (sources / name).read_text(), count=1, flags=re.DOTALL)
        assert count == 1, f'{name} has changed: plant this bug anew'
        (sources / name).write_text(text)
    return sources


@pytest.mark.slow
@pytest.mark.parametrize(
    ('bug', 'side'),
    [
        pytest.param(ANSWERED_FIRST, 'worker', id='marked answered before the response is placed'),
        pytest.param(ACCEPT_BY_STORE, 'client', id='accepted without compare-and-swap'),
        pytest.param(DISPATCHES_ORPHANS, 'worker', id='a successor takes what was accepted for its own'),
        pytest.param(FREED_TOO_EARLY, 'client', id='a slot is freed before its commands are answered'),
        pytest.param(PUBLISHED_TOO_EARLY, 'client', id='published before it is written'),
        pytest.param(ADVANCED_TOO_EARLY, 'worker', id='room is given back before the answer'),
        pytest.param(NOTHING_WIPED, 'worker', id='what a dead worker had begun to write is left'),
    ],
)
def test_a_planted_bug_is_found(bug, side, counted, folder, tmp_path):
    sources = plant(bug, tmp_path)
    inner = folder / f'planted-{tmp_path.name}'
    inner.mkdir(mode=0o700)
    rigs = Rigs(build(tmp_path, sources), inner, patience=1.0)
    try:
        for third in range(3):  # one is enough, unless the bug is a race that was not met there
            if side == 'client':
                result = run_client_side(rigs, counted.client[third::3], ['exit'], quick=True)
            else:
                result = run_worker_side(rigs, [[point] for point in counted.worker[third::3]], ['exit'], quick=True)
            if result.found:
                break
    finally:
        rigs.close()
    print(f'\nfound after {result.exits} kills: {result.found[:1]}')
    assert result.found
