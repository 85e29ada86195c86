"""What lies around a segment on this PC and decides whether a program can use it.

Which library a program would load and whether its bits fit, what the firewall lets through to the worker, and whether
the PC falls asleep. What is read from files and tables is plain functions; `look` and what it calls asks the system.
Nothing is changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from bridge import native
from bridge.cli.doctor.loaded import system_folders, version_of, version_text
from bridge.cli.doctor.program import about, kind_of, where

LIBRARIES = re.compile(r'(lib)?iblbridge(_32|_64)?\.(dll|so|dylib)', re.IGNORECASE)
_PE_BITS = {0x014C: 32, 0x8664: 64, 0xAA64: 64}  # IMAGE_FILE_MACHINE_I386, _AMD64, _ARM64
_IL_ONLY, _32_BITS_REQUIRED = 1, 2  # COMIMAGE_FLAGS
_PROTOCOLS = {'17': 'UDP', '6': 'TCP', '': 'any protocol'}


class Library(NamedTuple):
    """A file that a program may load.

    Attributes
    ----------
    path : str
        Where it is.
    bits : int
        32 or 64; 0: not known.
    same : bool
        It is, byte for byte, one of this installation's.
    version : str
        Such as ``0.1.0``; "" if it cannot be asked.
    """

    path: str
    bits: int
    same: bool
    version: str = ''


class Rule(NamedTuple):
    """A rule of Windows' firewall for what comes in.

    Attributes
    ----------
    name : str
        As the list of rules shows it.
    allows : bool
        It lets pass; else it blocks.
    protocol : str
        ``UDP``, ``TCP``, ``any protocol`` or a number.
    profiles : str
        The kinds of network that it is for; "" for all.
    """

    name: str
    allows: bool
    protocol: str
    profiles: str


# --- what files and tables say ---------------------------------------------------------------------------------------


def bits_of(path: Path) -> int:
    """Return with how many bits a program or library of Windows or Linux runs, 32 or 64; 0 for anything else."""
    try:
        with path.open('rb') as file:
            head = file.read(64)
            if head[:4] == b'\x7fELF':
                return {b'\x01': 32, b'\x02': 64}.get(head[4:5], 0)
            if head[:2] != b'MZ' or len(head) < 64:
                return 0
            (start,) = struct.unpack_from('<I', head, 60)
            file.seek(start)
            image = file.read(4096)
            if image[:4] != b'PE\0\0':
                return 0
            bits = _PE_BITS.get(struct.unpack_from('<H', image, 4)[0], 0)
            return 64 if bits == 32 and _runs_with_any_bits(file, image) else bits
    except (OSError, struct.error):
        return 0


def _runs_with_any_bits(file: BinaryIO, image: bytes) -> bool:
    """Return whether a 32-bit file is a program of .NET that Windows runs with its own bits (AnyCPU), such as Bonsai's.

    Parameters
    ----------
    file : binary file
        The file.
    image : bytes
        Its head, from the signature on.
    """
    try:
        sections, size = struct.unpack_from('<H12xH', image, 6)
        (place,) = struct.unpack_from('<I', image, 24 + 208)  # where in memory what is for .NET begins; 0: it is not
        for i in range(sections if place else 0):
            begin, length, offset = struct.unpack_from('<III', image, 24 + size + 40 * i + 12)
            if begin <= place < begin + length:
                file.seek(offset + place - begin + 16)
                (flags,) = struct.unpack('<I', file.read(4))
                return bool(flags & _IL_ONLY) and not flags & _32_BITS_REQUIRED
    except struct.error:
        pass
    return False


def libraries(folders: Iterable[Path], ours: Iterable[Path], names: re.Pattern[str] = LIBRARIES) -> list[Library]:
    """Return the libraries of iblbridge in some folders, in their order.

    Parameters
    ----------
    folders : iterable of Path
        Where programs look.
    ours : iterable of Path
        The libraries of this installation.
    names : pattern
        What they are called.
    """
    known = {_digest(path) for path in ours}
    found: dict[Path, Library] = {}
    for folder in folders:
        try:
            there = sorted(name for name in os.listdir(folder) if names.fullmatch(name))
        except OSError:
            continue
        for path in (folder.resolve() / name for name in there):
            found.setdefault(path, Library(str(path), bits_of(path), _digest(path) in known))
    return list(found.values())


def firewall_rules(entries: Mapping[str, str], program: str) -> list[Rule]:
    r"""Return the active rules for what comes in to a program.

    Parameters
    ----------
    entries : mapping of str to str
        The values of the registry's key ``FirewallRules``, such as
        ``v2.30|Action=Allow|Active=TRUE|Dir=In|Protocol=17|App=C:\Python\python.exe|Name=Python|``.
    program : str
        Its path.
    """
    rules = []
    for text in entries.values():
        pairs = [part.split('=', 1) for part in text.split('|') if '=' in part]
        fields = {name.lower(): value for name, value in reversed(pairs)}
        same = os.path.expandvars(fields.get('app', '')).lower() == program.lower()
        if same and fields.get('active', '').lower() == 'true' and fields.get('dir', '').lower() == 'in':
            profiles = sorted(value for name, value in pairs if name.lower() == 'profile')
            protocol = fields.get('protocol', '')
            allows = fields.get('action', '').lower() == 'allow'
            rules.append(Rule(fields.get('name', ''), allows, _PROTOCOLS.get(protocol, protocol), ', '.join(profiles)))
    return rules


def sleep_after(text: str) -> tuple[int, int] | None:
    """Return after how many s the PC sleeps, on mains and on battery; 0: never. None if the text does not tell.

    Parameters
    ----------
    text : str
        Of ``powercfg /query SCHEME_CURRENT SUB_SLEEP STANDBYIDLE``, in any language: the last two numbers.
    """
    numbers = re.findall(r'0x([0-9a-fA-F]{8})\b', text)
    return (int(numbers[-2], 16), int(numbers[-1], 16)) if len(numbers) >= 2 else None


def advice(found: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return what is wrong, and what is good to know, in sentences.

    Parameters
    ----------
    found : mapping
        What `look` returned.
    """
    own = found['library']
    here = f', version {own["version"]}' if own['version'] else ''
    wrong, notes = [], [f'library: {own["path"]}, {own["bits"]} bits{here}']
    for twin in found['twins']:
        its = f', version {twin["version"]}' if twin['version'] and not twin['same'] else ''
        said = f'{twin["path"]} ({twin["bits"] or "?"} bits{its})'
        if twin['same']:
            notes.append(f'a copy of the library, where programs look: {said}')
        else:
            wrong.append(
                f'Programs find another library first: {said}. It does not belong to this installation; replace it.'
            )
    for more in (about(found['program']), _about_firewall(found['firewall']), _about_sleep(found['sleep'])):
        wrong += more[0]
        notes += more[1]
    return wrong, notes


def _about_firewall(rules: Sequence[Mapping[str, Any]] | None) -> tuple[list[str], list[str]]:
    if rules is None:
        return [], []
    udp = [rule for rule in rules if rule['protocol'] != 'TCP']
    if blocking := [rule['name'] for rule in udp if not rule['allows']]:
        sentence = (
            f'The firewall blocks what comes in to {python()} (rule "{blocking[0]}"): what services say by '
            'themselves, and commands for simulated services. Allow it under "Allow an app through firewall".'
        )
        return [sentence], []
    if udp:
        return [], [f'firewall: UDP comes in to {python()} ({udp[0]["profiles"] or "all networks"})']
    missing = 'no rule; answers come in, what services say by themselves may not'
    return [], [f'firewall: {python()}: {missing}']


def _about_sleep(after: Sequence[int] | None) -> tuple[list[str], list[str]]:
    if after is None:
        return [], []
    mains, battery = map(_after, after)
    notes = [f'sleep: {mains} on mains, {battery} on battery']
    if not after[0]:
        return [], notes
    sentence = f'This PC sleeps {mains} on mains, and a session with it. Run: powercfg /change standby-timeout-ac 0'
    return [sentence], notes


# --- what the system says --------------------------------------------------------------------------------------------


def look(program: str | None = None) -> dict[str, Any]:
    """Look around; of what this system does not have the value is None.

    Parameters
    ----------
    program : str, optional
        A program that is to use the library: which file would it load?

    Returns
    -------
    dict
        ``library``, ``twins`` (on the program path, where the system looks, in this folder or named by
        IBLBRIDGE_LIBRARY), ``program``, ``firewall``, ``sleep``.

    Raises
    ------
    OSError
        The program cannot be read.
    """
    ours = [*native.TOOLS.glob('iblbridge_*.dll'), native.LIBRARY]
    folders = search_path()
    asked = None
    if program is not None:
        kind = kind_of(Path(program))
        places, names, named = where(Path(program), kind, folders)
        asked = {
            'path': program,
            'kind': kind,
            'bits': bits_of(Path(program)),
            'named': named,
            'libraries': [library._asdict() for library in libraries(places, ours, names)],
        }
    own = {path.resolve() for path in ours}
    rules = _firewall()
    return {
        'library': _with_version(Library(str(native.LIBRARY), bits_of(native.LIBRARY), True))._asdict(),
        'twins': [_with_version(twin)._asdict() for twin in libraries(folders, ours) if Path(twin.path) not in own],
        'program': asked,
        'firewall': None if rules is None else [rule._asdict() for rule in rules],
        'sleep': _sleep(),
    }


def search_path() -> list[Path]:
    """Return where programs look for a library, after their own folder."""
    named = os.environ.get('IBLBRIDGE_LIBRARY')
    words = os.environ.get('PATH' if sys.platform == 'win32' else 'LD_LIBRARY_PATH', '').split(os.pathsep)
    system: Sequence[str] = ()
    if sys.platform == 'win32':
        root = Path(os.environ.get('SYSTEMROOT', r'C:\Windows'))
        system = (str(root / 'System32'), str(root / 'SysWOW64'), str(root))
    first = [Path(named).parent] if named else []
    return [*first, *map(Path, system), Path.cwd(), *(Path(word) for word in (*words, *system_folders()) if word)]


def _with_version(library: Library) -> Library:
    """Return a library with its version; of another one than ours only if this Python could load it."""
    if library.same:
        return library._replace(version=own_version())
    fits = library.bits == bits_of(native.LIBRARY)
    return library._replace(version=version_of(library.path) if fits else '')


def own_version() -> str:
    """Return the version of this installation's library."""
    from bridge.segment.library import lib

    return version_text(int(lib.iblb_version()))


def python() -> str:
    """Return the Python that runs, by the name that the firewall knows it by."""
    if sys.platform == 'win32':
        from bridge.cli.windows import running_program

        return running_program()
    return sys.executable


def _firewall() -> list[Rule] | None:
    if sys.platform == 'win32':
        from bridge.cli.windows import firewall_entries

        return firewall_rules(firewall_entries(), python())
    return None


def _sleep() -> tuple[int, int] | None:
    if sys.platform != 'win32':
        return None
    words = ['powercfg', '/query', 'SCHEME_CURRENT', 'SUB_SLEEP', 'STANDBYIDLE']
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors='replace', check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return sleep_after(done.stdout)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ''


def _after(seconds: int) -> str:
    return f'after {seconds / 60:g} min' if seconds else 'never'
