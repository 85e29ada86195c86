"""Commands over the network: one plan for each, one errand per service. Implements `bridge.carrier.Carrier`.

    submit ──► Command ──► Plan ──► one Errand per service ──► Link, Line ──► Plan ──► Command.future
    caller's thread        network thread, or in its place the caller's

- Where the carrier *lends* (the worker's does), a command is begun by the thread that submits it, if the network thread
  sleeps: its datagrams leave without a wake-up. Commands are begun in the order in which they were submitted, whichever
  thread does it. What is said of the network thread is true of whoever stands in for it (`bridge.loop`).
- What is left in ``plans`` when the thread ends, however it ends, is resolved, too. So nobody waits for ever.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent import futures
from concurrent.futures import Future
from functools import partial
from typing import Any

from bridge import discretion
from bridge.carrier import TIMEOUT, Command, Outcomes, ThreadedCarrier, check_order
from bridge.nearest import did_you_mean
from bridge.outcome import Aborted, Outcome, Reason
from bridge.services import former, rules
from bridge.services.actions import Heard
from bridge.services.errand import Errand
from bridge.services.former import Former
from bridge.services.iblutil import Opener, encode, net
from bridge.services.kinds import kind
from bridge.services.link import Link, ServiceLink, Unreachable
from bridge.services.plan import OVER, Plan
from bridge.services.repeats import Repeats
from bridge.services.rules import Timing
from bridge.services.stages import After
from bridge.services.together import SendAll

log = logging.getLogger(__name__)

RESOLVE_TIMEOUT = 1.0  # s, for a host name


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
        has to be quick then, and nobody to register callbacks at its communicator, which hear no answers either.

    Raises
    ------
    ValueError
        The order cannot be kept, or there is a timing of a service that there is not.

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
        after: After | None = None,
        ports: dict[str, int] | None = None,
        *,
        tells_first: bool = False,
    ) -> None:
        check_order(addresses, after or {})
        if unknown := [name for name in timings or () if name not in addresses]:
            offer = did_you_mean(unknown[0], addresses) or '; remove it'
            raise ValueError(f'timings: there is no service {unknown[0]!a}{offer}')
        super().__init__('auxiliaries')
        self.thread.on_stood_still = self._stood_still
        self.names = tuple(addresses)
        self.addresses = dict(addresses)
        self.on_event: Callable[[str, int, list[Any]], None] | None = None
        self.on_outcome: Callable[[Command, Outcome], None] | None = None
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
        self.plans: dict[Command, Plan] = {}
        self._submitted: deque[Plan] = deque()  # and not begun
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
                said = partial(self.logger().error, '%s %s: %s', link.name, what, fault)
                self.repeats[link.name].write(said)

    def _end_unsent(self) -> None:
        for plan in tuple(self.plans.values()):
            if not plan.command.last:
                plan.withdraw_unsent(Reason.CLOSED, f'not sent: {self.ended_by}')

    def _is_busy(self) -> bool:
        return bool(self.plans)

    def awaits_more(self) -> bool:
        """Tell whether a service may still answer what left twice, and closes if nobody confirms that."""
        return any(link.awaits_more() for link in (*self.links.values(), *self.former))

    def shut(self) -> None:
        """End everything; in the network thread."""
        self._closing = True
        for plan in tuple(self.plans.values()):
            plan.end(Reason.CLOSED, f'aborted: {self.ended_by}')
        for link in (*self.links.values(), *self.former):
            link.withdraw_all(Reason.CLOSED, f'aborted: {self.ended_by}')
            link.close()

    def _at_end(self, cause: BaseException) -> None:
        for link in (*self.links.values(), *self.former):
            link.close()
        for plan in tuple(self.plans.values()):
            if isinstance(cause, Aborted):
                plan.give_back(cause)
            else:
                plan.end(Reason.INTERNAL, str(cause))  # of what had left nobody knows what came of it
        self.created.set()
        if not isinstance(cause, Aborted):
            self.on_fault(cause)

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
        plan = Plan(self, next(self._order), command, text, wants_reply, self.links, self._after)
        self.plans[command] = plan
        self._submitted.append(plan)
        if self.lends and self.thread.borrow(self._begin_all):
            return
        # The thread sets `ended` before its last look at the plans; we look after adding. One of us sees it.
        if not self.thread.ring(self._begin_all) and self.thread.ended is not None:
            plan.give_back(self.thread.ended)

    def withdraw(self, command: Command) -> bool:
        """Take a command back by cancelling its future; True if nothing of it was sent."""
        if command.told is not None:
            return False
        withdrawn = command.future.cancel()
        if withdrawn:
            self.plans.pop(command, None)
        return withdrawn

    def clear(self) -> int:
        """Take back every command of which nothing was sent; return how many."""
        answer: Future[int] = Future()

        def clear() -> None:
            error = 'aborted: the message queue was cleared'
            waiting = [plan for plan in tuple(self.plans.values()) if not plan.begun]
            waiting = [plan for plan in waiting if plan.command.told or not plan.command.future.cancelled()]
            for plan in waiting:
                plan.end(Reason.WITHDRAWN, error)
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
        after: After,
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
        return any(link is one for plan in tuple(self.plans.values()) for one in plan.links.values())

    # --- a command's way, in the network thread ---

    def _begin_all(self) -> None:
        while self._submitted:
            plan = self._submitted.popleft()
            command = plan.command
            if command not in self.plans:
                continue
            if self.former and command.message == 'EXPINTERRUPT':
                former.interrupt(self.former, plan, self.plans.values())
            if self._closing and not command.last:
                plan.end(Reason.CLOSED, f'aborted: {self.ended_by}')
            else:
                plan.begin()

    def permit(self, errand: Errand) -> bool:
        """Decide, directly before a datagram, whether it may leave."""
        plan = errand.command
        if type(plan) is Plan:  # as nearly always
            return not plan.dropped if plan.begun else plan.permit()
        return plan is not OVER

    def ended(self, errand: Errand) -> None:
        """Take the outcome of an errand."""
        plan = errand.command
        if type(plan) is Plan:
            plan.ended(errand)
        elif isinstance(plan, asyncio.Future) and not plan.done():  # somebody used a stock method
            plan.set_result(errand)

    def resolved(self) -> None:
        """Take it that a command is over: if all is to end, somebody waits for it."""
        if self._closing:
            self._changed.set()

    def heard(self, name: str, message: Heard) -> None:
        """Pass a message on: to callbacks registered at the stock communicator, and to `on_event`."""
        if name not in self.links:
            return  # a service of another kind that was removed
        com = self.communicators.get(name)
        if com is not None and com._callbacks.get(message.event):
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

    def _stood_still(self) -> None:
        for link in (*self.links.values(), *self.former):
            if isinstance(link, Link):
                link.stood_still()

    def _opened(self, name: str, com: Any) -> None:
        self.communicators[name] = com
        if self.created.is_set():
            self.on_opened()
