"""What makes the link to a service, by the scheme of its address: today there is iblutil's kind alone.

What a link has to be: `bridge.services.link.ServiceLink`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bridge.services.iblutil import Opener
from bridge.services.line import Line
from bridge.services.link import Host, Link, ServiceLink
from bridge.services.repeats import Repeats
from bridge.services.rules import Timing


class Home(Host, Protocol):
    """What the maker of a link needs of the carrier that it belongs to."""

    opener: Opener
    repeats: dict[str, Repeats]
    tells_first: bool


def _over_udp(home: Home, name: str, uri: str, timing: Timing) -> ServiceLink:
    line = Line(name, uri, timing)
    line.tells_first = home.tells_first
    return Link(line, home, home.opener, home.repeats[name])


KINDS: dict[str, Callable[[Home, str, str, Timing], ServiceLink]] = {'udp': _over_udp}
"""dict: what makes the link to a service, by the scheme of its address."""


def kind(uri: str) -> Callable[[Home, str, str, Timing], ServiceLink]:
    """Return what makes the link to a service at an address."""
    scheme = str(uri).partition('://')[0].lower() if '://' in str(uri) else 'udp'
    return KINDS.get(scheme, _over_udp)  # which says of an unknown one that it is not supported
