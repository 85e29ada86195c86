"""A client of one of our own commands, of whose end no worker has to be told."""

from __future__ import annotations

import os
from types import TracebackType

from bridge.segment.client import Client
from bridge.segment.library import lib


class Tool(Client):
    """A `Client` that is closed in order whatever ends it, be it a signal between any two steps of the program.

    For what a person or a script starts beside the experiment: a command that failed, or a watch that somebody ended,
    is no program that was lost. Only who kills the process leaves a lost client.

    Parameters
    ----------
    segment : str
        Name of the segment.
    tool : str
        Which command this is: the client is called ``iblb-TOOL-PID``.
    timeout : float or None
        As of `Client`.
    """

    _forget = staticmethod(lambda handle, which: lib.iblb_close(handle))

    def __init__(self, segment: str, tool: str, timeout: float | None = 1.0) -> None:
        super().__init__(segment, f'iblb-{tool}-{os.getpid()}', timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
