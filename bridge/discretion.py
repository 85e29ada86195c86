"""What may be logged, written down or told to everybody of a command: everything, but nothing that may hold a token.

An ALYX message has a token among its arguments, or in its reply, and what a service says of a failed callback may quote
it. So of ALYX neither arguments, nor data, nor errors leave the way between the program and the service. This module is
the only one that decides so; whoever logs or writes asks here, whatever the message is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.numbers import MESSAGES
from bridge.sayable import sentence

LONGEST_LINE = 4000  # characters; an error may name 128 services
LEFT_OUT = '(left out: may hold a token)'
_SECRET = ('ALYX', MESSAGES['ALYX'])


def is_secret(message: object) -> bool:
    """Tell whether a message, given by name or number or whatever a service says in place of one, may hold a token."""
    return message in _SECRET


def arguments(message: object, args: Sequence[Any]) -> Sequence[Any]:
    """Return the arguments of a message as they may be written down."""
    return () if is_secret(message) else args


def error(message: object, what: str | BaseException) -> str:
    """Return an error at a message as it may be logged, in one line; "" if there is none."""
    if not is_secret(message):
        return sentence(str(what), LONGEST_LINE)
    return type(what).__name__ if isinstance(what, BaseException) else what and LEFT_OUT


def said(message: object, what: str) -> str:
    """Return what a service says of a failed callback as everybody may read it; "" if it says nothing."""
    return 'its callback for ALYX failed, or did not reply' if what and is_secret(message) else what


def entry(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a command's entry, a response's or an event's body as it may be written down; it is left as it is."""
    message = body.get('message') or body.get('event')
    if not is_secret(message):
        return body
    clean = {key: error(message, value) if key == 'error' else value for key, value in body.items()}
    if 'args' in clean:
        clean['args'] = arguments(message, clean['args'])
    if 'data' in clean:
        clean['data'] = {}
    if isinstance(clean.get('services'), list):  # of a command they are names
        clean['services'] = [_service(message, service) for service in clean['services']]
    return clean


def _service(message: object, service: Any) -> dict[str, Any]:
    return {**service, 'data': {}, 'error': error(message, service['error'])}
