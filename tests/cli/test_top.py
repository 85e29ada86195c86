"""``iblbridge top``: what is known of a rig, and how that looks; nothing is disturbed."""

from __future__ import annotations

import contextlib
import io
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import free_port
from processes import SEGMENT, kill, program
from rich.cells import cell_len
from rich.console import Console

from bridge.cli import main, top, watch
from bridge.journal import Journal, Reading
from bridge.segment import inspection
from bridge.segment.client import Client
from bridge.segment.inspection import Report, Service, Slot
from bridge.segment.served import COMMANDS

REF = '2026-01-01_1_subject'
HOSTILE = '\x1b[31m[bold]x[/bold]\n\t\x9b'


def report(**changes) -> Report:
    return Report(
        **{
            'name': 'rig0',
            'kind': 'segment',
            'code': 0,
            'sentence': '',
            'locks': 2,
            'worker_alive': True,
            'worker': {'pid': 42, 'process': 'python3', 'age': 130.0, 'epoch': 1},
            'boot': 'this',
            'health': [Service('cameras', False, 1.0), Service('ephys', True, 40.0), Service('lamp', False, None)],
            'size': 16,
            'slots': [
                Slot(0, 'claimed', True, 'stimulus', 'matlab', 7, 5.0, 3),
                Slot(1, 'claimed', False, 'bonsai', '', 8, 5.0, 0),
                Slot(15, 'claimed', True, 'iblb-watch-9', 'python3', 9, 5.0, 0),
            ],
            **changes,
        }
    )


def services(**cameras) -> dict:
    data = {'name': 'cameras', 'status': 20, 'exp_ref': REF, 'rtt_us': 800, 'last_error': '', **cameras}
    return {'services': [{'data': data}, {'data': {'name': 'gone'}}, {'data': {}}]}


def shown(rig: top.Rig, width: int = 80, height: int | None = None) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, markup=False, highlight=False, emoji=False)
    console.print(top.view(rig, width, height=height))
    return file.getvalue()


def outcome(**changes) -> dict:
    return {
        'event': 'COMMAND', 'kind': 'outcome', 'message': 'EXPSTART', 'client': 'stimulus',
        'code': -8070, 'error': 'ephys: x', 'services': [], 'sent': 1, 'finished': 2,
        'wall': '2026-01-01T08:00:00+00:00', **changes,
    }  # fmt: skip


def test_services_programs_and_what_happened_stand_in_eighty_columns():
    rig = top.Rig('rig0')
    rig.look(report())
    rig.learn(services())
    rig.take(outcome())
    text = shown(rig)
    assert 'rig0: served by process 42 for 2 min' in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.split()}
    assert rows['cameras'] == ['cameras', 'up', '1', 's', 'ago', 'RUNNING', '0.8', 'ms', REF]
    assert rows['ephys'][:2] == ['ephys', 'down'] and rows['lamp'] == ['lamp', 'silent', 'never']
    assert rows['stimulus'] == ['stimulus', '7', '(matlab)', '5', 's', '3']
    assert rows['bonsai'][1] == 'gone'
    assert 'iblb-watch' not in text
    assert 'EXPSTART' in text and 'IBLB_E_PARTIAL' in text
    assert max(cell_len(line) for line in text.splitlines()) <= 80


def test_a_rig_without_a_worker_says_so_first():
    rig = top.Rig('rig0')
    rig.look(report(worker_alive=False))
    assert shown(rig).startswith('rig0: worker gone: commands wait for one, and expire')
    assert {one.health for one in rig.services.values()} == {''}, 'they were said to be up'


@pytest.mark.parametrize('others', [0, 1])
def test_our_own_tools_are_no_programs_that_wait_for_a_worker(capsys, others):
    """It said "no programs", and then that one program, which was `top` itself, has no answer."""
    with contextlib.ExitStack() as stack:
        with program(SEGMENT, 'rig') as worker:
            for number in range(others):
                stack.enter_context(Client('rig', f'stimulus-{number}'))
            kill(worker)
        assert main(['top', 'rig']) == 3
        shown = capsys.readouterr().out
    assert ('no programs' in shown) == (not others)
    assert ('1 program without' in shown) == bool(others)
    assert 'No worker serves it' in shown and '0 programs' not in shown


def test_what_is_known_of_a_service_stays_while_the_file_is_looked_at_again():
    rig = top.Rig('rig0')
    rig.look(report())
    rig.learn(services(last_error='it fell over'))
    rig.look(report(health=[Service('cameras', True, 50.0)]))
    assert list(rig.services) == ['cameras']
    assert (rig.services['cameras'].health, rig.services['cameras'].experiment) == ('down', REF)
    assert '! cameras: it fell over' in shown(rig)


def test_only_the_last_are_kept_and_our_own_questions_are_not_among_them():
    rig = top.Rig('rig0')
    for number in range(20):
        assert rig.take(outcome(message=f'EXP{number}'))
        assert not rig.take(outcome(kind='command'))
        assert not rig.take(outcome(message='SERVICES'))
    assert [entry['message'] for entry in rig.last] == [f'EXP{number}' for number in range(20 - top.LAST, 20)]


@pytest.mark.parametrize('height', [17, 20, 24, 100])
def test_a_terminal_that_is_too_low_shows_the_newest(height):
    """What had just happened stood below the last line."""
    rig = top.Rig('rig0')
    rig.look(report())
    for number in range(top.LAST):
        rig.take(outcome(message=f'EXP{number}', error='ephys: it is far too long for a line of 80 columns'))
    text = shown(rig, height=height)
    assert len(text.splitlines()) <= height and f'EXP{top.LAST - 1}' in text
    assert ('EXP0' in text) == (height == 100)


def test_a_terminal_that_cannot_go_back_is_shown_a_rig_once(serve, server, capsys, monkeypatch):
    """It was shown nothing, until Ctrl-C."""
    serve('rig', {'cameras': server.uri})
    monkeypatch.setenv('TERM', 'dumb')
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    assert main(['top', 'rig']) == 0
    assert 'cameras' in capsys.readouterr().out


@settings(deadline=None)
@given(st.integers(20, 200), st.text(max_size=80), st.text(max_size=80))
@pytest.mark.filterwarnings('ignore')
def test_whatever_services_and_programs_are_called_nothing_commands_the_terminal_or_is_wider(width, name, said):
    rig = top.Rig('rig0')
    rig.look(
        report(
            health=[Service(name + HOSTILE, False, 1.0)],
            slots=[Slot(0, 'claimed', True, said + HOSTILE, '', 7, 5.0, 0)],
        )
    )
    rig.learn(services(name=name + HOSTILE, exp_ref=said, last_error=said + HOSTILE))
    rig.take(outcome(error=said + HOSTILE, client=name))
    text = shown(rig, width)
    assert all(c.isprintable() or c == '\n' for c in text)
    assert '[bold]' in text.replace('\n', '').replace(' ', '') or width < 40


def test_into_a_pipe_a_rig_is_shown_once(serve, server, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    serve('rig', {'cameras': server.uri, 'ephys': f'udp://127.0.0.1:{free_port()}'})
    with Client('rig', 'stimulus') as client:
        client.send('EXPSTART', REF)
        assert main(['top', 'rig']) == 0
    text = capsys.readouterr().out
    assert 'cameras' in text and 'ephys' in text and 'stimulus' in text
    assert [line for line in text.splitlines() if line != line.rstrip()] == [], 'what fills a terminal up is no text'
    assert text.endswith('iblbridge watch rig; those before: the journal\n'), 'it showed no command, and did not say so'
    assert {event for event, *_ in server.saw} <= {2}, 'no service is asked'


def test_an_open_top_is_called_so_and_what_it_asks_by_itself_is_neither_journaled_nor_told(
    serve, server, tmp_path, monkeypatch
):
    """34 of the 54 commands of a journal were its own SERVICES, and doctor listed it as a second `watch`."""
    monkeypatch.setattr(top, 'ASK', 0.0)
    monkeypatch.setattr(top, 'LOOK', 0.0)
    book, answers, names = Journal(tmp_path / 'journal'), [], []

    class Enough(Exception):
        pass

    def learn(rig: top.Rig, response: dict) -> None:
        answers.append(response)

    def show() -> None:
        names.extend(slot.client for slot in inspection.inspect('rig').slots)
        if len(answers) >= 3:
            raise Enough

    monkeypatch.setattr(top.Rig, 'learn', learn)
    worker = serve('rig', {'cameras': server.uri}, journal=book)
    with Client('rig', 'stimulus') as client:
        client.subscribe(COMMANDS)
        with pytest.raises(Enough):
            top._follow(top.Rig('rig'), show)
        client.call('SERVICES')
        client.call('PING')
        told = []
        while (event := client.next_event(5)).get('message') != 'PING':
            told.append((event['kind'], event.get('message'), event.get('client')))
    worker.end_of_test()
    book.close()
    asked = [('command', 'SERVICES', 'stimulus'), ('outcome', 'SERVICES', 'stimulus')]
    assert [one for one in told if one[0] not in watch.CLOSE] == asked
    written = [(one['kind'], one['message'], one['client']) for one in Reading(book.path) if 'message' in one]
    assert [one for one in written if one[1] == 'SERVICES'] == asked
    assert f'iblb-top-{os.getpid()}' in names and not any(name.startswith('iblb-watch') for name in names)


def test_a_rig_that_there_is_not_is_named(capsys):
    assert main(['top', 'rig']) == 3
    assert 'IBLB_E_NO_SEGMENT' in capsys.readouterr().err
