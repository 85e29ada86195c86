"""How many services there are and how they do, in the words of all tools."""

from __future__ import annotations

from collections.abc import Sequence

HEARD_WITHIN = 30.0  # s: who was heard since is up


def services_sentence(services: Sequence[tuple[bool, float | None]]) -> str:
    """Return how services do, as one part of a sentence.

    Silence is no fault: between commands nobody is asked. So it says who is down, and of whom nothing was heard lately.

    Parameters
    ----------
    services : sequence of (bool, float or None)
        Of each whether it is down, and how long ago it was heard, s; None: never.

    Examples
    --------
    >>> services_sentence([(False, 38.2), (False, 40.1)])
    '2 services: 0 down, 2 not heard for 38 s'
    >>> services_sentence([(False, 1.0), (True, 300.0), (False, None)])
    '3 services: 1 down, 1 up, 1 never heard'
    >>> services_sentence([])
    'no services'
    """
    if not services:
        return 'no services'
    alive = [heard for down, heard in services if not down]
    silent = [heard for heard in alive if heard is not None and heard >= HEARD_WITHIN]
    counts = {
        'up': len([heard for heard in alive if heard is not None and heard < HEARD_WITHIN]),
        f'not heard for {age(min(silent))}' if silent else '': len(silent),
        'never heard': len([heard for heard in alive if heard is None]),
    }
    parts = [f'{len(services) - len(alive)} down', *(f'{count} {what}' for what, count in counts.items() if count)]
    return f'{counted(len(services), "service")}: {", ".join(parts)}'


def counted(number: int, what: str) -> str:
    """Return how many there are of something.

    Examples
    --------
    >>> counted(1, 'service'), counted(2, 'service')
    ('1 service', '2 services')
    """
    return f'{number} {what}{"s"[number == 1 :]}'


def is_tool(client: str) -> bool:
    """Tell whether a client's name is that of one of our tools, such as `top`, and of no program of the experiment.

    Examples
    --------
    >>> is_tool('iblb-top-4242'), is_tool('stimulus')
    (True, False)
    """
    return client.startswith('iblb-')


def asks_by_itself(client: str, message: str) -> bool:
    """Tell whether a command is a tool's own question to the worker, which nobody has typed: no news to a reader.

    Examples
    --------
    >>> asks_by_itself('iblb-top-4242', 'SERVICES'), asks_by_itself('iblb-page-4242', 'EXPINTERRUPT')
    (True, False)
    >>> asks_by_itself('iblb-send-4242', 'SERVICES'), asks_by_itself('stimulus', 'SERVICES')
    (False, False)
    """
    return message == 'SERVICES' and client.startswith(('iblb-top-', 'iblb-page-'))


def worker_sentence(pid: int) -> str:
    """Return how a worker ended that serves no more, as part of a sentence.

    Parameters
    ----------
    pid : int
        Its process, as the segment has it; 0: it stopped in order.
    """
    return f'worker {"gone" if pid else "stopped in order"}'


def age(seconds: float | None) -> str:
    """Return how long ago, for people.

    Examples
    --------
    >>> age(38.4), age(150), age(8000), age(None)
    ('38 s', '2 min', '2 h', '?')
    """
    if seconds is None:
        return '?'
    for unit, size in (('d', 86400), ('h', 3600), ('min', 60)):
        if seconds >= 2 * size:
            return f'{seconds / size:.0f} {unit}'
    return f'{seconds:.0f} s'
