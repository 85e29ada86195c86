"""What the listeners owe cannot be kept: the disk is full, or it is more than there is room for."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from peers import eventually
from running_listeners import Running
from serving_programs import LEFT, Program
from stock_masters import Stock

from bridge.listen import owed
from bridge.segment import kept, slate

REF = '2026-01-01_1_subject'


def found():
    return kept.load(Path(os.environ['IBLBRIDGE_DIR']) / 'rig', 'listeners').get('listeners', {}).get('cameras', {})


def test_what_a_full_disk_refused_to_keep_is_said_once_and_kept_as_soon_as_it_takes_it(monkeypatch, caplog):
    write, full = slate.Slate.write, [True]
    monkeypatch.setattr(slate.Slate, 'write', lambda self, what: not full[0] and write(self, what))
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
