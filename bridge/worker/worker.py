"""The worker: takes commands from the segment, has a carrier carry them out, and writes back what each service did.

Two threads meet here. The one that calls `Worker.run` takes batches, decodes and refuses; the carrier's asks `accept`
directly before a command's first datagram and, when its outcomes are there, writes the response. Neither waits for the
other. While the carrier's sleeps, the one that takes a command begins it in its place (`bridge.loop`).

A command is answered exactly once, whatever happens to it: each path below ends in `_answer`. What the worker does
besides, health, events, heartbeats and lost clients, is in `housekeeping`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import bridge
from bridge import discretion
from bridge.carrier import Command, Outcomes
from bridge.config import (
    ClientLost,
    ConfigError,
    ListenerConfig,
    RigConfig,
    ServiceConfig,
    check_addresses,
    check_listeners,
    check_order,
)
from bridge.errors import BridgeError, error_for
from bridge.journal import SCHEMA, Journal
from bridge.numbers import CODES, LOCAL, MESSAGE_NAMES
from bridge.outcome import NOT_SENT, Outcome, status_of, to_entry
from bridge.segment import kept, ports, serving
from bridge.segment.library import error_text
from bridge.segment.listeners import ROLE, SERVICE, describe
from bridge.segment.payload import Refused, choose_services, decode_arguments
from bridge.segment.response import command_id, response_body, shown_request
from bridge.segment.served import RELOAD, Segment, Taken
from bridge.wall import wall
from bridge.worker import losses, signals
from bridge.worker.housekeeping import Housekeeping
from bridge.worker.outbox import Outbox
from bridge.worker.programs import KIND as LISTENERS
from bridge.worker.programs import Programs
from bridge.worker.reloading import STOPPED, Reloading, Verdict, Wanted
from bridge.worker.watch import Watch

if TYPE_CHECKING:
    from bridge.services.carrier import UdpCarrier

log = logging.getLogger(__name__)

_LOOK = 5.0  # s: how often the loop comes up by itself to note health; what is due earlier shortens it
_SOON = 0.1  # s: how long that can be put off while commands come
_ANSWERED = 0.5  # s: how long a clean stop waits for the answer to a question of ours
_HELD = 0.05  # s: how long at most a pass waits for the journal
_GLANCE = 0.002  # s between two looks at it
_GRACE = 2.0  # s: what a clean stop leaves to services beyond their time, and to clients to fetch their answers


class NotAccepted(Exception):
    """The segment did not give a command to us: it is too old, aborted, cancelled, or no longer ours."""

    def __init__(self, code: int) -> None:
        super().__init__(error_text(code))
        self.code = code


class Worker:
    """Serves one segment until it is stopped.

    Parameters
    ----------
    segment : str
        Name of the segment, e.g. ``rig0``; made if there is none, adopted if its worker is gone.
    services : sequence of ServiceConfig, or mapping of str to str
        The rig's services, in order; a mapping gives name and URI.
    timeout : float
        How long a service may take to reply to one command if its configuration does not say, s.
    heartbeat : float
        Ask EXPSTATUS of a service that said nothing for this long and has no heartbeat of its own, s; 0: never.
    listeners : sequence of ListenerConfig
        Where the worker is a service itself, with a program behind it.
    on_client_lost : iterable of ClientLost
        What to send when a client ends without closing.
    any_reference : bool
        The reference of an experiment may have any form; else it is what iblrig's services can parse.
    ask : bool
        Ask EXPINFO of services whose configuration does not say, once at the start and whenever one is up again.
    notify : bool
        Send EXPCLEANUP to all services when `run` ends.
    journal : Journal, optional
        Where commands, outcomes and events are written down; closed by its owner.
    shared_addresses : bool
        Let several services be at one address; what listens there gets each command several times.
    reread : callable, optional
        Returns the configuration as it is in the files now, or raises ConfigError; without it `reload` changes nothing.
    segment_options : dict, optional
        Sizes of a new segment, see `bridge.segment.served.Segment`.

    Attributes
    ----------
    path : pathlib.Path
        The segment's file.

    Raises
    ------
    bridge.errors.WorkerBusy
        Another worker serves the segment; the sentence names it.
    ConfigError
        The order of the services cannot be kept, two of them are at one address, or one is at that of a listener.
    """

    def __init__(
        self,
        segment: str,
        services: Sequence[ServiceConfig] | Mapping[str, str] = (),
        *,
        timeout: float = 10.0,
        heartbeat: float = 0.0,
        listeners: Sequence[ListenerConfig] = (),
        on_client_lost: Iterable[ClientLost] = (),
        any_reference: bool = False,
        ask: bool = False,
        notify: bool = False,
        journal: Journal | None = None,
        shared_addresses: bool = False,
        reread: Callable[[], RigConfig] | None = None,
        segment_options: Mapping[str, int] | None = None,
    ) -> None:
        if isinstance(services, Mapping):
            services = [ServiceConfig(name, uri) for name, uri in services.items()]
        self._services = {service.name: service for service in services}
        check_order(self._services)
        if not shared_addresses:
            check_addresses(self._services)
        check_listeners(self._services, listeners)
        self._listening = {listener.name: (listener.host, listener.port) for listener in listeners}
        on_client_lost = list(on_client_lost)
        self._optional = frozenset(service.name for service in services if service.optional)
        self._watch = Watch(self._services, heartbeat, on_client_lost, ask)
        self._shared_addresses = shared_addresses
        self._timeout, self._notify, self._journal = timeout, notify, journal
        self._any_reference = any_reference
        self._reason = ''
        self._stopping = self._hurry = False  # plain: a signal handler sets them, and must not wait for a lock
        self._started = False
        self._former = 0.0  # s: how long a service that was removed may take to answer
        self._failure: BaseException | None = None
        self._under_way: set[Taken] = set()
        self._clients: dict[int, tuple[int, str]] = {}  # by slot: generation and name
        self._segment = Segment(segment, **(segment_options or {}))  # first: a busy segment must not cost a socket
        self._outbox = Outbox(self._segment.respond, self._segment.largest_response)
        self._keeper = kept.Keeper(self._segment.path)
        self._house = Housekeeping(
            self._segment, self._watch, journal, self._fail, self._optional, keep=self._keeper.keep
        )
        try:
            self._house.take_up(kept.load(self._segment.path, losses.KIND))
            self._carrier = self._open_services()
            try:
                self._programs = Programs(
                    self._segment,
                    listeners,
                    self._carrier.thread,
                    kept=kept.load(self._segment.path, LISTENERS),
                    keep=self._keeper.keep,
                    house=self._house,
                    fail=self._fail,
                )
                bound = [replace(one, port=self.ports[one.name]) for one in listeners]
                check_listeners(self._services, bound)
            except BaseException:
                self._carrier.close()
                raise
            listen = {listener.name: listener for listener in listeners}
            self._reloading = Reloading(
                RigConfig(self._services, heartbeat, tuple(on_client_lost), any_reference, ask, listen),
                reread,
                timeout=timeout,
                bound=bound,
                shared_addresses=shared_addresses,
                carrier=self._carrier,
                watch=self._watch,
                house=self._house,
                segment=self._segment,
                journal=journal,
                adopt=self._adopt,
                answer=self._reloaded,
                fail=self._fail,
            )
            self._segment.publish_services(self._services)
        except BaseException:
            self._segment.close()
            raise
        self.path: Path = self._segment.path
        if self._segment.replaced:
            log.warning('the segment was made anew: %s', self._segment.replaced)
        self._write_start(
            segment,
            heartbeat=heartbeat,
            on_client_lost=[asdict(rule) for rule in on_client_lost],
            ask=ask,
            listeners=[asdict(listener) | {'port': self.ports[listener.name]} for listener in listeners],
        )

    def __repr__(self) -> str:
        return f'<Worker of {self.path.name}: {", ".join(self._services) or "no services"}>'

    def _open_services(self) -> UdpCarrier:
        from bridge.services.carrier import UdpCarrier  # imports iblutil, which takes a second

        services = self._services.values()
        known = ports.load(self._segment.path)
        carrier = UdpCarrier(
            {service.name: service.uri for service in services},
            {service.name: service.timing(self._timeout) for service in services},
            {service.name: service.after for service in services if service.after},
            {name: port for name, port in known.items() if name in self._services},
            tells_first=True,
        )
        carrier.ended_by = 'the worker was stopped'
        carrier.on_event = self._house.heard
        carrier.on_outcome = self._house.learn
        carrier.on_opened = lambda: self._keeper.keep(ports.KIND, carrier.ports)
        carrier.opener.exclusive = not self._shared_addresses
        carrier.opener.listening = self._listening
        carrier.start()
        if carrier.opener.refused:
            carrier.close()
            raise ConfigError(f'services: {carrier.opener.refused}.')
        ports.save(self._segment.path, carrier.ports)
        return carrier

    # --- the loop ---

    @property
    def ports(self) -> dict[str, int]:
        """Dict of str to int: the port of each listener."""
        return self._programs.ports

    def run(self) -> None:
        """Serve until `stop`. What is queued then is answered.

        Raises
        ------
        bridge.errors.Superseded
            Another worker has taken over the segment.
        """
        self._carrier.lends = not signals.may_raise()
        with signals.rung_for(self._segment.ring):
            self._serve()
        if self._failure:
            raise self._failure

    def _serve(self) -> None:
        self._pass(0.0)
        self._programs.start()
        if self._segment.epoch > 1:
            self._house.tell('WORKER_RESTARTED')  # after the first pass, which finds the clients
        self._house.tell_all()
        ticked, put_off = 0.0, False
        while not self._stopping:
            self._reloading.go_on()
            took = self._pass(self._watch.pause(time.perf_counter_ns(), _SOON if put_off else _LOOK))
            # After a command the network thread needs the interpreter; what is not urgent gets it a little later.
            put_off = bool(took) and time.monotonic() < ticked + _SOON
            if not (put_off or self._failure):
                self._house.tick(self._carrier)
                ticked = time.monotonic()
        self._finish()

    def _pass(self, timeout: float) -> int:
        try:
            self._let_journal_catch_up()
            batch = self._segment.take_commands(timeout)
        except BridgeError as error:
            self._fail(error)
            return 0
        for taken in batch:
            self._begin(taken)
        self._deliver()
        return len(batch)

    def _let_journal_catch_up(self) -> None:
        """Take interrupts only for a moment, if more commands come than the journal's disk has taken by now."""
        if not self._journal or not self._journal.is_pressed():
            return
        until = time.monotonic() + _HELD
        while self._journal.is_pressed() and not self._failure and time.monotonic() < until:
            for taken in self._segment.take_interrupts(_GLANCE):
                self._begin(taken)
            self._deliver()

    def stop(self, reason: str = '') -> None:
        """Ask `run` to end when what is under way has been answered; asked again: at once.

        From any thread or signal handler.

        Parameters
        ----------
        reason : str
            What the journal says of it, such as SIGINT.
        """
        self._reason = self._reason or reason
        self._hurry = self._stopping
        self._stopping = True
        self._segment.ring()

    def _finish(self) -> None:
        """Answer everything: what is under way is answered by its services in their time, the rest is aborted."""
        self._reloading.stop()
        self._carrier.begin_nothing()
        self._programs.stop()
        self._wait_for(lambda: self._under_way or self._house.under_way or self._carrier.awaits_more(), self._longest())
        self._wait_for(lambda: not self._programs.is_quiet, _GRACE + max(self._programs.timeouts, default=0.0))
        self._wait_for(lambda: self._house.asking, _ANSWERED)  # an answer that is not confirmed closes the service
        if self._notify and not self._failure and not self._hurry:
            self._house.send('EXPCLEANUP', self._carrier)
            self._wait_for(lambda: self._house.under_way, self._longest())
        self._programs.close()
        self._carrier.close()  # ends what is still under way, as aborted
        until = time.monotonic() + _GRACE
        while not self._failure and time.monotonic() < until and (self._pass(0.02) or len(self._outbox)):
            pass
        if len(self._outbox):
            log.warning('%d responses could not be delivered: their clients do not read them', len(self._outbox))

    def _longest(self) -> float:
        """Return how long a service may take to answer, s."""
        timings = [service.timing(self._timeout) for service in self._services.values() if not service.unsupported]
        return max([self._former, *(timing.timeout or self._timeout for timing in timings)]) + _GRACE

    def reload(self) -> None:
        """Have the files of services and settings read again; what comes of it is logged.

        From any thread or signal handler.
        """
        self._reloading.signal()

    def _adopt(self, rig: RigConfig) -> None:
        """Go on with other services; in the network thread, while ours waits."""
        self._former = self._longest() - _GRACE
        self._services, self._any_reference = rig.services, rig.any_reference
        self._optional = frozenset(service.name for service in rig.services.values() if service.optional)
        self._house.change(self._optional)
        self._programs.change(rig.listen.values())

    def _reloaded(self, taken: Taken, verdict: Verdict) -> None:
        """Tell a program what came of its wish to reload."""
        found = verdict.changes
        data = {**asdict(found), 'said': str(found)}
        entry = to_entry(Outcome('', ok=True), 'SERVICES') | {'data': data}
        code = CODES['IBLB_E_ABORTED' if verdict.refused == STOPPED else 'IBLB_E_ARGS'] if verdict.refused else 0
        self._answer(taken, code, verdict.refused and f'{verdict.refused}.', [entry])

    def _wait_for(self, busy: Callable[[], object], patience: float) -> None:
        """Go on passing what comes, which is refused but for interrupts, while something is under way."""
        until = time.monotonic() + patience
        while busy() and not self._failure and not self._hurry and time.monotonic() < until:
            self._pass(0.05)

    def close(self, *, remove: bool = False) -> None:
        """Close the services' sockets and let go of the segment. Harmless twice.

        Parameters
        ----------
        remove : bool
            Delete the segment's file, and tell the clients that it is gone.
        """
        self._programs.close()
        self._carrier.close()
        self._keeper.close()
        self._write_stop()
        if remove and self.path:
            kept.forget(self.path)
        self._segment.close(remove=remove)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fail(self, error: BaseException) -> None:
        """Nothing may be dispatched any more."""
        self._failure = self._failure or error
        self.stop()

    # --- a command's way ---

    def _begin(self, taken: Taken) -> None:
        if taken.message in (serving.ANSWER, serving.TELL):
            self._programs.take(taken)
            return
        taken.name = MESSAGE_NAMES.get(taken.message) or str(taken.message)
        if taken.message == RELOAD and not taken.is_orphan:
            self._begin_reload(taken)
            return
        try:
            try:
                if taken.is_orphan:
                    self._expect_answers(taken)
                    raise Refused(CODES['IBLB_E_OUTCOME_UNKNOWN'], error_text(CODES['IBLB_E_OUTCOME_UNKNOWN']))
                name, taken.args = decode_arguments(
                    taken.message, taken.arguments, taken.is_json, taken.payload_bytes, self._any_reference
                )
            finally:
                self._write_command(taken)
            chosen = choose_services(taken.services, list(self._services))
            if name in LOCAL or not chosen:
                self._gate(taken)
                code, error = (0, '') if name in LOCAL else status_of(())
                self._answer(taken, code, error, self._local_entries(name, taken.services, chosen))
                return
            if self._stopping and name != 'EXPINTERRUPT':
                raise Refused(CODES['IBLB_E_ABORTED'], 'The worker was stopped before the command was sent.')
            gate, told = partial(self._gate, taken), partial(self._done, taken, self._optional)
            command = Command(name, taken.args, names=tuple(chosen), gate=gate, deadline=taken.deadline, told=told)
            command.last, command.key = name == 'EXPINTERRUPT', taken.id
            self._under_way.add(taken)  # first: it may be over when it has been submitted
            self._carrier.carry(command)
        except Refused as refusal:
            self._answer(taken, refusal.code, str(refusal))
        except Exception as error:
            self._under_way.discard(taken)
            self._not_carried_out(taken, error)

    def _begin_reload(self, taken: Taken) -> None:
        taken.name = 'RELOAD'
        try:
            self._gate(taken)
        except NotAccepted as error:
            self._not_carried_out(taken, error)
            return
        given = json.loads(taken.arguments) if taken.is_json else taken.arguments
        wanted = Wanted(self._client(taken), taken, only_check=given == [True])
        if self._stopping:
            self._reloaded(taken, Verdict(refused=STOPPED))
        else:
            self._reloading.want(wanted)

    def _expect_answers(self, taken: Taken) -> None:
        """Take it that services may still answer a command that the worker before us sent."""
        with contextlib.suppress(Refused):  # a service that is not configured any more
            chosen = choose_services(taken.services, list(self._services))
            self._watch.expect(chosen, time.perf_counter_ns() + int(self._longest() * 1e9))

    def _gate(self, taken: Taken) -> None:
        """Make a command ours, directly before its first datagram; NotAccepted if it must not be sent."""
        if code := self._segment.accept(taken):
            raise NotAccepted(code)
        taken.accepted = time.perf_counter_ns()
        taken.wall = time.time_ns()

    def _done(self, taken: Taken, optional: frozenset[str], found: Outcomes, fault: BaseException | None) -> None:
        """In the network thread, mostly: the outcomes are there."""
        try:
            if fault is not None:
                raise fault
            outcomes = list(found.values())
            code, error = status_of(outcomes, optional)
            self._answer(taken, code, error, [to_entry(outcome, taken.name) for outcome in outcomes])
        except Exception as error:
            self._not_carried_out(taken, error)
        finally:
            self._under_way.discard(taken)

    def _not_carried_out(self, taken: Taken, error: Exception) -> None:
        """Answer a command that was not given to us, or at which we failed ourselves."""
        if isinstance(error, NotAccepted):
            self._not_accepted(taken, error.code)
            return
        trace = None if discretion.is_secret(taken.name) else error
        log.error('%s failed: %s', taken.name, discretion.error(taken.name, error), exc_info=trace)
        self._answer(taken, CODES['IBLB_E_INTERNAL'], f'The worker failed: {type(error).__name__}: {error}.')

    def _not_accepted(self, taken: Taken, code: int) -> None:
        if code in (CODES['IBLB_E_SUPERSEDED'], CODES['IBLB_E_SEGMENT']):
            self._fail(error_for(code))
        elif code == CODES['IBLB_E_CANCELLED']:
            if self._house.is_noted():
                self._write_outcome(taken, self._body(taken, code, error_text(code)))
        else:
            self._answer(taken, code, error_text(code))

    def _local_entries(self, name: str, asked: str, chosen: Sequence[str]) -> list[dict[str, Any]]:
        """Return what is known of services, and, if all are asked for, of the listeners."""
        if name != 'SERVICES':
            return []
        now = time.perf_counter_ns()
        return [
            {
                **to_entry(Outcome(service, ok=True, state=NOT_SENT, status=self._watch.health[service].status), name),
                'data': {
                    ROLE: SERVICE,
                    'name': service,
                    'uri': self._services[service].uri,
                    **self._watch.health[service].describe(now),
                },
            }
            for service in chosen
        ] + [
            {
                **to_entry(Outcome(listener.name, ok=True, state=NOT_SENT, status=listener.status), name),
                'data': describe(listener),
            }
            for listener in (self._programs.listeners(now) if not asked.strip() else ())
        ]

    # --- the answer ---

    def _answer(self, taken: Taken, code: int, error: str, services: list[dict[str, Any]] | None = None) -> None:
        private = taken.message == RELOAD  # of that it is told elsewhere
        if code and not private:
            level = logging.ERROR if code < 0 else logging.WARNING
            log.log(level, '%s %s: %d %s', self._key(taken), taken.name, code, discretion.error(taken.name, error))
        noted = self._house.is_noted() and not private
        body = self._body(taken, code, error, services) if noted or taken.wants_response else {}
        if noted:  # before the program hears of it, and sends what comes after it
            self._write_outcome(taken, body)
        try:
            if taken.wants_response:
                self._outbox.put(taken, body)
            else:
                self._segment.respond(taken, code, b'')  # is only counted, and always has room
        except BridgeError as failure:
            self._fail(failure)

    def _body(
        self, taken: Taken, code: int, error: str, services: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        return response_body(
            request=shown_request(taken.request),
            command_id=self._key(taken),
            message=taken.name,
            code=code,
            error=error,
            services=services or [],
            sent=taken.stamp,
            accepted=taken.accepted,
            finished=time.perf_counter_ns(),
            wall=wall(taken.wall) if taken.wall else '',
        )

    def _key(self, taken: Taken) -> str:
        taken.id = taken.id or command_id(self._segment.id, taken.slot, taken.request)
        return taken.id

    def _deliver(self) -> None:
        """Place what had no room before."""
        try:
            self._outbox.deliver()
        except BridgeError as error:
            self._fail(error)

    # --- what is noted ---

    def _write_start(self, segment: str, **settings: Any) -> None:
        if self._journal:
            settings |= {
                'timeout': self._timeout,
                'any_reference': self._any_reference,
                'notify': self._notify,
            }
            self._journal.write(
                'start',
                schema=SCHEMA,
                version=bridge.__version__,
                segment=segment,
                pid=os.getpid(),
                settings=settings,
                services=[asdict(service) for service in self._services.values()],
            )
            self._started = True

    def _write_stop(self) -> None:
        if self._journal and self._started:
            self._started = False
            self._journal.write('stop', reason=str(self._failure) if self._failure else self._reason)

    def _write_command(self, taken: Taken) -> None:
        if self._house.is_noted():
            taken.client = self._client(taken)
            said = {
                'command_id': self._key(taken),
                'message': taken.name,
                'client': taken.client,
                'services': taken.services,
                'args': taken.args,
                'sent': taken.stamp,
            }
            self._house.note('command', said)

    def _client(self, taken: Taken) -> str:
        """Return who sent a command; asked once for all that the present owner of a slot sends."""
        if taken.is_left:
            return ''
        generation, name = self._clients.get(taken.slot, (-1, ''))
        if generation != taken.generation or not name:
            name = self._segment.client_of(taken)
            self._clients[taken.slot] = taken.generation, name
        return name

    def _write_outcome(self, taken: Taken, body: dict[str, Any]) -> None:
        self._house.note('outcome' if taken.wants_response else 'notification', {**body, 'client': taken.client})
