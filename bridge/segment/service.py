"""A program as a service, by its handlers: `Service`.

The thread that runs the service runs the handlers, one after the other. Beside it one thread takes what masters ask,
and runs the handler of EXPINTERRUPT itself: so an interrupt reaches a program that is busy.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from bridge.errors import BridgeError
from bridge.numbers import MESSAGE_NAMES
from bridge.segment.client import Client
from bridge.segment.commands import Command
from bridge.segment.patience import SLICE
from bridge.segment.payload import message_number

_OVERTAKEN = 'An EXPINTERRUPT overtook this {}.'
_LATE = 'The program was busy until its time was up.'

log = logging.getLogger(__name__)

Handler = Callable[[Command], Any]
_Kind = TypeVar('_Kind', bound=Handler)


class Service:
    """Your program as a service that masters command: decorate a function for each message, and `run`.

    Parameters
    ----------
    segment : str
        Name of the segment, e.g. ``rig0``.
    service : str
        The listener's name, as in ``iblbridge serve --listen cameras=...``; none: the only one there is.
    name : str
        Name of this client; none: that of `service`.

    Examples
    --------
    ::

        camera = Service('rig0', 'cameras')

        @camera.on('EXPSTART')
        def start(command):
            return {'file': record(command.args[0])}

        camera.run()
    """

    def __init__(self, segment: str, service: str = '', name: str = '') -> None:
        self.segment, self.service, self.name = segment, service, name or service
        self._handlers: dict[str, Handler] = {}
        self._client: Client | None = None
        self._ended = threading.Event()

    def on(self, *messages: str | int) -> Callable[[_Kind], _Kind]:
        """Return a decorator: the function is called with each `Command` of these messages.

        What it returns is the data of the answer, if it has not answered by `Command.answer` itself. If it raises an
        exception, the command fails in its words, and the service goes on. If an EXPINTERRUPT overtook the command
        (see `Command.interrupted`), and the function did not answer, it fails, too.

        The handler of EXPINTERRUPT is called in another thread, at once, while another handler may be at work.

        Raises
        ------
        ValueError
            There is no such message.
        """
        names = [MESSAGE_NAMES.get(message_number(message), str(message)) for message in messages]

        def decorate(function: _Kind) -> _Kind:
            self._handlers.update(dict.fromkeys(names, function))
            return function

        return decorate

    def tell(self, message: str | int, data: Any = None) -> None:
        """Say something without having been asked, as `bridge.Client.tell`; from whatever thread, while it runs."""
        if self._client is None:
            raise RuntimeError('the service does not run: there is nobody to be told')
        self._client.tell(message, data)

    def close(self) -> None:
        """End `run`, from another thread or a handler, after the handler that is at work."""
        self._ended.set()

    def run(self, timeout: float | None = 2.0) -> None:
        """Serve until `close`, or Ctrl-C: a KeyboardInterrupt, after the slot was given back in order.

        A worker that ends is waited for. All messages that have a handler are asked of the program.

        Parameters
        ----------
        timeout : float or None
            How long to wait for a segment and a worker at the begin, s; None: for ever.

        Raises
        ------
        bridge.errors.Misuse
            There is no such listener, or no message that can be asked.
        bridge.errors.NoSegment
            There is no usable segment, or another program serves the listener.
        """
        taken: queue.SimpleQueue[Command | BaseException] = queue.SimpleQueue()
        with Client(self.segment, self.name, timeout) as client:
            taker = threading.Thread(target=self._take, args=(client, taken), name='iblbridge-service', daemon=True)
            try:
                client.serve(self.service, list(self._handlers))
                self._client = client
                taker.start()
                self._work(taken)
            except KeyboardInterrupt:  # in order: it is how a service is ended
                self._end(taker)
                client.close()
                raise
            finally:
                self._end(taker)
                self._client = None
                self._ended.clear()  # only now: who closes it before it runs is heard, too

    def _end(self, taker: threading.Thread) -> None:
        self._ended.set()
        if taker.ident is not None:
            taker.join()  # it may be at an EXPINTERRUPT

    def _take(self, client: Client, taken: queue.SimpleQueue[Command | BaseException]) -> None:
        """Take what is asked; in a thread of its own."""
        try:
            while not self._ended.is_set():
                command = client.next_command(SLICE)
                if command is not None and command.message == 'EXPINTERRUPT':
                    self._handle(command)
                elif command is not None:
                    taken.put(command)
                del command
        except BaseException as error:
            taken.put(error)

    def _work(self, taken: queue.SimpleQueue[Command | BaseException]) -> None:
        while not self._ended.is_set():
            try:
                found = taken.get(timeout=SLICE)  # or Windows would not hear Ctrl-C
            except queue.Empty:
                continue
            if isinstance(found, BaseException):
                raise found
            self._handle(found)
            del found

    def _handle(self, command: Command) -> None:
        """Run the handler of a command and answer with what it returns, or fail."""
        try:
            with command:
                if command.interrupted or _is_late(command):  # it waited behind another one
                    command.fail(_OVERTAKEN.format(command.message) if command.interrupted else _LATE)
                elif not command.attempt(self._handlers[command.message]):
                    log.warning('%s was answered too late: its master was told that it failed', command.message)
        except BridgeError as error:  # the segment is gone, for example, which `run` says
            log.error('%s could not be answered: %s', command.message, error)
        if command.error is not None:
            log.error('%s failed', command.message, exc_info=command.error)


def _is_late(command: Command) -> bool:
    return time.perf_counter_ns() > command.time + command.timeout_ms * 1_000_000
