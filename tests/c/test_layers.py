"""The C files form layers: none is called, round about, by what it calls."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from sources import CSRC, library

pytestmark = pytest.mark.posix('the compiler and nm are those of a Unix')

TOGETHER = {'os_linux.c': 'os.c', 'os_posix.c': 'os.c'}  # one job in two files
CALLED_BACK = 'forks.c'  # which calls those who asked for it


def calls(folder: Path, csrc: Path = CSRC) -> dict[str, set[str]]:
    """Return which files each file needs, by what the compiler leaves open."""
    defined: dict[str, str] = {}
    needed: dict[str, set[str]] = {}
    for source in library(csrc=csrc):
        name, place = TOGETHER.get(source.name, source.name), folder / f'{source.stem}.o'
        subprocess.run(['cc', '-D_POSIX_C_SOURCE=200809L', '-c', source, '-o', place], check=True)
        text = subprocess.run(['nm', place], check=True, capture_output=True, text=True).stdout
        defined |= dict.fromkeys(re.findall(r'^[0-9a-f]+ [TDBRC] (\w+)$', text, re.MULTILINE), name)
        needed.setdefault(name, set()).update(re.findall(r'^ +U (\w+)$', text, re.MULTILINE))
    return {name: {defined[one] for one in ones if one in defined} - {name} for name, ones in needed.items()}


def circles(files: Mapping[str, set[str]]) -> set[str]:
    """Return the files that need themselves, round about."""
    left = {name: needs & set(files) for name, needs in files.items()}
    while free := {name for name, needs in left.items() if not needs}:
        left = {name: needs - free for name, needs in left.items() if name not in free}
    return set(left)


def test_no_two_files_call_each_other(tmp_path):
    if not shutil.which('cc') or not shutil.which('nm'):
        pytest.skip('no C compiler, or no nm')
    found = calls(tmp_path)
    assert {'asked.c', 'ring.c'} <= found['taking.c'] and 'asked.c' in found['incoming.c']
    found[CALLED_BACK] = set()
    assert circles(found) == set()


def test_a_circle_is_found():
    assert circles({'a': {'b'}, 'b': {'c'}, 'c': {'a'}, 'd': {'a'}, 'e': set()}) == {'a', 'b', 'c', 'd'}
    assert circles({'a': {'b'}, 'b': set()}) == set()
