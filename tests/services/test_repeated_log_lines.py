"""A service that says the same all the time fills no disk with lines of the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from peers import ScriptedPeer, aux_of, eventually, is_command

from bridge.errors import BridgeError
from bridge.segment.client import Client
from bridge.services import repeats
from bridge.services.repeats import INTERVAL, KINDS_MOST, Repeats


class Clock:
    """Calls things when time passes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def later(self, delay: float, what: Callable[[], None]) -> None:
        self.due.append((self.now + delay, what))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for entry in [one for one in self.due if one[0] <= self.now]:
            self.due.remove(entry)
            entry[1]()


def told(caplog) -> list[str]:
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


def test_the_first_of_a_kind_is_told_at_once_and_the_others_as_a_number(caplog):
    caplog.set_level(logging.INFO)
    clock = Clock()
    it = Repeats('cameras', logging.getLogger('x'), clock.later)
    for _ in range(5):
        it.tell(logging.WARNING, 'junk', 'cameras: junk')
        it.tell(logging.INFO, 'EXPINFO', 'cameras sent EXPINFO, which nobody waits for')
        it.tell(logging.DEBUG, 'detail', 'nobody wants to know')
    assert told(caplog) == ['cameras: junk', 'cameras sent EXPINFO, which nobody waits for']
    clock.wait(INTERVAL)
    assert told(caplog) == ['cameras: 4 more of junk within 10 s', 'cameras: 4 more of EXPINFO within 10 s']
    it.tell(logging.WARNING, 'junk', 'cameras: junk')
    assert told(caplog) == [], 'it goes on'
    clock.wait(INTERVAL)
    assert told(caplog) == ['cameras: 1 more of junk within 10 s']
    clock.wait(INTERVAL)
    assert told(caplog) == [] and not clock.due
    it.tell(logging.WARNING, 'junk', 'cameras: junk')
    assert told(caplog) == ['cameras: junk'], 'after a silence it is news again'


def test_kinds_are_bounded():
    it = Repeats('cameras', logging.getLogger('x'), Clock().later)
    for i in range(1000):
        it.tell(logging.ERROR, str(i), str(i))
    assert len(it._left_out) == KINDS_MOST


def test_whatever_is_logged_of_a_service_is_counted_at_one_place(monkeypatch, caplog):
    made = []
    original = Repeats.__init__

    def counted(self, *args, **options):
        made.append(self)
        original(self, *args, **options)

    monkeypatch.setattr(Repeats, '__init__', counted)
    with ScriptedPeer(lambda peer, datagram: None) as peer, aux_of(cameras=peer.uri, ephys='127.0.0.1:9') as aux:
        aux.submit('EXPSTATUS', 0, services=['cameras'])
        eventually(lambda: peer.addr)
        peer.send([0, 'ValueError', 99])
        eventually(lambda: 'cameras reports an error' in caplog.text)
    assert len(made) == 2


def test_a_service_that_sends_junk_and_errors_all_the_time_gets_some_lines_and_a_count(serve, caplog, monkeypatch):
    """It wrote 0.9 MB in 6 s."""
    monkeypatch.setattr(repeats, 'INTERVAL', 0.5)
    caplog.set_level(logging.INFO)
    count = 100

    def script(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send(datagram)
            for i in range(count):
                peer.send(b'junk' * 10)
                peer.send([0, f'ValueError: {i}', 99])
            peer.send(json.loads(datagram))

    with ScriptedPeer(script) as peer:
        serve('rig', {'cameras': peer.uri}, timeout=1.0)
        with Client('rig') as client:
            for _ in range(3):
                try:
                    client.call('EXPINIT', timeout=10)
                except BridgeError:  # the system may drop some of so many
                    continue
        eventually(lambda: ' more of errors' in caplog.text and ' more of what is no message' in caplog.text)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) < 60
    assert any('reports an error: ValueError: 0' in line for line in lines)
    assert sum(' more of errors' in line for line in lines) >= 1
