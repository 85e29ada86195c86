"""The program behind one listener: what it has in hand, and who it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from bridge.listen import rules
from bridge.listen.asked import Asked, Refusal
from bridge.listen.desk import Desk
from bridge.segment import serving
from bridge.segment.serving import Incoming
from bridge.wall import wall

log = logging.getLogger(__name__)

_SLEPT = 'TimeoutError: the PC of {} slept before this was begun; ask again'
_LONGEST = 2**31 - 1  # ms that can be said
_GONE = 3  # looks in a row that find nobody: a program may just change what it serves


class Behind:
    """The program behind one listener, as its desk sees it: `bridge.listen.asked.Program`.

    Parameters
    ----------
    name : str
        The listener's.
    incoming : Incoming
        Hands commands to programs.
    owners : dict of tuple of int to tuple of str and int
        Which listener and number a command has, by its slot and number in the segment: shared by all listeners.
    note : callable
        Notes, as kind and entry, who serves.

    Attributes
    ----------
    tokens : dict of int to object
        Of what is in hand, by the desk's number.
    client, pid : str, int
        Who serves; "" for nobody.
    claim : int
        Of the program that is known to serve, 0 for none; see `Incoming.claim_of`.
    expected : bool
        Somebody serves it, or did when the worker before us ended.
    missed : int
        Looks in a row that found somebody else than that, or nobody.
    """

    def __init__(
        self,
        name: str,
        incoming: Incoming,
        owners: dict[tuple[int, int], tuple[str, int]],
        note: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self.name, self._incoming, self._owners, self._note = name, incoming, owners, note
        self.tokens: dict[int, Any] = {}
        self.client, self.claim, self.pid = '', 0, 0
        self.expected = False
        self.missed = 0

    def hand(self, asked: Asked) -> Refusal | None:
        """Give it a command; return why it was not taken, None if it was."""
        timeout = min(max((asked.due - asked.arrived) // rules.MS, 1), _LONGEST)
        body = {
            'service': self.name,
            'master': asked.master,
            'message': rules.event_name(asked.event),
            'args': asked.data,
            'time': asked.arrived,
            'wall': wall(),
            'timeout_ms': timeout,
        }
        code, token = self._incoming.hand(self.name, asked.event, asked.arrived, timeout, body)
        if code == serving.UNWANTED:
            return Refusal('', unwanted=True)
        if code == serving.NOBODY:
            return Refusal(f'ConnectionError: no program serves {self.name}; start it, then ask again')
        if code == serving.SLEPT:
            return Refusal(_SLEPT.format(self.name))
        if code:
            why = (
                'what it was asked fills its ring' if code == serving.FULL else 'the command is too large for its ring'
            )
            return Refusal(f'RuntimeError: the program that serves {self.name} cannot be asked: {why}')
        self.keep(asked.number, token)
        if not self.client:
            self.meet(self._incoming.claim_of(self.name))
        return None

    def meet(self, claim: int) -> None:
        """Take it that a program serves."""
        self.client = self._incoming.server_of(self.name)[1] if claim else ''
        if self.client:
            self.pid = self._incoming.pid_of(self.name)
            log.info('%s is served by the client %s (process %d)', self.name, self.client, self.pid)
            self._note('served', {'service': self.name, 'client': self.client, 'pid': self.pid})
            self.claim, self.missed, self.expected = claim, 0, True

    def keep(self, number: int, token: Any) -> None:
        """Take it that the program has a command."""
        self.tokens[number] = token
        self._owners[int(token.slot), int(token.number)] = self.name, number

    def forget(self, number: int) -> None:
        """Take it that the program has a command no longer."""
        token = self.tokens.pop(number, None)
        if token is not None:
            self._owners.pop((int(token.slot), int(token.number)), None)

    def state(self, number: int) -> int:
        """Return what has become of a command; `bridge.segment.serving.GONE` of one that it does not have."""
        token = self.tokens.get(number)
        return serving.GONE if token is None else self._incoming.state(token)

    def recall(self, asked: Asked) -> bool:
        """Take a command back that it is not at yet."""
        return self._take_back(asked, self._incoming.recall)

    def withdraw(self, asked: Asked) -> bool:
        """Take a command back."""
        return self._take_back(asked, self._incoming.withdraw)

    def _take_back(self, asked: Asked, how: Callable[[Any], bool]) -> bool:
        token = self.tokens.get(asked.number)
        if token is None or not how(token):
            return False
        self.forget(asked.number)
        return True

    def look(self, desk: Desk, now: int) -> None:
        """See what has become of the program, and tell its desk; to be called some times a second, `now` in ns."""
        slept = self._incoming.slept() if desk.in_hand else 0
        for number, asked in tuple(desk.in_hand.items()):
            if asked.arrived < slept and self.recall(asked):
                desk.failed(number, _SLEPT.format(self.name))
            elif self.state(number) == serving.GONE:
                self.forget(number)
                what = f'ConnectionError: the program that serves {self.name} ended before it answered'
                desk.failed(number, what)
        claim = self._incoming.claim_of(self.name)
        if claim and claim == self.claim:
            self.missed = 0
            return
        self.missed += 1
        another = claim and self.claim
        if self.expected and not desk.in_hand and (another or (not claim and self.missed >= _GONE)):
            what = f'the program that serves {self.name} ended'
            log.warning('%s: %s', what, rules.status_name(desk.memory.status))
            desk.ended(what, now)
            self.client, self.claim, self.expected = '', 0, False
            self._note('served', {'service': self.name, 'client': '', 'pid': 0, 'error': what})
        if claim and not self.claim:
            self.meet(claim)
