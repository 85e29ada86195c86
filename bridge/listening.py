"""Where the worker is a service itself: names and addresses of its listeners, and who may command there.

In ``_rig`` of the services' or settings' file::

    _rig:
      listen:
        cameras: udp://:11001                       # this computer alone
        ephys: {uri: udp://0.0.0.0:11002, masters: [192.168.0.3], timeout: 20}

or on the command line, ``--listen cameras=udp://:11001``, or ``--listen udp://:11001 --as cameras``.

================  =======  ===========================================================================================
uri               needed   ``udp://host:port``: no host for this computer alone, 0.0.0.0 for all its addresses; port 0
                           for a free one, that is kept over a restart of the worker
masters           []       addresses of the PCs that may command; none: everybody whom the address lets in
timeout           8        how long the program has for one command, s; masters wait 10 s
max_message_size  0        masters' computers cut messages to so many bytes, as a ScanImage PC does to 4096; 0: no
================  =======  ===========================================================================================
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.addresses import DEFAULT_PORT, LOOPBACK, ConfigError, check_name, given_twice, kind_of

EXAMPLE = 'udp://:11001 (this computer alone) or udp://0.0.0.0:11001'
MOST = 16  # listeners, as in csrc/layout.h
NAME_BYTES = 63
TIMEOUT = 8.0  # s
_LONGEST_TIMEOUT = 3600.0  # s
_KEYS = ('uri', 'masters', 'timeout', 'max_message_size')
_URI = re.compile(r'(?:udp://)?([^:/]*)(?::([^:/]*))?/?', re.IGNORECASE)
_PORT = re.compile('[0-9]{1,5}')


@dataclass(frozen=True)
class ListenerConfig:
    """One listener.

    Parameters
    ----------
    name : str
        What programs serve, and masters call it as they like.
    host : str
        The address to bind to.
    port : int
        0: a free one.
    masters : tuple of str
        Addresses that may command; empty: all.
    timeout : float
        How long the program has for one command, s.
    max_message_size : int
        What masters' computers cut messages to, bytes; 0: they do not.
    """

    name: str
    host: str = LOOPBACK
    port: int = DEFAULT_PORT
    masters: tuple[str, ...] = ()
    timeout: float = TIMEOUT
    max_message_size: int = 0

    @property
    def uri(self) -> str:
        """str: the address, complete."""
        return f'udp://{self.host}:{self.port}'


def parse_options(listens: Sequence[str], names: Sequence[str]) -> list[ListenerConfig]:
    """Return the listeners of ``--listen`` and ``--as``; ConfigError if a name or an address is missing."""
    where, left, found = '--listen', list(names), []
    for option in listens:
        name, equals, uri = option.rpartition('=')
        if not option.strip():
            raise ConfigError(f'{where}: is empty; write --listen cameras=udp://:{DEFAULT_PORT}, or leave it out.')
        if not equals and not left and not _is_like_address(option):
            name, _, port = option.partition(':')
            meant = f'{name}=udp://:{port if port.isdigit() else DEFAULT_PORT}'
            raise ConfigError(f'{where}: {option!a} has no address; write --listen {meant}.')
        if not equals and not left:
            raise ConfigError(f'{where}: {option!a} has no name; write --listen cameras={option}, or add --as cameras.')
        found.append(_at(name if equals else left.pop(0), uri, where))
    if left:
        raise ConfigError(
            f'--as: {left[0]!a} has no --listen of its own; add one, such as --listen udp://:{DEFAULT_PORT}.'
        )
    return found


def parse_listeners(value: Any, where: str) -> dict[str, ListenerConfig]:
    """Return the listeners of a mapping by name; ConfigError if one cannot be."""
    if not isinstance(value, Mapping):
        raise ConfigError(f'{where}: is {kind_of(value)} instead of a mapping; write {{cameras: "udp://:11001"}}.')
    return merge_listeners((_parse(name, given, where) for name, given in value.items()), where=where)


def merge_listeners(*groups: Iterable[ListenerConfig], where: str) -> dict[str, ListenerConfig]:
    """Return listeners from several sources by name; ConfigError if a name or an address comes twice, or too many."""
    merged: dict[str, ListenerConfig] = {}
    for one in (listener for group in groups for listener in group):
        if one.name in merged:
            raise ConfigError(f'{where}: {given_twice(one.name, merged[one.name].uri, one.uri)}.')
        for other in merged.values():
            if one.port and one.port == other.port and (one.host == other.host or '0.0.0.0' in (one.host, other.host)):
                raise ConfigError(
                    f'{where}: {other.name} and {one.name} are both at {one.uri}; change one of the ports.'
                )
        merged[one.name] = one
    if len(merged) > MOST:
        raise ConfigError(f'{where}: there are {len(merged)} listeners; a segment takes {MOST}; use a second one.')
    return merged


def _parse(name: Any, given: Any, where: str) -> ListenerConfig:
    check_name(name, where)
    where = f'{where}: {name}'
    settings = given if isinstance(given, Mapping) else {'uri': given}
    for key in settings:
        if key not in _KEYS:
            *others, last = _KEYS
            raise ConfigError(f'{where}: the setting {key!r} is not known; there are {", ".join(others)} and {last}.')
    uri, masters = settings.get('uri'), settings.get('masters') or []
    if not isinstance(uri, str) or hasattr(uri, 'meant'):
        raise ConfigError(f'{where}: its address is {kind_of(uri)}; write {EXAMPLE}.')
    for master in masters if isinstance(masters, list) else [masters]:
        if not _is_address(master):
            raise ConfigError(f'{where}: masters: {str(master)[:40]!a} is no IPv4 address; write such as 192.168.0.3.')
    found = _at(str(name), uri, where)
    return ListenerConfig(
        found.name,
        found.host,
        found.port,
        tuple(masters if isinstance(masters, list) else [masters]),
        _number(settings.get('timeout', TIMEOUT), 0.01, _LONGEST_TIMEOUT, f'{where}: timeout', 'seconds'),
        int(_size(settings.get('max_message_size', 0), f'{where}: max_message_size')),
    )


def _at(name: str, uri: str, where: str) -> ListenerConfig:
    name = check_name(name, where)
    if (size := len(name.encode())) > NAME_BYTES:
        raise ConfigError(f'{where}: the name {name[:20]!r}... takes {size} bytes; write one of at most {NAME_BYTES}.')
    match = _URI.fullmatch(uri)
    host = match[1].lower() if match else ''
    host = LOOPBACK if host in ('', 'localhost') else host
    if not uri:
        raise ConfigError(f'{where}: the address of {name} is empty; write {EXAMPLE}.')
    if uri.isdecimal():
        raise ConfigError(f'{where}: {uri!a} is no address to listen at; write udp://:{uri} if it is a port.')
    if match is None or not _is_address(host):
        hint = ' (host names are not looked up)' if match and re.search('[a-z]', host) else ''
        raise ConfigError(f'{where}: {uri!a} is no address to listen at{hint}; write {EXAMPLE}.')
    port = str(DEFAULT_PORT) if match[2] is None else match[2]
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ConfigError(
            f'{where}: {uri!a}: {port!a} is no port; write a number from 1 to 65535, or 0 for a free one.'
        )
    return ListenerConfig(name, host, int(port))


def _is_like_address(text: str) -> bool:
    """Tell whether this is meant for an address rather than a name."""
    match = _URI.fullmatch(text)
    host = match[1].lower() if match else ''
    return '://' in text or host in ('', 'localhost') or _is_address(host)


def _is_address(value: Any) -> bool:
    try:
        return isinstance(value, str) and not ipaddress.IPv4Address(value).is_multicast
    except ValueError:
        return False


def _number(value: Any, least: float, most: float, where: str, unit: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
        shown = value if isinstance(value, (int, float)) and abs(value) < 1e12 else kind_of(value)
        raise ConfigError(f'{where}: is {shown}; write {least:g} to {most:g} {unit}.')
    return float(value)


def _size(value: Any, where: str) -> float:
    if type(value) is int and value == 0:
        return 0
    if type(value) is float:
        raise ConfigError(f'{where}: is {value}; write 64 to 65507 bytes, or 0.')
    return _number(value, 64, 65507, where, 'bytes, or 0')
