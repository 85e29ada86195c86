"""LabVIEW: the settings of the Call Library Function Node in the guide, and the file of error texts.

The words are those of LabVIEW's dialog box. The error file has the form that LabVIEW's help prescribes for
``*-errors.txt``, to the letter.
"""

from __future__ import annotations

import textwrap
from xml.sax.saxutils import escape

from interface import Constant, Function, Interface, Parameter

NUMBERS = {
    'char': 'Signed 8-bit Integer',
    'double': '8-byte Double',
    'int': 'Signed 32-bit Integer',
    'unsigned char': 'Unsigned 8-bit Integer',
}
HEAD = (
    'function',
    'parameter',
    'in or out',
    'Type',
    'Data type',
    'Pass, String format or Array format',
    'Minimum size',
)


def rows(function: Function) -> list[tuple[str, ...]]:
    """Return the settings of a node: its return type, then its parameters in their order."""
    found = [(f'`{function.name}`', 'return type', 'out', 'Numeric', NUMBERS['int'], '', '')]
    following = (*function.parameters[1:], None)
    for parameter, after in zip(function.parameters, following, strict=bool(function.parameters)):
        found.append(('', f'`{parameter.name}`', *_settings(parameter, after)))
    return found


def _settings(parameter: Parameter, after: Parameter | None) -> tuple[str, ...]:
    """Return direction, type, data type, format and minimum size; `after` is the next parameter."""
    plain = parameter.type.removeprefix('const ').removesuffix('*').strip()
    direction = 'out' if parameter.is_output else 'in, Constant' if parameter.is_pointer else 'in'
    if not parameter.is_pointer:
        return direction, 'Numeric', NUMBERS[plain], 'Value', ''
    if 'char' not in plain:
        return direction, 'Numeric', NUMBERS[plain], 'Pointer to Value', ''
    size = ''
    if parameter.is_output:
        if after is None or after.name != 'capacity':
            raise ValueError(f'{parameter.name} is not followed by its capacity: LabVIEW has to be told its size')
        size = f'`{after.name}`'
    if plain == 'char':
        return direction, 'String', '', 'C String Pointer', size
    return direction, 'Array', NUMBERS[plain], 'Array Data Pointer', size


def functions(interface: Interface) -> str:
    """Return the table of all nodes."""
    lines = [HEAD, ('---',) * len(HEAD), *(row for function in interface.functions for row in rows(function))]
    return '\n'.join(' '.join(['|', *(f'{cell} |' if cell else '|' for cell in line)]) for line in lines)


def numbers(interface: Interface) -> str:
    """Return the constants that programs need, for LabVIEW reads none from a header."""

    def listed(constants: tuple[Constant, ...]) -> str:
        return ', '.join(f'{constant.name.removeprefix("IBLB_")} {constant.number}' for constant in constants)

    lines = {
        'messages': listed(interface.messages),
        'events of the worker': listed(interface.events),
        'status of a service': listed(interface.statuses),
    }
    wrapped = (textwrap.wrap(f'- {what}: {numbers}', 120, subsequent_indent='  ') for what, numbers in lines.items())
    return '\n'.join(line for part in wrapped for line in part)


def reasons(interface: Interface) -> str:
    """Return the table of reasons."""
    return '\n'.join(['| `reason` | |', '|---|---|', *(f'| `{r.word}` | {r.meaning} |' for r in interface.reasons)])


def errors(interface: Interface) -> str:
    """Return iblbridge-errors.txt."""
    lines = [
        '<?xml version="1.0" encoding="Windows-1252"?>',
        '<nidocument>',
        '<nicomment>',
        'What the codes of iblbridge mean and what to do. Its place is user.lib/errors in the folder of LabVIEW.',
        '<nifamily familyname="iblbridge" displayname="iblbridge">',
        '</nifamily>',
        '</nicomment>',
    ]
    for code in interface.codes:
        if code.number:
            text = escape(f'{code.name}: {code.meaning}\n{code.remedy}')
            lines += [f'<nierror code="{code.number}">', text, '</nierror>']
    return '\n'.join([*lines, '</nidocument>', ''])


FILES = {'examples/labview/iblbridge-errors.txt': errors}
TABLES = {
    ('examples/labview/README.md', 'functions'): functions,
    ('examples/labview/README.md', 'numbers'): numbers,
    ('examples/labview/README.md', 'reasons'): reasons,
}
