"""What a service said lately, so that a copy of it is not confirmed (rule 2 of `bridge.services.rules`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bridge.services import rules

SAID_MOST, SAID_BYTES = 256, 1 << 20  # messages of the service that are remembered for copies


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
    said : dict of bytes to (int, bool)
        When each was said last, ns, and whether it was an answer; by their bytes, the oldest first. Some are too old.
    talks : set of int
        Events that the service has said by itself.
    answered : int
        When it last answered a command under way, ns.
    """

    def __init__(self) -> None:
        self.said: dict[bytes, tuple[int, bool]] = {}
        self.talks: set[int] = set()
        self.answered = 0
        self._bytes = 0
        self._forgot = 0  # ns: when it was looked last for what is too old

    def note(self, datagram: bytes, now: int, *, answered: bool) -> None:
        """Remember what was taken, and forget what is too old, or the oldest of too many."""
        said = self.said
        if said.pop(datagram, None) is None:
            self._bytes += len(datagram)
        said[datagram] = now, answered
        if now - self._forgot > rules.COPIES_FOR or len(said) > SAID_MOST or self._bytes > SAID_BYTES:
            self._forget(now)

    def _forget(self, now: int) -> None:
        self._forgot = now
        while self.said:
            first = next(iter(self.said))
            crowded = len(self.said) > SAID_MOST or self._bytes > SAID_BYTES
            if now - self.said[first][0] <= rules.COPIES_FOR and not crowded:
                break
            del self.said[first]
            self._bytes -= len(first)

    def lately(self, datagram: bytes, now: int) -> tuple[int, bool] | None:
        """Return what is noted of a message; None if it was not said, or so long ago that this is no copy."""
        said = self.said.get(datagram)
        return said if said is not None and now - said[0] <= rules.COPIES_FOR else None

    def may_be_said_again(self, event: int, now: int, *, answered: bool) -> bool:
        """Tell whether a message that was there before, and answers nothing, may be what the service says by itself.

        Parameters
        ----------
        event, now
            As of the message.
        answered : bool
            It was an answer when it was there before.
        """
        if event in rules.REPEATABLE and (not answered or event in self.talks):
            return True
        return not answered and now - self.answered <= rules.PROMPT  # one that answers everything twice
