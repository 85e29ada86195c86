"""An entry of the journal as a line for people: when, what, who, and what became of it. Functions of values.

Everything in an entry may come from a service or from a file that somebody has edited, so nothing is taken for granted,
and what could command a terminal is shown as its escape.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bridge.numbers import CODE_NAMES, LOCAL, STATUS_NAMES

WIDE = 80  # columns; from here on with milliseconds and the program's name
WIDER = 110  # and from here on with the command's key
_KINDS = {'notification': 'notified'}
_SEGMENT = re.compile(r'[0-9a-f]{16}-')
_NAMELESS = re.compile(r'(pid-\d+)-\d+-[0-9a-f]{6}')  # how iblb_open calls a program that does not say its name
_CUT = 200  # characters of arguments and data


def mark(entry: dict[str, Any]) -> str:
    """Return ``!`` for an entry that says of a failure, ``~`` for a warning, else a space."""
    code = entry.get('code')
    if isinstance(code, int) and code:
        return '!' if code < 0 else '~'
    if (
        entry.get('kind') == 'gap'
        or entry.get('ok') is False
        or entry.get('event') in ('SERVICE_DOWN', 'CLIENT_LOST', 'EXPERIMENT_LOST')
    ):
        return '!'
    unserved = entry.get('kind') == 'served' and not entry.get('client')
    return '~' if entry.get('event') == 'EXPINTERRUPT' or unserved else ' '


def moment(entry: dict[str, Any]) -> datetime | None:
    """Return when it was, in this computer's zone; None if it does not say."""
    try:
        return datetime.fromisoformat(str(entry.get('wall'))).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def head(width: int) -> str:
    """Return the line above all others."""
    return '  ' + _columns(('time', 'kind', 'what', 'who', 'command'), width) + 'details'


def line(entry: dict[str, Any], width: int, *, fold: bool) -> str:
    """Return an entry as a line, or, folded, as several of at most `width` columns."""
    when = moment(entry)
    time = when.strftime('%H:%M:%S') + f'.{when.microsecond // 1000:03d}' if when else '?'
    kind = as_text(entry.get('kind'))
    what = '' if kind == 'served' else as_text(entry.get('message') or entry.get('event'))
    cells = (time, _KINDS.get(kind, kind), what, who(entry), short(entry.get('command_id')))
    columns = _columns(cells, width)
    begin, said = f'{mark(entry)} {columns}', details(entry)
    if entry.get('rig'):
        said = f'{as_text(entry["rig"])}: {said}'
    if width < WIDE and who(entry):
        said = f'{who(entry)}: {said}' if said else who(entry)
    if not fold:
        return (begin + said).rstrip()
    indent = ' ' * min(len(begin), width // 2)
    return '\n'.join(textwrap.wrap(begin + said, width, subsequent_indent=indent, drop_whitespace=True)) or begin


def who(entry: dict[str, Any]) -> str:
    """Return who sent a command, or whom an event is about."""
    if '-worker-' in str(entry.get('command_id')):
        return f'worker for {as_text(entry["client"])}' if entry.get('client') else 'worker'
    return as_text(entry.get('client') or entry.get('service'))


def short(key: Any) -> str:
    """Return the key of a command without the segment's.

    Examples
    --------
    >>> short('0123456789abcdef-03-17')
    '03-17'
    """
    return _SEGMENT.sub('', as_text(key), count=1)


def details(entry: dict[str, Any]) -> str:
    """Return what a person wants to know of an entry, beside its kind and key."""
    kind, services, data = entry.get('kind'), entry.get('services'), entry.get('data')
    names = [s for s in services if isinstance(s, dict)] if isinstance(services, list) else []
    match kind:
        case 'command':
            args = entry.get('args')
            said = [f'to {as_text(services)}' if services else '', as_json(args) if args else '']
        case 'asked':
            args = entry.get('args')
            said = [
                f'by {as_text(entry.get("master"))} of {as_text(entry.get("service"))}',
                as_json(args) if args else '',
            ]
        case 'replied':
            told = as_text(entry.get('error')) or (as_json(data) if data else '')
            said = [f'to {as_text(entry.get("master"))}', told]
        case 'served':
            by = as_text(entry.get('client')) + (f' (process {as_text(entry["pid"])})' if entry.get('pid') else '')
            why = as_text(entry.get('error')) or 'nobody serves it'
            said = [
                f'{as_text(entry.get("service"))} by {by}' if entry.get('client') else f'{why}: masters get an error'
            ]
        case 'event':
            said = [_event(entry, data)]
        case 'reload':
            refused = entry.get('ok') is False
            nothing = 'another order' if entry.get('reordered') else 'nothing has changed'
            what = as_text(entry.get('error')) if refused else _changes(entry) or nothing
            said = [f'by {as_text(entry.get("by"))}:', what]
        case 'gap':
            said = [f'{as_text(entry.get("lost", "?"))} entries are missing']
        case 'start':
            have = ', '.join([f'{as_text(s.get("name"))} {as_text(s.get("uri"))}' for s in names] + _listening(entry))
            have = have or 'no services'
            said = [f'iblbridge {as_text(entry.get("version"))}, process {as_text(entry.get("pid"))}: {have}']
        case 'stop':
            said = [f'by {as_text(entry["reason"])}' if entry.get('reason') else '']
        case _:
            said = [_outcome(entry, names)]
    return ' '.join(filter(None, said))


def _listening(entry: dict[str, Any]) -> list[str]:
    """Return where a worker that starts is a service itself."""
    settings = entry.get('settings')
    found = settings.get('listeners') if isinstance(settings, dict) else ()
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    return [
        f'listening as {as_text(row.get("name"))} at udp://{as_text(row.get("host"))}:{as_text(row.get("port"))}'
        for row in rows
    ]


def _event(entry: dict[str, Any], data: Any) -> str:
    """Return what an event tells beside its name."""
    alone = data.get('value') if isinstance(data, dict) and len(data) == 1 else None
    if entry.get('event') == 'SERVICES_CHANGED' and isinstance(alone, dict):
        return _changes(alone) or 'another order'
    if entry.get('event') == 'EXPERIMENT_LOST' and isinstance(alone, dict):
        now = alone.get('status')
        name = STATUS_NAMES.get(now) if type(now) is int else None
        reference = as_text(alone.get('exp_ref')) or 'its experiment'
        return f'it does not run {reference} any more; now it says {name or as_text(now)}'
    return as_text(alone) if isinstance(alone, str) else as_json(data) if data else ''


def _changes(entry: dict[str, Any]) -> str:
    """Return what was added, removed and changed."""

    def names(*keys: str) -> str:
        lists = (entry.get(key) for key in keys)
        return ', '.join(as_text(name) for one in lists if isinstance(one, list) for name in one)

    said = {'added': names('added'), 'removed': names('removed'), 'changed': names('changed', 'changed_settings')}
    return '; '.join(f'{what} {named}' for what, named in said.items() if named)


def _outcome(entry: dict[str, Any], services: Sequence[dict[str, Any]]) -> str:
    """Return what became of a command: what failed first."""
    code = entry.get('code', 0)
    told = ', '.join(f'{as_text(s.get("name"))}: {as_text(s.get("state")).replace("_", " ")}' for s in services)
    if entry.get('message') in LOCAL and (not code or told):
        told = 'answered by the worker'  # no service was to be sent anything
    if not code:
        took = milliseconds(entry.get('sent'), entry.get('finished'))
        return ', '.join(filter(None, (took and f'{took} ms', told)))
    name = CODE_NAMES.get(code, '') if isinstance(code, int) else ''
    return '; '.join(filter(None, (f'{name} {as_text(code)}'.strip(), told, as_text(entry.get('error')))))


def milliseconds(start: Any, end: Any) -> str:
    """Return the time between two stamps (ns, 0 for never) in ms with one decimal, or "" if one of them is missing."""
    took = elapsed_ms(start, end)
    return '' if took is None else f'{took:.1f}'


def elapsed_ms(start: Any, end: Any) -> float | None:
    """Return the time between two stamps (ns, 0 for never), ms; None if one of them is missing."""
    return (end - start) / 1e6 if isinstance(start, int) and isinstance(end, int) and start and end else None


def style(entry: dict[str, Any]) -> str:
    """Return how rich shows an entry."""
    return {'!': 'bold red', '~': 'yellow'}.get(mark(entry), 'dim' if entry.get('kind') == 'command' else '')


def _columns(cells: tuple[str, str, str, str, str], width: int) -> str:
    time, kind, what, name, key = cells
    name = _cut(_NAMELESS.sub(r'\1', name), 12 if width < WIDER else 20)
    shown = [f'{time:<12}' if width >= WIDE else f'{time[:8]:<8}', f'{kind:<8}', f'{what:<16}']
    shown += [name] * (width >= WIDE) + [_cut(key, 8)] * (width >= WIDER)
    return ' '.join(shown) + ' '


def _cut(text: str, cells: int) -> str:
    """Return text as wide as a column: a letter of Chinese takes two cells of a terminal, an accent of its own none.

    Long text lacks its middle: programs of one name are told apart by the process at its end.
    """
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= cells:
        return set_cell_size(text, cells)
    end = text
    while cell_len(end) > cells * 3 // 5:
        end = end[1:]
    return f'{set_cell_size(text, cells - 1 - cell_len(end))}…{end}'


def as_json(value: Any) -> str:
    """Return a value as JSON that no terminal takes for a command, cut where it is long."""
    text = as_text(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= _CUT else f'{text[: _CUT - 3]}...'


def as_text(value: Any) -> str:
    """Return a value as text that no terminal takes for a command."""
    text = '' if value is None else str(value)
    return text if text.isprintable() else ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text)
