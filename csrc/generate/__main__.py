"""Write what follows from codes.def and iblbridge.h into the files of all languages.

    python csrc/generate          rewrite what is out of date
    python csrc/generate --check  exit 1, naming the files that are

Every other module here but `interface` and `rules` (what the header may hold) is one language. It has `FILES`, which
maps a path to a function that returns the whole file, or `TABLES`, which maps a path and a name to a function that
returns what stands between the lines `NAME: begin` and `NAME: end` of that file; or both. Each function takes the
`Interface`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from interface import CSRC, load

ROOT = CSRC.parent


def replaced(text: str, name: str, table: str) -> str:
    """Return `text` with `table` between its two marker lines."""
    begin = re.search(rf'^.*\b{name}: begin.*$', text, re.MULTILINE)
    end = re.search(rf'^.*\b{name}: end.*$', text, re.MULTILINE)
    if not (begin and end):
        raise ValueError(f'the lines "{name}: begin" and "{name}: end" are missing')
    return f'{text[: begin.end()]}\n{table}\n{text[end.start() :]}'


def languages() -> Iterator[object]:
    """Return the modules of all languages; the one that writes the header first."""
    names = {path.stem for path in Path(__file__).parent.glob('*.py')} - {'__main__', 'interface', 'rules'}
    yield from map(import_module, sorted(names))


def rewrite(check: bool) -> list[str]:
    """Write, or with `check` only name, the files that are out of date."""
    stale = []

    def put(path: str, new: str) -> None:
        file = ROOT / path
        if not file.exists() or file.read_text(encoding='utf-8') != new:
            stale.append(path)
            if not check:
                file.write_text(new, encoding='utf-8', newline='\n')

    for language in languages():
        interface = load()  # anew each time, for the header itself is written first
        for path, whole in getattr(language, 'FILES', {}).items():
            put(path, whole(interface))
        for (path, name), table in getattr(language, 'TABLES', {}).items():
            put(path, replaced((ROOT / path).read_text(encoding='utf-8'), name, table(interface)))
    return stale


def main() -> int:
    """Rewrite or check; return the exit status."""
    parser = argparse.ArgumentParser(prog='python csrc/generate', description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='change nothing; exit 1 if something is out of date')
    check = parser.parse_args().check
    stale = rewrite(check)
    print(f'{"out of date" if check else "rewritten"}: {", ".join(stale) or "nothing"}')
    return int(check and bool(stale))


if __name__ == '__main__':
    raise SystemExit(main())
