"""The rig's configuration: which services there are, where, and how patient to be with each.

A service has a name and an address. Both come from a YAML file in the form of iblrig's ``remote_devices.yaml``, or from
``--service name=uri`` on the command line::

    cameras: 192.168.0.8                  # a bare host: UDP, port 11001
    ephys: udp://192.168.0.9:11002
    mesoscope: ws://192.168.0.10:8888     # kept, but not supported: its ServiceConfig.unsupported says why
    lamp: {uri: 192.168.0.11, optional: true, timeout: 30, repeat: [EXPSTATUS, EXPINFO, EXPINTERRUPT, EXPINIT]}
    _rig:                                 # no service: what concerns the whole rig
      heartbeat: 10
      on_client_lost: {client: stimulus, send: EXPEND, after_s: 60}

Settings of a service, times in s:

================  ============  ======================================================================================
uri               (needed)      its address
optional          false         commands that only this service failed give a warning instead of an error
timeout           --timeout     how long it has for its reply
echo_timeout      1             how long for its echo; after that it is ``unreachable``
reply_gap         0.1           pause between what it last said and the next command to it: a camera session of iblrig
                                listens again only when it has come round, and with 0.005 loses some commands
repeat            [EXPSTATUS,   messages sent once more if no echo comes for long, or if it echoed and may not have
                  EXPINFO,      listened; what starts or ends something would then perhaps be carried out twice
                  EXPINTERRUPT]
heartbeat         _rig's, or 0  ask EXPSTATUS when nothing was heard for this long; 0: never
after             []            services that get EXPINIT and EXPSTART, and have answered, before it does; EXPEND goes
                                the other way round
max_message_size  0             its computer cuts echoes to so many bytes, as iblrig's ScanImage PC does to 4096; 0: no
================  ============  ======================================================================================

iblrig wants nothing but ``name: uri`` in its ``remote_devices.yaml``, and writes that file anew without comments. So
settings of a rig that iblrig uses too stand in a file of their own (``--settings``), in the same form without ``uri``.

Settings of ``_rig``: ``heartbeat``, for services that say nothing else; ``on_client_lost``, one mapping or a list of
them: if the client of that name ends without closing, ``send`` (nothing, EXPEND or EXPINTERRUPT) goes to all services
``after_s`` later, unless a client of that name is attached again by then; it is kept until it leaves, over a restart of
the worker: `bridge.segment.losses`. ``any_reference``, true for a lab whose references of experiments are not
``date_sequence_subject``, as iblrig's services parse them. ``listen``, where the worker is a service itself, whose
commands a program carries out: a mapping of names to addresses or settings. What they are: `bridge.listening`.
``journal_rotate``, ``day`` or a size such as ``50MB``: when a file of the journal is complete.
``http``, where the status page is: `bridge.web.address`.

Everything is checked here, before anything runs, and every refusal is a `ConfigError` that says where, what is wrong
and what to write instead. How files are read: `bridge.reading`. What names and addresses may look like:
`bridge.addresses`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bridge import carrier
from bridge.addresses import (
    EXAMPLE,
    RESERVED,
    STREAM_SCHEMES,
    ConfigError,
    check_name,
    commands_itself,
    given_twice,
    is_address,
    is_heard_at,
    kind_of,
    one_address,
    parse_uri,
    same_service,
)
from bridge.journal import rotation
from bridge.listening import ListenerConfig, merge_listeners, parse_listeners
from bridge.nearest import did_you_mean
from bridge.numbers import MESSAGE_NAMES, MESSAGES
from bridge.reading import Word, read_mapping
from bridge.services.rules import LONGEST as LONGEST_MESSAGE
from bridge.services.rules import MESSAGE_NUMBERS, REPEATABLE, Timing
from bridge.web.address import PageConfig, parse_page

__all__ = [
    'ClientLost',
    'ConfigError',
    'ListenerConfig',
    'RigConfig',
    'ServiceConfig',
    'load_rig',
    'check_addresses',
    'check_listeners',
    'check_order',
    'load_services',
    'load_settings',
    'merge_services',
    'parse_rig',
    'parse_service_option',
    'parse_services',
    'parse_uri',
]

MAX_SERVICES = 128
CLIENT_BYTES = 63  # of a client's name, as in iblbridge.h
LONGEST = 3600.0  # s
ON_LOSS = ('nothing', 'EXPEND', 'EXPINTERRUPT')


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
    timeout : float or None
        How long it has for its reply, s; None: as the worker was told.
    echo_timeout : float
        How long it has for its echo, s.
    reply_gap : float
        Pause between what it last said and the next command to it, s.
    repeat : tuple of str
        Messages that may be sent again if no echo comes, or if nobody may have listened.
    heartbeat : float or None
        Ask EXPSTATUS when nothing was heard for this long, s; 0: never; None: as the rig says.
    ask : bool or None
        Ask EXPINFO once at the start, and whenever it is up again after it was down; None: as the rig says.
    after : tuple of str
        Services that get EXPINIT and EXPSTART, and have answered, before it does; EXPEND goes the other way round.
    max_message_size : int
        Its echoes are cut to so many bytes; 0: they are not.
    """

    name: str
    uri: str
    optional: bool = False
    timeout: float | None = None
    echo_timeout: float = Timing.echo_timeout
    reply_gap: float = Timing.reply_gap
    repeat: tuple[str, ...] = tuple(MESSAGE_NAMES[number] for number in sorted(REPEATABLE))
    heartbeat: float | None = None
    ask: bool | None = None
    after: tuple[str, ...] = ()
    max_message_size: int = 0

    def timing(self, timeout: float | None) -> Timing:
        """Return how patient to be with it; `timeout` is the reply's if it has none of its own, s."""
        return Timing(
            timeout=timeout if self.timeout is None else self.timeout,
            echo_timeout=self.echo_timeout,
            reply_gap=self.reply_gap,
            repeat=frozenset(MESSAGES[name] for name in self.repeat),
            max_message_size=self.max_message_size,
        )

    @property
    def unsupported(self) -> str:
        """Return "" if this service can be served, else the reason why not, as one sentence."""
        scheme = self.uri.partition('://')[0].lower()
        if scheme not in STREAM_SCHEMES:
            return ''
        return f'{scheme}:// is not supported, as iblutil sends it without framing; have the service listen on udp://.'


@dataclass(frozen=True)
class ClientLost:
    """What to do when a client ends without closing.

    Parameters
    ----------
    client : str
        Its name.
    send : {'nothing', 'EXPEND', 'EXPINTERRUPT'}
        What all services are sent.
    after : float
        How long to wait for a client of that name before, s.
    """

    client: str
    send: str = 'nothing'
    after: float = 0.0


@dataclass(frozen=True)
class RigConfig:
    """What a services' file says.

    Parameters
    ----------
    services : dict of str to ServiceConfig
        In the order of the file.
    heartbeat : float
        Of services that have none of their own, s; 0: none.
    on_client_lost : tuple of ClientLost
        At most one per client.
    any_reference : bool
        The reference of an experiment may have any form.
    ask : bool
        Of services that do not say: ask them EXPINFO at the start, and when they are up again.
    listen : dict of str to ListenerConfig
        Where the worker is a service itself.
    journal_rotate : Rotation or None
        When a file of the journal is complete; None: never.
    http : PageConfig or None
        Where the status page is; None: there is none.
    """

    services: dict[str, ServiceConfig] = field(default_factory=dict)
    heartbeat: float = 0.0
    on_client_lost: tuple[ClientLost, ...] = ()
    any_reference: bool = False
    ask: bool = True
    listen: dict[str, ListenerConfig] = field(default_factory=dict)
    journal_rotate: rotation.Rotation | None = None
    http: PageConfig | None = None


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
        At the first entry that cannot be used, or if there are more than 128.
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
    if is_address(name.strip()):
        raise ConfigError(f'{where}: {name.strip()!a} is an address where a name should stand; write cameras={name}.')
    return ServiceConfig(check_name(name, where), parse_uri(uri, f'{where} {name}'))


def merge_services(*groups: Iterable[ServiceConfig], where: str = 'services') -> dict[str, ServiceConfig]:
    """Return services from several sources by name.

    Raises
    ------
    ConfigError
        A name or an address comes twice, or there are more than 128.
    """
    merged: dict[str, ServiceConfig] = {}
    for service in (service for group in groups for service in group):
        if service.name in merged:
            raise ConfigError(f'{where}: {given_twice(service.name, merged[service.name].uri, service.uri)}.')
        merged[service.name] = service
    if len(merged) > MAX_SERVICES:
        raise ConfigError(
            f'{where}: {len(merged)} services are configured; a segment takes {MAX_SERVICES}; use a second one.'
        )
    check_addresses(merged, where)
    return merged


def parse_rig(data: Mapping[Any, Any], where: str = 'rig') -> RigConfig:
    """Return the checked configuration of services and of the rig; raises as `parse_services`."""
    services = parse_services({name: value for name, value in data.items() if name != RESERVED}, where)
    where = f'{where}: {RESERVED}'
    known = ('heartbeat', 'on_client_lost', 'any_reference', 'ask', 'listen', 'journal_rotate', 'http')
    settings = _mapping(_or_none(data.get(RESERVED), {}), known, where)
    for key in _YES_OR_NO:
        _check_bool(settings, key, where)
    heartbeat = _seconds(settings.get('heartbeat', 0), f'{where}: heartbeat')
    losses = _or_none(settings.get('on_client_lost'), [])
    parsed = [
        _client_lost(loss, f'{where}: on_client_lost') for loss in (losses if isinstance(losses, list) else [losses])
    ]
    if len({loss.client for loss in parsed}) < len(parsed):
        raise ConfigError(f'{where}: on_client_lost: a client is named twice; keep one of the two.')
    any_reference, ask = settings.get('any_reference', False), settings.get('ask', True)
    listeners = parse_listeners(_or_none(settings.get('listen'), {}), f'{where}: listen')
    rotate = parse_rotation(settings.get('journal_rotate'), f'{where}: journal_rotate')
    given = settings.get('http')
    http = None if given is None else parse_page(given, f'{where}: http')
    return RigConfig(services, heartbeat, tuple(parsed), any_reference, ask, listeners, rotate, http)


def parse_rotation(text: Any, where: str) -> rotation.Rotation | None:
    """Return when a file of the journal is complete, None for never; ConfigError if the text does not say that."""
    if text is None:
        return None
    try:
        return rotation.parse(text if isinstance(text, str) else _shown(text))
    except ValueError as e:
        raise ConfigError(f'{where}: {e}.') from None


def load_rig(path: str | Path) -> RigConfig:
    """Read a file of services and settings.

    Parameters
    ----------
    path : str or Path
        A YAML file of ``name: uri``, as iblrig's ``remote_devices.yaml``. An empty one means no services.

    Returns
    -------
    RigConfig
        In the order of the file.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not YAML or says something that cannot be used.
    """
    line = 'cameras: 192.168.0.8'
    return parse_rig(read_mapping(path, line), str(path))


def load_settings(path: str | Path, rig: RigConfig) -> RigConfig:
    """Return a configuration with the settings of a file of their own.

    Parameters
    ----------
    path : str or Path
        A YAML file of ``name: {setting: value}`` for some of the services, and ``_rig``.
    rig : RigConfig
        The services.

    Raises
    ------
    ConfigError
        The file cannot be used, or names a service that there is not.
    """
    where = str(path)
    line = 'cameras: {timeout: 30}'
    data = read_mapping(path, line)
    services = dict(rig.services)
    for name, value in data.items():
        if name == RESERVED:
            continue
        if name not in services:
            known, offer = ', '.join(services) or 'none', did_you_mean(str(name), (*services, RESERVED))
            known = f'{offer} There are: {known}' if offer else f'; there are: {known}'
            raise ConfigError(f'{where}: there is no service {str(name)!a}{known}.')
        services[name] = replace(services[name], **_settings(value, f'{where}: {name}', ()))
    heartbeat, losses, given = rig.heartbeat, rig.on_client_lost, _or_none(data.get(RESERVED), {})
    own = parse_rig({RESERVED: given}, where)
    if 'heartbeat' in given:
        heartbeat = own.heartbeat
    if 'on_client_lost' in given:
        losses = own.on_client_lost
    any_reference = own.any_reference if 'any_reference' in given else rig.any_reference
    listeners = merge_listeners(rig.listen.values(), own.listen.values(), where=where)
    ask = own.ask if 'ask' in given else rig.ask
    rotate = own.journal_rotate if 'journal_rotate' in given else rig.journal_rotate
    return RigConfig(services, heartbeat, losses, any_reference, ask, listeners, rotate, own.http or rig.http)


def check_addresses(services: Mapping[str, ServiceConfig], where: str = 'services') -> None:
    """Raise ConfigError if two services have one address: that PC would get every command twice.

    Names are not looked up here; two that turn out to be one address are refused when the worker opens them.
    """
    first: dict[str, ServiceConfig] = {}
    for service in services.values():
        if not service.unsupported:
            other = first.setdefault(same_service(service.uri), service)
            if other is not service:
                raise ConfigError(f'{where}: {one_address(other.name, service.name, service.uri, other.uri)}.')


def check_listeners(
    services: Mapping[str, ServiceConfig], listeners: Iterable[ListenerConfig], where: str = 'listen'
) -> None:
    """Raise ConfigError if a service is at a listener of the same worker: each command would come back to it.

    Names are not looked up here; one that turns out to be such an address is refused when the worker opens it.
    """
    for listener in listeners:
        for service in services.values():
            if not service.unsupported and is_heard_at(service.uri, listener.host, listener.port):
                both = commands_itself(service.name, listener.name, service.uri)
                raise ConfigError(f'{where}: {both}; change one of the ports.')


def check_order(services: Mapping[str, ServiceConfig], where: str = 'services') -> None:
    """Raise ConfigError if a service comes after one that there is not, or after itself by way of others."""
    try:
        carrier.check_order(services, {service.name: service.after for service in services.values()})
    except ValueError as e:
        raise ConfigError(f'{where}: {e}{"" if str(e).endswith("?") else "."}') from e


def load_services(path: str | Path) -> dict[str, ServiceConfig]:
    """Return the services of a file by name; see `load_rig`."""
    return load_rig(path).services


def _parse_service(name: str, value: Any, where: str) -> ServiceConfig:
    """Return one service from what stands after its name."""
    given = value if isinstance(value, Mapping) else {'uri': value}
    if given.get('uri') is None and (offer := did_you_mean(name, [RESERVED])):
        raise ConfigError(f'{where}: has no address{offer} So the settings of the whole rig are called.')
    settings = _settings(given, where, ('uri',))
    if settings.get('uri', '') is None:
        raise ConfigError(f'{where}: has no address; write {EXAMPLE}, or remove the line.')
    if 'uri' not in settings:
        raise ConfigError(f'{where}: the setting uri is missing; write uri: 192.168.0.8.')
    if isinstance(settings['uri'], Word) or not isinstance(settings['uri'], str):
        raise ConfigError(f'{where}: uri is {kind_of(settings["uri"])}; write {EXAMPLE}.')
    return ServiceConfig(name, parse_uri(settings.pop('uri'), where), **settings)


def _settings(value: Any, where: str, more: tuple[str, ...]) -> dict[str, Any]:
    """Return the checked settings of a service; what stands under the keys `more` is not looked at."""
    settings = _mapping(value, (*more, 'optional', *_TIMES, 'ask', 'repeat', 'after', 'max_message_size'), where)
    for key in ('optional', 'ask'):
        _check_bool(settings, key, where)
    for key, least in _TIMES.items():
        if key in settings:
            settings[key] = _seconds(settings[key], f'{where}: {key}', least)
    if 'repeat' in settings:
        settings['repeat'] = _messages(settings['repeat'], f'{where}: repeat')
    if 'after' in settings:
        after = settings['after'] if isinstance(settings['after'], list) else [settings['after']]
        settings['after'] = tuple(str(check_name(name, f'{where}: after')) for name in after)
    size = settings.get('max_message_size', 0)
    if type(size) is not int or not (size == 0 or 64 <= size <= LONGEST_MESSAGE):
        shown = repr(size) if isinstance(size, str) else _shown(size)
        raise ConfigError(f'{where}: max_message_size is {shown}; write 64 to {LONGEST_MESSAGE} bytes, or 0.')
    return settings


_MOST_SHOWN = 10**12


def _shown(value: Any) -> str:
    """Return a number as it was written, unless it may have thousands of digits, and the kind of anything else."""
    short = isinstance(value, float) or (type(value) is int and abs(value) <= _MOST_SHOWN)
    return str(value) if short else kind_of(value)


def _or_none(value: Any, none: Any) -> Any:
    """Return a value, or what stands for none if there is nothing; 0 and false are something."""
    return none if value is None else value


def _quoted(value: Any) -> str:
    """Return a word as it was written, and the kind of anything else."""
    return ascii(str(value)) if isinstance(value, str) else kind_of(value)


_TIMES = {'timeout': 0.001, 'echo_timeout': 0.001, 'reply_gap': 0.0, 'heartbeat': 0.0}  # the least, s


def _check_bool(settings: Mapping[str, Any], key: str, where: str) -> None:
    if not isinstance(settings.get(key, False), bool):
        raise ConfigError(f'{where}: {key} is {kind_of(settings[key])}; write true or false.')


def _mapping(value: Any, keys: Iterable[str], where: str) -> dict[str, Any]:
    """Return a mapping that has no other keys than these."""
    if not isinstance(value, Mapping):
        raise ConfigError(f'{where}: is {kind_of(value)} instead of a mapping; write {{{", ".join(keys)}: ...}}.')
    for key in value:
        if key not in keys:
            *others, last = keys
            raise ConfigError(f'{where}: the setting {key!r} is not known; there are {", ".join(others)} and {last}.')
    return {key: item.meant if isinstance(item, Word) and key in _YES_OR_NO else item for key, item in value.items()}


_YES_OR_NO = ('optional', 'ask', 'any_reference')


def _seconds(value: Any, where: str, least: float = 0.0) -> float:
    """Return a time in s."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not least <= value <= LONGEST:  # NaN is not either
        raise ConfigError(f'{where}: is {_shown(value)}; write {least:g} to {LONGEST:g} seconds.')
    return float(value)


def _messages(value: Any, where: str) -> tuple[str, ...]:
    """Return a list of messages' names."""
    known = list(MESSAGE_NUMBERS)
    names = ', '.join(known)
    if not isinstance(value, list):
        raise ConfigError(f'{where}: is {kind_of(value)} instead of a list; write [] or some of [{names}].')
    for name in value:
        if not isinstance(name, str) or name not in known:
            what = (
                f'there is no message {name!a}'
                if isinstance(name, str)
                else f'{kind_of(name)} stands where a message should'
            )
            raise ConfigError(f'{where}: {what}; write some of [{names}].')
    return tuple(value)


def _client_lost(value: Any, where: str) -> ClientLost:
    """Return what to do about one client."""
    settings = _mapping(value, ('client', 'send', 'after_s'), where)
    client, send = settings.get('client'), settings.get('send', 'nothing')
    if not isinstance(client, str) or not client.strip():
        raise ConfigError(f'{where}: names no client; write client: with the name that it passes to iblb_open.')
    if len(client.encode(errors='replace')) > CLIENT_BYTES:
        raise ConfigError(
            f'{where}: no client has a name of more than {CLIENT_BYTES} bytes, such as {client[:20]!a}...'
        )
    if send is None:
        raise ConfigError(f'{where}: nothing stands behind send; write one of {", ".join(ON_LOSS)}.')
    if send not in ON_LOSS:
        raise ConfigError(f'{where}: send is {_quoted(send)}; write one of {", ".join(ON_LOSS)}.')
    return ClientLost(str(client), send, _seconds(settings.get('after_s', 0), f'{where}: after_s'))
