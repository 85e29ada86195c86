"""The reference of an experiment: what iblrig's services can parse. Functions of values.

It is text, ``date_sequence_subject``, or an object with these three parts; ``one.ref2dict`` of ONE-api takes it apart
at the first two underscores, makes a date and an int of the first two parts, and the camera session makes folders of
all three. What that cannot do raises in the loop of the camera, and ends it; so it is refused here.
"""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any

EXAMPLE = '2026-01-01_1_subject'

_DATE = re.compile(r'[0-9]{4}-[0-9]{2}-[0-9]{2}')
_SEQUENCE = re.compile(r'[0-9]{1,9}')
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff<>:"/\\|?*]')
_DEVICES = re.compile(r'(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?')  # no file can have such a name on Windows
_LONGEST = 255  # bytes of a file's name
_PARTS = ('date', 'sequence', 'subject')


def check(value: Any) -> Any:
    """Return a reference as it is.

    Parameters
    ----------
    value : object
        What a program gave as one.

    Raises
    ------
    ValueError
        It is none; the sentence says what is wrong and what is right.
    """
    if isinstance(value, dict):
        parts = _parts(value)
    elif isinstance(value, str):
        parts = list(value.split('_', 2))
        if len(parts) < len(_PARTS):
            raise ValueError(f'exp_ref must be date_sequence_subject, such as "{EXAMPLE}", not {shown(value)}')
    else:
        raise _no_reference(value)
    for check_part, part in zip((_check_date, _check_sequence, _check_subject), parts, strict=True):
        check_part(part)
    return value


def check_any(value: Any) -> Any:
    """Return a reference of whatever form a lab has: text that is not empty, or an object.

    Raises
    ------
    ValueError
        It is neither, or an object that no text can be made of.
    """
    if isinstance(value, dict):
        parts = _parts(value)
        _check_sequence(parts[1])  # of which iblutil makes an int
        if wrong := [part for part in parts if not isinstance(part, (str, int))]:
            raise ValueError(f'the parts of exp_ref must be text or a number, not {shown(wrong[0])}')
        return value
    if isinstance(value, str) and value.strip():
        return value
    raise _no_reference(value)


def check_within(data: Any, may_lack: bool) -> Any:
    """Return the data of a message, with the reference in it checked, if it is an object that has one.

    Parameters
    ----------
    data : object
        What EXPINIT or EXPINFO carries, e.g. ``{'exp_ref': '2026-01-01_1_subject'}``.
    may_lack : bool
        The reference may be null: there is no experiment.

    Raises
    ------
    ValueError
        It is no reference.
    """
    if isinstance(data, dict) and 'exp_ref' in data and not (may_lack and data['exp_ref'] is None):
        check(data['exp_ref'])
    return data


def shown(value: Any) -> str:
    """Return a value as the caller wrote it, cut if it is long."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f'{text[:57]}...'  # noqa: PLR2004


def _parts(value: dict[Any, Any]) -> list[Any]:
    if missing := [part for part in _PARTS if part not in value]:
        raise ValueError(f'exp_ref lacks {", ".join(missing)}')
    return [value[part] for part in _PARTS]


def _no_reference(value: Any) -> ValueError:
    return ValueError(f'exp_ref must be text like "{EXAMPLE}" or an object, not {shown(value)}')


def _check_date(value: Any) -> None:
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            date.fromisoformat(value)
        except ValueError as e:
            raise ValueError(f'the date of exp_ref, {shown(value)}, is not in the calendar: {e}') from None
        return
    raise ValueError(f'the date of exp_ref must be text like "2026-01-01", not {shown(value)}')


def _check_sequence(value: Any) -> None:
    if isinstance(value, str):
        fits = _SEQUENCE.fullmatch(value) is not None and int(value) > 0
    else:
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9
    if not fits:
        raise ValueError(f'the sequence of exp_ref must be a whole number from 1, not {shown(value)}')


def _check_subject(value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'the subject of exp_ref must be non-empty text, not {shown(value)}')
    if found := _NOT_IN_NAMES.search(value):
        raise ValueError(
            f'the subject of exp_ref, {shown(value)}, contains {json.dumps(found[0])}, which a folder name cannot'
        )
    if value.strip() != value or value.endswith('.') or _DEVICES.fullmatch(value):
        raise ValueError(
            f'the subject of exp_ref, {shown(value)}, cannot be the name of a folder: no space at either end, no dot '
            "at the end, none of Windows' devices"
        )
    if len(value.encode()) > _LONGEST:
        raise ValueError(
            f'the subject of exp_ref, {shown(value)}, is longer than the {_LONGEST} bytes that a name may have'
        )
