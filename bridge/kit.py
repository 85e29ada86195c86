"""Kits: for each kind of program one folder with all that it needs, ready to be copied to the rig PC.

A kit is the folder of that language in ``examples`` (client, example, and the guide ``README.md``), the C header, and
the libraries under the names that this kind of program looks for: those that are installed, which are the system's own
and, if MinGW was there at the build, the two of Windows. So a kit that was written anywhere works on a Windows rig.
`KITS` is the whole table; what is copied is what the tests run.
"""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bridge.native import HEADER, PREFIX

BITS = struct.calcsize('P') * 8
WINDOWS = ('iblbridge_64.dll', 'iblbridge_32.dll')
LIBRARIES = ('lib/libiblbridge.so', 'lib/libiblbridge.dylib', *(f'bin/{name}' for name in WINDOWS))
"""tuple of str: where the libraries lie in an installation, each if it was built."""
_CLIENT = ('Native', 'BridgeClient', 'Serving')  # of C#, for Bonsai's script compiler


class Kit(NamedTuple):
    """What makes up a kit.

    Parameters
    ----------
    title : str
        What it is for, in a few words.
    parts : tuple of (str, str)
        Files or folders of ``examples``, and where they go in the kit.
    library : str
        Where a library goes; ``{library}`` is its name where it is installed, ``{bits}`` 32 or 64, ``{suffix}`` as in
        ".so". Empty: this kind of program brings its own.
    linked : bool
        Whether programs are linked to it: then there are the import libraries of Windows, too.
    headers : tuple of str
        Installed headers, besides that of C.
    """

    title: str
    parts: tuple[tuple[str, str], ...]
    library: str = '{library}'
    linked: bool = False
    headers: tuple[str, ...] = ()


KITS: Mapping[str, Kit] = {
    'bonsai': Kit(
        'Bonsai',
        (('bonsai', '.'), *((f'csharp/{name}.cs', f'Extensions/{name}.cs') for name in _CLIENT)),
        'Extensions/{library}',
    ),
    'c': Kit('C', (('c', '.'),), linked=True),
    'cpp': Kit('C++', (('cpp', '.'),), linked=True, headers=('iblbridge.hpp',)),
    'csharp': Kit('C#, .NET and mono', (('csharp', '.'),)),
    'java': Kit('Java', (('java', '.'),)),
    'julia': Kit('Julia (untested)', (('julia', '.'),)),
    'labview': Kit('LabVIEW', (('labview', '.'),), 'iblbridge_{bits}{suffix}'),
    'luajit': Kit('LuaJIT', (('luajit', '.'),)),
    'matlab': Kit('MATLAB and Octave', (('matlab', '.'),)),
    'node': Kit('Node.js', (('node', '.'),)),
    'python': Kit('Python', (('python', '.'),), library=''),
}


def examples() -> Path:
    """Return the folder of the examples: of the source tree that this package lies in, else of the installation."""
    tree = Path(__file__).resolve().parents[1]
    if (tree / 'csrc' / 'include' / HEADER).exists():
        return tree / 'examples'
    return PREFIX / 'share' / 'iblbridge' / 'examples'


def libraries(name: str, prefix: Path = PREFIX) -> dict[str, Path]:
    """Return the libraries of a kit: path in the kit to where it is copied from.

    Parameters
    ----------
    name : str
        A key of `KITS`.
    prefix : Path
        The installation they are taken from.
    """
    kit = KITS[name]
    files: dict[str, Path] = {}
    if not kit.library:
        return files
    for library in filter(Path.exists, (prefix / file for file in LIBRARIES)):
        of_windows = re.fullmatch(r'iblbridge_(\d+)\.dll', library.name)
        bits = of_windows[1] if of_windows else BITS
        files[kit.library.format(library=library.name, bits=bits, suffix=library.suffix)] = library
        if kit.linked and of_windows:
            stub = prefix / 'lib' / f'{library.stem}.lib'
            files[stub.name] = stub
    return files


def missing(name: str, prefix: Path = PREFIX) -> list[str]:
    """Return the libraries that a kit should hold and that an installation does not have.

    Parameters
    ----------
    name : str
        A key of `KITS`.
    prefix : Path
        The installation.
    """
    wanted = WINDOWS if KITS[name].library else ()
    return [library for library in wanted if not (prefix / 'bin' / library).exists()]


def contents(name: str, prefix: Path = PREFIX) -> dict[str, Path]:
    """Return the files of a kit: path in the kit, with slashes, to where it is copied from.

    Parameters
    ----------
    name : str
        A key of `KITS`.
    prefix : Path
        The installation that header and libraries are taken from.
    """
    files = {}
    for source, target in KITS[name].parts:
        place = examples() / source
        for file in _files(place):
            files[(Path(target) / file.relative_to(place)).as_posix()] = file
    for header in (HEADER, *KITS[name].headers):
        files[header] = prefix / 'include' / header
    return dict(sorted({**files, **libraries(name, prefix)}.items()))


def write(name: str, directory: Path, force: bool = False) -> list[str]:
    """Write a kit and return its files.

    Parameters
    ----------
    name : str
        A key of `KITS`.
    directory : Path
        Where to; made if it is not there.
    force : bool
        Overwrite files that are there and differ.

    Raises
    ------
    FileExistsError
        If such a file is there and `force` is not given; nothing was written then.
    OSError
        If it cannot be written.
    """
    files = contents(name)
    if not force:
        for target, source in files.items():
            place = directory / target
            if place.exists() and place.read_bytes() != source.read_bytes():
                raise FileExistsError(17, 'is already there and differs; use --force to overwrite it', str(place))
    for target, source in files.items():
        _copy(source, directory / target)
    return list(files)


def _copy(source: Path, place: Path) -> None:
    """Copy a file, beside its place and then renamed: a program that runs with the old library keeps it."""
    if place.exists() and place.read_bytes() == source.read_bytes():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f'{place.name}.new')
    shutil.copyfile(source, fresh)
    try:
        fresh.replace(place)
    except PermissionError as e:  # Windows does not replace what is loaded
        fresh.unlink()
        raise PermissionError(e.errno, 'is in use; end the programs that have loaded it', str(place)) from e


def _files(place: Path) -> Iterator[Path]:
    """Return a file, or the files in a folder but those that Python or npm left there."""
    if place.is_file():
        yield place
        return
    for path in sorted(place.rglob('*')):
        if path.is_file() and not {'__pycache__', 'node_modules'} & set(path.parts):
            yield path
