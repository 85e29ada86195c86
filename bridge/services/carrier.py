"""Commands over the network: one errand per service, and one result, once. Implements `bridge.carrier.Carrier`.

    submit ──► Command ──► begin: one Errand per service ──► Link, Line ──► ended ──► resolve: Command.future
    caller's thread        network thread, or in its place the caller's

- Where the carrier *lends* (the worker's does), a command is begun by the thread that submits it, if the network thread
  sleeps: its datagrams leave without a wake-up. Commands are begun in the order in which they were submitted, whichever
  thread does it. What is said below of the network thread is true of whoever stands in for it (`bridge.loop`).

- A command is resolved exactly once, by whoever takes it out of ``_plans``; what is left there when the thread ends,
  however it ends, is resolved too. So nobody waits for ever.
- Errands of a command leave all at once, or in stages: ``concurrent=False``, or `after` (a service gets EXPINIT and
  EXPSTART when those it comes after have answered, and EXPEND before them). What ends something goes in reverse order,
  as iblutil's ``Services`` does it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from bridge import discretion
from bridge.carrier import REVERSED, TIMEOUT, Command, Outcomes, ThreadedCarrier, check_order
from bridge.outcome import Aborted, Outcome, Reason
from bridge.services import rules, stages, together
from bridge.services.errand import Errand
from bridge.services.iblutil import Opener, encode, net
from bridge.services.kinds import kind
from bridge.services.line import Heard
from bridge.services.link import ServiceLink, Unreachable
from bridge.services.repeats import Repeats
from bridge.services.rules import MESSAGE_NUMBERS, Timing
from bridge.services.together import SendAll

log = logging.getLogger(__name__)

RESOLVE_TIMEOUT = 1.0  # s, for a host name


@dataclass(eq=False, slots=True)
class _Plan:
    """A command on its way through the network thread: its errands, and which of them wait for which."""

    order: int
    command: Command
    text: bytes
    wants_reply: bool
    links: Mapping[str, ServiceLink] = field(default_factory=dict)  # as they were when it was given to us,
    after: Mapping[str, Sequence[str]] = field(default_factory=dict)  # and the order
    errands: dict[str, Errand] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # of the errands that have ended
    behind: dict[str, set[str]] = field(default_factory=dict)  # which wait for others, and for whom
    left: int = 0
    begun: bool = False
    dropped: bool = False


_DONE = _Plan(0, Command(''), b'', False)  # of errands whose command is over: nothing of it may leave any more
_DONE.begun = _DONE.dropped = True


class Former(NamedTuple):
    """A service that was removed: what it was called, where it is, and what opens its link."""

    name: str
    place: str
    opener: Opener


class UdpCarrier(ThreadedCarrier):
    """Carries commands to services over UDP.

    Parameters
    ----------
    addresses : mapping of str to str
        URI by service name, e.g. ``{'cameras': 'udp://192.168.0.5:11001'}``, in order.
    timings : mapping of str to Timing, optional
        How patient to be with some of the services; the others share `timing`.
    after : mapping of str to sequence of str, optional
        Which services a service comes after.
    ports : dict of str to int, optional
        The local port that each service knows us by; filled in as they are opened.
    tells_first : bool
        What a service says by itself is told before it is confirmed, which takes as long as a system call: `on_event`
        has to be quick then, and nobody to register callbacks at its communicator.

    Raises
    ------
    ValueError
        The order cannot be kept.

    Attributes
    ----------
    names : tuple of str
        The services, in order.
    on_event : callable or None
        Called in the network thread with service name, event number and data of each message that is no answer.
    timing : Timing
        Of the services that have none of their own.
    timeout : callable
        Returns how long a service has for its reply if nothing else says, s.
    addresses : dict of str to str
        Their URIs.
    communicators : dict of str to object
        iblutil's, by name.
    former : dict of ServiceLink to Former
        Of services that were removed, while something is under way there.
    held : set of ServiceLink
        Those of them that may soon belong to a service again.
    logger : callable
        Returns the logger where it is told that a service cannot be reached.
    on_outcome : callable or None
        Called in the network thread with a command and its outcome at one service, as soon as that is there; before
        `Command.future` is resolved.
    on_opened : callable
        Called in the network thread when there is a new communicator.
    on_fault : callable
        Called with the reason if the network thread has ended by itself: nothing can be sent any more.
    send_all : callable or None
        Lets the datagrams of one command leave by one call: `bridge.datagrams.send`, if the caller has it.
    lends : bool
        Whoever submits a command may begin it. Not for threads in which a signal may raise an exception anywhere.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        timings: Mapping[str, Timing] | None = None,
        after: Mapping[str, Sequence[str]] | None = None,
        ports: dict[str, int] | None = None,
        *,
        tells_first: bool = False,
    ) -> None:
        check_order(addresses, after or {})
        super().__init__('auxiliaries')
        self.names = tuple(addresses)
        self.addresses = dict(addresses)
        self.on_event: Callable[[str, int, list[Any]], None] | None = None
        self.on_outcome: Callable[[Command, Outcome], None] | None = None
        self.on_opened: Callable[[], None] = lambda: None
        self.on_fault: Callable[[BaseException], None] = lambda cause: None
        self.timing = Timing()
        self.timeout: Callable[[], float] = lambda: TIMEOUT
        self.communicators: dict[str, Any] = {}
        self.ports = {} if ports is None else ports
        self.tells_first = tells_first
        self._after = {name: tuple(before) for name, before in (after or {}).items()}
        self.logger: Callable[[], logging.Logger] = lambda: log
        self.opener = Opener(self.thread.ring, RESOLVE_TIMEOUT, self.ports, self._opened)
        self.repeats = {name: Repeats(name, log) for name in addresses}
        self.links: dict[str, ServiceLink] = {
            name: kind(uri)(self, name, uri, (timings or {}).get(name, self.timing)) for name, uri in addresses.items()
        }
        self.former: dict[ServiceLink, Former] = {}
        self.held: set[ServiceLink] = set()
        self._order = itertools.count(1)
        self._plans: dict[Command, _Plan] = {}
        self._submitted: deque[_Plan] = deque()  # and not begun
        self.send_all: SendAll | None = None
        self.lends = False

    # --- life ---

    async def open(self) -> None:
        """Open all communicators."""
        faults = await asyncio.gather(*(link.open() for link in self.links.values()), return_exceptions=True)
        for link, fault in zip(self.links.values(), faults, strict=True):
            if fault is not None:
                never = isinstance(fault, Unreachable) and fault.reason is Reason.UNSUPPORTED
                what = 'is not served' if never else 'cannot be reached for now'
                self.logger().error('%s %s: %s', link.name, what, fault)

    def _end_unsent(self) -> None:
        for plan in tuple(self._plans.values()):
            for errand in plan.errands.values():
                if not errand.sent and not plan.command.last:
                    self._withdraw_errand(errand, Reason.CLOSED, f'not sent: {self.ended_by}')

    def _is_busy(self) -> bool:
        return bool(self._plans)

    def awaits_more(self) -> bool:
        """Tell whether a service may still answer what left twice, and closes if nobody confirms that."""
        return any(link.awaits_more() for link in (*self.links.values(), *self.former))

    def shut(self) -> None:
        """End everything; in the network thread."""
        self._closing = True
        for plan in tuple(self._plans.values()):
            self._end(plan, Reason.CLOSED, f'aborted: {self.ended_by}')
        for link in (*self.links.values(), *self.former):
            link.withdraw_all(Reason.CLOSED, f'aborted: {self.ended_by}')
            link.close()

    def _at_end(self, cause: BaseException) -> None:
        for link in (*self.links.values(), *self.former):
            link.close()
        for plan in tuple(self._plans.values()):
            if isinstance(cause, Aborted):
                self._give_back(plan, cause)
            else:
                self._end(plan, Reason.INTERNAL, str(cause))  # of what had left nobody knows what came of it
        self.created.set()
        if not isinstance(cause, Aborted):
            self.on_fault(cause)

    def _give_back(self, plan: _Plan, cause: BaseException) -> None:
        """Resolve a command that the network thread does not take any more; from any thread."""
        if self._plans.pop(plan.command, None) is None:
            return
        if isinstance(cause, Aborted):
            plan.command.end(Reason.CLOSED, f'not sent: {cause}')
        else:
            plan.command.resolve({}, cause)

    # --- from any thread ---

    def submit(self, command: Command) -> Future[Outcomes]:
        """Send a command; returns at once. Its future gets the arguments' error if they do not fit the message."""
        self.carry(command)
        return command.future

    def carry(self, command: Command) -> None:
        """Do as `submit`, also with a command that has no future; then it may be over when this returns."""
        try:
            text, wants_reply = encode(command.message, command.args, command.kwargs)
        except Exception as exc:
            command.misfit(exc)
            return
        plan = _Plan(next(self._order), command, text, wants_reply, self.links, self._after)
        self._plans[command] = plan
        self._submitted.append(plan)
        if self.lends and self.thread.borrow(self._begin_all):
            return
        # The thread sets `ended` before its last look at the plans; we look after adding. One of us sees it.
        if not self.thread.ring(self._begin_all) and self.thread.ended is not None:
            self._give_back(plan, self.thread.ended)

    def withdraw(self, command: Command) -> bool:
        """Take a command back by cancelling its future; True if nothing of it was sent."""
        if command.told is not None:
            return False
        withdrawn = command.future.cancel()
        if withdrawn:
            self._plans.pop(command, None)
        return withdrawn

    def clear(self) -> int:
        """Take back every command of which nothing was sent; return how many."""
        answer: Future[int] = Future()

        def clear() -> None:
            error = 'aborted: the message queue was cleared'
            waiting = [plan for plan in tuple(self._plans.values()) if not plan.begun]
            waiting = [plan for plan in waiting if plan.command.told or not plan.command.future.cancelled()]
            for plan in waiting:
                self._end(plan, Reason.WITHDRAWN, error)
            answer.set_result(len(waiting))

        if self.thread.is_current:
            clear()
        elif not self.thread.ring(clear):
            return 0
        while not answer.done() and self.thread.thread.is_alive():
            futures.wait({answer}, timeout=0.2)
        return answer.result() if answer.done() else 0

    def close_sockets(self) -> None:
        """Close all communicators; the next command opens them again. In the network thread."""
        for link in self.links.values():
            link.shut()

    # --- other services, in the network thread: `bridge.services.changing` ---

    def change(
        self,
        addresses: Mapping[str, str],
        links: dict[str, ServiceLink],
        after: Mapping[str, Sequence[str]],
        opener: Opener,
        communicators: dict[str, Any],
    ) -> None:
        """Go on with other services; what was submitted before keeps those that it has."""
        self.names, self.addresses, self.links = tuple(addresses), dict(addresses), links
        self._after = {name: tuple(before) for name, before in after.items()}
        self.opener, self.ports, self.communicators = opener, opener.ports, communicators
        self.on_opened()

    def uses(self, link: ServiceLink) -> bool:
        """Tell whether a command is under way, or about to be, that a link may have a part of."""
        return any(link is one for plan in tuple(self._plans.values()) for one in plan.links.values())

    # --- a command's way, in the network thread ---

    def _begin_all(self) -> None:
        while self._submitted:
            self._begin(self._submitted.popleft())

    def _begin(self, plan: _Plan) -> None:
        command = plan.command
        if command not in self._plans:
            return
        event = self._divide(plan)
        if event == rules.INTERRUPT:
            self._interrupt_former(plan)
        if not plan.errands:
            self._resolve(plan)
            return
        if self._closing and not command.last:
            self._end(plan, Reason.CLOSED, f'aborted: {self.ended_by}')
            return
        if plan.after or not command.concurrent:
            self._stage(plan, event)
        if event in (rules.END, rules.CLEANUP) and not plan.behind:
            together.align(plan.errands, self.send_all)
        together.enqueue(tuple(plan.errands.values()), self.send_all)

    def _interrupt_former(self, interrupt: _Plan) -> None:
        """Have services that were removed stop what has reached them and is not answered; nothing else begins there."""
        at_work = {
            errand.link
            for plan in self._plans.values()
            for errand in plan.errands.values()
            if errand.sent and not errand.has_ended
        }
        for link, former in tuple(self.former.items()):
            if link not in at_work:
                link.withdraw_all(Reason.ABORTED, 'aborted by EXPINTERRUPT')
                continue
            errand = self._errand(interrupt, former.name, rules.INTERRUPT, link)
            errand.command = self.thread.loop.create_future()
            errand.command.add_done_callback(_log_former)
            link.enqueue(errand)

    def _divide(self, plan: _Plan) -> int:
        """Make the errands of a command, in the order in which they are to leave; return its event."""
        command = plan.command
        event = MESSAGE_NUMBERS[command.message]
        names = command.names[::-1] if command.message in REVERSED else command.names
        links, errand = plan.links, self._errand
        for name in names:
            plan.errands[name] = errand(plan, name, event, links[name])
        plan.left = len(names)
        return event

    def _errand(self, plan: _Plan, name: str, event: int, link: ServiceLink) -> Errand:
        command = plan.command
        timeout = command.timeout
        if timeout is None and (timeout := link.timing.timeout) is None:
            timeout = self.timeout()
        deadline = command.deadline * 1e9
        once, yields = command.once, command.yields
        # By position: keywords take twice as long.
        return Errand(name, event, plan.text, plan.order, timeout, deadline, plan.wants_reply, once, plan, link, yields)

    def _stage(self, plan: _Plan, event: int) -> None:
        """Note which errands wait for which others. They keep their places in the lines meanwhile."""
        plan.behind = stages.waits(tuple(plan.errands), event, plan.after, concurrent=plan.command.concurrent)
        for name in plan.behind:
            plan.errands[name].blocked = True

    def permit(self, errand: Errand) -> bool:
        """Decide, directly before a datagram, whether it may leave."""
        plan: _Plan | None = errand.command if isinstance(errand.command, _Plan) else None
        if plan is None or plan.begun:
            return plan is None or not plan.dropped
        command = plan.command
        if plan.dropped or not command.claim():
            self._plans.pop(command, None)
            self._drop(plan)
            return False
        if command.gate is not None:
            try:
                command.gate()
            except BaseException as exc:
                self._resolve(plan, exc)
                self._drop(plan)
                return False
        plan.begun = True
        return True

    def ended(self, errand: Errand) -> None:
        """Take the outcome of an errand."""
        if isinstance(errand.command, asyncio.Future):  # somebody used a stock method
            if not errand.command.done():
                errand.command.set_result(errand)
            return
        plan: _Plan = errand.command
        outcome = plan.outcomes[errand.name] = errand.outcome()
        self._tell_outcome(plan.command, errand, outcome)
        plan.left -= 1
        if plan.behind and not plan.dropped:
            self._advance(plan, errand)
        if not plan.left:
            self._resolve(plan)
            self._let_go(plan)

    def _let_go(self, plan: _Plan) -> None:
        """Free what services said: errands are remembered for a while, and circles are not collected for long."""
        errands, plan.errands = plan.errands, {}
        for errand in errands.values():
            errand.command, errand.reply = _DONE, None

    def _tell_outcome(self, command: Command, errand: Errand, outcome: Outcome) -> None:
        if self.on_outcome is not None and (name := self._present_name(errand)):
            try:
                self.on_outcome(command, outcome if name == outcome.name else replace(outcome, name=name))
            except Exception:  # whoever waits for the command gets its result all the same
                log.exception('%s: the outcome of %s could not be passed on', outcome.name, command.message)

    def _present_name(self, errand: Errand) -> str:
        """Return what the service of an errand is called now, "" if it was removed meanwhile."""
        if self.links.get(errand.name) is errand.link:
            return errand.name
        return next((name for name, link in self.links.items() if link is errand.link), '')

    def _advance(self, plan: _Plan, ended: Errand) -> None:
        """Release what waited for this errand; a start only if it went well, nothing if it was given up."""
        plan.behind.pop(ended.name, None)
        if stages.is_given_up(ended.reason):
            staged, plan.behind = list(plan.behind), {}
            for name in staged:
                self._withdraw_errand(plan.errands[name], ended.reason, ended.error)
            return
        for name, before in tuple(plan.behind.items()):
            if ended.name not in before:
                continue
            after = plan.after.get(name, ())
            why = stages.why_not(ended.event, ended.name, ended.reason, ended.error, after)
            if why is not None:
                plan.behind.pop(name, None)
                self._withdraw_errand(plan.errands[name], *why)
                continue
            before.discard(ended.name)
            if not before and plan.behind.pop(name, None) is not None:
                together.release([plan.errands[name]], self.send_all)

    def heard(self, name: str, message: Heard) -> None:
        """Pass a message on: to callbacks registered at the stock communicator, and to `on_event`."""
        if name not in self.links:
            return  # a service of another kind that was removed
        com = self.communicators.get(name)
        if com is not None and any(com._callbacks.get(message.event, ())):
            net.base.Communicator._receive(com, message.datagram, (com.hostname, com.port))
        if message.answer:
            return
        try:
            if self.on_event is not None:
                self.on_event(name, message.event, message.data)
        finally:
            self._note(name, message)

    def _note(self, name: str, message: Heard) -> None:
        """Log what a service says by itself or too late, but not all of it if it says the same all the time."""
        repeats = self.repeats[name]
        if message.event == rules.ERROR:
            what, about = message.data
            repeats.tell(logging.WARNING, 'errors', f'{name} reports an error: {discretion.error(about, what)}')
        else:
            event = rules.event_name(message.event)
            repeats.tell(logging.INFO, event, f'{name} sent {event}, which nobody waits for')

    def _opened(self, name: str, com: Any) -> None:
        self.communicators[name] = com
        if self.created.is_set():
            self.on_opened()

    # --- the end of a command ---

    def _withdraw_errand(self, errand: Errand, reason: Reason, error: str) -> None:
        errand.link.withdraw(errand, reason, error)

    def _end(self, plan: _Plan, reason: Reason, error: str) -> None:
        """End a command with one error for all services that have no outcome yet."""
        if not plan.errands:
            self._divide(plan)
        self._drop(plan, reason, error)
        self._resolve(plan)

    def _drop(self, plan: _Plan, reason: Reason = Reason.WITHDRAWN, error: str = 'withdrawn') -> None:
        """Take a command out of the lines; it is resolved elsewhere."""
        plan.dropped = True
        for errand in plan.errands.values():
            self._withdraw_errand(errand, reason, error)

    def _resolve(self, plan: _Plan, error: BaseException | None = None) -> None:
        """Hand the result to whoever waits for it; once, whoever comes first."""
        if self._plans.pop(plan.command, None) is None:
            return
        outcomes = {}
        if error is None:
            ended = plan.outcomes
            outcomes = {name: ended.get(name) or plan.errands[name].outcome() for name in plan.command.names}
        plan.command.resolve(outcomes, error)
        if self._closing:  # somebody waits for it
            self._changed.set()


def _log_former(done: asyncio.Future[Errand]) -> None:
    """Say what became of an EXPINTERRUPT at a service that was removed: no command's outcome tells it."""
    if not done.cancelled():
        errand = done.result()
        said = errand.error or 'it has answered'
        log.warning('%s, which was removed and was at work, was sent EXPINTERRUPT: %s', errand.name, said)
