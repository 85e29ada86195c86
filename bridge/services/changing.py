"""Other services for a carrier that runs: what is added, removed and moved, without touching the lines of the others.

In two steps, in the network thread: `prepare` looks names up and opens sockets, which may take a moment and may end in
a refusal, and changes nothing; `Prepared.take_over` changes all at once, between two callbacks. A line that is retired
has its time: it is closed when nothing is under way there, and nothing may come that its service needs confirmed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from bridge.addresses import one_address
from bridge.changes import kept_lines
from bridge.services.actions import Heard
from bridge.services.carrier import UdpCarrier
from bridge.services.errand import Errand
from bridge.services.former import Former, FormerHost
from bridge.services.kinds import kind
from bridge.services.link import Link, ServiceLink, Unreachable
from bridge.services.repeats import Repeats
from bridge.services.rules import Timing

log = logging.getLogger(__name__)

LOOK = 0.5  # s between two looks at what is retired


class CannotChange(Exception):
    """The services cannot be changed so, and nothing has changed; the message is a sentence."""


class Prepared:
    """Other services, ready to be taken over; the host of the new links, which have no errands before that.

    Attributes
    ----------
    kept : dict of str to str
        Whose line each goes on with, by its new name; see `bridge.changes.kept_lines`.
    """

    def __init__(self, carrier: UdpCarrier, addresses: Mapping[str, str], timings: Mapping[str, Timing]) -> None:
        self._carrier, self._addresses, self._timings = carrier, dict(addresses), dict(timings)
        self._communicators: dict[str, Any] = {}
        self._made: dict[str, ServiceLink] = {}
        self._again: dict[str, ServiceLink] = {}  # of lines that were retired and are not over yet
        self._taken = False
        self.kept: dict[str, str] = {}
        self.opener = carrier.opener.part({}, self._communicators.__setitem__)
        self.repeats = {name: Repeats(name, log) for name in addresses}
        self.tells_first = carrier.tells_first

    # --- as a host ---

    def permit(self, errand: Errand) -> bool:
        """Decide as the carrier does."""
        return self._carrier.permit(errand)

    def ended(self, errand: Errand) -> None:
        """Pass an errand on."""
        self._carrier.ended(errand)

    def heard(self, name: str, message: Heard) -> None:
        """Pass a message on, if it is one of a service of the rig by now."""
        if self._taken:
            self._carrier.heard(name, message)

    # --- the two steps ---

    async def open(self) -> None:
        """Find out which lines go on, and open those that are new; CannotChange."""
        old = self._carrier.addresses
        here = {name: self._carrier.opener.known_place(name, uri) for name, uri in old.items()}
        written = {uri: here[name] for name, uri in old.items()}
        try:
            found = await asyncio.gather(*(self._place(name, uri, written) for name, uri in self._addresses.items()))
        except Unreachable as exc:
            raise CannotChange(str(exc).removeprefix('not sent: ')) from exc
        there = dict(zip(self._addresses, found, strict=True))
        if self.opener.exclusive:
            self._check_places(there)
        lines = kept_lines(here, there)
        self.kept = {name: was for name, was in lines.items() if self._goes_on(name, was)}
        former = {str(number): link for number, link in enumerate(self._carrier.former) if isinstance(link, Link)}
        places = {number: self._carrier.former[link].place for number, link in former.items()}
        again = kept_lines(places, {name: place for name, place in there.items() if name not in lines})
        self._again = {name: former[number] for name, number in again.items()}
        self._carrier.held.update(self._again.values())  # not to be closed meanwhile
        self._made = {
            name: kind(uri)(self, name, uri, self._timings[name])
            for name, uri in self._addresses.items()
            if name not in self.kept and name not in self._again
        }
        faults = await asyncio.gather(*(link.open() for link in self._made.values()), return_exceptions=True)
        for link, fault in zip(self._made.values(), faults, strict=True):
            if fault is not None:
                log.error('%s cannot be reached for now: %s', link.name, fault)
        if self.opener.refused:
            raise CannotChange(self.opener.refused)

    async def _place(self, name: str, uri: str, written: Mapping[str, str]) -> str:
        """Return where a service is; who has the same address as before is where it was."""
        scheme, separator, _ = uri.rpartition('://')
        if uri in written or (separator and scheme.lower() != 'udp'):
            return written.get(uri, uri)
        return await self.opener.place(name, uri)

    def _check_places(self, there: Mapping[str, str]) -> None:
        first: dict[str, str] = {}
        for name, place in there.items():
            if (other := first.setdefault(place, name)) != name:
                raise CannotChange(one_address(other, name, self._addresses[name], self._addresses[other]))

    def _goes_on(self, name: str, was: str) -> bool:
        """Tell whether a link can take another name or patience; those of other kinds are made anew for that."""
        link = self._carrier.links[was]
        return isinstance(link, Link) or (name == was and link.timing == self._timings[name])

    def give_up(self) -> None:
        """Close what was opened."""
        self._carrier.held.difference_update(self._again.values())
        for link in self._made.values():
            link.close()

    def take_over(self, after: Mapping[str, Sequence[str]]) -> None:
        """Have the carrier go on with these services, whose order is `after`, as it takes it."""
        carrier, old = self._carrier, self._carrier.links
        retired = {name: link for name, link in old.items() if name not in self.kept.values()}
        opener = carrier.opener.part(self.kept)
        opener.join(self.opener)
        communicators = {name: carrier.communicators.get(was) for name, was in self.kept.items()}
        communicators = {name: com for name, com in communicators.items() if com is not None} | self._communicators
        links = {name: old[was] for name, was in self.kept.items()} | self._made
        carrier.held.clear()
        for name, link in self._again.items():
            before = carrier.former.pop(link)
            opener.join(before.opener.part({name: before.name}))
            links[name] = link
        begin = retired and not carrier.former
        for name, link in retired.items():
            place = carrier.opener.known_place(name, carrier.addresses[name])
            former = carrier.opener.part({name: name}, lambda name, com: None)
            former.exclusive = False
            carrier.former[link] = Former(name, place, former)
            if isinstance(link, Link):
                link.belong(FormerHost(carrier), former)
        carrier.opener.leave()
        links = {name: links[name] for name in self._addresses}
        for name, link in links.items():
            timing = self._timings[name]
            if isinstance(link, Link):
                if link.timing.max_message_size != timing.max_message_size:
                    opener.limit(name, timing.max_message_size)
                link.change(name, self._addresses[name], timing, self.repeats[name])
                link.belong(carrier, opener)
        self._taken = True
        carrier.repeats = self.repeats
        carrier.change(self._addresses, links, after, opener, communicators)
        if begin:
            _tidy(carrier)


def _tidy(carrier: UdpCarrier) -> None:
    """Close what is retired and over, and come again while there is more."""
    for link in carrier.former.keys() - carrier.held:
        over = link.is_over() if isinstance(link, Link) else not link.awaits_more()
        if over and not carrier.uses(link):
            del carrier.former[link]
            link.close()
    if carrier.former:
        carrier.thread.loop.call_later(LOOK, _tidy, carrier)


async def prepare(carrier: UdpCarrier, addresses: Mapping[str, str], timings: Mapping[str, Timing]) -> Prepared:
    """Return other services for a carrier, ready to be taken over; in the network thread.

    Parameters
    ----------
    carrier : UdpCarrier
        Goes on meanwhile as it is.
    addresses : mapping of str to str
        URI by name, in order.
    timings : mapping of str to Timing
        How patient to be with each.

    Raises
    ------
    CannotChange
        Two of them are at one place, or one is where no service can be.
    """
    made = Prepared(carrier, addresses, timings)
    try:
        await made.open()
    except BaseException:
        made.give_up()
        raise
    return made
