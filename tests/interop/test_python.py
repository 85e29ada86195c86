"""The guide of the Python kit: every program that it shows runs, and says what the guide says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from guides import run
from peers import ScriptedPeer, echo_and_reply, eventually, free_port, only_echo
from scenarios import Program, first_snippet
from stock_masters import Stock

from bridge.config import ListenerConfig, ServiceConfig
from bridge.errors import _CLASSES, BridgeError

REF = '2026-01-01_1_subject'


@pytest.fixture(scope='session')
def place(kit_of) -> Path:
    return kit_of('python')


def blocks(place: Path) -> list[str]:
    """Return the programs that the guide shows."""
    return re.findall(r'^```python\n(.*?)^```', (place / 'README.md').read_text(encoding='utf-8'), re.DOTALL | re.M)


def test_the_first_program_of_the_guide_runs_with_an_optional_service_off(place, serve):
    lamp = ServiceConfig('lamp', f'udp://127.0.0.1:{free_port()}', optional=True)
    with ScriptedPeer(echo_and_reply) as cameras:
        serve('rig0', [lamp, ServiceConfig('cameras', cameras.uri)], timeout=0.3)
        done = run([sys.executable, '-Wd', '-c', first_snippet(place, 'python')], place)
    assert (done.returncode, done.stderr) == (0, '')
    lamp_said, cameras_said = done.stdout.splitlines()
    assert lamp_said == 'lamp {}' and '2026-01-01_1_subject' in cameras_said


def test_the_program_about_errors_names_who_failed_and_why(place, serve):
    with ScriptedPeer(echo_and_reply) as cameras, ScriptedPeer(only_echo) as deaf:
        serve('rig0', {'cameras': cameras.uri, 'ephys': deaf.uri}, timeout=0.3)
        done = run([sys.executable, '-Wd', '-c', blocks(place)[1]], place)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.startswith('ephys no_reply received the command but did not reply')


def test_the_program_for_asyncio_runs(place, serve):
    with ScriptedPeer(echo_and_reply) as cameras:
        serve('rig0', {'cameras': cameras.uri})
        done = run([sys.executable, '-Wd', '-c', blocks(place)[2]], place)
    assert (done.returncode, done.stdout, done.stderr) == (0, '0 0\n', '')


@pytest.mark.parametrize(
    ('number', 'said'),
    [
        (3, [[REF, {'file': f'{REF}.avi', 'status': 20}], [{'frames': 5400, 'status': 30}]]),
        (4, [[REF, {'args': [REF, None], 'status': 20}], [{'args': [None], 'status': 30}]]),
    ],
)
def test_the_programs_that_serve_run(place, serve, number, said):
    worker = serve('rig0', listeners=(ListenerConfig('cameras', port=0),))
    with Program([sys.executable, '-Wd', '-c', blocks(place)[number]], place):
        eventually(lambda: worker._programs._behind['cameras'].client, 30)
        with Stock(worker.ports['cameras']) as master:
            assert master.run(master.services.start(REF))['cameras'] == said[0]
            assert master.run(master.services.stop())['cameras'] == said[1]


def test_there_is_no_other_program_in_the_guide(place):
    assert len(blocks(place)) == 5


def test_the_table_of_exceptions_is_that_of_the_package(place):
    import bridge

    guide = (place / 'README.md').read_text(encoding='utf-8')
    told = set(re.findall(r'^\| `(\w+)` \|', guide, re.MULTILINE))
    given = {kind.__name__ for kind in _CLASSES.values()} - {'WorkerBusy', 'Superseded'}  # of workers
    assert told == given
    assert all(issubclass(getattr(bridge, name), BridgeError) for name in told)
