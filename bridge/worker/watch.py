"""What the worker has to do by itself, and when: decisions only. The clock (ns) is passed in.

- A service's health changes with what it answers and with what it sends by itself. Going up or down is told once;
  falling silent (``unknown``) is no event, for silence is normal between commands.
- A heartbeat is due when nothing was heard of a service for its time, and not before the one before it has ended. Not
  soon behind a message that was neither echoed nor refused: a service that is only held up finds both, and two at once
  close a stock one.
- The status of a service is asked for once at the beginning, and whenever it is up again after it was down, for what it
  said before tells nothing then; if so configured. Not while a command of the worker before us may still be answered: a
  service that says something and reads something else than its confirmation closes.
- A client that ended without closing has time to come back. If no client of that name is attached then, what the
  configuration says is sent, once. Until it leaves, `owed` has it: that is kept for the next worker, who takes it up
  with the time that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from bridge.config import ClientLost, ServiceConfig
from bridge.worker.health import Health

UNREAD_FOR = 10 * 10**9  # ns for which a service may be held up and go on all the same


class Watch:
    """Health of the services, questions, heartbeats and lost clients.

    Parameters
    ----------
    services : mapping of str to ServiceConfig
        By name, in order.
    heartbeat : float
        Of services that have none of their own, s; 0: none.
    on_client_lost : iterable of ClientLost
        What to do about which client.
    ask : bool
        Ask services that say nothing about it themselves what they do, at the beginning and when they come back.

    Attributes
    ----------
    health : dict of str to Health
        By service name.
    up : set of str
        The services that were up when each was last looked at: by `turn`, or with all by `look`.
    """

    def __init__(
        self,
        services: Mapping[str, ServiceConfig],
        heartbeat: float = 0.0,
        on_client_lost: Iterable[ClientLost] = (),
        ask: bool = False,
    ) -> None:
        self.health: dict[str, Health] = {}
        self._askable: list[str] = []
        self._questions: dict[str, int] = {}  # when to ask, ns
        self._asked: dict[str, int] = {}
        self._asking: set[str] = set()
        self._told: dict[str, str] = {}
        self.up: set[str] = set()
        self._rules: dict[str, ClientLost] = {}
        self._lost: dict[str, int] = {}  # when something is due, ns
        self._leaving: dict[str, int] = {}  # the same, of what is on its way
        self.change(services, {}, heartbeat, on_client_lost, ask)

    def change(
        self,
        services: Mapping[str, ServiceConfig],
        kept: Mapping[str, str],
        heartbeat: float = 0.0,
        on_client_lost: Iterable[ClientLost] = (),
        ask: bool = False,
    ) -> None:
        """Watch other services; while nobody else asks or tells anything.

        Parameters
        ----------
        services, heartbeat, on_client_lost, ask
            As of the constructor.
        kept : mapping of str to str
            What each service that stays was called before, by its name.
        """
        served = {name: service for name, service in services.items() if not service.unsupported}
        self._beats = {
            name: int(beat * 1e9)
            for name, service in served.items()
            if (beat := heartbeat if service.heartbeat is None else service.heartbeat)
        }
        before, askable = (
            set(self._askable),
            [name for name, service in served.items() if (ask if service.ask is None else service.ask)],
        )
        waiting = {name: self._questions[was] for name, was in kept.items() if was in self._questions}
        new = {name: 0 for name in askable if kept.get(name) not in before}
        self._questions = {name: at for name, at in (waiting | new).items() if name in askable}
        self._askable = askable
        self.health = {name: self.health[kept[name]] if name in kept else Health() for name in services}
        self._asked = {name: self._asked[was] for name, was in kept.items() if was in self._asked}
        self._asking &= {name for name, was in kept.items() if name == was}
        self._told = {name: self._told[name] for name, was in kept.items() if name == was and name in self._told}
        self.up = {name for name, was in kept.items() if was in self.up}
        self._change_rules({rule.client: rule for rule in on_client_lost})

    def _change_rules(self, rules: dict[str, ClientLost]) -> None:
        """Have what is due for lost clients follow other rules; a time that is shorter counts from the same moment."""
        died = {client: at - int(self._rules[client].after * 1e9) for client, at in self._lost.items()}
        self._leaving = {client: at for client, at in self._leaving.items() if client in rules}
        self._rules, self._lost = rules, {}
        for client, at in died.items():
            self.lost(client, at)

    def turn(self, service: str, now: int) -> str:
        """Return ``SERVICE_UP`` or ``SERVICE_DOWN`` if a service has become that since the last call, else ""."""
        state = self._look(service, now)
        if state == 'unknown' or state == self._told.get(service):
            return ''
        if state == 'up' and self._told.get(service) == 'down' and service in self._askable:
            self._questions[service] = now
        self._told[service] = state
        return f'SERVICE_{state.upper()}'

    def _look(self, service: str, now: int) -> str:
        state = self.health[service].state(now)
        if (state == 'up') != (service in self.up):
            (self.up.add if state == 'up' else self.up.discard)(service)
        return state

    def look(self, now: int) -> None:
        """Look at all services: who was not heard for long is not up any more."""
        for service in self.health:
            self._look(service, now)

    def is_question_due(self, service: str, now: int) -> bool:
        """Tell whether a service is to be asked now what it does."""
        return self._questions.get(service, now + 1) <= now

    def questions(self, now: int) -> list[str]:
        """Return the services to be asked now what they do, each once."""
        due = [name for name, at in list(self._questions.items()) if at <= now]
        for name in due:
            del self._questions[name]
        return due

    def expect(self, services: Iterable[str], until: int) -> None:
        """Note that services may still answer a command of the worker before us, until a time in ns."""
        for name in services:
            if name in self._questions:
                self._questions[name] = max(self._questions[name], until)

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

    def owed(self) -> dict[str, int]:
        """Return when clients died for whom something has still to be sent, ns by name."""
        due = self._leaving | self._lost
        return {client: at - int(self._rules[client].after * 1e9) for client, at in due.items()}

    def sends(self) -> dict[str, str]:
        """Return the message that is sent for each client, should it end without closing."""
        return {client: rule.send for client, rule in self._rules.items() if rule.send != 'nothing'}

    def afters(self) -> dict[str, float]:
        """Return how long each client for which something is sent has to come back, s."""
        return {client: float(rule.after) for client, rule in self._rules.items() if rule.send != 'nothing'}

    def after(self, client: str, now: int) -> float:
        """Return in how many s something is sent for a lost client; 0 if that is overdue."""
        return max(0.0, (self._lost.get(client, now) - now) / 1e9)

    def left(self, client: str) -> None:
        """Note that what was due for a client has left, or cannot leave."""
        self._leaving.pop(client, None)

    def due(self, now: int, is_attached: Callable[[str], bool]) -> list[ClientLost]:
        """Return the rules whose time has come; those of clients that are attached again are forgotten."""
        self._lost = {client: at for client, at in self._lost.items() if not is_attached(client)}
        due = [client for client, at in self._lost.items() if at <= now]
        for client in due:
            self._leaving[client] = self._lost.pop(client)
        return [self._rules[client] for client in due]

    def pause(self, now: int, most: float) -> float:
        """Return in how many s there may be something to do, at most `most`."""
        times = [self._beat_due(name) for name in self._beats if name not in self._asking]
        times += [*self._lost.values(), *list(self._questions.values())]
        return min(most, max((min(times, default=now + int(most * 1e9)) - now) / 1e9, 0.0))

    def _beat_due(self, name: str) -> int:
        health = self.health[name]
        due = max(health.heard, self._asked.get(name, 0)) + self._beats[name]
        return max(due, health.unread + UNREAD_FOR) if health.unread else due
