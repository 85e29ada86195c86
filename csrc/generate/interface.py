"""The C interface as values: what codes.def and iblbridge.h say, read once for all languages.

The header is the manual and stays the only list of functions; nothing of it is typed again. It is written so that
simple parsers can read it (tests/c/test_header.py holds it to that), so this one is simple: comments, ``#define NAME
number``, prototypes.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

CSRC = Path(__file__).resolve().parent.parent
HEADER = CSRC / 'include' / 'iblbridge.h'
CODE = re.compile(r'^CODE\((?P<name>\w+), (?P<number>-?\d+), (?P<exit>\w+), (?P<texts>".*")\)$', re.MULTILINE)
EXIT = re.compile(r'^EXIT_STATUS\((?P<name>\w+), (?P<number>\d+), "(?P<meaning>.*)"\)$', re.MULTILINE)
REASON = re.compile(r'^REASON\((?P<word>\w+), "(?P<meaning>.*)"\)$', re.MULTILINE)
DEFINE = re.compile(r'^#define (?P<name>\w+) (?P<number>-?\d+)', re.MULTILINE)
LOCAL = ('IBLB_PING', 'IBLB_SERVICES')  # messages that the worker answers itself
PROTOTYPE = re.compile(
    r'/\* (?P<text>(?:(?!\*/).)*?) ?\*/\s*IBLB_API (?P<type>\w+) (?P<name>\w+)\((?P<parameters>[^)]*)\);', re.DOTALL
)


class Code(NamedTuple):
    """One status: its name, number, name of the exit status, who returns it, what happened, what to do."""

    name: str
    number: int
    exit: str
    source: str
    meaning: str
    remedy: str


class Exit(NamedTuple):
    """An exit status of the command-line tools: its name, number, what it means."""

    name: str
    number: int
    meaning: str


class Reason(NamedTuple):
    """Why a service did not do what was asked: the word for programs, and what it means."""

    word: str
    meaning: str


class Constant(NamedTuple):
    """A number with a name: a message, an event of the worker, or the status of a service."""

    name: str
    number: int


class Parameter(NamedTuple):
    """A parameter: its C type without the name (``const char *``, ``int``), and its name."""

    type: str
    name: str

    @property
    def is_pointer(self) -> bool:
        """Whether it is an address."""
        return self.type.endswith('*')

    @property
    def is_output(self) -> bool:
        """Whether the function writes through it."""
        return self.is_pointer and not self.type.startswith('const ')


class Function(NamedTuple):
    """A function: its name, parameters, prototype as C, and its comment as one paragraph."""

    name: str
    parameters: tuple[Parameter, ...]
    prototype: str
    text: str


class Interface(NamedTuple):
    """All of iblbridge.h, and what codes.def says beside the codes."""

    version: int
    codes: tuple[Code, ...]
    exits: tuple[Exit, ...]
    reasons: tuple[Reason, ...]
    messages: tuple[Constant, ...]
    events: tuple[Constant, ...]
    statuses: tuple[Constant, ...]
    functions: tuple[Function, ...]


def read_codes(text: str) -> tuple[Code, ...]:
    """Return the table of codes.def in its order."""
    return tuple(
        Code(m['name'], int(m['number']), m['exit'], *ast.literal_eval(f'({m["texts"]})')) for m in CODE.finditer(text)
    )


def read_interface(header: str, codes: str) -> Interface:
    """Return what the texts of iblbridge.h and codes.def say."""
    table = read_codes(codes)
    exits = tuple(Exit(m['name'], int(m['number']), m['meaning']) for m in EXIT.finditer(codes))
    reasons = tuple(Reason(m['word'], m['meaning']) for m in REASON.finditer(codes))
    apart = {code.name for code in table} | {'IBLB_VERSION'}
    numbers = [Constant(m['name'], int(m['number'])) for m in DEFINE.finditer(header)]
    version = next(number for name, number in numbers if name == 'IBLB_VERSION')
    named = [constant for constant in numbers if constant.name not in apart]
    statuses = tuple(c for c in named if c.name.startswith('IBLB_STATUS_'))
    messages = tuple(c for c in named if c not in statuses and (c.number < 256 or c.name in LOCAL))
    events = tuple(c for c in named if c not in statuses and c not in messages)
    functions = tuple(map(_function, PROTOTYPE.finditer(header)))
    return Interface(version, table, exits, reasons, messages, events, statuses, functions)


def _function(match: re.Match[str]) -> Function:
    text = ' '.join(line.removeprefix(' *').strip() for line in match['text'].splitlines())
    words = [' '.join(part.split()) for part in match['parameters'].split(',')]
    parameters = tuple(_parameter(part) for part in words if part != 'void')
    return Function(match['name'], parameters, f'{match["type"]} {match["name"]}({", ".join(words)});', text)


def _parameter(text: str) -> Parameter:
    name = re.findall(r'\w+', text)[-1]
    return Parameter(text.removesuffix(name).strip(), name)


def load() -> Interface:
    """Return the interface of this source tree."""
    return read_interface(HEADER.read_text(), (CSRC / 'codes.def').read_text())
