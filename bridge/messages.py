"""What travels: messages and their arguments on the way in, the response body on the way out. Functions of values.

A command's payload is two msgpack objects: a str with the services' names, separated by commas (empty: all), and the
arguments, which are nil, msgpack of what JSON can say, or a str of JSON text (the command's flag tells). The message
numbers are those of iblutil's ExpMessage (``iblutil.io.net.base``, 1.20.0) plus the worker's own; the signatures those
of its ``Service`` class.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgpack

from bridge.native import CODES, lib
from bridge.outcomes import Outcome

MESSAGES: dict[str, int] = {
    name: getattr(lib, f'IBLB_{name}')
    for name in (
        'EXPINIT',
        'EXPSTART',
        'EXPEND',
        'EXPCLEANUP',
        'EXPINTERRUPT',
        'EXPSTATUS',
        'EXPINFO',
        'ALYX',
        'PING',
        'SERVICES',
    )
}
MESSAGE_NAMES: dict[int, str] = {number: name for name, number in MESSAGES.items()}
LOCAL = ('PING', 'SERVICES')
EVENTS: dict[str, int] = {name: number for name, number in MESSAGES.items() if name not in LOCAL} | {
    name: getattr(lib, f'IBLB_{name}') for name in ('SERVICE_UP', 'SERVICE_DOWN', 'CLIENT_LOST', 'WORKER_RESTARTED')
}
STATUSES: dict[str, int] = {'CONNECTED': 0, 'INITIALIZED': 10, 'RUNNING': 20, 'STOPPED': 30}
DATAGRAM_BYTES = 65507  # the most that UDP over IPv4 carries; measured: one more is an error of the transport

_ENVELOPE_BYTES = 96  # event number, brackets, the link's padding
_WORTH_MEASURING = 16 << 10  # JSON text grows at most fourfold over msgpack or UTF-8 (é: 2 bytes, \\u00e9: 6)
_MAX_DEPTH = 48  # of a service's data; the C reader stops at 64
_MAX_ERROR = 300


class Refused(Exception):
    """A command that no service will hear of.

    Attributes
    ----------
    code : int
        What its response says, e.g. ``IBLB_E_ARGS``.
    """

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def message_number(message: str | int) -> int:
    """Return the number of a message given by name or number; unknown numbers are left to the C library to refuse.

    Raises
    ------
    ValueError
        The name is unknown.
    """
    if isinstance(message, int):
        return int(message)
    try:
        return MESSAGES[message.strip().upper()]
    except KeyError:
        raise ValueError(f'there is no message {message!r}; choose from {", ".join(MESSAGES)}') from None


def event_number(event: str | int) -> int:
    """Return the number of an event given by name or number.

    Raises
    ------
    ValueError
        The name is unknown.
    """
    if isinstance(event, int):
        return int(event)
    try:
        return EVENTS[event.strip().upper()]
    except KeyError:
        raise ValueError(f'there is no event {event!r}; choose from {", ".join(EVENTS)}') from None


# --- arguments -------------------------------------------------------------------------------------------------------


def _status(value: Any) -> int:
    if isinstance(value, str) and value.strip().upper() in STATUSES:
        return STATUSES[value.strip().upper()]
    if isinstance(value, int) and not isinstance(value, bool) and value in STATUSES.values():
        return value
    names = ', '.join(f'{number} {name}' for name, number in STATUSES.items())
    raise ValueError(f'status must be one of {names}, not {_shown(value)}')


def _exp_ref(value: Any) -> Any:
    if isinstance(value, dict):
        missing = {'date', 'sequence', 'subject'} - value.keys()
        if missing:
            raise ValueError(f'exp_ref lacks {", ".join(sorted(missing))}')
        if isinstance(value['sequence'], bool) or not str(value['sequence']).isdecimal():
            raise ValueError(f'the sequence of exp_ref must be a whole number, not {_shown(value["sequence"])}')
        return value
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError(f'exp_ref must be text like "2026-01-01_1_subject" or an object, not {_shown(value)}')


def _anything(value: Any) -> Any:
    return value


def _url(value: Any) -> Any:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ValueError(f'url must be text, not {_shown(value)}')


def _token(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    raise ValueError('token must be an object {user: token}')


_Check = Callable[[Any], Any]
_SIGNATURES: dict[str, tuple[int, tuple[tuple[str, _Check], ...]]] = {
    # message: how many arguments there must be, and all that there may be
    'EXPINIT': (0, (('data', _anything),)),
    'EXPSTART': (1, (('exp_ref', _exp_ref), ('data', _anything))),
    'EXPEND': (0, (('data', _anything),)),
    'EXPCLEANUP': (0, (('data', _anything),)),
    'EXPINTERRUPT': (0, (('data', _anything),)),
    'EXPSTATUS': (0, (('status', _status),)),
    'EXPINFO': (0, (('status', _status), ('data', _anything))),
    'ALYX': (0, (('url', _url), ('token', _token))),
    'PING': (0, ()),
    'SERVICES': (0, ()),
}


def signature(message: str) -> str:
    """Return a message's arguments as a person would write them, e.g. ``exp_ref, [data]``."""
    required, parameters = _SIGNATURES[message]
    return ', '.join(name if i < required else f'[{name}]' for i, (name, _) in enumerate(parameters)) or 'nothing'


def check_arguments(message: str, given: Any) -> tuple[Any, ...]:
    """Return the positional arguments of a message.

    Parameters
    ----------
    message : str
        A key of `MESSAGES`.
    given : object
        None for no arguments, a list of them, or any other value as the only one.

    Returns
    -------
    tuple
        Checked, with defaults filled in where the protocol needs a value.

    Raises
    ------
    Refused
        They do not fit (``IBLB_E_ARGS``).
    """
    args = [] if given is None else given if isinstance(given, list) else [given]
    required, parameters = _SIGNATURES[message]
    if not required <= len(args) <= len(parameters):
        sentence = f'{message} takes {signature(message)}, and {len(args)} arguments were given.'
        raise Refused(CODES['IBLB_E_ARGS'], sentence)
    try:
        checked = [check(value) for value, (_, check) in zip(args, parameters, strict=False)]
        if message in ('EXPSTATUS', 'EXPINFO') and not checked:
            checked = [STATUSES['CONNECTED']]
        if message == 'ALYX' and checked == [None]:
            checked = []
        if message == 'ALYX' and checked and (len(checked) != 2 or checked[0] is None):  # noqa: PLR2004
            raise ValueError('a token is sent with url and token, and asked for with neither')
    except ValueError as error:
        raise Refused(CODES['IBLB_E_ARGS'], f'{message} takes {signature(message)}: {error}.') from None
    return tuple(checked)


def decode_arguments(message: int, raw: Any, is_json: bool, payload_bytes: int) -> tuple[str, tuple[Any, ...]]:
    """Return name and arguments of a command, from its number and the second object of its payload.

    Parameters
    ----------
    message : int
        The number.
    raw : object
        The unpacked object; JSON text if `is_json`.
    is_json : bool
        Whether `raw` is text to be parsed.
    payload_bytes : int
        Size of the payload: small ones are not measured again.

    Raises
    ------
    Refused
        ``IBLB_E_MESSAGE``, ``IBLB_E_JSON``, ``IBLB_E_ARGS`` or ``IBLB_E_TOO_LARGE``; never anything else.
    """
    name = MESSAGE_NAMES.get(message)
    if name is None:
        raise Refused(CODES['IBLB_E_MESSAGE'], f'{message} is no message.')
    if is_json:
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError) as error:  # the shim has checked the text; a number may still be too long
            raise Refused(CODES['IBLB_E_JSON'], f'The arguments of {name} cannot be read: {error}.') from None
    args = check_arguments(name, raw)
    if payload_bytes > _WORTH_MEASURING:
        size = len(json.dumps(args)) + _ENVELOPE_BYTES
        if size > DATAGRAM_BYTES:
            sentence = f'{name} takes {size} bytes as a datagram; {DATAGRAM_BYTES} is the most.'
            raise Refused(CODES['IBLB_E_TOO_LARGE'], sentence)
    return name, args


def choose_services(wanted: str, configured: Sequence[str]) -> list[str]:
    """Return the addressed services in configured order.

    Parameters
    ----------
    wanted : str
        Names separated by commas; empty for all.
    configured : sequence of str
        All names.

    Raises
    ------
    Refused
        One is not configured (``IBLB_E_SERVICE``).
    """
    if not wanted.strip():
        return list(configured)
    names = {name.strip() for name in wanted.split(',')}
    if unknown := names.difference(configured):
        have = ', '.join(configured) or 'none'
        raise Refused(CODES['IBLB_E_SERVICE'], f'There is no service {_shown(min(unknown))}; there are: {have}.')
    return [name for name in configured if name in names]


# --- the response ----------------------------------------------------------------------------------------------------


def service_entry(outcome: Outcome, message: str) -> dict[str, Any]:
    """Return one element of the response's ``services``: an outcome with the reply as the map that its message has."""
    return {
        'name': outcome.name,
        'ok': outcome.ok,
        'state': outcome.state,
        'error': outcome.error,
        'data': sayable(reply_data(message, outcome.reply)),
        'sent': outcome.sent,
        'echoed': outcome.echoed,
        'answered': outcome.answered,
    }


def reply_data(message: str, reply: Sequence[Any] | None) -> dict[str, Any]:
    """Return a reply (what followed the event number) as a map.

    Returns
    -------
    dict
        EXPINFO: status, info; EXPSTATUS: status; others: value (a list if there was more than one); empty if there
        was no reply.
    """
    if not reply:
        return {}
    if message == 'EXPINFO':
        return {'status': reply[0], 'info': reply[1] if len(reply) > 1 else None}
    if message == 'EXPSTATUS':
        return {'status': reply[0]}
    return {'value': reply[0] if len(reply) == 1 else list(reply)}


def sayable(value: Any, depth: int = 0) -> Any:  # noqa: PLR0911
    """Return a JSON value as msgpack and the C reader can carry it.

    A service may answer with anything JSON can say: numbers beyond 64 bits become floats, lone surrogates question
    marks, NaN and infinity None, and what is nested deeper than 48 becomes text.
    """
    if isinstance(value, str):
        return value.encode('utf-8', 'replace').decode()
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else _as_float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= _MAX_DEPTH:
        return '(nested too deeply)'
    if isinstance(value, Mapping):
        return {sayable(str(key)): sayable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [sayable(item, depth + 1) for item in value]
    return sayable(str(value))


def _as_float(value: int) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def response_body(
    *,
    request: int,
    command_id: str,
    message: str,
    code: int,
    error: str,
    services: list[dict[str, Any]],
    sent: int,
    accepted: int = 0,
    finished: int = 0,
    wall: datetime | None = None,
) -> dict[str, Any]:
    """Return the response body of iblbridge.h: every key, always of the same type.

    Parameters
    ----------
    request : int
        The number that send returned.
    command_id, message : str
        Key of the command in journals, name of the message.
    code : int
        The status that wait returns.
    error : str
        Empty, or one sentence.
    services : list of dict
        Made by `service_entry`, in configured order.
    sent, accepted, finished : int
        Stamps, ns of ``time.perf_counter_ns``, 0 for never.
    wall : datetime, optional
        When the command was accepted, with its offset.
    """
    return {
        'request': request,
        'command_id': command_id,
        'message': message,
        'code': code,
        'error': sayable(error),
        'services': services,
        'sent': sent,
        'accepted': accepted,
        'finished': finished,
        'wall': wall.isoformat(timespec='milliseconds') if wall else '',
    }


def pack_response(body: dict[str, Any], largest: int) -> tuple[int, bytes]:
    """Return status and msgpack of a response that takes at most `largest` bytes.

    If it would take more, the services' data are left out and each such service's ``error`` names the size; states
    and stamps stay whole.
    """
    packed: bytes = msgpack.packb(body)
    if len(packed) <= largest:
        return body['code'], packed
    services = []
    for entry in body['services']:
        size = len(msgpack.packb(entry['data']))
        note = f'{size} bytes of data are left out: the response was too large' if size > 1 else ''
        error = '; '.join(filter(None, (entry['error'][:_MAX_ERROR], note)))
        services.append({**entry, 'data': {}, 'error': error})
    code = body['code'] or CODES['IBLB_W_SHORTENED']
    shortened = {**body, 'code': code, 'error': body['error'][:_MAX_ERROR], 'services': services}
    packed = msgpack.packb(shortened)
    if len(packed) > largest:  # a ring of the least size, and very many services
        note = f"what {len(services)} services did takes {len(packed)} bytes; this segment's responses have {largest}"
        packed = msgpack.packb(
            {**shortened, 'services': [], 'error': '; '.join(filter(None, (shortened['error'], note)))}
        )
    return code, packed


def event_body(
    event: str, *, service: str = '', client: str = '', data: Sequence[Any] | None = None, time: int, wall: datetime
) -> dict[str, Any]:
    """Return the body of an event: every key, always of the same type; the C side adds ``sequence``.

    Parameters
    ----------
    event : str
        A key of `EVENTS`.
    service, client : str
        Whom it is about; empty if nobody.
    data : sequence, optional
        What followed the event number in the service's message.
    time : int
        ns of ``time.perf_counter_ns``.
    wall : datetime
        The same moment, with its offset.
    """
    return {
        'event': event,
        'service': service,
        'client': client,
        'data': sayable(reply_data(event, data)),
        'time': time,
        'wall': wall.isoformat(timespec='milliseconds'),
    }


def _shown(value: Any) -> str:
    """Return a value as the caller wrote it, cut if it is long."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f'{text[:57]}...'  # noqa: PLR2004
