"""What a worker that is killed owes its masters, and what the next one is to do about it. Values only.

`waiting` is for who looks from outside, and may throw away what was kept: which masters would never hear what they wait
for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from bridge.listen import memory, rules
from bridge.listen.memory import LONGEST, Address

LATE = 10_000 * rules.MS  # a stock master waits no longer for an answer
KNOWN_FOR = 3600_000 * rules.MS  # a master that has not commanded for so long is told nothing
_SLEPT = 1000 * rules.MS  # that two clocks may differ by if the PC did not sleep


class Left(NamedTuple):
    """A command that the worker before us had echoed, or was about to, and whose answer had not left.

    Attributes
    ----------
    address : tuple of str and int
        The master.
    event : int
        The message's number.
    arrived : int
        ns.
    slot, number : int
        Where its program has it, -1 and 0 if that is not known.
    handed : bool
        A program may have it, for it was handed to one, or was about to be.
    ref : str
        The experiment that it begins; "" if it begins none.
    message : list or None
        What its master was about to be told, with the event number.
    datagram : bytes
        As it came, if it can still be carried out; else empty.
    """

    address: Address
    event: int
    arrived: int
    slot: int = -1
    number: int = 0
    handed: bool = False
    ref: str = ''
    message: list[Any] | None = None
    datagram: bytes = b''


def left(kept: Any) -> list[Left]:
    """Return the commands to which the worker before us owed an answer."""
    rows = kept.get('open') if isinstance(kept, dict) else None
    commands = []
    for row in rows if isinstance(rows, list) else ():
        match row:
            case [
                [str(host), int(port)],
                int(event),
                int(arrived),
                int(slot),
                int(number),
                bool(handed),
                str(ref),
                None | [int(), *_] as message,
                str(text),
            ] if event in rules.USUAL or event in (*rules.QUESTIONS, rules.ALYX):
                datagram = b'' if handed or message else text.encode('latin-1', 'replace')
                commands.append(Left((host, port), event, arrived, slot, number, handed, ref, message, datagram))
    return commands


def to_row(one: Left) -> list[Any]:
    """Return a command as `left` reads it; nothing that is long, and of an ALYX, that may bring a token, no text."""
    is_kept = one.event != rules.ALYX and len(str(one.message)) <= LONGEST
    is_begun = one.handed or one.message is not None
    datagram = b'' if is_begun or one.event == rules.ALYX or len(one.datagram) > LONGEST else one.datagram
    return [*one._replace(message=one.message if is_kept else None)[:-1], datagram.decode('latin-1')]


def to_brief_row(one: Left) -> list[Any]:
    """Return a command as `to_row` does, but only whose it is and how far it has come: it can only be told of."""
    return to_row(one._replace(ref='', message=None, datagram=b''))


def not_begun(commands: Sequence[Left], since: int, *, questions: bool) -> list[Left]:
    """Return the commands that can be carried out as if they had just come: all but what an interrupt would end.

    Parameters
    ----------
    commands : sequence of Left
        What is left.
    since : int
        What came earlier is too old, ns.
    questions : bool
        Of these the questions, or else all others.
    """
    can = [
        one for one in commands if one.datagram and one.arrived > since and (one.event in rules.QUESTIONS) == questions
    ]
    ended = max((one.arrived for one in can if one.event == rules.INTERRUPT), default=0)
    return [one for one in can if one.event == rules.INTERRUPT or one.arrived >= ended]


def answered(commands: Sequence[Left], address: Address, event: int, place: tuple[int, int]) -> Left:
    """Return the command that an answer is to; if none is known, what can be known by the answer alone.

    A worker that was killed while it handed a command over had not noted yet where its program has it.

    Parameters
    ----------
    commands : sequence of Left
        What is left.
    address : tuple of str and int
        Whom the answer is for.
    event : int
        The message's number.
    place : tuple of int
        Slot and number of the command.
    """
    same = [one for one in commands if one.handed and (one.address, one.event) == (address, event)]
    for wanted in place, (-1, 0):
        for one in same:
            if (one.slot, one.number) == wanted:
                return one
    return Left(address, event, 0, *place)


def has_slept(kept: Mapping[str, Any], now: int, wall: int) -> bool:
    """Tell whether the PC may have slept since that was kept, in which time one of the clocks stands; all in ns.

    Examples
    --------
    >>> has_slept({'clocks': [5, 2 * 10**9]}, 15, 2 * 10**9 + 10), has_slept({}, 15, 10)
    (False, True)
    >>> has_slept({'clocks': [5, 2 * 10**9]}, 15, 12 * 10**9)
    True
    """
    match kept.get('clocks'):
        case [int(before), int(wall_before)]:
            return abs((wall - wall_before) - (now - before)) > _SLEPT
    return True


class Waiting(NamedTuple):
    """A master that has still to hear something.

    Attributes
    ----------
    listener : str
        The name of the listener that it commanded.
    master : str
        Its address, such as 192.168.0.3:55123.
    message : str
        What it asked; "" if it is to hear that the program ended in the middle of its experiment.
    age : float
        s since it asked, or last commanded.
    """

    listener: str
    master: str
    message: str
    age: float


def waiting(kept: Mapping[str, Any], segment: str, now: int, served: Collection[str]) -> list[Waiting]:
    """Return which masters have still to hear something from the next worker.

    Parameters
    ----------
    kept : mapping
        What the worker has left beside the segment; whatever may stand there.
    segment : str
        The segment that it must belong to.
    now : int
        ns.
    served : collection of str
        The listeners that a living program serves.

    Examples
    --------
    >>> row = [['10.0.0.7', 5], 2, 10**9, -1, 0, False, '', None, '[2]']
    >>> cameras = {'status': 20, 'masters': [['10.0.0.8', 6, 0]], 'open': [row]}
    >>> kept = {'segment': '7', 'listeners': {'cameras': cameras}}
    >>> waiting(kept, '7', 3 * 10**9, ['cameras'])
    [Waiting(listener='cameras', master='10.0.0.7:5', message='EXPSTART', age=2.0)]
    >>> waiting(kept, '7', 20 * 10**9, [])
    [Waiting(listener='cameras', master='10.0.0.8:6', message='', age=20.0)]
    >>> waiting(kept, '7', 4000 * 10**9, []), waiting(kept, '8', 3 * 10**9, [])
    ([], [])
    """
    listeners = kept.get('listeners') if kept.get('segment') == segment else None
    found = []
    for name, one in listeners.items() if isinstance(listeners, dict) else ():
        found += [
            Waiting(name, _name(row.address), rules.event_name(row.event), (now - row.arrived) / 1e9)
            for row in left(one)
            if 0 <= now - row.arrived < LATE
        ]
        known = memory.found(one)
        if known.status == rules.RUNNING and name not in served:
            masters = known.masters.items()
            found += [
                Waiting(name, _name(who), '', (now - at) / 1e9) for who, at in masters if 0 <= now - at < KNOWN_FOR
            ]
    return found


def _name(address: Address) -> str:
    return f'{address[0]}:{address[1]}'


def sentence(one: Waiting) -> str:
    """Return what a master waits for.

    Examples
    --------
    >>> sentence(Waiting('cameras', '10.0.0.7:5', 'EXPSTART', 2.0))
    '10.0.0.7:5 has not heard what became of its EXPSTART to cameras'
    >>> sentence(Waiting('cameras', '10.0.0.7:5', '', 2.0))
    '10.0.0.7:5 has not heard that the program which served cameras ended while it was RUNNING'
    """
    if one.message:
        return f'{one.master} has not heard what became of its {one.message} to {one.listener}'
    return f'{one.master} has not heard that the program which served {one.listener} ended while it was RUNNING'
