"""What Python can say in JSON, on every path: exactly, or not at all.

Numbers, text, booleans, None, lists, tuples and dicts as ever; of numpy scalars and arrays; a Path as its text; dates
and times in ISO 8601. NaN and infinity are none of JSON's numbers, and a receiver may take them for anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, time
from os import PathLike, fspath
from typing import Any


def dumps(value: Any) -> str:
    """Return a value as JSON text, in ASCII.

    Parameters
    ----------
    value : object
        Anything of the above.

    Raises
    ------
    ValueError
        It holds NaN or infinity, or itself.
    TypeError
        It holds anything else that JSON cannot express; the sentence names it.
    """
    try:
        return _ENCODER.encode(value)
    except RecursionError:
        raise ValueError('JSON cannot express what is nested so deeply, or holds itself') from None
    except (TypeError, ValueError) as error:
        found = _unsayable(value, frozenset())
        if found is None:
            raise
        raise type(error)(f'JSON cannot express {found}; send null, text or a number instead') from None


def _plain(value: Any) -> Any:
    """Return what stands for a value that json does not know."""
    if type(value).__module__ == 'numpy' or hasattr(value, '__array_interface__'):  # without importing it
        if value.dtype.kind == 'M' and str(value) != 'NaT':
            return str(value) if value.ndim == 0 else value.astype(str).tolist()
        if value.dtype.kind in 'biufU' and value.dtype.char != 'g':  # a long double is more than JSON's readers take
            return value.tolist()
        if value.dtype.kind == 'O' and value.ndim:
            return value.tolist()
    elif isinstance(value, (date, time)):
        return value.isoformat()
    elif isinstance(value, PathLike):
        text = fspath(value)
        if isinstance(text, str):
            return text
    raise TypeError(f'{type(value).__name__} is unknown to JSON')


_ENCODER = json.JSONEncoder(allow_nan=False, default=_plain)


def _unsayable(value: Any, above: frozenset[int]) -> str | None:  # noqa: PLR0911
    """Return the first thing in a value that JSON cannot express, in words."""
    if isinstance(value, float):
        return None if math.isfinite(value) else {math.inf: 'Infinity', -math.inf: '-Infinity'}.get(value, 'NaN')
    if value is None or isinstance(value, (str, int)):
        return None
    if id(value) in above:
        return f'a {type(value).__name__} that holds itself'
    if isinstance(value, (Mapping, list, tuple)):
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, (str, int, float)) and key is not None:
                    return f'a key that is not text, {_shown(key)}'
        inner: Sequence[Any] = list(value.values()) if isinstance(value, Mapping) else value
        if isinstance(value, (dict, list, tuple)):
            return next((text for item in inner if (text := _unsayable(item, above | {id(value)}))), None)
        return _shown(value)
    try:
        return _unsayable(_plain(value), above | {id(value)})
    except TypeError:
        return _shown(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return f'{text if len(text) <= 60 else f"{text[:57]}..."} ({type(value).__name__})'  # noqa: PLR2004
