"""What is left out on Windows or under Wine says why."""

from __future__ import annotations

import ast
import importlib
from types import ModuleType

import pytest
from sources import TESTS

MARKERS = ('posix', 'not_wine')
FILES = sorted(file for file in TESTS.rglob('test_*.py') if file.parent.name != 'windows')


def reasons(text: str) -> list[tuple[str, str]]:
    """Return marker and reason of each use of the markers; '' if there is none."""
    tree = ast.parse(text)
    told = {
        id(node.func): node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and len(node.args) == 1 and isinstance(node.args[0], ast.Constant)
    }
    return [
        (node.attr, str(told.get(id(node), '')).strip())
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in MARKERS and ast.unparse(node.value) == 'pytest.mark'
    ]


def test_a_marker_without_a_reason_is_found():
    assert reasons("@pytest.mark.posix('is so')\ndef f(): pass") == [('posix', 'is so')]
    for none in ('pytest.mark.not_wine', 'pytest.mark.not_wine()', "pytest.mark.not_wine(' ')"):
        assert reasons(f'pytest.param(1, marks={none})') == [('not_wine', '')]


@pytest.mark.parametrize('file', [*FILES, TESTS / 'systems.py'], ids=lambda file: file.name)
def test_each_test_that_is_left_out_says_why(file):
    assert all(reason for _, reason in reasons(file.read_text()))


@pytest.fixture
def run_python(monkeypatch) -> ModuleType:
    """What runs the others in Windows Python."""
    monkeypatch.syspath_prepend(TESTS / 'windows')
    return importlib.import_module('run_python')


def test_what_is_not_run_in_windows_python_is_there_and_says_why(run_python):
    for name in (*run_python.OMITTED, *run_python.LONG_ONES):
        assert (TESTS / name).exists(), name
    assert set(run_python.LONG_ONES) <= set(run_python.python_tests())
    assert all(run_python.OMITTED.values()) and not run_python.OMITTED.keys() & set(run_python.LONG_ONES)


def test_a_hanging_test_is_told_by_its_name_and_the_others_are_counted(run_python):
    said = (
        'tests/test_a.py::test_one PASSED   [ 33%]\n'
        'tests/test_a.py::test_two[a b] SKIPPED (why)  [ 66%]\n'
        'tests/test_a.py::test_three[x y] Timeout (0:01:00)!\nThread 0x000001d4 (most recent call first):\n'
    )
    assert run_python.progress(said) == (1, 'tests/test_a.py::test_three[x y]')
    assert run_python.progress(said.partition(' Timeout')[0]) == (1, 'tests/test_a.py::test_three[x y]')
    assert run_python.progress('') == (0, '')
