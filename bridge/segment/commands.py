"""What masters ask of a program that serves, from Python: `Command`, and the part of a client that takes them.

An unanswered command never leaves its master waiting: it fails by itself when its ``with`` block ends or when it is
forgotten, and with the client when that ends.
"""

from __future__ import annotations

import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from bridge import plain
from bridge.errors import BridgeError, check, error_for
from bridge.numbers import CODES, MESSAGES, STATUSES
from bridge.segment.calls import read, text
from bridge.segment.library import ffi, last_error, lib
from bridge.segment.patience import seconds, slices
from bridge.segment.payload import message_number

SERVED = ('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP', 'EXPINTERRUPT')
"""tuple of str: what a camera wants to be asked. The worker answers the questions EXPSTATUS and EXPINFO itself."""

_BUFFER, _TIMEOUT, _NO_WORKER = CODES['IBLB_E_BUFFER'], CODES['IBLB_E_TIMEOUT'], CODES['IBLB_E_NO_WORKER']
_LATE, _CLOSED, _HANDLE = CODES['IBLB_E_LATE'], CODES['IBLB_E_CLOSED'], CODES['IBLB_E_HANDLE']
_AS_USUAL = -1  # the status after a message


class Command:
    """What a master asks, to be answered once; from whatever thread.

    In a ``with`` block it fails by itself if the block ends without `answer` or `fail`, in the words of the exception
    if there is one. So it does if it is forgotten, with a ResourceWarning.

    Attributes
    ----------
    message : str
        e.g. ``EXPSTART``.
    args : list
        The arguments, as masters give them (see MESSAGES in iblbridge.h).
    service : str
        The listener's name.
    master : str
        Who asks: ``192.168.0.3:55123``.
    number : int
        Its number at the library.
    time : int
        When it reached the worker, ns of ``time.perf_counter_ns``.
    wall : str
        The same in ISO 8601.
    timeout_ms : int
        So long after `time` the master is told that it failed.
    error : exception or None
        What the function of `attempt` raised.
    """

    def __init__(self, client: Serves, asked: dict[str, Any]) -> None:
        self._client = client
        self._interrupts = client._interrupts
        self.number, self.message = int(asked['command']), str(asked['message'])
        self.args: list[Any] = asked['args']
        self.service, self.master = str(asked['service']), str(asked['master'])
        self.time, self.wall, self.timeout_ms = int(asked['time']), str(asked['wall']), int(asked['timeout_ms'])
        self.error: BaseException | None = None
        self._forgotten = weakref.finalize(self, _forget, client, self.number, self.message)
        self._forgotten.atexit = False  # the client's end says it

    def __repr__(self) -> str:  # without what it says: ALYX brings a token
        return f'<Command {self.number} {self.message} of {self.master}{"" if self.is_open else ", answered"}>'

    @property
    def is_open(self) -> bool:
        """bool: it was neither answered nor failed."""
        return self._forgotten.alive

    @property
    def interrupted(self) -> bool:
        """bool: an EXPINTERRUPT was taken since: what still goes on should end."""
        return self._client._interrupts != self._interrupts

    def answer(self, status: str | int | None = None, data: Any = None) -> bool:
        """Say that it was done. Never waits.

        Parameters
        ----------
        status : str, int or None
            What the program does now: ``'RUNNING'``, 20, ...; None: what is usual after this message.
        data : object
            Becomes part of the reply: a dict, or any other value, which becomes ``{'value': ...}``.

        Returns
        -------
        bool
            False: too late, the master has been told already that it failed (``IBLB_E_LATE``).

        Raises
        ------
        bridge.errors.Misuse
            It was answered already, or the client is closed.
        TypeError, ValueError
            There is no such status, or JSON cannot express the data; it can be answered again.
        bridge.errors.BridgeError
            e.g. ``IBLB_E_FULL``: it can be answered again.
        """
        number, told = _status(status), _data(data)
        return self._end(lib.iblb_answer(self._client._handle, self.number, number, told))

    def fail(self, sentence: str | BaseException) -> bool:
        """Say that it was not done: the master gets an error. Returns and raises as `answer`; never waits.

        Parameters
        ----------
        sentence : str or exception
            For people: why, and what to do.
        """
        if isinstance(sentence, BaseException):
            sentence = _told_by(sentence)
        told = text(sentence, 'why a command fails').decode(errors='replace')
        return self._end(lib.iblb_fail(self._client._handle, self.number, told.encode()))

    def attempt(self, work: Callable[[Command], Any]) -> bool:
        """Call a function with this command, and answer with what it returns, or fail in the words of what it raises.

        It may answer or fail itself: then what it returns has no meaning. If an EXPINTERRUPT came meanwhile and it did
        not answer, the command fails. The function's exception is `error` afterwards.

        Returns
        -------
        bool
            As `answer`.
        """
        try:
            data = work(self)
            if not self.is_open:
                return True
            if self.interrupted:
                return self.fail(f'An EXPINTERRUPT overtook this {self.message}.')
            return self.answer(data=data)
        except BaseException as error:
            self.error = error
            in_time = self.fail(error) if self.is_open else True
            if not isinstance(error, Exception):
                raise
            return in_time

    def _end(self, code: int) -> bool:
        if code < 0 and code != _LATE:
            raise error_for(code, last_error(self._client._handle))
        self._forgotten.detach()
        return code != _LATE

    def __enter__(self) -> Command:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.is_open:
            return
        try:
            self.fail(f'The program left {self.message} without an answer.' if error is None else error)
        except BridgeError:
            if error is None and self._client._handle:  # the end of the client says it, too
                raise


class Serves:
    """The part of `bridge.segment.client.Client` that takes what masters ask."""

    _handle: int

    def __init__(self) -> None:
        self._saved_commands: deque[dict[str, Any]] = deque()  # that came as somebody pressed Ctrl-C
        self._interrupts = 0  # how many were taken

    def serve(self, service: str = '', messages: str | int | Sequence[str | int] = SERVED) -> None:
        """Get from now on what masters ask of a listener of the worker, in place of what was served before.

        Parameters
        ----------
        service : str
            The listener's name, as in ``iblbridge serve --listen cameras=...``; none: the only one there is.
        messages : str, int or sequence of them
            What the program wants to be asked: names, numbers or their sum. 0 or none: it serves no more. What is
            not among them the worker answers itself, as EXPSTATUS and EXPINFO: from what the program last said.

        Raises
        ------
        bridge.errors.Misuse
            There is no such listener; the sentence names those there are. Or no such message.
        bridge.errors.NoSegment
            ``IBLB_E_NAME_TAKEN``: another program serves it. Or the segment is gone.
        """
        mask = 0
        for one in [messages] if isinstance(messages, (str, int)) else messages:
            mask |= message_number(one)
        check(lib.iblb_serve(self._handle, text(service, 'the name of a listener'), mask), self._handle)

    def next_command(self, timeout: float | None = 1.0) -> Command | None:
        """Wait for the next command, an EXPINTERRUPT before all others; and for a worker if there is none.

        Parameters
        ----------
        timeout : float or None
            s; 0 only looks; None: for ever.

        Returns
        -------
        Command or None
            None if nothing was asked in time.

        Raises
        ------
        bridge.errors.Misuse
            Nothing is served, or the worker does not listen under that name any more.
        bridge.errors.NoSegment
            The segment is gone: open again.
        bridge.errors.BridgeError
            ``IBLB_E_TOO_MANY``: eight were taken and not answered.
        KeyboardInterrupt
            Within 100 ms after Ctrl-C; no command is lost.
        """
        was_open = self._handle > 0
        for pause in slices(seconds(timeout)):
            command = self._look_for_command(pause, was_open=was_open)
            if command is not None:
                return command
        return None

    def commands(self) -> Iterator[Command]:
        """Yield the commands as they come, until `close` is called in another thread; raises as `next_command`."""
        while self._handle:
            try:
                command = self.next_command(None)
            except BridgeError:
                if not self._handle:
                    return
                raise
            if command is not None:
                yield command
            del command  # or one that was forgotten would live until the next one comes

    def tell(self, message: str | int, data: Any = None) -> None:
        """Say something without having been asked. Never waits.

        Parameters
        ----------
        message : str or int
            ``'EXPINTERRUPT'``: what the program does has ended, a camera died; its masters hear so.
            ``'EXPSTATUS'``: the status from now on (``'RUNNING'``, 20, ...); they hear of that, too.
            ``'EXPINFO'``: what the worker answers to EXPINFO from now on.
        data : object
            As in `Command.answer`.

        Raises
        ------
        bridge.errors.Misuse
            No service says such a message by itself, or nothing is served.
        TypeError, ValueError
            JSON cannot express the data, or there is no such message or status.
        """
        number = message_number(message)
        if number == MESSAGES['EXPSTATUS'] and isinstance(data, str):
            data = _status(data)
        check(lib.iblb_tell(self._handle, number, _data(data)), self._handle)

    def _peek_for_command(self, pause: int) -> int:
        """Wait for a command for `pause` ms, and leave it there: ``IBLB_E_BUFFER`` if there is one."""
        if self._saved_commands:
            return _BUFFER
        number, needed = ffi.new('int *'), ffi.new('int *')
        return int(lib.iblb_next_command(self._handle, pause, number, ffi.NULL, ffi.NULL, 0, needed))

    def _look_for_command(self, pause: int, *, was_open: bool) -> Command | None:
        """Wait for a command for `pause` ms."""
        number = ffi.new('int *')
        if self._saved_commands:
            code, asked = 0, self._saved_commands.popleft()
        else:
            code, asked = read(
                lambda *place: int(lib.iblb_next_command(self._handle, pause, number, ffi.NULL, *place)),
                self._saved_commands.append,
            )
        if was_open and (code == _HANDLE or (code in (_TIMEOUT, _NO_WORKER) and not self._handle)):
            raise error_for(_CLOSED)
        if code in (_TIMEOUT, _NO_WORKER):
            return None
        if code < 0:
            raise error_for(code, '' if code == _CLOSED else last_error(self._handle))
        if asked['message'] == 'EXPINTERRUPT':
            self._interrupts += 1
        return Command(self, asked)


def _forget(client: Serves, number: int, message: str) -> None:
    """Let a command fail that nobody has answered."""
    if lib.iblb_fail(client._handle, number, f'The program forgot {message}, without an answer.'.encode()) >= 0:
        warnings.warn(
            f'{message} was never answered: write "with command", or answer it', ResourceWarning, stacklevel=2
        )


def _status(status: str | int | None) -> int:
    if status is None:
        return _AS_USUAL
    if isinstance(status, str) and status in STATUSES:
        return STATUSES[status]
    if isinstance(status, int) and not isinstance(status, bool) and status in (*STATUSES.values(), _AS_USUAL):
        return int(status)
    names = ', '.join(f"'{name}'" for name in STATUSES)
    raise TypeError(f'status is one of {names}, a number of these, or None, not {status!r}; write data=... for data')


def _data(data: Any) -> bytes:
    return b'' if data is None else plain.dumps(data).encode()


def _told_by(error: BaseException) -> str:
    said = str(error).replace('\0', ' ')
    return f'{type(error).__name__}: {said}' if said else type(error).__name__
