"""What arrives: a command's message, its arguments, and whom it is for. Functions of values.

A command's payload is two msgpack objects: a str with the services' names, separated by commas (empty: all), and the
arguments, which are nil, msgpack of what JSON can say, or a str of JSON text (the command's flag tells). The signatures
are those of iblutil's ``Service`` class (``iblutil.io.net.base``, 1.20.0).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bridge.nearest import did_you_mean
from bridge.numbers import CODES, EVENTS, MESSAGE_NAMES, MESSAGES, STATUSES
from bridge.segment import references
from bridge.segment.references import shown

DATAGRAM_BYTES = 65507  # the most that UDP over IPv4 carries; measured: one more is an error of the transport

_ENVELOPE_BYTES = 96  # event number, brackets, the link's padding
_WORTH_MEASURING = 16 << 10  # JSON text grows at most fourfold over msgpack or UTF-8 (é: 2 bytes, \\u00e9: 6)


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
    TypeError
        It is neither; True is no 1.
    """
    if _is_number(message, 'a message'):
        return int(message)
    assert isinstance(message, str)
    try:
        return MESSAGES[message.strip().upper()]
    except KeyError:
        raise ValueError(f'there is no message {message!r}{_offer(message, MESSAGES)}') from None


def event_number(event: str | int) -> int:
    """Return the number of an event given by name or number.

    Raises
    ------
    ValueError
        The name is unknown.
    TypeError
        It is neither.
    """
    if _is_number(event, 'an event'):
        return int(event)
    assert isinstance(event, str)
    try:
        return EVENTS[event.strip().upper()]
    except KeyError:
        raise ValueError(f'there is no event {event!r}{_offer(event, EVENTS)}') from None


def _is_number(value: Any, what: str) -> bool:
    """Return whether something is given by number and not by name, for the library to look at."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError(f'{what} is a name or a number, not {value!r}')
    if isinstance(value, int) and not -(2**31) <= value < 2**31:
        raise ValueError(f'{value} is not {what}')
    return isinstance(value, int)


def _status(value: Any) -> int:
    if isinstance(value, str) and value.strip().upper() in STATUSES:
        return STATUSES[value.strip().upper()]
    if isinstance(value, int) and not isinstance(value, bool) and value in STATUSES.values():
        return value
    names = ', '.join(f'{number} {name}' for name, number in STATUSES.items())
    raise ValueError(f'status must be one of {names}, not {shown(value)}')


def _anything(value: Any) -> Any:
    return value


def _init_data(value: Any) -> Any:
    return references.check_within(value, may_lack=False)


def _info_data(value: Any) -> Any:
    return references.check_within(value, may_lack=True)


def _url(value: Any) -> Any:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ValueError(f'url must be text, not {shown(value)}')


def _token(value: Any) -> Any:
    if value is None or isinstance(value, dict):
        return value
    raise ValueError('token must be an object {user: token}')


def _alyx(url: Any = None, token: Any = None) -> list[Any]:
    """Return what an ALYX message says: a token and its url, or, to ask for one, the url or nothing."""
    if url is None and token is not None:
        raise ValueError('a token is sent with url and token, and asked for with the url or nothing')
    return [value for value in (url, token) if value]


_Check = Callable[[Any], Any]
_SIGNATURES: dict[str, tuple[int, tuple[tuple[str, _Check], ...]]] = {
    # message: how many arguments there must be, and all that there may be
    'EXPINIT': (0, (('data', _init_data),)),
    'EXPSTART': (1, (('exp_ref', references.check), ('data', _anything))),
    'EXPEND': (0, (('data', _anything),)),
    'EXPCLEANUP': (0, (('data', _anything),)),
    'EXPINTERRUPT': (0, (('data', _anything),)),
    'EXPSTATUS': (0, (('status', _status),)),
    'EXPINFO': (0, (('status', _status), ('data', _info_data))),
    'ALYX': (0, (('url', _url), ('token', _token))),
    'PING': (0, ()),
    'SERVICES': (0, ()),
}
_WITHOUT: dict[str, tuple[Any, ...]] = dict.fromkeys(('EXPSTATUS', 'EXPINFO'), (STATUSES['CONNECTED'],))
_ANY_REFERENCE: dict[str, tuple[_Check, ...]] = {  # the same for labs whose references have another form
    'EXPINIT': (_anything,),
    'EXPSTART': (references.check_any, _anything),
    'EXPINFO': (_status, _anything),
}


def signature(message: str) -> str:
    """Return a message's arguments as a person would write them, e.g. ``exp_ref, [data]``."""
    required, parameters = _SIGNATURES[message]
    return ', '.join(name if i < required else f'[{name}]' for i, (name, _) in enumerate(parameters)) or 'nothing'


def check_arguments(message: str, given: Any, any_reference: bool = False) -> tuple[Any, ...]:
    """Return the positional arguments of a message.

    Parameters
    ----------
    message : str
        A key of `bridge.numbers.MESSAGES`.
    given : object
        None for no arguments, a list of them, or any other value as the only one.
    any_reference : bool
        An experiment's reference may have any form.

    Returns
    -------
    tuple
        Checked, with defaults filled in where the protocol needs a value. Of ALYX ``(url, token)`` to send a token,
        ``(url,)`` or ``()`` to ask for one: a service may answer only if the url is its own.

    Raises
    ------
    Refused
        They do not fit (``IBLB_E_ARGS``).
    """
    args = [] if given is None else given if isinstance(given, list) else [given]
    required, parameters = _SIGNATURES[message]
    if not (args or required):
        return _WITHOUT.get(message, ())
    if not required <= len(args) <= len(parameters):
        sentence = f'{message} takes {signature(message)}, but was given {len(args)} argument{"s"[len(args) == 1 :]}.'
        raise Refused(CODES['IBLB_E_ARGS'], sentence)
    try:
        checks = [check for _, check in parameters]
        if any_reference:
            checks = list(_ANY_REFERENCE.get(message, checks))
        checked = [check(value) for value, check in zip(args, checks, strict=False)]
        if message == 'ALYX':
            checked = _alyx(*checked)
    except ValueError as error:
        raise Refused(CODES['IBLB_E_ARGS'], f'{message} takes {signature(message)}: {error}.') from None
    return tuple(checked)


def decode_arguments(
    message: int, raw: Any, is_json: bool, payload_bytes: int, any_reference: bool = False
) -> tuple[str, tuple[Any, ...]]:
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
    any_reference : bool
        An experiment's reference may have any form.

    Raises
    ------
    Refused
        ``IBLB_E_MESSAGE``, ``IBLB_E_JSON``, ``IBLB_E_ARGS`` or ``IBLB_E_TOO_LARGE``; never anything else.
    """
    name = MESSAGE_NAMES.get(message)
    if name is None:
        raise Refused(CODES['IBLB_E_MESSAGE'], f'{message} is no message.')
    if is_json:
        raw = read_json(name, raw)
    args = check_arguments(name, raw, any_reference)
    if payload_bytes > _WORTH_MEASURING:
        size = len(json.dumps(args)) + _ENVELOPE_BYTES
        if size > DATAGRAM_BYTES:
            sentence = f'{name} takes {size} bytes as a datagram; {DATAGRAM_BYTES} is the most.'
            raise Refused(CODES['IBLB_E_TOO_LARGE'], sentence)
    return name, args


def _finite(text: str) -> float:
    """Return a number; ValueError if it is beyond all that a computer has, which would become Infinity."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f'{text[:40]} is beyond the range of numbers')
    return value


_JSON = json.JSONDecoder(parse_float=_finite)  # json.loads would make one for each text


def read_json(name: str, text: Any) -> Any:
    """Return what the arguments of a message say that are JSON text.

    Raises
    ------
    Refused
        ``IBLB_E_JSON``; never anything else.
    """
    try:
        return _JSON.decode(text)
    except (ValueError, RecursionError) as error:  # the shim has checked the text; a number may still be too long
        raise Refused(CODES['IBLB_E_JSON'], f'The arguments of {name} cannot be read: {error}.') from None


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
    if not wanted or wanted.isspace():
        return list(configured)
    names = {name.strip() for name in wanted.split(',')}
    if unknown := names.difference(configured):
        name, have = min(unknown), ', '.join(configured) or 'none'
        offer = did_you_mean(name, configured) or ';'
        sentence = f'There is no service {shown(name)}{offer} {"T" if offer[-1] == "?" else "t"}here are: {have}.'
        raise Refused(CODES['IBLB_E_SERVICE'], sentence)
    return [name for name in configured if name in names]


def _offer(word: str, words: Iterable[str]) -> str:
    """Return the nearest word as the end of a sentence, or all of them."""
    return did_you_mean(word.strip(), words) or f'; choose from {", ".join(words)}'
