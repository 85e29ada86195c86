"""Another kind of service fits in as one more module: nothing of the worker knows how a service is reached."""

from __future__ import annotations

import time
from typing import Any

from peers import StockServer

from bridge.config import ServiceConfig
from bridge.outcome import Reason
from bridge.segment.client import Client
from bridge.services import kinds
from bridge.services.errand import Errand
from bridge.services.rules import Timing


class Recorder:
    """A link that answers everything by itself, as one to a recorder with another protocol would."""

    def __init__(self, host: Any, name: str, uri: str, timing: Timing) -> None:
        self.host, self.name, self.uri, self.timing = host, name, uri, timing
        self.got: list[int] = []

    async def open(self) -> None:
        pass

    def enqueue(self, errand: Errand) -> None:
        if not self.host.permit(errand):
            return
        self.got.append(errand.event)
        errand.sent = errand.echoed = errand.answered = time.perf_counter_ns()
        errand.reply, errand.reply_event = [self.uri], errand.event
        errand.finish()
        self.host.ended(errand)

    def run(self) -> None:
        pass

    def withdraw(self, errand: Errand, reason: Reason, error: str) -> None:
        if not errand.has_ended:
            errand.reason, errand.error = reason, error
            errand.finish()
            self.host.ended(errand)

    def withdraw_all(self, reason: Reason, error: str) -> None:
        pass

    def pauses_until(self) -> int:
        return 0

    def awaits_more(self) -> bool:
        return False

    def shut(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_service_of_another_kind_is_served_beside_the_others(serve, monkeypatch):
    monkeypatch.setitem(kinds.KINDS, 'recorder', Recorder)
    with StockServer() as server:
        serve('rig', [ServiceConfig('ephys', 'recorder://there'), ServiceConfig('cameras', server.uri)])
        with Client('rig') as client:
            ephys, cameras = client.call('EXPINIT', 'x')['services']
            assert (ephys['ok'], ephys['data']) == (True, {'value': 'recorder://there'})
            assert (cameras['ok'], cameras['data']) == (True, {'value': 'x'})
            assert client.call('EXPINTERRUPT')['code'] == 0


def test_a_scheme_that_nobody_knows_is_said_to_be_unsupported(serve):
    serve('rig', [ServiceConfig('a', 'gopher://there')])
    with Client('rig') as client:
        request = client.send('EXPINIT')
        try:
            client.wait(request)
        except Exception as error:
            (entry,) = error.response['services']
    assert (entry['state'], entry['reason']) == ('not_sent', 'unsupported')
