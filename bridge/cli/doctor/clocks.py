"""How far the clock of a service's computer is from this one's, if its reply to EXPINFO tells the time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

TELLS = 'wall'  # the key, as in our own responses: ISO 8601 with the offset of the zone
TOLERATED = 1.0  # s


def told(info: Any) -> float | None:
    """Return the time that the reply to EXPINFO tells, s since 1970; None if it tells none, or without its zone.

    Examples
    --------
    >>> told([0, {'wall': '1970-01-01T00:01:00.500+00:00'}])
    60.5
    """
    for part in info if isinstance(info, list) else ():
        if isinstance(part, dict) and isinstance(text := part.get(TELLS), str):
            try:
                moment = datetime.fromisoformat(text.replace('Z', '+00:00'))
            except ValueError:
                continue
            if moment.tzinfo is not None:
                return moment.timestamp()
    return None


def ahead(theirs: float, asked: float, answered: float) -> tuple[float, float]:
    """Return by how much a clock is ahead of ours, and how well that is known: both in s.

    Parameters
    ----------
    theirs : float
        What it said, s since 1970.
    asked, answered : float
        When, by our clock, s since 1970: it said so some time between the two.
    """
    return theirs - (asked + answered) / 2, (answered - asked) / 2


def sentence(offset: float, doubt: float) -> str:
    """Return what that means; "" if the two clocks are equal as far as one can tell."""
    if abs(offset) <= max(doubt, 0.001):
        return ''
    size = f'{abs(offset) * 1000:.0f} ms' if abs(offset) < 1 else f'{abs(offset):.1f} s'
    return f'its clock is {size} {"ahead of" if offset > 0 else "behind"} ours'
