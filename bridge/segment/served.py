"""The worker's side of a segment: batches of commands, and responses.

`Segment` is a thin face of ``iblbridge_worker.h``. A batch costs one C call, one copy of the payloads and one msgpack
stream, however many commands of however many clients it holds. The worker takes each command as a value, with
`Segment.take_commands`; `Segment.take` gives the batch as a numpy array besides, which the worker does not pay for:
`struct` reads one descriptor in half of numpy's time, and 64 in a third of it.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from bridge.errors import check
from bridge.numbers import CODES
from bridge.segment.library import ffi, lib, struct_dtype, text_of
from bridge.segment.response import pack

COMMAND: np.dtype[Any] = struct_dtype('iblbw_command')
"""numpy.dtype: a command's descriptor: slot, generation, position and request tell which it is; stamp and ttl (ns),
message and flags what."""

COMMANDS = int(lib.IBLBW_COMMANDS)  # what those who watch commands subscribe to
RELOAD = int(lib.IBLBW_RELOAD)  # the message of `iblbridge reload`
_NOTIFY, _JSON = int(lib.IBLBW_NOTIFY), int(lib.IBLBW_JSON)
_ORPHAN, _LEFT = int(lib.IBLBW_ORPHAN), int(lib.IBLBW_LEFT)
_FULL = CODES['IBLB_E_FULL']
BATCH = 64  # commands at a time: who comes next waits for so many at most
_PAYLOAD_BYTES = 1 << 20
_PAIR = b'\x92'  # an array of two follows
_DESCRIPTOR, _DESCRIPTORS = ffi.typeof('struct iblbw_command *'), ffi.typeof('struct iblbw_command[]')
_ROW = struct.Struct(''.join(COMMAND[name].char for name in COMMAND.names or ()))  # the same bytes, as plain values


@dataclass(eq=False, slots=True)
class Taken:
    """One command that was taken from a segment, and what its worker notes about it.

    What it says is kept out of the representation, because what is printed gets logged, and ALYX carries a token.

    Attributes
    ----------
    key : cffi pointer
        The C descriptor, for `Segment.accept` and `Segment.respond`.
    batch : cffi object
        Keeps the memory that `key` points into.
    request : int
        The number in its slot, 64 bits.
    position, stamp, ttl, slot, generation, message, flags, payload_offset, payload_bytes : int
        As in iblbridge_worker.h, and in its order: a row of the descriptors is what a command is made of.
    services : str
        Names separated by commas, as the client gave them.
    arguments : object
        The second object of the payload.
    id : str
        Noted: its key in journals and logs.
    client : str
        Noted: the name of the program that sent it, if somebody wants to know.
    name : str
        Noted: the message's name, its number if it has none.
    args : tuple
        Noted: the arguments, checked.
    accepted : int
        Noted: when it was accepted, ns of ``time.perf_counter_ns``; 0 for never.
    wall : int
        Noted: the same moment, ns of ``time.time_ns``.
    """

    key: Any
    batch: Any
    request: int
    position: int
    stamp: int
    ttl: int
    slot: int
    generation: int
    message: int
    flags: int
    payload_offset: int
    payload_bytes: int
    services: str
    arguments: Any = field(repr=False)
    id: str = ''
    client: str = ''
    name: str = ''
    args: tuple[Any, ...] = field(default=(), repr=False)
    accepted: int = 0
    wall: int = 0

    @property
    def wants_response(self) -> bool:
        """bool: False for a notification."""
        return not self.flags & _NOTIFY

    @property
    def is_json(self) -> bool:
        """bool: the arguments are JSON text."""
        return bool(self.flags & _JSON)

    @property
    def is_orphan(self) -> bool:
        """bool: an earlier worker had accepted it and died."""
        return bool(self.flags & _ORPHAN)

    @property
    def is_left(self) -> bool:
        """bool: who sent it had left its slot before we came, and another has it."""
        return bool(self.flags & _LEFT)

    @property
    def deadline(self) -> float:
        """float: the ``time.perf_counter`` at which its time to live ends."""
        return math.inf if self.ttl < 0 else (self.stamp + self.ttl) / 1e9


def unpack_batch(payloads: Any, count: int) -> list[Any]:
    """Return services and arguments of each command of a batch, one after the other, in its order.

    Parameters
    ----------
    payloads : bytes-like
        Two msgpack objects a command, one after the other, already checked by the C side.
    count : int
        How many commands, `BATCH` at most.
    """
    # As one array. No Unpacker that is kept: it would keep a token; and one that is made anew costs twice as much.
    array = b''.join((b'\xdc', (2 * count).to_bytes(2, 'big'), payloads))
    both: list[Any] = msgpack.unpackb(array, strict_map_key=True)
    return both


class Segment:
    """A segment that this process serves.

    Parameters
    ----------
    name : str
        e.g. ``rig0``.
    slots, command_bytes, response_bytes, event_bytes, incoming_bytes : int
        Sizes of a new segment; 0 for the default. An existing one keeps its own.

    Raises
    ------
    bridge.errors.WorkerBusy
        Another worker holds it.
    bridge.errors.BridgeError
        It cannot be made.
    """

    def __init__(
        self,
        name: str,
        *,
        slots: int = 0,
        command_bytes: int = 0,
        response_bytes: int = 0,
        event_bytes: int = 0,
        incoming_bytes: int = 0,
    ) -> None:
        place = ffi.new('struct iblbw_worker **')
        check(lib.iblbw_open(name.encode(), slots, command_bytes, response_bytes, event_bytes, incoming_bytes, place))
        self._worker = worker = place[0]
        self.path = Path(text_of(lib.iblbw_path, worker))
        self.replaced: str = text_of(lib.iblbw_replaced, worker)
        self.id = int(lib.iblbw_segment_id(worker))
        self.epoch = int(lib.iblbw_epoch(worker))
        self.largest_response = int(lib.iblbw_largest_response(worker))
        self._descriptors = ffi.new('struct iblbw_command[]', BATCH)
        self._capacity = max(_PAYLOAD_BYTES, int(lib.iblbw_largest_command(worker)))
        self._payload = ffi.new('unsigned char[]', self._capacity)
        self._rows, self._payloads = memoryview(ffi.buffer(self._descriptors)), memoryview(ffi.buffer(self._payload))
        self._ring = lib.iblbw_ring  # looked up now: that takes a lock, which a signal handler must not wait for
        self._closing = threading.RLock()  # a signal handler may ring while its own thread closes

    @property
    def worker(self) -> Any:
        """Cffi pointer: the C object, for `bridge.segment.serving`; not to be used once this is closed."""
        return self._worker

    def publish_services(self, names: Iterable[str]) -> None:
        """Tell the clients which services there are, in configured order."""
        check(lib.iblbw_services(self._worker, '\n'.join(names).encode()))

    def publish_services_up(self, count: int) -> None:
        """Tell the clients how many services are up."""
        check(lib.iblbw_services_up(self._worker, count))

    def publish_service_health(self, index: int, *, down: bool, heard: int) -> None:
        """Tell who looks at the segment's file how a service is: its place in order, when it was last heard (ns)."""
        check(lib.iblbw_service_health(self._worker, index, int(down), heard))

    @property
    def last_kept(self) -> int:
        """int: the number, modulo 2**32, of the last record beside the segment, as `bridge.segment.slate` counts."""
        return int(lib.iblbw_last_kept(self._worker))

    def note_kept(self, number: int) -> None:
        """Have no record before this one believed by a later worker."""
        check(lib.iblbw_note_kept(self._worker, number & 0xFFFFFFFF))

    def take(self, timeout: float) -> tuple[NDArray[Any], list[Taken]]:
        """Wait for commands and return them in order of (interrupts first, sent stamp, slot).

        Parameters
        ----------
        timeout : float
            s; returns earlier, and perhaps empty-handed, on a signal or `ring`.

        Returns
        -------
        descriptors : ndarray of `COMMAND`, shape (n,)
            One per command; a copy.
        taken : list of Taken, length n
            The same with services and arguments decoded.

        Raises
        ------
        bridge.errors.Superseded
            Another worker has taken over.
        """
        raw, taken = self._take(lib.iblbw_take, timeout)
        return np.frombuffer(raw, dtype=COMMAND), taken

    def take_commands(self, timeout: float) -> list[Taken]:
        """Wait for commands and return them, without the array; otherwise as `take`."""
        return self._take(lib.iblbw_take, timeout)[1]

    def take_interrupts(self, timeout: float) -> list[Taken]:
        """Wait for interrupts, and leave all other commands where they are; otherwise as `take_commands`."""
        return self._take(lib.iblbw_take_interrupts, timeout)[1]

    def _take(self, function: Any, timeout: float) -> tuple[bytes, list[Taken]]:
        count = function(self._worker, self._descriptors, BATCH, self._payload, self._capacity, round(timeout * 1000))
        if count <= 0:
            check(count)
            return b'', []
        raw = bytes(self._rows[: count * _ROW.size])  # the next batch is written over this one
        if count == 1:  # as mostly; it costs half of what the way of many costs
            key, row = ffi.from_buffer(_DESCRIPTOR, raw), _ROW.unpack(raw)
            return raw, [Taken(key, key, *row, *msgpack.unpackb(_PAIR + self._payloads[: row[-1]]))]
        batch = ffi.from_buffer(_DESCRIPTORS, raw)
        rows = list(_ROW.iter_unpack(raw))
        *_, offset, size = rows[-1]
        said = iter(unpack_batch(self._payloads[: offset + size], count))
        return raw, [
            Taken(batch + i, batch, *(row + both))
            for i, (row, both) in enumerate(zip(rows, zip(said, said, strict=False), strict=False))
        ]

    def accept(self, taken: Taken) -> int:
        """Make a command ours, directly before its first datagram.

        Returns
        -------
        int
            0: send it; ``IBLB_E_EXPIRED`` or ``IBLB_E_ABORTED``: answer it so; ``IBLB_E_CANCELLED``: forget it;
            ``IBLB_E_SUPERSEDED``: stop.
        """
        return int(lib.iblbw_accept(self._worker, taken.key))

    def respond(self, taken: Taken, code: int, body: bytes) -> bool:
        """Place the response to a command and mark it answered.

        Returns
        -------
        bool
            False: the client's ring is full; try again after a later `take`.

        Raises
        ------
        bridge.errors.Superseded
            Another worker has taken over.
        """
        result = int(lib.iblbw_respond(self._worker, taken.key, code, body, len(body)))
        if result == _FULL:
            return False
        check(result)
        return True

    def publish_event(self, message: int, body: dict[str, Any]) -> int:
        """Give an event to every client that subscribed to it; one without room loses it.

        Parameters
        ----------
        message : int
            One number of `bridge.numbers.EVENTS`.
        body : dict
            Made by `bridge.segment.response.event_body`.

        Returns
        -------
        int
            How many clients got it.
        """
        packed = pack(body)
        count = int(lib.iblbw_publish_event(self._worker, message, packed, len(packed)))
        if count == CODES['IBLB_E_TOO_LARGE']:
            packed = pack({**body, 'data': {'left_out': f'{len(packed)} bytes are more than an event holds'}})
            count = int(lib.iblbw_publish_event(self._worker, message, packed, len(packed)))
        return check(count)

    def is_wanted(self, message: int) -> bool:
        """Tell whether a client has subscribed to events of this number."""
        return bool(lib.iblbw_is_wanted(self._worker, message))

    def publish_command(self, body: dict[str, Any]) -> None:
        """Give what is noted of a command to those who watch; one without room loses it.

        Parameters
        ----------
        body : dict
            Made by `bridge.segment.response.command_event`.
        """
        packed = pack(body)
        check(lib.iblbw_publish_event(self._worker, COMMANDS, packed, len(packed)))

    def lost_clients(self) -> Iterator[str]:
        """Yield the names of the clients that ended without closing, since the last call.

        Until the next one is asked for, the next worker finds a client, too: what has to outlive us is kept before.
        """
        buffer = ffi.new('char[]', 64)
        while lib.iblbw_lost_client(self._worker, buffer, 64):
            yield bytes(ffi.string(buffer)).decode('utf-8', 'replace')

    def client_of(self, taken: Taken) -> str:
        """Return the name of the client that a command came from; "" if its slot has another by now, or had."""
        return text_of(lib.iblbw_client_of, self._worker, taken.key, capacity=64)

    def is_attached(self, client: str) -> bool:
        """Return whether a client of this name is attached."""
        return bool(lib.iblbw_client_attached(self._worker, client.encode()))

    def ring(self) -> None:
        """Make `take` return soon. From any thread or signal handler."""
        with self._closing:
            if self._worker is not None:
                self._ring(self._worker)

    def close(self, *, remove: bool = False) -> None:
        """Let go of the segment; `remove`: tell the clients that it is gone, and remove its file. Harmless twice."""
        with self._closing:
            worker, self._worker = self._worker, None
            if worker is not None:
                lib.iblbw_close(worker, int(remove))

    def __enter__(self) -> Segment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
