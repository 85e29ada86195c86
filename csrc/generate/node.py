"""The numbers, and the prototypes as koffi takes them, for the Node.js client."""

from __future__ import annotations

from collections.abc import Iterable

from interface import Constant, Function, Interface, Parameter


def messages(interface: Interface) -> str:
    """Return messages and events by their names without prefix, as Python and the responses have them."""
    return _entries(c._replace(name=c.name.removeprefix('IBLB_')) for c in (*interface.messages, *interface.events))


def statuses(interface: Interface) -> str:
    """Return the statuses of services by their names."""
    return _entries(c._replace(name=c.name.removeprefix('IBLB_STATUS_')) for c in interface.statuses)


def codes(interface: Interface) -> str:
    """Return the codes by their names."""
    return _entries(Constant(code.name, code.number) for code in interface.codes)


def prototypes(interface: Interface) -> str:
    """Return the prototypes. What C writes text to is a Buffer, so its type is that of bytes."""
    return '\n'.join(f"    '{_prototype(function)}'," for function in interface.functions)


def _entries(constants: Iterable[Constant]) -> str:
    return '\n'.join(f'    {name}: {number},' for name, number in constants)


def _prototype(function: Function) -> str:
    return f'int {function.name}({", ".join(map(_parameter, function.parameters)) or "void"})'


def _parameter(parameter: Parameter) -> str:
    if not parameter.is_output:
        return f'{parameter.type.removesuffix("*").strip()} {"*" * parameter.is_pointer}{parameter.name}'
    kind = 'uint8_t' if 'char' in parameter.type else parameter.type.removesuffix('*').strip()
    return f'_Out_ {kind} *{parameter.name}'


TABLES = {
    ('examples/node/iblbridge.js', 'messages'): messages,
    ('examples/node/iblbridge.js', 'statuses'): statuses,
    ('examples/node/iblbridge.js', 'codes'): codes,
    ('examples/node/iblbridge.js', 'prototypes'): prototypes,
}
