"""Exceptions: what the C library reports, by code, with subclasses for what a caller would want to tell apart.

`check` is the only place where a status becomes an exception.
"""

from __future__ import annotations

from typing import Any

from bridge.numbers import CODE_NAMES
from bridge.segment.library import error_text, last_error


class BridgeError(Exception):
    """A negative status of the C library.

    Attributes
    ----------
    code : int
        The status, e.g. -8070.
    name : str
        Its name, e.g. ``IBLB_E_PARTIAL``.
    text : str
        One sentence: what happened and what to do.
    response : dict or None
        The response body, if there was one.
    request : int
        The request that stays open, to be waited for again or cancelled; 0 if none does.
    """

    def __init__(self, code: int, text: str, response: dict[str, Any] | None = None, request: int = 0) -> None:
        super().__init__(f'{text} [{CODE_NAMES.get(code, "?")} {code}]')
        self.code = code
        self.name = CODE_NAMES.get(code, '?')
        self.text = text
        self.response = response
        self.request = request

    @property
    def failed(self) -> dict[str, dict[str, Any]]:
        """dict: the entries of the response whose service did not do what was asked, by its name."""
        return {entry['name']: entry for entry in (self.response or {}).get('services', ()) if not entry['ok']}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.text, self.response, self.request)


class Misuse(BridgeError, ValueError):
    """The call was wrong: arguments, handle, names. Nothing was sent."""


class NoSegment(BridgeError):
    """There is no segment, no slot, or none that can be used."""


class NoWorker(BridgeError):
    """No worker serves the segment."""


class WorkerBusy(BridgeError):
    """Another worker serves the segment; the sentence names it."""


class Superseded(BridgeError):
    """Another worker has taken over: this one must stop."""


class ServiceFailure(BridgeError):
    """A service did not do what was asked, or the command was not carried out."""


class OutcomeUnknown(BridgeError):
    """The command may have been carried out: ask EXPSTATUS before repeating it."""


_CLASSES: dict[str, type[BridgeError]] = {
    **dict.fromkeys(('ARGUMENT', 'HANDLE', 'CLOSED', 'FORKED', 'NAME', 'HANDLES', 'MESSAGE', 'SERVICE', 'UTF8', 'JSON',
                     'MSGPACK', 'ARGS', 'TOO_LARGE', 'REQUEST', 'COMMAND'), Misuse),
    **dict.fromkeys(('NO_SEGMENT', 'SEGMENT', 'VERSION', 'STALE', 'PERMISSION', 'NO_SLOT', 'NAME_TAKEN', 'QUARANTINED'),
                    NoSegment),
    'NO_WORKER': NoWorker,
    'WORKER_BUSY': WorkerBusy,
    'SUPERSEDED': Superseded,
    **dict.fromkeys(('PARTIAL', 'ALL_FAILED', 'EXPIRED', 'ABORTED', 'NOT_SENT', 'INTERNAL'), ServiceFailure),
    **dict.fromkeys(('TIMEOUT', 'PENDING', 'OUTCOME_UNKNOWN'), OutcomeUnknown),
}  # fmt: skip


def error_for(code: int, text: str = '', response: dict[str, Any] | None = None, request: int = 0) -> BridgeError:
    """Return the exception of a negative status; `text` defaults to the code's own."""
    name = CODE_NAMES.get(code, '').removeprefix('IBLB_E_')
    return _CLASSES.get(name, BridgeError)(code, text or error_text(code), response, request)


def check(code: int, handle: int = 0, response: dict[str, Any] | None = None) -> int:
    """Return a status that is not an error; raise the exception of one that is.

    Parameters
    ----------
    code : int
        What a C function returned.
    handle : int
        The handle it was called with; 0 for the worker's side and for open.
    response : dict, optional
        The response body that came with it.

    Raises
    ------
    BridgeError
        The status is negative.
    """
    if code < 0:
        raise error_for(code, last_error(handle), response)
    return code
