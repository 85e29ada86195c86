"""Calls of the C library that take more than one: to attach in slices, to read what may need a larger buffer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from bridge.errors import check
from bridge.numbers import CODES
from bridge.segment.library import ffi, lib
from bridge.segment.patience import slices

_FIRST_CAPACITY = 16 << 10
_LOOK = 0.02  # s, between two looks whether a worker lives
_MAY_COME = {CODES[f'IBLB_E_{name}'] for name in ('NO_SEGMENT', 'STALE', 'NO_SLOT', 'SYSTEM')}  # as iblb_open has it


def text(value: Any, what: str) -> bytes:
    """Return text as the library takes it; `what` names it in a sentence.

    Raises
    ------
    TypeError, ValueError
        It is not text, or holds what ends a text in C: the library would see another, shorter name.
    """
    if not isinstance(value, str):
        raise TypeError(f'{what} is text, not {value!r}')
    if '\0' in value:
        raise ValueError(f'{what} holds a NUL character: {value!r}')
    return value.encode(errors='surrogatepass')  # which the library refuses, as it does whatever else is no UTF-8


def attach(segment: bytes, name: bytes, timeout: float, place: Any) -> None:
    """Open a segment, as iblb_open does it, but in slices; the handle is put into `place`."""
    code = 0
    for pause in slices(timeout):
        if place[0]:  # there is no worker yet
            time.sleep(min(pause / 1000, _LOOK))
            code = _is_served(place[0])
            if code == CODES['IBLB_E_STALE']:
                lib.iblb_close(place[0])
                place[0] = 0
        else:
            code = lib.iblb_open(segment, name, pause, place)
        if code not in _MAY_COME and code != CODES['IBLB_W_NO_WORKER']:
            break
    check(code)


def _is_served(handle: int) -> int:
    """Return 0 if a worker lives, else the code that says why not."""
    alive = ffi.new('int *')
    code = lib.iblb_worker_state(handle, alive, ffi.NULL, ffi.NULL)
    return int(code) if code < 0 or alive[0] else CODES['IBLB_W_NO_WORKER']


def read(look: Callable[[Any, int, Any], int], save: Callable[[dict[str, Any]], object]) -> tuple[int, dict[str, Any]]:
    """Return the status of a function that writes JSON, and the object; empty if there is none.

    Parameters
    ----------
    look : callable
        Takes a buffer, its capacity, and the place for the size that it needs.
    save : callable
        Gets what was read if Ctrl-C was pressed in that moment.
    """
    capacity, needed = _FIRST_CAPACITY, ffi.new('int *')
    while True:
        buffer = ffi.new('char[]', capacity)
        try:
            code = look(buffer, capacity, needed)
            if code != CODES['IBLB_E_BUFFER']:
                return code, json.loads(ffi.string(buffer)) if buffer[0] != b'\0' else {}
        except BaseException:
            if needed[0] <= capacity and buffer[0] != b'\0':
                save(json.loads(ffi.string(buffer)))
            raise
        capacity = needed[0]
