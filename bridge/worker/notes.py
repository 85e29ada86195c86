"""What is noted of the worker and of the commands that it takes: for the journal, and for those who watch.

An entry of a command is made before the program can hear of it: whoever reads the journal finds what had been commanded
when something else was.

Not noted is what `top` and the status page ask the worker by themselves, every few seconds: it concerns no service, and
what was commanded would be hard to find among it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import bridge
from bridge.config import ServiceConfig
from bridge.journal import SCHEMA, Journal
from bridge.segment.response import command_id
from bridge.segment.served import Segment, Taken
from bridge.segment.words import asks_by_itself
from bridge.worker.housekeeping import Housekeeping


class Notes:
    """Writes down what a worker was given, and what became of it.

    Parameters
    ----------
    segment : Segment
        Where commands come from.
    journal : Journal or None
        Where starts and stops are written down.
    house : Housekeeping
        Writes commands down, and tells those who watch.
    """

    def __init__(self, segment: Segment, journal: Journal | None, house: Housekeeping) -> None:
        self._segment, self._journal, self._house = segment, journal, house
        self._clients: dict[int, tuple[int, str]] = {}  # by slot: generation and name
        self._started = False

    def start(self, segment: str, services: Iterable[ServiceConfig], **settings: Any) -> None:
        """Write down what the worker begins with."""
        if self._journal:
            self._journal.write(
                'start',
                schema=SCHEMA,
                version=bridge.__version__,
                segment=segment,
                pid=os.getpid(),
                settings=settings,
                services=[asdict(service) for service in services],
            )
            self._started = True

    def stop(self, reason: str) -> None:
        """Write down why the worker has ended; once."""
        if self._journal and self._started:
            self._started = False
            self._journal.write('stop', reason=reason)

    def command(self, taken: Taken) -> None:
        """Note a command, before it is begun or refused."""
        taken.client = self.client_of(taken)
        if asks_by_itself(taken.client, taken.name):
            return
        said = {
            'command_id': self.key_of(taken),
            'message': taken.name,
            'client': taken.client,
            'services': taken.services,
            'args': taken.args,
            'sent': taken.stamp,
        }
        self._house.note_command(said)

    def outcome(self, taken: Taken, body: dict[str, Any]) -> None:
        """Note what became of a command."""
        if asks_by_itself(taken.client, taken.name):
            return
        self._house.note_outcome('outcome' if taken.wants_response else 'notification', body, taken.client)

    def key_of(self, taken: Taken) -> str:
        """Return what a command is called in journals and logs."""
        taken.id = taken.id or command_id(self._segment.id, taken.slot, taken.request)
        return taken.id

    def client_of(self, taken: Taken) -> str:
        """Return who sent a command; asked once for all that the present owner of a slot sends."""
        if taken.is_left:
            return ''
        generation, name = self._clients.get(taken.slot, (-1, ''))
        if generation != taken.generation or not name:
            name = self._segment.client_of(taken)
            self._clients[taken.slot] = taken.generation, name
        return name
