"""A worker is killed when it has taken a command back, or has it in line, and has not told its master yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import eventually, free_port
from processes import kill
from running_listeners import Running
from serving_programs import LEFT, Program
from stock_masters import Stock

from bridge.config import ListenerConfig
from bridge.listen import memory, rules
from bridge.listen.memory import Left
from bridge.numbers import CODES
from bridge.segment import kept

REF = '2026-01-01_1_subject'
KILLED = """
import os, signal, sys
from bridge.listen.desk import Desk
from bridge.listen import rules
from bridge.config import ListenerConfig
from bridge.worker import Worker

before = Desk._fail

def fail(self, asked, what):
    if what.startswith(sys.argv[2]):  # it was taken back, and its master is about to be told
        os.kill(os.getpid(), 9)
    before(self, asked, what)

Desk._fail = fail
worker = Worker('rig', {}, listeners=[ListenerConfig('cameras', port=int(sys.argv[1]), timeout=float(sys.argv[3]))])
print('ready', flush=True)
worker.run()
"""


class Doomed:
    """A worker in a process of its own, that kills itself before it says a sentence."""

    def __init__(self, port, before='never', timeout=60.0):
        words = [sys.executable, '-c', KILLED, str(port), before, str(timeout)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == 'ready\n'

    def __enter__(self):
        return self

    def __exit__(self, *_):
        kill(self.process)
        self.process.stdout.close()

    def is_dead(self):
        return self.process.poll() is not None


def owed():
    listeners = kept.load(Path(os.environ['IBLBRIDGE_DIR']) / 'rig', 'listeners').get('listeners', {})
    return memory.left(listeners.get('cameras'))


def told(master):
    """Return what the master is told, once it is."""
    return eventually(lambda: [(data[1], data[0]) for event, data in master.told if event == 0])


def test_what_was_taken_back_for_its_time_out_is_told_by_the_next_worker():
    port = free_port()
    doomed = Doomed(port, 'TimeoutError', 0.5)
    with doomed, Stock(port) as master, Program('rig', lambda asked: LEFT) as program:
        master.begin(master.services.start(REF))
        eventually(doomed.is_dead)
        with Running(ListenerConfig('cameras', port=port)):
            ((event, sentence),) = told(master)
            assert event == 2 and 'the worker of cameras was restarted' in sentence and 'EXPSTATUS' in sentence
            eventually(lambda: not owed())
            assert program.serving.answer(1) == CODES['IBLB_E_LATE'] and len(program.asked) == 1


def test_of_a_program_that_died_the_next_worker_tells_if_the_one_before_did_not_come_to_it():
    port = free_port()
    with Doomed(port, 'ConnectionError: the program that serves') as worker, Stock(port) as master:
        program = Program('rig', lambda asked: LEFT)
        master.begin(master.services.start(REF))
        eventually(lambda: program.asked and owed())
        program.close()
        eventually(worker.is_dead)
        with Running(ListenerConfig('cameras', port=port)):
            ((event, sentence),) = told(master)
            assert event == 2 and ('was restarted' in sentence or 'ended before it answered' in sentence)


def test_what_waited_in_line_is_told_by_the_next_worker_and_what_was_taken_is_answered():
    port = free_port()
    with Doomed(port) as worker, Stock(port) as first, Stock(port) as second:
        program = Program('rig', lambda asked: LEFT, mask=2 + 4)
        asking = first.begin(first.services.start(REF))
        eventually(lambda: program.asked)
        second.begin(second.services.stop())
        eventually(lambda: sorted(one.number for one in owed()) == [0, 1])
        kill(worker.process)
        with Running(ListenerConfig('cameras', port=port)):
            assert [event for event, _ in told(second)] == [4]
            assert not first.told
            program.serving.answer(program.asked[0]['command'], {'frames': 3})
            assert asking.result(20)['cameras'] == [REF, {'frames': 3, 'status': 20}] and not first.told
        program.close()


def test_what_was_answered_while_no_worker_lived_is_answered_and_not_said_to_be_unknown():
    port = free_port()
    with Doomed(port) as worker, Stock(port) as master, Program('rig', lambda asked: LEFT) as program:
        asking = master.begin(master.services.start(REF))
        eventually(lambda: program.asked and owed())
        kill(worker.process)
        assert program.serving.answer(program.asked[0]['command'], {'frames': 3}) > 0  # no worker
        with Running(ListenerConfig('cameras', port=port)) as running:
            assert asking.result(20)['cameras'] == [REF, {'frames': 3, 'status': 20}]
            programs = running.worker._programs
            eventually(lambda: time.perf_counter_ns() > programs._left_until > 0 and not programs._left['cameras'])
            assert not master.told and not owed()


def test_what_is_older_than_masters_wait_is_not_told():
    port = free_port()
    with Doomed(port) as worker, Stock(port) as master, Program('rig', lambda asked: LEFT) as program:
        master.begin(master.services.start(REF))
        eventually(lambda: program.asked and owed())
        kill(worker.process)
        place = kept.place(Path(os.environ['IBLBRIDGE_DIR']) / 'rig', 'listeners')
        found = json.loads(place.read_text())
        (row,) = found['listeners']['cameras']['open']
        found['listeners']['cameras']['open'] = [[row[0], row[1], 4, row[3] - 60 * 10**9, -1, 0]]
        place.write_text(json.dumps(found))
        with Running(ListenerConfig('cameras', port=port)) as running:
            programs = running.worker._programs
            eventually(lambda: time.perf_counter_ns() > programs._left_until > 0 and not programs._left['cameras'])
            assert not master.told


ROW = st.lists(st.one_of(st.integers(), st.text(max_size=3), st.none(), st.floats()), min_size=5, max_size=7)


@given(st.one_of(st.none(), ROW, st.lists(ROW)))
def test_what_is_damaged_of_what_was_owed_is_not_believed(rows):
    assert all(type(one.event) is int for one in memory.left({'open': rows}))


@pytest.mark.parametrize('event', [*rules.USUAL, *rules.QUESTIONS, rules.ALYX])
def test_what_is_owed_is_read_as_it_was_written(event):
    one = Left(('127.0.0.1', 5), event, 10, 3, 4)
    assert memory.left({'open': [memory.to_row(one)]}) == [one]
