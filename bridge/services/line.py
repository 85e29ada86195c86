"""The line to one service as a machine without sockets, loop, threads or clock.

What came in goes in, with the time; what is to be done comes out:

    submit / interrupt / withdraw / withdraw_all           what the carrier wants
    received / opened / not_opened / lost / refused        what the network did
    left / not_left / denied                               what became of a `Send`
    next(now) -> Send | Open | Ended | Heard | Noted | None      to be called until it gives None
    wake_at() -> int | None                                when to call `next` again at the latest, ns

All state is here; the rules that it follows are functions and tables in `rules`, numbered there. An errand's life:

    WAITING --its datagram left--> SENT --its echo came--> ECHOED --its answer came--> ENDED

and from each stage it may be given up; an answer may come before the echo. Behind an errand that was given up there
may be more: as *unread* it keeps others waiting (rule 5), as *owed* its answer may still come (rule 4).

Two things about the order of actions are promises:

- The answer to a command is told before it is confirmed: whoever waits wakes up while we are in the system call.
- An interrupt's datagram leaves before the aborts that it brings are told.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bridge.outcome import NO_STATUS, Reason
from bridge.services import rules
from bridge.services.errand import REMEMBERED, Errand, Stamps
from bridge.services.rules import (
    CHANNELS,
    ERROR,
    INTERRUPT,
    STAGES,
    Channel,
    Fact,
    Stage,
    Timing,
    Turn,
)

# Looked up once: a class of Enum takes long to give its members.
_OPEN, _OPENING = Channel.OPEN, Channel.OPENING
_WAITING, _SENT, _ENDED = Stage.WAITING, Stage.SENT, Stage.ENDED
_LEFT, _ECHO, _ANSWER = Fact.LEFT, Fact.ECHO, Fact.ANSWER

OWED_MOST = 32  # errands that may still be answered
DEAD_AFTER = 2  # commands in a row without an echo, of which the second waited for that of the first
SAID_MOST, SAID_BYTES = 256, 1 << 20  # messages of the service that are remembered for copies


@dataclass(slots=True)
class Send:
    """Hand a datagram to the socket.

    With an `errand` it is its first: ask for permission directly before, and report `Line.left`, `Line.not_left` or
    `Line.denied`.
    """

    payload: bytes = field(repr=False)
    errand: Errand | None = None


@dataclass(slots=True)
class Open:
    """Look the address up and see to it that there is a socket; report `Line.opened` or `Line.not_opened`."""


@dataclass(slots=True)
class Ended:
    """An errand has its outcome."""

    errand: Errand


@dataclass(slots=True)
class Heard:
    """A message of the service was taken; `answer` if it was no news."""

    event: int
    data: list[Any] = field(repr=False)
    datagram: bytes = field(repr=False)
    answer: bool = False


@dataclass(slots=True)
class Noted:
    """Something for the log; level as in `logging`, and of what kind it is, in words."""

    level: int
    text: str
    kind: str


Action = Send | Open | Ended | Heard | Noted


@dataclass(slots=True)
class _Said:
    """A message that the service sent lately."""

    at: int
    answered: bool  # it was an answer


@dataclass(slots=True)
class _Held:
    """A message that may be a copy, and is not confirmed yet."""

    datagram: bytes
    event: int
    data: list[Any]
    since: int
    until: int


class Line:
    """One service: its errands in order, what it may still say, and what is to be done.

    Parameters
    ----------
    name, uri : str
        As configured.
    timing : Timing
        How patient to be; may be changed at any time.

    Attributes
    ----------
    cut : int
        Echoes are cut to so many bytes; 0: they are not.
    tells_first : bool
        What the service says by itself is told before it is confirmed. Only for hosts that are quick: the service waits
        1 s for its confirmation.
    out : deque
        What is to be done, as far as it is known: `next` takes from it, and whoever wants to may do so without it.
    """

    def __init__(self, name: str, uri: str, timing: Timing) -> None:
        self.name, self.uri, self.timing = name, uri, timing
        self.cut = timing.max_message_size
        self.tells_first = False
        self.channel = Channel.CLOSED
        self.waiting: deque[Errand] = deque()
        self.urgent: deque[Errand] = deque()
        self.flying: list[Errand] = []
        self.unread: list[Errand] = []
        # A command of the worker before us, sent from the same port, may still be echoed: begin somewhere else.
        self.stamps = Stamps(random.randrange(REMEMBERED))  # noqa: S311
        self._owed: list[tuple[int, Errand]] = []
        self._said: dict[bytes, _Said] = {}
        self._said_bytes = 0
        self._held: _Held | None = None
        self._surplus: dict[int, tuple[int, int]] = {}
        self._spoke = 0  # ns: when the service last said something, or we last confirmed it
        self._answered = 0  # ns: when it last answered
        self._talks: set[int] = set()  # events that it has said by itself
        self._pause = 0.0  # s: the longer pause behind what left twice
        self._pressing = 0  # ns: until when the first interrupt waits for a service that goes on speaking
        self._missed = 0  # commands in a row without an echo: behind the second one it is taken for dead
        self._oldest = math.inf  # ns: the earliest deadline of what waits
        self._now = 0
        self._starting: Errand | None = None
        self.out: deque[Action] = deque()

    # --- what the carrier wants ---

    def submit(self, errand: Errand) -> None:
        """Carry out a command after those before it; but for those that yield."""
        if self.waiting and not errand.yields:
            self.waiting.insert(len(self.waiting) - sum(one.yields for one in self.waiting), errand)
        else:
            self.waiting.append(errand)
        self._oldest = min(self._oldest, errand.deadline)

    def interrupt(self, errand: Errand, now: int) -> None:
        """Send a command before everything else, and end everything older than it when it has left."""
        if not self.urgent:
            self._press(now)
        self.urgent.append(errand)
        self._oldest = min(self._oldest, errand.deadline)

    def withdraw(self, errand: Errand, reason: Reason, error: str, now: int) -> None:
        """End an errand wherever it stands."""
        self._end(errand, reason, error, now)

    def withdraw_all(self, reason: Reason, error: str, now: int, *, unsent: bool = False) -> None:
        """End all errands, or those that have not left."""
        for errand in (*self.urgent, *self.waiting, *(() if unsent else self.flying)):
            self._end(errand, reason, error, now)

    # --- what the network did ---

    def opened(self) -> None:
        """There is a socket, and the address is known."""
        self._turn(Turn.OPENED)

    def not_opened(self, reason: Reason, error: str, now: int) -> None:
        """There is none: what waits for it is not sent."""
        self._turn(Turn.FAILED)
        self.withdraw_all(reason, error, now, unsent=True)

    def lost(self, now: int) -> None:
        """Somebody closed the socket."""
        self._turn(Turn.LOST)
        self._held = None
        for errand in tuple(self.flying):
            self._end(errand, Reason.NETWORK, 'the communicator was closed while the command was under way', now)

    def refused(self, error: OSError, now: int) -> None:
        """Take it that the network reports datagrams which did not arrive."""
        nobody = isinstance(error, rules.NOBODY_LISTENS)
        reason = Reason.REFUSED if nobody else Reason.NETWORK
        text = f'{self.uri} refused the command: no service listens there' if nobody else str(error)
        self._turn(Turn.DOUBT)
        self.unread = [errand for errand in self.unread if errand.read]
        for errand in [errand for errand in self.flying if not errand.echoed]:
            self._end(errand, reason, text, now, arrived=False)
        if nobody:  # whoever was there is gone; only what he has said may still be on its way
            self._owed = [(min(until, now + rules.COPIES_FOR), old) for until, old in self._owed]
            self._surplus.clear()

    def received(self, datagram: bytes, now: int) -> None:
        """Take a datagram of the service, whatever it is."""
        errand = self.stamps.find(datagram, self.cut)
        if errand is not None:
            self._echo(errand, now)
        elif not rules.is_echo(datagram):
            message = rules.read(datagram)
            if message is None:
                text = f'{self.name}: {len(datagram)} bytes that are not a message were ignored'
                self.out.append(Noted(logging.WARNING, text, 'what is no message'))
            else:
                self._message(*message, datagram, now)

    def stranger(self, datagram: bytes, address: str) -> None:
        """Take a datagram from another address: only of interest if it is an echo of ours."""
        errand = self.stamps.find(datagram, self.cut)
        if errand is not None and not errand.read:
            errand.stranger = address

    # --- what became of a Send ---

    def left(self, errand: Errand, now: int) -> None:
        """Its first datagram is on its way."""
        self._starting = None
        timing = self.timing
        errand.stage = STAGES[errand.stage, _LEFT]
        errand.sent = errand.last_sent = now
        errand.tries = 1
        errand.due = now + _ns(min(errand.timeout, timing.echo_timeout))
        if errand.event in timing.repeat and not errand.once:
            errand.again_at = now + _ns(timing.resend_at * timing.echo_timeout)
        self.flying.append(errand)
        if errand.event == INTERRUPT:
            self._press(now)
            for older in (*self.flying, *self.waiting):
                # What was sent through the stock methods has no order of its own (0): it is older.
                if older.order < errand.order and older.event != INTERRUPT:
                    self._end(older, Reason.ABORTED, 'aborted by EXPINTERRUPT', now)

    def not_left(self, errand: Errand, error: OSError, now: int) -> None:
        """Take it that the socket did not take its first datagram."""
        self._starting = None
        self.stamps.forget(errand.payload)
        self._turn(Turn.DOUBT)
        self._end(errand, Reason.NETWORK, f'not sent: {error}', now)

    def denied(self, errand: Errand) -> None:
        """Take it that it may not leave; whoever denied it has ended it."""
        self._starting = None
        self.stamps.forget(errand.payload)

    # --- what is to be done ---

    def next(self, now: int) -> Action | None:
        """Return what is to be done next, None for nothing."""
        self._now = now
        if not self.out and self._starting is None:
            self._proceed(now)
        return self.out.popleft() if self.out else None

    def wake_at(self) -> int | None:
        """Return when `next` may have something to do although nothing happens, ns; None for never."""
        if not (self.urgent or self.waiting or self._held):  # as nearly always
            if not self.flying:
                return None
            if len(self.flying) == 1:
                return self.flying[0].look_at
        return min(self._times(), default=None)

    def awaits_more(self, now: int) -> bool:
        """Tell whether one more answer to a command that left twice may come."""
        return any(now < until for left, until in tuple(self._surplus.values()))

    def is_over(self, now: int) -> bool:
        """Tell whether nothing is under way, and nothing may still come that the service needs confirmed."""
        busy = self.urgent or self.waiting or self.flying or self._held or self._starting
        return not (busy or self.awaits_more(now) or any(now < until for until, _ in self._owed))

    def pauses_until(self) -> int:
        """Return when a command could leave if only the pause is waited for, ns; 0 if something else is as well."""
        busy = self.flying or self.urgent or self.unread or self._held or not all(one.yields for one in self.waiting)
        return 0 if busy or self.channel is not _OPEN else self._next_at()

    def _times(self) -> Iterator[int]:
        if self._held is not None:
            yield self._held.until
        for errand in self.flying:
            yield errand.look_at
        free = self._held is None and self.channel is not _OPENING
        if self._oldest < math.inf:  # told a moment later: whoever waits as long may take it back at that time
            yield int(self._oldest) + rules.LATE
        if self.urgent:
            if free and self.urgent[0].deadline > self._now:
                yield self._urgent_at()
        elif self.waiting:
            first = self.waiting[0]
            if free and not self.flying and not first.blocked and first.deadline > self._now:
                yield self._next_at()

    def _proceed(self, now: int) -> None:
        """Do what the time brings; one step is enough, `next` comes again."""
        flying = self.flying
        if not (self.urgent or self.waiting or self._held or self.unread):  # as nearly always
            if not flying:
                return
            alone = len(flying) == 1 and not flying[0].yields
            if alone and now < flying[0].look_at and now < self._oldest + rules.LATE:
                return
        self._age(now)
        if self.out or self._held is not None:
            return
        if self.urgent:
            if self._urgent_at() <= now < self.urgent[0].deadline:
                self._start(self.urgent, now)
        elif self.waiting and not self.flying and self._may_leave(self.waiting[0], now):
            self._start(self.waiting, now)

    def _age(self, now: int) -> None:
        """Take or give up what has become old enough."""
        if self._held is not None and now >= self._held.until:
            self._release(now)
        for errand in tuple(self.flying):
            if errand.yields or now >= errand.look_at:
                self._look(errand, now)
        if self.unread:
            self._forget_unread(now)
        if self._oldest + rules.LATE <= now:
            self._expire(now)
        for queue in (self.urgent, self.waiting):
            while queue and queue[0].stage is _ENDED:
                queue.popleft()

    def _forget_unread(self, now: int) -> None:
        self.unread = [errand for errand in self.unread if now < self._unread_until(errand)]

    def _has_read(self, sent: int, still: Errand | None = None) -> None:
        """Take it that the service has read what was sent until then; the next one waits for `still` all the same."""
        self.unread = [one for one in self.unread if one.sent > sent or one is still]

    def _may_leave(self, errand: Errand, now: int) -> bool:
        return not errand.blocked and self._next_at() <= now < errand.deadline

    def _start(self, queue: deque[Errand], now: int) -> None:
        if self.channel is not _OPEN:
            if self.channel is not _OPENING:
                self._turn(Turn.NEED)
                self.out.append(Open())
            return
        errand = queue.popleft()
        try:
            self.stamps.stamp(errand)
        except ValueError as error:
            self._end(errand, Reason.TOO_LARGE, str(error), now)
            return
        self._starting = errand
        self.out.append(Send(errand.payload, errand))

    def _expire(self, now: int) -> None:
        """End what has become too old to be sent."""
        if self.unread and not self.flying:
            reason = Reason.UNREAD
            error = 'not sent: it has not yet read an earlier command, and would close if it read two at once'
        else:
            reason = Reason.EXPIRED
            error = 'not sent: it had to wait too long behind earlier commands to this service'
        left = [errand for errand in (*self.urgent, *self.waiting) if errand.stage is _WAITING]
        for errand in left:
            if errand.deadline + rules.LATE <= now:
                self._end(errand, reason, error, now)
        self._oldest = min((errand.deadline for errand in left if errand.stage is _WAITING), default=math.inf)

    def _next_at(self) -> int:
        """Return when the next command may leave (rule 5), ns."""
        at = self._spoke + _ns(max(self.timing.reply_gap, self._pause))
        if self.unread and self._missed < DEAD_AFTER:
            at = max(at, *map(self._unread_until, self.unread))
        return at

    def _urgent_at(self) -> int:
        """Return when the next interrupt may leave (rule 6), ns."""
        at = min(self._spoke + _ns(min(self.timing.interrupt_gap, self.timing.reply_gap)), self._pressing)
        for errand in itertools.chain(self.flying, self.unread):
            if errand.read:
                at = max(at, errand.read + _ns(self.timing.head_start))
            elif self._missed < DEAD_AFTER:
                at = max(at, errand.sent + _ns(self.timing.patience * self.timing.echo_timeout))
        return at

    def _somebody_waits(self) -> bool:
        """Tell whether a command waits that does not yield."""
        return any(not (one.yields or one.blocked) and one.stage is _WAITING for one in self.waiting)

    def _yields_at(self, errand: Errand) -> int:
        """Return until when others wait for the answer to a question that yields (rule 9), ns."""
        echo = self.timing.echo_timeout
        return errand.echoed + _ns(echo) if errand.echoed else errand.sent + _ns(self.timing.patience * echo)

    def _unread_until(self, errand: Errand) -> int:
        """Return until when a command that was given up keeps the next one waiting, ns."""
        if errand.yields:
            return self._yields_at(errand)
        return errand.last_sent + _ns(self.timing.unread_for * self.timing.echo_timeout)

    def _press(self, now: int) -> None:
        """From now on an interrupt waits no more than some ms for a service that goes on speaking."""
        self._pressing = now + 8 * _ns(self.timing.interrupt_gap)

    def _repeats(self, errand: Errand) -> bool:
        return errand.event in self.timing.repeat and not errand.once

    # --- one errand under way ---

    def _look(self, errand: Errand, now: int) -> None:
        """Send an errand again, or give it up, if its time has come."""
        if errand.yields and not errand.graces and self._somebody_waits():
            errand.due = min(errand.due, max(self._yields_at(errand), now))
        at = errand.look_at
        if now < at:
            return
        if errand.likely is not None and errand.likely_at == at:  # nothing else came
            self._answer(errand, *errand.likely, errand.doubted)
        elif now - at > rules.LATE and errand.graces < rules.GRACES:  # rule 8
            errand.graces += 1
            errand.due = max(errand.due, now + rules.GRACE)
            errand.again_at = errand.again_at and now + rules.GRACE
        elif errand.again_at == at and self._held is not None:
            errand.again_at = self._held.until + 1
        elif errand.again_at == at:
            errand.last_sent, errand.again_at = now, 0
            errand.tries += 1
            text = f'{self.name}: {rules.event_name(errand.event)} is sent again ({errand.tries})'
            self.out.append(Noted(logging.DEBUG, text, 'what is sent again'))
            self.out.append(Send(errand.payload))
        else:
            self._give_up(errand, now)

    def _give_up(self, errand: Errand, now: int) -> None:
        held = self._held
        if held is not None and self._answered_by(held.event, held.data, held.since) is errand:
            self._release(now)
            if errand.stage is _ENDED:
                return
        if errand.yields and self._somebody_waits():
            self._end(errand, Reason.WITHDRAWN, 'given up: a command went first', now)
            return
        # As it was configured: the timer came a little later. Less, if it was cut short for another command.
        patience = errand.timeout if errand.echoed else min(errand.timeout, self.timing.echo_timeout)
        after = f'{min(patience, (now - errand.sent) / 1e9):.3g} s'
        if errand.doubted:
            when = f'{(errand.doubted - errand.sent) / 1e9:.3g} s'
            text = f'received the command but did not reply within {after}; what it said after {when} '
            self._end(errand, Reason.DOUBTFUL, text + 'may be its reply to an earlier one', now)
        elif errand.echoed:
            self._end(errand, Reason.NO_REPLY, f'received the command but did not reply within {after}', now)
        elif errand.stranger:
            text = f'no echo from {self.uri} within {after}, but {errand.stranger} has echoed it: '
            advice = 'is that another address of the same computer? Configure the one it answers from'
            self._end(errand, Reason.OTHER_ADDRESS, text + advice, now)
        else:
            text = f'no echo from {self.uri} within {after}: is the service running?'
            self._end(errand, Reason.NO_ECHO, text, now)

    def _echo(self, errand: Errand, now: int) -> None:
        """Take an echo: the service has read this command, and all that were sent before it, or they were lost."""
        if errand.read:
            return
        self._spoke = max(self._spoke, now)
        errand.read, self._missed = now, 0
        if self.unread:  # behind a late echo the answer comes: until then the next command waits
            self._has_read(errand.sent, errand if errand.wants_reply else None)
        if errand.stage is not _SENT:
            return
        errand.stage = STAGES[_SENT, _ECHO]
        errand.echoed = now
        errand.due = errand.sent + _ns(errand.timeout)
        errand.again_at = 0
        if not errand.wants_reply:
            self._end(errand, Reason.NONE, '', now)
        elif errand.tries == 1 and self._repeats(errand):
            errand.again_at = now + _ns(min(self.timing.again_after, errand.timeout / 2))
        held = self._held
        if held and now - held.since <= rules.PROMPT and self._answered_by(held.event, held.data, now) is errand:
            self._release(now)  # its answer has overtaken it

    # --- messages ---

    def _message(self, event: int, data: list[Any], datagram: bytes, now: int) -> None:
        """Take a message, unless it is, or may be, a copy (rule 2)."""
        self._forget_said(now)
        held = self._held
        if held is not None and held.datagram == datagram:
            self._held = None  # two came: one is meant
            self._take(event, data, datagram, now, self._answered_by(event, data, now))
            return
        if held is not None and event != ERROR:
            if held.event == ERROR:
                self._release(now)
            self._held = None  # a service that waits for a confirmation says nothing else
        said = self._said.get(datagram)
        unproved = event == INTERRUPT and any(one.event == INTERRUPT and not one.echoed for one in self.flying)
        if said is None and unproved and self._held is None:
            self._hold(event, data, datagram, now)  # its own, or our answer: the echo will tell
            return
        expected = self._answered_by(event, data, now)
        prompt = expected is not None and expected.echoed and now - expected.echoed <= rules.PROMPT
        if said is None or prompt or (event == ERROR and self._held) or self._is_surplus(event, now, peek=True):
            self._take(event, data, datagram, now, expected)
        elif expected is not None or self._may_be_meant(said, event, data, now):
            self._hold(event, data, datagram, now)

    def _may_be_meant(self, said: _Said, event: int, data: list[Any], now: int) -> bool:
        """Tell whether a message that was there before, and answers nothing, may be more than a copy."""
        if event in rules.REPEATABLE and (not said.answered or event in self._talks):
            return True  # what this service says by itself
        if event == INTERRUPT and self.flying:
            return True  # the answer to what is under way will tell
        second = not said.answered and now - self._answered <= rules.PROMPT  # one that answers everything twice
        return second or self._owes(event, data, now)

    def _hold(self, event: int, data: list[Any], datagram: bytes, now: int) -> None:
        self._held = _Held(datagram, event, data, now, now + rules.HOLD)

    def _release(self, now: int) -> None:
        """Take what was held for long enough. What answers a command that was not even echoed is a copy."""
        held, self._held = self._held, None
        assert held is not None
        self._press(now)
        if now - held.since > rules.GIVEN_UP:
            return  # this computer stood still: nobody waits for a confirmation any more
        errand = self._answered_by(held.event, held.data, held.since)
        if errand is None or held.event in (ERROR, rules.STATUS, rules.INFO) or self._is_plausible(errand, held):
            errand = self._answered_by(held.event, held.data, now)
            self._take(held.event, held.data, held.datagram, now, errand)
        elif held.event in rules.REPEATABLE:
            errand.doubted = held.since
            self._confirm(held.event, held.datagram, now, _Said(now, True))

    def _is_plausible(self, errand: Errand, held: _Held) -> bool:
        """Tell whether what was held may be the answer to a command, by when it came."""
        return bool(errand.echoed) or held.since - errand.sent <= rules.PROMPT  # then its echo was lost

    def _take(self, event: int, data: list[Any], datagram: bytes, now: int, errand: Errand | None) -> None:
        """Take a message that is meant, and answers a command under way, or none."""
        news, answered = True, True
        if errand is not None:
            news = False
            self._answer(errand, event, data, now)
            if self.flying:
                self._was_busy(now)
        elif (about := rules.subject(event, data)) is not None and self._settle(event, about, now):
            for one in self.flying:
                if one.echoed and rules.accepts(one.event, about):
                    one.doubted = now
            self._was_busy(now)
        else:
            until = self._surplus.get(event, (0, 0))[1]
            news, answered = not self._is_surplus(event, now), False
            if not news:
                self._doubt(event, data, now, until)
            self._talks.add(event)
        if errand is not None and errand.event != event != ERROR and now - errand.echoed > rules.PROMPT:
            news = True  # an EXPCLEANUP was answered by an EXPINTERRUPT, or the service has something to say
        heard, first = Heard(event, data, datagram, not news), news and self.tells_first
        if first:
            self.out.append(heard)
        self._confirm(event, datagram, now, _Said(now, answered))
        if not first:
            self.out.append(heard)

    def _doubt(self, event: int, data: list[Any], now: int, until: int) -> None:
        """Keep what was taken for one more answer to a command that left twice: it may answer what is under way."""
        for errand in self.flying:
            if errand.echoed and errand.wants_reply and rules.accepts(errand.event, event):
                errand.doubted = now
                if now - errand.echoed <= rules.PROMPT:
                    errand.likely, errand.likely_at = (event, data), until

    def _confirm(self, event: int, datagram: bytes, now: int, said: _Said) -> None:
        self._spoke, self._missed = now, 0
        if event != ERROR:  # iblutil never confirms errors
            self.out.append(Send(datagram))
        if self._said.pop(datagram, None) is None:
            self._said_bytes += len(datagram)
        self._said[datagram] = said

    def _answer(self, errand: Errand, event: int, data: list[Any], now: int) -> None:
        """End a command with what the service says of it."""
        self._answered = now
        errand.echoed = errand.read = errand.echoed or now
        if self.unread:
            self._has_read(errand.sent)
        if event == ERROR:
            self._end(errand, Reason.CALLBACK_FAILED, f'it failed: {data[0]}', now)
            return
        errand.answered = now
        errand.reply, errand.reply_event = data, event
        errand.status = rules.reported_status(event, data)
        self._pause = 0.0
        if errand.tries > 1:
            self._pause = self.timing.resend_gap
            more, (left, until) = errand.tries - 1, self._surplus.get(event, (0, 0))
            more += left if now < until else 0
            later = now - (errand.sent if errand.echoed < errand.last_sent else errand.echoed)
            self._surplus[event] = more, max(until, now + more * (later + rules.SURPLUS_FOR))
        errand.stage = STAGES[errand.stage, _ANSWER]
        if errand.status != NO_STATUS and rules.contradicts(errand.event, errand.status):
            errand.reason = Reason.STATUS
            errand.error = f'answered, but reports the status {rules.status_name(errand.status)}'
        self.flying.remove(errand)
        if self.urgent:
            self._press(now)
        self.out.append(Ended(errand))

    def _was_busy(self, now: int) -> None:
        """Repeat what else is under way: the service was busy with what it has answered now (rule 7)."""
        for errand in self.flying:
            if self._repeats(errand):
                errand.again_at = now + _ns(max(self.timing.resend_gap, self.timing.reply_gap))

    def _is_surplus(self, event: int, now: int, *, peek: bool = False) -> bool:
        """Tell whether a message is one more answer to a command that left more than once, and so no news."""
        if event not in self._surplus:
            return False
        left, until = self._surplus[event]
        if not peek:
            if left > 1:
                self._surplus[event] = left - 1, until
            else:
                del self._surplus[event]
        return now < until

    # --- whose answer it is (rules 3 and 4) ---

    def _answered_by(self, event: int, data: list[Any], now: int) -> Errand | None:
        """Find the command under way that a message answers."""
        about = rules.subject(event, data)
        if about is None or not self.flying:
            return None
        for exact in (True, False):
            for errand in self.flying:
                if not (about == errand.event if exact else rules.accepts(errand.event, about)):
                    continue
                if (event == ERROR or errand.wants_reply) and self._is_its(errand, event, about, data, now):
                    return errand
            if event == ERROR:
                break
        return None

    def _is_its(self, errand: Errand, event: int, about: int, data: list[Any], now: int) -> bool:
        """Tell whether an answer is that to a command under way, and not to an earlier one."""
        earlier = self._owing(event, about, now) if self._owed else []
        surplus = bool(self._surplus) and self._is_surplus(about, now, peek=True)
        if not (earlier or surplus):  # as nearly always
            return bool(errand.echoed) or event != INTERRUPT
        late_or_other = errand.event != about or now - errand.echoed > rules.PROMPT
        if (surplus and late_or_other) or not errand.echoed:
            return False
        return not earlier or self._is_not_earlier(errand, earlier, event, data, now)

    def _is_not_earlier(self, errand: Errand, earlier: list[Errand], event: int, data: list[Any], now: int) -> bool:
        """Tell whether an answer is that to a command under way, although earlier ones may still be answered."""
        about = rules.subject(event, data)
        named = rules.reference(event, data)
        if named is not None and named != errand.reference() and any(named == old.reference() for old in earlier):
            return False
        at_rest = not any(
            (old.read and errand.echoed - old.read <= rules.PROMPT)
            or (about == INTERRUPT and old.reason is Reason.ABORTED)  # an EXPCLEANUP that ours has overtaken
            for old in earlier
        )
        if at_rest and now - errand.echoed <= rules.PROMPT:
            return True
        if not any(old.read and (old.text != errand.text or old.reason is Reason.ABORTED) for old in earlier):
            return True
        return named is not None and named == errand.reference() and all(named != old.reference() for old in earlier)

    def _owing(self, event: int, about: int, now: int) -> list[Errand]:
        """Return the commands given up that a message about an event may still answer, the oldest first."""
        self._owed = [(until, old) for until, old in self._owed if now < until]
        return [
            old
            for _, old in self._owed
            if (about == old.event if event == ERROR else old.wants_reply and rules.accepts(old.event, about))
        ]

    def _owes(self, event: int, data: list[Any], now: int) -> bool:
        about = rules.subject(event, data)
        return about is not None and bool(self._owing(event, about, now))

    def _settle(self, event: int, about: int, now: int) -> bool:
        """Take a message for the answer to the oldest command given up; False if nothing was owed."""
        owing = self._owing(event, about, now)
        if not owing:
            return False
        del self._owed[next(i for i, (_, old) in enumerate(self._owed) if old is owing[0])]
        self._has_read(owing[0].sent)
        return True

    def _forget_said(self, now: int) -> None:
        """Forget messages of which no copy can come any more, and the oldest of too many."""
        while self._said:
            first = next(iter(self._said))
            crowded = len(self._said) > SAID_MOST or self._said_bytes > SAID_BYTES
            if now - self._said[first].at <= rules.COPIES_FOR and not crowded:
                break
            del self._said[first]
            self._said_bytes -= len(first)

    # --- the end of an errand ---

    def _end(self, errand: Errand, reason: Reason, error: str, now: int, *, arrived: bool = True) -> None:
        if errand.stage is _ENDED:
            return
        errand.stage = STAGES[errand.stage, Fact.END]
        errand.reason, errand.error = reason, error
        if errand in self.flying:
            self.flying.remove(errand)
            self._press(now)
            if arrived and reason is not Reason.CALLBACK_FAILED:
                # What left twice may be answered twice.
                self._owed = [*self._owed, *[(now + rules.OWED_FOR, errand)] * errand.tries][-OWED_MOST:]
                if not errand.read:
                    self._missed += not errand.yields and reason in (Reason.NO_ECHO, Reason.OTHER_ADDRESS)
                    self.unread.append(errand)
                    self._turn(Turn.DOUBT)
        self.out.append(Ended(errand))

    def _turn(self, turn: Turn) -> None:
        self.channel = CHANNELS.get((self.channel, turn), self.channel)


def _ns(seconds: float) -> int:
    return int(min(seconds, 1e9) * 1e9)
