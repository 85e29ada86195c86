"""What is known of a service, from the outcomes of its commands and from what it says by itself: values only.

The clock is passed in. Rules:

- **Learn** status and reference of the experiment from whatever the service says, and only from that: a map with
  ``status`` and ``exp_ref`` may stand in the reply to any message.
- **Forget** what a command may have changed as soon as it was sent, whatever became of it, and all that is known of a
  service that was away when it is heard again. Its answer, or the question that follows, tells anew. A status that
  goes back without a command (RUNNING, then CONNECTED) may be that of another process: the reference that it does not
  say with it is forgotten.
- **An experiment is lost** if a service that said it runs it says, later, that it does not, and nothing that we or it
  itself did explains that: a service that stops by itself says so, or is STOPPED with the reference that it had.
- **An end is undone** if the last command that was to end the experiment failed, and the service says, later, that it
  runs: it was held up, found EXPSTART when it went on, and EXPEND came too early for it or was lost. That it says
  STOPPED, or answers the end late, makes it good.
- **An error is kept** until a command of the same sort is fine: that EXPSTATUS was answered does not undo that EXPSTART
  was refused. A question (EXPSTATUS, EXPINFO, ALYX) that fails is the last error until one is answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bridge import discretion
from bridge.numbers import MESSAGES, STATUSES
from bridge.outcome import NO_STATUS, Outcome
from bridge.sayable import sentence
from bridge.segment.words import HEARD_WITHIN
from bridge.services import rules

UNKNOWN_AFTER = int(HEARD_WITHIN * 1e9)  # ns without a word from a service
_LONGEST_REF = 1000  # characters of a reference; a service may send anything
_RENAMES = frozenset(('EXPINIT', 'EXPSTART', 'EXPCLEANUP'))
_ENDS = frozenset(('EXPEND', 'EXPINTERRUPT', 'EXPCLEANUP'))
_CHANGES = _RENAMES | _ENDS
_RUNNING, _STOPPED = STATUSES['RUNNING'], STATUSES['STOPPED']


class Lost(NamedTuple):
    """An experiment that a service has lost: its reference, "" if it never said it, and the status that it says now."""

    exp_ref: str
    status: int


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
    failure : str
        The error of the last command that makes it do something; empty if that was fine.
    unanswered : str
        The error of the last question, if it came after that command; empty if it was answered.
    status : int
        As it last reported (``iblutil.io.net.base.ExpStatus``); -1 if it never did, or if that may have changed since.
    exp_ref : str
        The experiment's reference as it last said it; empty if it has none, never said it, or if it may have changed.
    lost : Lost or None
        An experiment that it has lost; to be told, and set back to None.
    runs_on : str
        What to do about an experiment that goes on though it was to end; to be told, and set back to "".
    """

    heard: int = 0
    failed: bool = False
    unread: int = 0
    rtt: int = 0
    failure: str = ''
    unanswered: str = ''
    status: int = NO_STATUS
    exp_ref: str = ''
    lost: Lost | None = None
    runs_on: str = ''
    _ran: str | None = field(default=None, repr=False)  # the reference of what it said it runs; None: nothing
    _away: bool = field(default=False, repr=False)  # it was down since it said that
    _undone: str = field(default='', repr=False)  # the last command, if it was to end the experiment and failed
    _runs: bool = field(default=False, repr=False)  # it said since that it runs

    def note(self, outcome: Outcome, message: str = '', asked: Any = None) -> None:
        """Learn from the outcome of a command; `asked` is the command's first argument."""
        sent, echoed, ok, error = outcome.sent, outcome.echoed, outcome.ok, outcome.error
        aborted = not ok and outcome.aborted
        if sent and (ok or not outcome.refused):
            self._forget(message)
            if not (echoed or outcome.answered):
                self.unread = sent
        if aborted and not echoed:
            return  # there was no time to hear of it
        if not aborted:
            self._fail(message, discretion.said(message, error) if error and echoed else error)
        if heard := max(echoed, outcome.answered):
            self.rtt = max(echoed - sent, 0)
            self._hear(heard)
        elif sent:
            self.failed = self._away = True
        if outcome.reply is not None:
            self._learn(message, outcome.reply, outcome.status)
            if message == 'EXPSTART' and ok and not self.exp_ref:
                self.exp_ref = _text(asked)

    def hear(self, message: str, data: Sequence[Any], now: int) -> None:
        """Learn from a message that the service sent by itself; `now` in ns."""
        self._hear(now)
        self._forget(message)
        if message in _ENDS:
            self._undone = ''
        self._learn(message, data, rules.reported_status(MESSAGES.get(message, 0), data))

    @property
    def error(self) -> str:
        """str: the last error, empty if the last command was fine and so were the questions since."""
        return self.unanswered or (self._running_on() if self._runs else self.failure)

    def _running_on(self) -> str:
        end = self._undone
        again = f'If EXPSTATUS still says so, send {end} again'
        return f'It says RUNNING, though {end} was to end that. {again}. It had failed: {self.failure}'

    def _fail(self, message: str, error: str) -> None:
        """Keep the error of a message, "" if it was fine."""
        if message in _CHANGES:
            self.failure, self.unanswered = error, ''
            self._undone, self._runs = message if error and message in _ENDS else '', False
        else:
            self.unanswered = error

    def _hear(self, at: int) -> None:
        """Take it that the service lives; what it was before it was away tells nothing."""
        if self.failed:
            self.status, self.exp_ref, self._runs = NO_STATUS, '', False
        self.heard, self.failed, self.unread = max(at, self.heard), False, 0

    def _forget(self, message: str) -> None:
        """Forget what a message that was sent, by whomever, may have changed."""
        if message in _CHANGES:
            self.status, self._ran, self._runs = NO_STATUS, None, False
        if message in _RENAMES:
            self.exp_ref = ''

    def _learn(self, message: str, data: Sequence[Any], status: int) -> None:
        """Take over what a message says."""
        said = said_reference(message, data)
        if said is not None:
            self.exp_ref = said
        if status == NO_STATUS:
            return
        if said is None and status < self.status:
            self.exp_ref = ''
        self.status = status
        if status == _STOPPED:
            self._undone = ''
        before, self._runs = self._runs, status == _RUNNING and bool(self._undone)
        if self._runs and not before:
            self.runs_on = self._running_on()
        if self._has_lost(status, said):
            self.lost = Lost(self._ran or '', status)
            self._ran = None
        if status != _RUNNING:
            self._ran = None
        elif said is not None or self._ran is None:
            self._ran = self.exp_ref
        self._away = False

    def _has_lost(self, status: int, said: str | None) -> bool:
        """Tell whether what it says means that it does not run any more what it ran."""
        if self._ran is None:
            return False
        another = said is not None and self._ran not in ('', said)
        if status == _STOPPED and not self._away:
            return another  # else it has ended by itself
        return another or status != _RUNNING

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


def said_reference(message: str, data: Sequence[Any]) -> str | None:
    """Return the reference of the experiment that a message of a service says, "" for none, None if it does not say.

    Examples
    --------
    >>> said_reference('EXPEND', [{'exp_ref': '2026-01-01_1_mouse'}]), said_reference('EXPINFO', [0, {'exp_ref': None}])
    ('2026-01-01_1_mouse', '')
    >>> said_reference('EXPSTART', ['2026-01-01_1_mouse', None]), said_reference('EXPSTATUS', [20])
    ('2026-01-01_1_mouse', None)
    """
    if message == 'ALYX':
        return None  # its map holds tokens by user
    first = _text(data[0]) if message == 'EXPSTART' and data and type(data[0]) is str else None
    for part in data:
        if type(part) is dict and 'exp_ref' in part:  # as it comes from JSON
            return _text(part['exp_ref']) or first or ''
    return first


def _text(reference: Any) -> str:
    """Return a reference as one line of text, whatever a service or program wrote: it stands in the log, too."""
    if not isinstance(reference, str):
        if isinstance(reference, list):
            return ''
        reference = rules.reference_text(reference) if isinstance(reference, Mapping) else str(reference or '')
    return sentence(reference or '', _LONGEST_REF)
