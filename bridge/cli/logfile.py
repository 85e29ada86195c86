"""The log of a worker that nobody watches: a file that is begun anew when it is large, the last ones kept."""

from __future__ import annotations

import atexit
import logging
import logging.handlers
import os
import queue
import sys
from typing import Any

from bridge.cli.console import log_to_stderr

MOST_BYTES = 5_000_000  # of one file
KEPT = 5  # files before it: NAME.1 is the last one
FORMAT = '%(asctime)s %(levelname)-7s %(message)s'


log = logging.getLogger(__name__)


class _Private(logging.handlers.RotatingFileHandler):
    """A log that nobody else reads: the address of the status page may be in it, with its token.

    What the disk refuses is said once, and not with a traceback for each line; then again when it had taken something.
    """

    _is_refused = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; see `logging`."""
        self._failed = False
        super().emit(record)
        self._is_refused = self._failed

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the library's name)
        """Say what keeps the log from being written, if it is the system; see `logging`."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._failed = True
        if not self._is_refused:
            self._is_refused = True  # what is said now comes here, too
            log.error('the log %s cannot be written: %s; the rig goes on without it', self.baseFilename, error)

    def _open(self) -> Any:
        return open(
            self.baseFilename,
            self.mode,
            encoding=self.encoding,
            errors=self.errors,
            opener=lambda path, flags: os.open(path, flags, 0o600),
        )


def open_log(path: str) -> logging.Handler:
    """Open the file of a log; what is in it stays.

    Raises
    ------
    OSError
        It cannot be written.
    """
    handler = _Private(path, maxBytes=MOST_BYTES, backupCount=KEPT, encoding='utf-8')
    handler.setFormatter(logging.Formatter(FORMAT))
    return handler


def start_log(level: int, file: logging.Handler | None = None) -> None:
    """Log to standard error, and to a file in a thread of its own: a disk that is slow holds nobody up."""
    log_to_stderr(level)
    if file is None:
        return
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(waiting, file)
    listener.start()
    atexit.register(listener.stop)
    logging.getLogger().addHandler(logging.handlers.QueueHandler(waiting))
