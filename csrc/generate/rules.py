"""What iblbridge.h may hold, so that every foreign parser reads it as it is, with nothing defined or included for it.

- LabVIEW's Import Shared Library wizard preprocesses the header by itself. A word in front of a prototype that it does
  not know makes it pass the function over until the user types a definition; `IBLB_API` may stand because the header
  itself defines it, as nothing. It writes one file per function, so names must differ in more than case, and it takes
  `long` for 32 bits everywhere.
- MATLAB's loadlibrary has a C compiler preprocess the header and reads the rest with a parser for plain C: no C++, no
  unions, no pointers to functions or pointers, no variable argument lists; names have at most 63 characters.
- cffi and LuaJIT have no preprocessor: what loads the header for them drops its ``#`` lines and the word `IBLB_API`, so
  nothing else may depend on a macro, and a constant must be a decimal number.
- All of them, with whatever compiler: a parameter has the same size everywhere, so no `long`, `size_t`, `bool`, enum.

So there is a list of what is allowed, and all else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MOST_PARAMETERS = 8
NAME = r'[A-Za-z]\w{0,62}'
PARAMETER = re.compile(rf'(?:const )?(?:int|double|char|unsigned char) \*?(?P<name>{NAME})')
PROTOTYPE = re.compile(r'(?P<before>.*?)\b(?P<name>\w+) ?\((?P<parameters>[^()]*)\)')
TYPE_WORDS = {'char', 'const', 'double', 'float', 'int', 'long', 'short', 'signed', 'unsigned', 'void', 'volatile'}
REFUSED = (
    (r'\.\.\.', 'a variable argument list'),
    (r'\(\s*\*', 'a pointer to a function'),
    (r'\*\s*\*', 'a pointer to a pointer'),
    (r'\[', 'an array; write a pointer'),
    (r'\b(?:struct|union|enum|typedef)\b', 'a type of our own'),
    (r'[{}"]', 'something other than a prototype'),
)
# Each may stand wherever it likes; the named group is a macro that means nothing from there on.
ALLOWED = (
    r'^#ifdef __cplusplus\s+extern "C" \{\s+#endif$',
    r'^#ifdef __cplusplus\s+\}\s+#endif$',
    r'^#ifndef (?P<nothing>\w+)\s+#define (?P=nothing)[ ]*\n\s*#endif$',
    r'^#define \w+ -?(?:0|[1-9]\d{0,8}|1\d{9})[ ]*$',
)


def violations(header: str) -> list[str]:
    """Return what a parser would stumble over.

    Parameters
    ----------
    header : str
        The text of a header.

    Returns
    -------
    list of str
        ``line 12: what is wrong``, in the order of the file; empty if all can read it.
    """
    found: list[tuple[int, str]] = []

    def refuse(position: int, what: str) -> None:
        found.append((header.count('\n', 0, position) + 1, what))

    for character in re.finditer(r'[^\n\x20-\x7e]', header):
        refuse(character.start(), f'{character[0]!a} is not a printable ASCII character')
    code = _prototypes_of(header, refuse)
    names: set[str] = set()
    for part in re.finditer(r'[^;\s][^;]*;?', code):
        declaration = re.sub(r' ?\* ?', ' *', ' '.join(part[0].rstrip(';').split()))
        ended = [] if part[0].endswith(';') else ['no semicolon']
        for what in _stumbles(declaration, names) or ended:
            refuse(part.start(), f'{what}: {declaration}')
    return [f'line {line}: {what}' for line, what in sorted(found)]


def _prototypes_of(header: str, refuse: Callable[[int, str], None]) -> str:
    """Return the header with blanks for comments and directives, so that every place stays where it was."""
    code = re.sub(r'/\*.*?\*/', _blank, header, flags=re.DOTALL)
    guard = re.fullmatch(r'(\s*#ifndef (\w+_H)\n#define \2\n)(.*)(#endif\s*)', code, re.DOTALL)
    if guard:
        code = re.sub(r'\S', ' ', guard[1]) + guard[3] + re.sub(r'\S', ' ', guard[4])
    else:
        refuse(0, 'no include guard around everything')
    for comment in re.finditer(r'//.*', code):
        refuse(comment.start(), f'a C++ comment: {comment[0]}')
    code = re.sub(r'//.*', _blank, code)
    for pattern in ALLOWED:
        for part in re.finditer(pattern, code, re.MULTILINE):
            code = code[: part.start()] + _blank(part) + code[part.end() :]
            if nothing := part.groupdict().get('nothing'):
                code = code[: part.end()] + re.sub(rf'\b{nothing}\b', _blank, code[part.end() :])
    for line in re.finditer(r'^[ ]*#.*', code, re.MULTILINE):
        refuse(line.start(), f'a directive that not all readers follow: {line[0].strip()}')
    return re.sub(r'^[ ]*#.*', _blank, code, flags=re.MULTILINE)


def _blank(part: re.Match[str]) -> str:
    return re.sub(r'\S', ' ', part[0])


def _stumbles(declaration: str, names: set[str]) -> list[str]:
    """Return what is wrong with the text before a semicolon; `names` holds those of the functions before it."""
    refused = [what for pattern, what in REFUSED if re.search(pattern, declaration)]
    prototype = PROTOTYPE.fullmatch(declaration)
    if refused or not prototype:
        return refused[:1] or ['not a prototype']
    found = []
    *unknown, returned = prototype['before'].split() or ['']
    if returned != 'int':
        found.append('a function that does not return int')
    elif unknown:
        found.append(f'a word that the header does not define, {" ".join(unknown)}')
    if not re.fullmatch(NAME, prototype['name']):
        found.append('a name that does not begin with a letter or has more than 63 characters')
    if prototype['name'].lower() in names:
        found.append('a name that was there before, but perhaps for case')
    names.add(prototype['name'].lower())
    return found + _parameter_stumbles(prototype['parameters'].strip())


def _parameter_stumbles(text: str) -> list[str]:
    """Return what is wrong with the text between the parentheses."""
    if text == 'void':
        return []
    if not text:
        return ['no word about parameters; write (void)']
    parts = [part.strip() for part in text.split(',')]
    named = [PARAMETER.fullmatch(part) for part in parts]
    found = [
        f'parameter "{part}" is not int, double, char, unsigned char or a pointer to one, and a name'
        for part, match in zip(parts, named, strict=True)
        if not match or match['name'] in TYPE_WORDS
    ]
    if len(parts) > MOST_PARAMETERS:
        found.append(f'{len(parts)} parameters; {MOST_PARAMETERS} are the most')
    if len({match['name'] for match in named if match}) < len([match for match in named if match]):
        found.append('two parameters of one name')
    return found
