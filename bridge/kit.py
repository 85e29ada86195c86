"""Kits: for each kind of program one folder with all that it needs, ready to be copied to the rig PC.

A kit is the folder of that language in ``examples`` (client, example, and the guide ``README.md``), the C header, and
the library under the name that this kind of program looks for. `KITS` is the whole table; what is copied is what the
tests run.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bridge.native import HEADER, LIBRARY, PREFIX

BITS = struct.calcsize('P') * 8


class Kit(NamedTuple):
    """What makes up a kit.

    Parameters
    ----------
    title : str
        What it is for, in a few words.
    parts : tuple of (str, str)
        Files or folders of ``examples``, and where they go in the kit.
    library : str
        Where the library goes; ``{library}`` is its name on this system, ``{bits}`` 32 or 64, ``{suffix}`` as in ".so".
    """

    title: str
    parts: tuple[tuple[str, str], ...]
    library: str = '{library}'


KITS: Mapping[str, Kit] = {
    'bonsai': Kit(
        'Bonsai',
        (('bonsai', '.'), *((f'csharp/{name}', f'Extensions/{name}') for name in ('Native.cs', 'BridgeClient.cs'))),
        'Extensions/{library}',
    ),
    'c': Kit('C', (('c', '.'),)),
    'cpp': Kit('C++', (('cpp', '.'),)),
    'csharp': Kit('C#, .NET and mono', (('csharp', '.'),)),
    'java': Kit('Java', (('java', '.'),)),
    'julia': Kit('Julia (untested)', (('julia', '.'),)),
    'labview': Kit('LabVIEW', (('labview', '.'),), 'iblbridge_{bits}{suffix}'),
    'luajit': Kit('LuaJIT', (('luajit', '.'),)),
    'matlab': Kit('MATLAB and Octave', (('matlab', '.'),)),
    'node': Kit('Node.js', (('node', '.'),)),
}


def examples() -> Path:
    """Return the folder of the examples: of the source tree that this package lies in, else of the installation."""
    tree = Path(__file__).resolve().parents[1]
    if (tree / 'csrc' / 'include' / HEADER).exists():
        return tree / 'examples'
    return PREFIX / 'share' / 'iblbridge' / 'examples'


def contents(name: str) -> dict[str, Path]:
    """Return the files of a kit: path in the kit, with slashes, to where it is copied from.

    Parameters
    ----------
    name : str
        A key of `KITS`.
    """
    kit = KITS[name]
    files = {}
    for source, target in kit.parts:
        place = examples() / source
        for file in _files(place):
            files[(Path(target) / file.relative_to(place)).as_posix()] = file
    files[HEADER] = PREFIX / 'include' / HEADER
    files[kit.library.format(library=LIBRARY.name, bits=BITS, suffix=LIBRARY.suffix)] = LIBRARY
    return dict(sorted(files.items()))


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
        If it can't be written.
    """
    files = contents(name)
    if not force:
        for target, source in files.items():
            place = directory / target
            if place.exists() and place.read_bytes() != source.read_bytes():
                raise FileExistsError(17, 'is there already and differs; use --force to overwrite it', str(place))
    for target, source in files.items():
        place = directory / target
        place.parent.mkdir(parents=True, exist_ok=True)
        # Beside it and renamed: a program that runs with the old library keeps it.
        fresh = place.with_name(f'{place.name}.new')
        shutil.copyfile(source, fresh)
        fresh.replace(place)
    return list(files)


def _files(place: Path) -> Iterator[Path]:
    """Return a file, or the files in a folder but those that Python or npm left there."""
    if place.is_file():
        yield place
        return
    for path in sorted(place.rglob('*')):
        if path.is_file() and not {'__pycache__', 'node_modules'} & set(path.parts):
            yield path
