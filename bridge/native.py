"""Where the build has put what is not Python: library, headers, tools, examples.

``python -c 'import bridge.native; print(bridge.native.PREFIX)'`` tells it to builds of C programs. Cheap to import: the
library is loaded by `bridge.segment.library`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

HEADER = 'iblbridge.h'


def _find_prefix() -> Path:
    """Return the directory that the build installed into.

    It lies beside this file in a wheel, and in site-packages in an editable install.
    """
    places = [Path(__file__).with_name('native')]
    if not (places[0] / 'include' / HEADER).exists():
        import importlib.metadata

        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            places.append(Path(str(importlib.metadata.distribution('iblbridge').locate_file('bridge/native'))))
    for place in places:
        if (place / 'include' / HEADER).exists():
            return place
    raise ImportError(f'iblbridge has no C library in {" or ".join(map(str, places))}; install it with pip')


PREFIX: Path = _find_prefix()
"""pathlib.Path: holds ``include``, ``lib`` (with ``pkgconfig`` and ``cmake``), ``bin``, ``share``."""

TOOLS: Path = PREFIX / 'bin'
LIBRARY: Path = PREFIX / 'lib' / 'libiblbridge.so'


def iblb() -> None:
    """Become the C tool ``iblb``: the command of that name. The program itself is in `TOOLS`, and starts faster."""
    program = str(TOOLS / 'iblb')
    os.execv(program, ['iblb', *sys.argv[1:]])
