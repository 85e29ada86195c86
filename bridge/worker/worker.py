"""The worker's life: it opens a segment and the services, takes what comes until it is stopped, and ends in order.

What becomes of a command is in `commands`, what is written down of it in `notes`. What the worker does besides, health,
events, heartbeats and lost clients, is in `housekeeping`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType

from bridge.config import (
    ClientLost,
    ListenerConfig,
    RigConfig,
    ServiceConfig,
    check_addresses,
    check_listeners,
    check_order,
)
from bridge.errors import BridgeError
from bridge.journal import Journal
from bridge.listen import owed
from bridge.segment import kept, losses
from bridge.segment.served import Segment
from bridge.segment.slate import Slate
from bridge.worker import signals
from bridge.worker.commands import Commands
from bridge.worker.housekeeping import Housekeeping
from bridge.worker.notes import Notes
from bridge.worker.opening import open_services
from bridge.worker.programs import KIND as LISTENERS
from bridge.worker.programs import Programs
from bridge.worker.reloading import Reloading, Wanted
from bridge.worker.watch import Watch

log = logging.getLogger(__name__)

_LOOK = 5.0  # s: how often the loop comes up by itself to note health; what is due earlier shortens it
_SOON = 0.1  # s: how long that can be put off while commands come
_ANSWERED = 0.5  # s: how long a clean stop waits for the answer to a question of ours
_HELD = 0.05  # s: how long at most a pass waits for the journal
_GLANCE = 0.002  # s between two looks at it
_GRACE = 2.0  # s: what a clean stop leaves to services beyond their time, and to clients to fetch their answers


class Worker:
    """Serves one segment until it is stopped.

    Parameters
    ----------
    segment : str
        Name of the segment, e.g. ``rig0``; made if there is none, adopted if its worker is gone.
    services : sequence of ServiceConfig, or mapping of str to str
        The rig's services, in order; a mapping gives name and URI.
    timeout : float
        How long a service may take to reply to one command if its configuration does not say, s.
    heartbeat : float
        Ask EXPSTATUS of a service that said nothing for this long and has no heartbeat of its own, s; 0: never.
    listeners : sequence of ListenerConfig
        Where the worker is a service itself, with a program behind it.
    on_client_lost : iterable of ClientLost
        What to send when a client ends without closing.
    any_reference : bool
        The reference of an experiment may have any form; else it is what iblrig's services can parse.
    ask : bool
        Ask EXPINFO of services whose configuration does not say, once at the start and whenever one is up again.
    notify : bool
        Send EXPCLEANUP to all services when `run` ends.
    journal : Journal, optional
        Where commands, outcomes and events are written down; closed by its owner.
    shared_addresses : bool
        Let several services be at one address; what listens there gets each command several times.
    reread : callable, optional
        Returns the configuration as it is in the files now, or raises ConfigError; without it `reload` changes nothing.
    segment_options : dict, optional
        Sizes of a new segment, see `bridge.segment.served.Segment`.

    Attributes
    ----------
    path : pathlib.Path
        The segment's file.

    Raises
    ------
    bridge.errors.WorkerBusy
        Another worker serves the segment; the sentence names it.
    ConfigError
        The order of the services cannot be kept, two of them are at one address, or one is at that of a listener.
    """

    def __init__(
        self,
        segment: str,
        services: Sequence[ServiceConfig] | Mapping[str, str] = (),
        *,
        timeout: float = 10.0,
        heartbeat: float = 0.0,
        listeners: Sequence[ListenerConfig] = (),
        on_client_lost: Iterable[ClientLost] = (),
        any_reference: bool = False,
        ask: bool = False,
        notify: bool = False,
        journal: Journal | None = None,
        shared_addresses: bool = False,
        reread: Callable[[], RigConfig] | None = None,
        segment_options: Mapping[str, int] | None = None,
    ) -> None:
        if isinstance(services, Mapping):
            services = [ServiceConfig(name, uri) for name, uri in services.items()]
        self._services = {service.name: service for service in services}
        check_order(self._services)
        if not shared_addresses:
            check_addresses(self._services)
        check_listeners(self._services, listeners)
        on_client_lost = list(on_client_lost)
        self._watch = Watch(self._services, heartbeat, on_client_lost, ask)
        self._timeout, self._notify, self._journal = timeout, notify, journal
        self._reason = ''
        self._stopping = self._hurry = False  # plain: a signal handler sets them, and must not wait for a lock
        self._former = 0.0  # s: how long a service that was removed may take to answer
        self._failure: BaseException | None = None
        self._segment = Segment(segment, **(segment_options or {}))  # first: a busy segment must not cost a socket
        self._keeper = kept.Keeper(self._segment.path)
        noted = self._segment.last_kept
        self._slate = Slate(kept.place(self._segment.path, LISTENERS), noted, self._segment.note_kept)
        self._house = Housekeeping(self._segment, self._watch, journal, self._fail, keep=self._keeper.keep)
        self._notes = Notes(self._segment, journal, self._house)
        try:
            self._house.take_up(kept.load(self._segment.path, losses.KIND))
            self._carrier = open_services(
                self._services,
                timeout,
                path=self._segment.path,
                keeper=self._keeper,
                house=self._house,
                listening={listener.name: (listener.host, listener.port) for listener in listeners},
                shared_addresses=shared_addresses,
            )
            self._carrier.on_fault = self._fail
            try:
                self._programs = Programs(
                    self._segment,
                    listeners,
                    self._carrier.thread,
                    kept=kept.load(self._segment.path, LISTENERS, noted),
                    keep=self._slate.write,
                    house=self._house,
                    fail=self._fail,
                )
                bound = [replace(one, port=self.ports[one.name]) for one in listeners]
                check_listeners(self._services, bound)
            except BaseException:
                self._carrier.close()
                raise
            self._commands = Commands(
                self._segment,
                watch=self._watch,
                house=self._house,
                programs=self._programs,
                notes=self._notes,
                carrier=self._carrier,
                longest=self._longest,
                is_stopping=lambda: self._stopping,
                reload=self._want,
                fail=self._fail,
            )
            listen = {listener.name: listener for listener in listeners}
            rig = RigConfig(self._services, heartbeat, tuple(on_client_lost), any_reference, ask, listen)
            self._begin_with(rig)
            self._reloading = Reloading(
                rig,
                reread,
                timeout=timeout,
                bound=bound,
                shared_addresses=shared_addresses,
                carrier=self._carrier,
                watch=self._watch,
                house=self._house,
                segment=self._segment,
                journal=journal,
                adopt=self._adopt,
                answer=self._commands.reloaded,
                fail=self._fail,
            )
            self._segment.publish_services(self._services)
            self._house.show()  # the line before has wiped out what was heard while this began
        except BaseException:
            self._segment.close()
            raise
        self.path: Path = self._segment.path
        if self._segment.replaced:
            log.warning('the segment was made anew: %s', self._segment.replaced)
        self._notes.start(
            segment,
            self._services.values(),
            timeout=timeout,
            any_reference=any_reference,
            notify=notify,
            heartbeat=heartbeat,
            on_client_lost=[asdict(rule) for rule in on_client_lost],
            ask=ask,
            listeners=[asdict(listener) | {'port': self.ports[listener.name]} for listener in listeners],
        )

    def __repr__(self) -> str:
        return f'<Worker of {self.path.name}: {", ".join(self._services) or "no services"}>'

    # --- the loop ---

    @property
    def ports(self) -> dict[str, int]:
        """Dict of str to int: the port of each listener."""
        return self._programs.ports

    def run(self) -> None:
        """Serve until `stop`. What is queued then is answered.

        Raises
        ------
        bridge.errors.Superseded
            Another worker has taken over the segment.
        RuntimeError
            The network thread has ended by itself, of which the log tells: another worker has to go on.
        """
        self._carrier.lends = not signals.may_raise()
        with signals.rung_for(self._segment.ring):
            self._serve()
        if self._failure:
            raise self._failure

    def _serve(self) -> None:
        self._pass(0.0)
        self._programs.start()
        if self._segment.epoch > 1:
            self._house.tell('WORKER_RESTARTED')  # after the first pass, which finds the clients
        self._house.tell_all()
        self._house.keep_losses()  # who looks from outside is to know what a client's death would owe
        ticked, put_off = 0.0, False
        while not self._stopping:
            self._reloading.go_on()
            took = self._pass(_SOON if put_off else self._watch.pause(time.perf_counter_ns(), _LOOK))
            # After a command the network thread needs the interpreter; what is not urgent gets it a little later.
            put_off = bool(took) and time.monotonic() < ticked + _SOON
            if not (put_off or self._failure):
                self._house.tick(self._carrier)
                ticked = time.monotonic()
        self._finish()

    def _pass(self, timeout: float) -> int:
        try:
            self._let_journal_catch_up()
            batch = self._segment.take_commands(timeout)
        except BridgeError as error:
            self._fail(error)
            return 0
        if batch:
            self._commands.begin(batch)
        self._commands.deliver()
        return len(batch)

    def _let_journal_catch_up(self) -> None:
        """Take interrupts only for a moment, if more commands come than the journal's disk has taken by now."""
        if not self._journal or not self._journal.is_pressed():
            return
        until = time.monotonic() + _HELD
        while self._journal.is_pressed() and not self._failure and time.monotonic() < until:
            self._commands.begin(self._segment.take_interrupts(_GLANCE))
            self._commands.deliver()

    def stop(self, reason: str = '') -> None:
        """Ask `run` to end when what is under way has been answered; asked again: at once.

        From any thread or signal handler.

        Parameters
        ----------
        reason : str
            What the journal says of it, such as SIGINT.
        """
        self._reason = self._reason or reason
        self._hurry = self._stopping
        self._stopping = True
        self._segment.ring()

    def _finish(self) -> None:
        """Answer everything: what is under way is answered by its services in their time, the rest is aborted."""
        self._reloading.stop()
        self._carrier.begin_nothing()
        self._programs.stop()
        self._wait_for(
            lambda: self._commands.under_way or self._house.under_way or self._carrier.awaits_more(), self._longest()
        )
        self._wait_for(lambda: not self._programs.is_quiet, _GRACE + max(self._programs.timeouts, default=0.0))
        self._wait_for(lambda: self._house.asking, _ANSWERED)  # an answer that is not confirmed closes the service
        if self._notify and not self._failure and not self._hurry:
            self._house.send('EXPCLEANUP', self._carrier)
            self._wait_for(lambda: self._house.under_way, self._longest())
        self._programs.close()
        self._carrier.close()  # ends what is still under way, as aborted
        until, outbox = time.monotonic() + _GRACE, self._commands.outbox
        while not self._failure and time.monotonic() < until and (self._pass(0.02) or len(outbox)):
            pass
        if len(outbox):
            log.warning('%d responses could not be delivered: their clients do not read them', len(outbox))
        if not self._failure:  # else it may be another worker's by now
            self._house.leave()

    def _longest(self) -> float:
        """Return how long a service may take to answer, s."""
        timings = [service.timing(self._timeout) for service in self._services.values() if not service.unsupported]
        return max([self._former, *(timing.timeout or self._timeout for timing in timings)]) + _GRACE

    def reload(self) -> None:
        """Have the files of services and settings read again; what comes of it is logged.

        From any thread or signal handler.
        """
        self._reloading.signal()

    def _want(self, wanted: Wanted) -> None:
        self._reloading.want(wanted)

    def _adopt(self, rig: RigConfig) -> None:
        """Go on with other services; in the network thread, while ours waits."""
        self._former = self._longest() - _GRACE
        self._services = rig.services
        self._begin_with(rig)
        self._programs.change(rig.listen.values())

    def _begin_with(self, rig: RigConfig) -> None:
        """Have those who look at the services look at these."""
        self._house.change(service.name for service in rig.services.values() if service.optional)
        self._commands.change(rig.services, rig.any_reference)

    def _wait_for(self, busy: Callable[[], object], patience: float) -> None:
        """Go on passing what comes, which is refused but for interrupts, while something is under way."""
        until = time.monotonic() + patience
        while busy() and not self._failure and not self._hurry and time.monotonic() < until:
            self._pass(0.05)
            self._house.look_for_lost()  # their slots are wanted by others

    def close(self, *, remove: bool = False) -> None:
        """Close the services' sockets and let go of the segment. Harmless twice.

        Parameters
        ----------
        remove : bool
            Delete the segment's file, and tell the clients that it is gone; but not while something has still to be
            sent for a lost client, or a master to hear something, which only the next worker of this segment can do.
        """
        self._programs.close()
        self._carrier.close()
        self._keeper.close()
        self._slate.close()
        self._notes.stop(str(self._failure) if self._failure else self._reason)
        remove = remove and self._segment.worker is not None and not self._stays_for()
        if remove and not isinstance(
            self._failure, BridgeError
        ):  # else what is beside it may be another worker's by now
            kept.forget(self.path)
        self._segment.close(remove=remove)

    def _stays_for(self) -> bool:
        """Tell whether the segment has to stay for what the next worker has to do, and say so."""
        masters = [owed.sentence(one) for one in self._programs.waiting()]
        for said in masters:
            log.warning('%s: the next worker says it', said)
        if stays := bool(masters or self._watch.owed()):
            log.warning(
                'the segment %s stays for the next worker; to give that up: iblbridge doctor --clean --drop %s',
                self.path.name,
                self.path.name,
            )
        return stays

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fail(self, error: BaseException) -> None:
        """Nothing may be dispatched any more."""
        self._failure = self._failure or error
        self.stop()
