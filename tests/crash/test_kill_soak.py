"""Random kills of clients and workers, for some seconds here and for as long as wanted with soak.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from actors import build, compiler, folder_in_memory, read_log
from soak import Report, soak, soak_with_services


@pytest.fixture
def folder(segment_directory: Path) -> Iterator[Path]:
    """A directory in memory, if there is one."""
    with folder_in_memory('kill', segment_directory) as path:
        yield path


def show(report: Report) -> None:
    print('\n' + report.table())
    assert not report.broken, '\n'.join(report.broken[:20])
    assert (report.duplicates, report.losses) == (0, 0)


def need_compiler() -> None:
    if compiler() is None:
        if 'CI' in os.environ:
            pytest.fail('there is no C compiler')
        pytest.skip('there is no C compiler')


@pytest.mark.slow
def test_nothing_is_lost_or_done_twice_while_clients_and_workers_are_killed(folder):
    need_compiler()
    report = soak(build(folder), folder / 'rig', seconds=8)
    show(report)
    assert report.client_kills > 50
    assert report.worker_kills > 10
    assert report.client_stops > 10
    assert report.worker_stops > 1
    assert report.unknown > 0, 'no worker was ever killed with a command in its hands'


@pytest.mark.slow
def test_no_service_receives_a_command_twice_while_the_python_worker_is_killed(folder):
    report = soak_with_services(folder / 'rig', seconds=10, kills=5)
    show(report)
    assert report.worker_kills >= 5
    assert report.messages > 10


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_ten_thousand_clients_and_a_thousand_workers_are_killed(folder, request):
    if 'long' not in (request.config.getoption('markexpr') or ''):
        pytest.skip('long: run with -m long')
    need_compiler()
    report = soak(build(folder), folder / 'rig', clients=10_000, workers=1_000)
    show(report)
    assert report.client_kills >= 10_000
    assert report.worker_kills >= 1_000


def test_half_a_line_of_a_killed_actor_swallows_no_other(tmp_path):
    """A write that SIGKILL ends at the boundary of a page: what came next was read as the rest of it."""
    (tmp_path / 'log').write_text('\n1 c7 try c7-1-plain .\n2 c7 try c7\n3 bystander try bystander-1-plain .')
    assert [(line.ns, line.command) for line in read_log(tmp_path / 'log')] == [
        (1, 'c7-1-plain'),
        (3, 'bystander-1-plain'),
    ]
