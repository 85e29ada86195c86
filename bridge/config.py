"""The rig's configuration: which services there are, and where.

A service has a name and an address. Both come from a YAML file in the form of iblrig's ``remote_devices.yaml``, or from
``--service name=uri`` on the command line::

    cameras: 192.168.0.8                  # a bare host: UDP, port 11001
    ephys: udp://192.168.0.9:11002
    mesoscope: ws://192.168.0.10:8888     # kept, but not supported: its ServiceConfig.unsupported says why
    lamp: {uri: 192.168.0.11, optional: true}

Rules:

- Everything is checked here, before anything runs, and every refusal is a `ConfigError` that says where, what is
  wrong and what to write instead. PyYAML keeps the last of two equal keys without a word; here that is an error.
- Host names are checked in form only. Nothing is resolved, for that blocks and may answer differently later.
- Addresses are IPv4 or names, for iblutil's UDP services speak IPv4 only.
- Names travel as comma-separated lists in shared memory: 1 to 111 bytes of UTF-8, no comma, no control characters, no
  blank at either end.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    'ConfigError',
    'ServiceConfig',
    'load_services',
    'merge_services',
    'parse_service_option',
    'parse_services',
    'parse_uri',
]

DEFAULT_PORT = 11001  # iblutil's LISTEN_PORT
NAME_BYTES = 111
MAX_SERVICES = 128
STREAM_SCHEMES = ('ws', 'wss', 'tcp')  # iblutil accepts them, but sends without framing: echo and reply run together

_SCHEME = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*)://')
_LABEL = re.compile(r'[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?')
_SETTINGS = {'uri': str, 'optional': bool}
_EXAMPLE = '192.168.0.8, 192.168.0.8:11001 or udp://192.168.0.8:11001'


class ConfigError(ValueError):
    """The configuration can't be used; the message says where, what is wrong and what to write instead."""


@dataclass(frozen=True)
class ServiceConfig:
    """One service of the rig.

    Parameters
    ----------
    name : str
        What clients call it.
    uri : str
        Its address, complete: ``udp://host:port``, or as it stood in the file if its scheme is not supported.
    optional : bool
        If True, commands that only this service failed give a warning instead of an error.
    """

    name: str
    uri: str
    optional: bool = False

    @property
    def unsupported(self) -> str:
        """Return "" if this service can be served, else the reason why not, as one sentence."""
        scheme = self.uri.partition('://')[0].lower()
        if scheme not in STREAM_SCHEMES:
            return ''
        return f'{scheme}:// is not supported, for iblutil sends it without framing; let the service listen on udp://.'


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
        If it can't.
    """
    if not isinstance(name, str):
        raise ConfigError(f'{where}: the name {name!r} is not text but {_kind(name)}; write it in quotes, "{name}".')
    if not name:
        raise ConfigError(f'{where}: a service has an empty name; give it one, such as "cameras".')
    if any(unicodedata.category(c) in ('Cc', 'Cs', 'Zl', 'Zp') for c in name):
        raise ConfigError(
            f'{where}: the name {name!a} contains control characters or invalid ones; write printable text.'
        )
    if name != name.strip():
        raise ConfigError(f'{where}: the name {name!r} begins or ends with a blank; write {name.strip()!r}.')
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
        raise ConfigError(f'{where}: the address is empty; write {_EXAMPLE}.')
    rest = uri
    if match := _SCHEME.match(uri):
        scheme, rest = match[1].lower(), uri[match.end() :]
        if scheme in STREAM_SCHEMES and rest:
            return uri
        if scheme != 'udp':
            raise ConfigError(f'{where}: {uri!a} begins with {scheme}://; write {_EXAMPLE}.')
    host, colon, port = rest.partition(':')
    if ':' in port or '[' in rest:
        raise ConfigError(f'{where}: {uri!a} looks like IPv6, but services are reached by IPv4; write {_EXAMPLE}.')
    if not _is_host(host):
        raise ConfigError(f'{where}: {host!a} in {uri!a} is not an IPv4 address or host name; write {_EXAMPLE}.')
    if colon and not (re.fullmatch(r'[0-9]{1,5}', port) and 1 <= int(port) <= 65535):
        raise ConfigError(
            f'{where}: the port {port!a} in {uri!a} is not a number from 1 to 65535; write {host}:{DEFAULT_PORT}.'
        )
    return f'udp://{host}:{int(port) if colon else DEFAULT_PORT}'


def parse_services(services: Mapping[Any, Any], where: str = 'services') -> dict[str, ServiceConfig]:
    """Return the checked configuration of a mapping of names to addresses or settings.

    Parameters
    ----------
    services : Mapping
        ``{name: uri}`` or ``{name: {'uri': uri, 'optional': bool}}``, or both mixed.
    where : str
        The beginning of error messages.

    Returns
    -------
    dict[str, ServiceConfig]
        By name, in the given order.

    Raises
    ------
    ConfigError
        At the first entry that can't be used, or if there are more than 128.
    """
    found = {
        check_name(name, where): _parse_service(name, value, f'{where}: {name}') for name, value in services.items()
    }
    return merge_services(found.values(), where=where)


def parse_service_option(option: str) -> ServiceConfig:
    """Return the service that ``--service name=uri`` describes; ConfigError if it describes none."""
    where = '--service'
    name, equals, uri = option.partition('=')
    if not equals:
        raise ConfigError(f'{where}: {option!a} has no "="; write name=address, such as cameras=192.168.0.8.')
    return ServiceConfig(check_name(name, where), parse_uri(uri, f'{where} {name}'))


def merge_services(*groups: Iterable[ServiceConfig], where: str = 'services') -> dict[str, ServiceConfig]:
    """Return services from several sources by name; ConfigError if a name comes twice or there are more than 128."""
    merged: dict[str, ServiceConfig] = {}
    for service in (service for group in groups for service in group):
        if service.name in merged:
            raise ConfigError(
                f'{where}: {service.name} is given twice; keep one of {merged[service.name].uri} and {service.uri}.'
            )
        merged[service.name] = service
    if len(merged) > MAX_SERVICES:
        raise ConfigError(
            f'{where}: {len(merged)} services are configured; a segment takes {MAX_SERVICES}, use a second one.'
        )
    return merged


def load_services(path: str | Path) -> dict[str, ServiceConfig]:
    """Read a file of services.

    Parameters
    ----------
    path : str or Path
        A YAML file of ``name: uri``, as iblrig's ``remote_devices.yaml``. An empty one means no services.

    Returns
    -------
    dict[str, ServiceConfig]
        By name, in the order of the file.

    Raises
    ------
    ConfigError
        If the file can't be read, is not YAML or says something that can't be used.
    """
    try:
        text = Path(path).read_bytes()
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        raise ConfigError(
            f'{path}: {reason}; give the path of a YAML file with lines such as "cameras: 192.168.0.8".'
        ) from e
    return parse_services(_read_yaml(text, str(path)), str(path))


def _read_yaml(text: bytes, where: str) -> dict[Any, Any]:
    """Return the mapping that a YAML document holds, {} for an empty one."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise ConfigError(f'{where}: {key.value} stands twice (again in line {line}); keep one of the two.')
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        data = yaml.load(text, Loader)  # noqa: S506 (a SafeLoader)
    except RecursionError as e:
        raise ConfigError(f'{where}: nested too deeply; write one line "name: address" per service.') from e
    except (yaml.YAMLError, ValueError) as e:
        if isinstance(e, ConfigError):
            raise
        reason = ' '.join(str(e).split())
        raise ConfigError(f'{where}: not valid YAML ({reason}); write one line "name: address" per service.') from e
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(
            f'{where}: holds {_kind(data)} instead of a mapping; write one line "name: address" per service.'
        )
    return data


def _parse_service(name: str, value: Any, where: str) -> ServiceConfig:
    """Return one service from what stands after its name."""
    settings = value if isinstance(value, Mapping) else {'uri': value}
    for key, setting in settings.items():
        if key not in _SETTINGS:
            raise ConfigError(f'{where}: the setting {key!r} is not known; there are {" and ".join(_SETTINGS)}.')
        if key == 'uri' and setting is None:
            raise ConfigError(f'{where}: has no address; write {_EXAMPLE}, or take the line out.')
        if not isinstance(setting, _SETTINGS[key]):
            wanted = _EXAMPLE if key == 'uri' else 'true or false'
            raise ConfigError(f'{where}: {key} is {_kind(setting)}; write {wanted}.')
    if 'uri' not in settings:
        raise ConfigError(f'{where}: the setting uri is missing; write uri: 192.168.0.8.')
    return ServiceConfig(name, parse_uri(settings['uri'], where), settings.get('optional', False))


def _is_host(host: str) -> bool:
    """Return True for an IPv4 address or a host name, whose last label is never a number (a mistyped address)."""
    labels = host.split('.')
    if labels[-1].isdigit():
        try:
            return bool(ipaddress.IPv4Address(host))
        except ValueError:
            return False
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels)


def _kind(value: Any) -> str:
    """Return what a YAML value is, in words."""
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
