"""What is to be sent for a client that died is kept until it leaves, over any end of the worker."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from peers import ScriptedPeer, StockServer, eventually, is_command
from processes import kill, program

from bridge.config import ClientLost, ServiceConfig
from bridge.segment import inspection, kept, losses, whole
from bridge.segment.client import Client
from bridge.worker import housekeeping
from bridge.worker.watch import Watch

S = 10**9
RULE = ClientLost('stimulus', 'EXPEND', 60.0)
DIES = 'import os; from bridge.segment.client import Client; c = Client("rig", "stimulus"); os.kill(os.getpid(), 9)'
WORKER = """
import sys
from bridge.config import ClientLost
from bridge.worker import Worker
worker = Worker('rig', {'cameras': sys.argv[1]}, on_client_lost=[ClientLost('stimulus', 'EXPEND', float(sys.argv[2]))])
print('ready', worker.path, flush=True)
worker.run()
"""


def watch(*rules: ClientLost) -> Watch:
    return Watch({'a': ServiceConfig('a', 'udp://127.0.0.1:1')}, on_client_lost=rules)


def nobody(client: str) -> bool:
    return False


def known(directory: Path) -> dict[str, int]:
    return dict(kept.load(directory / 'rig', losses.KIND).get('lost', {}))


def die() -> None:
    subprocess.run([sys.executable, '-c', DIES], check=False, timeout=30)


def test_a_new_worker_waits_for_what_is_left_and_sends_at_once_what_is_overdue():
    first = watch(RULE)
    first.lost('stimulus', 10 * S)
    owed = first.owed()
    assert owed == {'stimulus': 10 * S}
    second = watch(RULE)
    for client, at in owed.items():
        second.lost(client, at)
    assert second.due(70 * S - 1, nobody) == [] and second.due(70 * S, nobody) == [RULE]
    third = watch(RULE)
    third.lost('stimulus', owed['stimulus'])
    assert third.due(10_000 * S, nobody) == [RULE]


def test_it_is_kept_until_it_leaves_and_no_longer():
    it = watch(RULE)
    it.lost('stimulus', 0)
    it.due(60 * S, nobody)
    assert it.owed() == {'stimulus': 0}
    it.left('stimulus')
    assert it.owed() == {}


def test_a_client_that_is_attached_again_and_one_without_a_rule_any_more_are_forgotten():
    it = watch(RULE)
    it.lost('stimulus', 0)
    it.lost('another', 0)
    assert it.due(S, lambda client: client == 'stimulus') == [] and it.owed() == {}


def test_a_worker_that_is_killed_meanwhile_leaves_it_to_the_next_one_who_sends_it_once(serve, segment_directory):
    """It was forgotten, and the camera went on for ever."""
    with StockServer() as server:
        with program(WORKER, server.uri, '3600') as worker:
            die()
            eventually(lambda: known(segment_directory), 10)
            kill(worker)
        assert server.saw == []
        second = serve('rig', {'cameras': server.uri}, on_client_lost=[ClientLost('stimulus', 'EXPEND', 0.1)])
        eventually(lambda: server.saw == [[4, None]], 20)
        eventually(lambda: not known(segment_directory), 20)
        second.end_of_test()
        serve('rig', {'cameras': server.uri}, on_client_lost=[ClientLost('stimulus', 'EXPEND', 0.1)])
        with Client('rig') as client:
            client.call('EXPINIT')
        assert [message[0] for message in server.saw] == [4, 1]


def test_the_log_says_what_comes_of_a_lost_client_who_is_left_to_send_it_and_that_it_was_taken_up(serve, caplog):
    """It said only that the client had ended."""
    caplog.set_level(logging.WARNING)
    first = serve('rig', {}, on_client_lost=[RULE])
    die()
    eventually(first._watch.owed, 10)
    first.end_of_test()
    ended = 'client stimulus ended without closing'
    assert f'{ended}: EXPEND goes to all services in 60 s, unless it comes back' in caplog.text
    assert 'EXPEND for client stimulus has not gone to the services: the next worker sends it' in caplog.text
    serve('rig', {}, on_client_lost=[ClientLost('stimulus', 'EXPINTERRUPT', 0.0)])
    assert f'{ended} in the time of another worker: EXPINTERRUPT goes to all services at once' in caplog.text


@pytest.mark.parametrize(('after', 'why'), [(0.0, 'ended without closing'), (0.05, 'did not come back')])
def test_a_client_that_has_no_time_to_come_back_is_not_said_not_to_have_come_back(serve, caplog, after, why):
    """With after_s 0 the log said so in the millisecond in which it had said that the client ended."""
    serve('rig', {}, on_client_lost=[ClientLost('stimulus', 'EXPEND', after)])
    die()
    said = f'EXPEND is sent to all services, because client stimulus {why}'
    eventually(lambda: said in [record.getMessage() for record in caplog.records], 10)


@pytest.mark.parametrize('after', [None, [], {'stimulus': 'x'}, {'stimulus': float('nan')}, {'stimulus': True}])
def test_a_time_that_an_older_worker_or_nobody_has_kept_is_not_told(after):
    noted = {**losses.to_keep(7, {'stimulus': 5}, {'stimulus': 'EXPEND'}, {}), 'after_s': after}
    (owed,) = losses.seen(noted, 7, [], [], 2e9 + 5)
    assert (owed.age, owed.left) == (2.0, None)


def test_a_segment_that_is_to_be_removed_at_the_end_stays_while_something_is_owed(
    serve, segment_directory, monkeypatch
):
    first = serve('rig', {}, on_client_lost=[RULE])
    die()
    eventually(first._watch.owed, 10)
    monkeypatch.setattr(first, 'close', partial(first.close, remove=True))
    first.end_of_test()
    assert (segment_directory / 'rig').exists() and known(segment_directory).keys() == {'stimulus'}


def test_a_client_that_dies_while_its_worker_ends_is_left_to_the_next_one(serve, monkeypatch):
    """The last passes found it gone, and nobody looked any more at who had been lost."""
    worker = serve('rig', {}, on_client_lost=[RULE])
    monkeypatch.setattr(worker._house, 'tick', lambda carrier: None)  # as if the end had come right before
    die()
    eventually(lambda: not all(slot.alive for slot in inspection.inspect('rig').slots), 20)
    worker.end_of_test()
    second = serve('rig', {}, on_client_lost=[RULE])
    eventually(lambda: second._watch.owed().keys() == {'stimulus'}, 20)


def test_a_worker_that_is_stopped_meanwhile_leaves_it_to_the_next_one(serve, segment_directory):
    with StockServer() as server:
        first = serve('rig', {'cameras': server.uri}, on_client_lost=[RULE])
        die()
        eventually(first._watch.owed, 10)
        first.end_of_test()
        assert server.saw == [] and known(segment_directory).keys() == {'stimulus'}
        serve('rig', {'cameras': server.uri}, on_client_lost=[ClientLost('stimulus', 'EXPINTERRUPT', 0.0)])
        eventually(lambda: server.saw == [[16, None]], 20)


def test_what_a_worker_that_ends_in_a_hurry_did_not_get_rid_of_is_left_to_the_next_one(serve, segment_directory):
    def busy(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send(datagram)

    with ScriptedPeer(busy) as peer:
        rule = ClientLost('stimulus', 'EXPEND', 0.0)
        cameras = ServiceConfig('cameras', peer.uri, reply_gap=60.0)
        first = serve('rig', [cameras], timeout=60.0, on_client_lost=[rule])
        with Client('rig') as client:
            client.send('EXPINIT', ttl=None)
            eventually(lambda: peer.datagrams)
            die()
            eventually(lambda: first._house.under_way, 10)  # it waits for the pause
            first.stop()
            first.stop()
            first.end_of_test()
        assert known(segment_directory).keys() == {'stimulus'}
        assert [message[0] for message in peer.messages] == [1]


def test_a_client_that_dies_while_there_is_no_worker_is_lost_all_the_same(serve):
    with StockServer() as server:
        with program(WORKER, server.uri, '0') as worker:
            kill(worker)
        die()
        serve('rig', {'cameras': server.uri}, on_client_lost=[ClientLost('stimulus', 'EXPEND', 0.0)])
        eventually(lambda: server.saw == [[4, None]], 20)


def test_a_client_that_came_back_while_there_was_no_worker_goes_on(serve, segment_directory):
    with StockServer() as server:
        with program(WORKER, server.uri, '3600') as worker:
            die()
            eventually(lambda: known(segment_directory), 10)
            kill(worker)
        with Client('rig', 'stimulus') as stimulus:
            serve('rig', {'cameras': server.uri}, on_client_lost=[ClientLost('stimulus', 'EXPEND', 0.0)])
            stimulus.call('EXPINIT', timeout=10)
            eventually(lambda: not known(segment_directory), 20)
            stimulus.call('EXPINIT')
        assert [message[0] for message in server.saw] == [1, 1]


@pytest.mark.parametrize(
    'garbage',
    [
        b'',
        b'\xff',
        b'[' * 100_000,
        b'{"lost": 5}',
        b'{"lost": {"stimulus": "x"}}',
        b'null',
        b'{"segment": 1, "lost": []}',
    ],
)
def test_a_file_that_makes_no_sense_costs_nothing_else(serve, segment_directory, garbage):
    kept.place(segment_directory / 'rig', losses.KIND).write_bytes(garbage)
    with StockServer() as server:
        serve('rig', {'cameras': server.uri}, on_client_lost=[ClientLost('stimulus', 'EXPEND', 0.0)])
        with Client('rig') as client:
            assert client.call('EXPINIT')['code'] == 0
        assert [message[0] for message in server.saw] == [1]


def test_what_was_lost_in_another_segment_is_said_and_not_sent(serve, segment_directory, caplog):
    caplog.set_level(logging.WARNING)
    before = json.dumps(losses.to_keep(5, {'stimulus': 0}, {}, {}))
    kept.place(segment_directory / 'rig', losses.KIND).write_text(before)
    with StockServer() as server:
        serve('rig', {'cameras': server.uri}, on_client_lost=[ClientLost('stimulus', 'EXPEND', 0.0)])
        eventually(lambda: not known(segment_directory), 20)
        with Client('rig') as client:
            client.call('EXPINIT')
        assert [message[0] for message in server.saw] == [1]
    assert 'stimulus' in caplog.text and 'nothing is sent' in caplog.text


def test_a_disk_that_hangs_holds_up_neither_the_loop_nor_the_network_thread(serve, monkeypatch):
    """The ports were written by the network thread, when a communicator was opened again."""
    going, asked = threading.Event(), threading.Event()
    with StockServer() as server:
        worker = serve('rig', {'cameras': server.uri}, on_client_lost=[ClientLost('stimulus', 'EXPEND', 0.0)])
        monkeypatch.setattr(kept, 'save', lambda *_: asked.set() or going.wait(60))
        try:
            with Client('rig') as client:
                assert client.call('EXPINIT')['code'] == 0
                worker._carrier.thread.ring(worker._carrier.close_sockets)
                assert client.call('EXPINIT', timeout=20)['code'] == 0
                assert asked.wait(10)
                die()
                eventually(lambda: [4, None] in server.saw, 20)
                assert client.call('EXPINIT', timeout=20)['code'] == 0
        finally:
            going.set()
            worker.end_of_test()


def test_of_what_follows_closely_the_last_is_saved_and_a_close_waits_for_it(segment_directory):
    keeper = kept.Keeper(segment_directory / 'rig')
    for i in range(1000):
        keeper.keep('ports', {'cameras': i})
        keeper.keep('losses', {'n': i})
    keeper.close(10)
    assert kept.load(segment_directory / 'rig', 'ports') == {'cameras': 999}
    assert kept.load(segment_directory / 'rig', 'losses') == {'n': 999}
    keeper.keep('ports', {})
    keeper.close()
    assert kept.load(segment_directory / 'rig', 'ports') == {'cameras': 999}


def test_what_is_about_to_be_sent_is_forgotten_before_it_leaves(serve, segment_directory, monkeypatch):
    """It was forgotten soon: who was killed right after the datagram left it to be sent a second time."""
    there = []
    save = kept.save

    def slowly(*what: Any) -> bool:
        time.sleep(0.1)
        return save(*what)

    monkeypatch.setattr(kept, 'save', slowly)
    monkeypatch.setattr(housekeeping, '_KEPT', 60.0)
    with StockServer({4: lambda data: there.append(known(segment_directory))}) as server:
        rule = ClientLost('stimulus', 'EXPEND', 0.5)
        serve('rig', {'cameras': server.uri}, on_client_lost=[rule])
        die()
        eventually(lambda: there, 20)
        assert there == [{}]


def test_what_was_sent_while_the_disk_is_full_is_not_sent_again_by_the_next_worker(
    serve, segment_directory, monkeypatch
):
    """What was kept before stayed there, and hours later another experiment was ended."""
    with StockServer() as server:
        worker = serve('rig', {'cameras': server.uri}, on_client_lost=[ClientLost('stimulus', 'EXPEND', 1.0)])
        die()
        eventually(lambda: known(segment_directory), 20)

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, 'no space left on device')

        monkeypatch.setattr(whole, 'put', full)
        eventually(lambda: [4, None] in server.saw, 20)
        eventually(lambda: not known(segment_directory), 20)
        worker.end_of_test()


def test_a_client_that_is_lost_while_the_disk_is_full_is_not_forgotten_with_its_worker(
    serve, segment_directory, monkeypatch
):
    """What stood there had less room than its note needs: the next worker knew of nothing, and sent nothing."""
    rule = ClientLost('stimulus', 'EXPEND', 60.0)
    worker = serve('rig', {}, on_client_lost=[rule])
    eventually((segment_directory / '.rig.losses').exists, 20)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, 'no space left on device')

    monkeypatch.setattr(whole, 'put', full)
    die()
    eventually(lambda: known(segment_directory), 20)
    worker.end_of_test()


@pytest.mark.posix('mounts a small disk')
def test_a_full_disk_takes_what_needs_no_more_room(segment_directory):
    small = segment_directory / 'small'
    small.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', small], check=False).returncode:
        pytest.skip('needs the right to mount')
    try:
        assert kept.save(small / 'rig', losses.KIND, {'lost': {'a': 1, 'b': 2}})
        with open(small / 'filler', 'wb', buffering=0) as filler, suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        assert kept.save(small / 'rig', losses.KIND, {'lost': {'b': 2}})
        assert kept.load(small / 'rig', losses.KIND) == {'lost': {'b': 2}}
        many = {f'client {number}': number for number in range(9)}
        assert kept.save(small / 'rig', losses.KIND, {'lost': many})  # else a loss was forgotten with its worker
        assert kept.load(small / 'rig', losses.KIND) == {'lost': many}
        assert not kept.save(small / 'rig', losses.KIND, {'lost': {'x' * 5000: 1}})
        assert kept.load(small / 'rig', losses.KIND) == {'lost': many}
    finally:
        subprocess.run(['umount', small], check=True)


def test_what_is_kept_is_kept_although_somebody_reads_the_file_just_then(segment_directory, monkeypatch):
    """On Windows that refuses it; it was given up, and the next worker sent an EXPEND once more."""
    refused = iter(range(15))
    replace = os.replace

    def busy(source: Any, target: Any) -> None:
        if next(refused, None) is not None:
            raise PermissionError(13, 'another process has it open')
        replace(source, target)

    monkeypatch.setattr(whole.os, 'replace', busy)
    keeper = kept.Keeper(segment_directory / 'rig')
    keeper.keep(losses.KIND, {'stimulus': 1})
    eventually(lambda: kept.load(segment_directory / 'rig', losses.KIND) == {'stimulus': 1}, 20)
    keeper.close()
