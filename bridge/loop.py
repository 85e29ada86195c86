"""A thread with an event loop, and how another thread does something in its place.

To have a thread called costs a wake-up, and two threads that want the interpreter at once. So the loop is lent: while
its thread sleeps in the selector, another one may run a callback as if it were that thread. At any time one of them
has the *turn*, and only who has it runs callbacks of the loop. The borrower never waits for the turn, and the loop's
thread comes first: if it has awoken, there is nothing to borrow.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import selectors
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)


LONGEST_WAIT = 5.0  # s until the loop comes round, although nothing happens
STOOD_STILL = 10**10  # ns since it has: the program, or the computer, stood still meanwhile


class _Turn(selectors.DefaultSelector):
    """A selector that gives the turn away for as long as it waits, and tells if the clock has run on meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._lock.acquire()  # nothing is lent before the loop runs, nor when it has ended
        self._awake = True
        self.changed = False  # whom to wait for; a wait that goes on may not see it (select of Windows)
        self._turned = time.perf_counter_ns()
        self.on_stood_still: Callable[[], object] = lambda: None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Wait for one more, from the next wait on."""
        self.changed = True
        return super().register(fileobj, events, data)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Wait for something else, from the next wait on."""
        self.changed = True
        return super().modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait as any selector; what turns out to be closed is said to be ready, once: reading tells what is wrong."""
        try:
            if timeout is not None and timeout <= 0:  # the loop has something to do
                ready = super().select(timeout)
                self.look_at_clock()
                return ready
            self._awake = False
            self._lock.release()
            try:
                return super().select(LONGEST_WAIT if timeout is None else min(timeout, LONGEST_WAIT))
            finally:
                self._awake = True
                self._lock.acquire()
                self.look_at_clock()
        except OSError:  # select, as on Windows, refuses all because of one that is closed; the others go on
            return self._give_up_closed() or super().select(0)

    def _give_up_closed(self) -> list[tuple[selectors.SelectorKey, int]]:
        closed = [key for key in self.get_map().values() if not _is_open(key.fd)]
        for key in closed:
            self.unregister(key.fd)
        return [(key, key.events) for key in closed]

    def look_at_clock(self) -> None:
        """Tell if the loop has not come round for long; before anything is read that came in the meantime."""
        before, self._turned = self._turned, time.perf_counter_ns()
        if self._turned - before >= STOOD_STILL:
            try:
                self.on_stood_still()
            except Exception:
                log.exception('what came while the computer stood still could not be taken')

    def take(self) -> bool:
        """Take the turn, if the loop's thread sleeps and nobody else has it."""
        return not self._awake and self._lock.acquire(blocking=False)

    def give_back(self) -> None:
        """Let the loop's thread go on."""
        self._lock.release()


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that may be borrowed. Whatever a borrower wants done later wakes its thread up."""

    def __init__(self) -> None:
        self._turn = _Turn()
        self._lent = False
        super().__init__(self._turn)

    def borrow(self, callback: Callable[[], object]) -> bool:
        """Call something if the loop is idle; False if it is not."""
        if self.get_debug() or not self._turn.take():  # debugging, the loop insists on its own thread
            return False
        before = asyncio._get_running_loop()
        self._lent, self._turn.changed = True, False
        try:
            asyncio._set_running_loop(self)
            self._turn.look_at_clock()
            callback()
        except Exception as exc:  # as if the loop had called it
            self.call_exception_handler({'message': f'in {callback!r}', 'exception': exc})
        finally:
            asyncio._set_running_loop(before)
            self._lent = False
            if self._turn.changed:
                super().call_soon_threadsafe(_look)
            self._turn.give_back()
        return True

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        """Have something called; see `asyncio`."""
        call = super().call_soon_threadsafe if self._lent else super().call_soon
        return call(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Have something called at a time; see `asyncio`."""
        timer = super().call_at(when, callback, *args, context=context)
        if self._lent:
            super().call_soon_threadsafe(_look)  # it sleeps perhaps for longer
        return timer


class LoopThread:
    """A thread with an event loop, which may be borrowed while it has nothing to do.

    Always the selector's, as Windows' other one goes deaf for UDP after an ICMP reset (cpython issues 91227, 127057).

    Attributes
    ----------
    loop : asyncio.AbstractEventLoop
        Closed when the thread has ended.
    on_stood_still : callable
        Called in the thread, before anything else, if it has not come round for 10 s.
    ended : BaseException or None
        Why nothing is done any more.
    """

    def __init__(self, name: str) -> None:
        self._loop = _Loop()
        self.loop: asyncio.AbstractEventLoop = self._loop
        self.ended: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        _threads.add(self)
        self._main: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._at_end: Callable[[BaseException], None] = lambda cause: None

    def start(
        self, main: Callable[[], Coroutine[Any, Any, None]], at_end: Callable[[BaseException], None], cause: Exception
    ) -> None:
        """Run a coroutine function; then, however it ended, call `at_end` with the reason: `cause` if all went well."""
        self._main, self._at_end, self._cause = main, at_end, cause
        self.thread.start()

    @property
    def is_current(self) -> bool:
        """bool: we are in this thread."""
        return threading.current_thread() is self.thread

    @property
    def on_stood_still(self) -> Callable[[], object]:
        """Callable: as the attributes say."""
        return self._loop._turn.on_stood_still

    @on_stood_still.setter
    def on_stood_still(self, callback: Callable[[], object]) -> None:
        self._loop._turn.on_stood_still = callback

    def ring(self, callback: Callable[..., object], *args: Any) -> bool:
        """Have the thread call something; False if it has ended."""
        if self.ended is not None:
            return False
        try:
            self.loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed
            return False
        return self.ended is None

    def borrow(self, callback: Callable[[], object]) -> bool:
        """Call something here and now, in the loop's place; False, and nothing was called, if the loop is not idle.

        Parameters
        ----------
        callback : callable
            What the thread could be asked to call: it finds the running loop, and nothing else of the loop runs.
        """
        return self.ended is None and self._loop.borrow(callback)

    def join(self, timeout: float) -> None:
        """Wait for the thread's end, for `timeout` (s) at most; not in itself."""
        if not self.is_current and self.thread.ident is not None:
            self.thread.join(timeout)

    def _run(self) -> None:
        cause: BaseException = self._cause
        assert self._main is not None
        try:
            asyncio.set_event_loop(self.loop)
            self.loop.run_until_complete(self._main())
        except BaseException as exc:
            log.exception('the network thread ended')
            cause = RuntimeError(f'the network thread ended: {exc!r}')
        finally:
            # In this order: first say that nothing will be done any more, then resolve what is there.
            self.ended = cause
            try:
                self._at_end(cause)
                left = asyncio.all_tasks(self.loop)
                for task in left:
                    task.cancel()
                if left:
                    self.loop.run_until_complete(asyncio.wait(left, timeout=0.1))
                # Transports close their sockets in a callback of their own: two rounds of the loop.
                for _ in range(2):
                    self.loop.run_until_complete(self.loop.create_task(_nothing()))
            except BaseException:
                log.exception('the network thread could not be tidied up')
            self.loop.close()


_threads: weakref.WeakSet[LoopThread] = weakref.WeakSet()


def _in_child() -> None:
    """Say that nothing is done any more: the threads of a process are not those of the one that it was forked from."""
    for thread in tuple(_threads):
        thread.ended = thread.ended or RuntimeError('the network thread is in the process that this was forked from')


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_in_child)


def _is_open(number: int) -> bool:
    """Tell whether a file number can be waited for."""
    try:
        select.select([number], [], [], 0)
    except OSError:
        return False
    return True


async def _nothing() -> None:
    """Let the loop run once."""


def _look() -> None:
    """Have the loop look at its timers."""
