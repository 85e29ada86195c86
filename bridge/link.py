"""The line to one service: a stock communicator that does not break.

A stock EchoProtocol client closes itself for good on a lost echo, an early reply or two messages that cross, and starts
a storm on a doubled echo. `Link` lets iblutil's factory make the communicator and then replaces four methods *of that
instance*: what comes in, confirmed sending, socket errors and the end of the connection. The decisions are in
`exchange`; here are the socket, the timers and the order of the commands:

- Commands wait in a queue and leave one at a time: the next one when the one before was answered or given up, and a
  short gap later.
- An interrupt waits for no command, except for some milliseconds in which it would be lost or close the service: until
  the answer to what has just left could come, and a moment after the service spoke. Then it ends what is in flight and
  what is queued before it.
- A communicator that anything has closed is opened again for the next command.

All of it runs in the loop of the network thread, as callbacks: on the way of a command that goes well there is no task,
and one timer.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from bridge.exchange import (
    ERROR,
    INTERRUPT,
    Errand,
    Kind,
    Memory,
    Owed,
    Step,
    Timing,
    answered_by,
    next_step,
    read,
    safe_at,
    subject,
)
from bridge.outcomes import Aborted, NoAnswer

log = logging.getLogger(__name__)

SURPLUS_FOR = 10**9  # ns for more answers to a command that left more than once, beside as long as the first one took


class Link:
    """One service, its communicator, and its commands in order.

    Parameters
    ----------
    name, uri : str
        As configured.
    timing : Timing
        How patient to be; shared by the links of one `Auxiliaries`, may be changed at any time.
    factory : callable
        Coroutine function that takes this link and returns a new open communicator.
    heard : callable
        Called with link, event, data, datagram and whether it answered a command, for each message once; may raise.
    """

    def __init__(
        self,
        name: str,
        uri: str,
        timing: Timing,
        factory: Callable[['Link'], Awaitable[Any]],
        heard: Callable[['Link', int, list[Any], bytes, bool], None],
    ) -> None:
        self.name, self.uri, self.timing = name, uri, timing
        self.com: Any = None
        self._factory, self._heard = factory, heard
        self._memory = Memory()
        self._queue: deque[Errand] = deque()
        self._flying: list[Errand] = []
        self._owed = Owed()
        self._surplus: dict[int, tuple[int, int]] = {}
        self._spoke = 0
        self._free_at = 0.0
        self._gap: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self._urgent: deque[Errand] = deque()
        self._held: asyncio.TimerHandle | None = None
        self._held_until = 0
        self._in_sendto = False
        self._send_error: Exception | None = None
        self._adopted = self._closed = False

    @property
    def is_open(self) -> bool:
        """bool: the communicator exists and its socket is open."""
        return self._adopted and bool(self.com.is_connected)

    # What the network thread asks for

    def enqueue(self, errand: Errand) -> None:
        """Carry out a command after those before it."""
        self._queue.append(errand)
        self._pump()

    def interrupt(self, errand: Errand) -> None:
        """Send a command now, before everything else, and end everything older than it."""
        self._urgent.append(errand)
        if len(self._urgent) == 1:
            self._held_until = time.perf_counter_ns() + int(self.timing.unread * 1e9)
            self._hold_urgent()

    def withdraw(self, errand: Errand, error: str, cause: BaseException) -> None:
        """End a command wherever it stands."""
        self._finish(errand, error, cause)

    def notify(self, text: bytes) -> None:
        """Send a message once, and wait for nothing."""
        if self.is_open:
            nobody = Errand(self.name, ERROR, text, 0, 0.0, False, lambda _: True, lambda _: None)
            self._transmit(self._memory.stamp(nobody))

    def abort_all(self, error: str, cause: BaseException) -> None:
        """End all commands, in flight or not."""
        for errand in (*self._flying, *self._urgent, *self._queue):
            self._finish(errand, error, cause)
        self._queue.clear()

    def close(self) -> None:
        """Close the socket and forget the timers; what is pending has to be ended before."""
        self._closed = True
        for timer in (self._gap, self._held):
            if timer:
                timer.cancel()
        if self._opening:
            self._opening.cancel()
        if self._adopted:
            self.com.close()

    # The communicator

    def adopt(self, com: Any) -> None:
        """Take over a communicator fresh from iblutil's factory."""
        if self._adopted:
            self.com.close()
        self.com, self._adopted = com, True
        com.datagram_received = self._datagram_received
        com.error_received = self._error_received
        com.confirmed_send = self._confirmed_send
        com.connection_lost = lambda exc: self._connection_lost(com, exc)

    def _open(self) -> None:
        if self._opening is None and not self._closed:
            self._opening = asyncio.get_running_loop().create_task(self._reopen())

    async def _reopen(self) -> None:
        error: Exception | None = None
        try:
            await self._factory(self)
            if not self.is_open:
                raise ConnectionError(f'{self.name}: the communicator could not be opened')
        except Exception as exc:
            error = exc
        self._opening = None
        if error is None:
            self._send_urgent()
            return
        urgent, self._urgent = self._urgent, deque()
        waiting, self._queue = self._queue, deque()
        for errand in (*urgent, *waiting):
            self._finish(errand, str(error), error)

    def _connection_lost(self, com: Any, exc: Exception | None) -> None:
        type(com).connection_lost(com, exc)
        if com is self.com and not self._closed:
            for errand in tuple(self._flying):
                text = 'the communicator was closed while the command was under way'
                self._finish(errand, text, ConnectionAbortedError(text))

    # Sending

    def _hold_urgent(self) -> None:
        """Send the interrupts that wait once the service can take them; asked again whenever it has spoken."""
        gap = int(min(self.timing.interrupt_gap, self.timing.reply_gap) * 1e9)
        ready = max(self._spoke + gap, safe_at(self._flying, self.timing))
        pause = min(ready, self._held_until) - time.perf_counter_ns()
        if self._held:
            self._held.cancel()
            self._held = None
        if pause > 0:
            self._held = asyncio.get_running_loop().call_later(pause / 1e9, self._send_urgent)
        else:
            self._send_urgent()

    def _send_urgent(self) -> None:
        if not self.is_open:
            self._open()
            return
        loop = asyncio.get_running_loop()
        while self._urgent:
            errand = self._urgent.popleft()
            if self._guarded(self._start, errand):
                # Not at once: the interrupt's datagrams to the other services leave first.
                loop.call_soon(self._abort_older, errand)
                break
        if self._urgent:  # the answer to this one comes before the next one
            self._held_until = time.perf_counter_ns() + int(self.timing.unread * 1e9)
            loop.call_soon(self._hold_urgent)
        self._pump()

    def _pump(self) -> None:
        """Start the next command if nothing is in flight and the service has had its pause."""
        while self._queue and not (self._flying or self._urgent or self._closed):
            if self._queue[0].ended:
                self._queue.popleft()
                continue
            loop = asyncio.get_running_loop()
            pause = self._free_at - loop.time()
            if pause > 0:
                if self._gap is None:
                    self._gap = loop.call_later(pause, self._gap_over, self._free_at)
                return
            if not self.is_open:
                self._open()
                return
            self._guarded(self._start, self._queue.popleft())

    def _gap_over(self, until: float) -> None:
        self._gap = None
        # A timer may ring up to one clock tick early (15 ms on Windows): without this we would spin until the tick.
        if self._free_at == until:
            self._free_at = 0.0
        self._pump()

    def _guarded(self, step: Callable[[Errand], bool], errand: Errand) -> bool:
        """Take a step; whatever it raises ends the command, so that none is left without a timer."""
        try:
            return step(errand)
        except Exception as exc:
            log.exception('%s: event %d', self.name, errand.event)
            self._finish(errand, f'{type(exc).__name__}: {exc}', exc)
            return False

    def _start(self, errand: Errand) -> bool:
        """Send a command for the first time; False if it was withdrawn instead."""
        if errand.ended:
            return False
        try:
            errand.payload = self._memory.stamp(errand)
        except ValueError as exc:
            self._finish(errand, str(exc), exc)
            return True
        if not errand.permit(errand):
            self._memory.forget(errand.payload)
            return False
        self._flying.append(errand)
        errand.last_sent = time.perf_counter_ns()
        errand.tries = 1
        error = self._transmit(errand.payload)
        if error is not None:
            self._finish(errand, f'not sent: {error}', error)
            return True
        errand.sent = errand.last_sent
        self._arm(errand)
        return True

    def _transmit(self, payload: bytes) -> Exception | None:
        """Hand a datagram to the socket; return why it did not leave, or None."""
        self._memory.sending()
        return self._sendto(payload)

    def _sendto(self, payload: bytes) -> Exception | None:
        for _ in range(2):
            self._send_error, self._in_sendto = None, True
            try:
                self.com._transport.sendto(payload)
            except Exception as exc:
                self._send_error = exc
            finally:
                self._in_sendto = False
            # A connected socket reports the refusal of an *earlier* datagram here, once, instead of sending this one.
            if not isinstance(self._send_error, ConnectionRefusedError):
                break
        return self._send_error

    def _arm(self, errand: Errand) -> bool:
        """Wait, send again or give up; called again whenever its timer rings."""
        step, delay = next_step(errand, time.perf_counter_ns(), self.timing)
        while step is Step.RESEND:
            errand.last_sent, errand.missed = time.perf_counter_ns(), 0
            errand.tries += 1
            log.debug('%s: event %d sent again (%d)', self.name, errand.event, errand.tries)
            self._transmit(errand.payload)
            step, delay = next_step(errand, errand.last_sent, self.timing)
        if step is Step.WAIT:
            errand.timer = asyncio.get_running_loop().call_later(delay / 1e9, self._guarded, self._arm, errand)
            return True
        after = (time.perf_counter_ns() - errand.sent) / 1e9
        if errand.echoed:
            text = f'received the command but did not reply within {after:.3g} s'
            if errand.doubted:
                when = (errand.doubted - errand.sent) / 1e9
                text += f'; what it said after {when:.3g} s may be its reply to an earlier one'
        else:
            text = f'no echo from {self.uri} within {after:.3g} s: is the service running?'
        self._finish(errand, text, NoAnswer(f'{self.name}: {text}'))
        return False

    async def _confirmed_send(self, data: Any, addr: Any = None, timeout: float | None = None) -> None:
        """Stock signature, for whoever uses the stock methods: queued, confirmed by the echo, never closing."""
        if addr and tuple(addr) != (self.com.hostname, self.com.port):
            raise ValueError('Unexpected remote address')
        loop = asyncio.get_running_loop()
        confirmed: asyncio.Future[Errand] = loop.create_future()
        text = bytes(self.com.encode(data))
        event = (read(text) or (ERROR,))[0]
        patience = timeout or self.timing.echo_timeout
        self.enqueue(
            Errand(
                self.name,
                event,
                text,
                0,
                patience,
                False,
                lambda _: not confirmed.done(),
                lambda errand: None if confirmed.done() else confirmed.set_result(errand),
            )
        )
        errand = await confirmed
        if errand.cause is not None:
            raise errand.cause

    # Receiving

    def _datagram_received(self, datagram: bytes, addr: Any) -> None:
        """Take a datagram from the transport; nothing that a service sends may raise from here."""
        now = time.perf_counter_ns()
        try:
            kind = self._memory.recognise(datagram, now, int(self.timing.copy_window * 1e9))
            if kind is Kind.ECHO:
                self._echoed(self._memory.commands[datagram], now)
            elif kind is Kind.MESSAGE or self._flying:
                self._take(datagram, now, kind is Kind.COPY)
        except Exception:
            log.exception('%s: a datagram of %d bytes could not be handled', self.name, len(datagram))

    def _echoed(self, errand: Errand, now: int) -> None:
        if errand.echoed or errand.ended:
            return
        errand.echoed = now
        if not errand.wants_reply:
            self._finish(errand)
        if self._urgent:
            self._hold_urgent()

    def _take(self, datagram: bytes, now: int, copy: bool) -> None:
        message = read(datagram)
        if message is None:
            log.warning('%s: %d bytes that are no message were ignored', self.name, len(datagram))
            return
        event, data = message
        errand = answered_by(event, data, self._flying, self._owed, now)
        if copy and errand is None:
            return
        self._spoke = now
        about, surplus = subject(event, data), False
        if errand is not None:
            self._missed_by_others(errand, now)
        elif about is not None and self._owed.settle(about, now):
            self._doubt(event, now)
            self._missed_by_others(None, now)
        else:
            surplus = self._is_surplus(event, now)
        try:
            if errand is not None:
                self._answered(errand, event, data, now)
        finally:
            # After the result was handed over: the waiting thread wakes up while this one is in the system call.
            if event != ERROR:  # iblutil never confirms errors
                self._memory.note(datagram, now, None if errand is None else errand.tries - 1)
                self._sendto(datagram)
        if self._urgent:
            self._hold_urgent()
        self._heard(self, event, data, datagram, errand is not None or surplus)

    def _answered(self, errand: Errand, event: int, data: list[Any], now: int) -> None:
        """End a command with what the service says of it."""
        errand.echoed = errand.echoed or now
        if event == ERROR:
            text = f'its callback failed with {data[0]}'
            self._finish(errand, text, RuntimeError(f'{self.name}: {text}'))
        else:
            errand.answered, errand.reply, errand.reply_event = now, data, event
            if errand.tries > 1:
                more = errand.tries - 1
                self._surplus[event] = more, now + more * (now - errand.sent) + SURPLUS_FOR
            self._finish(errand)
        self._owed.clear()

    def _is_surplus(self, event: int, now: int) -> bool:
        """Tell whether a message is one more answer to a command that left more than once, and so no news."""
        left, until = self._surplus.pop(event, (0, 0))
        if left > 1:
            self._surplus[event] = left - 1, until
        return now < until

    def _doubt(self, event: int, now: int) -> None:
        """Note of what is under way that a reply came which was perhaps its own."""
        for errand in self._flying:
            if errand.event == event and errand.echoed:
                errand.doubted = now

    def _missed_by_others(self, answered: Errand | None, now: int) -> None:
        """Note that the service was busy with a command that it has answered now, while others were under way."""
        for errand in tuple(self._flying):
            if errand is not answered and errand.timer is not None:
                errand.missed = now
                errand.timer.cancel()
                self._guarded(self._arm, errand)

    def _error_received(self, exc: Exception) -> None:
        if self._in_sendto:
            self._send_error = exc
            return
        stock = self.com.on_error_received
        if not stock.done():
            stock.set_result(exc)
        text = (
            f'{self.uri} refused the command: no service listens there'
            if isinstance(exc, ConnectionRefusedError)
            else str(exc)
        )
        for errand in [errand for errand in self._flying if errand.sent and not errand.echoed]:
            self._finish(errand, text, type(exc)(f'{self.name}: {text}'))

    # The end of a command

    def _finish(self, errand: Errand, error: str = '', cause: BaseException | None = None) -> None:
        if errand.ended:
            return
        errand.ended, errand.error, errand.cause = True, error, cause
        if errand.timer is not None:
            errand.timer.cancel()
            errand.timer = None
        if errand in self._flying:
            self._flying.remove(errand)
            if error and errand.sent and errand.wants_reply and not isinstance(cause, ConnectionRefusedError):
                self._owed.add(errand, time.perf_counter_ns())
            loop = asyncio.get_running_loop()
            gap = self.timing.resend_gap if errand.tries > 1 and not error else self.timing.reply_gap
            self._free_at = loop.time() + gap
            if self._queue:
                loop.call_soon(self._pump)
        errand.done(errand)

    def _abort_older(self, interrupt: Errand) -> None:
        for errand in (*self._flying, *self._queue):
            # What was sent through the stock methods has no order of its own (0): it is older.
            if errand.order < interrupt.order and errand.event != INTERRUPT:
                self._finish(errand, 'aborted by EXPINTERRUPT', Aborted('aborted by EXPINTERRUPT'))
