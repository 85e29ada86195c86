"""Decisions without input or output: what becomes of a command, as plain functions of values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.native import CODES
from bridge.outcomes import Outcome

UNKNOWN_AFTER = 30_000_000_000  # ns without a word from a service


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
    rtt : int
        Time from its last datagram to the echo, ns; 0 if unknown.
    error : str
        The last error, empty if the last command was fine.
    """

    heard: int = 0
    failed: bool = False
    rtt: int = 0
    error: str = ''

    def note(self, outcome: Outcome) -> None:
        """Learn from an outcome."""
        self.error = outcome.error
        if heard := max(outcome.echoed, outcome.answered):
            self.heard, self.failed = heard, False
            self.rtt = max(outcome.echoed - outcome.sent, 0)
        elif outcome.sent:
            self.failed = True

    def state(self, now: int) -> str:
        """Return ``up``, ``down``, or ``unknown`` if nothing was heard for 30 s; `now` in ns."""
        if self.failed:
            return 'down'
        return 'up' if self.heard and now - self.heard < UNKNOWN_AFTER else 'unknown'

    def describe(self, now: int) -> dict[str, Any]:
        """Return health, age in ms (-1 for never heard), round-trip time in µs and last error; `now` in ns."""
        return {
            'health': self.state(now),
            'age_ms': (now - self.heard) // 1_000_000 if self.heard else -1,
            'rtt_us': self.rtt // 1000,
            'last_error': self.error,
        }
