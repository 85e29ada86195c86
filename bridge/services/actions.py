"""What a `bridge.services.line.Line` wants done, or told. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bridge.services.errand import Errand


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
