"""What a program leaves unread is bounded, and costs the others nothing."""

from __future__ import annotations

import gc
import time
from types import SimpleNamespace
from typing import Any

import msgpack
from peers import StockServer

from bridge.config import ServiceConfig
from bridge.numbers import CODES
from bridge.outcome import Outcome, to_entry
from bridge.segment.client import Client
from bridge.segment.response import response_body
from bridge.services.errand import Errand
from bridge.worker.outbox import MOST, Outbox


def taken(slot: int, request: int = 1) -> Any:
    return SimpleNamespace(slot=slot, request=request)


def body(request: int, data: str, error: str = '') -> dict[str, Any]:
    outcome = Outcome('a', not error, 'answered', error=error, reply=[data], event=1, sent=1, echoed=2, answered=3)
    entries = [to_entry(outcome, 'EXPINIT')]
    code = CODES['IBLB_E_ALL_FAILED'] if error else 0
    return response_body(
        request=request, command_id='k', message='EXPINIT', code=code, error=error, services=entries, sent=1
    )


class Rings:
    """Rings that have room for so many responses, by slot; they count how often they are tried."""

    def __init__(self, **room: int) -> None:
        self.room = {int(slot[1:]): count for slot, count in room.items()}
        self.tried = 0
        self.placed: list[tuple[int, int, int, dict[str, Any]]] = []

    def respond(self, command: Any, code: int, packed: bytes) -> bool:
        self.tried += 1
        if not self.room[command.slot]:
            return False
        self.room[command.slot] -= 1
        self.placed.append((command.slot, command.request, code, msgpack.unpackb(packed)))
        return True


def test_a_pass_tries_one_response_of_each_program_however_many_wait():
    rings = Rings(s0=0, s1=0, s2=5)
    box = Outbox(rings.respond, 100_000)
    for i in range(1000):
        box.put(taken(i % 2, i), body(i, 'x'))
    assert (rings.tried, len(box)) == (2, 1000), 'what has others before it is not tried'
    rings.tried = 0
    box.deliver()
    assert rings.tried == 2
    box.put(taken(2, 7), body(7, 'x'))
    assert [row[:2] for row in rings.placed] == [(2, 7)], 'one who reads waits for nobody'


def test_answers_come_in_their_order_when_there_is_room_again():
    rings = Rings(s0=1, s1=0)
    box = Outbox(rings.respond, 100_000)
    for i in range(10):
        box.put(taken(0, i), body(i, str(i)))
    rings.room[0] = 4
    box.deliver()
    assert [row[1] for row in rings.placed] == [0, 1, 2, 3, 4]
    rings.room[0] = 100
    box.put(taken(0, 10), body(10, '10'))
    box.deliver()
    assert [row[1] for row in rings.placed] == list(range(11)) and len(box) == 0


def test_beyond_the_limit_a_program_s_answers_wait_without_data_and_those_of_others_whole():
    rings = Rings(s0=0, s1=0)
    box = Outbox(rings.respond, 100_000)
    count = MOST // 60_000 + 20
    for i in range(count):
        box.put(taken(0, i), body(i, 'x' * 60_000, error='disk full' * (i == count - 1)))
    box.put(taken(1), body(1, 'x' * 60_000))
    rings.room = {0: 10_000, 1: 10_000}
    box.deliver()
    whole = [row for row in rings.placed if row[3]['services'][0]['data']]
    short = [row for row in rings.placed if not row[3]['services'][0]['data']]
    assert sum(len(row[3]['services'][0]['data']['value']) for row in whole if row[0] == 0) <= MOST
    assert [row[0] for row in whole].count(1) == 1
    assert len(short) >= 20 and all(row[0] == 0 for row in short)
    for _, _, code, answer in short[:-1]:
        (entry,) = answer['services']
        assert code == answer['code'] == CODES['IBLB_W_SHORTENED']
        assert entry['ok'] and entry['state'] == 'answered' and '60' in entry['error'] and 'not read' in entry['error']
    assert short[-1][2] == CODES['IBLB_E_ALL_FAILED'] and 'disk full' in short[-1][3]['services'][0]['error']
    box.put(taken(0), body(1, 'x' * 60_000))
    assert rings.placed[-1][3]['services'][0]['data'], 'who has read is told all again'


def test_what_services_said_is_freed_when_it_was_told(serve):
    """Errands and their commands were circles: hundreds of answers waited for the collector."""
    long = 'x' * 60_000
    with StockServer(answers={4: [long]}) as server:
        serve('rig', [ServiceConfig('cameras', server.uri, reply_gap=0.01)])
        client = Client('rig')
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                assert client.call('EXPEND')['services'][0]['data'] == {'value': long}
            client.call('EXPINIT', 'x')
            kept = [one for one in gc.get_objects() if type(one) in (Outcome, Errand) and one.reply == [long]]
            assert len(kept) <= 2
        finally:
            gc.enable()
            client.close()


def test_programs_that_read_no_answers_neither_fill_the_worker_nor_hold_up_others(serve):
    """Four that left 1,000 answers of 60 kB each took the worker to 515 MB, and the others' commands to 32 ms."""
    long = 'x' * 60_000
    with StockServer(answers={4: [long]}) as server:
        worker = serve('rig', [ServiceConfig('cameras', server.uri, reply_gap=0.01)])
        worker._commands.outbox._most = 10 * len(long)
        deaf = [Client('rig', f'deaf-{i}') for i in range(3)]
        requests = [[client.send('EXPEND', ttl=None) for _ in range(30)] for client in deaf]
        with Client('rig', 'reader') as reader:
            started = time.monotonic()
            assert reader.call('EXPEND', timeout=120)['services'][0]['data'] == {'value': long}
            assert time.monotonic() - started < 60
            assert max(worker._commands.outbox._bytes.values(), default=0) <= 12 * len(long)
        for client, sent in zip(deaf, requests, strict=True):
            for request in sent:
                answer = client.wait(request, 60)
                assert answer['code'] in (0, CODES['IBLB_W_SHORTENED'])
                assert answer['services'][0]['ok']
            client.close()
        assert len(worker._commands.outbox) == 0
