"""Write the table of codes (codes.def) into the header and the README.

    python csrc/codes.py          rewrite what is out of date
    python csrc/codes.py --check  exit 1, naming the files that are

The table stands between the lines `codes: begin` and `codes: end` of each file.
"""

from __future__ import annotations

import argparse
import ast
import re
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ENTRY = re.compile(r'^CODE\((?P<name>\w+), (?P<number>-?\d+), (?P<texts>".*")\)$', re.MULTILINE)


class Code(NamedTuple):
    """One status: its name, number, who returns it, what happened, what to do."""

    name: str
    number: int
    source: str
    meaning: str
    remedy: str


def read_codes(path: Path = HERE / 'codes.def') -> list[Code]:
    """Return the table in the order of the file."""
    matches = ENTRY.finditer(path.read_text())
    return [Code(m['name'], int(m['number']), *ast.literal_eval(f'({m["texts"]})')) for m in matches]


def header_lines(codes: list[Code]) -> str:
    """Return the `#define` lines of the public header."""
    return '\n'.join(f'#define {c.name} {c.number} /* {c.source}: {c.meaning} */' for c in codes)


def readme_lines(codes: list[Code]) -> str:
    """Return the Markdown table of the README."""
    rows = [f'| {c.number} | `{c.name}` | {c.source} | {c.meaning} | {c.remedy} |' for c in codes]
    return '\n'.join(['| code | name | from | what happened | what to do |', '|---|---|---|---|---|', *rows])


def replaced(text: str, table: str) -> str:
    """Return `text` with `table` between its two marker lines."""
    begin = re.search(r'^.*codes: begin.*$', text, re.MULTILINE)
    end = re.search(r'^.*codes: end.*$', text, re.MULTILINE)
    if not (begin and end):
        raise ValueError('the lines "codes: begin" and "codes: end" are missing')
    return f'{text[: begin.end()]}\n{table}\n{text[end.start() :]}'


def main() -> int:
    """Rewrite or check the two files; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='change nothing; exit 1 if something is out of date')
    check = parser.parse_args().check
    codes = read_codes()
    stale = []
    targets = ((HERE / 'include/iblbridge.h', header_lines), (HERE.parent / 'README.md', readme_lines))
    for path, lines in targets:
        text = path.read_text()
        if (new := replaced(text, lines(codes))) != text:
            stale.append(path.name)
            if not check:
                path.write_text(new)
    print(f'{"out of date" if check else "rewritten"}: {", ".join(stale) or "nothing"}')
    return int(check and bool(stale))


if __name__ == '__main__':
    raise SystemExit(main())
