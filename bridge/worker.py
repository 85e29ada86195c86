"""The worker: takes commands from the segment, has `Auxiliaries` carry them out, and writes back what each service did.

Two threads meet here. The one that calls `Worker.run` takes batches, decodes and refuses; the network thread of
`Auxiliaries` asks `accept` directly before a command's first datagram and, when its outcomes are there, writes the
response. Neither waits for the other.

A command is answered exactly once, whatever happens to it: each path below ends in `_answer`. What the worker does
besides, health, events, heartbeats and lost clients, is in `housekeeping`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bridge import core
from bridge.config import ClientLost, ServiceConfig
from bridge.errors import BridgeError, error_for
from bridge.housekeeping import Housekeeping
from bridge.journal import Journal, without_token
from bridge.messages import (
    LOCAL,
    MESSAGE_NAMES,
    Refused,
    choose_services,
    decode_arguments,
    pack_response,
    response_body,
    service_entry,
)
from bridge.native import CODES, error_text
from bridge.outcomes import NOT_SENT, Outcome
from bridge.segment import Command, Segment
from bridge.watch import Watch

if TYPE_CHECKING:
    from bridge.auxiliaries import Auxiliaries

log = logging.getLogger(__name__)

_LOOK = 5.0  # s: how often the loop comes up by itself to note health; what is due earlier shortens it
_SOON = 0.1  # s: how long that can be put off while commands come
_GRACE = 2.0  # s: what a clean stop leaves to commands whose answer is under way


class NotAccepted(Exception):
    """The segment did not give a command to us: it is too old, aborted, cancelled, or no longer ours."""

    def __init__(self, code: int) -> None:
        super().__init__(error_text(code))
        self.code = code


class Errand:
    """One command on its way, and when the worker accepted it."""

    def __init__(self, command: Command, segment: Segment) -> None:
        self.command = command
        self.name = MESSAGE_NAMES.get(command.message, str(command.message))
        self.args: tuple[Any, ...] = ()
        self.accepted = 0
        self.wall: datetime | None = None
        self._segment = segment

    @property
    def deadline(self) -> float:
        """float: the ``time.perf_counter`` at which its time to live ends."""
        return math.inf if self.command.ttl < 0 else (self.command.stamp + self.command.ttl) / 1e9

    def gate(self) -> None:
        """Make the command ours. To be called directly before its first datagram.

        Raises
        ------
        NotAccepted
            It must not be sent.
        """
        if code := self._segment.accept(self.command):
            raise NotAccepted(code)
        self.accepted = time.perf_counter_ns()
        self.wall = datetime.now().astimezone()


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
    on_client_lost : iterable of ClientLost
        What to send when a client dies without closing.
    notify : bool
        Send EXPCLEANUP to all services when `run` ends.
    journal : Journal, optional
        Where commands, outcomes and events are written down; closed by its owner.
    segment_options : dict, optional
        Sizes of a new segment, see `bridge.segment.Segment`.

    Attributes
    ----------
    path : pathlib.Path
        The segment's file.

    Raises
    ------
    bridge.errors.WorkerBusy
        Another worker serves the segment; the sentence names it.
    """

    def __init__(
        self,
        segment: str,
        services: Sequence[ServiceConfig] | Mapping[str, str] = (),
        *,
        timeout: float = 10.0,
        heartbeat: float = 0.0,
        on_client_lost: Iterable[ClientLost] = (),
        notify: bool = False,
        journal: Journal | None = None,
        segment_options: Mapping[str, int] | None = None,
    ) -> None:
        if isinstance(services, Mapping):
            services = [ServiceConfig(name, uri) for name, uri in services.items()]
        self._services = {service.name: service for service in services}
        self._optional = {service.name for service in services if service.optional}
        self._watch = Watch(self._services, heartbeat, on_client_lost)
        self._timeout, self._notify, self._journal = timeout, notify, journal
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._under_way: dict[Errand, Future[dict[str, Outcome]]] = {}
        self._held: deque[tuple[Command, int, bytes]] = deque()
        self._segment = Segment(segment, **(segment_options or {}))  # first: a busy segment must not cost a socket
        self._house = Housekeeping(self._segment, self._watch, journal, self._fail)
        try:
            self._auxiliaries = self._open_services()
            self._auxiliaries.on_event = self._house.heard
            self._segment.publish_services(self._services)
        except BaseException:
            self._segment.close()
            raise
        self.path: Path = self._segment.path
        if self._segment.replaced:
            log.warning('the segment was made anew: %s', self._segment.replaced)

    def _open_services(self) -> Auxiliaries:
        from bridge.auxiliaries import Auxiliaries  # imports iblutil, which takes a second

        timings = {name: service.timing(self._timeout) for name, service in self._services.items()}
        return Auxiliaries({name: service.uri for name, service in self._services.items()}, timings)

    # --- the loop ---

    def run(self) -> None:
        """Serve until `stop`. What is queued then is answered.

        Raises
        ------
        bridge.errors.Superseded
            Another worker has taken over the segment.
        """
        self._pass(0.0)
        if self._segment.epoch > 1:
            self._house.tell('WORKER_RESTARTED')  # after the first pass, which finds the clients
        ticked, put_off = 0.0, False
        while not self._stopping.is_set():
            took = self._pass(self._watch.pause(time.perf_counter_ns(), _SOON if put_off else _LOOK))
            # After a command the network thread needs the interpreter; what is not urgent gets it a little later.
            put_off = bool(took) and time.monotonic() < ticked + _SOON
            if not (put_off or self._failure):
                self._house.tick(self._auxiliaries)
                ticked = time.monotonic()
        self._finish()
        if self._failure:
            raise self._failure

    def _pass(self, timeout: float) -> int:
        try:
            _, commands = self._segment.take(timeout)
        except BridgeError as error:
            self._fail(error)
            return 0
        for command in commands:
            self._begin(command)
        for _ in range(len(self._held)):
            self._place(*self._held.popleft())
        return len(commands)

    def stop(self) -> None:
        """Ask `run` to end. From any thread or signal handler."""
        self._stopping.set()
        self._segment.ring()

    def _finish(self) -> None:
        """Answer everything: what is under way gets a moment to be answered by its services, the rest is aborted."""
        futures.wait([*self._under_way.values(), *self._house.under_way], timeout=_GRACE)
        if self._notify and not self._failure:
            futures.wait([self._house.send('EXPCLEANUP', self._auxiliaries, timeout=_GRACE)], timeout=_GRACE)
        self._auxiliaries.close()  # ends what is still under way, as aborted
        until = time.monotonic() + _GRACE
        while not self._failure and time.monotonic() < until and (self._pass(0.02) or self._held):
            pass
        if self._held:
            log.warning('%d responses could not be delivered: their clients do not read', len(self._held))

    def close(self, *, remove: bool = False) -> None:
        """Close the services' sockets and let go of the segment. Harmless twice.

        Parameters
        ----------
        remove : bool
            Delete the segment's file, and tell the clients that it is gone.
        """
        self._auxiliaries.close()
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

    def _begin(self, command: Command) -> None:
        errand = Errand(command, self._segment)
        try:
            try:
                if command.is_orphan:
                    raise Refused(CODES['IBLB_E_OUTCOME_UNKNOWN'], error_text(CODES['IBLB_E_OUTCOME_UNKNOWN']))
                name, errand.args = decode_arguments(
                    command.message, command.arguments, command.is_json, command.payload_bytes
                )
            finally:
                self._write_command(errand)
            chosen = choose_services(command.services, list(self._services))
            if name in LOCAL or not chosen:
                errand.gate()
                self._answer(errand, 0, '', self._local_entries(name, chosen))
                return
            if self._stopping.is_set():
                raise Refused(CODES['IBLB_E_ABORTED'], 'The worker was stopped before the command was sent.')
            future = self._auxiliaries.submit(
                name, *errand.args, services=chosen, gate=errand.gate, deadline=errand.deadline, quiet=True
            )
        except Refused as refusal:
            self._answer(errand, refusal.code, str(refusal))
        except Exception as error:
            self._not_carried_out(errand, error)
        else:
            self._under_way[errand] = future
            future.add_done_callback(lambda done: self._done(errand, done))

    def _done(self, errand: Errand, future: Future[dict[str, Outcome]]) -> None:
        """In the network thread, mostly: the outcomes are there."""
        try:
            outcomes = list(future.result().values())
            code, error = core.status_of(outcomes, self._optional)
            self._house.learn(outcomes, errand.name, errand.args[0] if errand.args else None)
            self._answer(errand, code, error, [service_entry(outcome, errand.name) for outcome in outcomes])
        except Exception as error:
            self._not_carried_out(errand, error)
        finally:
            self._under_way.pop(errand, None)

    def _not_carried_out(self, errand: Errand, error: Exception) -> None:
        """Answer a command that was not given to us, or at which we failed ourselves."""
        if isinstance(error, NotAccepted):
            self._not_accepted(errand, error.code)
            return
        log.error('%s failed', errand.name, exc_info=error)
        self._answer(errand, CODES['IBLB_E_INTERNAL'], f'The worker failed: {type(error).__name__}: {error}.')

    def _not_accepted(self, errand: Errand, code: int) -> None:
        if code in (CODES['IBLB_E_SUPERSEDED'], CODES['IBLB_E_SEGMENT']):
            self._fail(error_for(code))
        elif code == CODES['IBLB_E_CANCELLED']:
            self._write_outcome(errand, self._body(errand, code, error_text(code)))
        else:
            self._answer(errand, code, error_text(code))

    def _local_entries(self, name: str, chosen: Sequence[str]) -> list[dict[str, Any]]:
        if name != 'SERVICES':
            return []
        now = time.perf_counter_ns()
        return [
            {
                **service_entry(Outcome(service, ok=True, state=NOT_SENT), name),
                'data': {
                    'name': service,
                    'uri': self._services[service].uri,
                    **self._watch.health[service].describe(now),
                },
            }
            for service in chosen
        ]

    # --- the answer ---

    def _answer(self, errand: Errand, code: int, error: str, services: list[dict[str, Any]] | None = None) -> None:
        if code:
            level = logging.ERROR if code < 0 else logging.WARNING
            # What a service says of a failed callback may quote the token.
            told = error if errand.name != 'ALYX' else ''
            log.log(level, '%s %s: %d %s', self._key(errand), errand.name, code, told)
        body = self._body(errand, code, error, services)
        self._write_outcome(errand, body)
        self._place(errand.command, *pack_response(body, self._segment.largest_response))

    def _body(
        self, errand: Errand, code: int, error: str, services: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        return response_body(
            request=core.shown_request(errand.command.request),
            command_id=self._key(errand),
            message=errand.name,
            code=code,
            error=error,
            services=services or [],
            sent=errand.command.stamp,
            accepted=errand.accepted,
            finished=time.perf_counter_ns(),
            wall=errand.wall,
        )

    def _key(self, errand: Errand) -> str:
        return core.command_id(self._segment.id, errand.command.slot, errand.command.request)

    def _place(self, command: Command, code: int, packed: bytes) -> None:
        try:
            if not self._segment.respond(command, code, packed):
                self._held.append((command, code, packed))
        except BridgeError as error:
            self._fail(error)

    # --- the journal ---

    def _write_command(self, errand: Errand) -> None:
        if self._journal:
            args = errand.args if errand.name != 'ALYX' else ()  # a token
            services, sent = errand.command.services, errand.command.stamp
            key = self._key(errand)
            self._journal.write('command', command_id=key, message=errand.name, services=services, args=args, sent=sent)

    def _write_outcome(self, errand: Errand, body: dict[str, Any]) -> None:
        if self._journal:
            self._journal.write('outcome' if errand.command.wants_response else 'notification', **without_token(body))
