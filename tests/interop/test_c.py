"""What the C kit has beside the header: a text as JSON, and a loop that serves."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from guides import require

QUOTE = Path(__file__).with_name('c') / 'quote.c'
TEXTS = ['x', 'he said "go"', '\\', ''.join(map(chr, range(1, 0x80))), 'Mäuschen→x\U0001f42d', '"' * 500]


def test_any_text_becomes_json_that_is_whole_or_not_there(kit_of, tmp_path):
    require('cc')
    words = ['cc', '-std=c99', '-Wall', '-Wextra', '-pedantic', '-Werror', '-fsanitize=address,undefined']
    subprocess.run([*words, f'-I{kit_of("c")}', QUOTE, '-o', tmp_path / 'quote'], check=True)
    given = b'\0'.join(text.encode() for text in TEXTS) + b'\0'
    done = subprocess.run([tmp_path / 'quote'], input=given, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b'')
    assert [json.loads(line) for line in done.stdout.splitlines()] == [None, *TEXTS]


def test_the_camera_and_the_loop_of_the_guide_compile_without_a_warning(kit_of, tmp_path):
    require('cc')
    place = kit_of('c')
    (loop,) = [block for block in re.findall(r'```c\n(.*?)```', guide(place), re.DOTALL) if 'iblb_serve' in block]
    source = tmp_path / 'loop.c'
    source.write_text(
        '#include <stdio.h>\n#include "iblbridge.h"\n'
        'int start_camera(const char *json);\nvoid look_after_camera(void);\n'
        'int serve(int handle);\nint serve(int handle) {\nint command, message, status;\nstatic char json[65536];\n'
        f'{loop}return status;\n}}\n'
    )
    for file in (place / 'camera.c', source):
        words = ['cc', '-std=c99', '-Wall', '-Wextra', '-pedantic', '-Wconversion', '-Werror', '-fsyntax-only']
        done = subprocess.run([*words, f'-I{place}', file], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, '')


def guide(place):
    return (place / 'README.md').read_text(encoding='utf-8')


def test_it_compiles_as_cpp_as_well(kit_of, tmp_path):
    require('c++')
    source = tmp_path / 'quote.cpp'
    source.write_text(
        '#include "iblb_quote.h"\nint main() { char json[8]; return iblb_quote("", json, 8) == 2 ? 0 : 1; }\n'
    )
    subprocess.run(['c++', '-Wall', '-Wextra', '-Werror', f'-I{kit_of("c")}', source, '-o', tmp_path / 'q'], check=True)
    subprocess.run([tmp_path / 'q'], check=True, timeout=60)
