"""Build the fuzzers and let each run for a while: ``python tests/fuzz/run.py --minutes 10``.

Three programs, with libFuzzer and the address and undefined-behaviour sanitizers, which clang must have (Debian: clang
and libclang-rt-14-dev):

- ``fuzz_json``: the readers of JSON and msgpack;
- ``fuzz_worker``: the worker, on a segment that one client scribbles over, or anybody;
- ``fuzz_client``: a client, on a segment of arbitrary bytes;
- ``fuzz_serving``: a program that serves and the worker that asks it, while somebody writes into what lies between.

Each starts from ``corpus/<target>``. What it finds is kept there as ``found-<hash>``, is replayed by `test_fuzz` from
then on, and ends the run with status 1.

Options: ``--minutes`` for each target (default 10), ``--target`` for one of them, ``--sources`` for another csrc (a
copy with a planted bug), ``--keep`` for a directory in which the growing corpus outlives the run.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[1] / 'csrc'
CORPUS = HERE / 'corpus'
TARGETS = ('json', 'worker', 'client', 'serving')
FLAGS = [
    '-std=c11',
    '-g',
    '-O1',
    '-Wall',
    '-Wextra',
    '-fsanitize=address,undefined',
    '-fno-sanitize-recover=undefined',
    '-DIBLB_FAULT',
    '-D_POSIX_C_SOURCE=200809L',
]
# Not instrumented for coverage: loops that would cost the most.
PLAIN = ('errors', 'handles', 'inbox', 'os_memory', 'remembered')
# The harness of the worker looks at every wiping of a ring.
WRAP = {'json': [], 'worker': ['-Wl,--wrap=ring_wipe'], 'client': [], 'serving': []}
LONGEST = {'json': 600, 'worker': 300, 'client': 300, 'serving': 300}


class BuildError(Exception):
    """The compiler's complaint."""


def missing() -> str:
    """Return why the fuzzers can't be built here, or nothing."""
    if not shutil.which('clang'):
        return 'clang is not installed'
    probe = ['clang', '-fsanitize=fuzzer,address,undefined', '-x', 'c', '-', '-o', '/dev/null']
    source = 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return d && n > 9e9; }'
    done = subprocess.run(probe, input=source, capture_output=True, text=True, check=False)
    return 'clang has no libFuzzer: libclang-rt-14-dev is not installed' if done.returncode else ''


def _clang(*arguments: str | Path) -> None:
    done = subprocess.run(['clang', *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(done.stderr)


def build(folder: Path, sources: Path = SOURCES, targets: tuple[str, ...] = TARGETS) -> dict[str, Path]:
    """Build the programs into a folder.

    Parameters
    ----------
    folder : pathlib.Path
        Where to.
    sources : pathlib.Path
        The csrc to be tested.
    targets : tuple of str
        Which of them.

    Returns
    -------
    dict
        The program of each target.
    """
    library = sorted(path for path in sources.glob('*.c') if not path.name.startswith('os_'))
    own = [HERE / 'os_memory.c', *(HERE / f'fuzz_{target}.c' for target in targets)]
    include = ['-I', str(sources), '-I', str(sources / 'include')]

    def compile_one(source: Path) -> Path:
        watched = [] if source.stem in PLAIN else ['-fsanitize=fuzzer-no-link']
        made = folder / f'{source.stem}.o'
        _clang(*FLAGS, *watched, *include, '-c', source, '-o', made)
        return made

    with ThreadPoolExecutor(2) as pool:
        objects = dict(
            zip([source.stem for source in [*library, *own]], pool.map(compile_one, [*library, *own]), strict=True)
        )
    programs = {}
    for target in targets:
        parts = ['json'] if target == 'json' else [path.stem for path in library] + ['os_memory']
        programs[target] = folder / f'fuzz_{target}'
        linked = [objects[part] for part in [f'fuzz_{target}', *parts]]
        _clang(
            '-fsanitize=fuzzer,address,undefined', *linked, *WRAP[target], '-lm', '-lpthread', '-o', programs[target]
        )
    return programs


class Result(NamedTuple):
    """What one run came to."""

    runs: int
    seconds: float
    edges: int
    finding: str  # the program's last words, or nothing


def fuzz(program: Path, seeds: Path, grown: Path, found: Path, seconds: float, longest: int) -> Result:
    """Let one program run.

    Parameters
    ----------
    program, seeds, grown, found : pathlib.Path
        The program; inputs it starts from; where it puts new ones; where it puts those that break something.
    seconds : float
        How long.
    longest : int
        The most bytes of an input.

    Returns
    -------
    Result
        Counts and, if something broke, how.
    """
    began = time.monotonic()
    options = [
        f'-max_total_time={max(round(seconds), 1)}',
        f'-max_len={longest}',
        '-timeout=20',
        '-print_final_stats=1',
    ]
    done = subprocess.run(
        [program, *options, f'-artifact_prefix={found}/found-', grown, seeds],
        capture_output=True,
        text=True,
        errors='replace',
        check=False,
        cwd=grown,
    )
    took = time.monotonic() - began
    runs = re.search(r'number_of_executed_units: (\d+)', done.stderr)
    edges = re.findall(r' cov: (\d+)', done.stderr)
    words = [line for line in done.stderr.splitlines() if not line.startswith(('#', '"', 'INFO', '\tNEW'))]
    return Result(
        int(runs.group(1)) if runs else 0,
        took,
        int(edges[-1]) if edges else 0,
        '\n'.join(words[:60]) if done.returncode else '',
    )


def replay(program: Path, inputs: list[Path]) -> str:
    """Run the program once over stored inputs; return what it says if it breaks, or nothing."""
    done = subprocess.run([program, *inputs], capture_output=True, text=True, errors='replace', check=False)
    return done.stderr[-6000:] if done.returncode else ''


def main() -> int:
    """Run as the module says; 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=10)
    parser.add_argument('--target', choices=TARGETS, action='append')
    parser.add_argument('--sources', type=Path, default=SOURCES)
    parser.add_argument('--keep', type=Path)
    options = parser.parse_args()
    if why := missing():
        parser.error(why)
    targets = tuple(options.target or TARGETS)
    found = False
    print(f'{"target":8} {"runs":>12} {"per second":>12} {"edges":>8}  found', flush=True)
    with tempfile.TemporaryDirectory(prefix='iblbridge-fuzz-') as place:
        programs = build(Path(place), options.sources.resolve(), targets)
        for target in targets:
            seeds, grown = CORPUS / target, (options.keep or Path(place)).resolve() / f'grown-{target}'
            seeds.mkdir(parents=True, exist_ok=True)
            grown.mkdir(parents=True, exist_ok=True)
            result = fuzz(programs[target], seeds, grown, seeds, 60 * options.minutes, LONGEST[target])
            rate = result.runs / max(result.seconds, 1e-9)
            said = 'yes' if result.finding else 'nothing'
            print(f'{target:8} {result.runs:12,} {rate:12,.0f} {result.edges:8}  {said}', flush=True)
            if result.finding:
                found = True
                print(result.finding, flush=True)
    return int(found)


if __name__ == '__main__':
    sys.exit(main())
