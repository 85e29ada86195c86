"""Files that are there whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file written so that a disk that fills leaves no half of it.

    Parameters
    ----------
    path : pathlib.Path
        Where it is to stand.
    write : callable
        Called with the place to write to.

    Raises
    ------
    OSError
        It cannot be written; its ``filename`` is `path`.
    """
    part = path.with_name(f'.{path.name}.part')
    try:
        write(part)
        os.replace(part, path)
    except OSError as e:
        e.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)
