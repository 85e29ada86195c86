"""The bytes in the segment, against the image of them that is stored beside this file.

``golden/layout.c`` fills every field of every shared structure with bytes of its own and prints them. A layout that
was changed deliberately has a new LAYOUT_VERSION; its image is stored by ``python tests/c/test_layout.py``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from sources import CSRC, TESTS

SOURCES = CSRC
PROGRAM = TESTS / 'c' / 'golden' / 'layout.c'


def version_of(layout: str) -> int:
    found = re.search(r'#define LAYOUT_VERSION (\d+)u', layout)
    assert found
    return int(found.group(1))


VERSION = version_of((SOURCES / 'layout.h').read_text())
IMAGE = TESTS / 'c' / 'golden' / f'layout-{VERSION}.bin'


def build(folder: Path, *options: str, sources: Path = SOURCES) -> Path:
    program = folder / 'layout'
    command = ['gcc', '-std=c11', '-Wall', *options, '-I', str(sources), str(PROGRAM), '-o', str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return program


def image(folder: Path, *options: str, sources: Path = SOURCES) -> bytes:
    return subprocess.run([build(folder, *options, sources=sources)], capture_output=True, check=True).stdout


def skip_without_32_bit(folder: Path) -> None:
    """Skip, or fail in CI, where gcc cannot build for 32 bit (Debian: gcc-multilib)."""
    probe = folder / 'probe.c'
    probe.write_text('#include <stdio.h>\nint main(void) { return 0; }\n')
    command = ['gcc', '-m32', str(probe), '-o', str(folder / 'probe')]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        if 'CI' in os.environ:
            pytest.fail('gcc cannot build for 32 bit: gcc-multilib is not installed')
        pytest.skip('gcc cannot build for 32 bit')


def test_every_field_lies_where_it_lay_when_the_version_was_given(tmp_path):
    assert image(tmp_path) == IMAGE.read_bytes(), 'the layout changed: bump LAYOUT_VERSION, store a new image'


def test_a_32_bit_process_lays_them_out_alike(tmp_path):
    skip_without_32_bit(tmp_path)
    assert image(tmp_path, '-m32') == IMAGE.read_bytes()


def test_the_optimiser_and_another_compiler_make_no_difference(tmp_path):
    assert image(tmp_path, '-O3') == IMAGE.read_bytes()
    if shutil.which('clang'):
        program = tmp_path / 'by-clang'
        subprocess.run(['clang', '-std=c11', '-I', SOURCES, PROGRAM, '-o', program], check=True)
        assert subprocess.run([program], capture_output=True, check=True).stdout == IMAGE.read_bytes()


CHANGES = {
    'two fields change places': (
        'uint32_t slots;\n    uint32_t command_bytes;',
        'uint32_t command_bytes;\n    uint32_t slots;',
    ),
    'a field grows': ('shared_u32 services_up;', 'FIELD64 shared_u64 services_up;'),
    'a number is given to another state': ('STATE_ANSWERED = 3', 'STATE_ANSWERED = 5'),
    'records are aligned less': ('#define RECORD_ALIGN 64u', '#define RECORD_ALIGN 32u'),
    'pid and generation change places': ('shared_u32 generation;      ', 'shared_u32 pid;      '),
    'code and payload change places': (
        'int32_t code;\n    uint32_t payload_bytes;',
        'uint32_t payload_bytes;\n    int32_t code;',
    ),
    'an event loses its reserve': (
        'int32_t message;\n    uint32_t payload_bytes;\n    uint32_t reserved;',
        'uint32_t reserved;\n    int32_t message;\n    uint32_t payload_bytes;',
    ),
}


@pytest.mark.parametrize('change', CHANGES)
def test_a_change_is_noticed_when(change, tmp_path):
    before, after = CHANGES[change]
    layout = (SOURCES / 'layout.h').read_text()
    assert before in layout
    changed = layout.replace(before, after, 1)
    if 'generation' in change:
        changed = changed.replace('shared_u32 pid;             /* for', 'shared_u32 generation;             /* for', 1)
    folder = tmp_path / 'csrc'
    folder.mkdir()
    (folder / 'layout.h').write_text(changed)
    shutil.copy(SOURCES / 'atomics.h', folder)
    try:
        found = image(tmp_path, sources=folder)
    except RuntimeError as error:
        assert 'static assertion failed' in str(error)
    else:
        assert found != IMAGE.read_bytes()


def structures(layout: str) -> dict[str, list[str]]:
    """Return the names of the fields of every structure."""
    text = re.sub(r'/\*.*?\*/', '', layout, flags=re.DOTALL)
    found = re.findall(r'^struct (\w+) \{\n(.*?)^\};', text, flags=re.DOTALL | re.MULTILINE)
    return {name: re.findall(r'(\w+)(?:\[\w+\])*;', body) for name, body in found}


def test_the_image_holds_every_field_of_every_structure():
    program = PROGRAM.read_text()
    parts = {'bell': 'bell->', 'ring_header': 'ring->', 'record_header': 'header->'}
    for name, fields in structures((SOURCES / 'layout.h').read_text()).items():
        for field in fields:
            wanted = parts.get(name, f'{name}.') + field
            assert re.search(rf'\(&?{re.escape(wanted)}\)', program), f'{PROGRAM.name} leaves out {name}.{field}'


def test_every_field_has_a_compile_time_assert():
    layout = (SOURCES / 'layout.h').read_text()
    missing = [
        f'{name}.{field}'
        for name, fields in structures(layout).items()
        for field in fields
        if not re.search(rf'offsetof\(struct {name}, {field}\)', layout)
    ]
    assert not missing, f'layout.h asserts no offset for {", ".join(missing)}'


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as place:
        new = image(Path(place))
    if IMAGE.exists() and IMAGE.read_bytes() != new:
        sys.exit(f'{IMAGE.name} differs: bump LAYOUT_VERSION first, or remove the image if no release ever had it')
    IMAGE.write_bytes(new)
    sys.stdout.write(f'{IMAGE}: {IMAGE.stat().st_size} bytes\n')
