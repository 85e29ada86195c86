"""Every access of shared memory is a crash point: none goes round the functions of atomics.h."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from signal import SIGTERM

import pytest
from actors import CSRC, HERE, Rig, build, compiler, until, violations

SHADOW = [
    '-DIBLB_SHADOW',
    '-no-pie',
    '-fno-omit-frame-pointer',
    '-Wl,--wrap=os_map,--wrap=os_unmap',
    str(HERE / 'shadow.c'),
]


def without_comments(text: str) -> str:
    return re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', ' ', text, flags=re.DOTALL)


@pytest.mark.parametrize('path', sorted(CSRC.glob('*.[ch]')), ids=lambda path: path.name)
def test_atomics_are_used_in_one_file_only(path):
    if path.name == 'atomics.h':
        return
    found = re.findall(
        r'\batomic_\w+|\b_Atomic\b|stdatomic|\b__(?:atomic|sync)_\w+|\bvolatile\b', without_comments(path.read_text())
    )
    assert not found


@pytest.mark.parametrize('path', sorted(CSRC.glob('*.[ch]')), ids=lambda path: path.name)
def test_memory_in_a_ring_or_a_slot_is_given_only_to_the_functions_that_count(path):
    if path.name == 'atomics.h':
        return
    text = without_comments(path.read_text())
    place = r'(?:ring_at\(|space\.record|->data\b)'
    assert not re.findall(rf'\bmem\w+\([^;]*{place}[^;]*;', text)
    assert not re.findall(rf'(?<!char )\*\s*{place}', text)
    assert not re.findall(r'ring_at\([^;]*\)\s*\[', text)


@pytest.mark.parametrize('function', re.findall(r'static inline \w+ (\w+)\(', (CSRC / 'atomics.h').read_text()))
def test_each_function_of_atomics_h_is_a_point(function):
    text = (CSRC / 'atomics.h').read_text()
    body = text[text.index(f' {function}(') :]
    body = body[: re.search(r'^\s*\}', body, re.MULTILINE).end()]
    assert 'IBLB_POINT()' in body or function.startswith('fence_')


def shadowed(folder: Path, change: tuple[str, str, str] | None = None) -> Path:
    """Build the actors so that only atomics.h gets at the segment."""
    if compiler() is None:
        if 'CI' in os.environ:
            pytest.fail('there is no C compiler')
        pytest.skip('there is no C compiler')
    sources = folder / 'csrc'
    shutil.copytree(CSRC, sources)
    text = '#include "shadow.h"\n' + (sources / 'atomics.h').read_text()
    text, words = re.subn(r'(\((?:const )?shared_u##bits \*word[^)]*\) \{)', r'\1 word = shadow_real(word);', text)
    text, copies = re.subn(r'(mem(?:cpy|set)\((?:to, )?)shared,', r'\1shadow_real(shared),', text)
    assert (words, copies) == (6, 3), 'atomics.h has changed: lead its new functions to the memory, too'
    (sources / 'atomics.h').write_text(text)
    if change:
        name, old, new = change
        before = (sources / name).read_text()
        assert old in before, f'{name} has changed: plant this access anew'
        (sources / name).write_text(before.replace(old, new))
    return build(folder, sources, more=SHADOW)


def one_life(program: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int | None, int | None, str]:
    """Return how worker and client ended, and where they went round atomics.h."""
    rig = Rig(program, folder / 'rig', 2, patience=0.3)
    worker = rig.start('worker', 'refuse')
    client = rig.start('client', 'c').wait()
    until(lambda: rig.path.exists() and not rig.claimed(), 2.0)
    worker.send(SIGTERM)
    codes = client, worker.wait()
    frames = re.findall(r'^0x[0-9a-f]+$', capfd.readouterr().err, re.MULTILINE)
    where = ''
    if frames:
        command = ['addr2line', '-fpse', program, *frames[:3]]
        where = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    elif codes == (0, 0):
        assert violations(rig.lines()) == []
    rig.close()
    return *codes, where


def test_nothing_goes_round_atomics_h(tmp_path, capfd):
    client, worker, where = one_life(shadowed(tmp_path), tmp_path, capfd)
    assert (client, worker, where) == (0, 0, ''), f'shared memory is touched directly at\n{where}'


@pytest.mark.slow
@pytest.mark.parametrize(
    'change',
    [
        (
            'commands.c',
            'shared_write(space.record, &record, sizeof record);',
            'memcpy(space.record, &record, sizeof record);',
        ),
        ('queue.c', '*control = load64_acquire(&shared->control);', '*control = shared->control;'),
    ],
    ids=['a copy', 'a plain load'],
)
def test_a_planted_access_that_goes_round_is_found(change, tmp_path, capfd):
    client, worker, where = one_life(shadowed(tmp_path, change), tmp_path, capfd)
    assert 99 in (client, worker)
    assert change[0] in where
