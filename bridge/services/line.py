"""The line to one service as a machine without sockets, loop, threads or clock.

What came in goes in, with the time; what is to be done comes out:

    submit / interrupt / withdraw / withdraw_all           what the carrier wants
    received / opened / not_opened / lost / refused        what the network did
    left / not_left / denied                               what became of a `Send`
    next(now) -> Send | Open | Ended | Heard | Noted | None      to be called until it gives None
    wake_at                                                when to call it again then, at the latest

All state of one service is here and in what it is made of; the rules that all of it follows are numbered in `rules`:

==========  ========================================================================================================
`line`      what waits; what leaves, and when; the timer
`exchange`  what is under way, and what a datagram of the service means for it
`pace`      when the next command or interrupt may leave (rules 5, 6, 9)
`owed`      what may still be said of what is not under way any more, and so whose answer it is (rules 3, 4)
`copies`    what the service said lately (rule 2)
`errand`    one command, and the stamps that tell echoes apart (rule 1)
`actions`   what comes out
==========  ========================================================================================================

The order of actions is a promise: an interrupt's datagram leaves before the aborts that it brings are told.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

from bridge.outcome import Reason
from bridge.services import rules
from bridge.services.actions import Action, Open, Send
from bridge.services.errand import Errand
from bridge.services.exchange import Exchange
from bridge.services.pace import yields_until
from bridge.services.rules import INTERRUPT, STAGES, Channel, Fact, Stage, Timing, Turn, ns

# Looked up once: a class of Enum takes long to give its members.
_OPEN, _OPENING = Channel.OPEN, Channel.OPENING
_WAITING, _ENDED = Stage.WAITING, Stage.ENDED
_LEFT = Fact.LEFT


class Line(Exchange):
    """One service: its errands in order, and when each of them leaves; and what is under way.

    Parameters
    ----------
    name, uri, timing
        As of `Exchange`.

    Attributes
    ----------
    waiting, urgent : deque of Errand
        What has not left: commands, and interrupts. What has ended there is taken out by `next`.
    wake_at : int or None
        When `next` may have something to do although nothing happens, ns; None for never. As of when it gave None.
    """

    def __init__(self, name: str, uri: str, timing: Timing) -> None:
        super().__init__(name, uri, timing)
        self.waiting: deque[Errand] = deque()
        self.urgent: deque[Errand] = deque()
        self._oldest = math.inf  # ns: the earliest deadline of what waits
        self.wake_at: int | None = None
        self._starting: Errand | None = None

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
            self.pace.pressed = now
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

    def refused(self, error: OSError, now: int) -> None:
        """Take it that the network reports datagrams which did not arrive."""
        nobody = isinstance(error, rules.NOBODY_LISTENS)
        reason = Reason.REFUSED if nobody else Reason.NETWORK
        text = f'{self.uri} refused the command: no service listens there' if nobody else str(error)
        self._turn(Turn.DOUBT)
        self.pace.unread = [errand for errand in self.pace.unread if errand.read]
        for errand in tuple(self.flying):
            if not errand.echoed:
                self._end(errand, reason, text, now, arrived=False)
            elif nobody and errand.last_sent > errand.echoed and not (errand.doubted or self.held):
                # It was sent again, and whoever had echoed it is gone.
                gone = f'received the command but did not reply, and no service listens at {self.uri} any more'
                self._end(errand, Reason.NO_REPLY, gone, now)
        if nobody:  # whoever was there is gone; only what he has said may still be on its way
            self.owed.service_is_gone(now)

    def lost(self, now: int) -> None:
        """Somebody closed the socket."""
        self._turn(Turn.LOST)
        self.held = None
        for errand in tuple(self.flying):
            self._end(errand, Reason.NETWORK, 'the communicator was closed while the command was under way', now)

    # --- what became of a Send ---

    def left(self, errand: Errand, now: int) -> None:
        """Its first datagram is on its way."""
        self._starting = None
        timing = self.timing
        errand.stage = STAGES[errand.stage, _LEFT]
        errand.sent = errand.last_sent = now
        errand.tries = 1
        self.pace.since = now
        errand.due = now + ns(min(errand.timeout, timing.echo_timeout))
        if errand.event in timing.repeat and not errand.once:
            errand.again_at = now + ns(timing.resend_at * timing.echo_timeout)
        self.flying.append(errand)
        if errand.event == INTERRUPT:
            self.pace.pressed = now
            for older in (*self.flying, *self.waiting):
                # What was sent through the stock methods has no order of its own (0): it is older.
                if older.order < errand.order and older.event != INTERRUPT:
                    self._end(older, Reason.ABORTED, 'aborted by EXPINTERRUPT', now)

    def not_left(self, errand: Errand, error: OSError, now: int) -> None:
        """Take it that the socket did not take its first datagram."""
        self.denied(errand)
        self._turn(Turn.DOUBT)
        self._end(errand, Reason.NETWORK, f'not sent: {error}', now)

    def denied(self, errand: Errand) -> None:
        """Take it that it may not leave; whoever denied it has ended it."""
        self._starting = None
        self.stamps.forget(errand.payload)

    # --- what is to be done ---

    def next(self, now: int) -> Action | None:
        """Return what is to be done next; None for nothing before `wake_at`, unless something happens."""
        out, flying = self.out, self.flying
        if out:
            return out.popleft()
        if self._starting is not None:
            return None
        if not (self.urgent or self.waiting or self.held or self.pace.unread):  # as nearly always
            if not flying:
                self.wake_at = None
                return None
            if len(flying) == 1 and now < (at := flying[0].look_at):
                self.wake_at = at
                return None
        self._proceed(now)
        if out:
            return out.popleft()
        self.wake_at = self._when(now)
        return None

    def is_over(self, now: int) -> bool:
        """Tell whether nothing is under way, and nothing may still come that the service needs confirmed."""
        busy = self.urgent or self.waiting or self.flying or self.held or self._starting
        return not busy and self.owed.is_nothing(now)

    def pauses_until(self) -> int:
        """Return when a command could leave if only the pause is waited for, ns; 0 if something else is as well."""
        busy = self.flying or self.urgent or self.pace.unread or self.held
        if busy or self.channel is not _OPEN or not all(one.yields for one in self.waiting):
            return 0
        return self.pace.next_at(self.timing)

    def _when(self, now: int) -> int | None:
        """Return when there may be something to do, ns; None for never."""
        if not (self.urgent or self.waiting or self.held) and len(self.flying) < 2:
            return self.flying[0].look_at if self.flying else None
        return min(self._times(now), default=None)

    def _times(self, now: int) -> Iterator[int]:
        if self.held is not None:
            yield self.held.until
        for errand in self.flying:
            yield errand.look_at
        free = self.held is None and self.channel is not _OPENING
        if self._oldest < math.inf:  # told a moment later: whoever waits as long may take it back at that time
            yield math.ceil(self._oldest) + rules.LATE  # a deadline may lie between two ns
        if self.urgent:
            if free and self.urgent[0].deadline > now:
                yield self.pace.urgent_at(self.flying, self.timing)
        elif self.waiting:
            first = self.waiting[0]
            if free and not self.flying and not first.blocked and first.deadline > now:
                yield self.pace.next_at(self.timing)

    def _proceed(self, now: int) -> None:
        """Do what the time brings; one step is enough, `next` comes again."""
        flying = self.flying
        self._age(now)
        if self.out or self.held is not None:
            return
        if self.urgent:
            if self.pace.urgent_at(flying, self.timing) <= now < self.urgent[0].deadline:
                self._start(self.urgent, now)
        elif self.waiting and not flying:
            first = self.waiting[0]
            if not first.blocked and self.pace.next_at(self.timing) <= now < first.deadline:
                self._start(self.waiting, now)

    def _age(self, now: int) -> None:
        """Take or give up what has become old enough."""
        if self.held is not None and now >= self.held.until:
            self._release(self.held, now)
        for errand in tuple(self.flying):
            hinders = errand.yields and self._somebody_waits()
            if hinders and not errand.graces:
                errand.due = min(errand.due, max(yields_until(errand, self.timing), now))
            if now >= errand.look_at:
                self._look(errand, now, hinders=hinders)
        if self.pace.unread:
            self.pace.forget_unread(self.timing, now)
        if self._oldest + rules.LATE <= now:
            self._expire(now)
        for queue in (self.urgent, self.waiting):
            while queue and queue[0].stage is _ENDED:
                queue.popleft()

    def _somebody_waits(self) -> bool:
        """Tell whether a command waits that does not yield."""
        return any(not (one.yields or one.blocked) and one.stage is _WAITING for one in self.waiting)

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
        left = [errand for errand in (*self.urgent, *self.waiting) if errand.stage is _WAITING]
        for errand in left:
            if errand.deadline + rules.LATE <= now:
                self._end(errand, *self._why_too_old(errand, is_first=errand is left[0]), now)
        self._oldest = min((errand.deadline for errand in left if errand.stage is _WAITING), default=math.inf)

    def _why_too_old(self, errand: Errand, *, is_first: bool) -> tuple[Reason, str]:
        """Return what is told of a command that could not leave in time."""
        if errand.blocked:
            return Reason.EXPIRED, 'not sent: it had to wait too long for other services, which come before this one'
        if self.pace.is_unread and not self.flying:
            text = 'not sent: it has not yet read an earlier command, and would close if it read two at once'
            return Reason.UNREAD, text
        if self.flying or not is_first:
            return Reason.EXPIRED, 'not sent: it had to wait too long behind earlier commands to this service'
        if self.channel is _OPENING:
            return Reason.EXPIRED, f'not sent: the address of {self.uri} was not found in time'
        return Reason.EXPIRED, 'not sent: it was too old by the time that it could leave'
