"""A worker is killed at any line that it runs between a master's datagram and the confirmation of its answer.

Here at every 41st, with ``-m long`` at every fifth; and the next one at lines of what it does about what is left.
The master hears what became of it from the next worker, long before it gives up: the truth, and nothing is done twice.
What it asked when no echo had left it knows by that. (What the C functions do in between: ``tests/crash``.)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from peers import eventually, free_port
from processes import kill
from running_listeners import Running
from serving_programs import Program
from stock_masters import Stock

from bridge.config import ListenerConfig
from bridge.listen import owed as owed_
from bridge.segment import kept
from bridge.worker import programs

pytestmark = pytest.mark.posix('workers are forked, hundreds of them')
MORE = pytest.param(5, marks=pytest.mark.long)  # every fifth line

REF = '2026-01-01_1_subject'
NURSERY = r"""
import os, signal, sys, threading, time
from bridge.worker import programs
from bridge.config import ListenerConfig
from bridge.listen.desk import Desk
from bridge.worker import Worker

programs.LATE = 10**12  # however loaded the PC is

TRACED = ('bridge/listen/', 'bridge/worker/programs.py', 'bridge/worker/behind.py', 'bridge/worker/listener_notes.py',
          'bridge/segment/slate.py', 'bridge/segment/serving.py', 'bridge/segment/served.py')

def say(*words):
    os.write(1, (' '.join(map(str, words)) + '\n').encode())  # whole, or not at all: it may be killed in between

def live(port, point, armed):
    lines, there, came = 0, threading.Event(), threading.Event()
    before = Desk.received

    def received(self, datagram, address, now, **how):
        if datagram.startswith(b'[%d,' % armed):
            there.set()
        before(self, datagram, address, now, **how)
        if there.is_set():
            came.set()

    Desk.received = received
    if not armed:
        there.set()
        came.set()

    def trace(frame, event, argument):
        nonlocal lines
        if not any(part in frame.f_code.co_filename for part in TRACED):
            return None
        if event == 'line' and there.is_set():
            lines += 1
            if lines == point:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)
    worker = Worker('rig', {}, listeners=[ListenerConfig('cameras', port=port, timeout=60.0)])
    threading.settrace(None)
    sys.settrace(None)

    def tell():
        came.wait()
        desk = worker._programs._servers['cameras'].desk
        while desk.has_news:
            time.sleep(0.002)
        say('there')
        while not worker._programs.is_quiet or desk.owed or worker._programs._left['cameras']:
            time.sleep(0.002)
        say('quiet', lines)

    say('ready', os.getpid())
    threading.Thread(target=tell, daemon=True).start()
    worker.run()

for line in sys.stdin:
    if not (pid := os.fork()):
        live(*map(int, line.split()))
        os._exit(0)
    os.waitpid(pid, 0)
    say('dead')
"""


class Nursery:
    """Makes workers that are killed at their n-th line after a command of this number came; 0: from their beginning."""

    def __init__(self):
        pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
        self.process = subprocess.Popen([sys.executable, '-c', NURSERY], **pipes)
        self.pid = 0

    def begin(self, port, point, armed):
        self.process.stdin.write(f'{port} {point} {armed}\n')
        self.process.stdin.flush()
        word, *pid = self.hear()
        assert word == 'ready' or (word == 'dead' and not armed)
        self.pid = int(pid[0]) if pid else 0

    def hear(self):
        return self.process.stdout.readline().split()

    def end(self):
        with suppress(ProcessLookupError):  # it may have run on to its line meanwhile
            os.kill(self.pid, signal.SIGKILL)
        while self.hear() != ['dead']:
            pass


@pytest.fixture
def nursery(segment_directory, monkeypatch):
    monkeypatch.setattr(programs, 'LATE', 10**12)
    nursery = Nursery()
    yield nursery
    if nursery.pid:
        with suppress(ProcessLookupError):
            os.kill(nursery.pid, signal.SIGKILL)
    nursery.process.stdin.close()
    kill(nursery.process)
    nursery.process.stdout.close()


class Asking:
    """A stock master with one command, of which it hears in some way."""

    def __init__(self, port, event):
        self.master, self.event = Stock(port, timeout=60.0), event
        ask = self.master.services
        ways = {2: lambda: ask.start(REF), 4: ask.stop, 16: lambda: ask.stop(immediately=True)}
        self.future = self.master.begin(ways[event]())

    def heard(self):
        """Return ok, the error's sentence, or that no echo came; None: nothing yet."""
        if self.future.done():
            if self.future.exception() is None:
                self.reply = self.future.result()['cameras']
                return 'ok'
            assert not self.master.is_open  # after 1 s without an echo
            return 'no echo'
        errors = [data[0] for event, data in self.master.told if event == 0 and data[1] == self.event]
        return errors[0] if errors else None


def owed():
    found = kept.load(Path(os.environ['IBLBRIDGE_DIR']) / 'rig', 'listeners').get('listeners', {})
    return owed_.left(found.get('cameras'))


def lives_until(nursery, point, events):
    """Kill the worker at a line after the last of these commands came; return how many there were, if it lived on."""
    port, gate, masters = free_port(), threading.Event(), []
    nursery.begin(port, point, events[-1])
    with Program('rig', lambda asked: gate.wait(60) and None) as program:
        for event in events:
            masters.append(Asking(port, event))
            if event != events[-1]:
                eventually(lambda event=event: program.asked or event != events[0])
        word = nursery.hear()
        gate.set()
        if word == ['there']:
            word = nursery.hear()
        if word[0] == 'quiet':
            told = [eventually(one.heard, 30) for one in masters]
            nursery.end()
        else:
            assert word == ['dead']
            with Running(ListenerConfig('cameras', port=port, timeout=60.0)):
                told = [eventually(one.heard, 30) for one in masters]
        check(told, masters, Counter(asked['message'] for asked in program.asked))
    for one in masters:
        one.master.close()
    return int(word[1]) if word[0] == 'quiet' else 0


def check(told, masters, asked):
    for one, said in zip(masters, told, strict=True):
        times = asked[{2: 'EXPSTART', 4: 'EXPEND', 16: 'EXPINTERRUPT'}[one.event]]
        assert times <= 1, 'done twice'
        if said == 'ok':
            assert times == 1, 'told as done, and never asked'
            assert one.event != 2 or one.reply == [REF, {'status': 20}], 'the reference is lost'
        elif 'not begun' in said or 'aborted' in said:
            assert times == 0, f'told that it was {said}'
        else:
            assert said == 'no echo' or 'is not known' in said, said


def starts_until(nursery, point, held):
    """Kill a worker, and the next one at a line of what it does about what that left; return as `lives_until` does."""
    port, gate = free_port(), threading.Event()
    nursery.begin(port, 0, 2)
    with Program('rig', lambda asked: gate.wait(60) and None) as program:
        masters = [Asking(port, 2)]
        eventually(lambda: program.asked)
        masters += [Asking(port, 4) for _ in range(2)]
        eventually(lambda: len(owed()) == 3)
        if not held:
            gate.set()
            eventually(lambda: len(owed()) < 3)
        nursery.end()
        gate.set()
        nursery.begin(port, point, 0)
        word = nursery.hear() if nursery.pid else ['dead']
        while word == ['there']:
            word = nursery.hear()
        if word[0] == 'quiet':
            told = [eventually(one.heard, 30) for one in masters]
            nursery.end()
        else:
            with Running(ListenerConfig('cameras', port=port, timeout=60.0)):
                told = [eventually(one.heard, 30) for one in masters]
        check(told[:1], masters[:1], Counter(asked['message'] for asked in program.asked))
        assert sum(asked['message'] == 'EXPEND' for asked in program.asked) <= 2
    for one in masters:
        one.master.close()
    return int(word[1]) if word[0] == 'quiet' else 0


@pytest.mark.timeout(900)
@pytest.mark.parametrize('every', [41, MORE])
@pytest.mark.parametrize('events', [(2,), (2, 4), (2, 4, 16)], ids=['alone', 'in line', 'interrupted'])
def test_a_worker_may_be_killed_at_any_line_and_each_master_hears_the_truth(nursery, events, every):
    point = lines = 0
    while not lines:
        point += every
        lines = lives_until(nursery, point, events)
    print(f'\n{lines} lines, killed at {point // every - 1}')
    assert lines > 100


@pytest.mark.timeout(900)
@pytest.mark.parametrize('every', [61, MORE])
def test_a_worker_may_be_killed_at_any_line_of_taking_up_what_the_one_before_left(nursery, every):
    point = lines = 0
    while not lines:
        point += every
        lines = starts_until(nursery, point, held=point % 2)
    print(f'\n{lines} lines, killed at {point // every - 1}')
    assert lines > 300
