"""What the worker has to do by itself, and when: decisions only. The clock (ns) is passed in.

- A service's health changes with what it answers and with what it sends by itself. Going up or down is told once;
  falling silent (``unknown``) is no event, for silence is normal between commands.
- A heartbeat is due when nothing was heard of a service for its time, and not before the one before it has ended. Not
  soon behind a message that was neither echoed nor refused: a service that is only held up finds both, and two at once
  close a stock one.
- A client that ended without closing has time to come back. If no client of that name is attached then, what the
  configuration says is sent, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from bridge.config import ClientLost, ServiceConfig
from bridge.worker.health import Health

UNREAD_FOR = 10 * 10**9  # ns for which a service may be held up and go on all the same


class Watch:
    """Health of the services, heartbeats and lost clients.

    Parameters
    ----------
    services : mapping of str to ServiceConfig
        By name, in order.
    heartbeat : float
        Of services that have none of their own, s; 0: none.
    on_client_lost : iterable of ClientLost
        What to do about which client.

    Attributes
    ----------
    health : dict of str to Health
        By service name.
    """

    def __init__(
        self,
        services: Mapping[str, ServiceConfig],
        heartbeat: float = 0.0,
        on_client_lost: Iterable[ClientLost] = (),
    ) -> None:
        self.health = {name: Health() for name in services}
        self._beats = {
            name: int(beat * 1e9)
            for name, service in services.items()
            if not service.unsupported and (beat := heartbeat if service.heartbeat is None else service.heartbeat)
        }
        self._asked: dict[str, int] = {}
        self._asking: set[str] = set()
        self._told: dict[str, str] = {}
        self._rules = {rule.client: rule for rule in on_client_lost}
        self._lost: dict[str, int] = {}

    def turn(self, service: str, now: int) -> str:
        """Return ``SERVICE_UP`` or ``SERVICE_DOWN`` if a service has become that since the last call, else ""."""
        state = self.health[service].state(now)
        if state == 'unknown' or state == self._told.get(service):
            return ''
        self._told[service] = state
        return f'SERVICE_{state.upper()}'

    def up(self, now: int) -> int:
        """Return how many services are up."""
        return sum(health.state(now) == 'up' for health in self.health.values())

    def heartbeats(self, now: int) -> list[str]:
        """Return the services to be asked now; `beaten` has to follow for each."""
        due = [name for name in self._beats if name not in self._asking and self._beat_due(name) <= now]
        self._asking.update(due)
        self._asked.update(dict.fromkeys(due, now))
        return due

    def beaten(self, service: str) -> None:
        """Note that a heartbeat has ended, with whatever result."""
        self._asking.discard(service)

    def lost(self, client: str, now: int) -> None:
        """Note that a client ended without closing."""
        rule = self._rules.get(client)
        if rule is not None and rule.send != 'nothing':
            self._lost[client] = now + int(rule.after * 1e9)

    def due(self, now: int, is_attached: Callable[[str], bool]) -> list[ClientLost]:
        """Return the rules whose time has come; those of clients that are attached again are forgotten."""
        self._lost = {client: at for client, at in self._lost.items() if not is_attached(client)}
        due = [client for client, at in self._lost.items() if at <= now]
        for client in due:
            del self._lost[client]
        return [self._rules[client] for client in due]

    def pause(self, now: int, most: float) -> float:
        """Return in how many s there may be something to do, at most `most`."""
        times = [self._beat_due(name) for name in self._beats if name not in self._asking] + list(self._lost.values())
        return min(most, max((min(times, default=now + int(most * 1e9)) - now) / 1e9, 0.0))

    def _beat_due(self, name: str) -> int:
        health = self.health[name]
        due = max(health.heard, self._asked.get(name, 0)) + self._beats[name]
        return max(due, health.unread + UNREAD_FOR) if health.unread else due
