"""The constants, and the C functions as JNA's interface, for the Java client."""

from __future__ import annotations

from interface import Function, Interface

# Text in goes as bytes: what JNA makes of a String depends on a setting of the whole program (jna.encoding).
TYPES = {
    'int': 'int',
    'const char *': 'byte[]',
    'const unsigned char *': 'byte[]',
    'char *': 'Pointer',
    'unsigned char *': 'Pointer',
    'int *': 'IntByReference',
    'double *': 'DoubleByReference',
}


def camel(name: str) -> str:
    """Return a C name as Java writes it."""
    first, *rest = name.split('_')
    return first + ''.join(word.capitalize() for word in rest)


def constants(interface: Interface) -> str:
    """Return the messages, events, statuses of services and codes, and the function that names a code."""
    numbers = (*interface.messages, *interface.events, *interface.statuses)
    lines = [f'    public static final int {c.name.removeprefix("IBLB_")} = {c.number};' for c in numbers]
    for code in interface.codes:
        lines.append(f'    /** {code.source}: {code.meaning} */')
        lines.append(f'    public static final int {code.name.removeprefix("IBLB_")} = {code.number};')
    lines += ['', '    /** The name of a code, such as IBLB_E_PARTIAL; "?" if there is none. */']
    lines += ['    public static String nameOf(int code) {', '        switch (code) {']
    for code in interface.codes:
        lines.append(f'        case {code.name.removeprefix("IBLB_")}: return "{code.name}";')
    lines += ['        default: return "?";', '        }', '    }']
    return '\n'.join(lines)


def functions(interface: Interface) -> str:
    """Return the methods of the interface that JNA maps to the library."""
    return '\n'.join(f'        {_method(function)}' for function in interface.functions)


def _method(function: Function) -> str:
    parameters = ', '.join(f'{TYPES[p.type]} {camel(p.name)}' for p in function.parameters)
    return f'int {function.name}({parameters});'


TABLES = {
    ('examples/java/iblbridge/IblBridge.java', 'constants'): constants,
    ('examples/java/iblbridge/IblBridge.java', 'functions'): functions,
}
