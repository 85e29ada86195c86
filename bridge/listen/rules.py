r"""The rules of a service, as functions of values; `desk` is the machine that follows them.

iblutil's masters (read in ``iblutil/io/net/app.py`` 1.20.0) know no message numbers. A master that has sent a command
waits a second for its echo, byte for byte, and closes for good at anything else. What it is told then it confirms by
an echo of its own. What it did not wait for it takes for a message, and echoes it: so a second echo of one command
comes back. Hence:

1. **Confirmations.** Every message of ours ends in a mark, blanks that are legal JSON, with a number in it. So what
   comes back is known for a confirmation, however late, however often, and although the worker before us had sent it:
   it can never be read as a command. No master ends a message like this.
2. **Echoes.** Anything else from a master is echoed at once, before anything else is said to it.
3. **Copies.** A network may double a datagram, and a master may repeat one whose echo it missed: see `what_is_it`. Our
   own worker, as a master, pads each command so that it differs from its last 128, and an echo too many does not harm
   it. A stock master does not pad, never repeats, and sends an echo too many back: a copy that comes before it has
   confirmed our reply is not echoed again. What comes soon after that may be meant, or a copy that was late: it is
   held for a moment. A master that says something else meanwhile did not wait for an echo.
4. **Errors** are never confirmed; the second character of their text is a 0, by which masters know them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from bridge import plain
from bridge.numbers import STATUSES
from bridge.sayable import sayable, sentence
from bridge.services.rules import (
    ALYX,
    CLEANUP,
    END,
    ERROR,
    INFO,
    INIT,
    INTERRUPT,
    LONGEST,
    MS,
    START,
    STATUS,
    event_name,
    read,
    reference,
    status_name,
)

__all__ = [
    'ALYX',
    'CLEANUP',
    'END',
    'ERROR',
    'INFO',
    'INIT',
    'INTERRUPT',
    'LONGEST',
    'MS',
    'START',
    'STATUS',
    'event_name',
    'read',
    'reference',
    'status_name',
]

QUESTIONS = frozenset((STATUS, INFO))
CONNECTED, INITIALIZED, RUNNING, STOPPED = (
    STATUSES[name] for name in ('CONNECTED', 'INITIALIZED', 'RUNNING', 'STOPPED')
)
USUAL: Mapping[int, int] = {
    INIT: INITIALIZED,
    START: RUNNING,
    END: STOPPED,
    INTERRUPT: STOPPED,
    CLEANUP: CONNECTED,
}
"""Mapping of int to int: the status that a service is in when it has done what was asked; others leave it alone."""

CONFIRM_WITHIN = 1000 * MS  # a stock master that does not confirm by then never will
BOUNCE = 500 * MS  # an echo too many comes back no later than this
HOLD = 100 * MS  # a master that does not wait for an echo has gone on by then; one that does waits 1 s
QUICK = 50 * MS  # nobody means the same thing twice within this
REMEMBERED_FOR = 30_000 * MS  # what was carried out is not carried out again if it comes again

_REFERENCE = re.compile(r'[0-9]{4}-[0-9]{2}-[0-9]{2}_[0-9]+_.+')
_BITS = 12
_END = b'\t]'
NUMBERS = 1 << _BITS


def stamped(message: Sequence[Any], number: int) -> bytes:
    r"""Return a message of ours as it goes over the wire, with the mark that numbers it (rule 1).

    Raises
    ------
    ValueError
        It does not fit into a datagram.

    Examples
    --------
    >>> stamped([32, 20], 4095)
    b'[32, 20\t\t\t\t\t\t\t\t\t\t\t\t\t]'
    """
    text = plain.dumps(list(message)).encode()[:-1]
    mark = bytes(9 if number >> bit & 1 else 32 for bit in range(_BITS))
    if len(text) + len(mark) + len(_END) > LONGEST:
        raise ValueError(f'the reply has {len(text)} bytes, but a datagram holds {LONGEST}: answer with less data')
    return text + mark + _END


def is_ours(datagram: bytes) -> bool:
    """Tell whether a datagram can only be the confirmation of a message of ours, or of the worker before us."""
    return datagram.endswith(_END)


def is_padded(datagram: bytes) -> bool:
    """Tell whether a datagram comes from a master that pads: one of ours."""
    return datagram.endswith(b' ')


class What(Enum):
    """What a datagram is that is byte-equal to an earlier one of the same master."""

    NEW = 'a command of its own'
    COPY = 'a copy: nothing is said'
    HELD = 'perhaps a copy: its master goes on if it is, and waits for an echo if it is not'
    REPEAT = 'a copy whose echo may be missed: it is echoed'
    ASKED_AGAIN = 'asked again: it is echoed, and the same reply said again'


def what_is_it(  # noqa: PLR0911
    datagram: bytes, event: int, *, settled: bool, done: bool, last: bool, arrived: int, echoed: int
) -> What:
    """Return what a datagram is that came before (rule 3).

    Parameters
    ----------
    datagram : bytes
        It.
    event : int
        Its message's number.
    settled : bool
        What came first was replied to, and the master has confirmed that, or never will.
    done : bool
        It was carried out.
    last : bool
        Nothing else was carried out since, and nothing else has become of the program.
    arrived, echoed : int
        How long ago what came first did, and how long ago it was last echoed, ns.
    """
    if is_padded(datagram):
        if settled and arrived >= BOUNCE and (last or event in QUESTIONS):
            return What.NEW if event in QUESTIONS else What.ASKED_AGAIN
        return What.REPEAT
    if not settled:
        return What.COPY if echoed < BOUNCE else What.REPEAT
    if not done or event in QUESTIONS:
        return What.COPY if echoed < QUICK and not done else What.NEW
    if last:
        return What.HELD if arrived < QUICK else What.ASKED_AGAIN
    return What.HELD if arrived < BOUNCE else What.NEW


def reply(  # noqa: PLR0911
    event: int, data: Mapping[str, Any], *, name: str, status: int, exp_ref: str | None, info: Mapping[str, Any]
) -> list[Any]:
    """Return what follows the event number in a reply, in the forms of iblrig's services.

    Parameters
    ----------
    event : int
        The message's number.
    data : mapping
        What the program answered.
    name : str
        The listener's.
    status : int
        What the program is in now.
    exp_ref : str or None
        The experiment.
    info : mapping
        What the program last said for EXPINFO.

    Examples
    --------
    >>> reply(START, {'frames': 0}, name='cameras', status=RUNNING, exp_ref='ref', info={})
    ['ref', {'frames': 0, 'status': 20}]
    """
    said = dict(data)
    if event == INIT:
        return [status, {**said, 'exp_ref': exp_ref}]
    if event == START:
        return [exp_ref, {**said, 'status': status}]
    if event == STATUS:
        return [status]
    if event == INFO:
        return [status, {'exp_ref': exp_ref, 'main_sync': False, 'name': name, **info, **said}]
    if event == ALYX:
        value = said.get('value')
        return value if isinstance(value, list) and len(value) == 2 else [said.get('url'), said.get('token') or {}]
    return [{**said, 'status': status}]


def wants_reply(event: int, data: Sequence[Any]) -> bool:
    """Tell whether a command is replied to: an ALYX that brings a token is not."""
    return event != ALYX or not (len(data) > 1 and data[0] and data[1])


def error(event: int, what: str) -> list[Any]:
    """Return the message that tells a master that a command failed."""
    return [ERROR, sentence(what), event]


def as_data(value: Any) -> dict[str, Any]:
    """Return what a program said as a map."""
    said = sayable(value)
    if said is None:
        return {}
    return said if isinstance(said, dict) else {'value': said}


def named_reference(event: int, data: Sequence[Any]) -> str | None:
    """Return the experiment that a command begins, None if it begins none or does not name it.

    iblrig names it to EXPINIT as ``exp_ref`` of a map, a text or a map of its own, and to EXPSTART as a text. Nothing
    else that it sends to EXPINIT is a text; so one that has the form of a reference is taken for one, too.

    Examples
    --------
    >>> named_reference(INIT, [{'exp_ref': {'date': '2026-01-01', 'sequence': 1, 'subject': 'KM_01'}}])
    '2026-01-01_1_KM_01'
    >>> named_reference(INIT, ['2026-01-01_1_KM_01']), named_reference(INIT, ['soon']), named_reference(END, [])
    ('2026-01-01_1_KM_01', None, None)
    """
    if event not in (INIT, START):
        return None
    if event == INIT and data and isinstance(data[0], str):
        return data[0] if _REFERENCE.fullmatch(data[0]) else None
    return reference(event, data) or None
