"""What the worker does besides carrying out commands: health, events, heartbeats, lost clients.

What is due is decided in `watch`; here it is done. `Housekeeping.heard` and `Housekeeping.learn` are called by the
network thread, `tick` by the worker's loop. None of them waits for anything.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bridge import discretion
from bridge.carrier import Command
from bridge.config import ClientLost
from bridge.errors import BridgeError
from bridge.journal import Journal
from bridge.numbers import EVENTS, MESSAGE_NAMES
from bridge.outcome import Outcome, status_of, to_entry
from bridge.segment.response import event_body, response_body
from bridge.segment.served import Segment
from bridge.worker.watch import Watch

if TYPE_CHECKING:
    from bridge.carrier import Carrier

log = logging.getLogger(__name__)

_EARLY_MOST = 100  # events that are kept until the clients are found


class Housekeeping:
    """Everything that the worker says and does by itself.

    Parameters
    ----------
    segment : Segment
        Where events go.
    watch : Watch
        Decides.
    journal : Journal or None
        Where events and commands of our own are written down.
    fail : callable
        Called with the exception that says that this worker has to stop.
    optional : collection of str
        Services whose failure is only a warning.

    Attributes
    ----------
    under_way : set of concurrent.futures.Future
        Commands of our own, heartbeats not among them, that have no outcome yet.
    """

    def __init__(
        self,
        segment: Segment,
        watch: Watch,
        journal: Journal | None,
        fail: Callable[[BaseException], None],
        optional: Collection[str] = (),
    ) -> None:
        self._optional = optional
        self._segment, self._watch, self._journal, self._fail = segment, watch, journal, fail
        self._numbers = itertools.count(1)
        self._early: list[tuple[int, dict[str, Any]]] | None = []  # events until the clients are found
        self._telling = threading.Lock()
        self.under_way: set[Future[dict[str, Outcome]]] = set()

    # In the network thread

    def heard(self, service: str, event: int, data: list[Any]) -> None:
        """Take a message that a service sent by itself."""
        now = time.perf_counter_ns()
        name = MESSAGE_NAMES.get(event, '')
        self._watch.health[service].hear(name, data, now)
        self._turn([service], now)  # first: who is heard is up
        if name:
            self.tell(name, service=service, data=data)
        else:  # an error that answers no command
            sentence, about = data
            log.warning('%s reports an error: %s', service, discretion.error(about, str(sentence)))

    def learn(self, outcomes: Sequence[Outcome], message: str, asked: Any = None) -> None:
        """Learn from what services did with a command; `asked` is the command's first argument."""
        now = time.perf_counter_ns()
        for outcome in outcomes:
            self._watch.health[outcome.name].note(outcome, message, asked)
        self._turn([outcome.name for outcome in outcomes], now)

    def _turn(self, services: Sequence[str], now: int) -> None:
        """Tell the clients how many services are up, and of each of these if it has just gone up or down."""
        self._segment.publish_services_up(self._watch.up(now))
        for service in services:
            if event := self._watch.turn(service, now):
                error = self._watch.health[service].error if event == 'SERVICE_DOWN' else ''
                log.info('%s is %s%s', service, event.removeprefix('SERVICE_').lower(), error and f': {error}')
                self.tell(event, service=service, data=[error] if error else [])

    # From any thread

    def tell(self, event: str, *, service: str = '', client: str = '', data: Sequence[Any] = ()) -> None:
        """Give an event to the clients that want it, and to the journal."""
        body = event_body(
            event,
            service=service,
            client=client,
            data=data,
            time=time.perf_counter_ns(),
            wall=datetime.now().astimezone(),
        )
        if self._journal:
            self._journal.write('event', **body)
        with self._telling:
            if self._early is not None and event != 'WORKER_RESTARTED':
                self._early.append((EVENTS[event], body))
                del self._early[:-_EARLY_MOST]
                return
        self._publish(EVENTS[event], body)

    def tell_all(self) -> None:
        """Tell the events from before the clients were found, and from now on each at once."""
        with self._telling:
            early, self._early = self._early or [], None
        for number, body in early:
            self._publish(number, body)

    def _publish(self, number: int, body: dict[str, Any]) -> None:
        try:
            self._segment.publish_event(number, body)
        except BridgeError as error:
            self._fail(error)

    # In the worker's loop

    def tick(self, carrier: Carrier) -> None:
        """Do what is due."""
        now = time.perf_counter_ns()
        for client in self._segment.lost_clients():
            log.warning('client %s ended without closing', client)
            self.tell('CLIENT_LOST', client=client)
            self._watch.lost(client, now)
        for rule in self._watch.due(now, self._segment.is_attached):
            self._send_for(rule, carrier)
        for service in self._watch.heartbeats(now):
            self._ask(service, carrier)
        self._segment.publish_services_up(self._watch.up(now))

    def _ask(self, service: str, carrier: Carrier) -> None:
        """Send a heartbeat."""

        def done(future: Future[dict[str, Outcome]]) -> None:
            self._watch.beaten(service)
            if not future.exception():
                self.learn([future.result()[service]], 'EXPSTATUS')

        carrier.submit(Command('EXPSTATUS', (0,), names=(service,), once=True)).add_done_callback(done)

    def _send_for(self, rule: ClientLost, carrier: Carrier) -> None:
        """Send what the configuration says for a client that is gone."""
        log.warning('%s is sent to all services, as client %s did not come back', rule.send, rule.client)
        self.send(rule.send, carrier, client=rule.client)

    def send(
        self, message: str, carrier: Carrier, *, client: str = '', timeout: float | None = None
    ) -> Future[dict[str, Outcome]]:
        """Send a message of our own to all services, and write down what became of it."""
        key = f'{self._segment.id:016x}-worker-{next(self._numbers)}'
        sent = time.perf_counter_ns()
        if self._journal:
            self._journal.write(
                'command', command_id=key, message=message, services='', args=[], sent=sent, client=client
            )

        def done(future: Future[dict[str, Outcome]]) -> None:
            outcomes = [] if future.exception() else list(future.result().values())
            self.learn(outcomes, message)
            code, failed = status_of(outcomes, self._optional)
            if code < 0:
                log.error('%s to all services: %d %s', message, code, failed)
            if self._journal:
                body = response_body(
                    request=0,
                    command_id=key,
                    message=message,
                    code=code,
                    error=failed,
                    services=[to_entry(outcome, message) for outcome in outcomes],
                    sent=sent,
                    finished=time.perf_counter_ns(),
                )
                self._journal.write('outcome', **body)
            self.under_way.discard(future)

        future = carrier.submit(Command(message, names=carrier.names, timeout=timeout, last=True))
        self.under_way.add(future)
        future.add_done_callback(done)
        return future
