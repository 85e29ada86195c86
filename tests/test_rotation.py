"""A journal over months: its files, their names and order, that none is lost, and that they are read as one."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import sys
import threading
import time
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import eventually
from systems import WINDOWS

from bridge.cli import main
from bridge.journal import SCHEMA, Journal, NewerSchema, Reading, compression, is_foreign, rotation
from bridge.journal import writing as journal
from bridge.journal.compression import Compressing, Compression
from bridge.journal.rotation import (
    Rotation,
    Turns,
    complete_files,
    complete_names,
    day_of,
    end_of_day,
    next_name,
    parse,
    parse_name,
    put_aside,
)

HOUR = 3600 * 10**9
needs_zones = pytest.mark.skipif(not hasattr(time, 'tzset'), reason='the zone cannot be set on this system')


def at(text: str) -> int:
    """Return a local time as ns since 1970."""
    return int(datetime.fromisoformat(text).timestamp() * 1000) * 10**6


@pytest.fixture
def zone(monkeypatch):
    def set_zone(name: str) -> None:
        monkeypatch.setenv('TZ', name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    if hasattr(time, 'tzset'):
        time.tzset()


class Clock:
    """The wall's time, as the journal sees it."""

    def __init__(self, monkeypatch, now: str) -> None:
        self.now = at(now)
        monkeypatch.setattr(journal.time, 'time_ns', lambda: self.now)

    def set(self, now: str) -> None:
        self.now = at(now)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def numbers(*paths: Path) -> list[int]:
    return [entry['n'] for path in paths for entry in Reading(path) if 'n' in entry]


def all_numbers(path: Path) -> list[int]:
    return numbers(*complete_files(path), path)


# --- what is decided, of values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('text', 'meant'),
    [('day', 0), (' Day ', 0), ('50MB', 50_000_000), ('500 kB', 500_000), ('1GiB', 1 << 30), ('2mib', 2 << 20)],
)
def test_when_is_a_day_or_a_size(text, meant):
    assert parse(text) == Rotation(meant)


@pytest.mark.parametrize('text', ['', 'daily', '50', '50M', '-1MB', '1.5MB', '1kB', '0MB', 'é', '9' * 5000 + 'MB'])
def test_what_is_neither_a_day_nor_a_size_is_refused_with_what_to_write(text):
    with pytest.raises(ValueError, match='50MB'):
        parse(text)


def test_the_name_of_a_complete_file_says_its_journal_its_day_and_its_number():
    for of in ('rig0.jsonl', 'journal', 'rig.v2.jsonl', 'a-2026-01-01-001.jsonl'):
        name = next_name([], of, date(2026, 11, 27))
        assert parse_name(name) == parse_name(name + '.gz') == (of, '2026-11-27', 1)
    assert next_name([], 'rig0.jsonl', date(2026, 11, 27)) == 'rig0-2026-11-27-001.jsonl'
    for name in ('rig0.jsonl', 'rig0-2026-11-27.jsonl', '.rig0-2026-11-27-001.jsonl.gz.7.part', 'rig0-1-2-3-001.jsonl'):
        assert parse_name(name) is None


DAYS = st.dates(date(2026, 1, 1), date(2026, 1, 4))


@given(st.lists(st.tuples(DAYS, st.booleans()), max_size=30))
def test_names_are_in_the_order_in_which_the_files_were_complete_whatever_the_clock_says(days):
    there, written = [], []
    for day, compressed in days:
        name = next_name(there, 'rig0.jsonl', day)
        assert parse_name(name).day >= day.isoformat()
        there.append(name + '.gz' * compressed)
        written.append(name)
        assert complete_names([*there, 'rig0.jsonl', 'rig1-2026-01-09-001.jsonl'], 'rig0.jsonl') == written


def test_more_than_999_files_of_a_day_are_still_in_order():
    there = [f'rig0-2026-01-01-{number:03d}.jsonl' for number in range(1, 1000)]
    there.append(next_name(there, 'rig0.jsonl', date(2026, 1, 1)))
    assert there[-1] == 'rig0-2026-01-01-1000.jsonl'
    assert complete_names(reversed(there), 'rig0.jsonl') == there


@needs_zones
@pytest.mark.parametrize(
    ('name', 'day', 'hours'),
    [
        ('Europe/Berlin', '2026-03-29', 23),
        ('Europe/Berlin', '2026-10-25', 25),
        ('America/Havana', '2026-11-01', 25),  # its clocks go back at 1 o'clock, to midnight
        ('Africa/Cairo', '2026-04-24', 23),  # there is no midnight: its clocks go on at 0 o'clock
        ('Australia/Lord_Howe', '2026-04-05', 24.5),
        ('UTC', '2026-11-27', 24),
    ],
)
def test_a_day_lasts_from_midnight_to_midnight_also_when_summer_time_begins_or_ends(zone, name, day, hours):
    zone(name)
    noon = at(f'{day}T12:00')
    end = end_of_day(noon)
    assert day_of(noon).isoformat() == day == day_of(end - 1).isoformat()
    assert day_of(end).isoformat() > day
    begin = end_of_day(noon - 24 * HOUR)
    assert (end - begin) / HOUR == hours


@given(st.integers(0, 40 * 365 * 24 * HOUR))
def test_a_day_that_is_over_is_never_over_before_it_began(moment):
    assert moment < end_of_day(moment) <= moment + rotation._MOST_OF_A_DAY


def test_a_file_is_complete_when_its_day_is_over_also_after_days_without_an_entry():
    turns = Turns(Rotation())
    turns.begin(at('2026-11-27T23:00'))
    assert not turns.is_due(100, 10, at('2026-11-27T23:59:59'))
    assert turns.is_due(100, 10, at('2026-11-28T00:00'))
    assert turns.is_due(100, 10, at('2026-12-03T12:00'))
    assert turns.day == date(2026, 11, 27), 'its name is that of its own day'


def test_a_clock_that_is_set_back_a_little_begins_no_new_file():
    turns = Turns(Rotation())
    turns.begin(at('2026-11-28T00:00:01'))
    assert not turns.is_due(100, 10, at('2026-11-27T23:59:50'))
    assert not turns.is_due(100, 10, at('2026-11-28T00:00:02'))


def test_a_clock_that_was_ahead_by_years_and_was_set_right_does_not_end_rotation_for_years():
    turns = Turns(Rotation())
    turns.begin(at('2036-01-01T12:00'))
    assert not turns.is_due(100, 10, at('2026-11-27T12:00'))
    assert turns.is_due(100, 10, at('2026-11-28T00:00'))


def test_a_file_is_complete_before_it_has_more_than_its_size_but_never_empty():
    turns = Turns(Rotation(1000))
    assert not turns.is_due(0, 5000, at('2026-11-27T12:00'))
    assert not turns.is_due(900, 100, at('2026-11-29T12:00'))
    assert turns.is_due(900, 101, at('2026-11-29T12:00'))
    assert not Turns(None).is_due(10**12, 1, at('2026-11-27T12:00'))


@pytest.fixture
def at_once(monkeypatch):
    """Complete files are compressed without waiting for others that may still write to them."""
    monkeypatch.setattr(compression, 'SETTLE', 0.0)


# --- files -----------------------------------------------------------------------------------------------------------


def test_each_day_has_its_file_which_begins_with_its_schema_and_is_compressed(at_once, tmp_path, monkeypatch):
    clock, path = Clock(monkeypatch, '2026-11-27T23:59:59.900'), tmp_path / 'rig0.jsonl'
    book = Journal(path, rotation=Rotation())
    book.write('event', n=0)
    clock.set('2026-11-28T00:00:00')
    book.write('event', n=1)
    eventually((tmp_path / 'rig0-2026-11-27-001.jsonl.gz').exists)
    clock.set('2026-12-03T12:00')
    book.write('event', n=2)
    eventually(lambda: names(tmp_path)[1:] == ['rig0-2026-11-28-001.jsonl.gz', 'rig0.jsonl'])
    book.close()
    assert [numbers(file) for file in (*complete_files(path), path)] == [[0], [1], [2]]
    for file in complete_files(path):
        first = json.loads(gzip.decompress(file.read_bytes()).splitlines()[0])
        assert (first['kind'], first['schema']) == ('journal', SCHEMA)
        assert WINDOWS or file.stat().st_mode & 0o777 == 0o600


def test_what_was_said_before_midnight_is_in_the_file_of_its_day_although_the_disk_took_it_later(tmp_path, monkeypatch):
    going, real = [], os.write
    clock, path = Clock(monkeypatch, '2026-11-27T23:59:59'), tmp_path / 'rig0.jsonl'
    book = Journal(path, rotation=Rotation())
    monkeypatch.setattr(os, 'write', lambda *args: eventually(lambda: going, 30) and real(*args))
    for number in range(5):
        book.write('event', n=number)
    clock.set('2026-11-28T00:00')
    for number in range(5, 10):
        book.write('event', n=number)
    going.append(True)
    book.close(30)
    first, *rest = complete_files(path)
    assert (numbers(first), rest, numbers(path)) == ([0, 1, 2, 3, 4], [], [5, 6, 7, 8, 9])


def test_a_worker_that_starts_on_another_day_puts_aside_what_an_earlier_one_has_left(tmp_path, monkeypatch):
    clock, path = Clock(monkeypatch, '2026-11-27T12:00'), tmp_path / 'rig0.jsonl'
    for n, moment in enumerate(('2026-11-27T12:00', '2026-11-27T18:00', '2026-11-28T09:00')):
        clock.set(moment)
        book = Journal(path, rotation=Rotation())
        book.write('event', n=n)
        book.close()
    assert [numbers(file) for file in (*complete_files(path), path)] == [[0, 1], [2]]
    assert names(tmp_path)[0].startswith('rig0-2026-11-27-001.jsonl')


def test_a_file_has_no_more_than_its_size_and_none_is_lost_or_twice_under_load(at_once, tmp_path):
    path = tmp_path / 'journal'
    book = Journal(path, rotation=Rotation(200_000))
    for number in range(20_000):
        book.write('event', n=number)
        if book.is_pressed():
            time.sleep(0.001)
    eventually(lambda: not book._entries)
    eventually(lambda: all(file.suffix == '.gz' for file in complete_files(path)), 60)
    book.close()
    files = complete_files(path)
    assert len(files) > 5 and all(file.suffix == '.gz' for file in files)
    sizes = [len(gzip.decompress(file.read_bytes())) for file in files]
    assert max(sizes) <= 200_200 and min(sizes) > 199_000, 'with the line that says its schema'
    assert all_numbers(path) == list(range(20_000)) and not book.lost
    assert not [name for name in names(tmp_path) if name.startswith('.')]


def test_a_long_file_is_compressed_while_lines_are_written_and_holds_up_none(at_once, tmp_path, monkeypatch):
    """A second of nothing but compressing would be a second in which the queue fills."""
    path = tmp_path / 'rig0.jsonl'
    line = b'{"kind": "event", "text": "' + os.urandom(40_000).hex().encode() + b'"}\n'
    (tmp_path / 'rig0-2026-01-01-001.jsonl').write_bytes(line * 100)
    order, real = [], Compression.step
    monkeypatch.setattr(Compression, 'step', lambda self: order.append('piece') or real(self))
    book = Journal(path, rotation=Rotation())
    eventually(lambda: order)
    for number in range(20):
        before = len(order)
        book.write('event', n=number)
        eventually(lambda: len(numbers(path)) == number + 1)  # noqa: B023
        order.append('line')
        assert len(order) > before
    pieces = order[: max(i for i, what in enumerate(order) if what == 'line')].count('piece')
    assert pieces < 8_000_000 // compression.PIECE, 'all lines had to wait until the last piece was done'
    book.close()
    assert not [name for name in names(tmp_path) if name.startswith('.')], 'a half is left'


@pytest.mark.parametrize('point', ['aside', 'half', 'renamed'])
def test_whenever_a_worker_dies_every_entry_is_there_once_and_the_next_one_finishes(at_once, tmp_path, point):
    path = tmp_path / 'rig0.jsonl'
    program = f"""
import os, sys
from bridge.journal import compression
from bridge.journal.compression import Compression
from bridge.journal import Journal
from bridge.journal.rotation import Rotation
compression.SETTLE = 0.0
point, real, pieces = {point!r}, Compression.step, []
def step(self):
    pieces.append(1)
    if point == 'aside' or (point == 'half' and len(pieces) == 3):
        self._target.flush()
        os._exit(9)
    return real(self)
Compression.step = step
if point == 'renamed':
    import pathlib
    pathlib.Path.unlink = lambda self, missing_ok=False: os._exit(9)
book = Journal({str(path)!r}, rotation=Rotation(400_000))
for number in range(15):
    book.write('event', n=number, text=os.urandom(20_000).hex())
book._thread.join(60)
"""
    done = subprocess.run([sys.executable, '-c', program], timeout=60, check=False)
    assert done.returncode == 9
    first, *_ = complete_files(path)
    assert first.suffix == '.jsonl', 'the plain one is the one that is whole'
    before = all_numbers(path)
    assert before == list(range(len(before))) and len(before) >= 9
    for part in tmp_path.glob('.*.part'):
        os.utime(part, (time.time() - 7200,) * 2)
    book = Journal(path, rotation=Rotation(400_000))
    eventually(lambda: all(name.endswith('.gz') for name in names(tmp_path) if name != 'rig0.jsonl'))
    book.close()
    assert all_numbers(path) == before


def test_a_disk_that_is_full_leaves_the_plain_file_and_what_is_written_goes_on(at_once, tmp_path, monkeypatch, caplog):
    path, plain = tmp_path / 'rig0.jsonl', tmp_path / 'rig0-2026-01-01-001.jsonl'
    plain.write_text('{"kind": "event", "n": 0}\n')

    def full(file):
        raise OSError(errno.ENOSPC, 'No space left on device')

    real = os.fsync
    monkeypatch.setattr(compression.os, 'fsync', full)
    book = Journal(path, rotation=Rotation())
    eventually(lambda: 'No space left' in caplog.text)
    book.write('event', n=1)
    eventually(lambda: all_numbers(path) == [0, 1])
    assert names(tmp_path) == [plain.name, path.name]
    monkeypatch.setattr(compression.os, 'fsync', real)
    book._file.compressing.look()
    book.write('event', n=2)
    eventually(lambda: names(tmp_path) == [f'{plain.name}.gz', path.name])
    book.close()
    assert all_numbers(path) == [0, 1, 2]


def test_a_file_that_cannot_be_renamed_is_gone_on_with_and_tried_again_later(tmp_path, monkeypatch, caplog):
    """As on Windows, while another program has it open."""
    real, path = os.replace, tmp_path / 'journal'

    def held(source, target):
        raise PermissionError(errno.EACCES, 'The process cannot access the file', str(source))

    monkeypatch.setattr(rotation.os, 'replace', held)
    book = Journal(path, rotation=Rotation(1000))
    for number in range(20):
        book.write('event', n=number, text='x' * 100)
        eventually(lambda: not book._entries)
    assert caplog.text.count('cannot be rotated') == 1
    assert names(tmp_path) == ['journal'] and numbers(path) == list(range(20))
    monkeypatch.setattr(rotation.os, 'replace', real)
    book._file._turn_at = 0.0
    book.write('event', n=20, text='x' * 100)
    book.close()
    assert all_numbers(path) == list(range(21)) and numbers(path) == [20]


def test_a_name_that_is_taken_is_not_overwritten(tmp_path):
    path = tmp_path / 'rig0.jsonl'
    for content, suffix in (('a', ''), ('b', '.gz')):
        (tmp_path / f'rig0-2026-11-27-00{1 + bool(suffix)}.jsonl{suffix}').write_text(content)
    path.write_text('c')
    assert put_aside(path, date(2026, 11, 27)).name == 'rig0-2026-11-27-003.jsonl'
    assert [(tmp_path / name).read_text() for name in names(tmp_path)] == ['a', 'b', 'c']


def test_a_name_that_another_worker_takes_at_the_same_moment_is_left_to_it(tmp_path, monkeypatch):
    path, taken = tmp_path / 'rig0.jsonl', tmp_path / 'rig0-2026-11-27-001.jsonl'
    path.write_text('mine')
    monkeypatch.setattr(rotation.os, 'listdir', lambda _: taken.write_text('of the other one') and ['rig0.jsonl'])
    assert put_aside(path, date(2026, 11, 27)).read_text() == 'mine'
    assert taken.read_text() == 'of the other one'


def test_what_another_worker_still_adds_to_a_file_that_is_compressed_is_not_lost(at_once, tmp_path, monkeypatch):
    plain = tmp_path / 'rig0-2026-11-27-001.jsonl'
    plain.write_text('{"kind": "event", "n": 0}\n')
    compressing = Compressing(tmp_path / 'rig0.jsonl')
    one, real = Compression(plain), os.fsync

    def fsync(file: int) -> None:
        with plain.open('a') as other:  # after the last look
            other.write('{"kind": "event", "n": 1}\n')
        real(file)

    monkeypatch.setattr(compression.os, 'fsync', fsync)
    while one.step():
        pass
    monkeypatch.setattr(compression.os, 'fsync', real)
    assert numbers(*complete_files(tmp_path / 'rig0.jsonl')) == [0, 1]
    while not compressing.rest():
        compressing.step()
    assert names(tmp_path) == [f'{plain.name}.gz'] and numbers(tmp_path / names(tmp_path)[0]) == [0, 1]


@pytest.mark.posix('nobody renames what another one has open')
def test_two_workers_with_one_journal_lose_nothing(tmp_path):
    path = tmp_path / 'rig0.jsonl'
    program = f"""
import sys
from bridge.journal import compression
compression.SETTLE = 1.0
from bridge.journal import Journal
from bridge.journal.rotation import Rotation
book = Journal({str(path)!r}, rotation=Rotation(100_000))
begin = int(sys.argv[1])
for number in range(begin, begin + 3000):
    book.write('event', n=number, text='x' * 100)
    if number % 20 == 0:
        import time; time.sleep(0.002)
book.close(30)
assert not book.lost
"""
    workers = [subprocess.Popen([sys.executable, '-c', program, str(begin)]) for begin in (0, 10_000)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    found = all_numbers(path)
    assert sorted(found) == [*range(3000), *range(10_000, 13_000)]
    assert [n for n in found if n < 10_000] == list(range(3000)), 'each in its order'


@pytest.mark.posix('nobody removes what another one has open')
@pytest.mark.parametrize('rotation_', [None, Rotation()])
@pytest.mark.parametrize('how', ['removed', 'moved', 'replaced'])
def test_a_file_that_was_taken_away_is_begun_anew_and_nothing_goes_to_where_nobody_finds_it(
    tmp_path, how, rotation_, caplog
):
    path = tmp_path / 'rig0.jsonl'
    book = Journal(path, rotation=rotation_)
    book.write('event', n=0)
    eventually(lambda: numbers(path) == [0])
    if how == 'removed':
        path.unlink()
    else:
        path.rename(tmp_path / 'mine')
    if how == 'replaced':
        path.write_text('feed the mice\n')
    book.write('event', n=1)
    eventually(lambda: not book._entries)
    book.close()
    if how == 'replaced':
        assert path.read_text() == 'feed the mice\n' and book.lost == 1 and 'is no journal' in caplog.text
    else:
        assert numbers(path) == [1] and 'moved or removed' in caplog.text
    if how == 'moved':
        assert numbers(tmp_path / 'mine') == [0]


def test_the_schema_is_that_of_the_first_entry_and_of_older_files_1(tmp_path):
    path = tmp_path / 'rig0.jsonl'
    path.write_text('{"kind": "event", "n": 0}\n')
    reading = Reading(path)
    assert list(reading) and reading.schema == 1
    book = Journal(path)
    book.write('start', schema=SCHEMA)
    book.close()
    reading = Reading(path)
    assert len(list(reading)) == 2 and reading.schema == SCHEMA


@pytest.mark.parametrize('first', ['journal', 'start'])
def test_a_file_of_a_later_schema_is_refused_with_a_sentence_by_reader_and_worker(tmp_path, capsys, first):
    path = tmp_path / 'rig0.jsonl'
    path.write_text(json.dumps({'kind': first, 'schema': SCHEMA + 1}) + '\n{"kind": "event"}\n')
    before = path.read_bytes()
    with pytest.raises(NewerSchema):
        list(Reading(path))
    for words in ([], ['--summary'], ['--timeline', str(tmp_path / 'a.html')], ['--parquet', str(tmp_path / 'a')]):
        assert main(['journal', str(path), *words]) == 2
        assert 'newer iblbridge' in capsys.readouterr().err
    assert main(['serve', '--segment', 'rig', '--journal', str(path)]) == 2
    assert 'newer iblbridge' in capsys.readouterr().err
    assert path.read_bytes() == before and names(tmp_path) == ['rig0.jsonl']


@pytest.mark.parametrize(
    ('words', 'why'),
    [
        (['--journal-rotate', 'day'], 'there is no journal'),
        (['--journal', 'a.jsonl', '--journal-rotate', 'weekly'], "'weekly' is neither day nor a size"),
        (['--journal', 'a.jsonl', '--journal-rotate', ''], "'' is neither day nor a size"),
        (['--journal', 'a.jsonl.gz'], 'leave .gz out'),
        pytest.param(
            ['--journal', '/dev/null', '--journal-rotate', 'day'],
            'no file of the usual kind',
            marks=pytest.mark.posix('has no files that are devices'),
        ),
    ],
)
def test_a_rotation_that_cannot_be_is_refused_before_anything_starts(words, why, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(['serve', '--segment', 'rig', *words]) == 2
    assert why in capsys.readouterr().err
    assert names(tmp_path) == []


def test_what_is_compressed_is_not_appended_to_whatever_its_name(tmp_path):
    path = tmp_path / 'rig0.jsonl'
    path.write_bytes(gzip.compress(b'{"kind": "event"}\n'))
    assert is_foreign(path)


@pytest.mark.parametrize('call', ['fstat', 'stat', 'close', 'open', 'fsync', 'replace'])
@pytest.mark.parametrize('is_moved', [False, True], ids=['', 'moved'])
def test_whatever_the_system_refuses_for_a_while_the_journal_goes_on_behind_it(tmp_path, monkeypatch, call, is_moved):
    """A share that did not tell the size of a file ended the thread that writes, and with it the journal."""
    if is_moved and WINDOWS:
        pytest.skip('Windows moves nothing that is open')
    path, refusing, real = tmp_path / 'journal', threading.Event(), getattr(os, call)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        if refusing.is_set() and threading.current_thread().name == 'journal':
            if call == 'close':
                real(*args, **kwargs)
            raise OSError(errno.EIO, 'Input/output error')
        return real(*args, **kwargs)

    book = Journal(path, rotation=Rotation(size=200))
    for n in range(3):
        book.write('event', n=n, text='x' * 90)
    eventually(lambda: book._entries == 0)
    monkeypatch.setattr(os, call, refuse)
    refusing.set()
    if is_moved:
        path.rename(tmp_path / 'elsewhere')
    for n in range(3, 8):
        book.write('event', n=n, text='x' * 90)
        eventually(lambda: book._entries == 0)
    refusing.clear()
    for n in range(8, 12):
        book.write('event', n=n, text='x' * 90)
    eventually(lambda: book._entries == 0)
    assert book._thread.is_alive()
    book.close()
    found = [entry for file in (*complete_files(path), path) for entry in Reading(file)]
    assert [entry['n'] for entry in found if entry['kind'] == 'event' and entry['n'] > 7] == [8, 9, 10, 11]
