"""What is known of one thing: what it is, and since when. Values; the clock is passed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bridge.numbers import STATUS_NAMES, STATUSES
from bridge.segment.listeners import ROLE, SERVICE, Listener, describe
from bridge.segment.words import HEARD_WITHIN
from bridge.wall import wall
from bridge.web.told import text

RUNNING = STATUSES['RUNNING']
_EMPTY = {'health': 'unknown', 'age_ms': -1, 'rtt_us': 0, 'status': -1, 'exp_ref': '', 'last_error': ''}


class Moment(NamedTuple):
    """A moment: of ``time.monotonic`` (s), and what the clock on the wall says (s since 1970)."""

    at: float
    wall: float

    def text(self) -> str:
        """Return the latter as ISO 8601."""
        return wall(round(self.wall * 1e6) * 1000)


@dataclass
class Since:
    """What something is, and since when.

    Attributes
    ----------
    what : object
        None: it was not looked at yet.
    text : str
        Since when, ISO 8601.
    seen : bool
        That was seen; else it has been so for longer.
    at : float
        The same moment, ``time.monotonic``.
    """

    what: Any = None
    text: str = ''
    seen: bool = False
    at: float = 0.0

    def become(self, what: Any, now: Moment) -> bool:
        """Take it that it is something now; True if it was something else before."""
        if what == self.what:
            return False
        self.seen = self.what is not None
        self.what, self.text, self.at = what, now.text(), now.at
        return self.seen

    def shown(self, now: Moment) -> dict[str, Any]:
        """Return since when, as the page shows it."""
        return {'since': self.text, 'since_seen': self.seen, 'since_s': round(now.at - self.at, 1)}


@dataclass
class Service:
    """What is known of a service.

    Attributes
    ----------
    name : str
        As configured.
    data : dict
        With the keys of ``IBLB_SERVICES``.
    heard : float or None
        When it was last heard, ``time.monotonic``.
    since, status_since : Since
        Its health, and its status.
    failures : int
        Of its commands, since the page began.
    running : bool
        It said RUNNING when it last said anything. What the worker remembers of one that is down does not begin it.
    """

    name: str
    data: dict[str, Any] = field(default_factory=lambda: dict(_EMPTY))
    heard: float | None = None
    since: Since = field(default_factory=Since)
    status_since: Since = field(default_factory=Since)
    failures: int = 0
    running: bool = False

    @property
    def down(self) -> bool:
        """bool: its last command did not reach it."""
        return bool(self.data['health'] == 'down')

    def know(self, data: Mapping[str, Any], now: Moment) -> None:
        """Take over what the worker knows of it."""
        self.data |= {key: data[key] for key in ('uri', *_EMPTY) if key in data}
        age = data.get('age_ms', -1)
        self.heard = now.at - age / 1000 if isinstance(age, int) and age >= 0 else None
        if self.data['status'] != -1:
            self.running = self.data['status'] == RUNNING and (self.running or not self.down)

    def health(self, now: Moment) -> str:
        """Return ``up``, ``down``, or ``unknown``, as the worker would."""
        if self.down:
            return 'down'
        return 'up' if self.heard is not None and now.at - self.heard < HEARD_WITHIN else 'unknown'

    def shown(self, now: Moment, *, serving: bool) -> dict[str, Any]:
        """Return it as the page shows it: the keys of ``IBLB_SERVICES``, and some more."""
        health = self.health(now)
        return {
            ROLE: SERVICE,
            'name': text(self.name),
            'uri': '',
            **self.data,
            'last_error': text(self.data['last_error']),
            'exp_ref': text(self.data['exp_ref']),
            'health': health,
            'age_ms': -1 if self.heard is None else max(int((now.at - self.heard) * 1000), 0),
            'light': self._light(health) if serving else 'none',
            'status_name': STATUS_NAMES.get(self.data['status'], ''),
            'failures': self.failures,
            **self.since.shown(now),
            'status_since': self.status_since.text,
            'status_since_seen': self.status_since.seen,
        }

    def _light(self, health: str) -> str:
        if health == 'up':
            return 'yellow' if self.data['last_error'] else 'green'
        return 'red' if health == 'down' else 'yellow'


def listener(one: Listener) -> dict[str, Any]:
    """Return a listener as the page shows it: the keys of ``IBLB_SERVICES``, and some more."""
    said = {key: text(value) if isinstance(value, str) else value for key, value in describe(one).items()}
    return {**said, 'status_name': STATUS_NAMES.get(one.status, ''), 'light': 'green' if one.client else 'red'}
