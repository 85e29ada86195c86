"""Random kills by TerminateProcess of Windows clients and workers under load: 100 here, 1,000 with ``-m long``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from host import WindowsHost, build_actor
from programs import BITS, memory
from soak import Report, soak


@pytest.fixture(params=BITS, ids='{}-bit'.format)
def bits(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def host(tmp_path: Path, bits: int) -> Iterator[WindowsHost]:
    host = WindowsHost(tmp_path, bits)
    yield host
    host.close()


def kill(host: WindowsHost, folder: Path, bits: int, clients: int, workers: int) -> Report:
    with memory(folder, 'windows-kill') as place:
        report = soak(build_actor(folder, bits=bits), place / 'rig', clients=clients, workers=workers, host=host)
    print('\n' + report.table())
    assert not report.broken, '\n'.join(report.broken[:20] + host.noise[:20])
    assert (report.duplicates, report.losses) == (0, 0)
    assert report.client_kills >= clients
    assert report.worker_kills >= workers
    assert report.client_stops > 0
    assert report.worker_stops > 0
    return report


def test_nothing_is_lost_or_done_twice_in_100_kills(host, tmp_path, bits):
    kill(host, tmp_path, bits, 80, 20)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_nothing_is_lost_or_done_twice_in_1000_kills(host, tmp_path, bits, request):
    if 'long' not in (request.config.getoption('markexpr') or ''):
        pytest.skip('long: run with -m long')
    report = kill(host, tmp_path, bits, 800, 200)
    assert report.unknown > 0, 'no worker was ever killed with a command in its hands'
