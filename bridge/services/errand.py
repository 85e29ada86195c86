"""A command at one service, and the stamps that tell the echoes of commands apart. Values only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from bridge.outcome import NO_STATUS, Outcome, Reason, state
from bridge.services import rules
from bridge.services.rules import LONGEST, Stage

REMEMBERED = 128  # commands whose echo may still come; also the most trailing spaces
REMEMBERED_BYTES = 1 << 20
_BLANKS = b' ' * REMEMBERED


@dataclass(eq=False, slots=True)
class Errand:
    """One command at one service.

    Its text is kept out of the representation, because what is printed gets logged, and an ALYX command carries a
    token.

    Attributes
    ----------
    name, event, text
        Of the service, the message's number, and the message as it goes over the wire, without padding.
    order : int
        Position among all commands; an interrupt ends those with a lower one.
    timeout : float
        How long the service has for its reply, s.
    deadline : float
        When it is too old to be sent, ns.
    wants_reply, once : bool
        Whether an echo is not enough; whether it may never be sent a second time.
    command : object
        Whose errand it is; for the carrier.
    link : ServiceLink or None
        Where it is to be carried out; for the carrier.
    yields : bool
        Others go first, and do not wait for it for long.
    blocked : bool
        It keeps its place, and all behind it waiting, until it is released.
    sent, echoed, answered : int
        ns; 0 for never.
    """

    name: str
    event: int
    text: bytes = field(repr=False)
    order: int = 0
    timeout: float = 10.0
    deadline: float = math.inf
    wants_reply: bool = True
    once: bool = False
    command: Any = field(default=None, repr=False)
    link: Any = field(default=None, repr=False)
    yields: bool = False
    blocked: bool = False
    stage: Stage = Stage.WAITING
    payload: bytes = field(default=b'', repr=False)
    tries: int = 0
    last_sent: int = 0
    sent: int = 0
    echoed: int = 0
    answered: int = 0
    read: int = 0  # ns: when its echo came, be it too late for its outcome; 0: never
    again_at: int = 0  # ns: when it is sent once more; 0: not
    due: int = 0  # ns: when it is given up
    graces: int = 0  # times that a late timer looked again
    doubted: int = 0  # ns: when an answer came that may have been an earlier one's; 0: none did
    likely: tuple[int, list[Any]] | None = field(default=None, repr=False)  # event and data of what came then
    likely_at: int = 0  # ns: when it is taken for the answer, unless another one comes; 0: never
    stranger: str = ''  # the other address that echoed it
    reply: list[Any] | None = field(default=None, repr=False)
    reply_event: int = 0
    status: int = NO_STATUS
    reason: Reason = Reason.NONE
    error: str = ''

    @property
    def has_ended(self) -> bool:
        """bool: it has its outcome."""
        return self.stage is Stage.ENDED

    def finish(self) -> None:
        """Give it its outcome as it stands; for links that have no line."""
        self.stage = Stage.ENDED

    @property
    def look_at(self) -> int:
        """int: when something is to be done about it, ns."""
        at = self.due
        if self.again_at and self.again_at < at:
            at = self.again_at
        return self.likely_at if self.likely_at and self.likely_at < at else at

    def outcome(self) -> Outcome:
        """Return what is known of it as a plain value."""
        return Outcome(  # by position: keywords take twice as long
            self.name,
            self.stage is Stage.ENDED and self.reason is Reason.NONE,
            state(self.sent, self.echoed, self.answered),
            self.reason,
            self.error,
            self.reply,
            self.reply_event,
            self.status,
            self.sent,
            self.echoed,
            self.answered,
        )

    def reference(self) -> str | None:
        """Return the experiment's reference that it names, None if it names none."""
        message = rules.read(self.text)
        return None if message is None else rules.reference(*message)


def why_given_up(errand: Errand, uri: str, echo_timeout: float, now: int) -> tuple[Reason, str]:
    """Return what is told of a command that left and was not answered in time.

    Parameters
    ----------
    errand : Errand
        The command.
    uri : str
        Where its service is configured to be.
    echo_timeout : float
        How long that had for its echo, s.
    now : int
        ns.
    """
    # As it was configured: the timer came a little later. Less, if it was cut short for another command.
    patience = errand.timeout if errand.echoed else min(errand.timeout, echo_timeout)
    after = f'{min(patience, (now - errand.sent) / 1e9):.3g} s'
    if errand.doubted:
        when = f'{(errand.doubted - errand.sent) / 1e9:.3g} s'
        text = f'received the command but did not reply within {after}; what it said after {when} '
        return Reason.DOUBTFUL, text + 'may be its reply to an earlier one'
    if errand.echoed:
        return Reason.NO_REPLY, f'received the command but did not reply within {after}'
    if errand.stranger:
        text = f'no echo from {uri} within {after}, but {errand.stranger} has echoed it: '
        advice = 'is that another address of the same computer? Configure the one it answers from'
        return Reason.OTHER_ADDRESS, text + advice
    return Reason.NO_ECHO, f'no echo from {uri} within {after}: is the service running?'


class Stamps:
    """The commands sent to one service of which an echo may still come, by their bytes."""

    def __init__(self, turn: int = 0) -> None:
        self.commands: dict[bytes, Errand] = {}
        self.bytes = 0
        self._turn = turn

    def stamp(self, errand: Errand) -> None:
        """Give a command its payload, with a number of trailing spaces that no other one has, and remember it.

        Raises
        ------
        ValueError
            It does not fit into one datagram.
        """
        commands, size = self.commands, len(errand.text)
        if size > LONGEST:
            raise ValueError(f'the message has {size} bytes, but a datagram holds {LONGEST}: send less data')
        for _ in range(REMEMBERED + 1):
            turn = self._turn = self._turn % REMEMBERED + 1
            payload = errand.text + _BLANKS[: LONGEST - size if size + turn > LONGEST else turn]
            if payload not in commands:
                self.bytes += len(payload)
                break
        commands[payload] = errand
        errand.payload = payload
        while len(commands) >= REMEMBERED or (self.bytes > REMEMBERED_BYTES and len(commands) > 1):
            self.forget(next(iter(commands)))

    def forget(self, payload: bytes) -> None:
        """Take back a stamp: the command did not leave."""
        if self.commands.pop(payload, None) is not None:
            self.bytes -= len(payload)

    def find(self, datagram: bytes, cut: int) -> Errand | None:
        """Return the command that a datagram is the echo of, if need be the first `cut` bytes of it."""
        errand = self.commands.get(datagram)
        if errand is None and cut and len(datagram) == cut:
            found = [one for payload, one in self.commands.items() if len(payload) > cut and payload[:cut] == datagram]
            errand = next((one for one in found if not one.echoed), found[-1] if found else None)
        return errand
