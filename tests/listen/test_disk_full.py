"""What the listeners owe cannot be kept: the disk is full, or it is more than there is room for."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

import pytest
from peers import eventually, free_port
from processes import kill, program
from running_listeners import Running
from serving_programs import LEFT, Program
from stock_masters import Stock

from bridge.config import ListenerConfig
from bridge.listen import owed
from bridge.segment import kept, slate

REF = '2026-01-01_1_subject'


def found():
    return kept.load(Path(os.environ['IBLBRIDGE_DIR']) / 'rig', 'listeners').get('listeners', {}).get('cameras', {})


def test_what_a_full_disk_refused_to_keep_is_said_once_and_kept_as_soon_as_it_takes_it(monkeypatch, caplog):
    write, full = slate.Slate.write, [True]
    monkeypatch.setattr(slate.Slate, 'write', lambda self, *what: not full[0] and write(self, *what))
    with Running() as rig, Program('rig', lambda asked: {}), Stock(rig.port) as master:
        assert master.run(master.services.start(REF))['cameras'] == [REF, {'status': 20}]
        assert not found()
        full.clear()
        full.append(False)
        eventually(lambda: found().get('status') == 20)  # although nothing has changed since
    said = [one for one in caplog.records if 'cannot be kept' in one.getMessage()]
    assert len(said) == 1 and said[0].levelno == logging.WARNING


def test_of_commands_that_are_too_long_to_be_kept_together_it_is_kept_who_asked_what(monkeypatch):
    monkeypatch.setattr(slate, 'ROOM', 2048)
    with Running() as rig, Program('rig', lambda asked: LEFT) as program, Stock(rig.port) as master:
        master.begin(master.services.start(REF))
        eventually(lambda: program.asked)
        with Stock(rig.port) as another:
            another.begin(another.services.stop({'note': 'x' * 2000}))
            eventually(lambda: len(owed.left(found())) == 2)
        first, second = owed.left(found())
        assert (first.event, first.handed, second.event, second.handed) == (2, True, 4, False)
        assert not second.datagram
        program.serving.answer(program.asked[0]['command'])
        eventually(lambda: len(program.asked) == 2)
        program.serving.answer(program.asked[1]['command'])


REFUSING = """
import errno, pathlib, signal, sys
from bridge.config import ListenerConfig
from bridge.segment import slate
from bridge.worker import Worker

def refuse(*_, **__):
    raise OSError(errno.EROFS, 'read-only file system')

def turn_read_only(*_):
    slate.record = pathlib.Path.unlink = refuse
    print('can only be read', flush=True)

signal.signal(signal.SIGUSR1, turn_read_only)
worker = Worker('rig', {}, listeners=[ListenerConfig('cameras', port=int(sys.argv[1]), timeout=60.0)])
print('ready', flush=True)
worker.run()
"""


@pytest.mark.posix('a signal says when')
def test_what_was_done_since_a_disk_could_only_be_read_is_not_done_again_by_the_next_worker():
    """The last record that it had taken said that the command waits in line."""
    port = free_port()
    with program(REFUSING, str(port)) as worker, Stock(port) as first, Stock(port) as second:
        serving = Program('rig', lambda asked: LEFT, mask=2 + 4)
        starting = first.begin(first.services.start(REF))
        eventually(lambda: serving.asked)
        ending = second.begin(second.services.stop())
        eventually(lambda: len(owed.left(found())) == 2)
        worker.send_signal(signal.SIGUSR1)
        assert worker.stdout.readline() == 'can only be read\n'
        for number, answer in enumerate((starting, ending)):
            eventually(lambda number=number: len(serving.asked) > number)
            serving.serving.answer(serving.asked[number]['command'])
            assert answer.result(20)
        assert [one.event for one in owed.left(found()) if not one.handed] == [4], 'it still stands there'
        kill(worker)
        with Running(ListenerConfig('cameras', port=port, timeout=60.0)) as running:
            programs = running.worker._programs
            eventually(lambda: time.perf_counter_ns() > programs._left_until > 0 and not programs._left['cameras'])
            assert [asked['message'] for asked in serving.asked] == ['EXPSTART', 'EXPEND'] and not second.told
        serving.close()
