"""The socket of a line, and its one timer: what `Line` decides is done here, with the time of now.

Everything runs in the loop of the network thread, as callbacks; on the way of a command that goes well there is no
task, and one timer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from bridge.outcome import Reason
from bridge.services import rules
from bridge.services.actions import Action, Ended, Heard, Noted, Open, Send
from bridge.services.errand import Errand
from bridge.services.line import Line
from bridge.services.repeats import Repeats
from bridge.services.rules import INTERRUPT, Timing, event_name

AGAIN = 50 * rules.MS  # until a confirmation is tried again that the socket did not take


class Unreachable(Exception):
    """An address cannot be used; `reason` says why in a word."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class Host(Protocol):
    """What a link needs of the carrier that it belongs to; called in the network thread."""

    def permit(self, errand: Errand) -> bool:
        """Decide, directly before its first datagram, whether an errand may leave; False: it was ended."""

    def ended(self, errand: Errand) -> None:
        """Take the outcome of an errand."""

    def heard(self, name: str, message: Heard) -> None:
        """Take a message of the service; what it raises is logged."""


class ServiceLink(Protocol):
    """What a carrier needs of the link to one service, of whatever kind; in the network thread.

    A kind of its own, say a recorder that is commanded over HTTP, is one more module with a class that has this, and an
    entry in `bridge.services.kinds.KINDS`. Of each errand that it is given it tells `Host.ended` once, asks
    `Host.permit` directly before anything leaves, and sets the errand's stamps, reason and error. What the service says
    it makes sayable (`bridge.sayable`) as it comes in.
    """

    name: str

    @property
    def timing(self) -> Timing:
        """Timing: how patient to be with it."""

    async def open(self) -> None:
        """Make ready to carry commands; what it raises is logged, and tried again when there is one."""

    def enqueue(self, errand: Errand) -> None:
        """Carry out a command after those before it, an interrupt before all others."""

    def run(self) -> None:
        """Go on: an errand is not blocked any more."""

    def withdraw(self, errand: Errand, reason: Reason, error: str) -> None:
        """End an errand wherever it stands."""

    def withdraw_all(self, reason: Reason, error: str) -> None:
        """End all errands."""

    def pauses_until(self) -> int:
        """Return when a command could leave if only a pause is waited for, ns; 0 if something else is as well."""

    def awaits_more(self) -> bool:
        """Tell whether something is still to come that nobody waits for, and the service needs confirmed."""

    def shut(self) -> None:
        """Close the connection; the next command opens it again."""

    def close(self) -> None:
        """Close it for good; what is pending has to be ended before."""


class Link:
    """One service: its line, its socket and its timer.

    Parameters
    ----------
    line : Line
        Decides.
    host : Host
        Is asked for permission, and told what becomes of errands.
    opener : callable
        Coroutine function that sees to it that there is a socket for this link, and sets `send` and
        `close_socket`; raises `Unreachable`, or any other exception.
    repeats : Repeats
        Of all that is logged because of what this service says.

    Attributes
    ----------
    send : callable or None
        Hands a datagram to the socket; returns the OSError that came of it, or None. Its second argument is the
        system's number of why that failed already, or 0. Set by the opener.
    place : callable
        Returns the socket's file number, the service's address and its port, as `bridge.datagrams.send` takes them;
        None if what leaves has to go by `send`. Set by the opener.
    take_arrived : callable
        Takes what lies in the socket unread; called directly before a command may leave. Set by the opener.
    close_socket : callable
        Closes the socket. Set by the opener.
    opener : callable
        As given, or the one of the host that it belongs to by now.
    """

    def __init__(self, line: Line, host: Host, opener: Callable[[Link], Awaitable[None]], repeats: Repeats) -> None:
        self.line, self.name = line, line.name
        self.closed = False
        self.send: Callable[[bytes, int], OSError | None] | None = None
        self.place: Callable[[], tuple[int, int, int] | None] = lambda: None
        self.take_arrived: Callable[[], None] = lambda: None
        self.close_socket: Callable[[], None] = lambda: None
        self.opener = opener
        self._host = host
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0
        self._opening: asyncio.Task[None] | None = None
        self._running = False
        self._repeats = repeats

    # --- what the carrier wants ---

    @property
    def timing(self) -> Timing:
        """Timing: how patient to be with it."""
        return self.line.timing

    async def open(self) -> None:
        """See to it that there is a socket; raises what the opener does."""
        await self.opener(self)
        if self.send is not None:
            self.line.opened()

    def pauses_until(self) -> int:
        """Return when a command could leave if only the pause is waited for, ns; 0 if something else is as well."""
        return self.line.pauses_until()

    def awaits_more(self) -> bool:
        """Tell whether one more answer to a command that left twice may come, which the service needs confirmed."""
        return self.line.owed.awaits_more(time.perf_counter_ns())

    def is_over(self) -> bool:
        """Tell whether nothing is under way, and nothing may still come that the service needs confirmed."""
        return self.line.is_over(time.perf_counter_ns())

    def belong(self, host: Host, opener: Callable[[Link], Awaitable[None]]) -> None:
        """Have another host told, and another opener asked, from now on."""
        self._host, self.opener = host, opener

    def change(self, name: str, uri: str, timing: Timing, repeats: Repeats) -> None:
        """Take another name, another way to write the same address, and another patience for what is still to leave."""
        self.name = self.line.name = name
        self.line.uri, self.line.timing, self._repeats = uri, timing, repeats

    def enqueue(self, errand: Errand) -> None:
        """Carry out a command after those before it, an interrupt before all others."""
        self.line_up(errand)
        self.run()

    def line_up(self, errand: Errand) -> None:
        """Give a command its place in the line; `run`, or `bridge.services.together`, is to be called behind it."""
        if errand.event == INTERRUPT:
            self.line.interrupt(errand, time.perf_counter_ns())
        else:
            self.line.submit(errand)

    def withdraw(self, errand: Errand, reason: Reason, error: str) -> None:
        """End an errand wherever it stands."""
        self.line.withdraw(errand, reason, error, time.perf_counter_ns())
        self.run()

    def withdraw_all(self, reason: Reason, error: str) -> None:
        """End all errands."""
        self.line.withdraw_all(reason, error, time.perf_counter_ns())
        self.run()

    def shut(self) -> None:
        """Close the socket; the next command opens it again."""
        self.close_socket()

    def close(self) -> None:
        """Close the socket and forget the timer; what is pending has to be ended before."""
        self.closed = True
        if self._timer:
            self._timer.cancel()
        if self._opening:
            self._opening.cancel()
        self.shut()

    # --- what the socket reports ---

    def take(self, datagram: bytes) -> None:
        """Take a datagram of the service; `run` is to be called behind the last of those that are there."""
        try:
            self.line.received(datagram, time.perf_counter_ns())
        except Exception as exc:
            text = f'{self.name}: a datagram of {len(datagram)} bytes could not be handled: {type(exc).__name__}: {exc}'
            self._repeats.tell(logging.ERROR, 'what could not be handled', text, trace=True)

    def stood_still(self) -> None:
        """Take what lies there since this computer, or program, stood still; none of it is confirmed."""
        self.line.is_late = True
        try:
            self.take_arrived()
        finally:
            self.line.is_late = False
        self.run()

    def refused(self, error: OSError) -> None:
        """Take an error of the network that came by itself."""
        self.line.refused(error, time.perf_counter_ns())
        self.run()

    def lost(self) -> None:
        """Take it that somebody has closed the socket."""
        if not self.closed:
            self.line.lost(time.perf_counter_ns())
            self.run()

    def say(self, level: int, text: str, fault: BaseException | None = None) -> None:
        """Log a line, and wait for nobody who reads the log: the service does not either."""
        self._repeats.say(level, text, fault)

    # --- what the line wants ---

    def run(self, since: int = 0) -> None:
        """Do what the line says until it says nothing any more; `since` is a time that is over for certain, ns."""
        if self._running or self.closed:
            return  # a callback of ours has called: the loop below goes on
        self._running = True
        try:
            while (errand := self._first(since)) is not None:
                if self._depart(errand):
                    # The interrupt's datagrams to the other services leave before the aborts are told.
                    asyncio.get_running_loop().call_soon(self.run)
                    return
        finally:
            self._running = False
        if (at := self.line.wake_at) is not None and not (self._timer and self._rings_at <= at):
            self._set_timer(at)

    def _first(self, since: int = 0) -> Errand | None:
        """Do what the line says until it has a command to send, and return that; None if it says no more."""
        line, clock = self.line, time.perf_counter_ns
        said = line.out
        if line.waiting or line.urgent:
            self.take_arrived()
        while action := said.popleft() if said else line.next(max(clock(), since) if since else clock()):
            if type(action) is Send:
                if action.errand is not None:
                    return action.errand
                if (error := self.transmit(action.payload)) is not None:
                    self._not_taken(action.payload, error)
            elif type(action) is Open:
                self._opening = asyncio.get_running_loop().create_task(self._open())
            else:
                self._tell(action)
        return None

    def prepare(self, errand: Errand) -> Errand | None:
        """Do as `run`, but return the first command that is to be sent instead of sending it.

        Only for `bridge.services.together`: then nothing else runs the line until `resume`. If it fails, `errand` is
        what it fails for.
        """
        if self._running or self.closed:
            return None
        self._running = True
        first = None
        try:
            first = self._first()
        except Exception as exc:
            self.failed(errand, exc)
        if first is None:
            self.resume()
        return first

    def permitted(self, errand: Errand) -> bool:
        """Ask for permission for what was prepared."""
        try:
            if self._host.permit(errand):
                return True
            self.line.denied(errand)
        except BaseException as exc:
            self.failed(errand, exc)
        return False

    def gone(self, errand: Errand, now: int, error: OSError | None) -> None:
        """Take it that what was prepared was handed to the socket at a time, ns."""
        try:
            if error is None:
                self.line.left(errand, now)
            else:
                self.line.not_left(errand, error, now)
        except BaseException as exc:
            self.failed(errand, exc)

    def resume(self) -> None:
        """Go on behind what was prepared."""
        self._running = False
        try:
            self.run()
        except Exception as exc:  # the others go on
            self.say(logging.ERROR, f'{self.name}: the line could not be run', exc)

    def _tell(self, action: Action) -> None:
        try:
            if type(action) is Ended:
                self._host.ended(action.errand)
            elif type(action) is Heard:
                self._host.heard(self.name, action)
            elif isinstance(action, Noted):
                self._repeats.tell(action.level, action.kind, action.text)
        except BaseException as exc:  # sys.exit of a callback, too: nothing could be sent any more
            self.say(logging.ERROR, f'{self.name}: what was told could not be passed on', exc)

    def _depart(self, errand: Errand) -> bool:
        """Hand a command's first datagram to the socket; True if it was an interrupt's."""
        try:
            if not self.permitted(errand):
                return False
            now = time.perf_counter_ns()
            error = self.transmit(errand.payload)
            self.gone(errand, now, error)
        except BaseException as exc:  # so that no errand is left without its outcome
            self.failed(errand, exc)
            return False
        return error is None and errand.event == INTERRUPT

    def failed(self, errand: Errand, fault: BaseException) -> None:
        """End an errand that a fault of ours keeps from leaving."""
        self.say(logging.ERROR, f'{self.name}: {event_name(errand.event)}', fault)
        self.line.withdraw(errand, Reason.INTERNAL, f'{type(fault).__name__}: {fault}', time.perf_counter_ns())
        self.line.denied(errand)

    def transmit(self, payload: bytes, failed: int = 0) -> OSError | None:
        """Hand a datagram to the socket as `send` does; return why it did not leave, None if it did."""
        try:
            return self.send(payload, failed) if self.send else ConnectionError('there is no socket')
        except Exception as exc:
            return exc if isinstance(exc, OSError) else ConnectionError(f'{type(exc).__name__}: {exc}')

    def _not_taken(self, payload: bytes, error: OSError, attempts: int = 1) -> None:
        """Hand a confirmation to the socket once more: the service closes if it gets none within a second."""

        def again() -> None:
            if not self.closed and (error := self.transmit(payload)) is not None:
                self._not_taken(payload, error, attempts + 1)

        is_command = rules.is_echo(payload)  # once more, and so nothing is lost
        what = 'what was to be sent again' if is_command else 'a confirmation'
        text = f'{self.name}: {what} did not leave: {error}'
        self._repeats.tell(logging.WARNING, 'what the socket did not take', text)
        # If nobody listens, whoever listens next would take it for a command.
        if not (is_command or isinstance(error, ConnectionError)) and attempts * AGAIN < rules.HOLD:
            self.line.pace.spoke = time.perf_counter_ns() + AGAIN  # no command leaves before it
            asyncio.get_running_loop().call_later(AGAIN / 1e9, again)

    async def _open(self) -> None:
        now = time.perf_counter_ns
        try:
            await self.open()
            if self.send is None:
                raise Unreachable(Reason.NETWORK, f'{self.name}: the communicator could not be opened')
        except Unreachable as exc:
            self.line.not_opened(exc.reason, str(exc), now())
        except Exception as exc:
            reason = Reason.NETWORK if isinstance(exc, OSError) else Reason.ADDRESS
            self.line.not_opened(reason, str(exc), now())
        self._opening = None
        self.run()

    # --- the timer ---

    def _set_timer(self, at: int) -> None:
        """Have the line looked at, at a time, ns. What rings earlier is not touched: it is set anew then."""
        if self.closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        # It may ring up to one tick of the clock early (15 ms on Windows), and must not look in vain until then.
        wait = max(at - time.perf_counter_ns(), 0) / 1e9
        self._timer, self._rings_at = asyncio.get_running_loop().call_later(wait, self._ring, at), at

    def _ring(self, at: int) -> None:
        self._timer = None
        self.run(at)
