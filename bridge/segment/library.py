"""The C library, as every other program loads it.

`lib` is libiblbridge.so through cffi's ABI mode, `ffi` its companion. What there is to call is read from the
installed headers, so that nothing is declared twice: the public one (``iblb_``, what foreign programs use) and the
worker's (``iblbw_``).

Where it lies, and what C programs are built with, is in `bridge.native`; the numbers of codes and messages are in
`bridge.numbers`. Neither loads anything.
"""

from __future__ import annotations

import json
import re
from typing import Any

import cffi
import numpy as np

from bridge.native import HEADER, LIBRARY, PREFIX

HEADERS = (HEADER, 'iblbridge_worker.h')


def declarations(header: str) -> str:
    """Return what cffi's parser takes of a header: no comments, no conditions, no linkage.

    Parameters
    ----------
    header : str
        The text of iblbridge.h or iblbridge_worker.h.

    Returns
    -------
    str
        Structures, prototypes and ``#define NAME number`` lines.
    """
    text = re.sub(r'/\*.*?\*/', '', header, flags=re.DOTALL)
    text = re.sub(r'#ifdef __cplusplus.*?#endif', '', text, flags=re.DOTALL)
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if not line.startswith('#') or re.fullmatch(r'#define \w+ -?\d+', line)]
    return '\n'.join(kept).replace('IBLB_API ', '')


ffi: Any = cffi.FFI()
for _name in HEADERS:
    ffi.cdef(declarations((PREFIX / 'include' / _name).read_text()))
lib: Any = ffi.dlopen(str(LIBRARY))


def struct_dtype(name: str) -> np.dtype[Any]:
    """Return the numpy structured dtype of a C structure of plain numbers.

    Parameters
    ----------
    name : str
        The structure's tag, e.g. ``iblbw_command``.

    Returns
    -------
    numpy.dtype
        The same fields at the same offsets.
    """
    structure = ffi.typeof(f'struct {name}')
    names, formats, offsets = [], [], []
    for field, what in structure.fields:
        kind = 'u' if 'unsigned' in what.type.cname else 'i'
        names.append(field)
        formats.append(f'{kind}{ffi.sizeof(what.type)}')
        offsets.append(what.offset)
    return np.dtype({'names': names, 'formats': formats, 'offsets': offsets, 'itemsize': ffi.sizeof(structure)})


def text_of(function: Any, *arguments: Any, capacity: int = 1024) -> str:
    """Return the text that a C function of the form ``f(..., char *text, int capacity)`` writes.

    Parameters
    ----------
    function : callable
        The cffi function.
    *arguments
        What it takes before the buffer.
    capacity : int
        Size of the buffer, bytes.

    Returns
    -------
    str
        The text, cut if it is longer.
    """
    buffer = ffi.new('char[]', capacity)
    function(*arguments, buffer, capacity)
    return bytes(ffi.string(buffer)).decode('utf-8', 'replace')


def error_text(code: int) -> str:
    """Return what a status means and what to do, from the one table of codes."""
    return text_of(lib.iblb_error_text, code)


def last_error(handle: int = 0) -> str:
    """Return the sentence of the last error on a handle, or of the process (0)."""
    text = text_of(lib.iblb_last_error, handle, capacity=4096)
    return re.sub(r'(\\u[0-9a-f]{4})+', lambda escaped: str(json.loads(f'"{escaped[0]}"')), text)
