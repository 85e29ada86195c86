"""The tables of ``iblbridge send`` on terminals of any width."""

from __future__ import annotations

import re
from collections import Counter
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from bridge.cli import send

SERVICES: list[dict[str, Any]] = [
    {'name': 'cameras', 'uri': 'udp://192.168.0.8:11001', 'health': 'up', 'age_ms': 1234, 'status': 20},
    {'name': 'ephys', 'uri': 'udp://192.168.0.9:11001', 'health': 'down', 'age_ms': -1, 'status': -1},
]
SERVICES[0] |= {'exp_ref': '2026-01-01_1_subject', 'last_error': ''}
SERVICES[1] |= {'exp_ref': '', 'last_error': 'no echo from udp://192.168.0.9:11001'}


@pytest.mark.parametrize('width', [*range(30, 100, 3), 100, 160])
def test_a_narrow_table_cuts_nothing_and_folds_no_heading_that_has_room(width):
    console = Console(width=width, file=StringIO(), highlight=False, markup=False, emoji=False)
    response = {'message': 'SERVICES', 'services': [{'name': one['name'], 'data': one} for one in SERVICES]}
    send.show_table(console, *send.services_rows(response))
    shown = console.file.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    head = shown.partition('─')[0]
    if width >= 54:
        assert re.findall(r'\w+', head)[:6] == ['service', 'address', 'health', 'heard', 'status', 'experiment']
    told = ''.join(one[key] for one in SERVICES for key in ('name', 'health', 'exp_ref', 'last_error'))
    told += ''.join(one['uri'].removeprefix('udp://') for one in SERVICES)
    assert not Counter(told.replace(' ', '')) - Counter(shown)
