"""The services that tell when something reached them (`witness.c`), and the programs that are measured by them."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import contextmanager

import pytest

from bridge.cli.bench import programs

pytestmark = [
    pytest.mark.skipif(sys.platform != 'linux', reason='only the kernel of Linux stamps datagrams as they arrive'),
    pytest.mark.skipif(not programs.compiler(), reason='there is no C compiler'),
]
COMMAND = b'[2, "2026-01-01_1_subject", null]'


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp('programs')
    return {name: programs.build(folder, name) for name in ('witness', 'caller')}


@contextmanager
def witness(built, count):
    with programs.running(built['witness'], str(count)) as program:
        yield program, [('127.0.0.1', int(port)) for port in program.more.split()]


@pytest.fixture
def asker():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(20)
        yield one


def skews(program):
    return program.ask('skew', 1, 0, 0)


def test_a_command_is_echoed_and_answered_and_a_repeat_only_echoed(built, asker):
    with witness(built, 1) as (program, (where,)):
        for _ in range(2):
            asker.sendto(COMMAND + b'  ', where)
        asker.sendto(COMMAND + b' ', where)
        came = [asker.recv(100) for _ in range(5)]
        assert came == [COMMAND + b'  ', COMMAND, COMMAND + b'  ', COMMAND + b' ', COMMAND]
        assert skews(program) == [0, 0]
        asker.sendto(COMMAND + b'   ', where)
        assert asker.recv(100) and asker.recv(100) == COMMAND
        assert skews(program) == [0]  # since the last time


def test_a_skew_is_from_the_first_to_the_last_arrival(built, asker):
    with witness(built, 3) as (program, places):
        begun = time.monotonic()
        asker.sendto(COMMAND + b' ', places[1])
        time.sleep(0.05)  # what is measured
        for where in (places[0], places[2]):
            asker.sendto(COMMAND + b' ', where)
        for _ in range(6):
            asker.recv(100)
        (skew,) = skews(program)
        assert 0.045 < skew <= time.monotonic() - begun


def test_a_command_that_did_not_reach_all_has_no_skew(built, asker):
    with witness(built, 2) as (program, places):
        asker.sendto(COMMAND + b' ', places[0])
        asker.recv(100)
        asker.recv(100)
        with pytest.raises(programs.BenchError, match='not seen the same commands'):
            skews(program)


def test_the_loop_takes_all_answers_and_confirms_them(built):
    with witness(built, 8) as (program, places):
        ports = [str(port) for _, port in places]
        with programs.running(built['caller'], 'loop', *ports) as loop:
            assert len(loop.ask('call', 5, 0, 2)) == 5
        assert len(skews(program)) == 5


def test_an_event_goes_to_who_commanded_last_and_says_when(built, asker):
    with witness(built, 1) as (_, (where,)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        asker.sendto(COMMAND + b' ', where)
        asker.recv(100), asker.recv(100)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        other.sendto(b'event', where)
        event, stamp = asker.recv(100).strip(b'[]').split(b', ')
        assert event == b'16' and before <= int(stamp) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)
