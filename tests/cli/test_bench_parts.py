"""What fails in `iblbridge bench` ends its own part of the table, and leaves nothing behind."""

from __future__ import annotations

import re
import signal
import socket
import sys
from contextlib import ExitStack, suppress

import pytest

from bridge.cli import main
from bridge.cli.bench import peers, programs, ways
from bridge.cli.bench.parts import Bench
from bridge.cli.bench.programs import BenchError
from bridge.cli.bench.rows import Part, Row

needs_compiler = pytest.mark.skipif(not programs.compiler(), reason='there is no C compiler')


def test_a_part_that_fails_keeps_the_rows_it_has_and_says_why_the_others_are_missing():
    ended = []

    def measure(stack: ExitStack):
        stack.callback(ended.append, True)
        yield Row('a', 'A', 'µs', '', 1.0)
        raise programs.BenchError('a line\n  and another')

    first, second = Part({'a': 'A', 'b': 'B'}, measure).rows()
    assert (first.key, first.value, first.failed) == ('a', 1.0, False)
    assert (second.key, second.title, second.failed) == ('b', 'B', True)
    assert second.note == 'a line and another'
    assert ended == [True]


@needs_compiler
@pytest.mark.posix('the C program is for Linux and macOS')
def test_a_contestant_that_does_not_start_ends_its_own_rows_only(monkeypatch, tmp_path):
    wanted = {'ping', 'send', 'fast_1'}
    all_parts = Bench.parts
    chosen = lambda bench: (part for part in all_parts(bench) if wanted & set(part.titles))  # noqa: E731
    monkeypatch.setattr(Bench, 'parts', chosen)
    monkeypatch.setattr(peers, 'libzmq', lambda: tmp_path / 'no library')
    rows = {row.key: row for row in Bench(tmp_path, 1, 3).rows()}
    assert list(rows) == ['fast_1', 'fast_1_paused', 'ping', 'ping_paused', 'send']
    assert {key for key, row in rows.items() if row.failed} == set(rows) - {'send'}
    assert rows['send'].value
    assert 'no library' in rows['ping'].note


def test_a_row_that_failed_is_told_by_the_exit_status(monkeypatch, capsys):
    for failed in (False, True):
        row = Row('a', 'what is measured', '', '', note='why', failed=failed)
        monkeypatch.setattr(Bench, 'rows', lambda bench, row=row: iter([row]))
        assert main(['bench']) == failed
        assert 'why' in capsys.readouterr().out


@pytest.mark.parametrize(('program', 'told'), [('', 'says: nothing'), ('print("ready")', 'gave 0 ports')])
def test_services_that_do_not_start_are_told(program, told):
    with pytest.raises(BenchError, match=told), ways.running([sys.executable, '-c', program], 2):
        pass


STOPPED = """
import os, signal, socket
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(('127.0.0.1', 0))
print('ready', one.getsockname()[1], flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.posix('signals as POSIX has them')
def test_services_that_are_stopped_end_their_row_and_not_the_others(monkeypatch, capsys):
    """The comparison waited for ever for the end of a program that was stopped, and told of it by a traceback."""
    monkeypatch.setattr(ways, 'PATIENCE', 0.5)
    monkeypatch.setattr(ways, 'responder', lambda folder: [sys.executable, '-c', STOPPED])
    assert main(['bench', '--ways', '--services', '1', '--commands', '5']) == 1
    stock, fast = capsys.readouterr().out.splitlines()[2:]
    assert re.match(r'iblutil, 1 +\d+ \(', stock)
    assert re.fullmatch(r'fast, 1 +not measured: no answer within 0.5 s', fast)


def test_a_bare_exchange_with_nobody_ends(monkeypatch):
    """Once it waited for ever."""
    monkeypatch.setattr(ways, 'PATIENCE', 0.5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(('127.0.0.1', 0))
        uri = f'udp://127.0.0.1:{silent.getsockname()[1]}'
        with ways.bare([uri]) as exchange, pytest.raises(TimeoutError):
            exchange()
    with ways.bare([uri]) as exchange, pytest.raises(OSError):  # nobody listens there
        exchange()


@pytest.mark.posix('signals as POSIX has them')
def test_a_signal_that_something_swallowed_ends_it_before_the_next_row(monkeypatch, capsys):
    """What Python itself calls, such as __del__, swallows what a signal raises."""

    def rows(bench):
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        bench.progress('the next row')
        yield pytest.fail('it went on')

    monkeypatch.setattr(Bench, 'rows', rows)
    monkeypatch.setattr('bridge.cli.bench.ending.await_children', lambda: None)
    assert main(['bench']) == 130
    assert capsys.readouterr().err == 'iblbridge bench: stopped by SIGINT\n'
