"""One command on its way over the network: divided into errands, permitted once, and resolved once.

    begin: one Errand per service ──► Link, Line ──► permit ──► ... ──► ended ──► resolve: Command.future

A command is resolved exactly once, by whoever takes it out of the carrier's ``plans``. Its errands leave all at once,
or in the `stages` that the configured order asks for; what ends something goes in reverse order, as iblutil's
``Services`` does it. All but `Plan.give_back` is done in the network thread, or by who stands in for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from bridge.carrier import REVERSED, Command
from bridge.outcome import Aborted, Outcome, Reason
from bridge.services import rules, stages, together
from bridge.services.errand import Errand
from bridge.services.link import ServiceLink
from bridge.services.stages import After
from bridge.services.together import SendAll

log = logging.getLogger(__name__)

OVER = object()
"""object: what an errand has in place of its plan when that is over: nothing of it may leave any more."""


class Carrying(Protocol):
    """What a plan needs of the carrier that it belongs to."""

    plans: dict[Command, Plan]
    links: dict[str, ServiceLink]
    timeout: Callable[[], float]
    on_outcome: Callable[[Command, Outcome], None] | None
    send_all: SendAll | None

    def resolved(self) -> None:
        """Take it that a command is over."""


@dataclass(eq=False, slots=True)
class Plan:
    """A command, its errands, and which of them wait for which.

    Attributes
    ----------
    order : int
        Position among all commands.
    links, after : mapping
        The services and their order as they were when the command was given to the carrier.
    outcomes : dict of str to Outcome
        Of the errands that have ended.
    behind : dict of str to set of str
        Which wait for others, and for whom.
    left : int
        How many have not ended.
    begun, dropped : bool
        Whether it may leave, and whether nothing of it may any more.
    """

    carrier: Carrying = field(repr=False)
    order: int
    command: Command
    text: bytes
    wants_reply: bool
    links: Mapping[str, ServiceLink]
    after: After
    errands: dict[str, Errand] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    behind: dict[str, set[str]] = field(default_factory=dict)
    left: int = 0
    begun: bool = False
    dropped: bool = False

    # --- its errands ---

    def begin(self) -> None:
        """Divide it, and let its errands leave or wait for each other; without services it is over."""
        event = self._divide()
        errands = self.errands
        if not errands:
            self._resolve()
            return
        if self.after or not self.command.concurrent:
            self._stage(event)
        send_all = self.carrier.send_all
        if event in (rules.END, rules.CLEANUP) and not self.behind:
            together.align(errands, send_all)
        together.enqueue(tuple(errands.values()), send_all)

    def _divide(self) -> int:
        """Make the errands, in the order in which they are to leave; return the message's number."""
        command = self.command
        event = rules.MESSAGE_NUMBERS[command.message]
        names = command.names[::-1] if command.message in REVERSED else command.names
        links, errand = self.links, self.errand
        for name in names:
            self.errands[name] = errand(name, event, links[name])
        self.left = len(names)
        return event

    def errand(self, name: str, event: int, link: ServiceLink) -> Errand:
        """Return a new errand at a service."""
        command = self.command
        timeout = command.timeout
        if timeout is None and (timeout := link.timing.timeout) is None:
            timeout = self.carrier.timeout()
        deadline = command.deadline * 1e9
        once, yields = command.once, command.yields
        # By position: keywords take twice as long.
        return Errand(name, event, self.text, self.order, timeout, deadline, self.wants_reply, once, self, link, yields)

    def _stage(self, event: int) -> None:
        """Note which errands wait for which others. They keep their places in the lines meanwhile."""
        self.behind = stages.waits(tuple(self.errands), event, self.after, concurrent=self.command.concurrent)
        for name in self.behind:
            self.errands[name].blocked = True

    def permit(self) -> bool:
        """Decide, directly before its first datagram, whether it may leave."""
        command = self.command
        if self.dropped or not command.claim():
            self.carrier.plans.pop(command, None)
            self._drop()
            return False
        if command.gate is not None:
            try:
                command.gate()
            except BaseException as exc:
                self._resolve(exc)
                self._drop()
                return False
        self.begun = True
        return True

    def ended(self, errand: Errand) -> None:
        """Take the outcome of an errand."""
        carrier, name = self.carrier, errand.name
        outcome = self.outcomes[name] = errand.outcome()
        if carrier.on_outcome is not None:
            is_called_so = carrier.links.get(name) is errand.link
            if (told := outcome if is_called_so else self._renamed(errand, outcome)) is not None:
                try:
                    carrier.on_outcome(self.command, told)
                except Exception:  # whoever waits for the command gets its result all the same
                    log.exception('%s: the outcome of %s could not be passed on', name, self.command.message)
        self.left -= 1
        if self.behind and not self.dropped:
            self._advance(errand)
        if not self.left:
            self._resolve()
            # What services said is let go: errands are remembered for a while, and circles not collected for long.
            errands, self.errands = self.errands, {}
            for one in errands.values():
                one.command, one.reply = OVER, None

    def _renamed(self, errand: Errand, outcome: Outcome) -> Outcome | None:
        """Return an outcome by the name that its service has now, None if it was removed meanwhile."""
        name = next((name for name, link in self.carrier.links.items() if link is errand.link), '')
        return replace(outcome, name=name) if name else None

    def _advance(self, ended: Errand) -> None:
        """Release what waited for this errand; a start only if it went well, nothing if it was given up."""
        self.behind.pop(ended.name, None)
        if stages.is_given_up(ended.reason):
            staged, self.behind = list(self.behind), {}
            for name in staged:
                self._withdraw(name, ended.reason, ended.error)
            return
        for name, before in tuple(self.behind.items()):
            if ended.name not in before:
                continue
            why = stages.why_not(ended.event, ended.name, ended.reason, ended.error, self.after.get(name, ()))
            if why is not None:
                if self.behind.pop(name, None) is not None:  # else it has ended with one that ended just now
                    self._withdraw(name, *why)
                continue
            before.discard(ended.name)
            if not before and self.behind.pop(name, None) is not None:
                together.release([self.errands[name]], self.carrier.send_all)

    def _withdraw(self, name: str, reason: Reason, error: str) -> None:
        errand = self.errands[name]
        errand.link.withdraw(errand, reason, error)

    def withdraw_unsent(self, reason: Reason, error: str) -> None:
        """End it where nothing of it was sent."""
        for errand in self.errands.values():
            if not errand.sent:
                errand.link.withdraw(errand, reason, error)

    # --- its end ---

    def end(self, reason: Reason, error: str) -> None:
        """End it with one error for all services that have no outcome yet."""
        if not self.errands:
            self._divide()
        self._drop(reason, error)
        self._resolve()

    def _drop(self, reason: Reason = Reason.WITHDRAWN, error: str = 'withdrawn') -> None:
        """Take it out of the lines; it is resolved elsewhere."""
        self.dropped = True
        for errand in self.errands.values():
            errand.link.withdraw(errand, reason, error)

    def _resolve(self, error: BaseException | None = None) -> None:
        """Hand the result to whoever waits for it; once, whoever comes first."""
        if self.carrier.plans.pop(self.command, None) is None:
            return
        outcomes = {}
        if error is None:
            ended = self.outcomes
            outcomes = {name: ended.get(name) or self.errands[name].outcome() for name in self.command.names}
        self.command.resolve(outcomes, error)
        self.carrier.resolved()

    def give_back(self, cause: BaseException) -> None:
        """Resolve it as one that the network thread does not take any more; from any thread."""
        if self.carrier.plans.pop(self.command, None) is None:
            return
        if isinstance(cause, Aborted):
            self.command.end(Reason.CLOSED, f'not sent: {cause}')
        else:
            self.command.resolve({}, cause)
