"""Every point at which a Windows program can be ended between two accesses of shared memory, tried one by one.

As ``tests/crash/test_crash_points.py``, with its actors and its judge: the one that comes to its point ends itself with
TerminateProcess, the others go on. Two things are tried with ``-m "long or not long"`` only: every point at which a
worker looks for commands (it does so again and again: here it is every third), and standing still at every point (here
every twentieth). 32-bit actors go the same way where ``WINE32`` runs them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from host import WindowsHost, build_actor
from points import Points, Rigs, count_points, run_client_side, run_worker_side
from programs import BITS, memory
from test_crash_points import ANSWERED_FIRST, FREED_TOO_EARLY, plant

pytestmark = pytest.mark.timeout(600)
FIRST = ('respond stack:5', 'accept leave:20')  # a first worker that leaves several commands accepted, and several not
SECOND = 250  # points of a successor that adopts what a dead worker left, and begins to serve


@pytest.fixture(scope='module', params=BITS, ids='{}-bit'.format)
def bits(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope='module')
def rigs(tmp_path_factory: pytest.TempPathFactory, bits: int) -> Iterator[Rigs]:
    place = tmp_path_factory.mktemp('crash')
    with memory(place, f'windows-crash-{bits}') as folder:
        host = WindowsHost(place, bits)
        rigs = Rigs(build_actor(place, bits=bits), folder, host=host)
        yield rigs
        rigs.close()
        host.close()


@pytest.fixture(scope='module')
def counted(rigs: Rigs) -> Points:
    return count_points(rigs)


@pytest.fixture
def all_of_them(request: pytest.FixtureRequest) -> bool:
    return 'long' in (request.config.getoption('markexpr') or '').replace('not long', '')


@pytest.fixture
def some(counted: Points, all_of_them: bool) -> Points:
    """Return the points at which a process stands still."""
    return counted if all_of_them else Points(counted.client[::20], counted.worker[::20])


def test_a_client_may_die_at_any_point(rigs, counted):
    result = run_client_side(rigs, counted.client, ['exit'])
    print('\n' + result.row('client, killed'))
    assert not result.found, '\n'.join(result.found[:20])
    assert result.exits > 300
    assert len(result.missed) < 0.2 * result.points, result.missed
    assert len(result.places) > 50


def test_a_client_may_stand_still_at_any_point(rigs, some):
    result = run_client_side(rigs, some.client, ['stop'])
    print('\n' + result.row('client, stopped'))
    assert not result.found, '\n'.join(result.found[:20])
    assert result.stops > len(some.client) / 2


def test_a_worker_may_die_at_any_point(rigs, counted, all_of_them):
    looking = [point for point in counted.worker if point.startswith('take:')]
    others = [point for point in counted.worker if not point.startswith('take:')]
    points = others + (looking if all_of_them else looking[::3])
    result = run_worker_side(rigs, [[point] for point in points], ['exit'])
    print('\n' + result.row('worker, killed'))
    assert not result.found, '\n'.join(result.found[:20])
    assert len(others) > 500
    assert result.exits > len(others)
    assert len(result.missed) < 0.25 * result.points, result.missed


def test_a_worker_may_stand_still_at_any_point_and_no_second_one_gets_in(rigs, some):
    result = run_worker_side(rigs, [[point] for point in some.worker], ['stop'])
    print('\n' + result.row('worker, stopped'))
    assert not result.found, '\n'.join(result.found[:20])
    assert result.stops > len(some.worker) / 2


def test_a_worker_may_die_while_it_takes_over_from_a_dead_one(rigs, all_of_them):
    faults = [[first, f':{point}'] for first in FIRST for point in range(1, SECOND, 1 if all_of_them else 10)]
    result = run_worker_side(rigs, faults, ['exit'])
    print('\n' + result.row('worker, killed twice'))
    assert not result.found, '\n'.join(result.found[:20])
    assert result.exits > len(faults) * 1.5


@pytest.mark.parametrize(
    ('bug', 'side'),
    [
        pytest.param(ANSWERED_FIRST, 'worker', id='marked answered before the response is placed'),
        pytest.param(FREED_TOO_EARLY, 'client', id='a slot is freed before its commands are answered'),
    ],
)
def test_a_planted_bug_is_found(bug, side, counted, rigs, bits, tmp_path):
    with memory(tmp_path, f'windows-planted-{side}') as folder:
        bad = Rigs(build_actor(tmp_path, plant(bug, tmp_path), bits), folder, patience=1.0, host=rigs.host)
        for part in range(4):
            if side == 'client':
                result = run_client_side(bad, counted.client[part::4], ['exit'], quick=True)
            else:
                points = [point for point in counted.worker if point.startswith('respond')]
                result = run_worker_side(bad, [[point] for point in points[part::4]], ['exit'], quick=True)
            if result.found:
                break
        bad.close()
    print(f'\nfound after {result.exits} kills: {result.found[:1]}')
    assert result.found
