"""The rules of one exchange with a service, without sockets, tasks or clocks.

iblutil's protocol (read in ``iblutil/io/net/app.py`` 1.20.0) has no message numbers. A sender waits until its datagram
comes back byte for byte (the *echo*); a *reply* is another message, with the same event number, that the receiver has
to echo in turn. From this follow the rules below; each is a function of values, and the caller passes the time in.

1. Every command carries a number of trailing spaces that no other remembered command has. They are legal JSON, and they
   make its echo different from any reply and from the echo of any earlier command. Whatever is byte-equal to a
   remembered command is an echo and *never* answered: echoing an echo starts a storm that does not end.
2. A message that is byte-equal to the last one, within 20 ms, with no command sent since and none that it answers, is a
   copy. It is not echoed a second time: a service that no longer waits for that echo would take it for a command. After
   a resend it is the service's second answer, and is echoed, because the service waits for that.
3. A reply with the event of the command, or an error that names it, proves that the command arrived, echo or not.
4. Only EXPCLEANUP may be answered by another event (real camera services answer it with EXPINTERRUPT).
5. A command that was given up may still be answered. Of two commands with the same event a late reply is the old one's
   if it comes before the echo of the new one, or, if the old one was echoed and said something else, later than a
   service at rest would answer: better to say of a command that its answer is missing than that it was carried out. A
   service that has answered another command since owes nothing more.
6. EXPSTATUS, EXPINFO and EXPINTERRUPT may be repeated if no echo comes, and late: a service that was only held up finds
   both, and closes its socket when it reads the second one instead of the echo of its reply. Nothing else is ever sent
   twice, unless the configuration says so, and a heartbeat is not worth it.
7. An echo does not prove that anybody listened: a service with one loop, as iblrig's camera session, echoes what comes
   while it works on another command, and never hears it. So what may be repeated is, when the service has answered
   another command since.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from bridge.outcomes import Aborted, Outcome, state

ERROR, INIT, START, END, CLEANUP, INTERRUPT, STATUS, INFO, ALYX = 0, 1, 2, 4, 8, 16, 32, 64, 128
MESSAGE_NUMBERS = {
    'EXPINIT': INIT,
    'EXPSTART': START,
    'EXPEND': END,
    'EXPCLEANUP': CLEANUP,
    'EXPINTERRUPT': INTERRUPT,
    'EXPSTATUS': STATUS,
    'EXPINFO': INFO,
    'ALYX': ALYX,
}
EVENTS = frozenset((INIT, START, END, CLEANUP, INTERRUPT, STATUS, INFO, ALYX))
REPEATABLE = frozenset((STATUS, INFO, INTERRUPT))

LONGEST = 65507  # bytes: the most that one IPv4 UDP datagram carries
AT_ONCE = 50 * 10**6  # ns within which a service that had nothing else to do answers
OWED_FOR = 30 * 10**9  # ns during which a command that was given up may still be answered
OWED_MOST = 8  # of them, of one event
REMEMBERED = 128  # commands whose echo may still come; also the most trailing spaces
REMEMBERED_BYTES = 1 << 20


@dataclass
class Timing:
    """How patient we are with one service; all in seconds, except `tries`, `repeat` and `resend_at`.

    `timeout` is the reply's (None: whatever the command or `Auxiliaries` says), `repeat` the events that may be sent
    again if no echo comes for a part (`resend_at`) of `echo_timeout`, or if nobody may have listened.

    The gaps were measured against real services: a camera listens for its next command only some 0.2 ms after its
    reply (`interrupt_gap` is the least that even an interrupt leaves it), and the second reply that a resend may
    provoke must not cross the next command, or the service closes its socket. For the same reason an interrupt leaves
    a command that has just left `unread` to be echoed and `head_start` from there to be answered: right behind each
    other, the two closed 59 of 60 stock services.
    """

    echo_timeout: float = 1.0
    resend_at: float = 0.75
    tries: int = 2
    reply_gap: float = 0.005
    resend_gap: float = 0.05
    interrupt_gap: float = 0.002
    copy_window: float = 0.02
    head_start: float = 0.002
    unread: float = 0.015
    timeout: float | None = None
    repeat: frozenset[int] = REPEATABLE


class Kind(Enum):
    """What a datagram from a service is."""

    ECHO = 'echo'
    COPY = 'copy'
    MESSAGE = 'message'
    JUNK = 'junk'


class Step(Enum):
    """What to do next about a command without an answer."""

    WAIT = 'wait'
    RESEND = 'resend'
    GIVE_UP = 'give up'


@dataclass(eq=False)
class Errand:
    """One command at one service.

    Its text is kept out of the representation, because what is printed gets logged, and an ALYX command carries a
    token.
    """

    name: str
    event: int
    text: bytes = field(repr=False)
    order: int
    timeout: float
    wants_reply: bool
    permit: Callable[['Errand'], bool] = field(repr=False)
    done: Callable[['Errand'], None] = field(repr=False)
    payload: bytes = field(default=b'', repr=False)
    tries: int = 0
    last_sent: int = 0
    missed: int = 0  # ns: when the service answered another command, on which it may have been busy; 0: it did not
    sent: int = 0
    echoed: int = 0
    doubted: int = 0  # ns: when a reply came that may have been an earlier command's; 0: none did
    answered: int = 0
    reply: list[Any] | None = field(default=None, repr=False)
    reply_event: int = 0
    once: bool = False  # never send it again
    ended: bool = False
    error: str = ''
    cause: BaseException | None = None
    timer: Any = field(default=None, repr=False)

    def outcome(self) -> Outcome:
        """Return what is known of it as a plain value."""
        return Outcome(
            self.name,
            ok=self.ended and not self.error,
            state=state(self.sent, self.echoed, self.answered),
            error=self.error,
            reply=self.reply,
            event=self.reply_event,
            sent=self.sent,
            echoed=self.echoed,
            answered=self.answered,
            aborted=isinstance(self.cause, Aborted),
            refused=isinstance(self.cause, ConnectionRefusedError),
        )


class Memory:
    """The commands sent to one service of which an echo may still come, and the last message it sent."""

    def __init__(self) -> None:
        self.commands: dict[bytes, Errand] = {}
        self.bytes = 0
        self.turn = 0
        self.message = b''
        self.message_at = 0
        self.expected = 0

    def stamp(self, errand: Errand) -> bytes:
        """Give a command its trailing spaces and remember it.

        Raises
        ------
        ValueError
            It does not fit into one datagram.
        """
        room = LONGEST - len(errand.text)
        if room < 0:
            raise ValueError(f'the message has {len(errand.text)} bytes, a datagram carries {LONGEST}: send less data')
        for _ in range(REMEMBERED + 1):
            self.turn = self.turn % REMEMBERED + 1
            payload = errand.text + b' ' * min(self.turn, room)
            if payload not in self.commands:
                break
        self.bytes += len(payload) - len(payload) * (payload in self.commands)
        self.commands[payload] = errand
        while len(self.commands) >= REMEMBERED or (self.bytes > REMEMBERED_BYTES and len(self.commands) > 1):
            oldest = next(iter(self.commands))
            self.bytes -= len(oldest)
            del self.commands[oldest]
        return payload

    def forget(self, payload: bytes) -> None:
        """Take back a stamp: the command did not leave."""
        if self.commands.pop(payload, None) is not None:
            self.bytes -= len(payload)

    def sending(self) -> None:
        """Note that a command leaves: from now on an equal message is a reply to it, not a copy."""
        self.message, self.expected = b'', 0

    def recognise(self, datagram: bytes, now: int, window: int) -> Kind:
        """Tell echoes and copies from what has to be read; `now` and `window` in ns."""
        if datagram in self.commands:
            return Kind.ECHO
        if datagram == self.message and now - self.message_at < window:
            if not self.expected:
                return Kind.COPY
            self.expected -= 1
        return Kind.MESSAGE

    def note(self, datagram: bytes, now: int, expected: int | None = None) -> None:
        """Remember a message that was taken; `expected` is how many equal ones may still be meant."""
        self.message, self.message_at = datagram, now
        if expected is not None:
            self.expected = expected


def read(datagram: bytes) -> tuple[int, list[Any]] | None:
    """Return event number and data of a message, None if it is not one.

    Never raises, whatever the bytes are: a stray datagram must not stop an experiment.

    Examples
    --------
    >>> read(b'[32, 10]')
    (32, [10])
    >>> read(b'[3, 1]') is None
    True
    """
    try:
        message = json.loads(datagram.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, list) or not message or type(message[0]) is not int:
        return None
    event, *data = message
    if event == ERROR:
        return (ERROR, data) if len(data) == 2 else None
    return (event, data) if event in EVENTS else None


def accepts(event: int, reply: int) -> bool:
    """Tell whether a message of event `reply` answers a command of `event`."""
    return reply == event or (event == CLEANUP and reply == INTERRUPT)


def subject(event: int, data: Sequence[Any]) -> int | None:
    """Return the event that a message is about: of an error the one that failed, None if it does not say."""
    about = data[1] if event == ERROR else event
    return about if type(about) is int else None


class Owed:
    """The commands that one service was sent, that were given up, and that it may still answer."""

    def __init__(self) -> None:
        self._errands: dict[int, list[tuple[int, Errand]]] = {}

    def add(self, errand: Errand, now: int) -> None:
        """Remember a command that is given up."""
        left = self.of(errand.event, now)
        self._errands[errand.event] = [*left, (now + OWED_FOR, errand)][-OWED_MOST:]

    def of(self, event: int, now: int) -> list[tuple[int, Errand]]:
        """Return until when which commands of an event may still be answered, the oldest first."""
        return [(until, errand) for until, errand in self._errands.get(event, ()) if now < until]

    def settle(self, event: int, now: int) -> bool:
        """Take a message for the answer to the oldest; False if nothing was owed."""
        left = self.of(event, now)
        self._errands[event] = left[1:]
        return bool(left)

    def clear(self) -> None:
        """Forget them: the service has answered a later command."""
        self._errands.clear()


def may_be_its(errand: Errand, event: int, owed: Owed, now: int) -> bool:
    """Tell whether a reply of an event may be that to a command in flight, and not to an earlier one."""
    earlier = owed.of(event, now)
    if not earlier:
        return True
    others = any(old.echoed and old.text != errand.text for _, old in earlier)
    return bool(errand.echoed) and (now - errand.sent < AT_ONCE or not others)


def answered_by(event: int, data: Sequence[Any], waiting: Sequence[Errand], owed: Owed, now: int) -> Errand | None:
    """Find the command that a message answers.

    Parameters
    ----------
    event : int
        The message's event number, 0 for an error.
    data : sequence
        What follows it; of an error the sentence and the event that failed.
    waiting : sequence of Errand
        The commands in flight, oldest first.
    owed : Owed
        The commands that were given up after they had arrived, or may have.
    now : int
        ``time.perf_counter_ns``.

    Returns
    -------
    Errand or None
        None for a message nobody waits for.
    """
    about = subject(event, data)
    if about is None:
        return None
    for exact in (True, False):
        for errand in waiting:
            if not errand.sent or not (about == errand.event if exact else accepts(errand.event, about)):
                continue
            if event == ERROR or (errand.wants_reply and may_be_its(errand, about, owed, now)):
                return errand
        if event == ERROR:
            break
    return None


def safe_at(flying: Sequence[Errand], timing: Timing) -> int:
    """Tell when an interrupt no longer meets the answers to the commands in flight, ns.

    A service that awaits the echo of its answer and gets an interrupt instead closes its socket. What is not answered
    within some milliseconds takes longer, and nobody waits for that.
    """
    gains = ((e.echoed, timing.head_start) if e.echoed else (e.last_sent, timing.unread) for e in flying)
    return max((since + int(gain * 1e9) for since, gain in gains), default=0)


def next_step(errand: Errand, now: int, timing: Timing) -> tuple[Step, int]:
    """Decide what to do about a command that was sent and is not answered.

    Parameters
    ----------
    errand : Errand
        Its stamps are read, nothing is changed.
    now : int
        ``time.perf_counter_ns``.
    timing : Timing
        The patience to have.

    Returns
    -------
    Step
        The step to take now.
    int
        For WAIT, in how many ns to ask again.
    """
    patience = errand.timeout if errand.echoed else min(errand.timeout, timing.echo_timeout)
    due = errand.sent + int(patience * 1e9)
    if now >= due:
        return Step.GIVE_UP, 0
    if errand.event in timing.repeat and not errand.once:
        again = due
        if errand.missed:
            again = errand.missed + int(timing.resend_gap * 1e9)
        elif not errand.echoed and errand.tries < timing.tries:
            again = errand.last_sent + int(timing.resend_at * timing.echo_timeout * 1e9)
        if now >= again:
            return Step.RESEND, 0
        due = min(due, again)
    return Step.WAIT, due - now
