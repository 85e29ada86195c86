"""Joins listeners and the segment: what masters ask goes to the program that serves, and its answer back to them.

Everything but `Programs.take` is done in the network thread, where the listeners are. An answer is accepted, given to
its master and only then marked as done: a worker that dies in between leaves it to the next one, which knows by the
answer alone whom to tell. What a program was handed outlives the worker, too, and is taken up by the next one. The rest
of what a master waits for is kept beside the segment before its echo leaves, before a program can take it, before its
answer leaves, and once that has left. So a worker may be killed anywhere in between. The next one does, in this order:

1. What stands in a program's ring it has in hand, as the one before had.
2. What no program can have had it carries out as if it had just come, unless it is too old, or the PC slept meanwhile.
3. What a program answers goes to its master.
4. When no such answer can come any more, the masters of the rest hear what they were about to be told, or else that it
   was not begun, or that whether it was done is not known.

A program that ends is found by looking, some times a second: first what it had in hand is told, then, if it was running
an experiment, that it ended.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from bridge.config import ListenerConfig
from bridge.errors import BridgeError, error_for
from bridge.listen import memory, owed, rules
from bridge.listen.asked import Asked
from bridge.listen.desk import Desk
from bridge.listen.memory import Address
from bridge.listen.owed import Left
from bridge.listen.server import NotBound, Server, bound, not_to_be_had
from bridge.loop import LoopThread
from bridge.numbers import CODES
from bridge.segment import serving
from bridge.segment.listeners import Listener
from bridge.segment.served import Segment, Taken
from bridge.segment.serving import Answer, Incoming, Tell
from bridge.worker.behind import Behind
from bridge.worker.housekeeping import Housekeeping
from bridge.worker.listener_notes import ListenerNotes

log = logging.getLogger(__name__)

KIND = 'listeners'
LOOK = 0.1  # s between two looks at the programs
LEFT_FOR = 200 * rules.MS  # until what the worker before us had in hand is told of: an answer may stand in a ring
KEEP_EVERY = 1000 * rules.MS  # of messages of strangers, who may send many
LATE = owed.LATE
_ADDRESS = re.compile(r'([0-9]{1,3}(?:\.[0-9]{1,3}){3}):([0-9]{1,5})')


class Programs:
    """All listeners of a worker, and the programs behind them.

    Parameters
    ----------
    segment : Segment
        Where the programs are.
    listeners : sequence of ListenerConfig
        As configured.
    thread : LoopThread
        Where they run.
    kept : mapping
        What the worker before us left; see `bridge.segment.kept`.
    keep : callable
        Keeps a map for the next worker, or what the second gives if that is too much, and returns when it has; False
        if that failed: then the next worker knows of nothing.
    house : Housekeeping
        Notes who serves, what was asked and what was replied.
    fail : callable
        Called with the exception that says that this worker has to stop.

    Raises
    ------
    ConfigError
        An address cannot be listened at.
    """

    def __init__(
        self,
        segment: Segment,
        listeners: Sequence[ListenerConfig],
        thread: LoopThread,
        *,
        kept: Mapping[str, Any],
        keep: Callable[[Mapping[str, Any], Callable[[], Mapping[str, Any]]], bool],
        house: Housekeeping,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._segment, self._thread, self._keep, self._house, self._fail = segment, thread, keep, house, fail
        self._incoming = Incoming(segment)
        self._owners: dict[tuple[int, int], tuple[str, int]] = {}
        self._behind: dict[str, Behind] = {}
        self._servers: dict[str, Server] = {}
        self._hosts: dict[str, str] = {}
        self._kept_at, self._kept_refused = 0, 0
        self._left: dict[str, list[Left]] = {}  # what the worker before us owed an answer, and nobody has
        self._left_until = 0
        self._is_changed = self._is_unkept = False
        self._closed = False
        try:
            for listener in listeners:
                self._make(listener, kept)
            self._incoming.publish(self._servers)
            self._inherit()
        except BaseException:
            for server in self._servers.values():
                server.close()
            raise

    def _make(self, listener: ListenerConfig, kept: Mapping[str, Any]) -> None:
        mine = kept.get('segment') == self._key and isinstance(kept.get('listeners'), dict)
        before = kept['listeners'].get(listener.name) if mine else None
        behind = self._behind[listener.name] = Behind(listener.name, self._incoming, self._owners, self._house.note)
        desk = Desk(
            listener.name,
            behind,
            memory.found(before),
            timeout=listener.timeout,
            masters=listener.masters,
            cut=listener.max_message_size,
        )
        self._hosts[listener.name] = listener.host
        desk.changed, desk.keep = self._mark, self._keep_what_changed
        has_slept = owed.has_slept(kept, time.perf_counter_ns(), time.time_ns())
        self._left[listener.name] = [
            one._replace(datagram=b'') if has_slept else one  # nor does a worker after us begin it
            for one in owed.left(before)
        ]
        behind.expected = desk.memory.status != rules.CONNECTED
        try:
            sock = bound(listener.host, listener.port, memory.port_of(before))
        except NotBound as error:
            raise not_to_be_had(error, f'listen: {listener.name}: {error.strerror}.') from error
        notes = ListenerNotes(f'{self._key}-{listener.name}-{self._segment.epoch}', behind, self._house)
        self._servers[listener.name] = Server(desk, sock, self._thread.loop, notes.note)

    @property
    def _key(self) -> str:
        return f'{self._segment.id:016x}'

    @property
    def ports(self) -> dict[str, int]:
        """Dict of str to int: where each listener is."""
        return {name: server.port for name, server in self._servers.items()}

    def listeners(self, now: int) -> list[Listener]:
        """Return what is known of each listener, from any thread; `now` in ns."""
        return [self._describe(name, now) for name in self._servers]

    def _describe(self, name: str, now: int) -> Listener:
        desk, behind = self._servers[name].desk, self._behind[name]
        memory = desk.memory
        return Listener(
            name,
            f'udp://{self._hosts[name]}:{self.ports[name]}',
            behind.client,
            behind.pid if behind.client else 0,
            memory.status,
            memory.exp_ref or '',
            tuple(f'{host}:{port}' for host, port in tuple(memory.masters)),
            (now - memory.heard) / 1e9 if 0 < memory.heard <= now else None,
            desk.counts['strangers'],
        )

    @property
    def timeouts(self) -> list[float]:
        """List of float: how long each program has for one command, s."""
        return [server.desk.timeout / 1e9 for server in self._servers.values()]

    @property
    def is_quiet(self) -> bool:
        """bool: no command is in hand, no program is missed, and no master has to confirm anything."""
        return all(server.desk.is_quiet and not self._misses(name) for name, server in tuple(self._servers.items()))

    def _misses(self, name: str) -> bool:
        """Tell whether a program may just have ended, which its masters are told once it was missed for some looks."""
        return self._behind[name].expected and not self._incoming.claim_of(name)

    def waiting(self) -> list[owed.Waiting]:
        """Return which masters have still to hear something; once this is closed."""
        served = [name for name in self._servers if self._incoming.claim_of(name)]
        return owed.waiting(self._known(), self._key, time.perf_counter_ns(), served)

    def _inherit(self) -> None:
        """Take up what the worker before us had handed to programs."""
        now = time.perf_counter_ns()
        for one in self._incoming.inherit():
            body = one.body
            address = _address(body.get('master'))
            server, patience = self._servers.get(str(body.get('service'))), body.get('timeout_ms')
            args = body.get('args')
            if server is None or address is None or type(patience) is not int or not isinstance(args, list):
                self._incoming.withdraw(one.token)
                continue
            due = min(one.stamp + patience * rules.MS, now + server.desk.timeout)
            asked = Asked(server.desk.number(), address, one.message, args, one.stamp, max(due, now))
            self._left[server.desk.name] = [
                left
                for left in self._left[server.desk.name]
                if (left.address, left.event, left.arrived) != (address, one.message, one.stamp)
            ]
            self._behind[server.desk.name].keep(asked.number, one.token)
            server.desk.inherit(asked, now)

    # --- life, from the worker's thread ---

    def start(self) -> None:
        """Begin to listen, in the network thread."""
        if self._servers:
            self._keep_all()
            self._thread.ring(self._guarded, self._open)

    def take(self, taken: Taken) -> None:
        """Take what a program says: an answer, or something by itself."""
        if not self._thread.ring(self._guarded, self._said, taken):
            log.warning('%s says something, but the network thread has ended', taken.services)

    def stop(self) -> None:
        """Begin nothing new: what waits is ended, what is in hand has its time."""
        self._thread.ring(self._guarded, self._stop)

    def close(self) -> None:
        """End everything; what a program has in hand is taken from it. Harmless twice."""
        if self._closed:
            return
        self._closed = True
        done: Future[None] = Future()

        def close() -> None:
            for server in self._servers.values():
                with suppress(BridgeError):
                    server.desk.abandon('RuntimeError: the worker was stopped')
                    server.run()
                server.close()
            done.set_result(None)

        if self._thread.ring(close):
            with suppress(futures.TimeoutError):  # on Python 3.10 not the built-in one
                done.result(1.0)
        else:
            for server in self._servers.values():
                server.close()

    # --- in the network thread ---

    def _guarded(self, what: Callable[..., None], *args: Any) -> None:
        try:
            what(*args)
        except BridgeError as error:
            self._fail(error)
        except Exception as error:
            log.exception('the listeners failed')
            self._fail(error)

    def _open(self) -> None:
        now = time.perf_counter_ns()
        for name, server in self._servers.items():
            if not self._closed:
                self._take_up(name, server.desk, now, questions=False)
                server.open()
        self._left_until = time.perf_counter_ns() + LEFT_FOR
        self._look()

    def change(self, listeners: Iterable[ListenerConfig]) -> None:
        """Take other settings of the listeners that there are; where they are stays."""
        for listener in listeners:
            desk = self._servers[listener.name].desk
            desk.change(listener.timeout, listener.masters, listener.max_message_size)

    def _stop(self) -> None:
        for server in self._servers.values():
            server.desk.close('RuntimeError: the worker was stopped')
            server.run()

    def _look(self) -> None:
        """See what has become of the programs, again and again."""
        if self._closed:
            return
        now = time.perf_counter_ns()
        for name, server in self._servers.items():
            server.turn()
            self._behind[name].look(server.desk, now)
            if self._left[name] and now >= self._left_until:
                self._tell_what_is_left(name, server.desk, now)
            server.run()
        is_old = self._is_unkept or self._refused() != self._kept_refused
        if is_old and now - self._kept_at >= KEEP_EVERY:
            self._keep_all()
        self._thread.loop.call_later(LOOK, self._guarded, self._look)

    def _take_up(self, name: str, desk: Desk, now: int, *, questions: bool) -> None:
        """Carry out what the worker before us was asked and had not begun, if its time is not up.

        Questions wait until the answers are in that change what is said to them.
        """
        since = now - min(desk.timeout, LATE)
        for one in owed.not_begun(self._left[name], since, questions=questions):
            self._left[name].remove(one)
            desk.take_up(one, now)

    def _tell_what_is_left(self, name: str, desk: Desk, now: int) -> None:
        """Tell the masters of what the worker before us was asked, if no answer has come through a ring."""
        self._take_up(name, desk, now, questions=True)
        for one in self._left[name]:
            if now - one.arrived < LATE:
                desk.forgotten(one)
        self._left[name] = []
        self._mark()

    def _said(self, taken: Taken) -> None:
        if self._closed:
            return  # the next worker delivers it
        # What the worker before us had accepted, its master may have been told or not: better twice than never.
        if not taken.is_orphan and (code := self._segment.accept(taken)):
            if code in (CODES['IBLB_E_SUPERSEDED'], CODES['IBLB_E_SEGMENT']):
                self._fail(error_for(code))
            return
        said = serving.said(taken)
        if isinstance(said, Answer):
            self._answered(said, taken.stamp)
        elif isinstance(said, Tell) and said.listener in self._servers:
            server = self._servers[said.listener]
            wrong = server.desk.tell(said.message, _data(said.data), time.perf_counter_ns())
            if wrong:
                log.warning('%s: what its program says by itself is not passed on: %s', said.listener, wrong)
            server.run()
        else:
            log.warning('what a program said makes no sense, or no listener is called %s', taken.services[:64])
        self._segment.respond(taken, 0, b'\x80')

    def _answered(self, answer: Answer, stamp: int) -> None:
        name, number = self._owners.get((answer.slot, answer.number), (answer.listener, 0))
        if name not in self._servers:
            return
        server = self._servers[name]
        data = None if answer.failed else _data(answer.data)
        error = f'{answer.data or "the program gave no reason"}' if answer.failed else ''
        if number and error:
            server.desk.failed(number, error)
        elif number:
            server.desk.answered(number, answer.status, data)
        elif time.perf_counter_ns() - stamp < LATE and (address := _address(answer.master)) is not None:
            place = answer.slot, answer.number
            left = owed.answered(self._left[name], address, answer.message, place)
            self._left[name] = [one for one in self._left[name] if one is not left]
            server.desk.late(left, status=answer.status, data=data, error=error)
        server.run()
        self._behind[name].forget(number)

    # --- what is kept, and written down ---

    def _refused(self) -> int:
        return sum(server.desk.counts['strangers'] for server in self._servers.values())

    def _mark(self) -> None:
        self._is_changed = True

    def _keep_what_changed(self) -> None:
        """Keep it, before what comes next is seen by anybody else."""
        if self._is_changed:
            self._keep_all()

    def _owed(self, name: str) -> list[Left]:
        """Return the commands that a master waits for the answer to, for the next worker."""
        tokens = self._behind[name].tokens
        commands = list(self._left[name])
        for debt in self._servers[name].desk.owed:
            asked, token = debt.asked, tokens.get(debt.asked.number)
            place = (-1, 0) if token is None else (int(token.slot), int(token.number))
            ref = rules.named_reference(asked.event, asked.data) or ''
            left = Left(asked.address, asked.event, asked.arrived, *place, debt.handed, ref)
            commands.append(left._replace(message=debt.message, datagram=asked.datagram))
        return commands

    def _keep_all(self) -> None:
        self._is_changed = False
        self._kept_at = time.perf_counter_ns()
        self._kept_refused = self._refused()
        is_unkept = not self._keep(self._known(), partial(self._known, briefly=True))
        if is_unkept and not self._is_unkept:
            log.warning('what the listeners owe cannot be kept beside the segment: a new worker would not know of it')
        self._is_unkept = is_unkept

    def _known(self, *, briefly: bool = False) -> dict[str, Any]:
        """Return what the next worker has to know; briefly, if there is no room for what was said."""
        to_row = owed.to_brief_row if briefly else owed.to_row
        desks = {
            name: memory.to_keep(server.desk.memory, server.port)
            | {
                'host': self._hosts[name],
                'refused': server.desk.counts['strangers'],
                'open': [to_row(one) for one in self._owed(name)],
            }
            for name, server in self._servers.items()
        }
        clocks = [self._kept_at, time.time_ns()]
        return {'segment': self._key, 'clocks': clocks, 'listeners': desks}


def _address(text: Any) -> Address | None:
    """Return the address that a text such as 192.168.0.3:55123 is."""
    match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None  # of bounded length, or int() raises
    if match is None:
        return None
    host, port = match[1], int(match[2])
    return (host, port) if all(int(part) < 256 for part in host.split('.')) and 0 < port < 65536 else None


def _data(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):  # a broken program
        return None
