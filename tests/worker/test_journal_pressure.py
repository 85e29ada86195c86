"""Who floods a journal waits for its disk; interrupts do not, and nobody waits for a disk that is stuck."""

from __future__ import annotations

import os
import threading
import time

import pytest

from bridge.errors import BridgeError, OutcomeUnknown
from bridge.journal import Journal, Reading
from bridge.journal import writing as journal
from bridge.numbers import CODES
from bridge.segment.client import Client
from bridge.segment.served import Segment
from bridge.worker import worker as worker_module


def notify(client: Client, count: int) -> None:
    for _ in range(count):
        while True:
            try:
                client.notify('PING', ttl=60)
                break
            except BridgeError as error:
                assert error.code == CODES['IBLB_E_FULL']
                time.sleep(0.001)


def test_a_flood_leaves_no_gap_while_the_disk_takes_it(serve, tmp_path, monkeypatch):
    """7,600 a second were written, and the rest was lost."""
    real = os.write

    def write(file: int, data: bytes) -> int:
        time.sleep(0.01)
        return real(file, data[:30_000])

    monkeypatch.setattr(os, 'write', write)
    book = Journal(tmp_path / 'journal', depth=1000)
    worker = serve('rig', {}, journal=book)
    with Client('rig') as client:
        notify(client, 2000)
        client.call('PING', timeout=60)
    worker.end_of_test()
    book.close(60)
    kinds = [entry['kind'] for entry in Reading(book.path)]
    assert book.lost == 0 and 'gap' not in kinds
    assert (kinds.count('command'), kinds.count('notification'), kinds.count('outcome')) == (2001, 2000, 1)


@pytest.mark.posix('there is no FIFO')
def test_a_disk_that_is_stuck_holds_up_no_command(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, 'STUCK', 0.05)
    path = tmp_path / 'journal'
    os.mkfifo(path)
    book = Journal(path, depth=300)  # nobody reads: it takes some 64 KiB
    worker = serve('rig', {}, journal=book)
    with Client('rig') as client:
        notify(client, 2000)
        assert client.call('PING', timeout=60)['code'] == 0
    worker.end_of_test()
    book.close(0.1)
    assert book.lost > 0
    with open(path, 'rb', buffering=0) as reader:
        emptying = threading.Thread(target=lambda: all(iter(lambda: reader.read(1 << 16), b'')), daemon=True)
        emptying.start()
        book._thread.join(30)
        assert not book._thread.is_alive()
        emptying.join(30)


def test_an_interrupt_passes_a_worker_that_waits_for_its_journal(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, '_HELD', 60.0)
    book = Journal(tmp_path / 'journal')
    pressed = threading.Event()
    monkeypatch.setattr(book, 'is_pressed', pressed.is_set)
    serve('rig', {}, journal=book)
    with Client('rig', 'a') as a, Client('rig', 'b') as b:
        a.call('PING')
        pressed.set()
        b.call('EXPINTERRUPT', timeout=30)  # the pass before the one that waits may still have taken something
        request = a.send('PING', ttl=None)
        assert b.call('EXPINTERRUPT', timeout=30)['message'] == 'EXPINTERRUPT'
        with pytest.raises(OutcomeUnknown):  # it is still where it was
            a.wait(request, timeout=0)
        pressed.clear()
        with pytest.raises(BridgeError, match='EXPINTERRUPT'):
            a.wait(request, timeout=30)
    book.close()


def test_a_worker_that_waits_for_its_journal_can_be_stopped(serve, tmp_path, monkeypatch):
    book = Journal(tmp_path / 'journal')
    worker = serve('rig', {}, journal=book)
    monkeypatch.setattr(book, 'is_pressed', lambda: True)
    worker.end_of_test()
    book.close()


def test_interrupts_are_taken_alone_and_what_was_sent_before_them_stays():
    with Segment('rig') as segment, Client('rig', 'a') as a:
        a.send('EXPINIT')
        a.send('EXPINTERRUPT')
        a.send('EXPSTATUS')
        assert [command.message for command in segment.take_interrupts(1)] == [16]
        assert segment.take_interrupts(0) == []
        assert [command.message for command in segment.take(1)[1]] == [1, 32]
        rung = threading.Event()
        waits = threading.Thread(target=lambda: segment.take_interrupts(30) == [] and rung.set())
        waits.start()
        a.send('EXPINIT')  # wakes it, but is not for it
        segment.ring()
        waits.join(20)
        assert rung.is_set()
