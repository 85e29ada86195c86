"""For which clients that died something has still to be sent: kept beside the segment until it leaves. Values only.

Times are those of the segment's clock, which goes on from worker to worker until the PC is started anew. So a new
worker waits for what is left of ``after_s``, and sends at once what is overdue. After a start of the PC the segment is
another one, and nothing of before is sent, as with commands: by then somebody may run another experiment. While the PC
sleeps the clock stands still on Linux, and the time that is left with it.

What would be sent for whom is kept, too: so who looks from outside knows what a client takes with it that dies while
there is no worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from bridge.segment.words import age

KIND = 'losses'
_LONGEST = 1e9  # s that may stand there
_EXACT = 10  # s, below which parts of them are told


class Owed(NamedTuple):
    """What has still to be sent to all services because a client died.

    Attributes
    ----------
    client : str
        Its name.
    send : str
        The message; "" if the worker that kept this did not say.
    age : float or None
        s since it died; None: nobody knows, for no worker has seen it.
    left : float or None
        s until it is due, 0 if it is; None: nobody knows.
    """

    client: str
    send: str
    age: float | None
    left: float | None = None


def to_keep(
    segment_id: int, owed: Mapping[str, int], sends: Mapping[str, str], afters: Mapping[str, float]
) -> dict[str, Any]:
    """Return what the next worker has to know.

    Parameters
    ----------
    segment_id : int
        The segment.
    owed : mapping of str to int
        When each client died, ns.
    sends : mapping of str to str
        The message that is sent for each client, should it die.
    afters : mapping of str to float
        How long each client has to come back, s.
    """
    return {'segment': f'{segment_id:016x}', 'lost': dict(owed), 'sends': dict(sends), 'after_s': dict(afters)}


def found(kept: Mapping[str, Any], segment_id: int) -> tuple[dict[str, int], list[str]]:
    """Return when clients died for whom something is still due, ns by name, and those for whom it is too late.

    Examples
    --------
    >>> kept = to_keep(7, {'stimulus': 5}, {'stimulus': 'EXPEND'}, {'stimulus': 60.0})
    >>> found(kept, 7), found(kept, 8), found({'lost': [1]}, 7)
    (({'stimulus': 5}, []), ({}, ['stimulus']), ({}, []))
    """
    lost = kept.get('lost')
    if not isinstance(lost, dict):
        return {}, []
    owed = {client: at for client, at in lost.items() if isinstance(client, str) and type(at) is int}
    return (owed, []) if kept.get('segment') == f'{segment_id:016x}' else ({}, list(owed))


def seen(kept: Mapping[str, Any], segment_id: int, here: Iterable[str], gone: Iterable[str], now: float) -> list[Owed]:
    """Return what has still to be sent, as one sees it from outside.

    Parameters
    ----------
    kept : mapping
        What the worker has left beside the segment; whatever may stand there.
    segment_id : int
        The segment that it must belong to.
    here, gone : iterable of str
        The clients that live, and those that died and whose slot no worker has freed.
    now : float
        ns.

    Examples
    --------
    >>> sends = {'stimulus': 'EXPEND', 'camera': 'EXPINTERRUPT'}
    >>> kept = to_keep(7, {'stimulus': 5}, sends, {'stimulus': 60.0, 'camera': 0.0})
    >>> stimulus, camera = seen(kept, 7, [], ['camera', 'other'], 2e9 + 5)
    >>> stimulus
    Owed(client='stimulus', send='EXPEND', age=2.0, left=58.0)
    >>> camera
    Owed(client='camera', send='EXPINTERRUPT', age=None, left=None)
    >>> seen(kept, 7, ['stimulus'], [], 9), seen(kept, 8, [], ['stimulus'], 9)
    ([], [])
    """
    lost, _ = found(kept, segment_id)
    sends, here = kept.get('sends'), set(here)
    known = sends if isinstance(sends, dict) and kept.get('segment') == f'{segment_id:016x}' else {}
    ages = {client: (now - at) / 1e9 if 0 <= at <= now else None for client, at in lost.items()}
    ages |= {client: None for client in gone if client in known and client not in ages}
    return [
        Owed(one, str(known.get(one, '')), since, _left(kept, one, since))
        for one, since in ages.items()
        if one not in here
    ]


def _left(kept: Mapping[str, Any], client: str, since: float | None) -> float | None:
    """Return in how many s something is due; None if that is not known, as an older worker did not keep it."""
    afters = kept.get('after_s')
    after = afters.get(client) if isinstance(afters, dict) else None
    if since is None or not isinstance(after, float) or not 0 <= after < _LONGEST:
        return None
    return max(0.0, after - since)


def sentence(owed: Owed) -> str:
    """Return what is owed and why.

    Examples
    --------
    >>> sentence(Owed('stimulus', 'EXPEND', 38.0))
    'stimulus ended without closing 38 s ago, and EXPEND has not gone to the services'
    >>> sentence(Owed('stimulus', '', None))
    'stimulus ended without closing, and what is to be sent then has not gone to the services'
    """
    return f'{_ended(owed)}, and {owed.send or "what is to be sent then"} has not gone to the services'


def intention(owed: Owed) -> str:
    """Return what a worker that lives does about it.

    Examples
    --------
    >>> intention(Owed('stimulus', 'EXPEND', 38.0))
    'stimulus ended without closing 38 s ago: EXPEND goes to all services once after_s is over, unless it comes back'
    >>> intention(Owed('stimulus', 'EXPEND', 38.0, 22.0))
    'stimulus ended without closing 38 s ago: EXPEND goes to all services in 22 s, unless it comes back'
    """
    return f'{_ended(owed)}: {owed.send or "what is to be sent then"} goes to all services {when(owed.left)}'


def when(left: float | None) -> str:
    """Return when something is sent that is due in so many s, as the end of a sentence.

    Examples
    --------
    >>> when(0.0), when(0.5), when(59.9), when(3600.0)
    ('at once', 'in 0.5 s, unless it comes back', 'in 60 s, unless it comes back', 'in 60 min, unless it comes back')
    """
    if left == 0:
        return 'at once'
    soon = 'once after_s is over' if left is None else f'in {left:.2g} s' if left < _EXACT else f'in {age(left)}'
    return f'{soon}, unless it comes back'


def _ended(owed: Owed) -> str:
    when = f' {age(owed.age)} ago' if owed.age is not None else ''
    return f'{owed.client} ended without closing{when}'
