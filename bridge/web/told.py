"""What a worker tells those who watch, as the page has it: functions of values.

Everything in it may come from a service, or from a program: nothing is taken for granted, and texts are cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bridge.numbers import CODE_NAMES, STATUS_NAMES

LONGEST = 500  # characters of what services and programs say


def begun(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a command of which nobody has done anything yet."""
    services, args = entry.get('services'), entry.get('args')
    return {
        'command_id': entry['command_id'],
        'message': text(entry.get('message')),
        'client': text(entry.get('client') or entry.get('master')),
        'to': text(services) if isinstance(services, str) else text(entry.get('service')),
        'argument': text(args[0]) if isinstance(args, Sequence) and args and isinstance(args[0], str) else '',
        'wall': text(entry.get('wall')),
        'services': [],
        'finished': False,
        'result': 'under way',
        'code': 0,
        'code_name': '',
        'error': '',
        'took_ms': None,
    }


def ended(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a command becomes when it has ended, without its services."""
    code = entry.get('code')
    code = code if isinstance(code, int) else 0
    return {
        'code': code,
        'code_name': CODE_NAMES.get(code, '') if code else '',
        'error': text(entry.get('error')),
        'took_ms': between(entry.get('sent'), entry.get('finished')),
        'finished': True,
        'result': 'done' if not code else 'warning' if code > 0 else 'failed',
    }


def replied(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a command becomes that a master asked of a listener, and got a reply to."""
    ok, error = entry.get('ok') is True, text(entry.get('error'))
    did = {'name': text(entry.get('service')), 'ok': ok, 'state': 'answered', 'error': error, 'took_ms': None}
    return {'services': [did], 'error': error, 'finished': True, 'result': 'done' if ok else 'failed'}


def done(services: Any) -> list[dict[str, Any]]:
    """Return what services did with a command."""
    return [
        {
            'name': text(one.get('name')),
            'ok': one.get('ok') is True,
            'state': text(one.get('state')),
            'error': text(one.get('error')),
            'took_ms': between(one.get('sent'), one.get('answered') or one.get('echoed')),
        }
        for one in (services if isinstance(services, list) else ())
        if isinstance(one, Mapping)
    ]


def between(start: Any, end: Any) -> float | None:
    """Return the time between two stamps (ns, 0 for never), ms."""
    return round((end - start) / 1e6, 1) if isinstance(start, int) and isinstance(end, int) and start and end else None


def said(data: Any) -> str:
    """Return what an event says beside its name."""
    if not isinstance(data, Mapping):
        return ''
    value = data.get('value')
    if isinstance(value, Mapping) and 'status' in value:  # EXPERIMENT_LOST
        status = STATUS_NAMES.get(value['status'], '?') if isinstance(value['status'], int) else '?'
        return text(f'{value.get("exp_ref") or "an experiment"}; now it says {status}')
    return text(value) if isinstance(value, str) else ''


def seconds(moment: str) -> float | None:
    """Return a moment of ISO 8601 as s since 1970; None if it is none."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return None


def text(value: Any) -> str:
    """Return what somebody else says, as text of a bounded length."""
    whole = '' if value is None else str(value)
    return whole if len(whole) <= LONGEST else f'{whole[: LONGEST - 1]}…'
