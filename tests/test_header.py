"""The headers: what other languages' parsers can read, what the library exports, and the one table of codes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.native import LIBRARY, error_text

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / 'csrc'
PUBLIC = CSRC / 'include' / 'iblbridge.h'
WORKER = CSRC / 'include' / 'iblbridge_worker.h'
COMPILER = shutil.which('cc') or shutil.which('gcc') or shutil.which('clang')
COMPILER_CPP = shutil.which('c++') or shutil.which('g++') or shutil.which('clang++')
MOST_PARAMETERS = 8


def code_of(header: Path) -> str:
    """The header without comments."""
    return re.sub(r'/\*.*?\*/', ' ', header.read_text(), flags=re.DOTALL)


def prototypes(header: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Return type, name and parameters of each function."""
    for match in re.finditer(r'IBLB_API\s+([\w ]+?[\s*]+)(\w+)\(([^)]*)\);', code_of(header)):
        parameters = [' '.join(parameter.split()) for parameter in match[3].split(',')]
        yield match[1].strip(), match[2], [] if parameters == ['void'] else parameters


def defined_codes() -> dict[str, int]:
    found = re.findall(r'#define (IBLB_(?:OK|[EW]_\w+)) (-?\d+)', PUBLIC.read_text())
    return {name: int(number) for name, number in found}


def compile_alone(compiler: str | None, header: Path, place: Path, suffix: str, *flags: str) -> None:
    if compiler is None:
        pytest.skip('no compiler')
    source = place / f'alone{suffix}'
    source.write_text(f'#include "{header.name}"\n#include "{header.name}"\nint main(void) {{ return IBLB_OK; }}\n')
    command = [compiler, *flags, '-Wall', '-Wextra', '-pedantic', '-Werror', f'-I{header.parent}', '-c', str(source)]
    done = subprocess.run([*command, '-o', str(place / 'alone.o')], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_public_header_is_c89(tmp_path: Path) -> None:
    compile_alone(COMPILER, PUBLIC, tmp_path, '.c', '-std=c89', '-Wstrict-prototypes')


@pytest.mark.parametrize('standard', ['c++98', 'c++17'])
def test_the_public_header_is_cpp(tmp_path: Path, standard: str) -> None:
    compile_alone(COMPILER_CPP, PUBLIC, tmp_path, '.cpp', f'-std={standard}')


def test_the_workers_header_is_c_and_cpp(tmp_path: Path) -> None:
    compile_alone(COMPILER, WORKER, tmp_path, '.c', '-std=c99')
    compile_alone(COMPILER_CPP, WORKER, tmp_path, '.cpp', '-std=c++17')


def test_the_public_header_includes_nothing_and_declares_nothing_but_functions() -> None:
    code = code_of(PUBLIC)
    assert '#include' not in code
    beyond = r'\b(?:struct|union|enum|typedef|bool|long|short|float|size_t|u?int\d+_t|va_list)\b|\.\.\.'
    assert not re.findall(beyond, code)


def test_parameters_are_plain_and_at_most_eight() -> None:
    plain = re.compile(r'(?:const )?(?:int|double|char|unsigned char) \*?\w+')
    found = list(prototypes(PUBLIC))
    assert len(found) > 10
    for returned, name, parameters in found:
        assert returned == 'int', name
        assert len(parameters) <= MOST_PARAMETERS, name
        assert [parameter for parameter in parameters if not plain.fullmatch(parameter)] == [], name


def test_every_function_is_documented_and_parsed() -> None:
    text = PUBLIC.read_text()
    assert len(list(prototypes(PUBLIC))) == len(re.findall(r'^IBLB_API ', text, re.MULTILINE))
    undocumented = [name for _, name, _ in prototypes(PUBLIC) if not re.search(rf'\*/\nIBLB_API [^;]*\b{name}\(', text)]
    assert undocumented == []


def test_the_library_exports_what_the_headers_declare_and_nothing_else() -> None:
    nm = shutil.which('nm')
    if nm is None:
        pytest.skip('no nm')
    table = subprocess.run([nm, '-D', '--defined-only', str(LIBRARY)], check=True, capture_output=True, text=True)
    exported = {line.split()[-1].split('@')[0] for line in table.stdout.splitlines()}
    declared = {name for header in (PUBLIC, WORKER) for _, name, _ in prototypes(header)}
    assert exported == declared


def test_the_generated_tables_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(CSRC / 'generate'), '--check'], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_codes_are_unique_and_in_the_ranges_labview_leaves_to_users() -> None:
    codes = defined_codes()
    assert len(codes) > 40
    assert len(set(codes.values())) == len(codes)
    for name, number in codes.items():
        if name == 'IBLB_OK':
            assert number == 0
        elif name.startswith('IBLB_E_'):
            assert -8999 <= number <= -8000, name
        else:
            assert 5000 <= number <= 9999, name


def test_every_code_has_a_meaning_and_a_remedy() -> None:
    texts = {name: error_text(number) for name, number in defined_codes().items()}
    assert [name for name, text in texts.items() if not re.fullmatch(r'[A-Z0-9].+\.', text) or not text.isascii()] == []
    assert len(set(texts.values())) == len(texts)


def test_every_code_that_a_function_is_said_to_return_exists() -> None:
    comments = ' '.join(re.findall(r'/\*.*?\*/', PUBLIC.read_text(), flags=re.DOTALL))
    short = set(re.findall(r'(?<![\w])_([A-Z][A-Z0-9_]+)\b', comments))
    full = set(re.findall(r'IBLB_[EW]_[A-Z0-9_]+', comments))
    codes = set(defined_codes())
    assert {name for name in short if f'IBLB_E_{name}' not in codes} == set()
    assert full <= codes


def sources() -> list[Path]:
    found = [path for path in sorted(CSRC.rglob('*.[ch]')) if 'build' not in path.parts]
    assert len(found) > 15
    return found


def test_atomics_stand_in_one_header() -> None:
    atomic = re.compile(r'\batomic_|stdatomic|__atomic|__sync|_Atomic|\bvolatile\b')
    assert [path.name for path in sources() if atomic.search(path.read_text())] == ['atomics.h']


def test_system_headers_stand_in_the_files_of_the_systems() -> None:
    of_c11 = {'assert', 'ctype', 'inttypes', 'limits', 'locale', 'math', 'stdalign', 'stdarg', 'stdatomic', 'stddef'}
    of_c11 |= {'stdint', 'stdio', 'stdlib', 'string'}
    for path in sources():
        included = set(re.findall(r'#\s*include <([\w/]+)\.h>', path.read_text()))
        assert included <= of_c11 or re.fullmatch(r'os(_\w+)?\.[ch]', path.name), path.name
