"""The rules of an exchange with a service, as functions of values and tables; `line` is the machine that follows them.

iblutil's protocol (read in ``iblutil/io/net/app.py`` 1.20.0) has no message numbers. A sender waits until its datagram
comes back byte for byte (the *echo*); a *reply* is another message, with the same event number, that the receiver has
to echo in turn (the *confirmation*). A service that waits for a confirmation and reads anything else closes its socket
for good, and so it does if none comes for a second. A confirmation that nobody waits for is a *command*. Hence:

1. **Echoes.** Every command carries a number of trailing spaces, legal JSON, that no other remembered command has. So
   its echo differs from any reply, and from the echo of any earlier command. What ends in a space is an echo, of this
   worker's or of the one before it, and is never answered.
2. **Copies.** A message that is byte-equal to one of the last two seconds may be a copy that the network made, or be
   meant, and then the service waits for its confirmation. A wrong confirmation cannot be taken back, a late one is
   free. So, if an answer is expected, it is taken at once when it comes right behind the echo (a service at rest), and
   else held until a second one comes or the time that the service would wait is nearly up; what then answers a command
   that was not even echoed is a copy. If no answer is expected, a message of a kind that this service says by itself
   (EXPSTATUS, EXPINFO, EXPINTERRUPT) is held, and confirmed unless the service says something else meanwhile; any other
   is a copy. While something is held, nothing is sent.
3. **Proof.** A reply with the event of the command, or an error that names it, proves that the command arrived, echo or
   not. Only EXPCLEANUP may be answered by another event (camera services answer it with EXPINTERRUPT).
4. **Whose answer.** A command that was given up, or overtaken, may still be answered, for half a minute. Of two
   commands with the same event an answer is the later one's only if that was echoed and the answer names its
   experiment, or comes right behind its echo and does not name the earlier one's, or both asked the same and the time
   of the earlier one was up. Better to say of a command that its answer is in doubt than that it was carried out. An
   EXPINTERRUPT is what services say by themselves, too: it answers ours only if that was echoed. What left twice may be
   answered twice, or once: what looks like the second answer, and comes right behind the echo of a command that it
   answers as well, is that command's if nothing else has come by the time at which a second one would have.
5. **One at a time.** The next command leaves when the one before was answered or given up and a pause has passed since
   the service last spoke: a session with one loop listens again only when it has come round. One that goes on speaking
   without such a pause is sent the next command after ten of them. Behind a command that was
   given up without an echo, and may lie unread, the next one waits; a service that reads both answers the first, reads
   the second instead of the confirmation, and closes. One that does not echo the next one either is taken for dead:
   from then on nothing waits for it, until it is heard again. What has arrived is read before anything leaves.
6. **Interrupts** wait for no answer, only where they would be lost or close the service: until what has just left is
   echoed (one that does not read has nothing to lose; but not for ever, as the datagram may be lost) and could be
   answered, and a moment after the service spoke. A computer that is slow to echo is slow to answer.
7. **Repeating.** EXPSTATUS, EXPINFO and EXPINTERRUPT may be repeated, once: late, if no echo comes; later, if it was
   echoed and nothing follows, for an echo does not prove that anybody listened. And whenever the service has answered
   another command meanwhile, on which it may have been busy. Nothing else is ever sent twice, unless the configuration
   says so.
8. **Late timers.** A timer that rings late tells of this computer, not of the service: it looks again a little later.
   What lay unread while it stood still for 10 s is taken and not confirmed: nobody waits for that any more, and to a
   process that was started there meanwhile it would be a command.
9. **Questions yield.** What the worker asks by itself, nobody waits for long: every other command goes first, and if
   one comes while the question is under way, the question is given up 1 s behind its echo, or 3 s after it left if it
   has none: a service that is held up reads both, and closes. It proves nobody dead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from bridge.numbers import LOCAL, MESSAGE_NAMES, MESSAGES, STATUS_NAMES, STATUSES
from bridge.outcome import NO_STATUS
from bridge.sayable import sayable, sentence

ERROR = 0
MESSAGE_NUMBERS: dict[str, int] = {name: number for name, number in MESSAGES.items() if name not in LOCAL}
EVENTS = frozenset(MESSAGE_NUMBERS.values())
INIT, START, END, CLEANUP, INTERRUPT, STATUS, INFO, ALYX = (
    MESSAGE_NUMBERS[name]
    for name in ('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP', 'EXPINTERRUPT', 'EXPSTATUS', 'EXPINFO', 'ALYX')
)
# Of a datagram to a port where nobody listens: Linux and macOS raise the first, Windows the second (10054).
NOBODY_LISTENS = (ConnectionRefusedError, ConnectionResetError)
REPEATABLE = frozenset((STATUS, INFO, INTERRUPT))

LONGEST = 65507  # bytes: the most that one IPv4 UDP datagram carries
MS = 10**6  # ns
PROMPT = 20 * MS  # within which behind its echo a service that had nothing else to do answers
COPIES_FOR = 2000 * MS  # a copy comes no later than this behind the message
HOLD = 600 * MS  # a service waits 1 s for a confirmation: this leaves the network and a busy computer the rest
OWED_FOR = 30_000 * MS  # a command that was given up may still be answered
SURPLUS_FOR = 250 * MS  # the second answer to a command that left twice comes no later than this behind its time
LATE = 100 * MS  # by which a timer may ring late
GRACE = 250 * MS  # what a service is given when this computer stood still
GRACES = 4  # times for one command: a computer that is always late must not wait for ever
GIVEN_UP = 1000 * MS  # a service waits no longer for a confirmation


@dataclass
class Timing:
    """How patient we are with one service.

    Attributes
    ----------
    echo_timeout : float
        How long it has for its echo, s.
    timeout : float or None
        For its reply, s; None: whatever the command says.
    reply_gap : float
        Pause between what it last said and the next command, s. A session with one loop that is held up for up to 30 ms
        after 15 % of its answers lost 5 % of the commands with 5 ms, 1 of 600 with 20 ms, none of 4,000 with 100 ms.
    repeat : frozenset of int
        Events that may be sent once more.
    resend_at : float
        When, if no echo comes, as a part of `echo_timeout`.
    again_after : float
        When, if it was echoed and nothing follows, s; half of `timeout` at most. A stock service whose callback blocks
        its loop for longer finds the second one instead of the confirmation of its answer, and closes.
    resend_gap : float
        Pause behind the answer to what left twice, s: the second answer must not cross the next command.
    interrupt_gap : float
        The least that even an interrupt leaves a service that has just spoken, s: it listens again 0.2 ms later.
    head_start : float
        The least that an interrupt leaves an echoed command to be answered, s.
    head_start_most : float
        The most; between them, as long as its echo took.
    patience : float
        How long an interrupt waits for the echo of a command before it, in `echo_timeout`.
    unread_for : float
        How long a command without an echo may lie unread and still be carried out, in `echo_timeout`.
    max_message_size : int
        Echoes are cut to so many bytes (``EchoProtocol.max_message_size``, iblutil 1.18); 0: they are not.
    """

    echo_timeout: float = 1.0
    timeout: float | None = None
    reply_gap: float = 0.1
    repeat: frozenset[int] = REPEATABLE
    resend_at: float = 0.75
    again_after: float = 4.0
    resend_gap: float = 0.05
    interrupt_gap: float = 0.002
    head_start: float = 0.002
    head_start_most: float = 0.05
    patience: float = 3.0
    unread_for: float = 10.0
    max_message_size: int = 0


def ns(seconds: float) -> int:
    """Return a span in ns, but no more than 30 years."""
    return int(seconds * 1e9) if seconds < 1e9 else 10**18


# --- states ----------------------------------------------------------------------------------------------------------


class Stage(Enum):
    """Where an errand stands."""

    __hash__ = object.__hash__  # Enum's own is slow

    WAITING = 'waiting'
    SENT = 'sent'
    ECHOED = 'echoed'
    ENDED = 'ended'


class Fact(Enum):
    """What happens to an errand."""

    __hash__ = object.__hash__

    LEFT = 'its datagram left'
    ECHO = 'its echo came'
    ANSWER = 'its answer came'
    END = 'it was given up'


STAGES: Mapping[tuple[Stage, Fact], Stage] = {
    (Stage.WAITING, Fact.LEFT): Stage.SENT,
    (Stage.WAITING, Fact.END): Stage.ENDED,
    (Stage.SENT, Fact.ECHO): Stage.ECHOED,
    (Stage.SENT, Fact.ANSWER): Stage.ENDED,
    (Stage.SENT, Fact.END): Stage.ENDED,
    (Stage.ECHOED, Fact.ANSWER): Stage.ENDED,
    (Stage.ECHOED, Fact.END): Stage.ENDED,
}


class Channel(Enum):
    """Where the socket of a line stands."""

    CLOSED = 'closed'
    OPENING = 'opening'
    OPEN = 'open'
    STALE = 'open, but the address has to be looked up again'


class Turn(Enum):
    """What happens to the socket of a line."""

    NEED = 'something is to be sent'
    OPENED = 'it was opened'
    FAILED = 'it could not be opened'
    LOST = 'it was closed'
    DOUBT = 'nobody was reached'


CHANNELS: Mapping[tuple[Channel, Turn], Channel] = {
    (Channel.CLOSED, Turn.NEED): Channel.OPENING,
    (Channel.STALE, Turn.NEED): Channel.OPENING,
    (Channel.CLOSED, Turn.OPENED): Channel.OPEN,
    (Channel.OPENING, Turn.OPENED): Channel.OPEN,
    (Channel.STALE, Turn.OPENED): Channel.OPEN,
    (Channel.OPENING, Turn.FAILED): Channel.CLOSED,
    (Channel.OPEN, Turn.LOST): Channel.CLOSED,
    (Channel.STALE, Turn.LOST): Channel.CLOSED,
    (Channel.OPEN, Turn.DOUBT): Channel.STALE,
}
"""Mapping: what is not listed changes nothing."""


# --- messages --------------------------------------------------------------------------------------------------------


def read(datagram: bytes) -> tuple[int, list[Any]] | None:
    """Return event number and data of a message, None if it is not one.

    Never raises, whatever the bytes are: a stray datagram must not stop an experiment. This is where the words of
    services come in: what is returned can be said by all that pass it on, and an error is one line of bounded length.

    Examples
    --------
    >>> read(b'[32, 10]')
    (32, [10])
    >>> read(b'[3, 1]') is None
    True
    """
    try:
        text = datagram.decode().strip(_BLANKS)
        message, end = _decode(text)
    except (ValueError, RecursionError):
        return None
    if type(message) is not list or not message or type(message[0]) is not int or end != len(text):
        return None
    event, *data = message
    if event == ERROR:
        return (ERROR, [sentence(data[0]), sayable(data[1])]) if len(data) == 2 else None
    return (event, sayable(data)) if event in EVENTS else None


def is_echo(datagram: bytes) -> bool:
    """Tell whether a datagram can only be the echo of a command: no service ends its messages with a space."""
    return datagram[-1:] == b' '


def accepts(event: int, reply: int | None) -> bool:
    """Tell whether a message of event `reply` answers a command of `event`."""
    return reply == event or (event == CLEANUP and reply == INTERRUPT)


def subject(event: int, data: Sequence[Any]) -> int | None:
    """Return the event that a message is about: of an error the one that failed, None if it does not say."""
    about = data[1] if event == ERROR else event
    return about if type(about) is int else None


def reference(event: int, data: Sequence[Any]) -> str | None:
    """Return the experiment's reference that a command or an answer names, None if it names none.

    Examples
    --------
    >>> reference(START, ['2026-01-01_1_subject', None]), reference(INIT, [{'exp_ref': 'x'}]), reference(INIT, [None])
    ('2026-01-01_1_subject', 'x', None)
    """
    if event == START and data and (named := reference_text(data[0])) is not None:
        return named
    for part in data:
        if isinstance(part, Mapping) and (named := reference_text(part.get('exp_ref'))) is not None:
            return named
    return None


def reference_text(value: Any) -> str | None:
    """Return an experiment's reference as text, whether it is text or an object of three parts; None if it is none.

    Examples
    --------
    >>> reference_text({'date': '2026-01-01', 'sequence': 1, 'subject': 'KM_01'})
    '2026-01-01_1_KM_01'
    """
    if isinstance(value, Mapping):
        parts = [value.get(name) for name in ('date', 'sequence', 'subject')]
        return None if None in parts else '_'.join(map(str, parts))
    return value if isinstance(value, str) else None


_SAYING = frozenset((STATUS, INFO))
_decode = json.JSONDecoder().raw_decode
_BLANKS = ' \t\n\r'  # of JSON
_KNOWN = frozenset(STATUSES.values())


def reported_status(event: int, data: Sequence[Any]) -> int:
    """Return the status that a reply reports, -1 if it reports none.

    EXPSTATUS and EXPINFO begin with it; of the others it is the ``status`` in the reply's map, or, as iblrig's camera
    answers EXPINIT, a number in front of the map.
    """
    maps = [part for part in data if type(part) is dict]
    if not (maps or event in _SAYING):
        return NO_STATUS
    candidates = [part.get('status') for part in maps]
    if data and (event in _SAYING or data[0] is not maps[0]):
        candidates.insert(0, data[0])
    return next((value for value in candidates if type(value) is int and value in _KNOWN), NO_STATUS)


_RUNNING = STATUSES['RUNNING']
_FITTING: Mapping[int, frozenset[int]] = {
    INIT: frozenset((STATUSES['INITIALIZED'],)),
    START: frozenset((_RUNNING,)),
    **dict.fromkeys((END, INTERRUPT, CLEANUP), frozenset(STATUSES.values()) - {_RUNNING}),
}


def event_name(event: int) -> str:
    """Return an event number as people know it: EXPINTERRUPT; ``an error`` for 0; ``event 3`` if it has no name."""
    return MESSAGE_NAMES.get(event, f'event {event}' if event else 'an error')


def status_name(status: int) -> str:
    """Return a status as people know it, e.g. ``RUNNING (20)``."""
    return f'{STATUS_NAMES[status]} ({status})' if status in STATUS_NAMES else str(status)


def contradicts(event: int, status: int) -> bool:
    """Tell whether a reported status is at odds with a command that was answered without an error.

    Examples
    --------
    >>> contradicts(END, 20), contradicts(START, 20), contradicts(START, -1), contradicts(STATUS, 30)
    (True, False, False, False)
    """
    return status != NO_STATUS and event in _FITTING and status not in _FITTING[event]
