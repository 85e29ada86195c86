"""Windows programs of 32 and of 64 bits on one segment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest
from actors import Rig, until, violations
from host import WindowsHost, build_actor
from programs import memory

TURNS = 50


@pytest.fixture(scope='module')
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WindowsHost]:
    host = WindowsHost(tmp_path_factory.mktemp('host'), bits=32)
    yield host
    host.close()


@pytest.fixture(scope='module')
def actors(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp('actors')
    return {bits: build_actor(folder, bits=bits) for bits in (64, 32)}


@pytest.mark.parametrize(('served_by', 'other'), [(64, 32), (32, 64)])
def test_a_worker_serves_clients_of_both_kinds_and_frees_the_slots_of_the_dead(
    host: WindowsHost, actors: dict[int, Path], tmp_path: Path, served_by: int, other: int
) -> None:
    with memory(tmp_path, f'bits-{served_by}') as place:
        rig = Rig(actors[served_by], place / 'rig', host=host)
        worker = rig.start('worker', 'refuse')
        bystander = rig.start('bystander', 'like-the-worker')
        rig.program = actors[other]
        busy = rig.start('traffic', 'other', 7)
        whole = rig.start('client', 'whole')
        assert whole.wait() == 0
        assert until(lambda: rig.turns()[0] > TURNS)
        busy.send(SIGKILL)
        assert busy.wait() == -SIGKILL
        assert until(lambda: 'other' not in rig.claimed())
        bystander.send(SIGTERM)
        assert bystander.wait() == 0

        rig.start('client', 'orphan', at='discard:5').wait()
        worker.send(SIGKILL)
        worker.wait()
        successor = rig.start('worker')  # of the other kind
        assert until(lambda: not rig.claimed())
        successor.send(SIGTERM)
        assert successor.wait() == 0
        assert violations(rig.lines(), ['other', 'orphan'], worker_died=True) == []
        rig.close()
