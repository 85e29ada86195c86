"""An entry of the journal as its line: JSON, with text as it was said.

What every command writes, itself and what became of it, is put together of its values, field by field, in a third of
the time that an encoder takes to find out what it has before it; the text is the same, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from bridge import discretion

_text = json.encoder.encode_basestring
_pieces: Any = json.JSONEncoder(default=str, ensure_ascii=False, check_circular=False).iterencode
if _make := getattr(json.encoder, 'c_make_encoder', None):  # what iterencode makes anew each time; it has no state
    _pieces = partial(_make(None, str, _text, None, ': ', ', ', False, False, True), _current_indent_level=0)


def to_line(kind: str, entry: Mapping[str, Any], time: int, wall: str) -> bytes:
    """Return the line of an entry.

    Parameters
    ----------
    kind : str
        One of `bridge.journal.KINDS`.
    entry : mapping
        What else it says, by `bridge.discretion.entry`; `time` (ns) and `wall` stand in place of its own.

    Raises
    ------
    ValueError, RecursionError
        JSON cannot express it.
    """
    return _encoded(_json({'kind': kind, **entry, 'time': time, 'wall': wall}) + '\n')


def command_line(said: Mapping[str, Any], time: int, wall: str) -> bytes:
    """Return the line of a command, given by its keys as `bridge.journal` has them. Raises what `to_line` does."""
    message = said['message']
    args = discretion.arguments(message, said['args'])
    return _encoded(
        f'{{"kind": "command", "command_id": {_text(said["command_id"])}, "message": {_text(message)}, '
        f'"client": {_text(said["client"])}, "services": {_text(said["services"])}, '
        f'"args": {_json(args) if args else "[]"}, "sent": {said["sent"]}, "time": {time}, "wall": "{wall}"}}\n'
    )


def outcome_line(kind: str, body: Mapping[str, Any], client: str, time: int, wall: str) -> bytes:
    """Return the line of what became of a command, or of a notification.

    Parameters
    ----------
    kind : {'outcome', 'notification'}
        Whether somebody waits for it.
    body : mapping
        Made by `bridge.segment.response.response_body`.
    client : str
        Who sent the command.

    Raises
    ------
    ValueError, RecursionError
        JSON cannot express it.
    """
    request, key, message, code, error, services, sent, accepted, finished, _ = discretion.entry(body).values()
    return _encoded(
        f'{{"kind": "{kind}", "request": {request}, "command_id": {_text(key)}, "message": {_text(message)}, '
        f'"code": {code}, "error": {_text(error)}, "services": {_json(services) if services else "[]"}, '
        f'"sent": {sent}, "accepted": {accepted}, "finished": {finished}, "wall": "{wall}", '
        f'"client": {_text(client)}, "time": {time}}}\n'
    )


def _encoded(line: str) -> bytes:
    return line.encode('utf-8', 'backslashreplace')


def _json(value: Any) -> str:
    return ''.join(_pieces(value))
