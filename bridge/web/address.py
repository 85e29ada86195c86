"""Where the status page is, and who is let in: ``serve --http``, or ``http`` in ``_rig`` of the services' file.

::

    _rig: {http: 127.0.0.1:8650}                    # for browsers on this PC
    _rig:
      http: {address: 0.0.0.0:8650, token: a-long-word-of-your-own, hosts: [rig0.lab.example]}

=======  ==========================================================================================================
address  ``host:port``; without a host for this PC alone; port 0 for a free one
token    what a browser has to know; without one, for others than this PC, one is made anew at each start and printed
hosts    names by which browsers find this PC, beside its own; an address as a number is never refused
=======  ==========================================================================================================
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.addresses import LOOPBACK, ConfigError, kind_of

DEFAULT_PORT = 8650
EXAMPLE = f'{LOOPBACK}:{DEFAULT_PORT} (this PC alone) or 0.0.0.0:{DEFAULT_PORT}'
_KEYS = ('address', 'token', 'hosts')
_ADDRESS = re.compile(
    r'(?:http://)?(?:\[(?P<six>[0-9a-f:.]*)\]|(?P<host>[^:/\[\]]*))(?::(?P<port>[0-9]{1,5}))?/?', re.I
)
_TOKEN = re.compile(r'[A-Za-z0-9._~-]{16,200}')
_HOST = re.compile(r'[A-Za-z0-9._-]{1,253}')


@dataclass(frozen=True)
class PageConfig:
    """Where the page is.

    Parameters
    ----------
    host : str
        The address to bind to.
    port : int
        0: a free one.
    token : str
        What who reads has to know; "": nothing, or what is made at the start.
    hosts : tuple of str
        Names by which browsers find this PC, in lower case.
    """

    host: str = LOOPBACK
    port: int = DEFAULT_PORT
    token: str = ''
    hosts: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """bool: only programs on this PC reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def address(self) -> str:
        """str: host and port, as they are written."""
        return f'{f"[{self.host}]" if ":" in self.host else self.host}:{self.port}'


def parse_page(value: Any, where: str) -> PageConfig:
    """Return the page of a setting; ConfigError if it cannot be."""
    settings = value if isinstance(value, Mapping) else {'address': value}
    for key in settings:
        if key not in _KEYS:
            raise ConfigError(f'{where}: the setting {key!r} is not known; there are {", ".join(_KEYS)}.')
    address = settings.get('address', f':{DEFAULT_PORT}')
    if not isinstance(address, str) or hasattr(address, 'meant'):
        raise ConfigError(f'{where}: the address is {kind_of(address)}; write {EXAMPLE}.')
    host, port = _parsed(address, where)
    return PageConfig(host, port, check_token(settings.get('token') or '', where), _hosts(settings.get('hosts'), where))


def check_token(token: Any, where: str) -> str:
    """Return a token, or "" for none; ConfigError if it is too easily guessed, or cannot stand in an address."""
    if not isinstance(token, str) or (token and not _TOKEN.fullmatch(token)):
        raise ConfigError(f'{where}: the token is not 16 to 200 of A-Z a-z 0-9 . _ ~ -; write such a word, or none.')
    return str(token)


def _parsed(address: str, where: str) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(address.strip())
    host = (match['six'] or match['host'] or '').lower() if match else ''
    host = LOOPBACK if host in ('', 'localhost') else host
    port = int(match['port']) if match and match['port'] else DEFAULT_PORT
    try:
        usable = bool(address.strip()) and match is not None and not ipaddress.ip_address(host).is_multicast
    except ValueError:
        usable = False
    if not usable or port > 65535:
        raise ConfigError(f'{where}: {address!a} is no address for a page; write {EXAMPLE}.')
    return host, port


def _hosts(value: Any, where: str) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [] if value is None else [value]
    for name in names:
        if not isinstance(name, str) or hasattr(name, 'meant') or not _HOST.fullmatch(name):
            raise ConfigError(
                f'{where}: hosts: {str(name)[:40]!a} is no name of a host; write such as rig0.lab.example.'
            )
    return tuple(str(name).lower() for name in names)


def reached(host: str) -> list[str]:
    """Return by what others reach a page that is bound to an address: the address, or what this PC has for "any".

    That is the address of the interface to the outside, if there is one, and the PC's name, of which only a name
    service knows whether it is of use. Nothing is sent and no name is looked up, which may take long without a network.

    Examples
    --------
    >>> reached('192.168.0.2'), socket.gethostname() in reached('0.0.0.0')
    (['192.168.0.2'], True)
    """
    if not ipaddress.ip_address(host).is_unspecified:
        return [host]
    six = ':' in host
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(('2001:db8::1' if six else '203.0.113.1', 9))  # RFC 3849, RFC 5737: of examples
            found = str(probe.getsockname()[0])
        except OSError:  # there is no way to the outside
            found = ''
    return [*([found] if found else []), socket.gethostname()]
