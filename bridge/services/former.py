"""Services that were removed: what is under way there has its outcome, and only an EXPINTERRUPT begins anything new."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from bridge.outcome import Reason
from bridge.services import rules
from bridge.services.actions import Heard
from bridge.services.errand import Errand
from bridge.services.iblutil import Opener
from bridge.services.link import Host, ServiceLink

if TYPE_CHECKING:
    from bridge.services.plan import Plan

log = logging.getLogger(__name__)


class Former(NamedTuple):
    """A service that was removed: what it was called, where it is, and what opens its link."""

    name: str
    place: str
    opener: Opener


class FormerHost:
    """The host of a line that was retired: what is under way has its outcome, what its service says is no event."""

    def __init__(self, host: Host) -> None:
        self.permit, self.ended = host.permit, host.ended

    def heard(self, name: str, message: Heard) -> None:
        """Log a message, if it is no answer."""
        if not message.answer:
            log.info('%s, which was removed, sent %s', name, rules.event_name(message.event))


def interrupt(former: Mapping[ServiceLink, Former], plan: Plan, under_way: Iterable[Plan]) -> None:
    """Have services that were removed stop what has reached them and is not answered; nothing else begins there.

    Parameters
    ----------
    former : mapping of ServiceLink to Former
        The services.
    plan : Plan
        The EXPINTERRUPT.
    under_way : iterable of Plan
        All commands that are.
    """
    errands = [errand for one in under_way for errand in one.errands.values()]
    at_work = {errand.link for errand in errands if errand.sent and not errand.has_ended}
    for link, service in tuple(former.items()):
        if link not in at_work:
            link.withdraw_all(Reason.ABORTED, 'aborted by EXPINTERRUPT')
            continue
        errand = plan.errand(service.name, rules.INTERRUPT, link)
        errand.command = asyncio.get_running_loop().create_future()
        errand.command.add_done_callback(_log)
        link.enqueue(errand)


def _log(done: asyncio.Future[Errand]) -> None:
    """Say what became of an EXPINTERRUPT at a service that was removed: no command's outcome tells it."""
    if not done.cancelled():
        errand = done.result()
        said = errand.error or 'it has answered'
        log.warning('%s, which was removed and was at work, was sent EXPINTERRUPT: %s', errand.name, said)
