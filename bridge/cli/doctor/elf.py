"""What a program of Linux says of the libraries that it wants, in the table for its loader (ELF's dynamic section).

Loaders look in RPATH, unless there is a RUNPATH; in LD_LIBRARY_PATH; in RUNPATH; then where the system does. They never
look beside the program, nor in the folder that it runs in, and pass over files of other bits.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_LOAD, _DYNAMIC = 1, 2  # PT_
_NEEDED, _STRTAB, _RPATH, _RUNPATH = 1, 5, 15, 29  # DT_
_MOST_ROWS = 4096


class Wanted(NamedTuple):
    """What a program of Linux says.

    Attributes
    ----------
    names : tuple of str
        The libraries that it wants, such as ``libc.so.6``.
    rpath, runpath : tuple of str
        Folders, as they are written: with ``$ORIGIN`` for the program's own.
    """

    names: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()


def wanted(path: Path) -> Wanted:
    """Return what a program of Linux says; nothing of a damaged one, or one without libraries.

    Raises
    ------
    OSError
        It cannot be read.
    """
    try:
        return _wanted(path.read_bytes())
    except (struct.error, ValueError, LookupError, OverflowError):
        return Wanted()


def _wanted(image: bytes) -> Wanted:
    order = '<' if image[5] == 1 else '>'
    wide = image[4] == 2  # noqa: PLR2004
    (table,) = struct.unpack_from(order + ('Q' if wide else 'I'), image, 32 if wide else 28)
    size, count = struct.unpack_from(order + 'HH', image, 54 if wide else 42)
    loads, dynamic = [], None
    for i in range(count):
        at = table + i * size
        if wide:
            kind, offset, place, length = struct.unpack_from(order + 'I4xQQ8xQ', image, at)
        else:
            kind, offset, place, length = struct.unpack_from(order + 'III4xI', image, at)
        if kind == _LOAD:
            loads.append((place, length, offset))
        elif kind == _DYNAMIC:
            dynamic = offset, length
    if dynamic is None:
        return Wanted()
    row = struct.Struct(order + ('qQ' if wide else 'iI'))
    rows = []
    for i in range(min(dynamic[1] // row.size, _MOST_ROWS)):
        tag, value = row.unpack_from(image, dynamic[0] + i * row.size)
        if not tag:
            break
        rows.append((tag, value))
    place = dict(rows).get(_STRTAB, 0)
    texts = next((place - begin + offset for begin, length, offset in loads if begin <= place < begin + length), None)
    if texts is None:
        return Wanted()

    def said(wanted_tag: int) -> list[str]:
        begins = [texts + value for tag, value in rows if tag == wanted_tag]
        return [os.fsdecode(image[begin : image.index(b'\0', begin)]) for begin in begins]

    rpath, runpath = ([part for text in said(tag) for part in text.split(':')] for tag in (_RPATH, _RUNPATH))
    return Wanted(tuple(said(_NEEDED)), tuple(rpath), tuple(runpath))


def folders(program: Path, says: Wanted, library_path: str, system: Sequence[str]) -> list[Path]:
    """Return where the loader looks for a program's libraries, in its order.

    Parameters
    ----------
    program : Path
        Complete.
    says : Wanted
        What it says itself.
    library_path : str
        LD_LIBRARY_PATH.
    system : sequence of str
        Where the system looks.
    """
    first = [] if says.runpath else says.rpath
    own = str(program.parent)
    written = [*first, *filter(None, library_path.replace(';', ':').split(':')), *says.runpath, *system]
    return [Path(part.replace('$ORIGIN', own).replace('${ORIGIN}', own)) for part in written if part]
