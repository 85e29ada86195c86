"""What iblb_open waits for by itself, each client that opens in slices, so that Ctrl-C and Stop work, waits for too."""

from __future__ import annotations

import re

import pytest
from sources import ROOT

from bridge.numbers import CODES
from bridge.segment import calls


def part(file: str, pattern: str) -> str:
    """Return what stands in a file where the pattern has its group."""
    found = re.search(pattern, (ROOT / file).read_text(encoding='utf-8'), re.DOTALL)
    assert found, (file, pattern)
    return found[1]


def named(text: str) -> set[int]:
    """Return the errors that a piece of a program names."""
    return {CODES[f'IBLB_{name}'] for name in re.findall(r'\b(?:IBLB_)?(E_[A-Z_]+)\b', text)}


WAITED_FOR = named(part('csrc/client.c', r'static int worth_waiting\(int code\) \{(.*?)\}'))


@pytest.mark.parametrize(
    ('file', 'pattern'),
    [
        ('examples/bonsai/Extensions/Bridge.cs', r'static bool Passes\(int code\)\s*\{(.*?)\}'),
        ('examples/matlab/iblbridge.m', r'again = \[(.*?)\];'),
        ('examples/node/iblbridge.js', r'const MAY_CHANGE = \[(.*?)\];'),
    ],
)
def test_a_client_that_opens_in_slices_waits_for_what_the_library_waits_for(file, pattern):
    """Node.js and MATLAB gave up at once if a virus scanner had the file."""
    assert len(WAITED_FOR) == 4
    assert named(part(file, pattern)) == WAITED_FOR


def test_python_waits_for_what_the_library_waits_for():
    assert calls._MAY_COME == WAITED_FOR


def test_a_vi_waits_for_what_the_library_waits_for():
    """On Windows a segment of the last boot ended the VI that was started before the worker."""
    guide = (ROOT / 'examples/labview/README.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| \d+ \| `iblb_open` \|.*\| again at (.*?);', guide, re.MULTILINE)
    assert len(rows) == 2
    for row in rows:
        assert set(map(int, re.findall(r'-?\d+', row))) == WAITED_FOR | {CODES['IBLB_W_NO_WORKER']}
