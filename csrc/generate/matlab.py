"""MATLAB and Octave: the numbers and signatures in iblbridge.m, and the calls in iblbridge_mex.c.

A signature has a letter for each parameter: small ones go in (``t`` text, ``i`` int), capital ones come out (``T``
text, whose capacity is the parameter after it, ``I`` int, ``D`` double). The functions for msgpack are left out: M code
speaks JSON.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from itertools import pairwise

from interface import Function, Interface

LETTERS = {'int': 'i', 'const char *': 't', 'char *': 'T', 'int *': 'I', 'double *': 'D'}
PARTS = {'i': '{}.number', 't': '{}.text', 'T': '{}.text', 'I': '&{}.number', 'D': '&{}.real'}


def spoken(interface: Interface) -> Iterator[Function]:
    """Return the functions that can be called with text and numbers."""
    for function in interface.functions:
        if all(parameter.type in LETTERS for parameter in function.parameters):
            yield function


def signature(function: Function) -> str:
    """Return its letters."""
    letters = ''.join(LETTERS[parameter.type] for parameter in function.parameters)
    after = [second.name for first, second in pairwise(function.parameters) if first.type == 'char *']
    if letters.count('T') != after.count('capacity'):
        raise ValueError(f'{function.name}: a text that comes out has its capacity after it')
    return letters


def struct(name: str, fields: Iterable[tuple[str, object]]) -> str:
    """Return a property that is a struct."""
    pairs = ', '.join(f"'{field}',~{value!r}" for field, value in fields)
    lines = textwrap.wrap(pairs, 104, break_long_words=False, break_on_hyphens=False)
    wrapped = ' ...\n'.join(f'            {line}' for line in lines).replace('~', ' ')
    return f'        {name} = struct( ...\n{wrapped});'


def numbers(interface: Interface) -> str:
    """Return the constants of the class."""
    messages = [(c.name.removeprefix('IBLB_'), c.number) for c in (*interface.messages, *interface.events)]
    statuses = [(c.name.removeprefix('IBLB_STATUS_'), c.number) for c in interface.statuses]
    codes = [(c.name.removeprefix('IBLB_'), c.number) for c in interface.codes]
    return '\n'.join(map(struct, ('messages', 'statuses', 'codes'), (messages, statuses, codes)))


def signatures(interface: Interface) -> str:
    """Return the functions and their letters."""
    return struct('signatures', [(function.name, signature(function)) for function in spoken(interface)])


def calls(interface: Interface) -> str:
    """Return the list of functions: name, signature, types and arguments of each."""
    lines = ['#define FUNCTIONS(F)']
    for function in spoken(interface):
        letters = signature(function)
        types = ', '.join(parameter.type for parameter in function.parameters) or 'void'
        arguments = ', '.join(PARTS[letter].format(f'v[{i}]') for i, letter in enumerate(letters))
        lines += [f'    F({function.name}, "{letters}", ({types}),', f'      ({arguments}))']
    return ' \\\n'.join(lines)


TABLES = {
    ('examples/matlab/iblbridge.m', 'numbers'): numbers,
    ('examples/matlab/iblbridge.m', 'signatures'): signatures,
    ('examples/matlab/iblbridge_mex.c', 'functions'): calls,
}
