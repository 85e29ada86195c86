"""The guides as pages: short lines, and a word for those who sit at Windows."""

from __future__ import annotations

import re

import pytest

from bridge import kit

NOT_RUN = 'On a real Windows none of this has been run yet.'


def prose(name: str) -> list[str]:
    """Return the lines of a guide that are neither code nor table nor generated."""
    text = (kit.examples() / name / 'README.md').read_text(encoding='utf-8')
    text = re.sub(r'^```.*?^```', '', text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r'<!-- (\w+): begin -->.*?<!-- \1: end -->', '', text, flags=re.DOTALL)
    return [line for line in text.splitlines() if not line.startswith('|')]


@pytest.mark.parametrize('name', kit.KITS)
def test_no_line_of_prose_is_longer_than_a_window(name):
    assert [line for line in prose(name) if len(line) > 120] == []


@pytest.mark.parametrize('name', kit.KITS)
def test_a_guide_names_the_libraries_of_windows_and_says_once_what_nobody_has_run(name):
    text = ' '.join(prose(name)).replace('  ', ' ')
    assert text.count(NOT_RUN) == 1
    assert {'iblbridge_64.dll', 'iblbridge_32.dll', 'libiblbridge.so'} <= set(
        re.findall(r'`((?:lib)?iblbridge[\w.]+)`', text.replace('iblbridge_64.so', 'libiblbridge.so'))
    )
    assert 'PowerShell' in text
    assert 'so far' not in text


def test_labviews_errors_are_told_with_what_to_do():
    guide = (kit.examples() / 'labview' / 'README.md').read_text(encoding='utf-8')
    table = re.search(r"^\| error \| LabVIEW's words \|.*\n\|[-|]+\n((?:\|.*\n)+)", guide, re.MULTILINE)
    assert table
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in table[1].splitlines()]
    assert [row[0] for row in rows] == ['7', '12', '13', '1097']
    assert all(len(cell) > 10 for row in rows for cell in row[1:])
