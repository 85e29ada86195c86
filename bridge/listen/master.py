"""One master of a listener: what it said lately, and what is to be said to it. No sockets, loop, threads or clock.

Messages to one master go one after the other, each until it is confirmed, or for 1 s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bridge.listen import rules
from bridge.listen.memory import Address
from bridge.listen.rules import What

SAID_MOST = 32  # datagrams of one master that are remembered, fewer than it has paddings; and messages to it
OUT_MOST = 64  # messages that wait to be said to one master


@dataclass(eq=False)
class Said:
    """What a master said lately."""

    arrived: int
    echoed: int
    settled: bool = False
    done: bool = False


@dataclass(eq=False)
class Out:
    """A message to a master that is not confirmed yet."""

    payload: bytes
    said: Said | None  # whose reply it is
    event: int
    is_told: bool = False
    settles: int = 0

    def settle(self) -> None:
        """Take it that the master has it, or never will."""
        if self.said is not None:
            self.said.settled = True


class Master:
    """One master; all times are ns.

    Attributes
    ----------
    said : dict of bytes to Said
        What it said lately.
    sent : deque of bytes
        What it was told lately.
    out : deque of Out
        What is to be said to it.
    flying : Out or None
        What it has not confirmed, and has time to until `until`.
    held : tuple of bytes and int, or None
        What may be a copy, and until when its master would have gone on.
    confirmed : bool
        It ever has.
    open : int
        Commands of it that have no answer.
    ends : int
        Of these, such as an EXPINTERRUPT by itself could be taken for an answer to.
    """

    def __init__(self) -> None:
        self.said: dict[bytes, Said] = {}
        self.sent: deque[bytes] = deque(maxlen=SAID_MOST)
        self.out: deque[Out] = deque()
        self.flying: Out | None = None
        self.until = 0
        self.held: tuple[bytes, int] | None = None
        self.confirmed = False
        self.open = 0
        self.ends = 0

    @property
    def is_busy(self) -> bool:
        """bool: it waits for something, or something is to be said to it."""
        return bool(self.open or self.out or self.flying or self.held)

    def confirms(self, datagram: bytes, cut: int) -> bool:
        """Take a datagram for the confirmation of what we said, if it is one; `cut`: to how many bytes, 0 for all."""
        whole = datagram
        if cut and len(datagram) == cut:
            whole = next((sent for sent in self.sent if sent[:cut] == datagram), datagram)
        if whole not in self.sent:
            return False
        self.confirmed = True
        if self.flying is not None and self.flying.payload == whole:
            self.flying.settle()
            self.flying = None
        return True

    def what_is(self, datagram: bytes, event: int, last: Said | None, now: int) -> What:
        """Return what a datagram is to us; `last` is what was carried out last, whoever said it."""
        said = self.said.get(datagram)
        if said is None:
            return What.NEW
        return rules.what_is_it(
            datagram,
            event,
            settled=said.settled,
            done=said.done,
            last=said is last and now - said.arrived < rules.REMEMBERED_FOR,
            arrived=now - said.arrived,
            echoed=now - said.echoed,
        )

    def remember(self, datagram: bytes, said: Said) -> None:
        """Take it that it said something."""
        self.said.pop(datagram, None)
        self.said[datagram] = said
        while len(self.said) > SAID_MOST:
            del self.said[next(iter(self.said))]

    def held_until(self, now: int) -> bytes | None:
        """Return what was held if its time is up: its master waits for an echo; None if nothing is, or not yet."""
        if self.held is None or now < self.held[1]:
            return None
        datagram, self.held = self.held[0], None
        return datagram

    def give_up(self, now: int) -> Out | None:
        """Return what was not confirmed in time; None if there is no such thing."""
        if self.flying is None or now < self.until:
            return None
        out, self.flying = self.flying, None
        out.settle()
        return out

    def speak(self, now: int) -> Out | None:
        """Return what is to be said next, if what was before it is confirmed or given up."""
        if self.flying is not None or not self.out:
            return None
        index = next((i for i, out in enumerate(self.out) if not out.is_told), 0)  # replies first
        if self.out[index].is_told and self.ends:  # behind the answer to what would end it
            return None
        self.flying = out = self.out[index]
        del self.out[index]
        self.sent.append(out.payload)
        self.until = now + rules.CONFIRM_WITHIN
        return out

    def times(self) -> Iterator[int]:
        """Yield when something may be to be done although nothing happens."""
        if self.flying is not None:
            yield self.until
        if self.held is not None:
            yield self.held[1]


def dispensable(masters: Mapping[Address, Master]) -> Address | None:
    """Return who makes room for one more; None if all are busy."""
    idle = next((one for one, master in masters.items() if not master.is_busy), None)
    if idle is None:  # one that confirms nothing is waited for in vain
        idle = next((one for one, master in masters.items() if not (master.open or master.confirmed)), None)
    return idle
