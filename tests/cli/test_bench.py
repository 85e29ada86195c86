"""The benchmark runs; what it measures is no test's business."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest

from bridge.cli import main
from bridge.cli.bench import peers, plot, programs, table, ways
from bridge.cli.bench.parts import Bench
from bridge.cli.bench.rows import Part, Row, reached


def test_it_measures_all_ways_and_prints_ratios(capsys):
    assert main(['bench', '--ways', '--services', '1,2', '--commands', '30']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('responder: ')
    for line, name in zip(lines[2:], ('iblutil, 1', 'fast, 1', 'fast, 2'), strict=True):
        assert re.fullmatch(rf'{name} +\d+ \( *\d+\)( +\d+ \( *\d+\) +[\d.]+ x){{3}}', line)


def test_without_a_compiler_the_services_are_python(monkeypatch, tmp_path):
    monkeypatch.setattr(ways.shutil, 'which', lambda program: None)
    assert ways.responder(str(tmp_path))[0] == sys.executable
    times = ways.measure(ways.running(ways.responder(str(tmp_path)), 2), 5, str(tmp_path))
    assert {name: len(took) for name, took in times.items()} == {'bare': 5, 'await': 5, 'submit': 5, 'worker': 5}


@pytest.mark.parametrize(
    'arguments',
    [
        ['--ways', '--services', '0'],
        ['--ways', '--services', 'many'],
        ['--ways', '--commands', '0'],
        ['--commands', '0'],
        ['--rounds', '0'],
    ],
)
def test_numbers_that_make_no_sense_are_refused(arguments, capsys):
    assert main(['bench', *arguments]) == 2
    assert 'takes numbers' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.posix('the C program is for Linux and macOS')
def test_the_whole_table_is_measured_and_nothing_is_left(tmp_path, monkeypatch, capsys):
    folder, segments = tmp_path / 'with spaces, and more', tmp_path / 'segments'
    folder.mkdir()
    segments.mkdir(mode=0o700)
    monkeypatch.setattr('tempfile.tempdir', str(folder))
    monkeypatch.setenv('IBLBRIDGE_DIR', str(segments))
    file = tmp_path / 'figures.json'
    assert main(['bench', '--rounds', '1', '--commands', '3', '--markdown', '--json', str(file)]) == 0
    report, printed = json.loads(file.read_text()), capsys.readouterr().out
    rows = {row['key']: row for row in report['rows']}
    assert list(rows) == [
        *(key + when for key in ('stock', 'fast_1', 'fast_2', 'fast_8') for when in ('', '_paused')),
        *('idle', 'ping', 'ping_paused', 'ping_processor', 'send', 'notify', 'notify_journal'),
        *('skew', 'skew_paused', 'event', 'event_paused'),
    ]  # fmt: skip
    assert all(row['title'] in printed for row in rows.values())
    assert set(rows['stock']['against']) == {'ZeroMQ bridge', 'bare asyncio'}
    assert set(rows['ping']['against']) == {'ZeroMQ echo', 'SEQPACKET'}
    if sys.platform == 'linux':
        assert set(rows['skew']['against']) == {'C loop of sendto'}
        assert set(rows['event_paused']['against']) == {'PING one way'}
    assert os.listdir(folder) == []
    assert not list(segments.rglob('*bench*'))


@pytest.mark.posix('the C program is for Linux and macOS')
def test_without_a_compiler_it_says_how_to_get_one(monkeypatch, capsys):
    monkeypatch.setattr(programs, 'compiler', lambda: None)
    assert main(['bench']) == 1
    assert 'apt install gcc' in capsys.readouterr().out


@pytest.mark.parametrize('option', [(), ('--markdown',)])
def test_what_is_not_installed_is_said_once_with_the_line_that_installs_it(monkeypatch, capsys, option):
    """Ten rows said it."""
    monkeypatch.setattr(peers, 'libzmq', lambda: None)
    rows = [Row(f'{n}', f'row {n}', 'µs', '≤ 0.5 × ZeroMQ echo', 1.0, 2.0) for n in range(3)]
    monkeypatch.setattr(Bench, 'rows', lambda bench: iter(rows))
    assert main(['bench', *option]) == 0
    assert capsys.readouterr().out.count(peers.INSTALL) == 1


def test_libzmq_is_not_found_without_pyzmq(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert peers.libzmq() is None and peers.INSTALL in peers.missing()


@pytest.mark.posix('processes of their own session')
def test_a_program_that_does_not_get_ready_is_told_and_ended():
    with pytest.raises(programs.BenchError, match='says: no'), programs.running(sys.executable, '-c', 'print("no")'):
        pass


def test_an_aim_is_reached_only_if_all_was_measured():
    assert reached({'a': 0.5, 'b': 1.0}, {'a': 0.5, 'b': 1.2}) is True
    assert reached({'a': 0.6, 'b': 1.0}, {'a': 0.5, 'b': 1.2}) is False
    assert reached({'b': 1.0}, {'a': 0.5, 'b': 1.2}) is None
    assert reached({'b': 1.3}, {'a': 0.5, 'b': 1.2}) is False


def test_the_table_calls_no_small_ratio_a_win():
    row = Row('ping', 'PING', 'µs', '≤ 0.5 × x', 50.0, 80.0, {'x': 0.9}, False)
    assert table.cells(row) == ('PING', '50 µs; 80 µs', '0.90 × x (≈)', '≤ 0.5 × x', 'no')
    assert row.as_dict()['verdict'] == {'x': '≈'}


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--json', 'none/x.json'], '--json: none/x.json: there is no folder none'),
        (['--json', '.'], '--json: . is no file'),
        (['--json', ''], "--json: '' is no file"),
        (['--plot', 'none/x.png'], '--plot: none/x.png: there is no folder none'),
        (['--plot', 'x.xyz'], '--plot: x.xyz does not end in'),
        (['--plot', 'x'], '--plot: x does not end in'),
        (['--ways', '--json', 'w.json'], '--json: not with --ways'),
        (['--ways', '--plot', 'w.png'], '--plot: not with --ways'),
        (['--ways', '--markdown'], '--markdown: not with --ways'),
        (['--ways', '--full'], '--full: not with --ways'),
        (['--ways', '--rounds', '3'], '--rounds: not with --ways'),
        (['--services', '3'], '--services: only with --ways'),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_measured(arguments, said, monkeypatch, tmp_path, capsys):
    """It measured for a minute, and then ended with a traceback, or without the file."""
    if '--plot' in arguments and '--ways' not in arguments:
        pytest.importorskip('matplotlib')
    monkeypatch.chdir(tmp_path)
    for work in ('bridge.cli.bench._measure', 'bridge.cli.bench.ways.run'):
        monkeypatch.setattr(work, lambda *args: pytest.fail('it measures'))
    assert main(['bench', *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == '' and shown.err.startswith(f'iblbridge bench: {said}')
    assert shown.err.count('\n') == 1
    assert os.listdir(tmp_path) == []


def test_the_title_of_a_row_is_shown_while_it_is_measured_and_gone_after():
    told = []

    def measure(stack):
        for key in ('a', 'b'):
            told.append(f'measures {key}')
            yield Row(key, key.upper(), 'µs', '', 1.0)

    Part({'a': 'A', 'b': 'B'}, measure).rows(told.append)
    assert told == ['A', 'measures a', 'B', 'measures b', '']


def test_a_note_with_a_semicolon_is_one_line_and_what_was_not_measured_says_so():
    machine = table.machine() | {'load_after': 1.0}
    row = Row('a', 'work', '', '', note='there is none; get one', failed=True)
    lines = table.plain(machine, [row]).splitlines()
    assert lines[-2:] == ['work: not measured', '    there is none; get one']
    assert table.LEGEND in lines


def test_bars_begin_at_one_and_the_picture_says_of_what_it_is(monkeypatch, tmp_path):
    matplotlib = pytest.importorskip('matplotlib.figure')
    drawn = []
    monkeypatch.setattr(matplotlib.Figure, 'savefig', lambda figure, path, dpi: drawn.append(figure))
    machine = table.machine()
    plot.draw(machine, [Row('a', 'work', 'µs', '', 1.0, 2.0, {'x': 0.25, 'y': 8.0})], 'x.png')
    (axes,) = drawn[0].axes
    assert sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches) == [(1, 0.25), (1, 8)]
    assert [label.get_text() for label in axes.get_xticklabels()] == ['0.5', '1', '2', '5']
    title = drawn[0].get_suptitle() if hasattr(drawn[0], 'get_suptitle') else drawn[0]._suptitle.get_text()
    assert all(str(machine[what]) in title for what in ('version', 'date', 'processor'))
