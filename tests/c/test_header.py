"""The headers: what other languages' parsers can read, what the library exports, and the one table of codes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import CSRC

from bridge.native import IBLB, LIBRARY
from bridge.numbers import CODE_NAMES, CODES, EXIT_MEANINGS, EXIT_STATUSES, EXITS, REASONS
from bridge.segment.library import error_text

PUBLIC = CSRC / 'include' / 'iblbridge.h'
WORKER = CSRC / 'include' / 'iblbridge_worker.h'
COMPILER = shutil.which('cc') or shutil.which('gcc') or shutil.which('clang')
COMPILER_CPP = shutil.which('c++') or shutil.which('g++') or shutil.which('clang++')

sys.path.insert(0, str(CSRC / 'generate'))
import interface  # noqa: E402
import rules  # noqa: E402


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


def test_every_foreign_parser_can_read_the_public_header() -> None:
    assert rules.violations(PUBLIC.read_text()) == []


PLANTED_PROTOTYPES = {
    'int iblb_x(long n);': 'parameter "long n"',
    'int iblb_x(short n);': 'parameter "short n"',
    'int iblb_x(float n);': 'parameter "float n"',
    'int iblb_x(unsigned n);': 'parameter "unsigned n"',
    'int iblb_x(unsigned int n);': 'parameter "unsigned int n"',
    'int iblb_x(signed char n);': 'parameter "signed char n"',
    'int iblb_x(long long n);': 'parameter "long long n"',
    'int iblb_x(long double n);': 'parameter "long double n"',
    'int iblb_x(size_t n);': 'parameter "size_t n"',
    'int iblb_x(int64_t n);': 'parameter "int64_t n"',
    'int iblb_x(bool b);': 'parameter "bool b"',
    'int iblb_x(_Bool b);': 'parameter "_Bool b"',
    'int iblb_x(void *p);': 'parameter "void *p"',
    'int iblb_x(volatile int *p);': 'parameter "volatile int *p"',
    'int iblb_x(char *const p);': 'parameter "char *const p"',
    'int iblb_x(int &n);': 'parameter "int &n"',
    'int iblb_x(int n = 0);': 'parameter "int n = 0"',
    'int iblb_x(int n, void);': 'parameter "void"',
    'int iblb_x(struct rig *r);': 'a type of our own',
    'int iblb_x(enum way w);': 'a type of our own',
    'struct iblb_x { int a; };': 'a type of our own',
    'union iblb_x { int a; double b; };': 'a type of our own',
    'enum iblb_x { A, B };': 'a type of our own',
    'typedef int iblb_x;': 'a type of our own',
    'int iblb_x(char **texts);': 'a pointer to a pointer',
    'int iblb_x(char * *texts);': 'a pointer to a pointer',
    'int iblb_x(int (*call)(int n));': 'a pointer to a function',
    'int iblb_x(char text[]);': 'an array',
    'int iblb_x(char text[1024]);': 'an array',
    'int iblb_x(const char *text, ...);': 'a variable argument list',
    'int iblb_x();': 'write (void)',
    'int iblb_x(int);': 'parameter "int"',
    'int iblb_x(const char *);': 'parameter "const char *"',
    'int iblb_x(int long);': 'parameter "int long"',
    'int iblb_x(char *const);': 'parameter "char *const"',
    'int iblb_x(int handle, unsigned char *);': 'parameter "unsigned char *"',
    'int iblb_x(int n, int n);': 'two parameters of one name',
    'int iblb_x(int a, int b, int c, int d, int e, int f, int g, int h, int i);': '9 parameters',
    'int iblb_x(handle) int handle;': 'not a prototype',
    'int iblb_x(int n) { return n; }': 'other than a prototype',
    'int iblb_x;': 'not a prototype',
    'int iblb_x(int n)': 'no semicolon',
    'char *iblb_x(void);': 'not return int',
    'double iblb_x(void);': 'not return int',
    'void iblb_x(void);': 'not return int',
    'long iblb_x(void);': 'not return int',
    'const char *iblb_x(int code);': 'not return int',
    'iblb_x(int n);': 'not return int',
    'int __stdcall iblb_x(int n);': 'not return int',
    'IBLB_CALL int iblb_x(int n);': 'does not define, IBLB_CALL',
    '__declspec(dllexport) int iblb_x(int n);': 'does not define, __declspec',
    'static int iblb_x(int n);': 'does not define, static',
    'int iblb_OPEN(int n);': 'was there before',
    f'int iblb_{"x" * 59}(int n);': 'more than 63',
    'int _iblb_x(int n);': 'begin with a letter',
    'extern "C" int iblb_x(int n);': 'other than a prototype',
}
PLANTED_LINES = {
    '#include <stddef.h>': 'directive',
    '#include "iblbridge_types.h"': 'directive',
    '#pragma pack(1)': 'directive',
    '#undef IBLB_API': 'directive',
    '#if IBLB_VERSION > 1\nint iblb_x(int n);\n#endif': 'directive',
    '#ifdef _WIN32\nint iblb_x(int n);\n#endif': 'directive',
    '#ifndef IBLB_SMALL\nint iblb_x(int n);\n#endif': 'directive',
    '#define IBLB_CALL __cdecl': 'directive',
    '#ifndef IBLB_CALL\n#define IBLB_CALL __cdecl\n#endif': 'directive',
    '#define IBLB_MOST(a, b) a': 'directive',
    '#define IBLB_NAME "rig0"': 'directive',
    '#define IBLB_HALF 0.5': 'directive',
    '#define IBLB_MASK 0x10': 'directive',
    '#define IBLB_MODE 0700': 'directive',
    '#define IBLB_LARGE 4294967296': 'directive',
    '#define IBLB_SUM (1 + 2)': 'directive',
    '#define IBLB_ALSO IBLB_OK': 'directive',
    '// a remark': 'a C++ comment',
    '/* M\u00e4uschen */': 'not a printable ASCII character',
    '/* a\ttab */': 'not a printable ASCII character',
    'extern "C" {\n}': 'other than a prototype',
}


@pytest.mark.parametrize('plant', [*PLANTED_PROTOTYPES, *PLANTED_LINES])
def test_what_a_foreign_parser_would_stumble_over_is_refused(plant: str) -> None:
    end = '\n#ifdef __cplusplus\n}'
    header = PUBLIC.read_text()
    assert header.count(end) == 1
    line = header[: header.index(end)].count('\n') + 2
    found = rules.violations(header.replace(end, f'\n{plant}\n{end}'))
    wanted = {**PLANTED_PROTOTYPES, **PLANTED_LINES}[plant]
    assert any(wanted in said for said in found), found
    assert all(line <= int(said.split(':')[0].removeprefix('line ')) <= line + 2 for said in found), found


@pytest.mark.parametrize(
    ('old', 'new', 'wanted'),
    [
        ('#ifndef IBLB_API\n#define IBLB_API\n#endif\n', '', 'does not define, IBLB_API'),
        ('#define IBLB_API\n', '#define IBLB_API __declspec(dllimport)\n', 'does not define, IBLB_API'),
        ('#ifndef IBLBRIDGE_H\n#define IBLBRIDGE_H\n', '', 'no include guard'),
        ('#ifdef __cplusplus\nextern "C" {\n#endif\n', 'extern "C" {\n', 'other than a prototype'),
    ],
)
def test_what_makes_the_header_stand_alone_may_not_go(old: str, new: str, wanted: str) -> None:
    header = PUBLIC.read_text()
    assert old in header
    assert any(wanted in said for said in rules.violations(header.replace(old, new)))


def test_a_c_preprocessor_leaves_nothing_but_the_documented_prototypes(tmp_path: Path) -> None:
    if COMPILER is None:
        pytest.skip('no compiler')
    command = [COMPILER, '-E', '-P', '-x', 'c', str(PUBLIC)]  # as MATLAB's loadlibrary has it done
    left = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    found = [f'{" ".join(part.split())};' for part in left.split(';') if part.strip()]
    assert found == [function.prototype for function in interface.load().functions]


def test_every_function_is_documented_and_parsed() -> None:
    text = PUBLIC.read_text()
    assert len(list(prototypes(PUBLIC))) == len(re.findall(r'^IBLB_API ', text, re.MULTILINE))
    undocumented = [name for _, name, _ in prototypes(PUBLIC) if not re.search(rf'\*/\nIBLB_API [^;]*\b{name}\(', text)]
    assert undocumented == []


def groups() -> dict[str, list[str]]:
    """The functions of the header under each heading, in order."""
    found: dict[str, list[str]] = {}
    for heading, name in re.findall(
        r'^/\* ---- (\w[\w ]*).* ---- \*/$|^IBLB_API int (\w+)', PUBLIC.read_text(), re.MULTILINE
    ):
        if heading:
            found[heading] = []
        else:
            list(found.values())[-1].append(name)
    return found


def test_the_functions_that_most_programs_need_stand_first_and_the_others_in_groups() -> None:
    found = groups()
    assert next(iter(found.items())) == ('Simple', ['iblb_open', 'iblb_call', 'iblb_close', 'iblb_last_error'])
    assert list(found) == ['Simple', 'Send and wait', 'Events', 'Serving', 'Leaving unfinished', 'Codes', 'Inspection']
    assert all(found.values())


def test_the_map_of_the_header_has_its_groups_and_their_functions() -> None:
    rows = re.findall(
        r'^\| (?:\*\*(.+?):\*\* )?[^|]+ \| ((?:`iblb_\w+`(?:, )?)+) \|$', (CSRC / 'README.md').read_text(), re.MULTILINE
    )
    told: dict[str, list[str]] = {}
    for group, names in rows:
        if group:
            told[group] = []
        list(told.values())[-1] += re.findall(r'\w+', names)
    assert list(told) == list(groups())
    assert {group: sorted(names) for group, names in told.items()} == {k: sorted(v) for k, v in groups().items()}


def test_what_is_written_into_a_parameter_is_described_where_it_first_occurs() -> None:
    described: set[str] = set()
    for function in interface.load().functions:
        described |= set(re.findall(r'(\w+) +out: ', function.text))
        described |= set(re.findall(r'`(bytes)`', function.text))
        assert {p.name for p in function.parameters if p.is_output} <= described, function.name


def test_a_list_in_the_header_keeps_its_indent() -> None:
    item = False
    for number, line in enumerate(PUBLIC.read_text().splitlines(), 1):
        assert not item or line == ' *' or line.startswith((' * - ', ' *   ')), number
        item = line.startswith(' * - ') or (item and line.startswith(' *   '))


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


def test_every_code_has_an_exit_status_and_warnings_are_no_failure() -> None:
    assert EXIT_STATUSES.keys() == CODE_NAMES.keys()
    assert set(EXIT_STATUSES.values()) <= set(EXITS.values()) == EXIT_MEANINGS.keys()
    assert {code for code, status in EXIT_STATUSES.items() if status == EXITS['FINE']} == {
        code for code in CODE_NAMES if code >= 0
    }


def test_the_shell_client_takes_its_exit_statuses_from_the_table(tmp_path: Path) -> None:
    def iblb(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {'IBLBRIDGE_DIR': str(tmp_path)}
        command = [str(IBLB), *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)

    told = iblb('help')
    assert told.returncode == EXITS['FINE']
    for number, meaning in EXIT_MEANINGS.items():
        assert re.search(rf'^ *{number}  {meaning}$', told.stdout, re.MULTILINE)
    assert iblb('state').returncode == EXITS['MISUSE']
    assert iblb('state', 'rig0', '--open', '0').returncode == EXIT_STATUSES[CODES['IBLB_E_NO_SEGMENT']]


def test_reasons_are_words() -> None:
    assert len(set(REASONS)) == len(REASONS) > 10
    assert [word for word in REASONS if not re.fullmatch(r'[a-z]+(_[a-z]+)?', word)] == []


def test_every_code_has_a_meaning_and_a_remedy() -> None:
    texts = {name: error_text(number) for name, number in defined_codes().items()}
    assert [name for name, text in texts.items() if not re.fullmatch(r'[A-Z0-9].+\.', text) or not text.isascii()] == []
    assert len(set(texts.values())) == len(texts)


def test_every_code_that_a_function_is_said_to_return_exists_and_is_named_in_full() -> None:
    comments = ' '.join(re.findall(r'/\*.*?\*/', PUBLIC.read_text(), flags=re.DOTALL))
    full = set(re.findall(r'IBLB_[EW]_[A-Z0-9_]+', comments))
    codes = set(defined_codes())
    assert full <= codes
    assert re.findall(r'(?<!\w)_[A-Z][A-Z0-9_]+\b', comments) == [], 'a search for the full name must find it'


def sources() -> list[Path]:
    found = [path for path in sorted(CSRC.rglob('*.[ch]')) if 'build' not in path.parts]
    assert len(found) > 15
    return found


def test_atomics_stand_in_one_header() -> None:
    atomic = re.compile(r'\batomic_|stdatomic|__atomic|__sync|_Atomic|\bvolatile\b(?! sig_atomic_t)')
    assert [path.name for path in sources() if atomic.search(path.read_text())] == ['atomics.h']


def test_a_call_is_entered_and_left_in_one_place() -> None:
    others = [path for path in sources() if path.stem != 'handles']
    assert [path.name for path in others if re.search(r'\bhandle_(?:hold|drop)\(', path.read_text())] == []


def test_what_runs_around_a_fork_is_registered_in_one_place() -> None:
    others = [path for path in sources() if not re.fullmatch(OF_A_SYSTEM, path.name)]
    assert [path.name for path in others if re.search(r'\bos_at_fork\(', path.read_text())] == ['forks.c']


OF_A_SYSTEM = r'os(_\w+)?\.[ch]|iblb_windows\.c'


def test_system_headers_stand_in_the_files_of_the_systems() -> None:
    of_c11 = {
        'assert',
        'ctype',
        'errno',
        'float',
        'inttypes',
        'limits',
        'locale',
        'math',
        'stdalign',
        'stdarg',
        'stdatomic',
        'stdbool',
        'stddef',
    }
    of_c11 |= {'signal', 'stdint', 'stdio', 'stdlib', 'string'}
    for path in sources():
        included = set(re.findall(r'#\s*include <([\w/]+)\.h>', path.read_text()))
        assert included <= of_c11 or re.fullmatch(OF_A_SYSTEM, path.name), path.name


def test_no_file_but_those_of_the_systems_asks_which_system_it_is() -> None:
    names = r'_WIN32|_WIN64|__linux__|__APPLE__|__unix__|WIN32'
    for path in sources():
        asks = re.findall(rf'^\s*#\s*(?:el)?if.*\b(?:{names})\b', path.read_text(), re.MULTILINE)
        assert not asks or re.fullmatch(OF_A_SYSTEM, path.name), path.name
