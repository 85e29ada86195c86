"""How the datagrams of one command leave: one behind the other, with nothing in between.

Whatever has to be worked out is before the first of them, and whatever follows from them is behind the last. So
services start together, and an interrupt reaches all of them before the aborts are told. If the caller has a function
that sends several at once, they leave by one call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from bridge.outcome import Reason
from bridge.services import rules
from bridge.services.errand import Errand
from bridge.services.link import Link

log = logging.getLogger(__name__)

SendAll = Callable[[Sequence[tuple[int, int, int, bytes]]], Sequence[tuple[int, int]]]
"""Sends several datagrams at once: `bridge.datagrams.send`."""


def enqueue(errands: Sequence[Errand], send_all: SendAll | None) -> None:
    """Give errands their places in the lines; what can leave now leaves together."""
    together: list[tuple[Link, Errand]] = []
    several = len(errands) > 1
    for errand in errands:
        link = errand.link
        try:
            if several and isinstance(link, Link):
                link.line_up(errand)
                together.append((link, errand))
            else:
                _run(together, send_all)  # in order
                together = []
                link.enqueue(errand)
        except Exception as exc:
            log.exception('%s: %s', errand.name, rules.event_name(errand.event))
            errand.link.withdraw(errand, Reason.INTERNAL, f'{type(exc).__name__}: {exc}')
    _run(together, send_all)


def align(errands: Mapping[str, Errand], send_all: SendAll | None) -> None:
    """Let errands keep their order at services of which only the pause is waited for."""
    pauses = {name: errand.link.pauses_until() for name, errand in errands.items()}
    last = max(pauses.values())
    if last > time.perf_counter_ns():
        aligned = [errands[name] for name, until in pauses.items() if until]
        for errand in aligned:
            errand.blocked = True
        release(aligned, send_all, last)


def release(errands: Sequence[Errand], send_all: SendAll | None, at: int = 0) -> None:
    """Let errands go on that keep their places and were blocked; not before a time, ns."""
    left = at - time.perf_counter_ns()
    if left > 0:  # a timer may ring up to one tick of the clock early
        asyncio.get_running_loop().call_later(left / 1e9, release, errands, send_all, at)
        return
    for errand in errands:
        errand.blocked = False
    links = [(errand.link, errand) for errand in errands]
    _run([(link, errand) for link, errand in links if isinstance(link, Link)], send_all)
    for link, _ in links:
        if not isinstance(link, Link):
            link.run()


def _run(pairs: Sequence[tuple[Link, Errand]], send_all: SendAll | None) -> None:
    """Run several links, in the order in which their datagrams are to leave; each errand has its place in the line."""
    if not pairs:
        return
    prepared = [(link, first) for link, errand in pairs if (first := link.prepare(errand)) is not None]
    try:
        leaving = [one for one in prepared if one[0].permitted(one[1])]  # the gate is asked here, once
        try:
            handed = _hand_over(leaving, send_all)
        except Exception as exc:
            for link, errand in leaving:
                link.failed(errand, exc)
        else:
            for (link, errand), (now, error) in zip(leaving, handed, strict=True):
                link.gone(errand, now, error)
    finally:
        for link, _ in prepared:
            link.resume()


def _hand_over(
    leaving: Sequence[tuple[Link, Errand]], send_all: SendAll | None
) -> Sequence[tuple[int, OSError | None]]:
    """Hand datagrams to their sockets; return of each when, ns, and why it did not leave, or None."""
    told: dict[Link, tuple[int, int]] = {}
    if send_all is not None and len(leaving) > 1:
        placed = {link: (*place, errand.payload) for link, errand in leaving if (place := link.place()) is not None}
        told = dict(zip(placed, send_all(list(placed.values())), strict=True))
    handed: list[tuple[int, OSError | None]] = []
    for link, errand in leaving:
        now, failed = told.get(link, (0, 0))
        if now and not failed:
            handed.append((now, None))
        else:  # as it would leave alone: that knows what to do about it, or says why it cannot be done
            handed.append((time.perf_counter_ns(), link.transmit(errand.payload, failed)))
    return handed
