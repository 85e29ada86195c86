"""Several datagrams that leave by one call: each whole, from its socket to its place, whatever others do."""

from __future__ import annotations

import errno
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bridge import datagrams

LOOPBACK = 0x7F000001
COUNT = 8
PATIENCE = 10.0  # s, against hangs


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Give eight sockets that do not block, and for each one that receives."""
    with ExitStack() as stack:
        made = []
        for _ in range(COUNT):
            sender, receiver = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
            for one in (sender, receiver):
                one.bind(('127.0.0.1', 0))
            sender.setblocking(False)
            receiver.settimeout(PATIENCE)
            made.append((sender, receiver))
        yield made


def parcels(pairs: list[tuple[socket.socket, socket.socket]]) -> list[tuple[int, int, int, bytes]]:
    return [
        (sender.fileno(), LOOPBACK, receiver.getsockname()[1], b'%d' % i * (i + 1))
        for i, (sender, receiver) in enumerate(pairs)
    ]


def number_of(error: OSError) -> int | None:
    """Return what the system calls an error that Python has raised."""
    return error.winerror if sys.platform == 'win32' else error.errno


def test_each_arrives_whole_from_its_own_socket_and_has_its_own_time(pairs):
    before = time.perf_counter_ns()
    sent = datagrams.send(parcels(pairs))
    after = time.perf_counter_ns()
    assert [number for _, number in sent] == [0] * COUNT
    stamps = [stamp for stamp, _ in sent]
    assert [before, *stamps, after] == sorted([before, *stamps, after])
    for (sender, receiver), (*_, what) in zip(pairs, parcels(pairs), strict=True):
        assert receiver.recvfrom(100) == (what, sender.getsockname())


def too_large(pairs: list[tuple[socket.socket, socket.socket]]) -> tuple[socket.socket, bytes]:
    return pairs[3][0], b'x' * 65508


def closed(pairs: list[tuple[socket.socket, socket.socket]]) -> tuple[socket.socket, bytes]:
    pairs[3][0].close()
    return pairs[3][0], b'x'


def full(pairs: list[tuple[socket.socket, socket.socket]]) -> tuple[socket.socket, bytes]:
    """What is for a UDP socket's network leaves it at once here: a connection's room, whose end nobody reads, fills."""
    sender, receiver = pairs[3]
    sender.close()
    receiver.close()
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        server.listen()
        pairs[3] = sender, receiver = socket.create_connection(server.getsockname()), server.accept()[0]
    sender.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            sender.send(b'x' * 65536)
    return sender, b'x' * 65000


@pytest.mark.parametrize('fault', [too_large, closed, pytest.param(full, marks=pytest.mark.posix('was not tried'))])
def test_one_that_fails_keeps_no_other_and_gives_the_number_that_the_system_has_for_it(pairs, fault):
    sender, what = fault(pairs)
    try:
        to = ('127.0.0.1', 9)
        with pytest.raises(OSError) as raised:
            sender.sendto(what, to)
        given = parcels([pair for i, pair in enumerate(pairs) if i != 3])
        sent = datagrams.send([*given[:3], (sender.fileno(), LOOPBACK, to[1], what), *given[3:]])
        assert [number for _, number in sent] == [0] * 3 + [number_of(raised.value)] + [0] * 4
        for i, (_, receiver) in enumerate(pair for i, pair in enumerate(pairs) if i != 3):
            assert receiver.recv(100) == given[i][3]
    finally:
        for one in pairs[3]:
            one.close()


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells a socket that is not connected')
def test_the_refusal_of_an_earlier_datagram_is_told_once_in_place_of_sending(pairs):
    sender = pairs[3][0]
    sender.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:
        dead.bind(('127.0.0.1', 0))
        nobody = dead.getsockname()
    sender.sendto(b'x', nobody)
    assert [number for _, number in datagrams.send(parcels(pairs))] == [0] * 3 + [errno.ECONNREFUSED] + [0] * 4
    assert [number for _, number in datagrams.send(parcels(pairs))] == [0] * COUNT


def test_of_none_nothing_is_sent():
    assert datagrams.send([]) == []
