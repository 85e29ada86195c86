"""LuaJIT: the prototypes for ``ffi.cdef`` and the numbers by name, in iblbridge.lua."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from interface import Code, Constant, Interface


def prototypes(interface: Interface) -> str:
    """Return the prototypes as C."""
    indent = {'subsequent_indent': '    ', 'break_long_words': False, 'break_on_hyphens': False}
    return '\n'.join(textwrap.fill(function.prototype, 116, **indent) for function in interface.functions)


def table(name: str, prefix: str, numbers: Sequence[Constant | Code]) -> str:
    """Return a Lua table of numbers by name, without its prefix."""
    fields = ', '.join(f'{c.name.removeprefix(prefix)}~=~{c.number}' for c in numbers)
    lines = textwrap.wrap(fields, 112, break_long_words=False, break_on_hyphens=False)
    return f'bridge.{name} = {{\n' + ''.join(f'    {line}\n'.replace('~', ' ') for line in lines) + '}'


def numbers(interface: Interface) -> str:
    """Return the tables of messages (with the worker's events), statuses of services, and codes."""
    tables = (
        table('messages', 'IBLB_', (*interface.messages, *interface.events)),
        table('statuses', 'IBLB_STATUS_', interface.statuses),
        table('codes', 'IBLB_', interface.codes),
    )
    return '\n'.join(tables)


TABLES = {
    ('examples/luajit/iblbridge.lua', 'prototypes'): prototypes,
    ('examples/luajit/iblbridge.lua', 'numbers'): numbers,
}
