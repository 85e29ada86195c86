"""A command's way: from the segment to a carrier, and its answer back.

Two threads meet here. The worker's takes batches, decodes and refuses; the carrier's asks `accept` directly before a
command's first datagram and, when its outcomes are there, writes the response. Neither waits for the other. While the
carrier's sleeps, the one that takes a command begins it in its place (`bridge.loop`).

A command is answered exactly once, whatever happens to it: each path below ends in `_answer`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from bridge import discretion
from bridge.carrier import Command, Outcomes
from bridge.config import ServiceConfig
from bridge.errors import BridgeError, error_for
from bridge.numbers import CODES, LOCAL, MESSAGE_NAMES
from bridge.outcome import NOT_SENT, Outcome, status_of, to_entry
from bridge.segment import serving
from bridge.segment.library import error_text
from bridge.segment.listeners import ROLE, SERVICE, describe
from bridge.segment.payload import Refused, choose_services, decode_arguments, read_json
from bridge.segment.response import response_body, shown_request
from bridge.segment.served import RELOAD, Segment, Taken
from bridge.wall import wall
from bridge.worker.housekeeping import Housekeeping
from bridge.worker.notes import Notes
from bridge.worker.outbox import Outbox
from bridge.worker.programs import Programs
from bridge.worker.reloading import STOPPED, Verdict, Wanted
from bridge.worker.watch import Watch

if TYPE_CHECKING:
    from bridge.services.carrier import UdpCarrier

log = logging.getLogger(__name__)

_SAID = (serving.ANSWER, serving.TELL)  # of programs that serve: no commands


class NotAccepted(Exception):
    """The segment did not give a command to us: it is too old, aborted, cancelled, or no longer ours."""

    def __init__(self, code: int) -> None:
        super().__init__(error_text(code))
        self.code = code


class Commands:
    """Begins what was taken, and answers it.

    Parameters
    ----------
    segment : Segment
        Where commands come from, and answers go.
    watch, house, programs
        What is known of services and listeners, and what programs that serve have said.
    notes : Notes
        Writes down what somebody wants to know of.
    carrier : UdpCarrier
        Carries commands out.
    longest : callable
        Returns how long a service may take to answer, s.
    is_stopping : callable
        Tells whether nothing is begun any more but interrupts.
    reload : callable
        Called with a program's wish to have the files of services read again.
    fail : callable
        Called with the exception that says that this worker has to stop.

    Attributes
    ----------
    under_way : set of Taken
        What has been handed to the carrier, and is not answered yet.
    outbox : Outbox
        Answers that wait for room.
    """

    def __init__(
        self,
        segment: Segment,
        *,
        watch: Watch,
        house: Housekeeping,
        programs: Programs,
        notes: Notes,
        carrier: UdpCarrier,
        longest: Callable[[], float],
        is_stopping: Callable[[], bool],
        reload: Callable[[Wanted], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._segment, self._watch, self._house, self._programs = segment, watch, house, programs
        self._notes, self._carrier, self._longest, self._fail = notes, carrier, longest, fail
        self._is_stopping, self._reload = is_stopping, reload
        self.outbox = Outbox(segment.respond, segment.largest_response)
        self.under_way: set[Taken] = set()
        self._noted = False  # whether somebody wants to know of the batch that is begun
        self.change({}, any_reference=False)

    def change(self, services: Mapping[str, ServiceConfig], any_reference: bool) -> None:
        """Begin commands at other services from now on."""
        self._services, self._names, self._any_reference = services, tuple(services), any_reference
        self._optional = frozenset(service.name for service in services.values() if service.optional)

    # --- in the worker's loop ---

    def begin(self, batch: Iterable[Taken]) -> None:
        """Begin or answer what was taken."""
        self._noted = self._house.is_noted()  # once for all
        for taken in batch:
            self._begin(taken)

    def _begin(self, taken: Taken) -> None:
        if taken.message in _SAID:
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
                if self._noted:
                    self._notes.command(taken)
            chosen = choose_services(taken.services, self._names)
            if name in LOCAL or not chosen:
                self._gate(taken)
                code, error = (0, '') if name in LOCAL else status_of(())
                entries = self._entries(taken.services, chosen) if name == 'SERVICES' else []
                self._answer(taken, code, error, entries, noted=self._noted)
                return
            if self._is_stopping() and name != 'EXPINTERRUPT':
                raise Refused(CODES['IBLB_E_ABORTED'], 'The worker was stopped before the command was sent.')
            gate, told = partial(self._gate, taken), partial(self._done, taken, self._optional)
            command = Command(name, taken.args, names=tuple(chosen), gate=gate, deadline=taken.deadline, told=told)
            command.last, command.key = name == 'EXPINTERRUPT', taken.id
            self.under_way.add(taken)  # first: it may be over when it has been submitted
            self._carrier.carry(command)
        except Refused as refusal:
            self._answer(taken, refusal.code, str(refusal), noted=self._noted)
        except Exception as error:
            self.under_way.discard(taken)
            self._not_carried_out(taken, error)

    def _begin_reload(self, taken: Taken) -> None:
        taken.name = 'RELOAD'
        try:
            self._gate(taken)
            given = read_json(taken.name, taken.arguments) if taken.is_json else taken.arguments
        except Refused as refusal:
            self._answer(taken, refusal.code, str(refusal), noted=False)
            return
        except NotAccepted as error:
            self._not_carried_out(taken, error)
            return
        wanted = Wanted(self._notes.client_of(taken), taken, only_check=given == [True])
        if self._is_stopping():
            self.reloaded(taken, Verdict(refused=STOPPED))
        else:
            self._reload(wanted)

    def reloaded(self, taken: Taken, verdict: Verdict) -> None:
        """Tell a program what came of its wish to reload."""
        found = verdict.changes
        data = {**asdict(found), 'said': str(found)}
        entry = to_entry(Outcome('', ok=True), 'SERVICES') | {'data': data}
        code = CODES['IBLB_E_ABORTED' if verdict.refused == STOPPED else 'IBLB_E_ARGS'] if verdict.refused else 0
        self._answer(taken, code, verdict.refused and f'{verdict.refused}.', [entry], noted=False)

    def _expect_answers(self, taken: Taken) -> None:
        """Take it that services may still answer a command that the worker before us sent."""
        with contextlib.suppress(Refused):  # a service that is not configured any more
            chosen = choose_services(taken.services, self._names)
            self._watch.expect(chosen, time.perf_counter_ns() + int(self._longest() * 1e9))

    def _entries(self, asked: str, chosen: Sequence[str]) -> list[dict[str, Any]]:
        """Return what is known of services, and, if all are asked for, of the listeners."""
        now = time.perf_counter_ns()
        return [
            {
                **to_entry(
                    Outcome(service, ok=True, state=NOT_SENT, status=self._watch.health[service].status), 'SERVICES'
                ),
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
                **to_entry(Outcome(listener.name, ok=True, state=NOT_SENT, status=listener.status), 'SERVICES'),
                'data': describe(listener),
            }
            for listener in (self._programs.listeners(now) if not asked.strip() else ())
        ]

    def deliver(self) -> None:
        """Place what had no room before."""
        try:
            self.outbox.deliver()
        except BridgeError as error:
            self._fail(error)

    # --- in the network thread, mostly ---

    def _gate(self, taken: Taken) -> None:
        """Make a command ours, directly before its first datagram; NotAccepted if it must not be sent."""
        if code := self._segment.accept(taken):
            raise NotAccepted(code)
        taken.accepted = time.perf_counter_ns()
        taken.wall = time.time_ns()

    def _done(self, taken: Taken, optional: frozenset[str], found: Outcomes, fault: BaseException | None) -> None:
        """Answer a command whose outcomes are there."""
        try:
            if fault is not None:
                raise fault
            outcomes = list(found.values())
            code, error = status_of(outcomes, optional)
            entries = [to_entry(outcome, taken.name) for outcome in outcomes]
            self._answer(taken, code, error, entries, noted=self._house.is_noted())
        except Exception as error:
            self._not_carried_out(taken, error)
        finally:
            self.under_way.discard(taken)

    def _not_carried_out(self, taken: Taken, error: Exception) -> None:
        """Answer a command that was not given to us, or at which we failed ourselves."""
        noted = self._house.is_noted()
        if not isinstance(error, NotAccepted):
            trace = None if discretion.is_secret(taken.name) else error
            log.error('%s failed: %s', taken.name, discretion.error(taken.name, error), exc_info=trace)
            said = f'The worker failed: {type(error).__name__}: {error}.'
            self._answer(taken, CODES['IBLB_E_INTERNAL'], said, noted=noted)
        elif error.code in (CODES['IBLB_E_SUPERSEDED'], CODES['IBLB_E_SEGMENT']):
            self._fail(error_for(error.code))
        elif error.code != CODES['IBLB_E_CANCELLED']:
            self._answer(taken, error.code, str(error), noted=noted)
        elif noted:
            self._notes.outcome(taken, self._body(taken, error.code, str(error), []))

    # --- the answer ---

    def _answer(
        self, taken: Taken, code: int, error: str, services: Sequence[dict[str, Any]] = (), *, noted: bool
    ) -> None:
        private = taken.message == RELOAD  # of that it is told elsewhere
        if code and not private:
            level, key = logging.ERROR if code < 0 else logging.WARNING, self._notes.key_of(taken)
            log.log(level, '%s %s: %d %s', key, taken.name, code, discretion.error(taken.name, error))
        noted, wanted = noted and not private, taken.wants_response
        body = self._body(taken, code, error, services) if noted or wanted else {}
        if noted:  # before the program hears of it, and sends what comes after it
            self._notes.outcome(taken, body)
        try:
            if wanted:
                self.outbox.put(taken, body)
            else:
                self._segment.respond(taken, code, b'')  # is only counted, and always has room
        except BridgeError as failure:
            self._fail(failure)

    def _body(self, taken: Taken, code: int, error: str, services: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return response_body(
            request=shown_request(taken.request),
            command_id=self._notes.key_of(taken),
            message=taken.name,
            code=code,
            error=error,
            services=list(services),
            sent=taken.stamp,
            accepted=taken.accepted,
            finished=time.perf_counter_ns(),
            wall=wall(taken.wall) if taken.wall else '',
        )
