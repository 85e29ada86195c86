"""C#: the numbers and functions of the header, as examples/csharp/Native.cs.

A function is a delegate made from its address, for the library is loaded by absolute path (BridgeClient.cs). Text is
`byte[]`, converted by hand: what a runtime makes of `string` differs between Windows, mono and .NET.
"""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import indent, wrap
from xml.sax.saxutils import escape

from interface import Code, Constant, Function, Interface, Parameter, Reason

TYPES = {
    'int': 'int',
    'const char *': 'byte[]',
    'const unsigned char *': 'byte[]',
    'char *': '[Out] byte[]',
    'unsigned char *': '[Out] byte[]',
    'int *': 'out int',
    'double *': 'out double',
}
WIDTH = 120
UNBROKEN = '\0'  # a blank where no line ends
FILE = """\
// Native.cs: the numbers and functions of iblbridge.h. Written by csrc/generate; changes belong there.
using System;
using System.Runtime.InteropServices;

namespace IblBridge
{
    /// <summary>What a command or an event says; Subscribe takes several events joined with <c>|</c>.</summary>
    [Flags]
    public enum Message
    {
%(messages)s
    }

    /// <summary>All codes: 0 is success, negative an error, positive a warning.</summary>
    public static class Status
    {
%(codes)s

        /// <summary>The name of a code as in iblbridge.h, or its number if there is none.</summary>
        public static string Name(int code)
        {
            switch (code)
            {
%(names)s
                default: return code.ToString();
            }
        }
    }

    /// <summary>What a service says it does.</summary>
    public static class ServiceStatus
    {
%(statuses)s

        /// <summary>Its name, such as "RUNNING", or its number if there is none; "" for -1.</summary>
        public static string Name(int status)
        {
            switch (status)
            {
                case -1: return "";
%(status_names)s
                default: return status.ToString();
            }
        }
    }

    /// <summary>Why a service is not ok, as its entry of a response says it; more may come.</summary>
    public static class Reason
    {
%(reasons)s
    }

    /// <summary>The functions of a loaded library; what they do stands in iblbridge.h.</summary>
    internal sealed class Native
    {
%(types)s

%(fields)s

        internal Native(Func<string, Type, Delegate> function)
        {
%(loads)s
        }
    }
}
"""


def pascal(name: str) -> str:
    """Return ``iblb_next_event`` as ``NextEvent``."""
    return ''.join(part.capitalize() for part in name.removeprefix('iblb_').split('_'))


def short(name: str) -> str:
    """Return ``IBLB_E_NAME`` as ``E_NAME``."""
    return name.removeprefix('IBLB_')


def code_lines(code: Code) -> str:
    """Return a code with its documentation."""
    remedy = '' if code.remedy == 'There is nothing to do.' else f' {code.remedy}'
    summary = wrap(f'<summary>{escape(code.meaning + remedy)}</summary>', WIDTH - len('        /// '))
    return '\n'.join([*(f'/// {line}' for line in summary), f'public const int {short(code.name)} = {code.number};'])


def status_name(constant: Constant) -> str:
    """Return ``IBLB_STATUS_RUNNING`` as ``RUNNING``."""
    return constant.name.removeprefix('IBLB_STATUS_')


def reason_lines(reason: Reason) -> str:
    """Return a reason with its documentation."""
    meaning = escape(reason.meaning[0].upper() + reason.meaning[1:])
    name = ''.join(part.capitalize() for part in reason.word.split('_'))
    return f'/// <summary>{meaning}.</summary>\npublic const string {name} = "{reason.word}";'


def delegate_lines(function: Function) -> str:
    """Return the type of a function; a line ends between two parameters."""
    parameters = ', '.join(parameter(p).replace(' ', UNBROKEN) for p in function.parameters)
    text = f'internal delegate int {pascal(function.name)}Function({parameters});'
    lines = wrap(text, WIDTH - 8, subsequent_indent='    ')
    return '\n'.join(['[UnmanagedFunctionPointer(CallingConvention.Cdecl)]', *lines]).replace(UNBROKEN, ' ')


def parameter(parameter: Parameter) -> str:
    """Return a parameter."""
    name = pascal(parameter.name)
    return f'{TYPES[parameter.type]} {name[0].lower()}{name[1:]}'


def native(interface: Interface) -> str:
    """Return Native.cs."""

    def block(depth: int, lines: Iterable[str]) -> str:
        return indent('\n'.join(lines), ' ' * 4 * depth)

    functions = [(pascal(f.name), f) for f in interface.functions]
    return FILE % {
        'messages': block(2, (f'{short(c.name)} = {c.number},' for c in (*interface.messages, *interface.events))),
        'codes': block(2, map(code_lines, interface.codes)),
        'names': block(4, (f'case {short(c.name)}: return "{c.name}";' for c in interface.codes)),
        'statuses': block(2, (f'public const int {status_name(c)} = {c.number};' for c in interface.statuses)),
        'status_names': block(4, (f'case {status_name(c)}: return "{status_name(c)}";' for c in interface.statuses)),
        'reasons': block(2, map(reason_lines, interface.reasons)),
        'types': block(2, (delegate_lines(f) for _, f in functions)),
        'fields': block(2, (f'internal readonly {name}Function {name};' for name, _ in functions)),
        'loads': block(3, (f'{n} = ({n}Function)function("{f.name}", typeof({n}Function));' for n, f in functions)),
    }


FILES = {'examples/csharp/Native.cs': native}
