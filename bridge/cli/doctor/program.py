"""Which library a program would load: by the rules of Windows for a program of Windows, of its loader for one of Linux.

A program of macOS, and one that loads the library by itself while it runs (Python, Java, MATLAB do), decides alone;
then that is said, and no more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.cli.doctor import elf
from bridge.cli.doctor.loaded import system_folders

DLL = re.compile(r'(lib)?iblbridge(_32|_64)?\.dll', re.IGNORECASE)
SO = re.compile(r'libiblbridge\.so[.0-9]*')
_MACH_O = {bytes.fromhex(magic) for magic in ('feedface', 'feedfacf', 'cefaedfe', 'cffaedfe', 'cafebabe', 'cafebabf')}


def kind_of(path: Path) -> str:
    """Return what a file is made for: ``windows``, ``linux``, ``macos``, or "" if it is no program.

    Raises
    ------
    OSError
        It cannot be read.
    """
    with path.open('rb') as file:
        head = file.read(4)
    kind = 'windows' if head[:2] == b'MZ' else 'linux' if head == b'\x7fELF' else ''
    return 'macos' if head in _MACH_O else kind


def where(path: Path, kind: str, others: list[Path]) -> tuple[list[Path], re.Pattern[str], bool]:
    """Return where a program finds the library, under what names, and whether it names it itself.

    Parameters
    ----------
    path : Path
        The program.
    kind : str
        As `kind_of` returned it.
    others : list of Path
        Where programs look after their own folder.
    """
    path = path.resolve()
    if kind == 'windows':
        return [path.parent, *others], DLL, True
    if kind != 'linux':
        return [], SO, False
    says = elf.wanted(path)
    names = [name for name in says.names if SO.fullmatch(name)]
    pattern = re.compile('|'.join(map(re.escape, names))) if names else SO
    folders = elf.folders(path, says, os.environ.get('LD_LIBRARY_PATH', ''), system_folders('linux'))
    return folders, pattern, bool(names)


def about(program: Mapping[str, Any] | None) -> tuple[list[str], list[str]]:
    """Return what is wrong with a program, and what is good to know, in sentences.

    Parameters
    ----------
    program : mapping or None
        ``path``, ``kind``, ``bits``, ``named`` and ``libraries``, as `bridge.cli.doctor.surroundings.look` says them.
    """
    if program is None:
        return [], []
    path, kind, bits = (program[key] for key in ('path', 'kind', 'bits'))
    if kind == 'macos':
        return [], [f'program: {path}, of macOS: its loader decides; this tells: otool -L {path}']
    notes = [f'program: {path}, {bits or "?"} bits']
    found = [library['path'] for library in program['libraries']]
    fits = [library['path'] for library in program['libraries'] if library['bits'] == bits]
    but = f', but {found[0]}' if found else ''
    if kind == 'linux' and not program['named']:
        where = f'; by its name alone it gets {fits[0]}' if fits else ''
        return [], [*notes, f'it names no library of iblbridge: it loads one by itself while it runs, or none{where}']
    if fits:
        return [], [*notes, f'it would load {fits[0]}']
    if kind == 'linux':
        sentence = (
            f'Its loader finds no library of {bits} bits{but}. Looked for where the program itself says (RPATH, '
            f'RUNPATH), in LD_LIBRARY_PATH and where the system looks, not beside it. Link it with '
            f"-Wl,-rpath,'$ORIGIN' and put the library beside it, or set LD_LIBRARY_PATH. To see more: ldd {path}"
        )
    else:
        sentence = (
            f'It finds no library of {bits} bits{but}. Looked for beside it, in this folder, on the PATH: '
            'if it loads from a folder of its own (that of a VI, for LabVIEW), run this command there. '
            'iblbridge kit writes both.'
        )
    return [sentence], notes
