"""What is under way at one service, and what comes back: echoes, answers, copies and news.

The lower half of a `bridge.services.line.Line`. It knows nothing of what waits; what came of each datagram, and what is
to be done about it, is added to `Exchange.out`. An errand's life:

    WAITING --its datagram left--> SENT --its echo came--> ECHOED --its answer came--> ENDED

and from each stage it may be given up; an answer may come before the echo. Behind an errand that was given up there
may be more: as *unread* it keeps others waiting (`bridge.services.pace`), as *owed* its answer may still come
(`bridge.services.owed`). The answer to a command is told before it is confirmed: whoever waits wakes up while we are in
the system call.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from typing import Any

from bridge.outcome import NO_STATUS, Reason
from bridge.services import rules
from bridge.services.actions import Action, Ended, Heard, Noted, Send
from bridge.services.copies import Copies, Held
from bridge.services.errand import REMEMBERED, Errand, Stamps, why_given_up
from bridge.services.owed import Owed
from bridge.services.pace import Pace
from bridge.services.rules import CHANNELS, ERROR, INTERRUPT, STAGES, Channel, Fact, Stage, Timing, Turn, ns

# Looked up once: a class of Enum takes long to give its members.
_SENT, _ENDED = Stage.SENT, Stage.ENDED
_ECHO, _ANSWER, _END = Fact.ECHO, Fact.ANSWER, Fact.END


class Exchange:
    """What is under way at one service, what it may still say, and what is to be done about it.

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
        What the service says by itself is told before it is confirmed, and an answer only as the end of its command.
        Only for hosts that are quick, as the service waits 1 s for its confirmation, and have no callbacks for answers.
    is_late : bool
        What comes now lay unread for so long that its service waits for no confirmation any more: there may be another
        process by now, which would take one for a command.
    out : deque
        What is to be done, as far as it is known: `Line.next` takes from it, and whoever wants to may do so without it.
    """

    def __init__(self, name: str, uri: str, timing: Timing) -> None:
        self.name, self.uri, self.timing = name, uri, timing
        self.cut = timing.max_message_size
        self.tells_first = self.is_late = False
        self.channel = Channel.CLOSED
        self.flying: list[Errand] = []
        # A command of the worker before us, sent from the same port, may still be echoed: begin somewhere else.
        self.stamps = Stamps(random.randrange(REMEMBERED))  # noqa: S311
        self.pace, self.owed, self.copies = Pace(), Owed(), Copies()
        self.held: Held | None = None
        self.out: deque[Action] = deque()

    # --- what came ---

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

    # --- one errand under way ---

    def _look(self, errand: Errand, now: int, *, hinders: bool) -> None:
        """Send an errand again, or give it up: its time has come. One that `hinders` has to make room for another."""
        at = errand.look_at
        if errand.likely is not None and errand.likely_at == at:  # nothing else came
            self._answer(errand, *errand.likely, errand.doubted)
        elif now - at > rules.LATE and errand.graces < rules.GRACES:  # rule 8
            errand.graces += 1
            errand.again_at = errand.again_at and now + rules.GRACE
            errand.due = max(errand.due, (errand.again_at or now) + rules.GRACE)
        elif errand.again_at != at or errand.due <= now:  # nothing is sent again only to be given up
            self._give_up(errand, now, hinders=hinders)
        elif self.held is not None:
            errand.again_at = self.held.until + 1
        else:
            errand.last_sent, errand.again_at = now, 0
            errand.tries += 1
            text = f'{self.name}: {rules.event_name(errand.event)} is sent again ({errand.tries})'
            self.out.append(Noted(logging.DEBUG, text, 'what is sent again'))
            self.out.append(Send(errand.payload))

    def _give_up(self, errand: Errand, now: int, *, hinders: bool) -> None:
        held = self.held
        if held is not None and self.owed.answered_by(self.flying, held.event, held.data, held.since) is errand:
            self._release(held, now)
        if hinders:
            self._end(errand, Reason.WITHDRAWN, 'given up: a command went first', now)
        else:
            self._end(errand, *why_given_up(errand, self.uri, self.timing.echo_timeout, now), now)

    def _echo(self, errand: Errand, now: int) -> None:
        """Take an echo: the service has read this command, and all that were sent before it, or they were lost."""
        if errand.read:
            return
        pace = self.pace
        pace.speaks(now, self.timing)
        pace.spoke = max(pace.spoke, now)
        errand.read, pace.missed = now, 0
        if pace.unread:  # behind a late echo the answer comes: until then the next command waits
            pace.has_read(errand.sent, errand if errand.wants_reply else None)
        if errand.stage is not _SENT:
            return
        errand.stage = STAGES[_SENT, _ECHO]
        errand.echoed = now
        errand.due = errand.sent + ns(errand.timeout)
        errand.again_at = 0
        if not errand.wants_reply:
            self._end(errand, Reason.NONE, '', now)
        elif errand.tries == 1 and self._repeats(errand):
            errand.again_at = now + ns(min(self.timing.again_after, errand.timeout / 2))
        held = self.held
        if held is None or now - held.since > rules.PROMPT:
            return
        if self.owed.answered_by(self.flying, held.event, held.data, now) is errand:
            self._release(held, now)  # its answer has overtaken it

    def _repeats(self, errand: Errand) -> bool:
        return errand.event in self.timing.repeat and not errand.once

    def _was_busy(self, now: int) -> None:
        """Repeat what else is under way: the service was busy with what it has answered now (rule 7)."""
        for errand in self.flying:
            if self._repeats(errand):
                errand.again_at = now + ns(max(self.timing.resend_gap, self.timing.reply_gap))

    # --- messages ---

    def _message(self, event: int, data: list[Any], datagram: bytes, now: int) -> None:
        """Take a message, unless it is, or may be, a copy (rule 2)."""
        copies, held = self.copies, self.held
        since = now - rules.GIVEN_UP - 1 if self.is_late else now
        if held is not None and held.datagram == datagram:
            self.held = None  # two came: one is meant
            self._take(event, data, datagram, now, self.owed.answered_by(self.flying, event, data, now))
            return
        if held is not None and event != ERROR:
            if held.event == ERROR:
                self._release(held, now)
            self.held = None  # a service that waits for a confirmation says nothing else
        said = copies.lately(datagram, now)
        unproved = event == INTERRUPT and any(one.event == INTERRUPT and not one.echoed for one in self.flying)
        if said is None and unproved:
            self.held = Held(datagram, event, data, since)  # its own, or our answer: the echo will tell
            return
        expected = self.owed.answered_by(self.flying, event, data, now)
        prompt = expected is not None and expected.echoed and now - expected.echoed <= rules.PROMPT
        if said is None or prompt or (event == ERROR and self.held) or self.owed.is_surplus(event, now):
            self._take(event, data, datagram, now, expected)
        elif (
            expected is not None
            or (event == INTERRUPT and self.flying)  # the answer to what is under way will tell
            or copies.may_be_said_again(event, now, answered=said[1])
            or self.owed.owes(event, data, now)
        ):
            self.held = Held(datagram, event, data, since)

    def _release(self, held: Held, now: int) -> None:
        """Take what was held for long enough. What answers a command that was not even echoed is a copy."""
        self.held, self.pace.pressed = None, now
        errand = self.owed.answered_by(self.flying, held.event, held.data, held.since)
        if now - held.since > rules.GIVEN_UP and held.event != ERROR:
            # This computer stood still: nobody waits for a confirmation any more, but something was said.
            if errand is not None and errand.echoed:
                errand.doubted = held.since
        elif (
            errand is None
            or errand.echoed
            or held.event in (ERROR, rules.STATUS, rules.INFO)
            or held.since - errand.sent <= rules.PROMPT  # then its echo was lost
        ):
            errand = self.owed.answered_by(self.flying, held.event, held.data, now)
            self._take(held.event, held.data, held.datagram, now, errand)

    def _take(self, event: int, data: list[Any], datagram: bytes, now: int, errand: Errand | None) -> None:
        """Take a message that is meant, and answers a command under way, or none."""
        news, answered = True, True
        if errand is not None:
            # An EXPCLEANUP was answered by an EXPINTERRUPT, or the service has something to say.
            news = errand.event != event != ERROR and now - (errand.echoed or now) > rules.PROMPT
            self._answer(errand, event, data, now)
            if self.flying:
                self._was_busy(now)
        elif (old := self.owed.settle(event, data, now)) is not None:
            self.pace.has_read(old.sent)
            for one in self.flying:
                if one.echoed and rules.accepts(one.event, rules.subject(event, data)):
                    one.doubted = now
            self._was_busy(now)
        else:
            until = self.owed.surplus.get(event, (0, 0))[1]
            news, answered = not self.owed.take_surplus(event, now), False
            if not news:
                self._doubt(event, data, now, until)
            self.copies.talks.add(event)
        if news and self.tells_first:
            self.out.append(Heard(event, data, datagram))
        self._confirm(event, datagram, now, answered=answered)
        if not self.tells_first:
            self.out.append(Heard(event, data, datagram, not news))

    def _doubt(self, event: int, data: list[Any], now: int, until: int) -> None:
        """Keep what was taken for one more answer to a command that left twice: it may answer what is under way."""
        for errand in self.flying:
            if errand.echoed and errand.wants_reply and rules.accepts(errand.event, event):
                errand.doubted = now
                if now - errand.echoed <= rules.PROMPT:
                    errand.likely, errand.likely_at = (event, data), until

    def _confirm(self, event: int, datagram: bytes, now: int, *, answered: bool) -> None:
        pace = self.pace
        pace.speaks(now, self.timing)
        pace.spoke, pace.missed = now, 0
        if event != ERROR and not self.is_late:  # iblutil never confirms errors
            self.out.append(Send(datagram))
        self.copies.note(datagram, now, answered=answered)

    # --- the end of an errand ---

    def _answer(self, errand: Errand, event: int, data: list[Any], now: int) -> None:
        """End a command with what the service says of it."""
        pace = self.pace
        self.copies.answered = now
        errand.echoed = errand.read = errand.echoed or now
        if pace.unread:
            pace.has_read(errand.sent)
        if event == ERROR:
            self._end(errand, Reason.CALLBACK_FAILED, f'it failed: {data[0]}', now)
            return
        errand.answered = now
        errand.reply, errand.reply_event = data, event
        errand.status = rules.reported_status(event, data)
        pace.pause = 0.0
        if errand.tries > 1:
            pace.pause = self.timing.resend_gap
            self.owed.expect_more(errand, event, now)
        errand.stage = STAGES[errand.stage, _ANSWER]
        if errand.status != NO_STATUS and rules.contradicts(errand.event, errand.status):
            errand.reason = Reason.STATUS
            errand.error = f'answered, but reports the status {rules.status_name(errand.status)}'
        self.flying.remove(errand)
        pace.pressed = now
        self.out.append(Ended(errand))

    def _end(self, errand: Errand, reason: Reason, error: str, now: int, *, arrived: bool = True) -> None:
        if errand.stage is _ENDED:
            return
        errand.stage = STAGES[errand.stage, _END]
        errand.reason, errand.error = reason, error
        if errand in self.flying:
            self.flying.remove(errand)
            self.pace.pressed = now
            if arrived and reason is not Reason.CALLBACK_FAILED:
                self.owed.give_up(errand, now)
                if not errand.read:
                    self.pace.missed += not errand.yields and reason in (Reason.NO_ECHO, Reason.OTHER_ADDRESS)
                    self.pace.unread.append(errand)
                    self._turn(Turn.DOUBT)
        self.out.append(Ended(errand))

    def _turn(self, turn: Turn) -> None:
        self.channel = CHANNELS.get((self.channel, turn), self.channel)
