"""Julia: nothing runs the page, but each call and each number on it is as in the header."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from guides import ROOT

sys.path.insert(0, str(ROOT / 'csrc' / 'generate'))
from interface import load

PAGE = ROOT / 'examples' / 'julia' / 'README.md'
TYPES = {
    'int': {'Cint'},
    'const char *': {'Cstring'},
    'char *': {'Ptr{UInt8}'},
    'int *': {'Ref{Cint}', 'Ptr{Cint}'},
    'double *': {'Ref{Cdouble}'},
}


def parts(text: str) -> list[str]:
    """Return what stands between the commas of a text that begins with a bracket, up to the one that closes it."""
    found, depth = [''], 0
    for character in text:
        depth += (character in '([{') - (character in ')]}')
        if depth == 0:
            break
        if character == ',' and depth == 1:
            found.append('')
        elif depth > 1 or character not in '(':
            found[-1] += character
    return [part.strip() for part in found if part.strip()]


def calls(page: str) -> Iterator[list[str]]:
    """Return the arguments of each ccall."""
    for match in re.finditer(r'\bccall(?=\()', page):
        yield parts(page[match.end() :])


def test_every_call_fits_its_prototype():
    functions = {function.name: function.parameters for function in load().functions}
    seen = set()
    for target, returned, types, *arguments in calls(PAGE.read_text(encoding='utf-8')):
        name = re.fullmatch(r'\(:(\w+), LIB\)', target)[1]
        seen.add(name)
        given = parts(types)
        assert returned == 'Cint'
        assert len(given) == len(arguments) == len(functions[name]), name
        assert all(one in TYPES[parameter.type] for one, parameter in zip(given, functions[name], strict=True)), name
    assert len(seen) > 6


def test_every_number_is_that_of_the_header():
    page = PAGE.read_text(encoding='utf-8')
    numbers = {constant.name: constant.number for constant in load().constants}
    given = {name: int(number) for name, number in re.findall(r'const (IBLB_\w+) = (-?\d+)', page)}
    assert given and given == {name: numbers[name] for name in given}
    assert set(re.findall(r'\bIBLB_[A-Z_]+', page)) == set(given)


def test_it_says_that_it_is_untested():
    assert 'untested' in PAGE.read_text(encoding='utf-8').splitlines()[0]
