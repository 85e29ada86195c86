"""What the worker does besides carrying out commands: health, events, heartbeats, lost clients.

What is due is decided in `watch`; here it is done. `Housekeeping.heard` and `Housekeeping.learn` are called by the
network thread, `tick` by the worker's loop. None of them waits for anything; only that a client was lost, and what is
sent for it, waits for the disk, for a moment. Each outcome is learned when it is there, not when that of the slowest
service is, so that they are learned in the order in which things happened.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bridge import discretion
from bridge.carrier import Command
from bridge.config import ClientLost
from bridge.errors import BridgeError
from bridge.journal import Journal
from bridge.journal.entry import command_line, outcome_line
from bridge.numbers import CODES, EVENTS, MESSAGE_NAMES
from bridge.outcome import Outcome, Reason, status_of, to_entry
from bridge.segment import losses
from bridge.segment.response import command_event, event_body, response_body
from bridge.segment.served import COMMANDS, Segment
from bridge.services import rules
from bridge.wall import wall
from bridge.worker.watch import Watch

if TYPE_CHECKING:
    from bridge.carrier import Carrier

log = logging.getLogger(__name__)

_EARLY_MOST = 100  # events that are kept until the clients are found
_KEPT = 0.05  # s: how long at most the disk has for what must be there, or forgotten, before something else is done


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
    keep : callable
        Has something kept for the next worker, see `bridge.segment.kept.Keeper.keep`.

    Attributes
    ----------
    under_way, asking : set of concurrent.futures.Future
        Commands, and questions, of our own that have no outcome yet; heartbeats are in neither.
    """

    def __init__(
        self,
        segment: Segment,
        watch: Watch,
        journal: Journal | None,
        fail: Callable[[BaseException], None],
        *,
        keep: Callable[[str, Mapping[str, Any], float], None] = lambda kind, what, within: None,
    ) -> None:
        self._keep, self._kept, self._keeping = keep, losses.to_keep(segment.id, {}, {}, {}), threading.Lock()
        self._segment, self._watch, self._journal, self._fail = segment, watch, journal, fail
        self.change(())
        self._numbers = itertools.count(1)
        self._early: list[tuple[int, dict[str, Any]]] | None = []  # events until the clients are found
        self._telling = threading.Lock()
        self.under_way: set[Future[dict[str, Outcome]]] = set()
        self.asking: set[Future[dict[str, Outcome]]] = set()

    def change(self, optional: Iterable[str]) -> None:
        """Look after the services that `watch` has by now, of which some are optional; while nobody else does."""
        self._optional = frozenset(optional)
        self._places = {service: place for place, service in enumerate(self._watch.health)}
        self._shown = dict[str, tuple[bool, int]]()  # what stands in the segment of each: down, and heard (s)

    def show(self) -> None:
        """Show in the segment how all services are, once their names stand there."""
        self._watch.look(time.perf_counter_ns())
        self._segment.publish_services_up(len(self._watch.up))
        self._shown.clear()  # with the names, what stood there is gone
        for service in self._places:
            self._show(service)

    def _show(self, service: str) -> None:
        """Show in the segment how a service is, if something else stands there: that has whole seconds only."""
        health = self._watch.health[service]
        shown = health.failed, health.heard // 10**9
        if self._shown.get(service) != shown:
            self._segment.publish_service_health(self._places[service], down=health.failed, heard=health.heard)
            self._shown[service] = shown

    # In the network thread

    def heard(self, service: str, event: int, data: list[Any]) -> None:
        """Take a message that a service sent by itself."""
        now = time.perf_counter_ns()
        name = MESSAGE_NAMES.get(event, '')
        self._watch.health[service].hear(name, data, now)
        self._turn(service, now)  # first: who is heard is up
        if name:
            self.tell(name, service=service, data=data)
        self._tell_progress(service)

    def learn(self, command: Command, outcome: Outcome) -> None:
        """Learn from what one service did with a command."""
        if command.yields and outcome.echoed:  # nobody is to be bothered by a question that it does not know
            outcome = replace(outcome, error='')
        asked = command.args[0] if command.args else None
        self._watch.health[outcome.name].note(outcome, command.message, asked)
        self._turn(outcome.name, time.perf_counter_ns())
        self._tell_progress(outcome.name, command, outcome)

    def _turn(self, service: str, now: int) -> None:
        """Tell the clients what has just become of a service, and how many are up."""
        watch = self._watch
        was_up = service in watch.up
        event, health = watch.turn(service, now), watch.health[service]
        if (service in watch.up) != was_up:
            self._segment.publish_services_up(len(watch.up))
        self._show(service)
        if event:
            error = health.error if event == 'SERVICE_DOWN' else ''
            level = logging.WARNING if event == 'SERVICE_DOWN' and service not in self._optional else logging.INFO
            log.log(level, '%s is %s%s', service, event.removeprefix('SERVICE_').lower(), error and f': {error}')
            self.tell(event, service=service, data=[error] if error else [])
        if lost := health.lost:
            health.lost = None
            says = ', '.join(filter(None, (rules.status_name(lost.status), health.exp_ref)))
            log.warning('%s has lost the experiment %s: now it says %s', service, lost.exp_ref, says)
            self.tell('EXPERIMENT_LOST', service=service, data=[lost._asdict()])
        if runs_on := health.runs_on:
            health.runs_on = ''
            log.warning('%s: %s', service, runs_on)
        if watch.is_question_due(service, now):
            self._segment.ring()  # the loop does what is due

    def _tell_progress(self, service: str, command: Command | None = None, outcome: Outcome | None = None) -> None:
        """Tell those who watch what is known of a service by now, and what it has just done with a command."""
        if not self._segment.is_wanted(COMMANDS):
            return
        known = self._watch.health[service].describe(time.perf_counter_ns())
        entry: dict[str, Any] = {'command_id': '', 'message': '', 'services': [], 'health': {'name': service, **known}}
        if command and outcome:
            done = to_entry(outcome, command.message)
            entry |= {'command_id': command.key, 'message': command.message, 'services': [done]}
        self._tell_watchers('progress', entry)

    # From any thread

    def is_noted(self) -> bool:
        """Tell whether anybody wants to know of commands."""
        return self._journal is not None or self._segment.is_wanted(COMMANDS)

    def note(self, kind: str, entry: dict[str, Any]) -> None:
        """Write what came to a listener, or became of that, into the journal, and tell those who watch."""
        if self._journal:
            self._journal.put(kind, entry)
        if self._segment.is_wanted(COMMANDS):
            self._tell_watchers(kind, entry)

    def note_command(self, said: dict[str, Any]) -> None:
        """Write a command into the journal, and tell those who watch."""
        if self._journal:
            self._journal.put_line(command_line, said)
        if self._segment.is_wanted(COMMANDS):
            self._tell_watchers('command', said)

    def note_outcome(self, kind: str, body: dict[str, Any], client: str) -> None:
        """Write what became of a command or notification (``kind``) into the journal, and tell those who watch."""
        if self._journal:
            self._journal.put_line(outcome_line, kind, body, client)
        if self._segment.is_wanted(COMMANDS):
            self._tell_watchers(kind, {**body, 'client': client})

    def _tell_watchers(self, kind: str, entry: dict[str, Any]) -> None:
        now = time.perf_counter_ns()
        try:
            self._segment.publish_command(command_event(kind, discretion.entry(entry), time=now, wall=wall()))
        except BridgeError as error:
            self._fail(error)

    def tell(self, event: str, *, service: str = '', client: str = '', data: Sequence[Any] = ()) -> None:
        """Give an event to the clients that want it, and to the journal."""
        body = event_body(
            event,
            service=service,
            client=client,
            data=data,
            time=time.perf_counter_ns(),
            wall=wall(),
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
        self.look_for_lost()
        now = time.perf_counter_ns()
        for rule in self._watch.due(now, self._segment.is_attached):
            self._send_for(rule, carrier)
        self.keep_losses()
        for service in self._watch.heartbeats(now):
            beat = carrier.submit(Command('EXPSTATUS', (0,), names=(service,), once=True))
            beat.add_done_callback(partial(self._beaten, service))
        for service in self._watch.questions(now):
            question = carrier.submit(Command('EXPINFO', (0,), names=(service,), once=True, yields=True))
            self.asking.add(question)
            question.add_done_callback(self.asking.discard)
        self._watch.look(now)
        self._segment.publish_services_up(len(self._watch.up))
        if self._segment.is_wanted(COMMANDS):
            self._tell_watchers('tick', {})  # its watchers see that this loop goes round

    def look_for_lost(self) -> None:
        """Say who has ended without closing, and what comes of it."""
        now = time.perf_counter_ns()
        for client in self._segment.lost_clients():
            self._watch.lost(client, now)
            log.warning('client %s ended without closing%s', client, self._consequence(client, now))
            self.tell('CLIENT_LOST', client=client)
            self.keep_losses(_KEPT)  # before its slot is free, and tells the worker after us nothing more

    def _consequence(self, client: str, now: int) -> str:
        """Return what is sent because a client was lost, and when, as the end of a sentence; "" for nothing."""
        send = self._watch.sends().get(client)
        if send is None or client not in self._watch.owed():
            return ''
        return f': {send} goes to all services {losses.when(self._watch.after(client, now))}'

    def leave(self) -> None:
        """Leave what has still to be sent for lost clients to the next worker, and say so."""
        self.look_for_lost()
        self.keep_losses()
        for client in self._watch.owed():
            send = self._watch.sends().get(client, 'what was to be sent')  # the rule may be another one by now
            log.warning('%s for client %s has not gone to the services: the next worker sends it', send, client)

    def _beaten(self, service: str, _: Future[dict[str, Outcome]]) -> None:
        self._watch.beaten(service)

    def _send_for(self, rule: ClientLost, carrier: Carrier) -> None:
        """Send what the configuration says for a client that is gone."""
        why = 'did not come back' if rule.after else 'ended without closing'
        log.warning('%s is sent to all services, because client %s %s', rule.send, rule.client, why)
        left = partial(self._has_left, rule.client)

        def over(future: Future[dict[str, Outcome]]) -> None:
            closed = future.exception() or any(one.reason is Reason.CLOSED for one in future.result().values())
            if not closed:  # else it is left to the next worker, unless it had left before
                left()

        self.send(rule.send, carrier, client=rule.client, gate=left).add_done_callback(over)

    def _has_left(self, client: str) -> None:
        """Forget what was due for a client: directly before the first datagram, so that it is not sent twice."""
        with self._keeping:
            self._watch.left(client)
            self._keep_losses(_KEPT)

    def keep_losses(self, within: float = 0.0) -> None:
        """Have the next worker know for whom something has still to be sent; waits `within` (s) for the disk."""
        with self._keeping:
            self._keep_losses(within)

    def _keep_losses(self, within: float) -> None:
        watch = self._watch
        known = losses.to_keep(self._segment.id, watch.owed(), watch.sends(), watch.afters())
        if known != self._kept:
            self._kept = known
            self._keep(losses.KIND, known, within)

    def take_up(self, found: Mapping[str, Any]) -> None:
        """Take up what the worker before us has left to be sent for lost clients."""
        owed, stale = losses.found(found, self._segment.id)
        for client, at in owed.items():
            now = time.perf_counter_ns()
            self._watch.lost(client, at)
            what = self._consequence(client, now) or ': no setting of this worker says that anything is sent for it'
            log.warning('client %s ended without closing in the time of another worker%s', client, what)
        for client in stale:
            log.warning('client %s was lost before this segment was made: nothing is sent for it any more', client)
        self._kept = dict(found) or self._kept

    def send(
        self,
        message: str,
        carrier: Carrier,
        *,
        client: str = '',
        timeout: float | None = None,
        gate: Callable[[], None] | None = None,
    ) -> Future[dict[str, Outcome]]:
        """Send a message of our own to all services, and write down what became of it."""
        key = f'{self._segment.id:016x}-worker-{next(self._numbers)}'
        sent, optional = time.perf_counter_ns(), self._optional
        said = {'command_id': key, 'message': message, 'client': client, 'services': '', 'args': [], 'sent': sent}
        self.note_command(said)

        def done(future: Future[dict[str, Outcome]]) -> None:
            fault = future.exception()
            outcomes = [] if fault else list(future.result().values())
            code, failed = status_of(outcomes, optional)
            if fault:
                code, failed = CODES['IBLB_E_INTERNAL'], f'{type(fault).__name__}: {fault}'
            if code:
                level = logging.ERROR if code < 0 else logging.WARNING
                log.log(level, '%s to all services: %d %s', message, code, failed)
            if self.is_noted():
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
                self.note_outcome('outcome', body, client)
            self.under_way.discard(future)

        command = Command(message, names=carrier.names, timeout=timeout, last=True, gate=gate, key=key)
        future = carrier.submit(command)
        self.under_way.add(future)
        future.add_done_callback(done)
        return future
