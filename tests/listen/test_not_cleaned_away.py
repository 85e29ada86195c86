"""What masters have still to hear from the next worker is not thrown away with the segment."""

from __future__ import annotations

import json
import logging

import pytest
from peers import eventually, free_port
from processes import kill, program
from running_listeners import Running
from serving_programs import LEFT, Program
from stock_masters import Stock

from bridge.cli import main
from bridge.config import ListenerConfig
from bridge.listen import owed

REF = '2026-01-01_1_subject'
LISTENS = """
import sys
from bridge.config import ListenerConfig
from bridge.worker import Worker
worker = Worker('rig', {}, listeners=[ListenerConfig('cameras', port=int(sys.argv[1]), timeout=60.0)])
print('ready', flush=True)
worker.run()
"""


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    for module in ('bridge.listen.owed', 'bridge.worker.programs'):
        monkeypatch.setattr(f'{module}.LATE', 10**12)  # however loaded the PC is


def cleaned(capsys, *options):
    """Return what --clean removed, and why it left something."""
    capsys.readouterr()
    main(['doctor', '--json', '--clean', *options])
    said = json.loads(capsys.readouterr().out)
    return said['removed'], ' '.join(one['why'] for one in said['left'])


def test_a_master_that_waits_for_an_answer_is_told_before_the_segment_is_cleaned_away(capsys):
    """What was owed to it was removed with the segment, and it waited out its time."""
    port = free_port()
    with program(LISTENS, str(port)) as worker, Stock(port) as master:
        with Program('rig', lambda asked: LEFT) as serving:
            master.begin(master.services.start(REF))
            eventually(lambda: serving.asked)
            assert cleaned(capsys)[0] == []
            kill(worker)
        removed, why = cleaned(capsys)
        assert not removed and 'has not heard what became of its EXPSTART to cameras. The next worker says it' in why
        with Running(ListenerConfig('cameras', port=port)):
            eventually(lambda: [data for event, data in master.told if event == 0 and data[1] == 2])
        assert cleaned(capsys) == (['rig'], '')


def test_a_master_whose_program_ended_in_the_middle_is_told_before_the_segment_is_cleaned_away(capsys):
    port = free_port()
    with program(LISTENS, str(port)) as worker, Stock(port) as master:
        with Program('rig', lambda asked: {}):
            assert master.run(master.services.start(REF))
            kill(worker)
        removed, why = cleaned(capsys)
        assert not removed and 'that the program which served cameras ended while it was RUNNING' in why
        with Running(ListenerConfig('cameras', port=port)):
            eventually(lambda: [event for event, _ in master.told if event == 16])
        assert cleaned(capsys) == (['rig'], '')


def test_what_masters_wait_for_is_dropped_if_one_says_so(capsys, segment_directory):
    port = free_port()
    with program(LISTENS, str(port)) as worker, Stock(port) as master:
        with Program('rig', lambda asked: {}):
            assert master.run(master.services.start(REF))
            kill(worker)
        assert cleaned(capsys)[0] == []
        assert cleaned(capsys, '--drop', 'rig') == (['rig'], '') and not list(segment_directory.iterdir())


def test_a_segment_that_is_to_be_removed_at_the_end_stays_while_a_master_has_still_to_hear_something(
    capsys, segment_directory, caplog
):
    """The answer of its program, which no worker had taken yet, was removed with it."""
    caplog.set_level(logging.WARNING)
    port = free_port()
    with Stock(port, timeout=60.0) as master:
        first = Running(ListenerConfig('cameras', port=port))
        serving = Program('rig', lambda asked: LEFT)
        asking = master.begin(master.services.start(REF))
        eventually(lambda: serving.asked)
        first.worker._programs._said = lambda taken: None  # as if it came too late
        serving.serving.answer(serving.asked[0]['command'])
        close = first.worker.close
        first.worker.close = lambda: close(remove=True)
        first.worker.stop()
        first.worker.stop()
        first.__exit__()
        assert (segment_directory / 'rig').exists()
        assert 'has not heard what became of its EXPSTART to cameras: the next worker says it' in caplog.text
        assert 'iblbridge doctor --clean --drop rig' in caplog.text
        second = Running(ListenerConfig('cameras', port=port))
        assert asking.result(30)['cameras'] == [REF, {'status': 20}]
        eventually(lambda: not second.worker._programs.waiting())
        close_second = second.worker.close
        second.worker.close = lambda: close_second(remove=True)
        second.__exit__()
        # On Windows its memory has a name as long as the program holds it.
        assert [path for path in segment_directory.iterdir() if not path.name.startswith('.removed-')] == []
        serving.close()
        assert not owed.waiting({}, '', 0, [])


def test_a_worker_that_is_stopped_right_behind_its_program_tells_the_master_first(segment_directory):
    """The segment stayed, for the next worker to tell it: when the whole rig was ended, program and worker at once."""
    port = free_port()
    with Stock(port) as master:
        running = Running(ListenerConfig('cameras', port=port))
        with Program('rig', lambda asked: {}):
            assert master.run(master.services.start(REF))
        close = running.worker.close
        running.worker.close = lambda: close(remove=True)
        running.__exit__()
        eventually(lambda: [event for event, _ in master.told if event == 16])
        assert list(segment_directory.iterdir()) == []
