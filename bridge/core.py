"""Decisions without input or output: what becomes of a command, as plain functions of values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.native import CODES
from bridge.outcomes import Outcome

UNKNOWN_AFTER = 30_000_000_000  # ns without a word from a service
_ALYX_FAILED = 'its callback for ALYX failed, or did not reply'
_LONGEST_REF = 1000  # characters of a reference; a service may send anything


def status_of(outcomes: Sequence[Outcome], optional: Collection[str] = ()) -> tuple[int, str]:
    """Return the status of a command and the sentence that goes with it.

    Parameters
    ----------
    outcomes : sequence of Outcome
        One per addressed service; none at all is success.
    optional : collection of str
        Services whose failure is only a warning.

    Returns
    -------
    code : int
        0 if all are ok; ``IBLB_W_OPTIONAL`` if only optional ones failed; ``IBLB_E_ABORTED`` if an interrupt or a
        stop ended it;
        ``IBLB_E_ALL_FAILED`` if none is ok, ``IBLB_E_PARTIAL`` otherwise.
    error : str
        Empty, or each failed service with its reason.
    """
    failed = [outcome for outcome in outcomes if not outcome.ok]
    sentence = '; '.join(f'{outcome.name}: {outcome.error}' for outcome in failed)
    if not failed:
        name = 'IBLB_OK'
    elif all(outcome.name in optional for outcome in failed):
        name = 'IBLB_W_OPTIONAL'
    elif any(outcome.aborted for outcome in failed):
        name = 'IBLB_E_ABORTED'
    elif len(failed) == len(outcomes):
        name = 'IBLB_E_ALL_FAILED'
    else:
        name = 'IBLB_E_PARTIAL'
    return CODES[name], sentence


def command_id(segment_id: int, slot: int, request: int) -> str:
    """Return the key of a command in journals and logs: unique across segments, slots and claims.

    Examples
    --------
    >>> command_id(0xABC, 3, 17)
    '0000000000000abc-03-17'
    """
    return f'{segment_id:016x}-{slot:02d}-{request}'


def shown_request(request: int) -> int:
    """Return a request's 64-bit number as the client knows it: its lower 31 bits."""
    return request & 0x7FFFFFFF


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
        As it last said in EXPSTATUS or EXPINFO (``iblutil.io.net.base.ExpStatus``); -1 if it never did.
    exp_ref : str
        The experiment's reference as it last said in EXPINFO or at EXPSTART; empty if it never did.
    """

    heard: int = 0
    failed: bool = False
    unread: int = 0
    rtt: int = 0
    error: str = ''
    status: int = -1
    exp_ref: str = ''

    def note(self, outcome: Outcome, message: str = '', asked: Any = None) -> None:
        """Learn from the outcome of a command; `asked` is the command's first argument."""
        if outcome.sent and not (outcome.echoed or outcome.answered or outcome.refused):
            self.unread = outcome.sent
        if outcome.aborted and not outcome.echoed:
            return  # there was no time to hear of it
        if not outcome.aborted:
            # What a service says of a failed ALYX callback may quote the token.
            self.error = _ALYX_FAILED if message == 'ALYX' and outcome.error and outcome.echoed else outcome.error
        if heard := max(outcome.echoed, outcome.answered):
            self.heard, self.failed, self.unread = max(heard, self.heard), False, 0
            self.rtt = max(outcome.echoed - outcome.sent, 0)
        elif outcome.sent:
            self.failed = True
        if outcome.reply is not None:
            self._learn(message, outcome.reply or [asked])

    def hear(self, message: str, data: Sequence[Any], now: int) -> None:
        """Learn from a message that the service sent by itself; `now` in ns."""
        self.heard, self.failed, self.unread = now, False, 0
        self._learn(message, data)

    def _learn(self, message: str, data: Sequence[Any]) -> None:
        if message in ('EXPSTATUS', 'EXPINFO') and data and type(data[0]) is int and 0 <= data[0] < 2**31:
            self.status = data[0]
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
