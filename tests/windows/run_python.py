"""Runs the Python tests in Windows Python, with a wheel that was built for it.

    python tests/windows/run_python.py WHEEL [folder/test_x.py ...] [arguments of pytest]

On Linux, by Wine: ``WINE_PYTHON`` in the environment is a command that runs Windows Python with what the wheel depends
on and the packages of the tests. The wheel is unpacked into a folder of its own and the tests are copied beside it. The
files are run in a few processes, some at a time, each with a time-out that ends what hangs and tells which test it was.
What has failed is run once more when nothing else is.

What is not run at all is in `OMITTED`; what a test skips on Windows or under Wine says its own reason (the markers
``posix`` and ``not_wine``). The summary lists both. Nor are tests that are slow, without ``-m 'not long'``.
"""

from __future__ import annotations

import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zipfile
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
PYTHON = shlex.split(os.environ.get('WINE_PYTHON', ''))
MARK = 'IBLBRIDGE_WINDOWS_RUN'
AT_A_TIME = 3  # much of their time they wait
TIMEOUT = 1200.0  # s, for the files of one process
TEST_TIMEOUT = 60.0  # s, after which the stacks of a test that goes on are shown
OMITTED = {
    'c': 'compiles the C programs; tests/windows/test_c.py does',
    'crash': 'tests/windows/test_crash.py does that',
    'fuzz': 'needs sanitizers',
    'interop': 'runs kits; tests/windows/test_whole_path.py does some',
    'model': 'runs Spin; nothing in it is of a system',
    'packaging': 'is about other systems',
    'windows': 'runs this',
    'segment/test_fork.py': 'Windows has no fork()',
    'segment/test_what_open_waits_for.py': 'is about the sources',
    'test_kit.py': 'makes kits, which are run where their languages are',
    'test_manuals.py': 'is about the sources',
    'test_skips_say_why.py': 'is about the sources',
    'test_style.py': 'is about the sources',
    'web/test_browser.py': 'is about Chromium, which is the same there',
    'whole/test_own_service.py': 'runs a program of the sources',
}
"""dict: folders and files, with the reason."""
# They are begun first, each in a process of its own; the others come several in one.
LONG_ONES = (
    'cli/test_demo.py', 'auxiliaries/test_auxiliaries_documented.py', 'services/test_network_faults.py',
    'worker/test_worker_ends.py', 'worker/test_worker.py', 'cli/test_cli.py', 'services/test_addresses.py',
    'cli/test_typed_words.py', 'cli/test_reload.py', 'web/test_page_process.py', 'listen/test_programs.py',
    'cli/test_demo_both.py',
    'worker/test_housekeeping.py', 'services/test_models_are_true.py',
)  # fmt: skip
IN_ONE = 6
LONGEST = 10  # tests that the summary names


@dataclass
class Result:
    """What one process came to."""

    names: list[str]
    took: float = 0.0
    output: str = ''
    counts: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)

    def read(self, report: ElementTree.Element) -> None:
        """Read the report that pytest has written."""
        for case in report.iter('testcase'):
            path = case.get('classname', '').split('.')
            end = next((i for i, part in enumerate(path, 1) if part.startswith('test_')), len(path))
            module, classes = '/'.join(path[:end]), path[end:]
            outcome = next((part for part in case if part.tag in ('failure', 'error', 'skipped')), None)
            message = '' if outcome is None else outcome.get('message', '')
            name = '::'.join([f'{module}.py', *classes, case.get('name', '')])
            self.times[name] = float(case.get('time', 0))
            if outcome is None:
                self.counts['passed'] += 1
            elif outcome.tag == 'skipped':
                self.skipped[message] += 1
            else:
                self.failed[name] = message


def end_all(mark: str) -> None:
    """Kill the programs of one run, which have no group: all that have the mark, but what belongs to Wine."""
    for place in Path('/proc').glob('[0-9]*'):
        with suppress(OSError):
            if f'{MARK}={mark}'.encode() in (place / 'environ').read_bytes():
                program = (place / 'cmdline').read_bytes().lower()
                if b'wineserver' not in program and not program.startswith(b'c:\\windows'):
                    os.kill(int(place.name), signal.SIGKILL)


def run(names: list[str], folder: Path, arguments: Iterable[str]) -> Result:
    """Run some files, or tests by their full names."""
    result, mark = Result(names), uuid.uuid4().hex
    report = folder / f'{mark}.xml'
    environment = os.environ | {'PYTHONPATH': windows(folder / 'site'), 'PYTHONDONTWRITEBYTECODE': '1', MARK: mark}
    environment.setdefault('HISTORIES', '300')  # of test_line_model, in which nothing is of a system
    options = ['-v', '-ra', '-m', 'not long and not slow', '-p', 'no:cacheprovider']
    options += [f'--junitxml={report.name}', '--durations=5']
    options += ['-o', 'addopts=', '-o', 'timeout=0', '-o', f'faulthandler_timeout={TEST_TIMEOUT}']
    started = time.monotonic()
    process = subprocess.Popen(
        [*PYTHON, '-m', 'pytest', *options, *arguments, *(f'tests/{name.removeprefix("tests/")}' for name in names)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
    )
    try:
        result.output = process.communicate(timeout=TIMEOUT)[0]
    except subprocess.TimeoutExpired:
        end_all(mark)
        result.output = process.communicate()[0]
        result.counts['passed'], hangs = progress(result.output)
        result.failed[hangs or names[0]] = f'hangs, or all take more than {TIMEOUT:g} s'
    end_all(mark)
    result.took = time.monotonic() - started
    if report.exists():
        result.read(ElementTree.parse(report).getroot())
    elif not result.failed:
        result.failed[names[0]] = f'pytest ended with exit status {process.returncode}'
    return result


def progress(output: str) -> tuple[int, str]:
    """Return how many tests have passed, and the one that was running at the end; '' for none."""
    lines = [line for line in output.splitlines() if line.startswith('tests/') and '::' in line]
    running = lines[-1] if lines and not re.search(r' (PASSED|FAILED|SKIPPED|ERROR|XFAIL)\b', lines[-1]) else ''
    return len(re.findall(r' PASSED +\[', output)), running.partition(' Timeout (')[0].rstrip()


def windows(path: Path) -> str:
    """Name a path as Windows programs see it."""
    return 'Z:' + str(path).replace('/', '\\')


def python_tests() -> list[str]:
    """Return the names of the files that are run, relative to ``tests``."""
    files = sorted((ROOT / 'tests').rglob('test_*.py'))
    names = [file.relative_to(ROOT / 'tests').as_posix() for file in files]
    return [name for name in names if not {name, name.partition('/')[0]} & OMITTED.keys()]


def copy(file: Path, folder: Path) -> None:
    """Copy a file of the repository to its place in another folder."""
    target = folder / file.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, target)


def prepare(wheel: Path, folder: Path) -> list[list[str]]:
    """Unpack the wheel and copy the tests; return the names of the files, by process."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / 'site')
    for file in (ROOT / 'tests').glob('*.py'):
        copy(file, folder)
    files = python_tests()
    for name in files:
        copy(ROOT / 'tests' / name, folder)
    for file_name in ('pyproject.toml', 'README.md'):
        shutil.copy(ROOT / file_name, folder)
    short = [name for name in files if name not in LONG_ONES]
    return [[name] for name in LONG_ONES] + [short[i : i + IN_ONE] for i in range(0, len(short), IN_ONE)]


def run_all(work: Iterable[list[str]], folder: Path, arguments: list[str], at_a_time: int) -> list[Result]:
    """Run processes, so many at a time, and say of each what it came to."""
    waiting: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    results: list[Result] = []
    for names in work:
        waiting.put(names)

    def take() -> None:
        with suppress(queue.Empty):
            while True:
                result = run(waiting.get_nowait(), folder, arguments)
                results.append(result)
                said = f'{result.output}\n' if result.failed or '-s' in arguments else ''
                outcome = (
                    f'{result.counts["passed"]} passed, {result.skipped.total()} skipped, {len(result.failed)} failed'
                )
                print(f'{said}{" ".join(result.names)}: {outcome} in {result.took:.0f} s', flush=True)

    threads = [threading.Thread(target=take) for _ in range(at_a_time)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def main() -> int:
    """Run all files, or those that are named, and print what it all came to."""
    wheel, *arguments = sys.argv[1:]
    chosen = [argument for argument in arguments if '.py' in argument and not argument.startswith('-')]
    arguments = [argument for argument in arguments if argument not in chosen]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='iblbridge windows ') as place:
        folder = Path(place)
        work = prepare(Path(wheel), folder)
        # Each program that the tests start would compile all that it imports.
        compiled = ['-m', 'compileall', '-q', '--invalidation-mode', 'unchecked-hash', windows(folder / 'site')]
        subprocess.run([*PYTHON, *compiled], stdin=subprocess.DEVNULL, timeout=300, check=True)
        results = run_all([[name] for name in chosen] or work, folder, arguments, AT_A_TIME)
        failed = {name: message for result in results for name, message in result.failed.items()}
        again = run_all([[name] for name in failed], folder, arguments, 1)
    still = {name: message for result in again for name, message in result.failed.items()}
    passed = sum(result.counts['passed'] for result in [*results, *again])
    skipped = sum((result.skipped for result in results), Counter[str]())
    times = {name: seconds for result in results for name, seconds in result.times.items()}

    print(f'\nthe longest of {len(times)} tests, which take {sum(times.values()):.0f} s:')
    for name in sorted(times, key=times.__getitem__)[: -LONGEST - 1 : -1]:
        print(f'{times[name]:8.1f} s {name}')
    for name, why in {} if chosen else OMITTED.items():
        print(f'not run: {name}: {why}')
    for reason, number in sorted(skipped.items()):
        print(f'skipped: {number}: {reason}')
    for name in failed.keys() - still.keys():
        print(f'passed when nothing else was running: {name}: at first {failed[name][:200]!r}')
    for name, message in still.items():
        print(f'failed: {name}: {message[:500]!r}')
    seconds = time.monotonic() - started
    print(f'{passed} passed, {skipped.total()} skipped, {len(still)} failed in {seconds:.0f} s')
    return 1 if still or not passed else 0


if __name__ == '__main__':
    sys.exit(main())
