"""The manuals of this repository: where they are, and their parts."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MANUALS = tuple(
    ROOT / name
    for name in (
        'README.md',
        'bridge/README.md',
        'bridge/WINDOWS.md',
        'csrc/README.md',
        'examples/README.md',
        'tests/README.md',
    )
)
"""tuple of Path: all that is no guide of a kit; those go where there is nothing else."""


def text(name: str) -> str:
    """Return a manual, by its path in the repository."""
    return (ROOT / name).read_text(encoding='utf-8')


def blocks(manual: str, language: str = '') -> list[str]:
    """Return the code blocks of a language; with none, those that name none."""
    found = re.findall(r'^```(\w*)\n(.*?)^```$', manual, re.MULTILINE | re.DOTALL)
    return [body for kind, body in found if kind == language]


def prose(manual: str) -> str:
    """Return a manual without its code blocks."""
    return re.sub(r'^```.*?^```$', '', manual, flags=re.MULTILINE | re.DOTALL)


def anchors(manual: str) -> set[str]:
    """Return where a link into a manual may lead: its headings, as GitHub spells them."""
    headings = re.findall(r'^#+ (.*)$', prose(manual), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def table(manual: str, first: str) -> list[list[str]]:
    """Return the rows of the table whose head begins with `first`, without the head."""
    lines = re.search(rf'^\| {re.escape(first)} \|.*\n\|[-|]+\|\n((?:\|.*\n?)+)', manual, re.MULTILINE)
    assert lines, f'no table that begins with {first}'
    return [[cell.strip() for cell in line.strip()[1:-1].split(' | ')] for line in lines[1].splitlines()]


def words(rows: list[list[str]]) -> list[str]:
    """Return what stands in backticks in the first column."""
    return [word for row in rows for word in re.findall(r'`([^`]*)`', row[0])]
