"""The examples that docstrings show are what the functions return."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import bridge

BRIDGE = Path(bridge.__file__).resolve().parent
EXTRAS = {'cli/journal/timeline_png.py': 'matplotlib'}
WITH_EXAMPLES = sorted(path for path in BRIDGE.rglob('*.py') if '>>> ' in path.read_text(encoding='utf-8'))


def test_there_are_examples():
    assert len(WITH_EXAMPLES) > 20


@pytest.mark.parametrize('path', WITH_EXAMPLES, ids=lambda path: path.relative_to(BRIDGE).as_posix())
def test_an_example_says_what_is_so(path):
    if needed := EXTRAS.get(path.relative_to(BRIDGE).as_posix()):
        pytest.importorskip(needed, reason=f'{needed} is not installed')
    parts = path.relative_to(BRIDGE.parent).with_suffix('').parts
    module = importlib.import_module('.'.join(parts).removesuffix('.__init__'))
    found = doctest.testmod(module)
    assert found.attempted and not found.failed
