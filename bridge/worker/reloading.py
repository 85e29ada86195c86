"""Other services while the worker runs: its files are read again, and what they say now is taken over, or refused.

    wanted ──► read and prepared, in a thread of its own ──► taken over between two passes of the loop ──► told

- **Nobody waits** for a disk, a name server or a socket: that is done in the thread. The worker's loop begins, and goes
  on when the thread has ended.
- **All or nothing**: what cannot be used is refused with its sentence, and nothing has changed. Otherwise everything
  changes at once, in the network thread, while the loop stands still: each command goes to the services of the old list
  or to those of the new one.
- **The file is the truth.** A worker that is killed in the middle of this leaves nothing behind: the next one begins
  with what the files say.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection
from concurrent import futures
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bridge.changes import Changes, changes
from bridge.config import ConfigError, ListenerConfig, RigConfig, check_addresses, check_listeners, check_order
from bridge.segment.served import Segment, Taken

if TYPE_CHECKING:
    from bridge.journal import Journal
    from bridge.services.carrier import UdpCarrier
    from bridge.services.changing import Prepared
    from bridge.worker.housekeeping import Housekeeping
    from bridge.worker.watch import Watch

log = logging.getLogger(__name__)

SIGNAL = 'SIGHUP'
PATIENCE = 10.0  # s for looking up names and opening sockets
NO_FILE = 'this worker has no file of services: what stands on its command line takes a restart'
MOST = 30.0  # s that a reload may take
SLOW = f'its files, or the names in them, could not be read within {MOST:g} s; try again'
STOPPED = 'the worker was stopped before it had read its files again'


@dataclass(eq=False)
class Wanted:
    """One wish for a reload: by whom, and the command that is to be answered, None for a signal's."""

    by: str
    taken: Taken | None = None
    only_check: bool = False


@dataclass
class Verdict:
    """What came of a reload."""

    changes: Changes = field(default_factory=Changes)
    refused: str = ''


@dataclass
class _Run:
    """One reload on its way."""

    wanted: list[Wanted]
    only_check: bool
    verdict: Verdict = field(default_factory=Verdict)
    rig: RigConfig | None = None
    prepared: Prepared | None = None
    fault: BaseException | None = None
    is_ready: bool = False
    is_left: bool = False
    began: float = field(default_factory=time.monotonic)


class Reloading:
    """Takes wishes for a reload, and carries them out one after the other; of the worker's loop but for `signal`.

    Parameters
    ----------
    rig : RigConfig
        What the worker begins with.
    read : callable or None
        Reads the files again; raises ConfigError. None: there are none.
    timeout : float
        Of services that have none of their own, s.
    bound : collection of ListenerConfig
        The worker's own listeners, with the ports that they have: no service may be there.
    shared_addresses : bool
        Several services may be at one address.
    carrier, watch, house, segment, journal
        What is to go on with the new services.
    adopt : callable
        Has the worker itself go on with a configuration; in the network thread.
    answer : callable
        Tells a program what came of its wish.
    fail : callable
        Called with the exception that says that this worker has to stop.
    """

    def __init__(
        self,
        rig: RigConfig,
        read: Callable[[], RigConfig] | None,
        *,
        timeout: float,
        bound: Collection[ListenerConfig],
        shared_addresses: bool,
        carrier: UdpCarrier,
        watch: Watch,
        house: Housekeeping,
        segment: Segment,
        journal: Journal | None,
        adopt: Callable[[RigConfig], None],
        answer: Callable[[Taken, Verdict], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._rig, self._read, self._timeout, self._shared = rig, read, timeout, shared_addresses
        self._bound = bound
        self._carrier, self._watch, self._house, self._segment, self._journal = carrier, watch, house, segment, journal
        self._adopt, self._answer, self._fail = adopt, answer, fail
        self._waiting: list[Wanted] = []
        self._signalled = False  # plain: a signal handler sets it
        self._run: _Run | None = None

    def signal(self) -> None:
        """Ask for a reload; from any thread or signal handler."""
        self._signalled = True
        self._segment.ring()

    def want(self, wanted: Wanted) -> None:
        """Ask for a reload; begun by the next `go_on`."""
        self._waiting.append(wanted)

    def go_on(self) -> None:
        """Begin with what is wanted, or take over what is ready; before each pass. Waits for next to nothing."""
        if self._run is not None:
            if self._run.is_ready:
                run, self._run = self._run, None
                self._finish(run)
            elif time.monotonic() > self._run.began + MOST:
                self._leave()
        elif self._signalled or self._waiting:
            if self._signalled:
                self._signalled = False
                self._waiting.append(Wanted(SIGNAL))
            self._begin()

    def _leave(self) -> None:
        """Wait no longer for one: its thread may hang in the file system, and what it finds is no longer wanted."""
        run, self._run = self._run, None
        if run is not None:
            run.is_left = True
            self._drop(run)
            self._finish(_Run(run.wanted, run.only_check, Verdict(refused=SLOW)))

    def stop(self) -> None:
        """Begin nothing new, and tell those who wait."""
        run, self._run = self._run, None
        if run is not None:
            run.is_left = True
            self._drop(run)
        wanted, self._waiting = self._waiting + (run.wanted if run else []), []
        for one in wanted:
            if one.taken is not None:
                self._answer(one.taken, Verdict(refused=STOPPED))

    def _begin(self) -> None:
        """Begin with those who want the same as the first."""
        only_check = self._waiting[0].only_check
        wanted = [one for one in self._waiting if one.only_check == only_check]
        self._waiting = [one for one in self._waiting if one.only_check != only_check]
        self._run = run = _Run(wanted, only_check)
        try:
            threading.Thread(target=self._prepare, args=(run,), name='reload', daemon=True).start()
        except RuntimeError as error:  # there can be no more threads: the rig goes on as it is
            run.fault, run.verdict.refused = error, f'the worker cannot read them at the moment: {error}'
            run.is_ready = True
            self._segment.ring()

    # --- in a thread of its own ---

    def _prepare(self, run: _Run) -> None:
        try:
            if self._read is None:
                raise ConfigError(NO_FILE)
            run.rig = self._read()
            run.verdict.changes = self._checked(run.rig)
            if run.verdict.changes:
                run.prepared = self._opened(run.rig)
        except ConfigError as error:
            run.verdict.refused = str(error).removesuffix('.')
        except BaseException as error:
            run.fault = error
            run.verdict.refused = f'the worker failed at it: {type(error).__name__}: {error}'
        run.is_ready = True
        if run.is_left:
            self._drop(run)
        self._segment.ring()

    def _drop(self, run: _Run) -> None:
        """Close what was opened for nothing; from any thread."""
        prepared, run.prepared = run.prepared, None
        if prepared is not None:
            self._carrier.thread.ring(prepared.give_up)

    def _checked(self, rig: RigConfig) -> Changes:
        """Return what is different; ConfigError if that cannot be taken over."""
        check_order(rig.services)
        if not self._shared:
            check_addresses(rig.services)
        check_listeners(rig.services, self._bound)
        found = changes(self._rig, rig)
        if found.moved:
            what = 'listeners that come, go or move take a restart'
            raise ConfigError(f'listen: {", ".join(found.moved)}: {what}')
        return found

    def _opened(self, rig: RigConfig) -> Prepared:
        from bridge.services.changing import CannotChange, prepare

        services = rig.services.values()
        coming = prepare(
            self._carrier,
            {service.name: service.uri for service in services},
            {service.name: service.timing(self._timeout) for service in services},
        )
        try:
            opening = asyncio.run_coroutine_threadsafe(coming, self._carrier.thread.loop)
        except RuntimeError as error:  # the loop is closed
            coming.close()
            raise ConfigError(STOPPED) from error
        try:
            return opening.result(PATIENCE)
        except CannotChange as error:
            raise ConfigError(f'services: {error}') from error
        except (futures.TimeoutError, futures.CancelledError) as error:
            opening.cancel()
            raise ConfigError('services: their sockets could not be opened in time; reload again') from error

    # --- the end of one, in the worker's loop ---

    def _finish(self, run: _Run) -> None:
        verdict, by = run.verdict, ', '.join(dict.fromkeys(one.by for one in run.wanted))
        if run.only_check:
            self._drop(run)
        elif run.prepared is not None and run.rig is not None:
            rig, prepared = run.rig, run.prepared
            self._in_network_thread(lambda: self._take_over(rig, prepared, verdict.changes, by))
        if verdict.refused:
            log.error('the reload by %s is refused, nothing was changed: %s', by, verdict.refused, exc_info=run.fault)
        else:
            log.info('%s by %s: %s', 'a reload is tried' if run.only_check else 'reloaded', by, verdict.changes)
        if not run.only_check and (verdict.refused or not verdict.changes.of_services):
            self._write(by, Changes() if verdict.refused else verdict.changes, verdict.refused)
        for one in run.wanted:
            if one.taken is not None:
                self._answer(one.taken, verdict)

    def _in_network_thread(self, what: Callable[[], None]) -> None:
        """Have the network thread do something, and wait for that; what fails in the middle ends this worker."""
        done: Future[None] = Future()

        def do() -> None:
            try:
                what()
            except BaseException as error:
                log.exception('the services could not be changed')
                self._fail(error)
            done.set_result(None)

        if not self._carrier.thread.ring(do):
            return  # it has ended, and so does this worker
        while not done.done() and self._carrier.thread.thread.is_alive():
            futures.wait({done}, timeout=0.2)

    def _take_over(self, rig: RigConfig, prepared: Prepared, found: Changes, by: str) -> None:
        self._rig = rig
        prepared.take_over({service.name: service.after for service in rig.services.values() if service.after})
        self._watch.change(rig.services, prepared.kept, rig.heartbeat, rig.on_client_lost, rig.ask)
        self._adopt(rig)
        self._segment.publish_services(rig.services)
        self._house.show()
        if not found.of_services:
            return
        self._write(by, found)
        self._house.tell('SERVICES_CHANGED', data=[{**found.names, 'services': list(rig.services)}])

    def _write(self, by: str, found: Changes, refused: str = '') -> None:
        """Have the journal say what came of it."""
        if self._journal:
            said = {**found.names, 'changed_settings': list(found.settings), 'reordered': found.reordered}
            self._journal.write('reload', by=by, ok=not refused, error=refused, **said, **self._settings())

    def _settings(self) -> dict[str, Any]:
        """Return what the rig is like now, as the journal has it."""
        rig = self._rig
        return {
            'settings': {
                'heartbeat': rig.heartbeat,
                'ask': rig.ask,
                'any_reference': rig.any_reference,
                'on_client_lost': [asdict(rule) for rule in rig.on_client_lost],
                'listeners': [asdict(listener) for listener in rig.listen.values()],
            },
            'services': [asdict(service) for service in rig.services.values()],
        }
