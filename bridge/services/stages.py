"""Which services of a command wait for which others. Values only.

A command goes to all its services at once, or in stages:

- ``concurrent=False``: a service is sent it when the one before it has answered.
- `after`, the configured order: a service gets EXPINIT and EXPSTART when those that it comes after have answered, and
  EXPEND before them. All other messages go to all at once.
- What begins something and failed at a service does not reach those that come after that one. What ends something
  does, whoever failed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from bridge.outcome import Reason
from bridge.services import rules

After = Mapping[str, Sequence[str]]
"""Which services a service comes after."""

_FORWARD = frozenset((rules.INIT, rules.START))
_STAGED = _FORWARD | {rules.END}


def waits(names: Sequence[str], event: int, after: After, *, concurrent: bool) -> dict[str, set[str]]:
    """Return who waits, and for whom.

    Parameters
    ----------
    names : sequence of str
        The services of a command, in the order in which it is to leave.
    event : int
        Its message's number.
    after : mapping of str to sequence of str
        The configured order, which is no circle.
    concurrent : bool
        As of `bridge.carrier.Command`.

    Examples
    --------
    >>> after = {'ephys': ['cameras']}
    >>> waits(['ephys', 'cameras'], rules.START, after, concurrent=True)
    {'ephys': {'cameras'}}
    >>> waits(['cameras', 'ephys'], rules.END, after, concurrent=True)
    {'cameras': {'ephys'}}
    >>> waits(['ephys', 'lamp', 'cameras'], rules.START, after, concurrent=False)
    {'ephys': {'cameras'}, 'lamp': {'ephys'}}
    """
    is_staged = bool(after) and event in _STAGED
    if concurrent:
        return _edges(names, event, after) if is_staged else {}
    ordered = _in_order(names, event, after) if is_staged else names
    return {name: {before} for before, name in itertools.pairwise(ordered)}


def _edges(names: Sequence[str], event: int, after: After) -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {}
    for name in names:
        for before in after.get(name, ()):
            if before in names:
                first, then = (name, before) if event == rules.END else (before, name)
                edges.setdefault(then, set()).add(first)
    return edges


def _in_order(names: Sequence[str], event: int, after: After) -> list[str]:
    """Return the names so that each comes after those that it is to come after."""
    ordered: list[str] = []

    def add(name: str) -> None:
        for before in after.get(name, ()):
            if before in names and before not in ordered:
                add(before)
        if name not in ordered:
            ordered.append(name)

    for name in names if event != rules.END else reversed(names):
        add(name)
    return ordered if event != rules.END else ordered[::-1]


def is_given_up(reason: Reason) -> bool:
    """Tell whether a command that ended like this at one service goes to none of those that wait."""
    return reason in (Reason.CLOSED, Reason.WITHDRAWN)


def why_not(event: int, before: str, reason: Reason, error: str, after: Sequence[str]) -> tuple[Reason, str] | None:
    """Return why a service is not sent a command any more, None if nothing is against it.

    Parameters
    ----------
    event : int
        The message's number.
    before : str
        A service that it has waited for.
    reason, error : Reason, str
        What the command came to there.
    after : sequence of str
        Those that it comes after by the configured order.
    """
    went_well = not reason or reason is Reason.STATUS
    if went_well or event not in _FORWARD or before not in after:
        return None
    if reason is Reason.ABORTED:
        return Reason.ABORTED, error
    return Reason.AFTER, f'not sent: {before}, which it comes after, did not do it'
