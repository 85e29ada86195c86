"""When the next datagram may leave for a service (rules 5, 6 and 9 of `bridge.services.rules`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from bridge.services.errand import Errand
from bridge.services.rules import Timing, ns

PAUSES_MOST = 10  # that a command waits for a service that goes on speaking: it has read what was sent meanwhile
DEAD_AFTER = 2  # commands in a row without an echo, of which the second waited for that of the first


def yields_until(errand: Errand, timing: Timing) -> int:
    """Return until when others wait for the answer to a question that yields (rule 9), ns."""
    echo = timing.echo_timeout
    return errand.echoed + ns(echo) if errand.echoed else errand.sent + ns(timing.patience * echo)


def unread_until(errand: Errand, timing: Timing) -> int:
    """Return until when a command that was given up keeps the next one waiting, ns."""
    if errand.yields:
        return yields_until(errand, timing)
    return errand.last_sent + ns(timing.unread_for * timing.echo_timeout)


class Pace:
    """What one service is left in peace for.

    Attributes
    ----------
    spoke : int
        When it last said something, or we last confirmed it, ns.
    since : int
        Since when it goes on speaking, without a pause and without a command of ours, ns.
    pause : float
        The longer pause behind what left twice, s.
    pressed : int
        Since when the first interrupt waits for a service that goes on speaking, ns.
    missed : int
        Commands in a row without an echo.
    unread : list of Errand
        What was given up, and the service may still read.
    """

    def __init__(self) -> None:
        self.spoke = self.since = 0
        self.pause = 0.0
        self.pressed = 0
        self.missed = 0
        self.unread: list[Errand] = []

    @property
    def is_unread(self) -> bool:
        """bool: something may lie unread, and the service is not taken for dead."""
        return bool(self.unread) and self.missed < DEAD_AFTER

    def speaks(self, at: int, timing: Timing) -> None:
        """Take it that the service says something, before `spoke` is set: behind a pause it begins to speak anew."""
        if at - self.spoke >= timing.reply_gap * 1e9:
            self.since = at

    def next_at(self, timing: Timing) -> int:
        """Return when the next command may leave (rule 5), ns."""
        pause = ns(max(timing.reply_gap, self.pause))
        at = self.spoke + pause
        if (most := self.since + PAUSES_MOST * pause) < at:  # it goes on speaking
            at = max(self.spoke, most)
        if self.unread and self.missed < DEAD_AFTER:
            at = max(at, *(unread_until(errand, timing) for errand in self.unread))
        return at

    def urgent_at(self, flying: Iterable[Errand], timing: Timing) -> int:
        """Return when the next interrupt may leave beside what is under way (rule 6), ns."""
        gap = ns(timing.interrupt_gap)  # it waits no more than some of them for a service that goes on speaking
        at = min(self.spoke + min(gap, ns(timing.reply_gap)), self.pressed + 8 * gap)
        for errand in itertools.chain(flying, self.unread):
            if errand.read:
                slow = min(errand.read - errand.sent, ns(timing.head_start_most))
                at = max(at, errand.read + max(slow, ns(timing.head_start)))
            elif self.missed < DEAD_AFTER:
                at = max(at, errand.sent + ns(timing.patience * timing.echo_timeout))
        return at

    def has_read(self, sent: int, still: Errand | None = None) -> None:
        """Take it that the service has read what was sent until then; the next one waits for `still` all the same."""
        self.unread = [one for one in self.unread if one.sent > sent or one is still]

    def forget_unread(self, timing: Timing, now: int) -> None:
        """Take it that what lies there for too long was lost."""
        self.unread = [errand for errand in self.unread if now < unread_until(errand, timing)]
