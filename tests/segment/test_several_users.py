"""Several users on one computer: who has no segment is told of another user's, and a directory of a group is shared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import StockServer
from sources import ROOT
from systems import WINDOWS

from bridge.cli import main
from bridge.native import PREFIX
from bridge.segment.client import Client
from bridge.segment.served import Segment

IBLB = PREFIX / 'bin' / 'iblb'
MANUAL = ROOT / 'bridge' / 'README.md'
ANNA, BOB, GROUP = 54321, 54322, 54323
SHM = Path('/dev/shm')  # noqa: S108

pytestmark = pytest.mark.skipif(
    WINDOWS or not SHM.is_dir() or os.getuid() != 0, reason='needs root on Linux, to be several users'
)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Path]:
    """The program iblb and its library, where every user may run it."""
    folder = Path('/var/tmp') / f'iblbridge-users-{os.getpid()}'  # noqa: S108 (pytest's own folders are for one user)
    for name in ('bin', 'lib'):
        shutil.copytree(PREFIX / name, folder / name)
    folder.chmod(0o755)
    yield folder / 'bin' / 'iblb'
    shutil.rmtree(folder)


@pytest.fixture
def own_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of segments of a user Anna; nobody is told where segments are by the environment."""
    monkeypatch.delenv('IBLBRIDGE_DIR')
    folder = SHM / f'iblbridge-{ANNA}'
    folder.mkdir(mode=0o700)
    os.chown(folder, ANNA, ANNA)
    yield folder
    shutil.rmtree(folder)


def state(program: Path, user: int, segment: str = 'rig', **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``iblb state`` as a user."""
    words = [program, 'state', segment, '--open', '0']
    return subprocess.run(
        words, user=user, group=user, extra_groups=[GROUP], env=environment, capture_output=True, text=True, check=False
    )


def test_who_has_no_segment_is_told_that_another_user_may_have_it_and_how_to_share(program, own_directory, capsys):
    said = state(program, BOB)
    assert said.returncode == 3
    assert (
        f'User {ANNA} has a directory of segments, {own_directory}: if rig is there, run this program as' in said.stderr
    )
    assert 'IBLBRIDGE_DIR that a group can write to' in said.stderr and 'Else start the worker' in said.stderr
    main(['doctor'])
    assert f'{own_directory}: segments of another user' in capsys.readouterr().out


def test_who_can_see_that_another_user_has_it_is_not_told_to_start_a_second_worker(own_directory):
    name = f'rig-{os.getpid()}'
    (own_directory / name).touch()
    said = subprocess.run([IBLB, 'state', name, '--open', '0'], capture_output=True, text=True, check=False)
    assert f'but user {ANNA} has one of that name: {own_directory}/{name}' in said.stderr
    assert 'start the worker' not in said.stderr.lower()


def test_a_user_is_not_told_of_his_own_directory(program, own_directory):
    said = state(program, ANNA, f'rig-{os.getpid()}')
    assert f'{own_directory}/rig-' in said.stderr and f'ser {ANNA}' not in said.stderr


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that is made as the manual says."""
    (line,) = re.findall(r'^install -d .*$', MANUAL.read_text(encoding='utf-8'), re.MULTILINE)
    *words, named = line.split()
    folder = Path(f'{named}-{os.getpid()}')
    words[words.index('-g') + 1] = str(GROUP)
    subprocess.run([*words, folder], check=True)
    yield folder
    shutil.rmtree(folder)


def test_members_of_a_group_share_a_rig_as_the_manual_says_and_nobody_else(program, shared, serve, monkeypatch):
    monkeypatch.setenv('IBLBRIDGE_DIR', str(shared))
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        words = [program, 'call', 'rig', 'EXPSTATUS']
        who = {'user': BOB, 'group': BOB, 'env': {'IBLBRIDGE_DIR': str(shared)}}
        fine = subprocess.run(words, extra_groups=[GROUP], capture_output=True, text=True, check=False, **who)
        assert (fine.returncode, fine.stderr) == (0, '')
        stranger = subprocess.run(words, extra_groups=[], capture_output=True, text=True, check=False, **who)
        assert stranger.returncode == 3 and 'Permission denied' in stranger.stderr
        with Client('rig') as client:
            assert client.call('EXPSTATUS')['code'] == 0
    assert len(server.saw) == 2


def test_who_has_forgotten_the_shared_directory_is_reminded_of_it(program, shared, monkeypatch):
    monkeypatch.setenv('IBLBRIDGE_DIR', str(shared))
    name = f'rig-{os.getpid()}'
    with Segment(name):
        said = state(program, BOB, name)
    assert f'but one at {shared}/{name}. To use it, set IBLBRIDGE_DIR={shared}.' in said.stderr
