"""Files of services and settings that are read again while the worker runs: what is no whole file is not believed.

Somebody may be writing just now, and a file that was cut in its middle may be valid YAML with fewer services. So a file
counts if it is the same a moment later; if it is not empty, unless it was before; and if its last line has an end,
unless it had none before.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bridge.config import ConfigError, RigConfig
from bridge.reading import MOST_BYTES

SETTLE = 0.2  # s in which nobody may write
TRIES = 10


class Rereading:
    """Reads files again, in whatever thread; all of them at once or none.

    Parameters
    ----------
    paths : sequence of str
        The files; what they say now is what the worker has.
    read : callable
        Reads them; raises ConfigError.
    wait : callable
        Waits for so many s.
    """

    def __init__(
        self, paths: Sequence[str], read: Callable[[], RigConfig], wait: Callable[[float], object] = time.sleep
    ) -> None:
        self._paths, self._read, self._wait = paths, read, wait
        self._before = self._contents()

    def __call__(self) -> RigConfig:
        """Return what the files say now; ConfigError if that cannot be used, or if they are being written."""
        for path in self._paths:
            if _is_pipe(path):
                raise ConfigError(f'{path}: is no ordinary file, and nothing is read from it again; name one that is.')
        for _ in range(TRIES):
            found = self._contents()
            self._wait(SETTLE)
            fault: ConfigError | None = None
            try:
                rig = self._read()
            except ConfigError as error:
                fault = error
            if self._contents() != found:
                continue
            if fault is not None:
                raise fault
            for path, text in found.items():
                _check(path, text or b'', self._before.get(path) or b'')
            self._before = found
            return rig
        raise ConfigError(f'{" or ".join(self._paths)}: changes all the time; reload when it has been written.')

    def _contents(self) -> dict[str, bytes | None]:
        return {path: _content(path) for path in self._paths}


def _content(path: str) -> bytes | None:
    if _is_pipe(path):
        return None
    try:
        with open(path, 'rb') as file:
            return file.read(MOST_BYTES + 1)
    except (OSError, ValueError):  # of that it is told by who reads it
        return None


def _is_pipe(path: str) -> bool:
    """Tell whether to open a file, or to read it, may wait for ever or never end."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _check(path: str, text: bytes, before: bytes) -> None:
    if is_empty(text) and not is_empty(before):
        raise ConfigError(f'{path}: is empty by now, and was not before; write {{}} into it if that is meant.')
    if not text.endswith(b'\n') and before.endswith(b'\n'):
        raise ConfigError(f'{path}: its last line has no end, as if it were half written; end it with a new line.')


def is_empty(text: bytes) -> bool:
    r"""Tell whether a file says nothing: only blanks and comments.

    Examples
    --------
    >>> is_empty(b'# cameras: 192.168.0.8\n\n'), is_empty(b'{}')
    (True, False)
    """
    return all(not line or line.startswith(b'#') or line == b'---' for line in map(bytes.strip, text.splitlines()))
