"""The demo of the other direction, and the C program that is a camera in it."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from demos import demos
from peers import eventually
from running_listeners import Running
from stock_masters import Stock
from systems import APART, END_SIGNALS, ask_to_end

from bridge.cli.demo import PLAN
from bridge.cli.demo import both as demo_both
from bridge.native import IBLB
from bridge.numbers import STATUSES
from bridge.segment import inspection
from bridge.segment.client import Client
from bridge.services.stock import StockMaster, Told

REF = '2026-01-01_1_subject'
ASKED = ['EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP']


def told(**changes):
    found = {message: Told(STATUSES[status], [], '', 0.001) for message, status in demo_both.EXPECTED.items()}
    return list((found | changes).items())


def test_what_went_well_has_nothing_wrong_and_anything_else_is_named():
    assert demo_both.judge(told(), ASKED) == []
    (wrong,) = demo_both.judge(told(EXPEND=Told(-1, [], 'TimeoutError: nobody', 1.0)), ASKED)
    assert wrong == 'EXPEND: the master was told TimeoutError: nobody, instead of STOPPED.'
    (wrong,) = demo_both.judge(told(EXPSTART=Told(10, [], '', 1.0)), ASKED)
    assert 'it is said to be INITIALIZED, instead of RUNNING' in wrong
    assert 'the C program was asked nothing' in demo_both.judge(told(), [])[0]
    assert 'only EXPINFO' in demo_both.judge(told()[:1], ASKED)[0]


def test_a_stock_master_commands_a_c_program_and_nothing_is_left(tmp_path):
    with demos(tmp_path) as start:
        run = start('--both')
        assert run.finish() == 0, run.output
        _, other = run.output.split('The other way round')
        rows = [line.split(maxsplit=4) for line in other.splitlines() if line.startswith('  EXP')]
        assert [(row[0], row[1]) for row in rows] == list(demo_both.EXPECTED.items())
        assert [row[0] for row in rows] == [message for message, _ in PLAN]
        (ended,) = json.loads(rows[4][4])
        assert ended['frames'] > 0 and ended['status'] == 30
        assert re.search(r'listens at udp://127\.0\.0\.1:\d+ as video', other)
        assert 'The C program did what its master asked.' in other
        assert run.left() == []


def test_what_the_c_program_was_told_stands_before_the_other_direction_which_has_another_one(tmp_path):
    with demos(tmp_path) as start:
        run = start('--both', '--fail', 'cameras')
        assert run.finish() == 0, run.output
    assert 0 < run.output.index('What the C program was told') < run.output.index('The other way round')


def test_a_rig_that_stays_with_both_directions_says_where_masters_find_it(tmp_path):
    """One had to ask the worker for the port that it had taken."""
    with demos(tmp_path) as start:
        run = start('--stay', '--both', '--segment', 'rig0')
        run.read_until('and a C program as the camera: .+ camera rig0 video')
        assert (found := re.search(r'listener +video at (udp://127\.0\.0\.1:\d+), for masters', run.output)), run.output
        master = StockMaster(found[1], 'video')
        try:
            assert 'no program serves' in master.command('EXPINIT', None).error
        finally:
            master.close()
        ask_to_end(run.process, END_SIGNALS[0])
        run.finish()
        assert run.left() == []


@pytest.mark.parametrize('name', END_SIGNALS)
@pytest.mark.parametrize(
    'row', ['INITIALIZED +[0-9.]+ ms +.10', r'RUNNING +[0-9.]+ ms +.20\]'], ids=['begun', 'running']
)
def test_a_signal_in_the_other_direction_leaves_nothing(tmp_path, name, row):
    with demos(tmp_path) as start:
        run = start('--both')
        run.read_until(row)
        ask_to_end(run.process, name)
        assert run.finish() not in (0, 1), run.output
        assert run.left() == [] and 'Stopped by' in run.output


class Camera:
    """``iblb camera`` in a process of its own."""

    def __init__(self, *words):
        pipe = subprocess.PIPE
        command = [IBLB, 'camera', 'rig', *words]
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, encoding='utf-8', **APART)

    def __enter__(self):
        assert self.process.stdout.readline() == 'serving\n'
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def test_the_camera_of_the_tool_does_what_a_camera_does():
    with Running() as running, Camera('cameras') as camera, Stock(running.port) as master:
        (listener,) = inspection.inspect('rig').listeners
        assert (listener.client, listener.pid) == ('camera', camera.process.pid)
        assert master.run(master.services.init({'exp_ref': REF}))['cameras'] == [10, {'exp_ref': REF}]
        assert master.run(master.services.start(REF))['cameras'] == [REF, {'status': 20}]
        master.begin(master.services.start('2026-01-01_2_subject'))
        eventually(lambda: [data for event, data in master.told if event == 0 and 'records already' in data[0]])
        assert json.loads(camera.process.stdout.readline())['message'] == 'EXPINIT'
    said = StockMaster('udp://127.0.0.1:9', 'nobody', timeout=0.1)
    assert said.command('EXPINIT', None).error
    said.close()


@pytest.mark.posix('SIGTERM there is the end of a process, and no signal')
def test_the_camera_of_the_tool_ends_in_order_by_a_signal():
    with Running(), Client('rig', 'stimulus') as client, Camera() as camera:
        client.subscribe('CLIENT_LOST')
        camera.process.terminate()
        assert camera.process.wait(20) == 0
        Client('rig', 'last').abandon()
        assert client.next_event(20)['client'] == 'last'


def test_the_camera_of_the_tool_ends_when_the_rig_is_removed():
    running = Running()
    with Camera() as camera:
        running.worker.stop()
        running._thread.join(20)
        running.worker.close(remove=True)
        assert camera.process.wait(20) == 3 and 'IBLB' not in camera.process.stdout.read()


@pytest.mark.parametrize(
    ('words', 'says'),
    [
        (['camera'], 'the name of the segment is missing'),
        (['camera', 'rig', 'a', 'b'], 'one word too many behind the name of the listener'),
        (['camra', 'rig'], 'did you mean camera?'),
        (['camera', 'rig', 'ephys'], 'does not listen as "ephys"; there are: cameras'),
    ],
)
def test_what_makes_no_sense_to_the_camera_is_said(words, says):
    with Running():
        done = subprocess.run([IBLB, *words], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 2 and says in done.stderr
