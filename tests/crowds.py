"""Several services that are one socket: what reached them, and when they answered, stands in one row."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from peers import ScriptedPeer, eventually, is_command

from bridge.auxiliaries import Auxiliaries
from bridge.carrier import Outcomes
from bridge.numbers import MESSAGE_NAMES

MOMENT = 0.05  # s, that an answer takes: what leaves too early is there before


class Crowd(ScriptedPeer):
    """Several services that are one socket, so that the order in which datagrams reach them is beyond doubt.

    Parameters
    ----------
    *names : str
        Of the services.

    Attributes
    ----------
    row : list of str
        All that happened, e.g. ``['cameras EXPINIT', 'cameras answers', 'ephys EXPINIT']``.
    delay : dict of str to float
        How long the answer of a service takes, s.
    held, failing : set of str
        Services that answer only when told to (an EXPINTERRUPT at once), and whose callbacks fail.
    """

    def __init__(self, *names: str) -> None:
        super().__init__(lambda _, datagram: self._take(datagram))
        self.names = names
        self.row: list[str] = []
        self.delay: dict[str, float] = {}
        self.held: set[str] = set()
        self.failing: set[str] = set()
        self._owner: dict[Any, str] = {}  # by the address that talks to it
        self._next = ''
        self._answers: dict[str, tuple[list[Any], Any]] = {}

    @property
    def clients(self) -> dict[str, str]:
        """The services' addresses: one."""
        return dict.fromkeys(self.names, self.uri)

    def meet(self, aux: Auxiliaries) -> None:
        """Find out from which port each service is spoken to."""
        for name in self.names:
            self._next = name
            assert aux.submit('EXPSTATUS', 0, services=[name]).result(5)[name].ok
        self.row.clear()

    def answer(self, name: str) -> None:
        """Let a service answer what it was sent last."""
        message, addr = eventually(lambda: self._answers.pop(name, None))
        self.row.append(f'{name} answers')
        self._socket.sendto(json.dumps(message).encode(), addr)

    def got(self, *entries: str) -> bool:
        """Wait until all of this has happened."""
        return bool(eventually(lambda: set(entries) <= set(self.row)))

    def _take(self, datagram: bytes) -> None:
        if not is_command(datagram):
            return
        event, *data = json.loads(datagram)
        name, message = self._owner.setdefault(self.addr, self._next), MESSAGE_NAMES[event]
        held = name in self.held  # before a test that waits for this row changes it
        self.row.append(f'{name} {message}')
        self.send(datagram)
        if message == 'EXPINTERRUPT':
            self.send([event, *data])
            return
        failed = [0, 'RuntimeError: out of order', event]
        self._answers[name] = (failed if name in self.failing else [event, *data], self.addr)
        if held:
            return
        if name not in self.delay:
            self.answer(name)
            return
        timer = threading.Timer(self.delay[name], self.answer, (name,))
        timer.daemon = True
        self._timers.append(timer)
        timer.start()


@contextlib.contextmanager
def crowd(*names: str, after: Mapping[str, Sequence[str]] | None = None) -> Iterator[tuple[Crowd, Auxiliaries]]:
    """Make some services, and Auxiliaries that leave no pause between what they say and the next command."""
    with Crowd(*names) as services:
        aux = Auxiliaries(services.clients, after=after)
        aux.timing.reply_gap = 0.0
        try:
            services.meet(aux)
            yield services, aux
        finally:
            aux.close_timeout = 0.0
            aux.close()


def ok(future: Future[Outcomes]) -> list[str]:
    """Return the names of the services that did what was asked."""
    return [name for name, outcome in future.result(10).items() if outcome.ok]
