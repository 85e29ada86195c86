"""A worker is killed when it has taken a command back, or has it in line, and has not told its master yet."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from peers import eventually, free_port
from processes import kill
from running_listeners import Running
from serving_programs import LEFT, Program
from stock_masters import Stock

from bridge.config import ListenerConfig
from bridge.listen import owed as owed_
from bridge.numbers import CODES
from bridge.segment import kept
from bridge.segment.slate import Slate

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
    return owed_.left(listeners.get('cameras'))


def changed(change):
    """Change what a worker that was killed left."""
    place = Path(os.environ['IBLBRIDGE_DIR']) / 'rig'
    found = kept.load(place, 'listeners')
    change(found)
    slate = Slate(kept.place(place, 'listeners'))
    assert slate.write(found)
    slate.close()


def older(row):
    """Return what is owed as if it had come a minute earlier, and no ring knew of it."""
    return [row[0], 4, row[2] - 60 * 10**9, -1, 0, *row[5:]]


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


def test_what_waited_in_line_is_carried_out_by_the_next_worker_after_what_was_taken():
    port = free_port()
    with Doomed(port) as worker, Stock(port) as first, Stock(port) as second:
        program = Program('rig', lambda asked: LEFT, mask=2 + 4)
        starting = first.begin(first.services.start(REF))
        eventually(lambda: program.asked)
        ending = second.begin(second.services.stop({'n': 1}))
        eventually(lambda: sorted(one.number for one in owed()) == [0, 1])
        kill(worker.process)
        with Running(ListenerConfig('cameras', port=port)):
            program.serving.answer(program.asked[0]['command'], {'frames': 3})
            assert starting.result(20)['cameras'] == [REF, {'frames': 3, 'status': 20}]
            eventually(lambda: len(program.asked) == 2)
            assert program.asked[1]['args'] == [{'n': 1}]
            program.serving.answer(program.asked[1]['command'])
            assert ending.result(20)['cameras'] == [{'status': 30}]
            assert not first.told and not second.told
        program.close()


@contextmanager
def killed_with_one_in_line(port):
    """A worker is killed while a program has an EXPSTART, and an EXPEND waits: both masters, and the program."""
    with Doomed(port) as worker, Stock(port) as first, Stock(port) as second:
        program = Program('rig', lambda asked: LEFT, mask=2 + 4)
        first.begin(first.services.start(REF))
        eventually(lambda: program.asked)
        second.begin(second.services.stop())
        eventually(lambda: len(owed()) == 2)
        kill(worker.process)
        yield first, second, program
        program.close()


def test_what_waited_in_line_while_the_pc_slept_is_not_begun_any_more_and_that_is_told():
    port = free_port()
    with killed_with_one_in_line(port) as (first, second, program):
        changed(lambda found: found.update(clocks=[found['clocks'][0], found['clocks'][1] - 3600 * 10**9]))
        with Running(ListenerConfig('cameras', port=port)):
            ((event, sentence),) = told(second)
            assert event == 4 and 'this was not begun' in sentence
            assert not first.told and len(program.asked) == 1


def test_what_waited_in_line_until_its_time_was_up_is_not_begun_any_more(monkeypatch):
    monkeypatch.setattr('bridge.worker.programs.LATE', 10**12)  # however loaded the PC is
    port = free_port()
    with killed_with_one_in_line(port) as (_, second, program):
        rows = [owed_.to_row(one._replace(arrived=one.arrived - 10 * 10**9)) for one in owed()]
        changed(lambda found: found['listeners']['cameras'].update(open=rows))
        with Running(ListenerConfig('cameras', port=port, timeout=5.0)):
            ((event, sentence),) = told(second)
            assert event == 4 and 'this was not begun' in sentence
            assert [asked['message'] for asked in program.asked] == ['EXPSTART']


def test_the_answer_to_a_start_that_no_ring_holds_any_more_names_its_experiment_and_not_a_later_one():
    port = free_port()
    with Doomed(port) as worker, Stock(port) as master, Program('rig', lambda asked: LEFT) as program:
        asking = master.begin(master.services.start(REF))
        eventually(lambda: program.asked)
        kill(worker.process)
        changed(lambda found: found['listeners']['cameras'].update(asked_ref='2026-01-01_2_another'))
        assert program.serving.answer(program.asked[0]['command']) >= 0  # it may not know yet that no worker lives
        with Running(ListenerConfig('cameras', port=port)):
            assert asking.result(20)['cameras'] == [REF, {'status': 20}]


def test_what_was_answered_while_no_worker_lived_is_answered_and_not_said_to_be_unknown():
    port = free_port()
    with Doomed(port) as worker, Stock(port) as master, Program('rig', lambda asked: LEFT) as program:
        asking = master.begin(master.services.start(REF))
        eventually(lambda: program.asked and owed())
        kill(worker.process)
        assert program.serving.answer(program.asked[0]['command'], {'frames': 3}) >= 0  # as above
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
        changed(
            lambda found: found['listeners']['cameras'].update(open=[older(*found['listeners']['cameras']['open'])])
        )
        with Running(ListenerConfig('cameras', port=port)) as running:
            programs = running.worker._programs
            eventually(lambda: time.perf_counter_ns() > programs._left_until > 0 and not programs._left['cameras'])
            assert not master.told
