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
    assert {'iblb_serve', 'iblb_next_command', 'iblb_answer', 'iblb_fail', 'iblb_tell'} <= seen


def test_every_number_is_that_of_the_header():
    page = PAGE.read_text(encoding='utf-8')
    header = load()
    numbers = {one.name: one.number for one in (*header.codes, *header.messages, *header.events)}
    given = {name: int(number) for name, number in re.findall(r'const (IBLB_\w+) = (-?\d+)', page)}
    assert given and given == {name: numbers[name] for name in given}
    assert set(re.findall(r'\bIBLB_[A-Z_]+', page)) == set(given)


def test_ctrl_c_and_a_failed_stop_leave_nobody_untold():
    page = PAGE.read_text(encoding='utf-8')
    assert page.index('Base.exit_on_sigint(false)') < page.index('open_rig(')
    caught = page[page.index('\ncatch e # a BridgeError') : page.index('\nfinally')]
    assert caught.index('stop(rig)') < caught.index('rethrow()')
    assert len(re.findall(r'call\(\w+, IBLB_EXPINTERRUPT\)', page)) == 1
    assert re.search(r'function stop\(handle\)\n +try\n +call\(handle, IBLB_EXPINTERRUPT\)\n +catch', page)


def test_a_handler_that_throws_leaves_no_master_waiting():
    page = PAGE.read_text(encoding='utf-8')
    attempt = page[page.index('\nfunction attempt(') : page.index('\nrig = open_rig("rig0", "camera")')]
    assert attempt.index('work(command)') < attempt.index('fail(handle, command') < attempt.index('rethrow()')
    assert re.search(r'attempt\(obey, rig, command\)', page)


def test_an_error_carries_the_open_request_and_call_takes_a_timeout():
    page = PAGE.read_text(encoding='utf-8')
    fields = re.search(r'^struct BridgeError.*?\n(.*?)^end', page, re.DOTALL | re.MULTILINE)
    made = parts(page[page.index('throw(BridgeError(') + len('throw(BridgeError') :])
    assert fields and re.findall(r'(\w+)::', fields[1]) == ['code', 'sentence', 'response', 'request'] == [
        {'status': 'code', 'text(sentence)': 'sentence'}.get(part, part) for part in made
    ]
    assert 'open ? request : 0)' in page
    assert re.search(r'function call\(handle, message, arguments\.\.\.; services = "", timeout_ms = 12000\)', page)


def test_it_says_that_it_is_untested():
    assert 'untested' in PAGE.read_text(encoding='utf-8').splitlines()[0]


def test_a_warning_is_said_and_not_taken_for_done():
    page = PAGE.read_text(encoding='utf-8')
    check = page[page.index('\nfunction check(') : page.index('\nfunction open_rig(')]
    assert check.index('status == 0 && return') < check.index('iblb_last_error') < check.index('if status > 0')
    assert re.search(r'if status > 0.*\n +println\(stderr, "warning .*text\(sentence\)\)\n +return response\n', check)
