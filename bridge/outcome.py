"""What one service did with one command, told as a plain value; and what follows for the command as a whole.

A command that goes to three services has three outcomes, never one: a dead camera PC says nothing about the ephys PC.
Each outcome climbs at most four steps, and stays on the last one that was *proved*:

    not_sent      no datagram left this computer
    unreachable   it left, nothing came back (or the other computer refused it)
    echoed        the service has it (iblutil's services echo what they receive) but no reply came, or its callback
                  failed
    answered      the service replied

The step says how far it came, `Outcome.ok` whether what was asked was done, and `Outcome.reason` why not, in a word for
programs; `Outcome.error` says the same in a sentence for people. Nothing is guessed from sentences.

An outcome travels through shared memory as an element of the response's ``services``: `to_entry` and `from_entry` are
each other's inverse, for everything that JSON can say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from bridge.numbers import CODES, MESSAGES

NOT_SENT, UNREACHABLE, ECHOED, ANSWERED = STATES = ('not_sent', 'unreachable', 'echoed', 'answered')
NO_STATUS = -1  # the service reported none
NOBODY = 'the worker has no services, so this reached nobody: reload the file of its --services with some, or restart'


class Reason(str, Enum):
    """Why a service did not do what was asked; empty if it did. The set is that of iblbridge.h."""

    NONE = ''
    ARGUMENTS = 'arguments'
    TOO_LARGE = 'too_large'
    UNSUPPORTED = 'unsupported'
    ADDRESS = 'address'
    NETWORK = 'network'
    EXPIRED = 'expired'
    UNREAD = 'unread'
    AFTER = 'after'
    REFUSED = 'refused'
    NO_ECHO = 'no_echo'
    OTHER_ADDRESS = 'other_address'
    NO_REPLY = 'no_reply'
    DOUBTFUL = 'doubtful'
    CALLBACK_FAILED = 'callback_failed'
    STATUS = 'status'
    ABORTED = 'aborted'
    WITHDRAWN = 'withdrawn'
    CLOSED = 'closed'
    UNKNOWN = 'unknown'
    INTERNAL = 'internal'

    __str__ = str.__str__


ON_PURPOSE = frozenset((Reason.ABORTED, Reason.WITHDRAWN, Reason.CLOSED))


class Aborted(RuntimeError):
    """A command was given up on purpose: an interrupt, a cleared queue, a close."""


# Until Python 3.10 asyncio has a TimeoutError of its own, and callers catch either; from 3.11 on the two are one class.
class NoAnswer(*dict.fromkeys((asyncio.TimeoutError, TimeoutError))):  # type: ignore[misc]
    """A service did not echo, or did not reply, in time."""


_EXCEPTIONS: dict[Reason, type[Exception]] = {
    **dict.fromkeys((Reason.ARGUMENTS, Reason.TOO_LARGE, Reason.UNSUPPORTED, Reason.ADDRESS), ValueError),
    **dict.fromkeys((Reason.EXPIRED, Reason.UNREAD, Reason.NO_ECHO, Reason.OTHER_ADDRESS, Reason.NO_REPLY), NoAnswer),
    **dict.fromkeys(ON_PURPOSE, Aborted),
    Reason.DOUBTFUL: NoAnswer,
    Reason.REFUSED: ConnectionRefusedError,
    Reason.NETWORK: ConnectionError,
}


@dataclass
class Outcome:
    """What one service did with one command.

    Attributes
    ----------
    name : str
        The service's configured name.
    ok : bool
        True if the service did what was asked: it replied without an error and reports no status that contradicts the
        command, whatever event the reply bore.
    state : {'not_sent', 'unreachable', 'echoed', 'answered'}
        The furthest step that was proved.
    reason : Reason
        Why it is not ok; empty if it is.
    error : str
        The same as a sentence a person can act on; empty if it is ok.
    reply : list or None
        What followed the event number in the service's reply, as ``iblutil.io.net.app.Services`` would return it.
    event : int
        The event number the reply bore, 0 for none.
    status : int
        The status that the reply reports (``iblutil.io.net.base.ExpStatus``), -1 if it reports none.
    sent, echoed, answered : int
        ``time.perf_counter_ns`` of the first datagram, of its echo and of the reply; 0 for never.
    """

    name: str
    ok: bool = False
    state: str = NOT_SENT
    reason: Reason = Reason.NONE
    error: str = ''
    reply: list[Any] | None = None
    event: int = 0
    status: int = NO_STATUS
    sent: int = 0
    echoed: int = 0
    answered: int = 0

    @property
    def aborted(self) -> bool:
        """bool: it was given up on purpose before it could fail or succeed."""
        return self.reason in ON_PURPOSE

    @property
    def refused(self) -> bool:
        """bool: the service's computer said that nobody listens there."""
        return self.reason is Reason.REFUSED

    @property
    def failed(self) -> bool:
        """bool: it is not ok, and for more than a status that contradicts the command."""
        return not self.ok and self.reason is not Reason.STATUS

    def exception(self) -> Exception:
        """Return the exception that an outcome which is not ok amounts to."""
        return _EXCEPTIONS.get(self.reason, RuntimeError)(f'{self.name}: {self.error}')


def state(sent: int, echoed: int, answered: int) -> str:
    """Return the furthest step proved by three time stamps (ns, 0 for never).

    Examples
    --------
    >>> state(0, 0, 0), state(1, 0, 0), state(1, 2, 0), state(1, 2, 3)
    ('not_sent', 'unreachable', 'echoed', 'answered')
    """
    return ANSWERED if answered else ECHOED if echoed else UNREACHABLE if sent else NOT_SENT


# --- the command as a whole ------------------------------------------------------------------------------------------


def status_of(outcomes: Sequence[Outcome], optional: Collection[str] = ()) -> tuple[int, str]:
    """Return the status of a command and the sentence that goes with it.

    Parameters
    ----------
    outcomes : sequence of Outcome
        One per addressed service; that there is none is no success.
    optional : collection of str
        Services whose failure is only a warning.

    Returns
    -------
    code : int
        0 if all are ok; ``IBLB_W_NO_SERVICES`` if there are none; ``IBLB_W_OPTIONAL`` if only optional ones failed;
        ``IBLB_W_STATUS`` if all others answered and the status that one reports contradicts the command;
        ``IBLB_E_ABORTED`` if an interrupt or a stop ended it;
        ``IBLB_E_EXPIRED`` if it left for nobody, being too old; ``IBLB_E_ALL_FAILED`` if none is ok,
        ``IBLB_E_PARTIAL`` otherwise.
    error : str
        Empty, or each such service with its reason.
    """
    if not outcomes:
        return CODES['IBLB_W_NO_SERVICES'], NOBODY
    told = [outcome for outcome in outcomes if not outcome.ok]
    if not told:
        return CODES['IBLB_OK'], ''
    needed = [outcome for outcome in told if outcome.name not in optional]
    failed = [outcome for outcome in needed if outcome.failed]
    sentence = '; '.join(f'{outcome.name}: {outcome.error}' for outcome in told)
    if not needed:
        name = 'IBLB_W_OPTIONAL'
    elif not failed:
        name = 'IBLB_W_STATUS'
    elif any(outcome.aborted for outcome in told):
        name = 'IBLB_E_ABORTED'
    elif {outcome.reason for outcome in outcomes} in ({Reason.EXPIRED}, {Reason.EXPIRED, Reason.AFTER}):
        name = 'IBLB_E_EXPIRED'
    elif len([outcome for outcome in told if outcome.failed]) == len(outcomes):
        name = 'IBLB_E_ALL_FAILED'
    else:
        name = 'IBLB_E_PARTIAL'
    return CODES[name], sentence


def replies(outcomes: Iterable[Outcome]) -> dict[str, list[Any] | None]:
    """Return the replies by service name, as iblutil's ``Services`` methods do."""
    return {outcome.name: outcome.reply for outcome in outcomes}


def failure(outcomes: Iterable[Outcome]) -> Exception | None:
    """Fold the failures of one command into the one exception that ``push`` returns.

    Parameters
    ----------
    outcomes : iterable of Outcome
        One for each addressed service.

    Returns
    -------
    Exception or None
        None if no service failed; one that answered with a status which contradicts the command did not, as with the
        stock class. Several failures of one type become one of that type, of different types a RuntimeError; its
        message names each service with its reason.
    """
    found = [outcome.exception() for outcome in outcomes if outcome.failed]
    if len(found) < 2:
        return found[0] if found else None
    kinds = {type(exception) for exception in found}
    return (kinds.pop() if len(kinds) == 1 else RuntimeError)('; '.join(map(str, found)))


# --- through shared memory -------------------------------------------------------------------------------------------


def to_entry(outcome: Outcome, message: str) -> dict[str, Any]:
    """Return an outcome of a message as an element of the response's ``services``: every key, always of one type."""
    data = reply_data(message, outcome.reply)
    if outcome.reply and not _is_usual(message, outcome.reply):
        data['reply'] = outcome.reply  # more, or less, than the usual keys say
    if outcome.event and outcome.event != MESSAGES[message]:
        data['event'] = outcome.event
    return {
        'name': outcome.name,
        'ok': outcome.ok,
        'state': outcome.state,
        'reason': str(outcome.reason),
        'error': outcome.error,
        'data': data,
        'status': outcome.status,
        'sent': outcome.sent,
        'echoed': outcome.echoed,
        'answered': outcome.answered,
    }


def from_entry(entry: Mapping[str, Any], message: str) -> Outcome:
    """Return the outcome that an element of a response's ``services`` was made of."""
    answered, data = entry['answered'], entry['data']
    return Outcome(
        entry['name'],
        ok=entry['ok'],
        state=entry['state'],
        reason=Reason(entry['reason']),
        error=entry['error'],
        reply=_reply_of(message, data) or ([] if answered else None),
        event=data.get('event', MESSAGES[message]) if answered else 0,
        status=entry['status'],
        sent=entry['sent'],
        echoed=entry['echoed'],
        answered=answered,
    )


def reply_data(message: str, reply: Sequence[Any] | None) -> dict[str, Any]:
    """Return a reply (what followed the event number) as the map that its message has.

    Returns
    -------
    dict
        EXPINFO: status, info; EXPSTATUS: status; others: value (a list if there was more than one); empty if there
        was no reply.
    """
    if not reply:
        return {}
    if message == 'EXPINFO':
        return {'status': reply[0], 'info': reply[1] if len(reply) > 1 else None}
    if message == 'EXPSTATUS':
        return {'status': reply[0]}
    return {'value': reply[0] if len(reply) == 1 else list(reply)}


def data_reply(message: str, data: Mapping[str, Any]) -> list[Any]:
    """Return the list that a ``data`` map was made of; the inverse of `reply_data`.

    Examples
    --------
    >>> data_reply('EXPINFO', {'status': 20, 'info': {}}), data_reply('EXPSTART', {'value': ['ref', None]})
    ([20, {}], ['ref', None])
    """
    return _reply_of(message, data) or []


def _is_usual(message: str, reply: Sequence[Any]) -> bool:
    """Tell whether `reply_data` says all of a reply."""
    if message in _FIRST_KEYS:
        return len(reply) == _FIRST_KEYS[message]
    several = message in ('EXPSTART', 'ALYX')
    return len(reply) > 1 if several and type(reply[0]) is list else several or len(reply) == 1


_FIRST_KEYS = {'EXPINFO': 2, 'EXPSTATUS': 1}


def _reply_of(message: str, data: Mapping[str, Any]) -> list[Any] | None:
    if 'reply' in data:
        return list(data['reply'])
    if message == 'EXPINFO' and 'status' in data:
        return [data['status'], data['info']]
    if message == 'EXPSTATUS' and 'status' in data:
        return [data['status']]
    if 'value' not in data:
        return None
    value = data['value']
    return list(value) if message in ('EXPSTART', 'ALYX') and isinstance(value, list) else [value]
