"""A word that is none of those there are: which one was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_BEGINNING = 4  # letters that say which word was begun, if it is the only one that begins so


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the one of `words` that is most like `word`, whatever the case; "" if none is.

    Examples
    --------
    >>> nearest('EXPSTRAT', ['EXPSTART', 'EXPEND'])
    'EXPSTART'
    >>> nearest('EXPSTAT', ['EXPSTART', 'EXPSTATUS'])
    'EXPSTATUS'
    >>> nearest('banana', ['EXPSTART', 'EXPEND'])
    ''
    """
    by_fold = {each.casefold(): each for each in reversed(list(words))}
    begun = [fold for fold in by_fold if len(word) >= _BEGINNING and fold.startswith(word.casefold())]
    if len(begun) == 1:
        return by_fold[begun[0]]
    found = difflib.get_close_matches(word[:100].casefold(), by_fold, 1)
    return by_fold[found[0]] if found else ''


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return ``'; did you mean X?'``, or "" if nothing is like `word`."""
    found = nearest(word, words)
    return f'; did you mean {found}?' if found else ''
