"""What a service still owes, and so whose answer a message is (rules 3 and 4 of `bridge.services.rules`).

A service may owe two things that no command under way waits for: the answer to one that was given up or overtaken
(`Owed.given_up`), and a second answer to one that left twice (`Owed.surplus`). Both run out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bridge.outcome import Reason
from bridge.services import rules
from bridge.services.errand import Errand
from bridge.services.rules import ERROR, INTERRUPT

OWED_MOST = 32  # errands that may still be answered


class Owed:
    """What one service may still say of what is not under way any more.

    Attributes
    ----------
    given_up : list of (int, Errand)
        Until when the answer may come, ns, and to what; the oldest first, once for each time that it left.
    surplus : dict of int to (int, int)
        By the event of an answer: how many more like it may come, and until when, ns.
    """

    def __init__(self) -> None:
        self.given_up: list[tuple[int, Errand]] = []
        self.surplus: dict[int, tuple[int, int]] = {}

    # --- what is owed ---

    def give_up(self, errand: Errand, now: int) -> None:
        """Expect an answer to what is not waited for any more, as many as it has left times."""
        self.given_up = [*self.given_up, *[(now + rules.OWED_FOR, errand)] * errand.tries][-OWED_MOST:]

    def expect_more(self, errand: Errand, event: int, now: int) -> None:
        """Expect more answers of an event to what has left more than once, and was answered now."""
        left, until = self.surplus.get(event, (0, 0))
        more = errand.tries - 1 + (left if now < until else 0)
        later = now - (errand.sent if errand.echoed < errand.last_sent else errand.echoed)
        self.surplus[event] = more, max(until, now + more * (later + rules.SURPLUS_FOR))

    def service_is_gone(self, now: int) -> None:
        """Expect no more than what it had said before, and is still on its way."""
        self.given_up = [(min(until, now + rules.COPIES_FOR), old) for until, old in self.given_up]
        self.surplus.clear()

    def awaits_more(self, now: int) -> bool:
        """Tell whether one more answer to a command that left twice may come."""
        return any(now < until for left, until in tuple(self.surplus.values()))

    def is_nothing(self, now: int) -> bool:
        """Tell whether nothing may come any more."""
        return not (self.awaits_more(now) or any(now < until for until, _ in self.given_up))

    def owing(self, event: int, about: int, now: int) -> list[Errand]:
        """Return the commands given up that a message about an event may still answer, the oldest first."""
        self.given_up = [(until, old) for until, old in self.given_up if now < until]
        return [
            old
            for _, old in self.given_up
            if (about == old.event if event == ERROR else old.wants_reply and rules.accepts(old.event, about))
        ]

    def owes(self, event: int, data: list[Any], now: int) -> bool:
        """Tell whether a message may answer a command given up."""
        about = rules.subject(event, data)
        return about is not None and bool(self.owing(event, about, now))

    def settle(self, event: int, data: list[Any], now: int) -> Errand | None:
        """Take a message for the answer to the oldest command given up, and return that; None if nothing was owed."""
        about = rules.subject(event, data)
        owing = [] if about is None else self.owing(event, about, now)
        if not owing:
            return None
        del self.given_up[next(i for i, (_, old) in enumerate(self.given_up) if old is owing[0])]
        return owing[0]

    def is_surplus(self, event: int, now: int) -> bool:
        """Tell whether a message may be one more answer to a command that left more than once, and so no news."""
        return event in self.surplus and now < self.surplus[event][1]

    def take_surplus(self, event: int, now: int) -> bool:
        """Tell the same, and expect one less from now on."""
        if event not in self.surplus:
            return False
        left, until = self.surplus.pop(event)
        if left > 1:
            self.surplus[event] = left - 1, until
        return now < until

    # --- whose answer it is ---

    def answered_by(self, flying: Sequence[Errand], event: int, data: list[Any], now: int) -> Errand | None:
        """Find the command under way that a message answers."""
        about = rules.subject(event, data)
        if about is None or not flying:
            return None
        for exact in (True, False):
            for errand in flying:
                if not (about == errand.event if exact else rules.accepts(errand.event, about)):
                    continue
                if (event == ERROR or errand.wants_reply) and self._is_its(errand, event, about, data, now):
                    return errand
            if event == ERROR:
                break
        return None

    def _is_its(self, errand: Errand, event: int, about: int, data: list[Any], now: int) -> bool:
        """Tell whether an answer is that to a command under way, and not to an earlier one."""
        earlier = self.owing(event, about, now) if self.given_up else []
        surplus = bool(self.surplus) and self.is_surplus(about, now)
        if not (earlier or surplus):  # as nearly always
            return bool(errand.echoed) or event != INTERRUPT
        late_or_other = errand.event != about or now - errand.echoed > rules.PROMPT
        if (surplus and late_or_other) or not errand.echoed:
            return False
        return not earlier or is_not_earlier(errand, earlier, event, data, now)


def is_not_earlier(errand: Errand, earlier: Iterable[Errand], event: int, data: list[Any], now: int) -> bool:
    """Tell whether an answer is that to an echoed command under way, although earlier ones may still be answered."""
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
