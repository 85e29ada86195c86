"""A journal of many days as a folder of Parquet files, one for each day."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cli import main
from bridge.cli.journal.parquet import NO_DAY, TABLES, by_day

dataset = pytest.importorskip('pyarrow.dataset', reason='pyarrow is not installed')
types = pytest.importorskip('pyarrow.types', reason='pyarrow is not installed')


def entries_of(day: str, number: int, answered: str = '') -> list[dict]:
    """Return a command, what became of it, and an event."""
    about = {'command_id': f'x-00-{number}', 'message': 'EXPSTART', 'client': 'stimulus', 'sent': 10**9}
    service = {'name': 'cameras', 'ok': True, 'state': 'answered', 'sent': 10**9, 'echoed': 2 * 10**9, 'answered': 0}
    walls = {'wall': f'{day}T23:59:59.000+01:00'}, {'wall': f'{answered or day}T00:00:01.000+01:00'}
    return [
        {'kind': 'command', **about, 'services': '', 'args': [], **walls[0]},
        {'kind': 'outcome', **about, 'code': 0, 'finished': 3 * 10**9, 'services': [service], **walls[1]},
        {'kind': 'event', 'event': 'SERVICE_UP', 'service': 'cameras', **walls[1]},
    ]


def write(path: Path, *entries: dict) -> Path:
    path.write_text(''.join(json.dumps(entry) + '\n' for entry in entries))
    return path


@pytest.fixture
def out(tmp_path) -> Path:
    journal = write(
        tmp_path / 'rig0.jsonl',
        *entries_of('2025-12-31', 1, answered='2026-01-01'),
        *entries_of('2026-01-01', 2),
        *entries_of('2026-01-03', 3),
    )
    assert main(['journal', str(journal), '--parquet', str(tmp_path / 'out')]) == 0
    return tmp_path / 'out'


def rows(folder: Path, name: str) -> list[dict]:
    table = dataset.dataset(folder / name, partitioning='hive').to_table()
    columns = [column.name for column in table.schema if not types.is_timestamp(column.type)]  # may need zoneinfo
    return table.select(columns).to_pylist()


def test_each_day_has_a_file_and_an_outcome_after_midnight_is_in_the_row_of_its_command(out):
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob('*.parquet')) == sorted(
        f'{name}/day={day}/part-0.parquet' for name in TABLES for day in ('2025-12-31', '2026-01-01', '2026-01-03')
    )
    assert [(row['day'], row['command_id'], row['code'], row['latency_ms']) for row in rows(out, 'commands')] == [
        ('2025-12-31', 'x-00-1', 0, 2000.0),
        ('2026-01-01', 'x-00-2', 0, 2000.0),
        ('2026-01-03', 'x-00-3', 0, 2000.0),
    ]
    assert [(row['day'], row['service'], row['echo_ms']) for row in rows(out, 'services')] == [
        (day, 'cameras', 1000.0) for day in ('2025-12-31', '2026-01-01', '2026-01-03')
    ]
    assert [row['day'] for row in rows(out, 'events')] == ['2026-01-01', '2026-01-01', '2026-01-03']


def test_what_is_there_is_kept_and_a_day_that_is_written_anew_takes_its_own_place(out, tmp_path, capsys):
    (out / 'commands' / 'day=2026-01-03' / 'part-1.parquet').write_bytes(b'of an export before')
    journal = write(tmp_path / 'rig0.jsonl', *entries_of('2026-01-03', 8), *entries_of('2026-01-04', 9))
    assert main(['journal', str(journal), '--parquet', str(out)]) == 2
    assert '--force' in capsys.readouterr().err
    assert main(['journal', str(journal), '--parquet', str(out), '--force']) == 0
    assert 'commands: 2 commands' in capsys.readouterr().out
    assert [row['command_id'] for row in rows(out, 'commands')] == ['x-00-1', 'x-00-2', 'x-00-8', 'x-00-9']


def test_what_is_a_file_or_finds_nothing_is_refused_and_nothing_is_made(tmp_path, capsys):
    journal = write(tmp_path / 'rig0.jsonl', *entries_of('2026-01-03', 1))
    assert main(['journal', str(journal), '--parquet', str(journal), '--force']) == 2
    assert 'is no folder' in capsys.readouterr().err
    assert main(['journal', str(journal), '--parquet', str(tmp_path / 'out'), '--reference', 'none']) == 1
    (tmp_path / 'notes').write_text('feed the mice\n')
    assert main(['journal', str(tmp_path / 'notes'), '--parquet', str(tmp_path / 'out')]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ['notes', 'rig0.jsonl']


ENTRIES = st.builds(
    lambda kind, key, day: {'kind': kind, 'command_id': key, 'wall': day and f'2026-01-0{day}T12:00:00+00:00'},
    st.sampled_from(['command', 'outcome', 'event']),
    st.sampled_from(['a', 'b', 'c', None]),
    st.integers(0, 4),
)


@given(st.lists(ENTRIES, max_size=20))
def test_every_entry_is_of_one_day_whatever_the_clock_does(entries):
    groups = list(by_day(entries))
    assert sorted(map(id, entries)) == sorted(id(entry) for _, group in groups for entry in group)
    for day, group in groups:
        assert all(entry['kind'] == 'outcome' or not entry['wall'] or entry['wall'].startswith(day) for entry in group)
        assert day != NO_DAY or not any(entry['wall'] for entry in group if entry['kind'] != 'outcome')


@pytest.mark.parametrize('reader', ['pandas', 'polars', 'duckdb'])
def test_what_people_use_reads_it(out, reader):
    library = pytest.importorskip(reader, reason=f'{reader} is not installed')
    if reader == 'pandas':
        found = [(str(day), key) for day, key in library.read_parquet(out / 'commands')[['day', 'command_id']].values]
    elif reader == 'polars':
        frame = library.scan_parquet(out / 'commands' / '**' / '*.parquet', hive_partitioning=True).collect()
        found = [(str(day), key) for day, key in frame.select('day', 'command_id').iter_rows()]
    else:
        query = f"SELECT day, command_id FROM read_parquet('{out}/commands/*/*.parquet', hive_partitioning=true)"
        found = [(str(day), key) for day, key in library.sql(query).fetchall()]
    days = ('2025-12-31', '2026-01-01', '2026-01-03')
    assert sorted(found) == [(day, f'x-00-{number}') for number, day in enumerate(days, 1)]
