"""What one service did with one command, told as a plain value.

A command that goes to three services has three outcomes, never one: a dead camera PC says nothing about the ephys PC.
Each outcome climbs at most four steps, and stays on the last one that was *proved*:

    not_sent      no datagram left this computer
    unreachable   it left, nothing came back (or the other computer refused it)
    echoed        the service has it (iblutil's services echo what they receive) but no reply came, or its callback
    failed answered      the service replied

The step says what happened, ``ok`` whether that was what was asked for: a token that was pushed is fine once echoed,
everything else once answered.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NOT_SENT, UNREACHABLE, ECHOED, ANSWERED = STATES = ('not_sent', 'unreachable', 'echoed', 'answered')


class Aborted(RuntimeError):  # noqa: N818 (nothing went wrong)
    """A command was given up on purpose: an interrupt, a cleared queue, a close."""


# Until Python 3.10 asyncio has a TimeoutError of its own, and callers catch either; from 3.11 on the two are one class.
class NoAnswer(*dict.fromkeys((asyncio.TimeoutError, TimeoutError))):  # type: ignore[misc]
    """A service did not echo, or did not reply, in time."""


@dataclass
class Outcome:
    """What one service did with one command.

    Attributes
    ----------
    name : str
        The service's configured name.
    ok : bool
        True if the service did what was asked: it replied without an error, whatever event the reply bore.
    state : {'not_sent', 'unreachable', 'echoed', 'answered'}
        The furthest step that was proved.
    error : str
        Empty, or one sentence a person can act on.
    reply : list or None
        What followed the event number in the service's reply, as ``iblutil.io.net.app.Services`` would return it.
    event : int
        The event number the reply bore, 0 for none.
    sent, echoed, answered : int
        ``time.perf_counter_ns`` of the first datagram, of its echo and of the reply; 0 for never.
    aborted : bool
        It was given up on purpose (`Aborted`) before it could fail or succeed.
    refused : bool
        The service's computer said that nobody listens there.
    """

    name: str
    ok: bool = False
    state: str = NOT_SENT
    error: str = ''
    reply: list[Any] | None = None
    event: int = 0
    sent: int = 0
    echoed: int = 0
    answered: int = 0
    aborted: bool = False
    refused: bool = False


def state(sent: int, echoed: int, answered: int) -> str:
    """Return the furthest step proved by three time stamps (ns, 0 for never).

    Examples
    --------
    >>> state(0, 0, 0), state(1, 0, 0), state(1, 2, 0), state(1, 2, 3)
    ('not_sent', 'unreachable', 'echoed', 'answered')
    """
    return ANSWERED if answered else ECHOED if echoed else UNREACHABLE if sent else NOT_SENT


def replies(outcomes: Iterable[Outcome]) -> dict[str, list[Any] | None]:
    """Return the replies by service name, as iblutil's ``Services`` methods do."""
    return {outcome.name: outcome.reply for outcome in outcomes}


def failure(outcomes: Iterable[Outcome], causes: Mapping[str, BaseException]) -> BaseException | None:
    """Fold the failures of one command into the one exception that ``push`` returns.

    Parameters
    ----------
    outcomes : iterable of Outcome
        One for each addressed service.
    causes : mapping of str to BaseException
        What went wrong, by service name.

    Returns
    -------
    BaseException or None
        None if every service is ok. An only cause is returned as it stands; several of one type become one of that
        type, several of different types a RuntimeError; its message names each service with its reason.
    """
    failed = [outcome for outcome in outcomes if not outcome.ok]
    if not failed:
        return None
    found = [causes.get(outcome.name) or RuntimeError(outcome.error) for outcome in failed]
    if all(cause is found[0] for cause in found[1:]):
        # One failure, or one that is everybody's (arguments that do not fit): no need to say it once per service.
        return found[0]
    kinds = {type(cause) for cause in found}
    kind = kinds.pop() if len(kinds) == 1 else RuntimeError
    sentence = '; '.join(f'{outcome.name}: {outcome.error}' for outcome in failed)
    try:
        return kind(sentence)
    except Exception:  # exception types with a signature of their own
        return RuntimeError(sentence)
