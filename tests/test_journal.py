"""The journal: what stands in it, and that neither a kill nor a full disk spoils more than it must."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from peers import StockServer, eventually
from systems import WINDOWS

from bridge import discretion, journal
from bridge.cli import main
from bridge.journal import Journal, read
from bridge.segment.client import Client

REF = '2026-01-01_1_subject'


def entries(path) -> list[dict]:
    return [entry for entry in read(path) if not isinstance(entry, int)]


def test_every_entry_is_one_line_with_both_clocks(tmp_path):
    path = tmp_path / 'journal'
    book = Journal(path)
    before = time.perf_counter_ns()
    for i in range(100):
        book.write('event', event='EXPINFO', data={'text': f'line\n{i} ü'})
    book.close()
    *lines, end = path.read_bytes().split(b'\n')
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
    found = list(read(path))
    assert [entry if isinstance(entry, int) else entry['n'] for entry in found] == [1, 2, 3]
    assert found[1] == 2, 'the number of the torn line'


@pytest.mark.parametrize('junk', [b'\xff\n', b'5\n', b'{}\n', b'[' * 10**5 + b'\n', b'\0' * 50 + b'\n'])
def test_any_line_is_an_entry_or_its_number(tmp_path, junk):
    path = tmp_path / 'journal'
    path.write_bytes(b'{"kind": "event"}\n' + junk)
    assert list(read(path)) == [{'kind': 'event'}, 2]


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

    monkeypatch.setattr(journal.os, 'write', write)
    book = Journal(path)
    book.write('event', n=1)
    eventually(lambda: path.exists() and path.read_bytes())
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
    assert [entry for entry in read(path) if isinstance(entry, int)] == [2]
    assert len(caplog.records) == 1
    assert 'No space left' in caplog.text


def test_a_disk_that_hangs_holds_up_nobody(tmp_path, monkeypatch, caplog):
    going = threading.Event()
    real = os.write
    monkeypatch.setattr(journal.os, 'write', lambda file, data: going.wait(30) and real(file, data))
    book = Journal(tmp_path / 'journal', depth=5)
    started = time.monotonic()
    for i in range(1000):
        book.write('event', n=i)
    assert time.monotonic() - started < 5
    assert book.lost >= 990 and len(caplog.records) == 1
    going.set()
    eventually(lambda: len(entries(book.path)) >= 5)
    book.close()


def test_beside_a_disk_that_hangs_the_queue_is_bounded_in_bytes(tmp_path, monkeypatch, caplog):
    """It counted entries: 10,000 of 60 kB took 433 MB."""
    going, real = threading.Event(), os.write
    monkeypatch.setattr(journal.os, 'write', lambda file, data: going.wait(30) and real(file, data))
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


def test_the_command_shows_a_journal_and_exports_it(tmp_path, capsys):
    path, out = tmp_path / 'journal', tmp_path / 'out.parquet'
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
    assert 'line 4 is torn' in shown.err
    assert main(['journal', str(path), '--parquet', str(out)]) == 0
    parquet = pytest.importorskip('pyarrow.parquet')
    table = parquet.read_table(out)
    assert table.num_rows == 3
    row = table.drop_columns(['wall']).to_pylist()[1]
    assert (row['kind'], row['command_id'], row['code']) == ('outcome', 'abc-01-7', -8071)
    assert json.loads(row['details'])['services'] == [service]
    assert table.schema.field('wall').type.tz and table['wall'][1].is_valid and row['time'] > 0


def test_a_journal_that_is_not_there_has_exit_status_2(tmp_path, capsys):
    assert main(['journal', str(tmp_path / 'absent')]) == 2
    assert 'absent' in capsys.readouterr().err
