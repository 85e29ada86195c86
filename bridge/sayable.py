"""What comes from services is made sayable here, once, as it comes in: then nothing behind can fail at it.

A service may answer with anything that JSON can say, and Python's JSON reader takes more than that. Its words are told
to programs in a dozen languages, logged, and written down: what only one of these cannot say would be lost to all, and
what is without a bound would push out what others have to say. `sayable` is for values, `sentence` for what people
read: one line, of bounded length.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

MAX_DEPTH = 48  # of a service's data; the C reader stops at 64
LONGEST_SENTENCE = 500  # characters


def sayable(value: Any, depth: int = 0) -> Any:  # noqa: PLR0911
    """Return a value as JSON, msgpack and the C reader can carry it.

    Numbers beyond 64 bits become floats, lone surrogates question marks, NaN and infinity None, keys text, bytes text,
    sets lists, and what is nested deeper than 48 becomes text.
    """
    kind = type(value)
    if depth < MAX_DEPTH:  # first what JSON is mostly made of; others become one of these below
        if kind is list:
            return [sayable(item, depth + 1) for item in value]
        if kind is dict:
            return {_key(key): sayable(item, depth + 1) for key, item in value.items()}
    if value is None or kind is bool or (kind is str and value.isascii()):
        return value
    if isinstance(value, str):
        return value.encode('utf-8', 'replace').decode()
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else _as_float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode(errors='replace')
    if depth >= MAX_DEPTH:
        return '(nested too deeply)'
    if isinstance(value, Mapping):
        return sayable(dict(value.items()), depth)
    return sayable(list(value) if isinstance(value, (Sequence, Set)) else str(value), depth)


def sentence(value: Any, most: int = LONGEST_SENTENCE) -> str:
    r"""Return what somebody says of an error as one line of at most so many characters.

    What cannot be printed (line ends, what moves a terminal's cursor, what changes the direction of writing) becomes a
    blank: a line of the log must not be able to look like two.

    Examples
    --------
    >>> sentence('ValueError: no\nspace'), sentence(['a', 1]), sentence('x' * 600)[-7:]
    ('ValueError: no space', '["a", 1]', 'x [...]')
    """
    text = value if isinstance(value, str) else json.dumps(sayable(value), ensure_ascii=False)
    cut = text[: most + 1]
    if not cut.isprintable():
        cut = ' '.join(''.join(letter if letter.isprintable() else ' ' for letter in cut).split())
    return cut if len(text) <= most else f'{cut[: most - 6]} [...]'


def _key(key: Any) -> str:
    said = sayable(key if isinstance(key, (str, bytes)) else str(key))
    return str(said)


def _as_float(value: int) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None
