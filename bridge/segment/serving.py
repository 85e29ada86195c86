"""The worker's side of programs that serve: what it hands to them, and what has become of that.

A thin face of the part of ``iblbridge_worker.h`` that begins with "programs that serve". What they answer comes as
commands do, through `bridge.segment.served.Segment.take`: `said` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgpack

from bridge.errors import check
from bridge.numbers import CODES
from bridge.sayable import sayable
from bridge.segment.library import ffi, lib
from bridge.segment.response import pack
from bridge.segment.served import Segment, Taken

ANSWER, TELL = int(lib.IBLBW_ANSWER), int(lib.IBLBW_TELL)
WAITING, TAKEN, ANSWERED, WITHDRAWN, GONE = (
    int(getattr(lib, f'IBLBW_{name}')) for name in ('WAITING', 'TAKEN', 'ANSWERED', 'WITHDRAWN', 'GONE')
)
NOBODY, UNWANTED, FULL, TOO_LARGE, SLEPT = (
    CODES[f'IBLB_E_{name}'] for name in ('NO_SLOT', 'MESSAGE', 'FULL', 'TOO_LARGE', 'EXPIRED')
)
NAME_BYTES = 63


class Inherited(NamedTuple):
    """What an earlier worker had handed to a program that has not answered it."""

    token: Any
    message: int
    stamp: int
    body: dict[str, Any]


class Answer(NamedTuple):
    """What a program answers."""

    listener: str
    slot: int
    number: int
    message: int
    master: str
    status: int
    failed: bool
    data: str | None


class Tell(NamedTuple):
    """What a program says by itself."""

    listener: str
    message: int
    data: str | None


def said(taken: Taken) -> Answer | Tell | None:
    """Return what a record says that is no command, None if it makes no sense: a broken program may write anything."""
    match taken.message, taken.arguments:
        case lib.IBLBW_ANSWER, [
            int(number),
            int(message),
            str(master),
            int(status),
            bool(failed),
            str() | None as data,
        ]:
            return Answer(taken.services, taken.slot, number, message, master, status, failed, data)
        case lib.IBLBW_TELL, [int(message), str() | None as data]:
            return Tell(taken.services, message, data)
    return None


class Incoming:
    """What is handed to programs.

    Parameters
    ----------
    segment : Segment
        Open as long as this is used.
    """

    def __init__(self, segment: Segment) -> None:
        self._worker = segment.worker

    def publish(self, names: Iterable[str]) -> None:
        """Tell the programs which listeners there are."""
        check(lib.iblbw_listeners(self._worker, '\n'.join(names).encode()))

    def server_of(self, listener: str) -> tuple[int, str]:
        """Return what the program that serves a listener wants to be asked, and its client's name; 0: there is none."""
        mask, client = ffi.new('unsigned int *'), ffi.new('char[]', NAME_BYTES + 1)
        found = check(lib.iblbw_server_of(self._worker, listener.encode(), mask, client, NAME_BYTES + 1))
        return (int(mask[0]), bytes(ffi.string(client)).decode('utf-8', 'replace')) if found else (0, '')

    def pid_of(self, listener: str) -> int:
        """Return the process of the program that serves a listener, for people; 0: nobody."""
        return int(lib.iblbw_server_pid(self._worker, listener.encode()))

    def claim_of(self, listener: str) -> int:
        """Return a number of the program that serves a listener, which the next one of its name has not; 0: nobody."""
        return int(lib.iblbw_server_claim(self._worker, listener.encode()))

    def hand(self, listener: str, message: int, stamp: int, timeout_ms: int, body: dict[str, Any]) -> tuple[int, Any]:
        """Hand a command to the program that serves a listener; returns 0 and its token, or why not: `NOBODY`, ..."""
        packed, token = pack(body), ffi.new('struct iblbw_incoming *')
        told = listener.encode(), message, stamp, timeout_ms
        code = int(lib.iblbw_hand(self._worker, *told, packed, len(packed), token))
        return (code if code in (NOBODY, UNWANTED, FULL, TOO_LARGE, SLEPT) else check(code)), token

    def slept(self) -> int:
        """Return before when the PC slept last, ns: what arrived earlier is not begun any more; 0: never."""
        return int(lib.iblbw_slept(self._worker))

    def state(self, token: Any) -> int:
        """Return what has become of a command: `WAITING`, ..."""
        return check(lib.iblbw_incoming_state(self._worker, token))

    def withdraw(self, token: Any) -> bool:
        """Take a command back; False: its answer comes, or its program is gone."""
        return check(lib.iblbw_withdraw(self._worker, token)) == 0

    def recall(self, token: Any) -> bool:
        """Take a command back that its program does not have yet; False: it has it, or is gone."""
        return check(lib.iblbw_recall(self._worker, token)) == 0

    def inherit(self) -> Iterator[Inherited]:
        """Yield what an earlier worker had handed out and nobody has answered; before the first take."""
        capacity = check(lib.iblbw_largest_incoming(self._worker))
        body = ffi.new('unsigned char[]', capacity)
        message, size, stamp = ffi.new('int *'), ffi.new('int *'), ffi.new('unsigned long long *')
        while True:
            token = ffi.new('struct iblbw_incoming *')
            if not check(lib.iblbw_inherit(self._worker, token, message, stamp, body, capacity, size)):
                return
            packed = bytes(ffi.buffer(body, size[0]))
            try:
                said = sayable(msgpack.unpackb(packed, strict_map_key=False, unicode_errors='replace'))
            except ValueError:  # a program has scribbled there: a time of msgpack that is none
                said = {}
            yield Inherited(token, int(message[0]), int(stamp[0]), said)
