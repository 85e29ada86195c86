"""What is known of a service, from the outcomes of its commands and from what it says by itself: values only.

The clock is passed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge import discretion
from bridge.numbers import MESSAGES
from bridge.outcome import NO_STATUS, Outcome
from bridge.services import rules

UNKNOWN_AFTER = 30_000_000_000  # ns without a word from a service
_LONGEST_REF = 1000  # characters of a reference; a service may send anything


@dataclass
class Health:
    """What is known of one service, from the outcomes of its commands.

    Attributes
    ----------
    heard : int
        When it last echoed or answered, ns; 0 for never.
    failed : bool
        Its last command did not reach it.
    unread : int
        When it was last sent something that it may find still, as nothing was heard of it since, ns; 0 for nothing.
    rtt : int
        Time from its last datagram to the echo, ns; 0 if unknown.
    error : str
        The last error, empty if the last command was fine.
    status : int
        As it last reported (``iblutil.io.net.base.ExpStatus``); -1 if it never did.
    exp_ref : str
        The experiment's reference as it last said in EXPINFO or at EXPSTART; empty if it never did.
    """

    heard: int = 0
    failed: bool = False
    unread: int = 0
    rtt: int = 0
    error: str = ''
    status: int = NO_STATUS
    exp_ref: str = ''

    def note(self, outcome: Outcome, message: str = '', asked: Any = None) -> None:
        """Learn from the outcome of a command; `asked` is the command's first argument."""
        if outcome.sent and not (outcome.echoed or outcome.answered or outcome.refused):
            self.unread = outcome.sent
        if outcome.aborted and not outcome.echoed:
            return  # there was no time to hear of it
        if not outcome.aborted:
            self.error = discretion.said(message, outcome.error) if outcome.echoed else outcome.error
        if heard := max(outcome.echoed, outcome.answered):
            self.heard, self.failed, self.unread = max(heard, self.heard), False, 0
            self.rtt = max(outcome.echoed - outcome.sent, 0)
        elif outcome.sent:
            self.failed = True
        if outcome.reply is not None:
            self._learn(message, outcome.reply or [asked], outcome.status)

    def hear(self, message: str, data: Sequence[Any], now: int) -> None:
        """Learn from a message that the service sent by itself; `now` in ns."""
        self.heard, self.failed, self.unread = now, False, 0
        self._learn(message, data, rules.reported_status(MESSAGES.get(message, 0), data))

    def _learn(self, message: str, data: Sequence[Any], status: int) -> None:
        if status != NO_STATUS:
            self.status = status
        if message == 'EXPINFO' and len(data) > 1 and isinstance(data[1], Mapping) and 'exp_ref' in data[1]:
            self.exp_ref = str(data[1]['exp_ref'] or '')[:_LONGEST_REF]
        elif message == 'EXPSTART' and data and isinstance(data[0], str):
            self.exp_ref = data[0][:_LONGEST_REF]

    def state(self, now: int) -> str:
        """Return ``up``, ``down``, or ``unknown`` if nothing was heard for 30 s; `now` in ns."""
        if self.failed:
            return 'down'
        return 'up' if self.heard and now - self.heard < UNKNOWN_AFTER else 'unknown'

    def describe(self, now: int) -> dict[str, Any]:
        """Return what IBLB_SERVICES tells, beside name and address; `now` in ns.

        Returns
        -------
        dict
            health str; age_ms int since it was last heard, -1 for never; rtt_us int; status int; exp_ref, last_error
            str.
        """
        return {
            'health': self.state(now),
            'age_ms': max(now - self.heard, 0) // 1_000_000 if self.heard else -1,
            'rtt_us': self.rtt // 1000,
            'status': self.status,
            'exp_ref': self.exp_ref,
            'last_error': self.error,
        }
