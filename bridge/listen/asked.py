"""What a desk is asked and what it says, and what it needs of a program. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from bridge.listen.master import Said
from bridge.listen.memory import Address


@dataclass(eq=False)
class Asked:
    """What a master asked, as the program gets it.

    Attributes
    ----------
    number : int
        Of this desk.
    address : tuple of str and int
        The master.
    event : int
        The message's number.
    data : list
        The arguments; not in the representation, for ALYX brings a token.
    arrived, due : int
        When it came, and when its master is told that it failed, ns.
    datagram : bytes
        As it came; not in the representation.
    """

    number: int
    address: Address
    event: int
    data: list[Any] = field(repr=False)
    arrived: int
    due: int
    datagram: bytes = field(default=b'', repr=False)
    said: Said | None = field(default=None, repr=False)

    @property
    def master(self) -> str:
        """str: the master as people know it."""
        return f'{self.address[0]}:{self.address[1]}'


@dataclass(frozen=True)
class Refusal:
    """Why the program was not handed a command; `unwanted`: it does not want to be asked such things."""

    sentence: str
    unwanted: bool = False


class Program(Protocol):
    """What does what is asked."""

    def hand(self, asked: Asked) -> Refusal | None:
        """Take a command, or refuse it; never waits."""

    def recall(self, asked: Asked) -> bool:
        """Take a command back that it is not at yet; False: it is at it, or has answered, or `lost` follows."""

    def withdraw(self, asked: Asked) -> bool:
        """Take a command back; False: its answer is on the way, or `lost` follows."""


@dataclass(frozen=True)
class Send:
    """Send a datagram."""

    payload: bytes = field(repr=False)
    address: Address
    settles: int = 0  # the number of the command whose answer it is


@dataclass(frozen=True)
class Note:
    """Something to be written down: `kind` is ``asked`` (an error is empty), ``replied``, or ``trouble``."""

    kind: str
    event: int
    address: Address
    number: int = 0
    data: list[Any] = field(default_factory=list, repr=False)
    error: str = ''


@dataclass(eq=False)
class Owed:
    """A command whose answer has not left.

    Attributes
    ----------
    asked : Asked
        It.
    handed : bool
        A program may have it.
    message : list or None
        The answer, with the event number.
    """

    asked: Asked
    handed: bool = False
    message: list[Any] | None = None
