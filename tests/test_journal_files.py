"""Several files read as one journal: in their order, each entry once, whatever is renamed or compressed meanwhile."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from datetime import date, datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import eventually
from test_rotation import Clock, names

from bridge.cli import main
from bridge.cli.journal.summary import summarize
from bridge.cli.journal.timeline import picture
from bridge.journal import Journal, Reading, compression
from bridge.journal import reading as journal_reading
from bridge.journal.files import Journals, in_order, journals_in, labels, older
from bridge.journal.rotation import Rotation, complete_files, put_aside

HEAD = {'kind': 'journal', 'schema': 2}


def lines(*numbers: int, day: int = 27) -> bytes:
    entries = [HEAD | {'time': numbers[0]}] if numbers else []
    for n in numbers:
        about = {'command_id': f'x-00-{n}', 'message': 'EXPSTART', 'client': 'stimulus', 'services': [], 'sent': n}
        wall = f'2025-11-{day}T12:00:00.{n:03d}+00:00'
        entries.append({'kind': 'command', 'n': n, **about, 'args': [f'2025-11-{day}_1_x'], 'time': n, 'wall': wall})
        entries.append({'kind': 'outcome', **about, 'code': 0, 'finished': n + 1, 'time': n, 'wall': wall})
    return b''.join(json.dumps(entry).encode() + b'\n' for entry in entries)


def numbers(found) -> list[int]:
    return [entry['n'] for entry in found if 'n' in entry]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three days: the first one compressed, of the second both files, as a crash leaves them, and the present one."""
    (tmp_path / 'rig0-2025-11-25-001.jsonl.gz').write_bytes(gzip.compress(lines(1, 2, day=25)))
    (tmp_path / 'rig0-2025-11-26-001.jsonl').write_bytes(lines(3, 4, day=26))
    (tmp_path / 'rig0-2025-11-26-001.jsonl.gz').write_bytes(gzip.compress(lines(3, day=26)))
    (tmp_path / '.rig0-2025-11-26-001.jsonl.gz.77.part').write_bytes(b'\x1f\x8bhalf')
    (tmp_path / 'rig0.jsonl').write_bytes(lines(5, 6))
    return tmp_path


def test_a_folder_is_read_as_one_journal_and_each_entry_once(folder, capsys):
    journals = Journals([folder])
    assert numbers(journals) == [1, 2, 3, 4, 5, 6] and journals.found == 12 + 3
    (folder / 'services.yaml').write_text('cameras: 192.168.0.8\n')
    assert main(['journal', str(folder)]) == 0
    shown = capsys.readouterr()
    assert '6 commands were answered: 0 failed.' in shown.out and shown.err == ''


def test_files_are_read_in_the_order_in_which_they_were_written_however_they_are_named(folder):
    every = [path for path in folder.iterdir() if path.name[0] != '.']
    assert numbers(Journals(sorted(every, reverse=True))) == [1, 2, 3, 4, 5, 6]
    assert numbers(Journals([folder / 'rig0.jsonl'])) == [5, 6]
    assert numbers(Journals([folder / 'rig0-2025-11-25-001.jsonl.gz'])) == [1, 2]


@given(
    st.permutations([f'rig0-2026-01-0{day}-{n:03d}.jsonl{gz}' for day in (1, 2) for n, gz in ((1, ''), (1000, '.gz'))])
)
def test_the_order_of_names_on_the_command_line_does_not_matter(order):
    found = [path.name for path in in_order([Path('rig0.jsonl'), *map(Path, order)])]
    assert found == [
        'rig0-2026-01-01-001.jsonl', 'rig0-2026-01-01-1000.jsonl.gz',
        'rig0-2026-01-02-001.jsonl', 'rig0-2026-01-02-1000.jsonl.gz', 'rig0.jsonl',
    ]  # fmt: skip


def test_several_rigs_of_one_folder_are_merged_by_time_whatever_their_journals_are_called(folder):
    (folder / 'rig1.jsonl').write_bytes(lines(7))
    (folder / 'ephys.log').write_bytes(lines(9))
    (folder / 'ephys-2025-11-26-001.log').write_bytes(lines(8))
    assert [path.name for path in journals_in(folder)] == ['ephys.log', 'rig0.jsonl', 'rig1.jsonl']
    found = list(Journals([folder]))
    assert [entry['wall'] for entry in found] == sorted(entry['wall'] for entry in found)
    for rig, own in (('ephys', [8, 9]), ('rig0', [1, 2, 3, 4, 5, 6]), ('rig1', [7])):
        assert numbers(entry for entry in found if entry['rig'] == rig) == own
    (folder / 'rig1.jsonl').unlink()
    for path in folder.glob('ephys*'):
        path.unlink()
    (folder / 'notes.jsonl').write_text('{"mouse": 1}\n')
    assert not any('rig' in entry for entry in Journals([folder])), 'there is one rig'


def test_two_rigs_have_lanes_rows_lines_and_experiments_of_their_own(tmp_path, capsys):
    """Both rigs' cameras shared a lane and a row, and no line said of which rig it was."""
    for rig, day in (('rig0', 27), ('rig1', 28)):
        text = lines(1, day=27).replace(b'2025-11-27_1_x', b'2025-11-%d_1_x' % day).replace(b'x-00-', rig.encode())
        service = b'[{"name": "cameras", "ok": true, "state": "answered"}]'
        (tmp_path / f'{rig}.jsonl').write_bytes(text.replace(b'"services": []', b'"services": ' + service))
    rigs = [str(tmp_path / 'rig0.jsonl'), str(tmp_path / 'rig1.jsonl')]
    drawn = picture(Journals(rigs))
    assert drawn.lanes == ['rig0/programs', 'rig0/cameras', 'rig1/programs', 'rig1/cameras']
    assert [(bar.lane, bar.parts[0].lane) for bar in drawn.bars] == [(0, 1), (2, 3)]
    starts = [{'kind': 'start', 'rig': rig, 'services': [{'name': 'cameras'}]} for rig in ('rig0', 'rig1')]
    assert picture(starts).lanes == drawn.lanes
    rows = [row.service for row in summarize(Journals(rigs))]
    assert rows == ['rig0/all', 'rig0/cameras', 'rig1/all', 'rig1/cameras']
    assert main(['journal', *rigs, '--reference', '2025-11-28_1_x']) == 0
    shown = capsys.readouterr().out
    assert 'rig1: ' in shown and 'rig0' not in shown


@pytest.mark.parametrize('place', ['a', '.'])
def test_journals_of_the_same_name_are_called_by_their_folders_too(place):
    found = labels([Path(place, 'rig0.jsonl'), Path('b', 'rig0.jsonl')])
    assert len(set(found.values())) == 2


def test_only_one_journal_can_be_followed(folder):
    (folder / 'rig1.jsonl').write_bytes(lines(7))
    with pytest.raises(ValueError, match='only one journal can be followed'):
        Journals([folder], follow=True)


@pytest.mark.parametrize(
    ('words', 'shown'),
    [
        (['--since', '2025-11-26T00:00+00:00'], 8),
        (['--until', '2025-11-26T00:00+00:00'], 4),
        (['--reference', '2025-11-26_1_x'], 4),
        (['--reference', '2025-11-25_1_x', '--failures'], 0),
    ],
)
def test_what_chooses_entries_chooses_from_all_files(folder, capsys, words, shown):
    assert main(['journal', str(folder), '--json', *words]) == (0 if shown else 1)
    assert len(capsys.readouterr().out.splitlines()) == shown


@pytest.mark.parametrize(
    ('words', 'shown'),
    [
        (['--since', '2025-11-26T00:00+00:00'], 8),
        (['--since', '2000-01-01'], 12),
        (['--until', '2025-11-26T00:00+00:00'], 4),
        (['--reference', '2025-11-25_1_x'], 4),
        ([], 4),
        (['--failures'], 0),
    ],
)
def test_who_names_the_present_file_gets_what_is_asked_for_from_the_complete_ones_or_is_told(
    folder, capsys, words, shown
):
    """With rotation, --since 2days was answered with today alone, and not a word."""
    assert main(['journal', str(folder / 'rig0.jsonl'), '--json', *words]) == (0 if shown else 1)
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == shown
    is_told = 'rig0.jsonl: 2 complete files beside it are not read; for all of them add --since' in told.err
    assert is_told == (words in ([], ['--failures']))


def test_files_that_are_older_than_what_is_asked_for_are_not_read(folder):
    journals = Journals([folder / 'rig0.jsonl'], whole=True, since=datetime(2025, 11, 29, tzinfo=timezone.utc))
    assert numbers(journals) == [3, 4, 5, 6]
    days = [Path(f'rig0-2025-11-0{day}-001.jsonl.gz') for day in (1, 3, 5, 7)]
    for day, count in ((1, 0), (4, 0), (6, 1), (7, 2), (8, 2), (9, 3)):
        assert older(days, datetime(2025, 11, day, tzinfo=timezone.utc)) == days[:count]


def test_a_present_file_that_is_missing_is_said(tmp_path, capsys):
    assert main(['journal', str(tmp_path / 'rig0.jsonl'), '--since', '2000-01-01']) == 2
    assert 'rig0.jsonl' in capsys.readouterr().err


def test_an_experiment_over_midnight_is_one(tmp_path, capsys):
    (tmp_path / 'rig0-2025-11-26-001.jsonl.gz').write_bytes(gzip.compress(lines(1, 2, day=26)))
    later = lines(3, 4, day=27).replace(b'2025-11-27_1_x', b'2025-11-26_1_x')
    (tmp_path / 'rig0.jsonl').write_bytes(later)
    assert main(['journal', str(tmp_path), '--summary', '--reference', '2025-11-26_1_x', '--json']) == 0
    assert json.loads(capsys.readouterr().out)['count'] == '4'


def test_a_picture_is_drawn_of_all_files_and_replaces_none_of_them(folder, capsys):
    pages = folder / 'pages'
    pages.mkdir()
    assert main(['journal', str(folder), '--timeline', str(pages / 'all.html')]) == 0
    assert '6 commands, 0 events' in capsys.readouterr().out
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    png = folder / 'rig0.png'
    os.link(folder / 'rig0-2025-11-26-001.jsonl', png)
    assert main(['journal', str(folder), '--timeline', str(png), '--force']) == 2
    assert 'is the journal itself' in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize('words', [[], ['--json'], ['--summary'], ['--timeline', 'a.html'], ['--parquet', 'a.parquet']])
@pytest.mark.parametrize(
    'narrow', [['--reference', 'no such'], ['--failures'], ['--since', '9ms'], ['--until', '2001-01-01']]
)
def test_who_asks_for_what_is_not_there_is_told_and_gets_no_empty_picture(folder, capsys, monkeypatch, words, narrow):
    """It drew one, and the exit status was 0."""
    monkeypatch.chdir(folder)
    before = names(folder)
    assert main(['journal', '.', *narrow, *words]) == 1
    shown = capsys.readouterr()
    assert 'no entry is one of those that were asked for' in shown.err and shown.out == ''
    assert names(folder) == before


@pytest.mark.parametrize(('words', 'status'), [([], 0), (['--summary'], 0), (['--timeline', 'a.html'], 1)])
def test_of_a_journal_without_an_entry_there_is_no_picture(tmp_path, capsys, monkeypatch, words, status):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'rig0.jsonl').write_text('')
    assert main(['journal', 'rig0.jsonl', *words]) == status
    assert names(tmp_path) == ['rig0.jsonl']


def test_an_empty_folder_and_a_folder_of_something_else_are_said(tmp_path, capsys):
    assert main(['journal', str(tmp_path)]) == 2
    assert 'there is no journal in this folder' in capsys.readouterr().err
    (tmp_path / 'notes.jsonl').write_text('{"mouse": 1}\n')
    assert main(['journal', str(tmp_path)]) == 2
    assert 'notes.jsonl: this is not a journal' in capsys.readouterr().err
    (tmp_path / 'rig0.jsonl').write_bytes(lines(1))
    assert main(['journal', str(tmp_path)]) == 0
    assert 'notes.jsonl: this is not a journal' in capsys.readouterr().err


@pytest.mark.parametrize('cut', [20, 300, -4])
def test_a_compressed_file_that_is_damaged_is_read_as_far_as_it_goes_and_the_others_whole(folder, capsys, cut):
    path = folder / 'rig0-2025-11-25-001.jsonl.gz'
    whole = gzip.compress(lines(*range(100), day=25))
    path.write_bytes(whole[:cut])
    assert main(['journal', str(folder), '--json']) == 2
    shown = capsys.readouterr()
    assert 'rig0-2025-11-25-001.jsonl.gz: the compressed file is damaged' in shown.err
    assert numbers(map(json.loads, shown.out.splitlines()))[-4:] == [3, 4, 5, 6]


def test_what_is_renamed_and_compressed_while_one_reads_is_read_all_the_same(folder, monkeypatch):
    journals = iter(Journals([folder]))
    found = [next(journals)]
    plain, present = folder / 'rig0-2025-11-26-001.jsonl', folder / 'rig0.jsonl'
    (folder / f'{plain.name}.gz').write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    aside = put_aside(present, date(2025, 11, 27))
    aside.with_name(aside.name + '.gz').write_bytes(gzip.compress(aside.read_bytes()))
    aside.unlink()
    present.write_bytes(lines(7))
    assert numbers([*found, *journals]) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.posix('nobody renames what another one has open')
def test_a_journal_is_followed_from_file_to_file_without_losing_or_repeating_an_entry(tmp_path, monkeypatch):
    monkeypatch.setattr(compression, 'SETTLE', 0.0)
    path = tmp_path / 'rig0.jsonl'
    book = Journal(path, rotation=Rotation(100_000))
    book.write('event', n=0)
    eventually(path.read_bytes)
    found, said, enough = [], [], threading.Event()

    def follow() -> None:
        for entry in Reading(path, follow=True, on_new=lambda: said.append('new')):
            found.append(entry['n'])
            if entry['n'] == 5000:
                enough.set()
                return

    monkeypatch.setattr(journal_reading, 'LOOK', 0.01)
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    for number in range(1, 5001):
        book.write('event', n=number, text='x' * 50)
        if number % 100 == 0:
            eventually(lambda: not book._entries)
    assert enough.wait(30)
    book.close()
    assert found == list(range(5001)) and said == []
    assert len(names(tmp_path)) > 4


@pytest.mark.posix('nobody renames what another one has open')
def test_what_is_written_last_before_a_file_is_put_aside_is_read_by_who_follows(tmp_path, monkeypatch):
    path, real = tmp_path / 'rig0.jsonl', journal_reading._was_begun_anew

    def look(*args) -> bool:
        if not complete_files(path):  # just after it was read to its end
            with path.open('ab') as file:
                file.write(lines(2))
            put_aside(path, date(2025, 11, 27))
            path.write_bytes(lines(3))
        return real(*args)

    monkeypatch.setattr(journal_reading, '_was_begun_anew', look)
    path.write_bytes(lines(1))
    following = (entry for entry in Reading(path, follow=True) if 'n' in entry)
    assert [next(following)['n'] for _ in range(3)] == [1, 2, 3]


@pytest.mark.posix('nobody renames what another one has open')
def test_who_follows_and_was_stopped_for_days_reads_the_files_in_between(tmp_path, monkeypatch):
    monkeypatch.setattr(compression, 'SETTLE', 0.0)
    clock, path = Clock(monkeypatch, '2026-11-23T12:00'), tmp_path / 'rig0.jsonl'
    book = Journal(path, rotation=Rotation())
    book.write('event', n=0)
    eventually(path.read_bytes)
    following = iter(Reading(path, follow=True))
    found = [next(following)['n']]
    for n in range(1, 5):
        clock.set(f'2026-11-2{3 + n}T12:00')
        book.write('event', n=n)
        eventually(lambda: len(names(tmp_path)) == n + 1 and all(name[-3:] == '.gz' for name in names(tmp_path)[:-1]))  # noqa: B023
    assert found + [next(following)['n'] for _ in range(4)] == [0, 1, 2, 3, 4]
    book.close()


@pytest.mark.posix('the reader is ended by a signal')
def test_a_folder_is_followed_at_its_present_file(folder):
    words = [sys.executable, '-m', 'bridge', 'journal', '--follow', '--json', str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            for _ in range(12):
                last = process.stdout.readline()
            assert json.loads(last)['command_id'] == 'x-00-6'
            with (folder / 'rig0.jsonl').open('ab') as file:
                file.write(lines(7))
            assert json.loads(process.stdout.readline())['n'] == 7
        finally:
            process.kill()
