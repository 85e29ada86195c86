"""How much of the ring, the segment and the JSON reader is run by the C tests and the fuzzers' stored inputs.

``python tests/c/test_coverage.py`` prints it for every file of csrc, with the lines that were not reached.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from c_programs import COMMON, LIBRARY, PROGRAMS
from sources import CSRC, TESTS

FUZZ = TESTS / 'fuzz'
LEAST = 95.0  # percent
WANTED = ('ring.c', 'segment.c', 'json.c')
OPTIONS = ['-O0', '--coverage', '-w']
MEMORY = [name for name in LIBRARY if not name.startswith('os_')]


class Coverage(NamedTuple):
    """Of one file."""

    percent: float
    missing: list[int]


def _run(command: Sequence[object], folder: Path, *, judged: bool = True) -> str:
    segments = folder / 'segments'
    segments.mkdir(mode=0o700, exist_ok=True)
    environment = os.environ | {'IBLBRIDGE_DIR': str(segments)}
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, errors='replace', check=False
    )
    if done.returncode and judged:  # whether the tests pass is told elsewhere
        raise RuntimeError(f'{" ".join(words)[:200]}\n{(done.stdout + done.stderr)[-4000:]}')
    return done.stdout


def _build(folder: Path, name: str, sources: Sequence[Path], options: Sequence[object]) -> Path:
    """Build a program in a directory of its own, where gcov will find what it needs."""
    place = folder / name
    place.mkdir()
    _run(
        [
            'gcc',
            *COMMON,
            *OPTIONS,
            f'-I{CSRC}/include',
            f'-I{FUZZ}',
            f'-I{TESTS}/c',
            *sources,
            '-o',
            name,
            '-lm',
            *options,
        ],
        place,
    )
    return place / name


def _c_test(folder: Path, name: str) -> None:
    described = PROGRAMS[name]
    library = [CSRC / source for source in described.sources]
    faults = ['-DIBLB_FAULT'] if 'interleaved' in described.variants else []
    program = _build(folder, name, [TESTS / 'c' / f'{name}.c', *library], [*faults, *described.link])
    fewest = ['1000'] if described.counts else []
    _run([program, *fewest], program.parent, judged=False)


def _gaps(folder: Path) -> None:
    own = [FUZZ / 'coverage_gaps.c', FUZZ / 'os_memory.c']
    program = _build(folder, 'gaps', [*own, *(CSRC / source for source in MEMORY)], [])
    assert ' 0 failed' in _run([program], program.parent)


def _replay(folder: Path, target: str) -> None:
    own = [FUZZ / f'fuzz_{target}.c', FUZZ / 'replay.c']
    if target == 'json':
        program = _build(folder, 'fuzz_json', [*own, CSRC / 'json.c'], [])
    else:
        library = [CSRC / source for source in MEMORY]
        own.append(FUZZ / 'os_memory.c')
        wrap = ['-Wl,--wrap=ring_wipe'] if target == 'worker' else []
        program = _build(folder, f'fuzz_{target}', [*own, *library], ['-DIBLB_FAULT', *wrap])
    _run([program, *sorted((FUZZ / 'corpus' / target).glob('seed-*'))], program.parent, judged=False)


def measure(folder: Path) -> dict[str, Coverage]:
    """Build and run everything, and return each file's coverage.

    Parameters
    ----------
    folder : pathlib.Path
        A directory to do it in.

    Returns
    -------
    dict
        By the file's name in csrc. A line counts as reached if any program reached it.
    """
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(_c_test, folder, name) for name in PROGRAMS]
        jobs += [pool.submit(_replay, folder, target) for target in ('json', 'worker', 'client')]
        jobs.append(pool.submit(_gaps, folder))
        for job in jobs:
            job.result()
    reached: dict[str, set[int]] = {}
    lines: dict[str, set[int]] = {}
    for place in folder.iterdir():
        if place.is_dir() and list(place.glob('*.gcda')):
            _run(['gcov', '-p', *sorted(place.glob('*.gcda'))], place)
            for report in place.glob('*.gcov'):
                _read(report.read_text(errors='replace'), lines, reached)
    result = {}
    for name, all_lines in sorted(lines.items()):
        missing = sorted(all_lines - reached[name])
        result[name] = Coverage(100 * (1 - len(missing) / len(all_lines)), missing)
    return result


def _read(report: str, lines: dict[str, set[int]], reached: dict[str, set[int]]) -> None:
    source = re.search(r'0:Source:(.*)', report)
    if not source or Path(source.group(1)).resolve().parent != CSRC:
        return
    name = Path(source.group(1)).name
    for count, line in re.findall(r'^ *([^:\s]+): *(\d+):', report, flags=re.MULTILINE):
        if count != '-' and line != '0':
            lines.setdefault(name, set()).add(int(line))
            reached.setdefault(name, set())
            if not count.startswith(('#', '=')):
                reached[name].add(int(line))


def describe(coverage: dict[str, Coverage]) -> str:
    """Return a table, with the text of the lines that were not reached."""
    text = []
    for name, (percent, missing) in coverage.items():
        text.append(f'{name:20} {percent:6.1f} %')
        source = (CSRC / name).read_text().splitlines()
        text += [f'    {line:4}: {source[line - 1].strip()}' for line in missing]
    return '\n'.join(text)


@pytest.fixture(scope='module')
def coverage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Coverage]:
    if not (shutil.which('gcc') and shutil.which('gcov')):
        if 'CI' in os.environ:
            pytest.fail('gcc and gcov are not installed')
        pytest.skip('gcc and gcov are not installed')
    return measure(tmp_path_factory.mktemp('coverage'))


@pytest.mark.slow
@pytest.mark.parametrize('name', WANTED)
def test_nearly_every_line_is_run(name, coverage, capsys):
    with capsys.disabled():
        print(f'\n{describe({name: coverage[name]})}', end='')
    assert coverage[name].percent >= LEAST


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as here:
        sys.stdout.write(describe(measure(Path(here))) + '\n')
