"""What goes out: the bodies of responses and events. Functions of values.

Every key is always there and always of the same type, as iblbridge.h and csrc/README.md list them. What a service says
was made sayable as it came in (`bridge.services.rules.read`). Our own sentences may quote what a program sent or a file
is called: half a surrogate pair in them becomes a question mark as they are packed.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from bridge import discretion
from bridge.numbers import CODES
from bridge.outcome import reply_data
from bridge.sayable import sayable

_MAX_ERROR = 300
_MOST_OF_AN_EVENT = 16 << 10  # bytes


@functools.lru_cache(256)
def _of_slot(segment_id: int, slot: int) -> str:
    return f'{segment_id:016x}-{slot:02d}-'


def command_id(segment_id: int, slot: int, request: int) -> str:
    """Return the key of a command in journals and logs: unique across segments, slots and claims.

    Examples
    --------
    >>> command_id(0xABC, 3, 17)
    '0000000000000abc-03-17'
    """
    return f'{_of_slot(segment_id, slot)}{request}'


def shown_request(request: int) -> int:
    """Return a request's 64-bit number as the client knows it: its lower 31 bits."""
    return request & 0x7FFFFFFF


class _Kept(threading.local):
    """A packer for each thread: to make one costs twice what a short response costs. It keeps what it packed last.

    It raises UnicodeEncodeError at half a surrogate pair: with a way out of that, each text would be copied first.
    """

    def __init__(self) -> None:
        self.pack = msgpack.Packer().pack


_kept = _Kept()


def pack(body: Any) -> bytes:
    """Return the msgpack of a body, or of a part of one."""
    return bytes(msgpack.packb(body, unicode_errors='replace'))


def _pack_whole(body: dict[str, Any]) -> bytes:
    if discretion.is_secret(body['message']):
        return pack(body)
    try:
        packed: bytes = _kept.pack(body)
    except UnicodeEncodeError:
        packed = pack(body)
    return packed


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
    wall: str = '',
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
        Made by `bridge.outcome.to_entry`, in configured order.
    sent, accepted, finished : int
        Stamps, ns of ``time.perf_counter_ns``, 0 for never.
    wall : str
        When the command was accepted, see `bridge.wall`; empty for never.
    """
    return {
        'request': request,
        'command_id': command_id,
        'message': message,
        'code': code,
        'error': error,
        'services': services,
        'sent': sent,
        'accepted': accepted,
        'finished': finished,
        'wall': wall,
    }


def _without_data(entry: dict[str, Any], size: int, why: str = 'the response was too large') -> dict[str, Any]:
    note = f'{size} bytes of data are left out: {why}'
    return {**entry, 'data': {}, 'error': '; '.join(filter(None, (entry['error'], note)))}


def _shortened(body: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a response with its sentences cut and the warning that says so; its entries may be replaced."""
    services = [{**entry, 'error': entry['error'][:_MAX_ERROR]} for entry in body['services']]
    code = body['code'] or CODES['IBLB_W_SHORTENED']
    return {**body, 'code': code, 'error': body['error'][:_MAX_ERROR], 'services': services}


def pack_response(body: dict[str, Any], largest: int) -> tuple[int, bytes]:
    """Return status and msgpack of a response that takes at most `largest` bytes.

    If it would take more, data are left out, the largest first, and each such service's ``error`` names the size: one
    that says very much costs the others nothing. States and stamps stay whole.
    """
    packed = _pack_whole(body)
    if len(packed) <= largest:
        return body['code'], packed
    shortened = _shortened(body)
    services = shortened['services']
    packed = pack(shortened)
    size = {i: len(pack(entry['data'])) for i, entry in enumerate(services)}
    excess = len(packed) - largest
    for i in sorted(size, key=size.__getitem__, reverse=True):
        if excess <= 0 or size[i] <= 1:
            break
        whole = services[i]
        services[i] = _without_data(whole, size[i])
        excess -= len(pack(whole)) - len(pack(services[i]))
    packed = pack(shortened)
    if len(packed) > largest:  # a ring of the least size, and very many services
        many = f'what {len(services)} services did takes {len(packed)} bytes'
        note = f'{many}, but a response in this segment holds {largest}'
        packed = pack({**shortened, 'services': [], 'error': '; '.join(filter(None, (shortened['error'], note)))})
    return shortened['code'], packed


def without_data(body: dict[str, Any], why: str) -> tuple[int, bytes]:
    """Return status and msgpack of a response whose services' data are left out; `why` stands in their errors."""
    shortened = _shortened(body)
    services = shortened['services']
    for i, entry in enumerate(services):
        if (size := len(pack(entry['data']))) > 1:
            services[i] = _without_data(entry, size, why)
    return shortened['code'], pack(shortened)


_TOLD = (
    'command_id', 'message', 'client', 'services', 'args', 'code', 'error', 'sent', 'accepted', 'finished',
    'service', 'master', 'ok', 'pid', 'health',
)  # fmt: skip


def command_event(kind: str, entry: Mapping[str, Any], *, time: int, wall: str) -> dict[str, Any]:
    """Return what those who watch are told of a command; what services replied is left to the journal.

    Parameters
    ----------
    kind : str
        ``command``, ``outcome`` or ``notification``, or of a listener ``asked``, ``replied`` or ``served``, as in the
        journal. ``progress``: what one service has just done, and what is known of it by now (``health``); ``tick``:
        nothing but that the worker goes on.
    entry : mapping
        What the journal would write, without anything secret.
    time : int
        ns of ``time.perf_counter_ns``.
    wall : str
        The same moment, see `bridge.wall`.
    """
    body: dict[str, Any] = {'event': 'COMMAND', 'kind': kind}
    for key in _TOLD:
        if key in entry:
            # Programs may send what msgpack cannot say.
            body[key] = sayable(entry[key]) if key == 'args' else entry[key]
    if isinstance(body.get('services'), list):
        keys = ('name', 'ok', 'state', 'reason', 'error', 'status', 'sent', 'echoed', 'answered')
        body['services'] = [{key: s[key] for key in keys if key in s} for s in body['services']]
    if 'health' in body:
        body['health'] = {k: v[:_MAX_ERROR] if k == 'last_error' else v for k, v in body['health'].items()}
    body |= {'time': time, 'wall': wall}
    cuts: tuple[dict[str, Any], ...] = (
        {},
        {'args': ['(left out)']},
        {'services': [] if isinstance(body.get('services'), list) else '(left out)'},
    )
    for cut in cuts:
        body |= {key: value for key, value in cut.items() if key in body}
        if len(pack(body)) <= _MOST_OF_AN_EVENT:
            return body
    return body | {key: body[key][:_MAX_ERROR] for key in ('error', 'client', 'message') if key in body}


def event_body(
    event: str, *, service: str = '', client: str = '', data: Sequence[Any] | None = None, time: int, wall: str
) -> dict[str, Any]:
    """Return the body of an event: every key, always of the same type; the C side adds ``sequence``.

    Parameters
    ----------
    event : str
        A key of `bridge.numbers.EVENTS`.
    service, client : str
        Whom it is about; empty if nobody.
    data : sequence, optional
        What followed the event number in the service's message.
    time : int
        ns of ``time.perf_counter_ns``.
    wall : str
        The same moment, see `bridge.wall`.
    """
    return {
        'event': event,
        'service': service,
        'client': client,
        'data': reply_data(event, data),
        'time': time,
        'wall': wall,
    }
