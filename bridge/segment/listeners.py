"""What is known of a listener: where the worker is a service itself, who serves it, and what it is doing.

There are two ways to it. The worker says it in its answer to SERVICES: `describe` and `described`. Without asking
anybody it follows from three places: the segment's file has the names, and who serves them; what the worker keeps for
the next one has the rest, and may be some moments old: `found`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bridge.numbers import STATUS_NAMES
from bridge.segment.words import age as words_of
from bridge.segment.words import counted

ROLE, LISTENER, SERVICE = 'role', 'listener', 'service'
NOBODY = 'no program serves it: masters get an error'


class Listener(NamedTuple):
    """One listener.

    Attributes
    ----------
    name, uri : str
        As configured, with the port that it has; "" if the address is not known.
    client : str
        The program that serves it; "" for nobody.
    pid : int
        Its process, for people; 0: unknown.
    status : int
        As its program said last (``iblutil.io.net.base.ExpStatus``); -1: unknown.
    exp_ref : str
        The experiment; "" for none.
    masters : tuple of str
        Who has commanded in this experiment, such as 192.168.0.3:55123.
    age : float or None
        s since a master asked anything; None: never.
    refused : int
        Messages of strangers, who may not command.
    """

    name: str
    uri: str = ''
    client: str = ''
    pid: int = 0
    status: int = -1
    exp_ref: str = ''
    masters: tuple[str, ...] = ()
    age: float | None = None
    refused: int = 0


def describe(listener: Listener) -> dict[str, Any]:
    """Return what IBLB_SERVICES tells of a listener: what it tells of a service, and some more."""
    return {
        ROLE: LISTENER,
        'name': listener.name,
        'uri': listener.uri,
        'health': 'up' if listener.client else 'down',
        'age_ms': -1 if listener.age is None else int(listener.age * 1000),
        'rtt_us': 0,
        'status': listener.status if listener.client else -1,  # masters who ask get an error
        'exp_ref': listener.exp_ref,
        'last_error': '' if listener.client else NOBODY,
        'client': listener.client,
        'pid': listener.pid,
        'masters': list(listener.masters),
        'refused': listener.refused,
    }


def is_described(data: Mapping[str, Any]) -> bool:
    """Tell whether an entry's data of IBLB_SERVICES are a listener's; an older worker tells of services only."""
    return data.get(ROLE) == LISTENER


def described(data: Mapping[str, Any]) -> Listener:
    """Return the listener that `describe` told of."""
    return Listener(
        **{key: data[key] for key in ('name', 'uri', 'client', 'pid', 'status', 'exp_ref', 'refused') if key in data},
        masters=tuple(data.get('masters', ())),
        age=data['age_ms'] / 1000 if data.get('age_ms', -1) >= 0 else None,
    )


def found(
    names: Sequence[str],
    servers: Iterable[tuple[str, str, int]],
    kept: Mapping[str, Any],
    segment_id: int,
    now: float,
) -> list[Listener]:
    """Return the listeners of a segment that is looked at from outside.

    Parameters
    ----------
    names : sequence of str
        As the segment's file has them.
    servers : iterable of (str, str, int)
        Listener, client and process of each program that lives and serves.
    kept : mapping
        What the worker has left beside the segment; whatever may stand there.
    segment_id : int
        The segment that it must belong to.
    now : float
        ns.
    """
    by_name = {listener: (client, pid) for listener, client, pid in servers}
    known = kept.get('listeners') if kept.get('segment') == f'{segment_id:016x}' else {}
    return [
        Listener(name, **_from_kept(known.get(name) if isinstance(known, dict) else None, now))._replace(
            client=by_name.get(name, ('', 0))[0], pid=by_name.get(name, ('', 0))[1]
        )
        for name in names
    ]


def _from_kept(kept: Any, now: float) -> dict[str, Any]:
    """Return the fields that one listener's entry gives; of a damaged one those that can be read."""
    if not isinstance(kept, dict):
        return {}
    given: dict[str, Any] = {}
    host, port, masters, heard = kept.get('host'), kept.get('port'), kept.get('masters'), kept.get('heard')
    if isinstance(host, str) and type(port) is int:
        given['uri'] = f'udp://{host}:{port}'
    for field, kind in (('status', int), ('exp_ref', str), ('refused', int)):
        if type(kept.get(field)) is kind:
            given[field] = kept[field]
    rows = masters if isinstance(masters, list) else ()
    given['masters'] = tuple(f'{row[0]}:{row[1]}' for row in rows if isinstance(row, list) and len(row) > 1)
    if type(heard) is int and 0 < heard <= now:
        given['age'] = (now - heard) / 1e9
    return given


def sentence(listener: Listener) -> str:
    """Return a listener in one line.

    Examples
    --------
    >>> sentence(Listener('cameras', 'udp://127.0.0.1:11001'))
    'listening as cameras at udp://127.0.0.1:11001: no program serves it: masters get an error'
    >>> sentence(Listener('cameras', 'udp://:1', status=0, age=4.0))
    'listening as cameras at udp://:1: no program serves it: masters get an error; asked 4 s ago'
    >>> sentence(Listener('cameras', 'udp://:1', 'camera', 42, 20, '2026-01-01_1_mouse', ('192.168.0.3:5',), 4.0, 2))
    'listening as cameras at udp://:1: served by camera (process 42), RUNNING, 2026-01-01_1_mouse, 1 master, asked 4 s \
ago, 2 messages of strangers refused'
    """
    who, joint = NOBODY, '; '  # what was asked before is no part of what masters get now
    if listener.client:
        who, joint = f'served by {listener.client}' + (f' (process {listener.pid})' if listener.pid else ''), ', '
    status = STATUS_NAMES.get(listener.status, '') if listener.client else ''  # of nobody, no master is told one
    parts = [status, listener.exp_ref]
    parts += [counted(len(listener.masters), 'master') if listener.masters else '']
    parts += [f'asked {words_of(listener.age)} ago' if listener.age is not None else '']
    parts += [f'{counted(listener.refused, "message")} of strangers refused' if listener.refused else '']
    at = f' at {listener.uri}' if listener.uri else ''
    said = ', '.join(filter(None, parts))
    return f'listening as {listener.name}{at}: {joint.join(filter(None, (who, said)))}'


def finding(listener: Listener) -> str:
    """Return what is to be done about a listener, "" if all is well with it."""
    if listener.client:
        return ''
    at = f' at {listener.uri}' if listener.uri else ''
    return f'Nobody serves {listener.name}{at}, and masters get an error. Start the program that calls iblb_serve.'
