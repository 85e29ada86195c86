"""The socket and the timer of a desk, in the network thread's loop.

Datagrams are read a few at a time, so that a flood leaves the loop to the others. What cannot be sent at once is
dropped: a master that misses it says so, or is told that there was no answer.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bridge.addresses import ConfigError, NotToBeHad
from bridge.listen import owed, rules
from bridge.listen.asked import Note, Send
from bridge.listen.desk import Desk
from bridge.listen.memory import Address

log = logging.getLogger(__name__)

AT_ONCE = 16  # datagrams that are read in one turn of the loop
IGNORED_AT_ONCE = 200  # with those of which nothing follows
_BUFFER = 1 << 20  # bytes of what is not read yet; the system may allow less
_MOST = 65536  # bytes of one
STOOD_STILL = owed.LATE  # ns without a turn of the loop: what is read then may be older than any master waits
_CATCH_UP = 1000 * rules.MS  # until what is read is new again, if more comes than is read
_TAKEN = (errno.EADDRINUSE, getattr(errno, 'WSAEADDRINUSE', None), 10013, errno.EACCES)
_NOT_HERE = (errno.EADDRNOTAVAIL, getattr(errno, 'WSAEADDRNOTAVAIL', None), 10049)
_SAY_EVERY = 60.0  # s: how often what a listener ignores is worth a line in the log


class NotBound(OSError):
    """A listener's address is not to be had."""


def bound(host: str, port: int, kept: int = 0) -> socket.socket:
    """Return a socket that nobody else can share.

    Parameters
    ----------
    host : str
        Where to listen.
    port : int
        0: the one that was kept, or, if somebody has that, any.
    kept : int
        What the worker before us had.

    Raises
    ------
    NotBound
        The address is not this computer's, or another program has the port.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if sys.platform == 'win32':
            made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        for candidate in [port] if port else [kept, 0]:
            try:
                made.bind((host, candidate))
            except OSError as error:
                if candidate and not port:
                    log.warning(
                        'the port %d, by which masters know this listener, is not available: %s', candidate, error
                    )
                    continue
                raise
            return made
        raise AssertionError('port 0 is never taken')
    except OSError as error:
        made.close()
        raise NotBound(error.errno, f'udp://{host}:{port}: {why_not_bound(error, port)}') from error


def not_to_be_had(error: OSError, sentence: str) -> ConfigError:
    """Return what to raise: an address may be had later, if another program ends, or the network comes up after us."""
    return (NotToBeHad if error.errno in (*_TAKEN, *_NOT_HERE) and not _is_forbidden(error) else ConfigError)(sentence)


def _is_forbidden(error: OSError) -> bool:
    return error.errno == errno.EACCES and sys.platform != 'win32'  # which says it of an address that is taken


def why_not_bound(error: OSError, port: int) -> str:
    """Return why an address is not to be had, and what to do, as the end of a sentence.

    Windows says EACCES (10013) of a port that another program has for itself.
    """
    code = error.errno
    if _is_forbidden(error):
        return f'only an administrator can listen at port {port}; choose one above 1023'
    if code in _TAKEN:
        return 'another program listens there; end it, or choose another port'
    if code in _NOT_HERE:
        return 'this computer has no such address; use one of its own, or 0.0.0.0 for all of them'
    return f'{error.strerror or error}; choose another port or address'


def ignored(counts: Mapping[str, int], stranger: str) -> str:
    """Return what a listener did not take for a command so far, and what to do, in sentences.

    Parameters
    ----------
    counts : mapping of str to int
        Of a desk.
    stranger : str
        The address of the last one who may not command.

    Examples
    --------
    >>> ignored({'strangers': 1}, '192.168.0.7')
    'refused 1 message of 192.168.0.7, which may not command; if it may, name it under masters'
    >>> ignored({'strangers': 5, 'malformed': 2}, '192.168.0.7')
    'refused 5 messages of who may not command, the last of 192.168.0.7; if it may, name it under masters; \
ignored 2 messages that are no commands: another program sends to this port'
    """
    said = []
    if count := counts.get('strangers', 0):
        who = f'of {stranger}, which' if count == 1 else 'of who'
        last = '' if count == 1 else f', the last of {stranger}'
        said.append(f'refused {_messages(count)} {who} may not command{last}; if it may, name it under masters')
    if count := counts.get('malformed', 0):
        what = 'is no command' if count == 1 else 'are no commands'
        said.append(f'ignored {_messages(count)} that {what}: another program sends to this port')
    if count := counts.get('old', 0):
        said.append(f'ignored {_messages(count)} that lay unread while this worker stood still; ask again')
    if count := counts.get('masters too many', 0):
        said.append(f'ignored {_messages(count)}, as too many masters command at once')
    return '; '.join(said)


def _messages(count: int) -> str:
    return f'{count} message{"s"[count == 1 :]}'


class _Clocks(NamedTuple):
    """A moment, ns, of the clock of all stamps, which may stand while the PC sleeps, and of the one that people set."""

    steady: int
    wall: int

    @classmethod
    def now(cls) -> _Clocks:
        return cls(time.perf_counter_ns(), time.time_ns())

    def since(self, before: _Clocks) -> int:
        return max(self.steady - before.steady, self.wall - before.wall)


class Server:
    """One listener in a loop.

    Parameters
    ----------
    desk : Desk
        Its machine.
    sock : socket.socket
        Made by `bound`.
    loop : asyncio.AbstractEventLoop
        All methods but the constructor are called in its thread.
    note : callable
        Called with each `Note`.

    Attributes
    ----------
    port : int
        Where it listens, or did.
    is_open : bool
        It does.
    """

    def __init__(
        self,
        desk: Desk,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        note: Callable[[Note], object],
    ) -> None:
        self.desk, self._socket, self._loop, self._note = desk, sock, loop, note
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._said_until = 0.0
        self._said_counts = 0
        self._old_until = 0
        self._turned = _Clocks.now()  # from now on something may lie there
        self.is_open = False
        self.port = int(sock.getsockname()[1])

    def open(self) -> None:
        """Begin to listen."""
        self.is_open = True
        self._loop.add_reader(self._socket, self._read)
        self.run()

    def close(self) -> None:
        """Listen no more. Harmless twice."""
        if self._timer is not None:
            self._timer.cancel()
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._socket)
        self._socket.close()

    def run(self) -> None:
        """Do what the desk says; to be called whenever it was told something."""
        if not self.is_open:
            return
        while (action := self.desk.next(time.perf_counter_ns())) is not None:
            if isinstance(action, Send):
                self.desk.keep()
                self._send(action.payload, action.address)
            else:
                self._write(action)
        self.desk.keep()
        self._set_timer(self.desk.wake_at())

    def turn(self) -> None:
        """Take it that the loop goes round; to be called some times a second."""
        if self.is_open and self._has_stood_still():
            self._read()  # now: what comes later is new

    def _has_stood_still(self) -> bool:
        before, self._turned = self._turned, _Clocks.now()
        if self._turned.since(before) >= STOOD_STILL:
            self._old_until = self._turned.steady + _CATCH_UP
            return True
        return False

    def _read(self) -> None:
        self._has_stood_still()
        taken = 0
        for _ in range(IGNORED_AT_ONCE):
            try:
                datagram, address = self._socket.recvfrom(_MOST)
            except (BlockingIOError, InterruptedError):
                self._old_until = 0
                break
            except OSError:  # Windows: an earlier datagram of ours reached nobody (10054), or one was too long
                continue
            try:
                now = time.perf_counter_ns()
                self.desk.received(datagram, address, now, is_old=now < self._old_until)
            except Exception:  # whatever the network says, the listener goes on
                log.exception('%s: a message of %s:%d failed', self.desk.name, *address[:2])
            if self.desk.has_news:
                self.run()
                taken += 1
                if taken == AT_ONCE:
                    break
        self.run()
        self._say_what_is_ignored()

    def _send(self, payload: bytes, address: Address) -> None:
        for _ in range(2):
            try:
                self._socket.sendto(payload, address)
            except (ConnectionRefusedError, ConnectionResetError):  # of an earlier datagram: told once, not sent
                continue
            except OSError:
                break
            return
        self.desk.counts['not sent'] += 1

    def _set_timer(self, at: int | None) -> None:
        if self._timer is not None and at == self._timer_at and not self._timer.cancelled():
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer_at = at
            self._timer = self._loop.call_later(max(0.0, (at - time.perf_counter_ns()) / 1e9) + 0.001, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.run()

    def _write(self, note: Note) -> None:
        try:
            self._note(note)
        except Exception:
            log.exception('%s: a note could not be written', self.desk.name)

    def _say_what_is_ignored(self) -> None:
        counts: Any = self.desk.counts
        total = counts['strangers'] + counts['malformed'] + counts['masters too many'] + counts['old']
        if total != self._said_counts and time.monotonic() >= self._said_until:
            self._said_counts, self._said_until = total, time.monotonic() + _SAY_EVERY
            log.warning('%s: %s', self.desk.name, ignored(counts, self.desk.last_stranger))
