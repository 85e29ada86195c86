"""What a service said lately, so that a copy of it is not confirmed (rule 2 of `bridge.services.rules`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bridge.services import rules

SAID_MOST, SAID_BYTES = 256, 1 << 20  # messages of the service that are remembered for copies


@dataclass(slots=True)
class Said:
    """A message that the service sent lately."""

    at: int
    answered: bool  # it was an answer


@dataclass(slots=True)
class Held:
    """A message that may be a copy, and is not confirmed yet."""

    datagram: bytes
    event: int
    data: list[Any]
    since: int

    @property
    def until(self) -> int:
        """int: when it is taken, unless something else comes, ns."""
        return self.since + rules.HOLD


class Copies:
    """The messages of one service of which a copy may still come.

    Attributes
    ----------
    said : dict of bytes to Said
        By their bytes, the oldest first.
    talks : set of int
        Events that the service has said by itself.
    answered : int
        When it last answered a command under way, ns.
    """

    def __init__(self) -> None:
        self.said: dict[bytes, Said] = {}
        self.talks: set[int] = set()
        self.answered = 0
        self._bytes = 0

    def note(self, datagram: bytes, said: Said) -> None:
        """Remember what was taken."""
        if self.said.pop(datagram, None) is None:
            self._bytes += len(datagram)
        self.said[datagram] = said

    def forget(self, now: int) -> None:
        """Forget messages of which no copy can come any more, and the oldest of too many."""
        while self.said:
            first = next(iter(self.said))
            crowded = len(self.said) > SAID_MOST or self._bytes > SAID_BYTES
            if now - self.said[first].at <= rules.COPIES_FOR and not crowded:
                break
            del self.said[first]
            self._bytes -= len(first)

    def may_be_said_again(self, said: Said, event: int, now: int) -> bool:
        """Tell whether a message that was there before, and answers nothing, may be what the service says by itself."""
        if event in rules.REPEATABLE and (not said.answered or event in self.talks):
            return True
        return not said.answered and now - self.answered <= rules.PROMPT  # one that answers everything twice
