"""Where the build has put what is not Python: library, headers, tools, examples.

``python -c 'import bridge.native; print(bridge.native.PREFIX)'`` tells it to builds of C programs. Cheap to import: the
library is loaded by `bridge.segment.library`.
"""

from __future__ import annotations

import contextlib
import os
import struct
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
_BITS = struct.calcsize('P') * 8
LIBRARY: Path = {
    'win32': TOOLS / f'iblbridge_{_BITS}.dll',
    'darwin': PREFIX / 'lib' / 'libiblbridge.dylib',
}.get(sys.platform, PREFIX / 'lib' / 'libiblbridge.so')
IBLB: Path = TOOLS / ('iblb.exe' if sys.platform == 'win32' else 'iblb')


def iblb() -> None:
    """Become the C tool ``iblb``: the command of that name. The program itself is `IBLB`, and starts faster."""
    if sys.platform == 'win32':  # execv would end this process, and the shell go on, before the tool has ended
        import signal
        import subprocess

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tool hears it too, and ends
        raise SystemExit(subprocess.call([str(IBLB), *sys.argv[1:]]))
    os.execv(str(IBLB), ['iblb', *sys.argv[1:]])
