"""Names and addresses of services: what can be one, and what to write instead of what cannot.

- Host names are checked in form only. Nothing is resolved, for that blocks and may answer differently later.
- Addresses are IPv4 or names, for iblutil's UDP services speak IPv4 only.
- Names travel as comma-separated lists in shared memory: 1 to 111 bytes of UTF-8, no comma, no blank at either end,
  nothing that cannot be seen (control characters, spaces of no width or of other kinds, marks that turn text around).
"""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from typing import Any

DEFAULT_PORT = 11001  # iblutil's LISTEN_PORT
NAME_BYTES = 111
STREAM_SCHEMES = ('ws', 'wss', 'tcp')  # iblutil accepts them, but sends without framing: echo and reply run together
RESERVED = '_rig'  # where the services' file says what concerns the whole rig
EXAMPLE = '192.168.0.8, 192.168.0.8:11001 or udp://192.168.0.8:11001'

_SCHEME = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*)://')
_HALF_A_SCHEME = re.compile(r'(?i)udp(:/?|/+)(?=.*[.:])')
_IPV6 = re.compile(r'\[.*|[0-9A-Fa-f:]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(%.*)?')
_LABEL = re.compile(r'[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?')


# A name with one of these looks like another one, or turns the line around that it stands in.
_NOT_SEEN = ('Cc', 'Cf', 'Co', 'Cs', 'Zl', 'Zp', 'Zs')


class ConfigError(ValueError):
    """The configuration cannot be used; the message says where, what is wrong and what to write instead."""


class NotToBeHad(ConfigError):
    """An address of this computer cannot be had; perhaps later, as when its network comes up after us."""


_PLAIN = (bool, int, float)  # what YAML takes a name for that is not in quotes


def is_address(text: str) -> bool:
    """Tell whether this is the address of a computer, with or without a port, and so hardly the name of a service."""
    host = text.removeprefix('[').partition(']')[0] if text.startswith('[') else text
    host, _, port = host.partition(':') if host.count(':') == 1 else (host, '', '')
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return '://' in text
    return not port or port.isascii()


def check_name(name: Any, where: str) -> str:
    """Return `name` if it can be a service's name.

    Parameters
    ----------
    name : Any
        What was given; YAML turns unquoted words like ``on`` or ``1`` into other types.
    where : str
        The beginning of the error message: file or option.

    Raises
    ------
    ConfigError
        If it cannot.
    """
    if name is None:
        raise ConfigError(f'{where}: nothing stands where a name should; write one, such as cameras, or remove it.')
    if not isinstance(name, (str, *_PLAIN)):
        raise ConfigError(f'{where}: {kind_of(name)} stands where a name should; write one, such as cameras.')
    if not isinstance(name, str):
        raise ConfigError(f'{where}: the name {name!r} is not text but {kind_of(name)}; write it in quotes, "{name}".')
    if not name:
        raise ConfigError(f'{where}: a service has an empty name; give it one, such as "cameras".')
    if name == RESERVED:
        raise ConfigError(
            f'{where}: the name {name} is reserved for the settings of the whole rig; choose another one.'
        )
    if any(unicodedata.category(c) in _NOT_SEEN for c in name.replace(' ', '')):
        raise ConfigError(
            f'{where}: the name {name!a} contains invisible or control characters, or invalid ones; write it anew.'
        )
    if name != name.strip():
        raise ConfigError(f'{where}: the name {name!r} begins or ends with a space; write {name.strip()!r}.')
    if ',' in name:
        raise ConfigError(
            f'{where}: the name {name!r} contains a comma, which separates names; write {name.replace(",", "-")!r}.'
        )
    if (size := len(name.encode())) > NAME_BYTES:
        raise ConfigError(f'{where}: the name {name[:20]!r}... takes {size} bytes; write one of at most {NAME_BYTES}.')
    return name


def parse_uri(uri: str, where: str) -> str:
    """Return the complete form of an address.

    Parameters
    ----------
    uri : str
        ``host``, ``host:port``, ``udp://host`` or ``udp://host:port``; ``ws://``, ``wss://`` and ``tcp://`` are
        passed through.
    where : str
        The beginning of the error message: file and key, or option.

    Returns
    -------
    str
        ``udp://host:port``, the port being 11001 if none was given.

    Raises
    ------
    ConfigError
        If it is not an address.
    """
    if not uri:
        raise ConfigError(f'{where}: the address is empty; write {EXAMPLE}.')
    rest = uri
    if match := _SCHEME.match(uri):
        scheme, rest = match[1].lower(), uri[match.end() :]
        if scheme in STREAM_SCHEMES and rest:
            return uri
        if scheme != 'udp':
            raise ConfigError(f'{where}: {uri!a} begins with {scheme}://; write {EXAMPLE}.')
    elif begun := _HALF_A_SCHEME.match(uri):
        raise ConfigError(f'{where}: {uri!a} is no address; did you mean udp://{uri[begun.end() :]}?')
    if match:
        rest = rest.removesuffix('/')
    host, colon, port = rest.partition(':')
    if '@' in rest:
        raise ConfigError(f'{where}: {uri!a} names a user, of whom a service knows nothing; write {EXAMPLE}.')
    if _IPV6.fullmatch(rest):
        raise ConfigError(f'{where}: {uri!a} looks like IPv6, but services are reached over IPv4; write {EXAMPLE}.')
    if not _is_host(host):
        raise ConfigError(f'{where}: {host!a} in {uri!a} is not an IPv4 address or host name; write {EXAMPLE}.')
    if wrong := unusable(host):
        raise ConfigError(f"{where}: {host} in {uri!a} {wrong}; write the address of the service's PC.")
    if colon and not (re.fullmatch(r'[0-9]{1,5}', port) and 1 <= int(port) <= 65535):
        begins = re.match(r'[1-9][0-9]{0,4}(?=[^0-9A-Za-z._+-]|$)', port)
        advised = begins[0] if begins and int(begins[0]) <= 65535 else DEFAULT_PORT
        raise ConfigError(
            f'{where}: the port {port!a} in {uri!a} is not a number from 1 to 65535; '
            f'write {host}:{advised}, or {host} for {host}:{DEFAULT_PORT}.'
        )
    return f'udp://{host}:{int(port) if colon else DEFAULT_PORT}'


def unusable(host: str) -> str:
    """Return why nobody in particular is at an address, "" for one that a PC can have, and for a name.

    Examples
    --------
    >>> unusable('0.0.0.0'), unusable('192.168.0.8')
    ('is not an address to send to: it means "any address" where a program listens', '')
    """
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        return ''
    if address.is_multicast:
        return 'is a multicast address, shared by many PCs; a service has an address of its own'
    if int(address) == 2**32 - 1:
        return BROADCAST
    if int(address) >> 24 == 0:
        return 'is not an address to send to: it means "any address" where a program listens'
    return 'is reserved; no PC has it' if address.is_reserved else ''


LOOPBACK = '127.0.0.1'
ANY = '0.0.0.0'  # all addresses of this computer, where a program listens
BROADCAST = 'is a broadcast address, which reaches all PCs; a service has an address of its own'
_NOBODYS = '203.0.113.1'  # RFC 5737: of examples


def is_broadcast(host: str) -> bool:
    """Tell whether an address is that of all PCs of a network that this computer is in; asks the system, sends nothing.

    Only then may a socket be connected to it not before it was allowed to speak to all.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, DEFAULT_PORT))
        except PermissionError:  # also if all is forbidden
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            try:
                probe.connect((host, DEFAULT_PORT))
            except OSError:
                return False
            return True
        except OSError:
            return False
        return False


def is_ours(host: str) -> bool:
    """Tell whether an address is one of this computer's: only to those can a socket be bound.

    Examples
    --------
    >>> is_ours('127.0.0.1'), is_ours('203.0.113.1')
    (True, False)
    """
    if ipaddress.IPv4Address(host).is_loopback:
        return True
    return _can_be_bound(host) and not _can_be_bound(_NOBODYS)  # to Wine all addresses are ours


def _can_be_bound(host: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
        return True


def one_address(first: str, second: str, uri: str, other: str = '') -> str:
    """Return what is said of two services that have one address, which may be written in another way, too."""
    where = uri if same_place(other or uri) == same_place(uri) else f'{uri} (this computer, as {other} is)'
    two = f'{first} and {second} have the same address, {where}'
    return f'{two}, which would get every command twice; remove one of them'


def given_twice(name: str, first: str, second: str) -> str:
    """Return what is to be done about a name that comes twice, as of a file and of the command line.

    Examples
    --------
    >>> given_twice('cameras', 'udp://:1', 'udp://:2')
    'cameras is given twice; keep one of udp://:1 and udp://:2'
    >>> given_twice('cameras', 'udp://:1', 'udp://:1')
    'cameras is given twice, both times as udp://:1; leave one of the two out'
    """
    if first == second:
        return f'{name} is given twice, both times as {first}; leave one of the two out'
    return f'{name} is given twice; keep one of {first} and {second}'


def is_heard_at(uri: str, host: str, port: int) -> bool:
    """Tell whether what is sent to a service's address comes to who listens at another, of which 0.0.0.0 is all.

    Examples
    --------
    >>> is_heard_at('udp://localhost:5', '127.0.0.1', 5), is_heard_at('udp://127.0.0.2:5', '127.0.0.1', 5)
    (True, False)
    >>> is_heard_at('udp://127.0.0.2:5', '0.0.0.0', 5), is_heard_at('udp://203.0.113.1:5', '0.0.0.0', 5)
    (True, False)
    """
    there, _, number = same_place(uri).rpartition('://')[2].partition(':')
    if number != str(port):
        return False
    if host != ANY:
        return there == host
    try:
        return not ipaddress.IPv4Address(there).is_multicast and not unusable(there) and is_ours(there)
    except ValueError:
        return False  # a name: whoever looks it up asks again


def commands_itself(service: str, listener: str, uri: str) -> str:
    """Return what is said of a service and a listener of one worker that have one address."""
    return f'the service {service} and the listener {listener} are both at {uri}, so the worker would command itself'


def same_service(uri: str) -> str:
    """Return an address so that all are equal by which one service can be reached: our own in the network are loopback.

    127.0.0.1 and 127.0.0.2 stay two: whoever writes the latter means a service that listens there alone.
    """
    place = same_place(uri)
    scheme, _, rest = place.rpartition('://')
    host, _, port = rest.partition(':')
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        return place
    ours = not (address.is_loopback or unusable(host)) and is_ours(host)
    return f'{scheme}://{LOOPBACK}:{port}' if ours else place


def same_place(uri: str) -> str:
    """Return an address so that all ways to write one are equal; names are not looked up.

    Examples
    --------
    >>> same_place('udp://LocalHost:5'), same_place('udp://Rig-PC.lab.:5')
    ('udp://127.0.0.1:5', 'udp://rig-pc.lab:5')
    """
    scheme, _, rest = uri.rpartition('://')
    host, _, port = rest.partition(':')
    host = host.lower().rstrip('.')
    if host == 'localhost' or host.endswith('.localhost'):
        host = LOOPBACK
    return f'{scheme.lower()}://{host}:{port}'


def _is_host(host: str) -> bool:
    """Return True for an IPv4 address or a host name, whose last label is never a number (a mistyped address)."""
    labels = host.split('.')
    if labels[-1].isdigit():
        try:
            return bool(ipaddress.IPv4Address(host))
        except ValueError:
            return False
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels)


def kind_of(value: Any) -> str:
    """Return what a YAML value is, in words."""
    if hasattr(value, 'meant'):
        return f'true or false ({value})'
    kinds = {
        bool: 'true or false',
        int: 'a number',
        float: 'a number',
        list: 'a list',
        dict: 'a mapping',
        str: 'text',
        type(None): 'nothing',
    }
    return kinds.get(type(value), f'a {type(value).__name__}')
