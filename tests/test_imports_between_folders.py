"""The borders between the folders of bridge: who imports whom, and what can be imported without any library."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bridge

BRIDGE = Path(bridge.__file__).resolve().parent
ROOT = BRIDGE.parent
MODULES = sorted(path for path in BRIDGE.rglob('*.py') if 'native' not in path.relative_to(BRIDGE).parts[:-1])
ADAPTERS = {'bridge/services/iblutil.py'}
HEAVY = ('_cffi_backend', 'cffi', 'iblutil', 'numpy')
LIGHT = (
    'numbers', 'outcome', 'config', 'addresses', 'carrier', 'discretion', 'journal', 'journal.files', 'native',
    'reading', 'results', 'listen', 'listen.asked', 'listen.desk', 'listen.master', 'listen.memory', 'listen.rules',
    'listen.strangers', 'listening',
    'sayable', 'segment', 'services', 'services.rules', 'services.errand', 'services.line', 'services.link',
    'services.plan', 'services.stages', 'services.together',
)  # fmt: skip


def imports(text: str, package: str = 'bridge') -> Iterator[str]:
    """Yield the full names of all that is imported, wherever in a module it is, by statement or by name.

    Of ``from a import b`` both a and a.b, for b may be a module.
    """
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                above = package.split('.')[: len(package.split('.')) - level + 1] if level else []
                base = '.'.join([*above, *([module] if module else [])])
                yield base
                yield from (f'{base}.{name.name}' for name in names)
            case ast.Call(
                func=ast.Name(id='import_module' | '__import__') | ast.Attribute(attr='import_module'),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


def imported_by(path: Path) -> set[str]:
    return set(imports(path.read_text(), '.'.join(path.relative_to(ROOT).parent.parts)))


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f'{package}.')


@pytest.mark.parametrize(
    'text',
    [
        'import bridge.segment.client',
        'from bridge.segment import client',
        'from bridge import segment',
        'from bridge.segment.client import Client as C',
        'def f():\n    if True:\n        from bridge.segment import client',
        'from ..segment import client',
        'from .. import segment',
        'from importlib import import_module\nimport_module("bridge.segment.client")',
        'import importlib\nimportlib.import_module("bridge.segment")',
        '__import__("bridge.segment")',
    ],
)
def test_an_import_is_found_however_it_is_written(text):
    assert any(is_in(name, 'bridge.segment') for name in imports(text, 'bridge.services'))


def test_what_is_no_import_of_a_folder_is_not_taken_for_one():
    text = 'from bridge import segments\nfrom . import segment\nimport segment\n"import bridge.segment"'
    assert not any(is_in(name, 'bridge.segment') for name in imports(text, 'bridge.services'))


@pytest.mark.parametrize(('folder', 'other'), [('segment', 'services'), ('services', 'segment')])
def test_shared_memory_and_network_do_not_know_each_other(folder, other):
    paths = sorted((BRIDGE / folder).rglob('*.py'))
    assert paths
    for path in paths:
        found = {name for name in imported_by(path) if is_in(name, f'bridge.{other}') or is_in(name, 'bridge.worker')}
        assert not found, f'{path.relative_to(ROOT)} imports {sorted(found)}'


def test_what_listens_does_not_know_who_is_behind():
    for path in sorted((BRIDGE / 'listen').rglob('*.py')):
        found = {name for name in imported_by(path) if is_in(name, 'bridge.segment') or is_in(name, 'bridge.worker')}
        assert not found, f'{path.relative_to(ROOT)} imports {sorted(found)}'


def test_nothing_but_the_adapter_imports_iblutil():
    found = {
        path.relative_to(ROOT).as_posix() for path in MODULES if any(is_in(n, 'iblutil') for n in imported_by(path))
    }
    assert found and found <= ADAPTERS


@pytest.mark.parametrize('module', [m for m in LIGHT if (BRIDGE / m.replace('.', '/')).with_suffix('.py') in MODULES
                                    or (BRIDGE / m / '__init__.py') in MODULES])  # fmt: skip
def test_what_holds_values_or_decisions_loads_no_library(module):
    code = f'import sys; import bridge.{module}; print([name for name in {HEAVY!r} if name in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ('[]\n', '')


def test_importing_all_of_these_together_loads_none_either():
    code = f'import sys; from bridge import config, numbers, outcome; print(set({HEAVY!r}) & set(sys.modules))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ('set()\n', '')


def test_describing_the_commands_loads_nothing_of_what_they_do():
    """Every `iblbridge` pays for it: asyncio and what stands behind the files of a rig took 45 of 125 ms."""
    late = (*HEAVY, 'asyncio', 'gzip', 'rich', 'yaml', 'bridge.config', 'bridge.journal', 'bridge.services')
    code = (
        f'import sys; from bridge.cli.command import parser; parser(); print([m for m in {late} if m in sys.modules])'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ('[]\n', '')
