"""LuaJIT: the prototypes for ``ffi.cdef`` and the numbers by name, in iblbridge.lua."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from interface import Code, Constant, Interface


def prototypes(interface: Interface) -> str:
    """Return the prototypes as C."""
    indent = {'subsequent_indent': '    ', 'break_long_words': False, 'break_on_hyphens': False}
    return '\n'.join(textwrap.fill(function.prototype, 116, **indent) for function in interface.functions)


def table(name: str, numbers: Sequence[Constant | Code]) -> str:
    """Return a Lua table of numbers by name, without ``IBLB_``."""
    fields = ', '.join(f'{c.name.removeprefix("IBLB_")}~=~{c.number}' for c in numbers)
    lines = textwrap.wrap(fields, 112, break_long_words=False, break_on_hyphens=False)
    return f'bridge.{name} = {{\n' + ''.join(f'    {line}\n'.replace('~', ' ') for line in lines) + '}'


def numbers(interface: Interface) -> str:
    """Return the tables of messages (with the worker's events) and codes."""
    messages = (*interface.messages, *interface.events)
    return f'{table("messages", messages)}\n{table("codes", interface.codes)}'


TABLES = {
    ('examples/luajit/iblbridge.lua', 'prototypes'): prototypes,
    ('examples/luajit/iblbridge.lua', 'numbers'): numbers,
}
