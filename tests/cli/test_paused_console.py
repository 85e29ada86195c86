"""What a console does to a program that has to go on: a reader that has stopped, a log that is longer than its pipe."""

from __future__ import annotations

import contextlib
import linecache
import logging
import os
import subprocess
import sys
import threading

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


def fill(writer: int) -> None:
    """Fill a pipe, so that whoever writes to it waits."""
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b'x')
    os.set_blocking(writer, True)


def thread_on(writer: int) -> console.LogThread:
    return console.LogThread(open(writer, 'w', encoding='utf-8', closefd=False))


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord('x', logging.INFO, __file__, 1, text, (), None)


def test_a_log_that_nobody_reads_holds_nobody_up_and_what_is_lost_is_counted(pipe):
    reader, writer = pipe
    log = thread_on(writer)
    log.setFormatter(logging.Formatter('%(message)s'))
    many = console.MOST_LINES + 1000
    for i in range(100):
        log.emit(record(f'{i:0200d}'))
    eventually(lambda: log.aside.waiting < 100 - 4096 // 201)  # the pipe is full, and one line in the writer's hands
    for i in range(100, many):
        log.emit(record(f'{i:0200d}'))
    assert 0 < log.lost <= 1000  # what the pipe holds, and one line in the writer's hands, found room
    kept = many - log.lost
    log.emit(record('there is no room for this either'))
    lines = lines_of(reader, f'{kept - 1:0200d}\n')
    assert [int(line) for line in lines] == list(range(kept))
    log.emit(record('end'))
    assert lines_of(reader, 'end\n') == [f'{many - kept + 1} lines of this log are lost, as nobody read it', 'end']
    log.close()


def test_closing_a_log_writes_what_waits_and_does_not_wait_for_a_reader_for_ever(pipe):
    reader, writer = pipe
    log = thread_on(writer)
    log.emit(record('the last words'))
    log.close()
    assert os.read(reader, 100) == b'the last words\n'
    stuck = thread_on(writer)
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


@pytest.mark.posix('a pipe can be filled without waiting')
@pytest.mark.parametrize('stream', ['stdout', 'stderr'])
def test_a_rig_is_served_and_ends_though_its_console_takes_nothing_from_the_start(stream):
    """The line READY held the worker up before it took the first command."""
    reader, writer = small_pipe()
    fill(writer)
    words = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig']
    streams = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL, stream: writer}
    worker = subprocess.Popen(words, **streams, **APART)
    try:
        with Client('rig', 'a', 20) as client:
            client.call('PING', timeout=5)
        ask_to_end(worker)
        assert worker.wait(20) == 0
    finally:
        worker.kill()
        worker.wait()
        os.close(reader)
        os.close(writer)


def test_a_traceback_is_formatted_and_its_sources_read_by_the_log_thread_alone(pipe, monkeypatch):
    reader, writer = pipe
    reading: set[str] = set()

    def watched(function):
        def asked(*args, **options):
            reading.add(threading.current_thread().name)
            return function(*args, **options)

        return asked

    for name in ('getline', 'getlines', 'checkcache', 'updatecache'):
        monkeypatch.setattr(linecache, name, watched(getattr(linecache, name)))
    log = thread_on(writer)
    try:
        raise ValueError('no space')
    except ValueError:
        log.emit(logging.LogRecord('x', logging.ERROR, __file__, 1, 'it failed: %s', ('so',), sys.exc_info()))
    lines = lines_of(reader, 'ValueError: no space\n')
    assert lines[0] == 'it failed: so' and "    raise ValueError('no space')" in lines
    assert reading == {'console'}
    log.close()


def test_a_line_that_can_not_be_made_is_told_in_the_log_and_not_on_standard_error(pipe, capfd):
    reader, writer = pipe
    log = thread_on(writer)
    log.emit(logging.LogRecord('x', logging.INFO, __file__, 1, '%d services', ('no',), None))
    assert lines_of(reader, '\n')[0].startswith("'%d services': this line could not be formatted: TypeError")
    log.setFormatter(logging.Formatter('%(nobody)s'))
    log.emit(record('x'))
    assert lines_of(reader, '\n')[0].startswith('a line of this log could not be formatted: ')
    log.close()
    assert capfd.readouterr().err == ''


PRINTING = """
import logging, sys, threading, warnings
from bridge.cli.console import log_to_stderr

class Ill:
    def __del__(self):
        raise ValueError('ill')

log_to_stderr(logging.INFO)
warnings.simplefilter('always')
for _ in range(200):
    warnings.warn('beware', RuntimeWarning)
    Ill()
    thread = threading.Thread(target=lambda: 1 / 0, name='dying')
    thread.start()
    thread.join()
print('it went on', flush=True)
"""


def test_what_python_itself_would_print_holds_nobody_up_either(pipe):
    reader, writer = pipe
    words = [sys.executable, '-c', PRINTING]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=writer, text=True, **APART)
    try:
        assert process.stdout is not None and process.stdout.readline() == 'it went on\n'
        lines = lines_of(reader, 'ZeroDivisionError')
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
    for said in ('RuntimeWarning: beware', 'ValueError: ill', "a thread was ended by an exception: 'dying'"):
        assert any(said in line for line in lines), said


def test_lines_come_in_their_order_and_whole_though_a_write_takes_a_part_only(pipe):
    reader, writer = pipe
    log = thread_on(writer)
    long = 'x' * 20_000  # five times what the pipe takes
    log.emit(record(long))
    log.emit(record('\xe9\udcff'))  # as of a file name that is no UTF-8
    assert lines_of(reader, 'udcff\n') == [long, '\xe9\\udcff']
    log.close()
