"""What the tools say of the code: nothing."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sources import ROOT

FOLDERS = ('csrc', 'tests', 'examples', 'bridge')
C_FILES = sorted(
    str(path) for end in ('[ch]', '[ch]pp') for folder in FOLDERS for path in (ROOT / folder).rglob(f'*.{end}')
)


@pytest.mark.parametrize(
    'command',
    [
        ['ruff', 'check', 'bridge', 'tests', 'csrc'],
        ['ruff', 'format', '--check', 'bridge', 'tests', 'csrc'],
        ['mypy'],
        ['mypy', '--platform', 'win32'],
        ['mypy', '--platform', 'darwin'],
        ['clang-format', '--dry-run', '--Werror', *C_FILES],
    ],
    ids=lambda command: ' '.join(command[:3]),
)
@pytest.mark.timeout(900)
def test_the_tool_has_nothing_to_say(command, tmp_path):
    program = Path(sys.executable).with_name(command[0])
    if not program.exists():
        if 'CI' in os.environ:
            pytest.fail(f'{command[0]} is not installed')
        pytest.skip(f'{command[0]} is not installed')
    environment = os.environ | {'RUFF_CACHE_DIR': str(tmp_path), 'MYPY_CACHE_DIR': str(tmp_path)}
    full = [program, *command[1:]]
    done = subprocess.run(full, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_top_level_of_the_repository_holds_what_it_may():
    if shutil.which('git') is None or not (ROOT / '.git').exists():
        pytest.skip('not a git checkout')
    listing = subprocess.run(['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.split('/')[0] for line in listing.splitlines()}
    allowed = {'pyproject.toml', 'bridge', 'csrc', 'tests', 'examples', 'README.md', 'LICENSE', 'CHANGELOG.md'}
    assert {name for name in top if not name.startswith('.')} <= allowed


def test_no_two_tests_outside_a_package_have_one_name():
    """Python imports them by their bare names: the second of a pair stops the whole run."""
    names = [file.name for file in (ROOT / 'tests').rglob('test_*.py') if not (file.parent / '__init__.py').exists()]
    assert sorted(names) == sorted(set(names))


ITEM = re.compile(r'( *)(?:[-*]|[0-9]+\.) +\S')


def broken_lists(docstring: str) -> list[str]:
    """Return the lines of a docstring at which a list, or aligned columns, look as if they were filled like prose."""
    found, inside, is_table = [], -1, False
    for line in docstring.splitlines():
        indent = len(line) - len(line.lstrip())
        if item := ITEM.match(line):
            inside = len(item[1])
        elif not line.strip():
            inside, is_table = -1, False
        elif inside >= 0 and indent <= inside:
            found.append(line)
        is_table |= line.startswith('===')
        merged = re.search(r'[.;:,] (?:[-*]|[0-9]+\.) [A-Z`*]', line)
        columns = re.search(r'\S {3,}\S', line) and not (is_table or indent or inside >= 0)
        if merged or columns:
            found.append(line)
    return found


def test_lists_in_docstrings_keep_their_indent():
    broken = []
    for path in (path for folder in ('bridge', 'csrc', 'tests') for path in (ROOT / folder).rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                broken += [f'{path.name}: {line}' for line in broken_lists(ast.get_docstring(node) or '')]
    assert not broken


def test_a_list_that_was_filled_like_prose_would_be_noticed():
    rules, table = (
        'Rules:\n\n- One that is long\n  and goes on.\n- Two.\n\n',
        '====  ======\na     table\n====  ======\n',
    )
    whole = f'{rules}{table}\n    x    literal\n'
    assert broken_lists(whole) == []
    assert broken_lists(whole.replace('\n  and', '\nand')) == ['and goes on.']
    assert broken_lists(whole.replace('.\n- Two', '. - Two')) == ['  and goes on. - Two.']
    assert broken_lists(whole.replace('\n    x', '\nx')) == ['x    literal']
