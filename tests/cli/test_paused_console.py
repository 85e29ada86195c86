"""What a console does to a program that has to go on: a reader that has stopped, a log that is longer than its pipe."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
from peers import eventually
from systems import APART, ask_to_end, small_pipe

from bridge.cli import console
from bridge.segment.client import Client


@pytest.fixture
def pipe():
    """A pipe that takes 4 kB, and then nobody reads."""
    reader, writer = small_pipe()
    yield reader, writer
    for end in (reader, writer):
        os.close(end)


def lines_of(reader: int, last: str) -> list[str]:
    text = ''
    while last not in text:
        text += os.read(reader, 65536).decode()
    return text.splitlines()


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord('x', logging.INFO, __file__, 1, text, (), None)


def test_a_log_that_nobody_reads_holds_nobody_up_and_what_is_lost_is_counted(pipe):
    reader, writer = pipe
    log = console.LogThread(writer)
    log.setFormatter(logging.Formatter('%(message)s'))
    many = console.MOST_LINES + 1000
    for i in range(100):
        log.emit(record(f'{i:0200d}'))
    eventually(lambda: log._lines.qsize() < 100 - 4096 // 201)  # the pipe is full, and one line in the writer's hands
    for i in range(100, many):
        log.emit(record(f'{i:0200d}'))
    assert 0 < log.lost <= 1000  # what the pipe holds, and one line in the writer's hands, found room
    kept = many - log.lost
    log.emit(record('there is no room for this either'))
    lines = lines_of(reader, f'{kept - 1:0200d}\n')
    assert [int(line) for line in lines] == list(range(kept))
    log.emit(record('end'))
    assert lines_of(reader, 'end\n') == [f'{many - kept + 1} lines of this log found no reader and are lost', 'end']
    log.close()


def test_closing_a_log_writes_what_waits_and_does_not_wait_for_a_reader_for_ever(pipe):
    reader, writer = pipe
    log = console.LogThread(writer)
    log.emit(record('the last words'))
    log.close()
    assert os.read(reader, 100) == b'the last words\n'
    stuck = console.LogThread(writer)
    for i in range(1000):
        stuck.emit(record(f'{i:0200d}'))
    stuck.close()  # pytest's time-out would tell


def test_a_rig_whose_log_is_not_read_is_served_and_ends(pipe):
    """A terminal after Ctrl-S, a service manager that hangs, a Windows console in which somebody has clicked."""
    reader, writer = pipe
    words = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig', '--verbose']
    worker = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=writer, text=True, **APART)
    try:
        assert worker.stdout is not None and worker.stdout.readline().startswith('READY rig')
        with Client('rig', 'a') as client:
            for _ in range(500):
                client.call('PING', timeout=5)
            assert os.read(reader, 10) != b''
        ask_to_end(worker)
        assert worker.wait(20) == 0
    finally:
        worker.kill()
        worker.wait()


def test_lines_come_in_their_order_and_whole_though_a_write_takes_a_part_only(pipe):
    reader, writer = pipe
    log = console.LogThread(writer)
    long = 'x' * 20_000  # five times what the pipe takes
    log.emit(record(long))
    log.emit(record('\xe9\udcff'))  # as of a file name that is no UTF-8
    assert lines_of(reader, 'udcff\n') == [long, '\xe9\\udcff']
    log.close()
