"""Commands through a segment that a worker serves: the other side of `bridge.carrier.Carrier`.

Each command that is under way has a thread that waits for its response; commands are few, and the threads end with
them. The services, their addresses, order and time-outs are the worker's.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from bridge.aside import beside
from bridge.carrier import REVERSED, TIMEOUT, Command, Outcomes, ThreadedCarrier
from bridge.errors import BridgeError, NoWorker, OutcomeUnknown, error_for
from bridge.numbers import CODES, EVENTS, LOCAL, MESSAGES
from bridge.outcome import NOT_SENT, UNREACHABLE, Outcome, Reason, data_reply, from_entry
from bridge.results import seconds
from bridge.segment.client import Client
from bridge.segment.listeners import is_described
from bridge.segment.remote import Events, RemoteServices

log = logging.getLogger(__name__)

Encode = Callable[[str, Sequence[Any], dict[str, Any]], list[Any]]

_TTL = 10.0  # s, of what has no deadline: a worker that comes back later must not start the rig
_GRACE = 2.0  # s that a response may take on top of that
_SLICE = 0.5  # s: how often a waiting thread looks whether we were closed or a worker lives again
_SAID_BY_SERVICES = tuple(name for name in MESSAGES if name not in LOCAL)
_NOT_SENT, _UNKNOWN = CODES['IBLB_E_NOT_SENT'], CODES['IBLB_E_OUTCOME_UNKNOWN']
_WITHDRAWN = 'No worker serves the segment. The command was withdrawn; nothing was sent. Start the worker.'
_NO_RESPONSE = 'No response came, and it may have been sent. Ask the services with EXPSTATUS before you repeat it.'
_OTHER_SERVICES = ('SERVICES_CHANGED', 'WORKER_RESTARTED')  # the worker may have others now


class _UnderWay:
    """A command that the worker has, or is about to get."""

    def __init__(self, command: Command, whole: _UnderWay | None = None) -> None:
        self.command = command
        self.request: int | None = None
        self.whole = whole  # one that goes from service to service, which this is a part of
        self.part: _UnderWay | None = None  # of such a one: where it is
        self.outcomes: list[Outcome] = []  # of that, so far
        self.withdrawn = False
        self._adopted = threading.Lock()

    def adopt(self) -> bool:
        """Become the one who sees it through to its end; False if there is one."""
        return self._adopted.acquire(blocking=False)


class SegmentCarrier(ThreadedCarrier):
    """Carries commands through the worker of a segment.

    Parameters
    ----------
    segment : str
        e.g. ``rig0``.
    name : str
        Name of this client; default ``pid-<pid>-<n>-<random>``.
    timeout : float or None
        How long to wait for a worker, s; None: for ever.
    encode : callable
        Takes a message's name, args and kwargs, and returns the arguments as they go over the wire; raises if they do
        not fit.
    events : callable
        As of `bridge.segment.remote.RemoteServices`.

    Attributes
    ----------
    services : RemoteServices or None
        None if the worker has none.

    Raises
    ------
    bridge.errors.NoSegment, bridge.errors.NoWorker
        Nobody serves the segment.
    """

    def __init__(self, segment: str, name: str, timeout: float | None, encode: Encode, events: Events) -> None:
        super().__init__('segment')
        self._encode = encode
        self._client = Client(segment, name, timeout)
        try:
            # First: no change of the services is to come between what they are and what is heard.
            self._client.subscribe(*_SAID_BY_SERVICES, *_OTHER_SERVICES)
            self.names = self._ask(None if timeout is None else max(timeout, 1.0))
        except BaseException:
            self._client.close()
            raise
        self._remote = RemoteServices(self.names, lambda: self.is_connected, events)
        self.services = self._remote if self.names else None
        self.on_event: Callable[[str, int, list[Any]], None] | None = None
        self._plans: dict[Command, _UnderWay] = {}
        self._retracting = threading.RLock()
        self._ended = threading.Event()
        self._is_known = True  # which services the worker has by now
        self._is_forgotten = False

    @property
    def is_connected(self) -> bool:
        """bool: there is a worker that commands can be sent to."""
        try:
            return not self._ended.is_set() and self._client.worker_state().alive
        except BridgeError:
            return False

    # --- life ---

    async def open(self) -> None:
        """Listen to what services say by themselves."""
        threading.Thread(target=self._hear, name='events', daemon=True).start()

    def _end_unsent(self) -> None:
        for plan in tuple(self._plans.values()):
            self._end_if_unsent(plan)

    def _end_if_unsent(self, plan: _UnderWay) -> None:
        if not plan.command.last and self._retract(plan):
            plan.command.end(Reason.CLOSED, f'not sent: {self.ended_by}')

    def _is_busy(self) -> bool:
        return bool(self._plans)

    def shut(self) -> None:
        """Detach; what is under way is carried out, its answer discarded."""
        self._closing = True
        self._ended.set()
        if self._is_forgotten:  # nobody has said that all is well
            self._client.abandon()
        else:
            self._client.close()
        for plan in tuple(self._plans.values()):
            self._resolve(plan, self._cut_off(plan).values())

    def forget(self) -> None:
        """Detach as lost, for nobody has called `close`: whoever used this is forgotten. Does not wait."""
        if not self._closing:
            warnings.warn(f'{self._client!r} was never closed: call close()', ResourceWarning, stacklevel=2)
            self._closing = self._is_forgotten = True
            self.thread.ring(self._begin_stop, 0.0)

    def close_sockets(self) -> None:
        """Do nothing: the communicators are the worker's."""

    def _at_end(self, cause: BaseException) -> None:
        self.shut()
        self.created.set()

    # --- from any thread ---

    def submit(self, command: Command) -> Future[Outcomes]:
        """Send a command; returns at once.

        Its future gets a `bridge.errors.BridgeError` if there is no outcome by service: no worker, too old, refused.
        """
        self._begin(_UnderWay(command))
        return command.future

    def withdraw(self, command: Command) -> bool:
        """Take a command back; True if nothing of it was sent."""
        return self._take_back(self._plans.get(command), 'aborted: it was withdrawn')

    def clear(self) -> int:
        """Take back every command that the worker has not begun with; return how many."""
        wholes = [plan for plan in tuple(self._plans.values()) if plan.whole is None]
        return sum(self._take_back(plan, 'aborted: the message queue was cleared') for plan in wholes)

    # --- a command's way ---

    def _begin(self, plan: _UnderWay) -> None:
        """Hand a command to the worker, and have its response awaited."""
        command = plan.command
        if self._ended.is_set() or (self._closing and not command.last):
            command.end(Reason.CLOSED, f'not sent: {self.ended_by}')
            return
        try:
            arguments = self._encode(command.message, command.args, command.kwargs)
        except Exception as exc:
            command.misfit(exc)
            return
        if not (command.names or command.for_all):
            command.resolve({})
            return
        ttl = _TTL if command.deadline == math.inf else command.deadline - time.perf_counter()
        if ttl <= 0:
            command.end(Reason.EXPIRED, 'not sent: it was too old by the time that it could leave')
            return
        self._plans[command] = plan
        command.future.take_back = lambda: self._retract(plan)
        try:
            if not command.concurrent and len(command.names) > 1:
                self._accompany(plan, self._one_by_one, 'one-by-one')
                return
            self._hand_over(plan, arguments, ttl)
            if self._closing:  # `_end_unsent` may have looked before there was a request
                self._end_if_unsent(plan)
            self._accompany(plan, self._await, f'await-{plan.request}')
        except BaseException as exc:
            if plan.request is not None:  # what Ctrl-C came behind is on its way, and its response still to be told
                self._accompany(plan, self._await, f'await-{plan.request}')
            elif plan.adopt():
                self._resolve(plan, [], exc)
            if not isinstance(exc, Exception):  # Ctrl-C is for the caller
                raise

    def _hand_over(self, plan: _UnderWay, arguments: list[Any], ttl: float) -> None:
        """Write a command into shared memory."""
        command = plan.command
        if command.gate is not None:
            command.gate()
        named = None if command.for_all else command.names
        try:
            plan.request = self._client.send(command.message, *arguments, services=named, ttl=ttl)
        except BaseException as exc:
            plan.request = getattr(exc, 'request', 0) or None  # Ctrl-C may come behind it
            raise

    def _accompany(self, plan: _UnderWay, follow: Callable[[_UnderWay], None], name: str) -> None:
        """See a command through to its end, in a thread of its own; whatever happens there, the command has an end."""

        def run() -> None:
            if not plan.adopt():
                return
            try:
                follow(plan)
            except BaseException as exc:
                self._resolve(plan, [], exc)
                if not isinstance(exc, Exception):
                    raise
                log.exception('what becomes of %s could not be followed', plan.command.message)

        beside(run, name)  # at the exit of a program it waits here

    def _await(self, plan: _UnderWay) -> None:
        """Wait for a response."""
        command, request = plan.command, plan.request
        assert request is not None
        until = time.monotonic() + seconds(command.timeout, self._patience()) + _GRACE
        while command in self._plans:
            try:
                body = self._client.wait(request, _SLICE)
            except OutcomeUnknown as exc:
                if exc.response is None and time.monotonic() < until:
                    continue
                self._resolve(plan, [], self._given_up(request, exc))
            except NoWorker as exc:
                if time.monotonic() < until and not self._ended.wait(0.05):
                    continue
                if self._ended.is_set():
                    return  # `shut` resolves it
                self._resolve(plan, [], self._given_up(request, exc))
            except BridgeError as exc:
                if plan.withdrawn and exc.name in ('IBLB_E_CANCELLED', 'IBLB_E_REQUEST'):
                    return  # whoever took it back resolves it
                if exc.response and exc.response['services']:
                    self._resolve(plan, [from_entry(entry, command.message) for entry in exc.response['services']])
                elif self._ended.is_set():
                    return  # `shut` resolves it
                else:
                    self._resolve(plan, [], self._given_up(request, exc))
            else:
                outcomes = [from_entry(entry, command.message) for entry in body['services']]
                command.forgiven = body['code'] >= 0
                self._resolve(plan, outcomes)

    def _patience(self) -> float:
        return seconds(self._remote.timeout, TIMEOUT)

    def _given_up(self, request: int, error: BridgeError) -> BridgeError:
        """Have a command without a response not begun any more, by whatever worker; return what is to be told of it."""
        if error.response:
            return error
        try:
            if self._client.cancel(request):  # else nobody would fetch its response, and 1,024 of those are the most
                return error_for(error.code, _WITHDRAWN) if isinstance(error, NoWorker) else error_for(_NOT_SENT)
        except BridgeError:  # of a segment that is gone nothing is known
            pass
        code = error.code if isinstance(error, OutcomeUnknown) else _UNKNOWN
        return error_for(code, '' if isinstance(error, NoWorker) else _NO_RESPONSE)

    def _cut_off(self, plan: _UnderWay) -> Outcomes:
        """Return what is known of a command whose response nobody fetches any more."""
        outcomes = plan.command.unsent(Reason.CLOSED, f'aborted: {self.ended_by}')
        sent = plan.part or plan
        if sent.request is not None:  # the worker has it
            outcomes |= {name: replace(outcomes[name], state=UNREACHABLE) for name in sent.command.names}
        return outcomes | {outcome.name: outcome for outcome in plan.outcomes}

    def _one_by_one(self, plan: _UnderWay) -> None:
        """Send a command to one service after the other, each when the one before it has its outcome."""
        command, outcomes = plan.command, plan.outcomes
        for name in command.names[::-1] if command.message in REVERSED else command.names:
            if plan.withdrawn or self._closing:
                reason = Reason.CLOSED if self._closing else Reason.WITHDRAWN
                outcomes.append(Outcome(name, reason=reason, error='not sent: the command ended before its turn came'))
                continue
            gate = command.gate if not outcomes else None
            part = Command(
                command.message, command.args, command.kwargs, (name,), gate, command.timeout, command.deadline
            )
            plan.part = _UnderWay(part, plan)
            try:
                self._begin(plan.part)
                outcomes += part.future.result().values()
            except BaseException as exc:
                if not outcomes:
                    self._resolve(plan, [], exc)
                    return
                outcomes.append(_without_response(name, exc))
                plan.withdrawn = True  # the others are not sent it
            command.forgiven |= part.forgiven
        found = {outcome.name: outcome for outcome in outcomes}
        self._resolve(plan, [found[name] for name in command.names])

    def _take_back(self, plan: _UnderWay | None, error: str) -> bool:
        """Take a command back, and resolve it as withdrawn; False if it is not there, or something of it was sent."""
        if plan is None or not self._retract(plan):
            return False
        plan.command.end(Reason.WITHDRAWN, error)
        return True

    def _retract(self, plan: _UnderWay) -> bool:
        """Have the worker not begin with a command; True if nothing of it was sent: who calls this resolves it."""
        with self._retracting:
            part = plan.part
            if plan.outcomes or plan.command not in self._plans or self._ended.is_set():  # behind `part`: the first one
                return False
            if plan.request is not None:
                plan.withdrawn = True  # before: who waits for the request looks here
                plan.withdrawn = self._is_unsent(plan.request)
            elif part is not None and self._retract(part):
                plan.withdrawn = True
                left = self._leave(plan)
                # Not before: who waits for the part looks at both, and must not resolve it.
                part.command.end(Reason.WITHDRAWN, 'not sent: the command was withdrawn')
                return left
            return plan.withdrawn and self._leave(plan)

    def _is_unsent(self, request: int) -> bool:
        """Withdraw a request; True if no worker had it, and none will get it."""
        try:
            return self._client.withdraw(request)
        except BridgeError:  # answered meanwhile
            return False

    def _leave(self, plan: _UnderWay) -> bool:
        """Have a command under way no more; once, for whoever comes first: that one resolves it."""
        if self._plans.pop(plan.command, None) is None:
            return False
        plan.command.future.take_back = _too_late
        self.thread.ring(self._changed.set)
        return True

    def _resolve(self, plan: _UnderWay, outcomes: Collection[Outcome], error: BaseException | None = None) -> None:
        """Hand the result to whoever waits, if nobody has."""
        if not self._leave(plan):
            return
        try:
            if plan.part is None:  # else it was told part by part
                self._tell(outcomes)
        finally:
            plan.command.resolve({outcome.name: outcome for outcome in outcomes}, error)

    def _tell(self, outcomes: Collection[Outcome]) -> None:
        """Call the callbacks for answers."""
        for outcome in outcomes:
            service = self._remote.get(outcome.name)
            if outcome.answered and service is not None:
                service.tell(outcome.event, outcome.reply or [])

    def _ask(self, timeout: float | None) -> tuple[str, ...]:
        """Return the names of the services that the worker has, in its order."""
        entries = self._client.call('SERVICES', timeout=timeout)['services']
        return tuple(entry['name'] for entry in entries if not is_described(entry['data']))

    def _look_who_is_there(self) -> None:
        """Ask the worker which services it has by now."""
        try:
            names = self._ask(_SLICE)
        except BridgeError as exc:
            log.info('which services the worker has now is asked again: %s', exc)
            return
        self._is_known = True
        if names != self.names:
            self._remote.follow(names)
            self.names = names
            self.services = self._remote if names else None
            self.on_opened()

    def _hear(self) -> None:
        """Pass events on, in a thread of its own."""
        last = 0
        while not self._ended.is_set():
            if not self._is_known:
                self._look_who_is_there()
            try:
                event = self._client.next_event(_SLICE)
            except NoWorker:
                self._ended.wait(_SLICE)
                continue
            except BridgeError as exc:
                if not self._ended.is_set():
                    log.error('no more events: %s', exc)
                return
            if event is None:
                continue
            missed, last = last and event['sequence'] != last + 1, event['sequence']
            if missed or event['event'] in _OTHER_SERVICES:  # what was missed may have said so
                self._is_known = False
            if event['event'] in _OTHER_SERVICES:
                continue
            try:
                number, data = EVENTS[event['event']], data_reply(event['event'], event['data'])
                if (service := self._remote.get(event['service'])) is not None:
                    service.tell(number, data)
                if self.on_event is not None:
                    self.on_event(event['service'], number, data)
            except BaseException:  # sys.exit of a callback, too: no event would be heard any more
                log.exception('the callback for events failed')


def _too_late() -> bool:
    """Tell that a command cannot be taken back: its end is there, and is just being told."""
    return False


def _without_response(name: str, error: BaseException) -> Outcome:
    """Return what is known of a command to one service that there is no response to."""
    is_open = isinstance(error, OutcomeUnknown)
    reason, reached = (Reason.UNKNOWN, UNREACHABLE) if is_open else (Reason.INTERNAL, NOT_SENT)
    return Outcome(name, state=reached, reason=reason, error=str(error))
