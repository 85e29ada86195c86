"""How many instructions a call of the library takes: counted by valgrind's callgrind, compared with what is stored.

A time on a shared machine tells little; an instruction count tells at once that a call does more than it did. What is
counted is the library as a wheel has it, built by its CMake as a release, in a program of one thread
(``instructions.c``). Counts depend on the compiler, libc and processor, so that ``instructions.json`` has a table for
each; where there is none, nothing is compared.

``python tests/c/instructions.py`` counts and prints; with ``--write`` it stores what it counted for the compiler that
is here. Needed are valgrind and CMake.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / 'csrc'
STORED = HERE / 'instructions.json'
MORE = 1.05
"""float: what a count may grow by, as a factor."""


def missing() -> str:
    """Return what is needed for counting and is not here; '' if all is."""
    return next((tool for tool in ('valgrind', 'cmake', 'ninja') if not find(tool)), '')


def find(tool: str) -> str | None:
    """Return the path of a tool: one of this Python's environment, or of the system."""
    return shutil.which(tool, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get('PATH', '')]))


def run(*command: object, **environment: str) -> str:
    """Run a command and return what it printed; an error says all of it."""
    words = [str(word) for word in command]
    done = subprocess.run(words, check=False, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        raise RuntimeError(f'{words[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}')
    return done.stdout


def surroundings() -> str:
    """Return what counts depend on: ``gcc 12, glibc 2.36, x86_64``."""
    compiler = os.environ.get('CC', 'cc')
    kind = 'clang' if 'clang' in run(compiler, '--version') else 'gcc'
    major = run(compiler, '-dumpversion').strip().partition('.')[0]
    libc = os.confstr('CS_GNU_LIBC_VERSION') if 'CS_GNU_LIBC_VERSION' in os.confstr_names else 'another libc'
    return f'{kind} {major}, {libc}, {platform.machine()}'


def build(place: Path) -> Path:
    """Build library and program; return the program."""
    release = ['-DCMAKE_BUILD_TYPE=Release', '-DCMAKE_C_FLAGS=-g', f'-DCMAKE_MAKE_PROGRAM={find("ninja")}']
    run(find('cmake'), '-S', CSRC, '-B', place, '-G', 'Ninja', *release)
    run(find('cmake'), '--build', place, '--target', 'iblbridge')
    program = place / 'instructions'
    links = [f'-L{place}', '-liblbridge', f'-Wl,-rpath,{place}', '-Wl,-z,now']
    run(os.environ.get('CC', 'cc'), '-O1', '-g', f'-I{CSRC}', HERE / 'instructions.c', *links, '-o', program)
    return program


def read_profile(lines: Iterable[str], wanted: Iterable[str]) -> dict[str, int]:
    """Return the instructions of one call of the library out of each of the functions that are wanted.

    Parameters
    ----------
    lines : iterable of str
        Callgrind's file: ``fn=`` begins a function, ``cfn=`` and ``calls=`` a call out of it, whose instructions,
        with all below it, end the line that follows.
    wanted : iterable of str
        Names of functions of ``instructions.c``.
    """
    names: dict[str, str] = {}
    instructions: Counter[str] = Counter()
    calls: Counter[str] = Counter()

    def name(text: str) -> str:
        number, _, said = text.partition(' ')
        return names.setdefault(number, said)

    caller = callee = ''
    count = 0
    for line in lines:
        if line.startswith('fn='):
            caller = name(line[3:].strip())
        elif line.startswith('cfn='):
            callee = name(line[4:].strip())
        elif line.startswith('calls='):
            count = int(re.split(r'[= ]', line)[1])
        elif count:
            if callee.startswith('iblb'):
                instructions[caller] += int(line.split()[-1])
                calls[caller] += count
            count = 0
    return {each: round(instructions[each] / calls[each]) for each in wanted}


def count() -> dict[str, int]:
    """Return the instructions of one call, on the average of many, by the name of its function in the program."""
    wanted = re.findall(r'^COUNTED void (\w+)', (HERE / 'instructions.c').read_text(), re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        program, profile, segments = build(place), place / 'profile', place / 'segments'
        segments.mkdir(mode=0o700)
        surrounding = {'IBLBRIDGE_DIR': str(segments), 'IBLBRIDGE_WAIT': '', 'LD_BIND_NOW': '1'}
        run(find('valgrind'), '--tool=callgrind', f'--callgrind-out-file={profile}', program, **surrounding)
        return read_profile(profile.read_text().splitlines(), wanted)


def grown(counted: dict[str, int], stored: dict[str, int]) -> list[str]:
    """Return a sentence for each count that is more than 5 % above what is stored, or is not stored."""
    return [
        f'{name} takes {now} instructions, {stored.get(name, "none")} are stored'
        for name, now in counted.items()
        if now > MORE * stored.get(name, 0)
    ]


def main() -> None:
    """Count, print, and store if asked to."""
    parser = argparse.ArgumentParser(description='Count the instructions of the calls of the C library.')
    parser.add_argument('--write', action='store_true', help=f'store them in {STORED.name}')
    asked = parser.parse_args()
    if missing():
        sys.exit(f'{missing()} is needed.')
    stored, here, counted = json.loads(STORED.read_text()), surroundings(), count()
    print(here)
    for name, now in counted.items():
        print(f'  {name:14} {now:7}   stored: {stored.get(here, {}).get(name, "none")}')
    if asked.write:
        STORED.write_text(json.dumps({**stored, here: counted}, indent=2) + '\n')


if __name__ == '__main__':
    main()
