"""A small file that is put into its place whole: who is killed meanwhile leaves what stood there.

The power may fail, though, so soon that neither stands there. Nothing that is kept beside a segment outlives that
anyway, for the segment is of another boot then; and to wait for the disk may take long.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

HALF = '.new'  # how the name ends of one that is being made
_TRIES, _PAUSE = 10, 0.01  # s: as long as a short look at a file takes


def put(path: Path, content: bytes) -> None:
    """Put a file into its place.

    Raises
    ------
    OSError
        The disk refuses it; what stood there stands there.
    """
    made = path.with_name(f'{path.name}{HALF}')
    try:
        made.write_bytes(content)
        _replace(made, path)
    except OSError:
        with contextlib.suppress(OSError):
            made.unlink()
        raise


def write_over(path: Path, content: bytes) -> bool:
    """Write over what stands in a file, filled up with blanks; False if that does not fit, or the disk refuses it.

    Who is killed meanwhile leaves the one or the other, if it is not longer than a page of memory (4 KiB).
    """
    try:
        with open(path, 'r+b', buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            return len(content) <= size and file.write(content.ljust(size)) == size
    except OSError:
        return False


def _replace(made: Path, path: Path) -> None:
    """Put a file in the place of another; on Windows that is refused while somebody just reads it."""
    for left in reversed(range(_TRIES)):
        try:
            os.replace(made, path)
        except PermissionError:
            if not left:
                raise
            time.sleep(_PAUSE)
        else:
            return
