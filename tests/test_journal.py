"""The journal: what stands in it, and that neither a kill nor a full disk spoils more than it must."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import StockServer, eventually
from rich.cells import cell_len
from systems import WINDOWS

from bridge import discretion
from bridge.cli import lines, main
from bridge.cli.journal import parquet as parquet_files
from bridge.cli.journal.selection import since
from bridge.journal import KINDS, SCHEMA, Journal, Reading, is_foreign
from bridge.journal import reading as journal_reading
from bridge.journal import writing as journal
from bridge.journal.entry import command_line, outcome_line, to_line
from bridge.journal.rotation import Rotation
from bridge.segment.client import Client
from bridge.segment.response import command_id, response_body

REF = '2026-01-01_1_subject'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3),
    max_leaves=6,
)


def entries(path) -> list[dict]:
    return list(Reading(path))


def test_every_entry_is_one_line_with_both_clocks(tmp_path):
    path = tmp_path / 'journal'
    book = Journal(path)
    before = time.perf_counter_ns()
    for i in range(100):
        book.write('event', event='EXPINFO', data={'text': f'line\n{i} ü'})
    book.close()
    head, *lines, end = path.read_bytes().split(b'\n')
    assert json.loads(head)['schema'] == SCHEMA
    assert end == b'' and b'\r' not in path.read_bytes(), 'Windows would have other ends of lines'
    assert [json.loads(line)['data']['text'] for line in lines] == [f'line\n{i} ü' for i in range(100)]
    first = json.loads(lines[0])
    assert before <= first['time'] <= time.perf_counter_ns()
    assert first['wall'][10] == 'T' and first['wall'][-6] in '+-'


def test_a_journal_is_continued_and_a_torn_line_is_skipped_and_told(tmp_path):
    path = tmp_path / 'journal'
    path.write_bytes(b'{"kind": "event", "n": 1}\n{"kind": "event", "n": 2, "to')
    book = Journal(path)
    book.write('event', n=3)
    book.close()
    reading = Reading(path)
    assert [entry['n'] for entry in reading] == [1, 3]
    assert (reading.torn, reading.found) == ([2], 2)


@pytest.mark.parametrize('junk', [b'\xff\n', b'5\n', b'{}\n', b'[' * 10**5 + b'\n', b'\0' * 50 + b'\n'])
def test_of_any_line_that_is_no_entry_the_number_is_told(tmp_path, junk):
    path = tmp_path / 'journal'
    path.write_bytes(b'{"kind": "event"}\n' + junk)
    reading = Reading(path)
    assert list(reading) == [{'kind': 'event'}] and reading.torn == [2]


@pytest.mark.parametrize(
    ('text', 'foreign'),
    [
        ('', False),
        ('{"kind": "start", "torn', False),
        ('{"kind": "event"}\n', False),
        ('{"n": 1, "kind": "event"}\n', False),
        ('cameras: 192.168.0.8\n', True),
        ('{"a": 1}\n', True),
        ('\n', True),
    ],
)
def test_a_file_that_holds_something_else_is_not_appended_to(tmp_path, capsys, text, foreign):
    path = tmp_path / 'services.yaml'
    path.write_text(text)
    assert is_foreign(path) is foreign
    if foreign:
        assert main(['serve', '--segment', 'rig', '--journal', str(path)]) == 2
        assert 'holds something else than a journal' in capsys.readouterr().err
        assert path.read_text() == text


@pytest.mark.parametrize('name', ['rig 0.jsonl', 'Übung é.jsonl', '実験-ж.jsonl'])
def test_a_journal_may_have_any_name(tmp_path, name, capsys):
    book = Journal(tmp_path / name)
    book.write('event', event='EXPINFO')
    book.close()
    assert [entry['event'] for entry in entries(tmp_path / name)] == ['EXPINFO']
    assert main(['journal', str(tmp_path / name)]) == 0
    assert 'EXPINFO' in capsys.readouterr().out


@pytest.mark.not_wine('there a lock keeps nobody from writing')
@pytest.mark.skipif(not WINDOWS, reason='no system but Windows keeps others from writing')
def test_what_another_program_keeps_from_being_written_is_counted_and_what_comes_after_is_written(tmp_path):
    import msvcrt

    path, far = tmp_path / 'journal', 1 << 20
    book = Journal(path)
    book.write('event', n=1)
    eventually(lambda: len(entries(path)) == 1)
    with open(path, 'r+b') as other:
        other.seek(path.stat().st_size)
        msvcrt.locking(other.fileno(), msvcrt.LK_NBLCK, far)
        book.write('event', n=2)
        eventually(lambda: book.lost == 1)
        other.seek(path.stat().st_size)
        msvcrt.locking(other.fileno(), msvcrt.LK_UNLCK, far)
    book.write('event', n=3)
    book.close()
    assert [entry.get('n', entry['kind']) for entry in entries(path)] == [1, 'gap', 3]


def test_a_full_disk_is_told_once_and_counted_and_what_comes_after_is_written(tmp_path, monkeypatch, caplog):
    path, full, room, real = tmp_path / 'journal', threading.Event(), [20], os.write

    def write(file: int, data: bytes) -> int:
        if not full.is_set():
            return real(file, data)
        if room:  # the beginning of a line
            return real(file, data[: room.pop()])
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'write', write)
    book = Journal(path)
    book.write('event', n=1)
    eventually(lambda: entries(path))  # and not only the head of the file
    full.set()
    for i in range(10):
        book.write('event', n=i, text='a text that is longer than what fits')
    eventually(lambda: book.lost == 10)
    full.clear()
    book.write('event', n=2)
    book.close()
    assert [(e['kind'], e.get('n'), e.get('lost')) for e in entries(path)] == [
        ('event', 1, None),
        ('gap', None, 10),
        ('event', 2, None),
    ]
    reading = Reading(path)
    assert list(reading) and reading.torn == [3]
    assert len(caplog.records) == 1
    assert 'No space left' in caplog.text


def test_what_is_lost_at_the_very_end_is_told_as_a_gap(tmp_path, monkeypatch):
    """A stop that is not written looks like a kill."""
    full, real = threading.Event(), os.write

    def write(file: int, data: bytes) -> int:
        if full.is_set():
            raise OSError(errno.ENOSPC, 'No space left on device')
        return real(file, data)

    monkeypatch.setattr(os, 'write', write)
    book = Journal(tmp_path / 'journal')
    book.write('start')
    eventually(lambda: entries(book.path))  # and not only the head of the file
    full.set()
    book.write('stop', reason='SIGTERM')
    eventually(lambda: book.lost == 1)
    full.clear()
    book.close()
    assert [(entry['kind'], entry.get('lost')) for entry in entries(book.path)] == [('start', None), ('gap', 1)]


def test_a_disk_that_hangs_holds_up_nobody(tmp_path, monkeypatch, caplog):
    going = threading.Event()
    real = os.write
    monkeypatch.setattr(os, 'write', lambda file, data: going.wait(30) and real(file, data))
    book = Journal(tmp_path / 'journal', depth=5)
    started = time.monotonic()
    for i in range(1000):
        book.write('event', n=i)
    assert time.monotonic() - started < 5
    assert book.lost >= 990 and len(caplog.records) == 1
    going.set()
    eventually(lambda: len(entries(book.path)) >= 5)
    book.close()


def test_what_a_disk_that_hangs_has_not_taken_at_the_end_is_told(tmp_path, monkeypatch, caplog):
    going = threading.Event()
    monkeypatch.setattr(os, 'write', lambda file, data: going.wait(30) and len(data))
    book = Journal(tmp_path / 'journal')
    for i in range(5):
        book.write('event', n=i)
    book.close(0.1)
    assert 'entries are lost' in caplog.records[-1].message and 'up to ' in caplog.records[-1].message
    going.set()
    book._thread.join(30)


def test_beside_a_disk_that_hangs_the_queue_is_bounded_in_bytes(tmp_path, monkeypatch, caplog):
    """It counted entries: 10,000 of 60 kB took 433 MB."""
    going, real = threading.Event(), os.write
    monkeypatch.setattr(os, 'write', lambda file, data: going.wait(30) and real(file, data))
    book = Journal(tmp_path / 'journal', most=1_000_000)
    for i in range(100):
        book.write('event', n=i, text='x' * 60_000)
    assert 0 < book._waiting <= 1_000_000
    assert book.lost == 100 - 1_000_000 // 60_100 and len(caplog.records) == 1
    book.write('event', n=100)  # what is small still finds room
    going.set()
    eventually(lambda: book._waiting == 0)
    book.write('event', n=101)
    book.close()
    found = entries(book.path)
    assert sum(entry.get('lost', 0) for entry in found) == book.lost
    assert [entry['n'] for entry in found if 'n' in entry][-2:] == [100, 101]


def test_what_json_can_not_say_is_no_reason_to_stop(tmp_path):
    book = Journal(tmp_path / 'journal')
    loop: list = []
    loop.append(loop)
    book.write('event', data=loop)
    book.write('event', data={1, 2})
    book.close()
    assert [entry['kind'] for entry in entries(book.path)] == ['gap', 'event']


@given(st.dictionaries(st.text(st.characters()), JSON | st.text(st.characters()), max_size=4))
def test_the_text_of_an_entry_is_that_of_json(entry):
    whole = json.dumps({'kind': 'event', **entry, 'time': 5, 'wall': 'now'}, default=str, ensure_ascii=False)
    assert to_line('event', entry, 5, 'now') == whole.encode('utf-8', 'backslashreplace') + b'\n'


TEXT = st.text(st.characters())
WHOLE = st.integers(0, 2**64)


@given(TEXT, TEXT, TEXT, st.integers(-9000, 9000), WHOLE, st.lists(st.dictionaries(TEXT, JSON, max_size=3), max_size=3))
def test_the_text_of_a_command_and_its_outcome_is_that_of_json(message, error, client, code, number, services):
    stamps = {'sent': number, 'accepted': 7, 'finished': 9}
    key = command_id(number % 2**64, 3, number)
    body = response_body(
        request=5, command_id=key, message=message, code=code, error=error, services=services, **stamps, wall='then'
    )
    command = {'command_id': key, 'message': message, 'client': client, 'services': error, 'args': tuple(services)}
    command['sent'] = number
    made = {
        'outcome': outcome_line('outcome', body, client, number, 'now'),
        'notification': outcome_line('notification', body, client, number, 'now'),
        'command': command_line(command, number, 'now'),
    }
    for kind, line in made.items():
        entry = command if kind == 'command' else {**body, 'client': client}
        assert line == to_line(kind, entry, number, 'now')


def test_a_command_and_its_outcome_are_written_without_what_may_hold_a_token():
    service = {'name': 'a', 'error': 'bad s3cret', 'data': {'value': 's3cret'}, 'ok': False}
    body = response_body(
        request=5, command_id='key', message='ALYX', code=-1, error='a: bad s3cret', services=[service], sent=1
    )
    command = {'command_id': 'key', 'message': 'ALYX', 'client': 'c', 'services': 'a', 'args': ['url', 's3cret']}
    line = command_line(command | {'sent': 1}, 2, 'now')
    assert line == to_line('command', discretion.entry(command | {'sent': 1}), 2, 'now') and b's3cret' not in line
    line = outcome_line('outcome', body, 'c', 2, 'now')
    whole = to_line('outcome', discretion.entry({**body, 'client': 'c'}), 2, 'now')
    assert line == whole and b's3cret' not in line


def test_what_is_said_soon_after_another_goes_to_the_disk_with_it(tmp_path, monkeypatch):
    """A command and its outcome were two writes, and the second one met the thread that answers."""
    real, pieces, rests, both = os.write, [], threading.Event(), threading.Event()
    clocks = {name: getattr(time, name) for name in ('monotonic', 'perf_counter_ns', 'time_ns')}
    clocks['sleep'] = lambda seconds: rests.set() or both.wait(30)
    monkeypatch.setattr(journal, 'time', SimpleNamespace(**clocks))
    monkeypatch.setattr(os, 'write', lambda file, data: pieces.append(data) or real(file, data))
    book = Journal(tmp_path / 'journal')
    book.write('command', n=1)
    assert rests.wait(30)
    book.write('outcome', n=2)
    both.set()
    book.close(30)
    assert [json.loads(line)['n'] for line in pieces[-1].splitlines()] == [1, 2]


@given(st.lists(st.integers(1, 700), max_size=50))
def test_a_long_queue_is_written_block_by_block_and_what_was_written_is_let_go(sizes):
    """Else twice as much as may wait is kept: the queue fills again meanwhile."""
    said = [(i, i, b'x' * size) for i, size in enumerate(sizes)]
    whole, found = list(said), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, 'BLOCK', 1000)
        for block, size in journal._blocks(said, sum(sizes)):
            assert len(said) + len(found) == len(whole)
            assert size == sum(len(text) for _, _, text in block) < 1700
            found += block
    assert found == whole


def test_whenever_something_is_said_the_thread_that_writes_is_woken(tmp_path):
    book = Journal(tmp_path / 'journal')
    for i in range(300):  # now it sleeps, now it is about to
        book.write('event', n=i)
        eventually(lambda: not book._entries)
    book.close()
    assert [entry['n'] for entry in entries(book.path)] == list(range(300))


def test_what_several_threads_say_is_all_written_and_of_each_in_its_order(tmp_path):
    book = Journal(tmp_path / 'journal')

    def say(who: int) -> None:
        for i in range(1000):
            book.write('event', who=who, n=i)

    threads = [threading.Thread(target=say, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: not book._entries)
    assert book._waiting == 0
    book.close(30)
    found = entries(book.path)
    assert len(found) == 4000
    assert all([entry['n'] for entry in found if entry['who'] == who] == list(range(1000)) for who in range(4))


def test_what_comes_faster_than_the_disk_takes_a_piece_goes_to_it_in_one(tmp_path, monkeypatch):
    going, real, pieces = threading.Event(), os.write, []
    monkeypatch.setattr(os, 'write', lambda file, data: pieces.append(len(data)) or going.wait(30) and real(file, data))
    book = Journal(tmp_path / 'journal')
    for i in range(5000):
        book.write('event', n=i)
    going.set()
    book.close(30)
    assert [entry['n'] for entry in entries(book.path)] == list(range(5000))
    assert len(pieces) < 20 and max(pieces) < journal.BLOCK + 1000 and book._waiting == book._entries == 0


def test_of_a_piece_that_a_disk_takes_a_part_of_the_whole_lines_are_not_counted_as_lost(tmp_path, monkeypatch):
    going, full, real, room = threading.Event(), threading.Event(), os.write, [250]

    def write(file: int, data: bytes) -> int:
        going.wait(30)
        if not full.is_set():
            return real(file, data)
        if room:
            return real(file, data[: room.pop()])
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'write', write)
    book = Journal(tmp_path / 'journal')
    book.write('event', n=0)
    eventually(lambda: book._at_disk)
    for i in range(1, 10):
        book.write('event', n=i)
    going.set()
    eventually(lambda: book._entries < 10)
    full.set()
    eventually(lambda: book._entries == 0)
    full.clear()
    book.write('event', n=10)
    book.close()
    found = entries(book.path)
    assert [e['n'] for e in found if 'n' in e] == [*range(10 - book.lost), 10]
    assert sum(e.get('lost', 0) for e in found) == book.lost


def test_who_can_wait_is_told_to_while_the_disk_goes_on_and_not_when_it_is_stuck(tmp_path, monkeypatch):
    going, real = threading.Event(), os.write
    monkeypatch.setattr(os, 'write', lambda file, data: going.wait(30) and real(file, data))
    monkeypatch.setattr(journal, 'STUCK', 3600.0)
    book = Journal(tmp_path / 'journal', depth=100)
    for i in range(50):
        book.write('event', n=i)
    assert not book.is_pressed(), 'half is no press'
    book.write('event', n=50)
    eventually(lambda: book._at_disk)
    assert book.is_pressed()
    monkeypatch.setattr(journal, 'STUCK', 0.0)
    assert not book.is_pressed(), 'who waits for a disk that is stuck waits for ever'
    going.set()
    eventually(lambda: not book._entries)
    monkeypatch.setattr(journal, 'STUCK', 3600.0)
    assert not book.is_pressed()
    book.close()


def test_a_disk_that_gets_stuck_behind_a_rotation_is_noticed(tmp_path, monkeypatch):
    """What brought the complete file to the disk was taken for the end of all that was at it."""
    synced, stuck, going, write, sync = [], threading.Event(), threading.Event(), os.write, os.fsync

    def write_or_hang(file: int, data: bytes) -> int:
        if synced:
            stuck.set()
            going.wait(30)
        return write(file, data)

    monkeypatch.setattr(os, 'fsync', lambda file: synced.append(sync(file)))
    monkeypatch.setattr(os, 'write', write_or_hang)
    monkeypatch.setattr(journal, 'SYNC_EVERY', 3600.0)
    book = Journal(tmp_path / 'journal', depth=100, rotation=Rotation(1000))
    for i in range(60):
        book.write('event', n=i, text='x' * 100)
    assert stuck.wait(30)
    monkeypatch.setattr(journal, 'STUCK', 3600.0)
    assert book.is_pressed()
    monkeypatch.setattr(journal, 'STUCK', 0.0)
    assert not book.is_pressed(), 'who waits for a disk that is stuck waits for ever'
    going.set()
    book.close(30)


def test_after_close_nothing_is_written_and_nothing_raises(tmp_path):
    book = Journal(tmp_path / 'journal')
    book.close()
    book.close()
    book.write('event')
    assert book.lost == 1


def test_tokens_are_taken_out_of_what_is_written():
    body = {
        'message': 'ALYX',
        'error': 'a: bad token s3cret',
        'services': [{'name': 'a', 'error': 'bad token s3cret', 'data': {'value': 's3cret'}, 'ok': False}],
    }
    assert 's3cret' not in json.dumps(discretion.entry(body))
    assert body['services'][0]['data'] == {'value': 's3cret'}, 'the response itself is as it was'
    assert 's3cret' not in json.dumps(discretion.entry({'event': 'ALYX', 'data': {'value': ['url', {'u': 's3cret'}]}}))
    other = {'message': 'EXPINIT', 'error': 'words'}
    assert discretion.entry(other) is other


def test_commands_outcomes_events_and_notifications_are_written(serve, tmp_path):
    path = tmp_path / 'journal'
    book = Journal(path)
    with StockServer(answers={128: None}) as server:
        worker = serve('rig', {'cameras': server.uri}, journal=book)
        with Client('rig') as client:
            body = client.call('EXPSTART', REF, {'note': 1})
            client.notify('EXPINIT', services=['cameras'])
            client.call('ALYX', 'https://alyx.example.org', {'user': {'token': 's3cret'}})
            with pytest.raises(ValueError, match='EXPSTATUS'):
                client.call('EXPSTATUS', 'ASLEEP')
            client.call('PING')
        worker.end_of_test()
    book.close()
    found = entries(path)
    assert (found[0]['kind'], found[-1]['kind']) == ('start', 'stop')
    found = found[1:-1]
    assert [(entry['kind'], entry.get('message') or entry['event']) for entry in found[:4]] == [
        ('command', 'EXPSTART'),
        ('event', 'SERVICE_UP'),
        ('outcome', 'EXPSTART'),
        ('command', 'EXPINIT'),
    ]
    command, _, outcome = found[:3]
    assert command['command_id'] == outcome['command_id'] == body['command_id']
    assert command['args'] == [REF, {'note': 1}] and command['sent'] == body['sent']
    assert outcome['services'] == body['services'] and outcome['code'] == 0
    kinds = [(entry['kind'], entry.get('message')) for entry in found]
    assert ('notification', 'EXPINIT') in kinds and ('outcome', 'PING') in kinds
    assert [e['code'] < 0 for e in found if (e['kind'], e.get('message')) == ('outcome', 'EXPSTATUS')] == [True]
    assert b's3cret' not in path.read_bytes()


KILLED = """
import sys
from bridge.journal import Journal
from bridge.worker import Worker
worker = Worker('rig', {'cameras': sys.argv[1]}, journal=Journal(sys.argv[2]))
print('serving', flush=True)
worker.run()
"""


def test_a_kill_loses_nothing_that_was_answered_before(tmp_path):
    path = tmp_path / 'journal'
    with StockServer() as server:
        words = [sys.executable, '-c', KILLED, server.uri, str(path)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == 'serving\n'
            with Client('rig', timeout=5) as client:
                answered = [client.call('EXPINIT', i)['command_id'] for i in range(20)]
                client.send('EXPINIT', ttl=None)
                process.kill()
                process.wait(10)
        finally:
            process.kill()
            process.wait(10)
            process.stdout.close()
    written = [entry['command_id'] for entry in entries(path) if entry['kind'] == 'outcome']
    assert written[:19] == answered[:19], 'the last one may have been in flight'


def test_the_command_shows_a_journal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '160')  # on a narrow terminal it is shorter
    path = tmp_path / 'journal'
    book = Journal(path)
    service = {'name': 'cameras', 'ok': False, 'state': 'echoed', 'error': 'no reply', 'data': {}}
    book.write('command', command_id='abc-01-7', message='EXPSTART', services='', args=[REF], sent=5)
    book.write('outcome', command_id='abc-01-7', message='EXPSTART', code=-8071, error='no reply', services=[service])
    book.write('event', event='SERVICE_DOWN', service='cameras', client='', data={'value': 'no echo'})
    book.close()
    with path.open('ab') as file:
        file.write(b'{"kind": "ev')
    assert main(['journal', str(path)]) == 0
    shown = capsys.readouterr()
    for word in ('abc-01-7', 'EXPSTART', REF, '-8071', 'cameras: echoed', 'SERVICE_DOWN', 'no echo'):
        assert word in shown.out
    assert 'line 5 is incomplete' in shown.err
    assert '1 command was answered: 1 failed' in shown.out


@pytest.mark.parametrize(('count', 'says'), [(0, 'No command was answered.'), (1, '1 command was answered: 0 failed.')])
def test_the_commands_of_a_journal_are_counted_in_words(tmp_path, capsys, count, says):
    book = Journal(tmp_path / 'journal')
    book.write('event', event='SERVICE_UP', service='cameras', client='', data={})
    for number in range(count):
        book.write('outcome', command_id=f'abc-{number}', message='EXPSTART', code=0, error='', services=[])
    book.close()
    assert main(['journal', str(tmp_path / 'journal')]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == says


def test_a_journal_says_who_sent_what_and_who_served_it(serve, tmp_path):
    import bridge

    path = tmp_path / 'journal'
    book = Journal(path)
    with StockServer() as server:
        worker = serve('rig', {'cameras': server.uri}, journal=book, heartbeat=60.0)
        with Client('rig', 'stimulus') as client:
            client.call('EXPINIT')
        with Client('rig', 'größer') as client:
            client.notify('EXPINIT')
            client.call('PING')
        worker.stop('SIGTERM')
        worker.end_of_test()
    book.close()
    start, *between, stop = entries(path)
    assert (start['kind'], start['schema'], start['version']) == ('start', SCHEMA, bridge.__version__)
    assert (start['segment'], start['pid'], start['settings']['heartbeat']) == ('rig', os.getpid(), 60.0)
    assert [(s['name'], s['uri'], s['optional']) for s in start['services']] == [('cameras', server.uri, False)]
    assert (stop['kind'], stop['reason']) == ('stop', 'SIGTERM')
    who = {(e['kind'], e['message'], e['client']) for e in between if 'command_id' in e}
    assert who == {
        ('command', 'EXPINIT', 'stimulus'), ('outcome', 'EXPINIT', 'stimulus'),
        ('command', 'EXPINIT', 'größer'), ('notification', 'EXPINIT', 'größer'),
        ('command', 'PING', 'größer'), ('outcome', 'PING', 'größer'),
    }  # fmt: skip


def test_text_is_written_as_it_is_and_half_a_surrogate_pair_spoils_nothing(tmp_path):
    book = Journal(tmp_path / 'journal')
    book.write('event', event='EXPINFO', data={'text': 'größer 実験', 'file': 'a\udcffb'})
    book.close()
    raw = book.path.read_bytes()
    assert 'größer 実験' in raw.decode('utf-8')
    assert json.loads(raw.splitlines()[1])['data'] == {'text': 'größer 実験', 'file': 'a\udcffb'}


@pytest.mark.parametrize(
    'content', [b'root:x:0:0:root:/root:/bin/bash\n', b'\0\xff' * 5000, b'{"kind": "of fruit"}\n[]\n']
)
@pytest.mark.parametrize('words', [[], ['--parquet', 'out.parquet'], ['--json', '--failures']])
def test_what_is_no_journal_is_said_to_be_none(content, words, tmp_path, capsys, monkeypatch):
    """Each of its lines was said to be torn, and the exit status was 0."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_bytes(content)
    assert main(['journal', 'file', *words]) == 2
    shown = capsys.readouterr()
    assert 'this is not a journal' in shown.err and shown.err.count('\n') == 1
    assert list(tmp_path.iterdir()) == [tmp_path / 'file']


def test_an_empty_journal_is_one(tmp_path, capsys):
    Journal(tmp_path / 'journal').close()
    assert main(['journal', str(tmp_path / 'journal')]) == 0
    assert capsys.readouterr().out == 'It is empty.\n'


ENTRY = {
    'kind': 'outcome', 'command_id': '0123456789abcdef-03-17', 'message': 'EXPSTART', 'client': 'stimulus',
    'code': -8070, 'error': 'lamp: no echo', 'sent': 10**9, 'finished': 2 * 10**9,
    'wall': '2026-01-31T12:00:00.125+00:00',
    'services': [
        {'name': 'cameras', 'ok': True, 'state': 'answered', 'error': '', 'data': {'value': 'größer'}, 'status': 20,
         'reason': '', 'sent': 10**9, 'echoed': 10**9 + 10**6, 'answered': 10**9 + 25 * 10**5},
        {'name': 'lamp', 'ok': False, 'state': 'not_sent', 'error': 'no echo', 'data': {}, 'status': -1,
         'reason': 'no_echo', 'sent': 0, 'echoed': 0, 'answered': 0},
    ],
}  # fmt: skip


@pytest.mark.parametrize('width', [60, 80, 120])
def test_a_line_fits_its_terminal_and_says_what_failed(width):
    shown = lines.line(ENTRY, width, fold=True)
    assert max(map(len, shown.splitlines())) <= width
    words = ' '.join(shown.split())
    assert words.startswith('! ') and 'stimulus' in words and 'IBLB_E_PARTIAL -8070; ' in words
    assert ('03-17' in words) == (width >= lines.WIDER) and '0123456789abcdef' not in words
    local = lines.moment(ENTRY)
    assert f'{local:%H:%M:%S}' in words
    assert lines.line(ENTRY, width, fold=False).count('\n') == 0


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*ENTRY, 'event', 'args', 'data', 'lost', 'reason']), JSON), st.booleans())
def test_any_entry_has_a_line_that_no_terminal_takes_for_a_command(entry, fold):
    shown = lines.line({'kind': 'outcome', **entry}, 80, fold=fold)
    assert all(c.isprintable() for c in shown.replace('\n', ''))


def write(path, *found: dict) -> None:
    path.write_text(''.join(json.dumps(entry) + '\n' for entry in found), encoding='utf-8')


def test_parquet_holds_commands_services_and_events_and_is_not_overwritten_unasked(tmp_path, capsys):
    parquet = pytest.importorskip('pyarrow.parquet')
    path, out = tmp_path / 'journal', tmp_path / 'out.parquet'
    key = ENTRY['command_id']
    command = {'kind': 'command', 'command_id': key, 'message': 'EXPSTART', 'client': 'stimulus', 'args': ['é', 1]}
    command |= {'services': '', 'sent': 10**9, 'wall': '2026-01-31T12:00:00+00:00'}
    unanswered = command | {'command_id': 'x', 'message': 'EXPEND'}
    write(path, {'kind': 'start', 'pid': 5}, command, {'kind': 'event', 'event': 'SERVICE_UP'}, unanswered, ENTRY)
    assert main(['journal', str(path), '--parquet', str(out)]) == 0
    services, events = tmp_path / 'out-services.parquet', tmp_path / 'out-events.parquet'
    said = [f'{out}: 2 commands', f'{services}: 2 rows, one per service and command', f'{events}: 2 events']
    assert capsys.readouterr().out.splitlines() == said
    rows = parquet.read_table(out).drop_columns(['wall']).to_pylist()
    assert [(r['message'], r['client'], r['code'], r['latency_ms'], r['args']) for r in rows] == [
        ('EXPSTART', 'stimulus', -8070, 1000.0, '["é", 1]'),
        ('EXPEND', 'stimulus', None, None, '["é", 1]'),
    ]
    rows = parquet.read_table(services).drop_columns(['wall']).to_pylist()
    assert [(r['command_id'], r['service'], r['ok'], r['echo_ms'], r['reply_ms'], r['status']) for r in rows] == [
        (key, 'cameras', True, 1.0, 2.5, 20),
        (key, 'lamp', False, None, None, -1),
    ]
    before = out.read_bytes()
    write(path, ENTRY)
    assert main(['journal', str(path), '--parquet', str(out)]) == 2
    assert '--force' in capsys.readouterr().err and out.read_bytes() == before
    assert main(['journal', str(path), '--parquet', str(out), '--force']) == 0
    assert parquet.read_table(out).num_rows == 1
    assert set(tmp_path.glob('*out*')) == {out, services, events}


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*ENTRY, 'event', 'args', 'data']), JSON))
def test_any_entry_can_be_exported(tmp_path_factory, entry):
    pytest.importorskip('pyarrow')
    places = parquet_files.places(str(tmp_path_factory.mktemp('out') / 'out'))
    list(parquet_files.export([{**entry, 'kind': kind} for kind in KINDS], places))


@pytest.mark.parametrize(('words', 'shown'), [(['--since', '2026-01-31T12:30+00:00'], 1), (['--failures'], 1), ([], 2)])
def test_what_is_wanted_can_be_chosen(words, shown, tmp_path, capsys):
    later = ENTRY | {'code': 0, 'wall': '2026-01-31T13:00:00+00:00'}
    write(tmp_path / 'journal', ENTRY, later)
    assert main(['journal', str(tmp_path / 'journal'), '--json', *words]) == 0
    assert len(capsys.readouterr().out.splitlines()) == shown


NOW = datetime(2026, 1, 31, 12, tzinfo=timezone.utc).astimezone()


@pytest.mark.parametrize(
    ('text', 'moment'),
    [
        ('15min', NOW - timedelta(minutes=15)),
        ('99999h', NOW - timedelta(hours=99999)),
        ('999999999h', datetime.min.replace(tzinfo=timezone.utc)),
        (f'{NOW:%H:%M}', NOW),
        ('00:00', NOW.replace(hour=0)),
        ('2026-01-30', datetime(2026, 1, 30).astimezone()),
        ('2026-01-30T10:30', datetime(2026, 1, 30, 10, 30).astimezone()),
        ('2026-01-30 10:30', datetime(2026, 1, 30, 10, 30).astimezone()),
    ],
)
def test_since_takes_a_moment_or_how_long_ago(text, moment):
    assert since(text, NOW) == moment


@pytest.mark.parametrize(
    ('text', 'why'),
    [
        ('yesterday', "'yesterday' is not a time; write 10:30"),
        ('', "'' is not a time; write 10:30"),
        ('15', "'15' has no unit; write 15min, or a time such as 10:30"),
        (f'{NOW + timedelta(minutes=1):%H:%M}', f'is still to come; write {NOW - timedelta(days=1):%Y-%m-%d}T'),
        ('2026-02-20', "'2026-02-20' is still to come"),
    ],
)
def test_since_says_why_a_moment_cannot_be_used(text, why):
    """Of one that is still to come it said that no commands had been answered."""
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        since(text, NOW)
    assert why in str(refused.value)


@pytest.mark.parametrize('follow', [False, True])
def test_a_line_longer_than_any_entry_is_skipped_and_not_kept(follow, tmp_path, monkeypatch):
    """As a disk leaves it that lost its power: zeros without an end of a line."""
    monkeypatch.setattr(journal_reading, 'MOST', 2000)
    entry = json.dumps(ENTRY).encode()
    (tmp_path / 'journal').write_bytes(entry + b'\n' + b'\0' * 15_000 + b'\n' + entry + b'\n')
    reading = Reading(tmp_path / 'journal', follow=follow)
    found = iter(reading)
    assert [next(found), next(found)] == [ENTRY, ENTRY]
    assert reading.torn == [2]


@pytest.mark.posix('there is no /dev/zero')
def test_a_file_of_one_endless_line_is_no_journal(capsys):
    assert main(['journal', '/dev/zero']) == 2
    assert 'this is not a journal' in capsys.readouterr().err


@pytest.mark.posix('the reader is ended by a signal')
def test_a_journal_is_followed_line_by_line_until_ctrl_c(tmp_path):
    path = tmp_path / 'journal'
    write(path, ENTRY)
    words = [sys.executable, '-m', 'bridge', 'journal', '--follow', str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while 'EXPSTART' not in process.stdout.readline():
                assert process.poll() is None
            half, rest = json.dumps(ENTRY | {'message': 'EXPEND'})[:50], json.dumps(ENTRY | {'message': 'EXPEND'})[50:]
            with path.open('a') as file:
                file.write(half)
                file.flush()
                file.write(rest + '\n')
            assert 'EXPEND' in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130 and process.stderr.read() == ''
        finally:
            process.kill()


@pytest.mark.posix('another file takes the place of one that is open')
@pytest.mark.parametrize('how', ['cut', 'replaced'])
def test_a_journal_that_is_begun_anew_is_followed_from_its_new_beginning(tmp_path, how):
    path = tmp_path / 'journal'
    write(path, ENTRY, ENTRY)
    words = [sys.executable, '-m', 'bridge', 'journal', '--follow', str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while 'EXPSTART' not in process.stdout.readline():
                assert process.poll() is None
            if how == 'replaced':
                path.rename(tmp_path / 'journal.1')
            else:
                path.write_text('')
                assert 'begun anew' in process.stderr.readline()
            write(path, ENTRY | {'message': 'EXPEND'})
            while 'EXPEND' not in process.stdout.readline():
                assert process.poll() is None
        finally:
            process.kill()


def test_to_follow_what_is_no_journal_ends_and_says_so(tmp_path, capsys):
    path = tmp_path / 'notes'
    path.write_text('feed the mice\n')
    assert main(['journal', '--follow', str(path)]) == 2
    assert 'this is not a journal' in capsys.readouterr().err


DEVICE = pytest.mark.posix('has no files that are devices')


@pytest.mark.parametrize('force', [[], ['--force']])
@pytest.mark.parametrize('place', ['journal', 'folder.parquet', '', pytest.param('/dev/null', marks=DEVICE)])
def test_an_export_replaces_neither_the_journal_nor_what_is_no_file(tmp_path, capsys, monkeypatch, place, force):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'journal'
    write(path, ENTRY)
    (tmp_path / 'folder.parquet').mkdir()
    before = path.read_bytes()
    assert main(['journal', 'journal', '--parquet', place, *force]) == 2
    assert path.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ['folder.parquet', 'journal']
    assert capsys.readouterr().err.count('\n') == 1


def test_a_journal_that_is_not_there_has_exit_status_2(tmp_path, capsys):
    assert main(['journal', str(tmp_path / 'absent')]) == 2
    assert 'absent' in capsys.readouterr().err


@pytest.mark.parametrize(
    'name', ['stimulus', 'x' * 40, '日本語のプログラム', 'cafe\u0301 cafe\u0301 cafe\u0301', '📷' * 20]
)
def test_a_column_is_as_wide_on_a_terminal_whatever_is_written_in_it(name):
    entry = {'kind': 'command', 'message': 'EXPEND', 'client': name, 'args': ['here']}
    before = lines.line(entry, 100, fold=False).partition('["here"]')[0]
    assert cell_len(before) == len(lines.head(100)) - len('details')


@pytest.mark.parametrize('width', [80, 120])
@pytest.mark.parametrize('name', ['iblb-send-4194304', 'iblb-watch-4194304', 'pid-4194304-12-abcdef'])
def test_the_process_at_the_end_of_a_programs_name_is_not_cut_off(name, width):
    """All senders of a script were called iblb-send-3…"""
    entry = {'kind': 'command', 'command_id': 'listener-of-a-long-name-1-17', 'client': name, 'args': ['here']}
    shown = lines.line(entry, width, fold=False)
    assert '4194304' in shown, shown
    assert cell_len(shown.partition('["here"]')[0]) == len(lines.head(width)) - len('details')
    assert ('1-17' in shown) == (width >= lines.WIDER)
