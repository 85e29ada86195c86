"""What the network thread does with a command: one errand per service, and one result, once.

- A command is resolved exactly once, by whoever takes it out of ``pending``.
- It goes over the wire as `link` and `exchange` do it, or, where a method of ``services`` has been replaced (a
  subclass, a test double), the replacement is awaited and its result returned as it stands.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import InvalidStateError

from bridge.commands import Command, seconds, stock_outcomes
from bridge.exchange import ALYX, INTERRUPT, Errand
from bridge.link import Link
from bridge.outcomes import Aborted, NoAnswer, failure, replies
from bridge.results import Results

log = logging.getLogger('bridge.auxiliaries')  # failures are told where iblrig looks for them


class Dispatcher:
    """Carries commands out; everything here runs in the network thread, except `give_back`.

    Parameters
    ----------
    links : mapping of str to Link
        One per service.
    results : Results
        Where the results of pushed commands go.
    timeout : callable
        Returns the seconds that a service has for its reply.

    Attributes
    ----------
    pending : dict of int to Command
        Commands without a result, by their order.
    closing : bool
        Nothing more is sent.
    """

    def __init__(self, links: Mapping[str, Link], results: Results, timeout: Callable[[], float]) -> None:
        self.pending: dict[int, Command] = {}
        self.closing = False
        self._links, self._results, self._timeout = links, results, timeout
        self._tasks: set[asyncio.Task[None]] = set()

    # From the outside

    def begin(self, command: Command) -> None:
        """Send a command, or let it wait for its turn."""
        if command.order not in self.pending:
            return
        if command.stock is not None:
            task = asyncio.get_running_loop().create_task(self._await_stock(command))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        if self.closing:
            self.withdraw(command, 'aborted: the network thread was closed', Aborted('the network thread was closed'))
            return
        command.errands = self._errands(command)
        if command.result is not None:
            self.withdraw(command, str(command.result), command.result)
        elif not command.errands:
            self._resolve(command)
        else:
            for errand in command.errands:
                link = self._links[errand.name]
                try:
                    (link.interrupt if errand.event == INTERRUPT else link.enqueue)(errand)
                except Exception as exc:
                    log.exception('%s could not be sent to %s', command.name, errand.name)
                    link.withdraw(errand, f'{type(exc).__name__}: {exc}', exc)

    def withdraw(self, command: Command, error: str, cause: BaseException) -> None:
        """End a command with one error for all services that have no outcome yet."""
        command.errands = command.errands or self._errands(command)
        command.withdrawn = True
        for errand in command.errands:
            self._links[errand.name].withdraw(errand, error, cause)
        self._resolve(command)

    def give_back(self, command: Command, cause: BaseException) -> None:
        """Resolve a command that the network thread does not take any more."""
        if isinstance(cause, Aborted):
            self.withdraw(command, f'not sent: {cause}', cause)
        else:
            self._resolve(command, cause)

    def clear(self) -> int:
        """Abort every command of which nothing was sent yet, and return how many these were."""
        error = 'aborted: the message queue was cleared'
        waiting = [c for c in tuple(self.pending.values()) if not c.begun and not c.future.cancelled()]
        for command in waiting:
            self.withdraw(command, error, Aborted(error))
        return len(waiting)

    def end(self) -> None:
        """Abort everything."""
        self.closing = True
        error = 'aborted: the network thread was closed'
        for command in tuple(self.pending.values()):
            self.withdraw(command, error, Aborted(error))
        for link in self._links.values():
            link.abort_all(error, Aborted(error))

    def end_tasks(self) -> None:
        """Cancel what awaits a replaced method."""
        for task in tuple(self._tasks):
            task.cancel()

    # The way of a command

    def _errands(self, command: Command) -> list[Errand]:
        def permit(errand: Errand) -> bool:
            return self._permit(command) if not command.begun else self._permit_later(command, errand)

        def done(errand: Errand) -> None:
            command.left -= 1
            if not command.left and not command.withdrawn:
                self._resolve(command)

        event, text, order, wants = int(command.message), command.text, command.order, command.wants_reply
        rigs = self._timeout()
        timeouts = [seconds(command.timeout, seconds(self._links[n].timing.timeout, rigs)) for n in command.names]
        return [
            Errand(name, event, text, order, timeout, wants, permit, done, once=command.once)
            for name, timeout in zip(command.names, timeouts, strict=True)
        ]

    def _permit(self, command: Command) -> bool:
        """Decide, directly before the first datagram, whether a command may leave."""
        if command.withdrawn or not command.claim():
            self.pending.pop(command.order, None)
            self._drop(command)
            return False
        if command.gate is None:
            if time.perf_counter() > command.deadline:
                error = f'not sent: it waited behind earlier commands for the {self._timeout():g} s it had'
                self.withdraw(command, error, NoAnswer(error))
                return False
        else:
            try:
                command.gate()
            except BaseException as exc:
                command.quiet = True  # why is the gate's to tell
                self._resolve(command, exc)
                self._drop(command)
                return False
        command.begun = True
        return True

    def _permit_later(self, command: Command, errand: Errand) -> bool:
        """Decide, directly before its first datagram to a service that was busy, whether a command may still leave."""
        if not command.withdrawn and time.perf_counter() > command.deadline:
            error = 'not sent: it waited behind earlier commands to this service for longer than it may'
            self._links[errand.name].withdraw(errand, error, NoAnswer(error))
        return not (command.withdrawn or errand.ended)

    def _drop(self, command: Command) -> None:
        """Take a command out of the queues of the links; it is resolved elsewhere."""
        command.withdrawn = True
        for errand in command.errands:
            self._links[errand.name].withdraw(errand, 'withdrawn', Aborted('withdrawn'))

    async def _await_stock(self, command: Command) -> None:
        """Await a replaced `Services` method."""
        if not self._permit(command):
            return
        assert command.stock is not None
        now = time.perf_counter_ns()
        try:
            waiting = asyncio.ensure_future(command.stock())
            command.result = await asyncio.wait_for(waiting, max(self._timeout(), 1.0))
        except asyncio.CancelledError:
            command.result = Aborted('aborted: the network thread was closed')
        except BaseException as exc:
            command.result = exc
        self._resolve(command, stock=now)

    def _resolve(self, command: Command, cause: BaseException | None = None, stock: int = 0) -> None:
        """Hand the result of a command to whoever waits for it; once, whoever comes first."""
        if self.pending.pop(command.order, None) is None:
            return
        outcomes = stock_outcomes(command, stock) if stock else {e.name: e.outcome() for e in command.errands}
        if cause is None and not stock:
            causes = {errand.name: errand.cause for errand in command.errands if errand.cause is not None}
            error = failure(outcomes.values(), causes)
            command.result = replies(outcomes.values()) if error is None else error
        elif cause is not None:
            command.result = cause
        if isinstance(command.result, BaseException):
            # What a service says of a failed ALYX callback may quote the token.
            told = command.result if command.message != ALYX else type(command.result).__name__
            log.log(logging.DEBUG if command.quiet else logging.ERROR, '%s failed: %s', command.name, told)
        try:
            if command.claim():
                if cause is not None:
                    command.future.set_exception(cause)
                else:
                    command.future.set_result(outcomes)
        except InvalidStateError:
            pass
        if command.key is not None:
            self._results.publish(command)
