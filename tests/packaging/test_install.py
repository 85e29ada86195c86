"""The package as it is installed elsewhere: wheel, sdist, and C programs built against them.

Takes half a minute: the library is compiled three times. Nothing is downloaded: the environments that the package is
installed into see this one's packages behind their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('build')
pytest.importorskip('scikit_build_core')

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / 'examples' / 'c'

PING = """
#include <iblbridge.h>
#include <stdio.h>
int main(int count, char **arguments) {
    int handle, request, status = iblb_open(arguments[1], "ping", 10000, &handle);
    char json[4096] = "";
    if (status == 0)
        status = iblb_call(handle, "", IBLB_PING, "", 10000, json, sizeof json, &request);
    puts(json);
    return count == 2 && status == 0 && iblb_close(handle) == 0 ? 0 : 1;
}
"""

PING_CPP = """
#include <iblbridge.hpp>
#include <iostream>
int main(int, char **words) {
    std::cout << iblbridge::Client(words[1], "ping").call(IBLB_PING).message << std::endl;
}
"""

SERVE = """
import signal, sys
from bridge.worker import Worker
worker = Worker(sys.argv[1], {})
signal.signal(signal.SIGTERM, lambda *_: worker.stop())
print('ready', flush=True)
worker.run()
worker.close(remove=True)
"""

# A worker that does as it is told: answers each command with a status of our choice, 0 if it has none.
SCRIPTED = """
import json, sys
import msgpack
from bridge.numbers import MESSAGE_NAMES
from bridge.segment.served import Segment
statuses = json.loads(sys.argv[2])
with Segment(sys.argv[1], slots=2) as segment:
    print('ready', flush=True)
    while True:
        for command in segment.take(1)[1]:
            name = MESSAGE_NAMES[command.message]
            code = statuses.get(name, 0)
            assert segment.accept(command) == 0
            body = {'message': name, 'error': 'ephys is silent' if code else '', 'said': command.arguments}
            assert segment.respond(command, code, msgpack.packb(body))
"""


def run(*command: object, **options: Any) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        **options,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def needs(program: str) -> str:
    if (found := shutil.which(program)) is None:
        if os.environ.get('CI'):
            pytest.fail(f'no {program}, and CI is set')
        pytest.skip(f'no {program}')
    return found


def outside() -> dict[str, str]:
    """An environment in which nothing leads back to the checkout."""
    return {name: value for name, value in os.environ.items() if name not in ('PYTHONPATH', 'VIRTUAL_ENV')}


class Installed:
    """A wheel in a virtual environment of its own."""

    def __init__(self, wheel: Path, place: Path) -> None:
        venv.create(place, with_pip=False, symlinks=True)
        self.place = place
        self.python = place / 'bin' / 'python'
        site = next((place / 'lib').glob('python*')) / 'site-packages'
        run(sys.executable, '-m', 'pip', '--python', self.python, 'install', '--no-deps', '--no-index', '-q', wheel)
        # Behind its own packages, those that the tests run with: as plain directories, so that a .pth file in them
        # (an editable install of this very package) has no effect.
        behind = [path for path in sys.path if path.endswith('site-packages')]
        (site / 'behind.pth').write_text('\n'.join(behind))
        self.prefix = Path(self.says('import bridge.native; print(bridge.native.PREFIX)'))
        assert self.prefix == site / 'bridge' / 'native'

    def says(self, program: str, *arguments: object) -> str:
        return run(self.python, '-c', program, *arguments, env=outside(), cwd=self.place).strip()


@pytest.fixture(scope='module')
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that is built from it: what `python -m build` makes."""
    needs('cc')
    needs('cmake')
    out = tmp_path_factory.mktemp('dist')
    run(sys.executable, '-m', 'build', '--no-isolation', '--skip-dependency-check', '-o', out, ROOT)
    return out


@pytest.fixture(scope='module')
def wheel(distributions: Path) -> Path:
    (found,) = distributions.glob('*.whl')
    return found


@pytest.fixture(scope='module')
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp('installed') / 'venv')


@pytest.fixture(scope='module')
def segments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of client and worker: a directory of segments of their own."""
    return {**outside(), 'IBLBRIDGE_DIR': str(tmp_path_factory.mktemp('segments'))}


@pytest.fixture(scope='module')
def rig(installed: Installed, segments: dict[str, str]) -> Iterator[str]:
    """A segment that is served by a process started from the installation."""
    command = [str(installed.python), '-c', SERVE, 'packaged']
    with subprocess.Popen(command, env=segments, cwd=installed.place, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == 'ready\n'
        yield 'packaged'
        worker.terminate()
        assert worker.wait(30) == 0


def test_the_wheel_is_for_every_python_3_of_this_platform(wheel: Path) -> None:
    name, version, *tag = wheel.stem.split('-')
    assert name == 'iblbridge'
    assert tag[:2] == ['py3', 'none']
    assert 'linux_' in tag[2], tag
    assert version[0].isdigit()


def test_the_wheel_holds_library_headers_build_files_and_tools(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for part in (
        'include/iblbridge.h',
        'include/iblbridge.hpp',
        'include/iblbridge_worker.h',
        'lib/libiblbridge.so',
        'lib/pkgconfig/iblbridge.pc',
        'lib/cmake/iblbridge/iblbridgeConfig.cmake',
        'lib/cmake/iblbridge/iblbridgeConfigVersion.cmake',
        'bin/iblb',
    ):
        assert f'bridge/native/{part}' in names
    for part in ('page.html', 'page.css', 'page.js', 'words.js', 'icon.svg'):
        assert f'bridge/web/static/{part}' in names
    assert {'bridge/worker/worker.py', 'bridge/segment/library.py', 'bridge/services/simulate.py'} <= set(names)
    assert not [name for name in names if name.startswith(('tests/', 'csrc/', 'examples/'))]


def test_the_sdist_holds_sources_tests_and_examples(distributions: Path) -> None:
    (sdist,) = distributions.glob('*.tar.gz')
    with tarfile.open(sdist) as archive:
        names = {name.split('/', 1)[1] for name in archive.getnames() if '/' in name}
    assert {'csrc/CMakeLists.txt', 'csrc/ring.c', 'tests/c/test_ring.c', 'examples/c/experiment.c', 'LICENSE'} <= names
    assert not [name for name in names if name.startswith(('.ci', '.git/')) or name.endswith(('.so', '.o', '.pyc'))]


def checksums(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {file.filename: file.CRC for file in archive.infolist()}


def test_the_sdist_builds_a_wheel_that_installs_and_whose_binaries_are_the_same_again(
    distributions: Path, wheel: Path, tmp_path: Path
) -> None:
    (sdist,) = distributions.glob('*.tar.gz')
    options = ['--no-deps', '--no-build-isolation', '--no-index', '-q', '-w', tmp_path]
    run(sys.executable, '-m', 'pip', 'wheel', *options, sdist)
    (built,) = tmp_path.glob('*.whl')
    again = Installed(built, tmp_path / 'venv')
    assert again.says('from bridge.segment.library import lib; print(lib.iblb_version())').isdigit()
    first, second = (
        {name: sums[name] for name in sums if '/native/' in name} for sums in map(checksums, (wheel, built))
    )
    assert first == second, (
        "the time, or the directory, of a build was in its files: nobody could tell what a kit's are of"
    )


def test_the_library_and_the_headers_are_of_one_version(installed: Installed, wheel: Path) -> None:
    major, minor, patch = map(int, wheel.stem.split('-')[1].split('.'))
    number = installed.says(
        'from bridge.segment.library import lib; assert lib.iblb_version() == lib.IBLB_VERSION; print(lib.IBLB_VERSION)'
    )
    assert int(number) == major * 10000 + minor * 100 + patch


def test_the_commands_run(installed: Installed) -> None:
    codes = run(installed.prefix / 'bin' / 'iblb', 'codes')
    assert '-8037  IBLB_E_FULL             The command ring is full' in codes
    assert 'serve' in run(installed.place / 'bin' / 'iblbridge', '--help', env=outside())


def test_the_tool_pings_a_worker(installed: Installed, segments: dict[str, str], rig: str) -> None:
    assert run(installed.prefix / 'bin' / 'iblb', 'ping', rig, env=segments).endswith('us\n')


@pytest.fixture(params=['pkg-config', 'find_package'])
def build(request: pytest.FixtureRequest, installed: Installed, tmp_path: Path) -> Any:
    """How a C file becomes a program, against the installation and nothing else."""

    def with_pkg_config(source: Path) -> Path:
        environment = {**outside(), 'PKG_CONFIG_PATH': str(installed.prefix / 'lib' / 'pkgconfig')}
        flags = run(needs('pkg-config'), '--cflags', '--libs', 'iblbridge', env=environment).split()
        run('cc', '-Wall', '-Wextra', '-Werror', source, *flags, '-o', tmp_path / source.stem, env=outside())
        return tmp_path / source.stem

    def with_cmake(source: Path) -> Path:
        project, place = tmp_path / 'project', tmp_path / 'build'
        project.mkdir()
        lists = (EXAMPLE / 'CMakeLists.txt').read_text().replace('experiment', source.stem)
        (project / 'CMakeLists.txt').write_text(lists)
        shutil.copy(source, project)
        run(needs('cmake'), '-S', project, '-B', place, f'-DCMAKE_PREFIX_PATH={installed.prefix}', env=outside())
        run('cmake', '--build', place, env=outside())
        return place / source.stem

    return with_pkg_config if request.param == 'pkg-config' else with_cmake


def test_a_c_program_built_against_the_installation_pings_a_worker(
    build: Any, segments: dict[str, str], rig: str, tmp_path: Path
) -> None:
    source = tmp_path / 'ping.c'
    source.write_text(PING)
    assert '"message":"PING"' in run(build(source), rig, env=segments)


def test_a_cpp_program_finds_its_header_in_the_installation(
    installed: Installed, segments: dict[str, str], rig: str, tmp_path: Path
) -> None:
    source = tmp_path / 'ping.cpp'
    source.write_text(PING_CPP)
    (tmp_path / 'CMakeLists.txt').write_text(
        'cmake_minimum_required(VERSION 3.18)\nproject(ping CXX)\nfind_package(iblbridge REQUIRED)\n'
        'add_executable(ping ping.cpp)\ntarget_link_libraries(ping PRIVATE iblbridge::iblbridge)\n'
    )
    place = tmp_path / 'build'
    run(needs('cmake'), '-S', tmp_path, '-B', place, f'-DCMAKE_PREFIX_PATH={installed.prefix}', env=outside())
    run('cmake', '--build', place, env=outside())
    assert run(place / 'ping', rig, env=segments) == 'PING\n'


@pytest.mark.parametrize(
    'statuses, told, exit_status',
    [
        ({}, ['EXPINIT', 'EXPSTART', 'EXPSTATUS', 'EXPINFO', 'EXPEND', 'EXPCLEANUP'], 0),
        ({'EXPINIT': -8070}, ['EXPINIT'], 1),
        ({'EXPSTART': -8074}, ['EXPINIT', 'EXPSTART', 'EXPINTERRUPT'], 1),
        ({'EXPINFO': -8071}, ['EXPINIT', 'EXPSTART', 'EXPSTATUS', 'EXPINFO', 'EXPINTERRUPT'], 1),
        ({'EXPEND': 5002}, ['EXPINIT', 'EXPSTART', 'EXPSTATUS', 'EXPINFO', 'EXPEND', 'EXPCLEANUP'], 0),
    ],
)
def test_the_example_stops_at_the_first_error_and_interrupts_what_was_started(
    installed: Installed,
    segments: dict[str, str],
    tmp_path: Path,
    statuses: dict[str, int],
    told: list[str],
    exit_status: int,
) -> None:
    environment = {**outside(), 'PKG_CONFIG_PATH': str(installed.prefix / 'lib' / 'pkgconfig')}
    flags = run(needs('pkg-config'), '--cflags', '--libs', 'iblbridge', env=environment).split()
    program = tmp_path / 'experiment'
    run('cc', EXAMPLE / 'experiment.c', *flags, '-o', program, env=outside())
    command = [str(installed.python), '-c', SCRIPTED, 'scripted', json.dumps(statuses)]
    with subprocess.Popen(command, env=segments, cwd=installed.place, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == 'ready\n'
        done = subprocess.run(
            [program, 'scripted'], check=False, capture_output=True, text=True, env=segments, timeout=60
        )
        worker.kill()
    lines = done.stdout.splitlines()
    heads = dict(line.split(':', 1) for line in lines if not line.startswith(' '))
    assert (list(heads), done.returncode) == (told, exit_status), done.stdout
    for name, said in heads.items():
        status = statuses.get(name, 0)
        end = f'{"failed" if status < 0 else "warning"} ({status}): ephys is silent' if status else 'done'
        assert said == f' {end}' or name == 'EXPSTATUS', 'EXPSTATUS is given up if it takes more than 100 ms'
    bodies = [json.loads(line) for line in lines if line.startswith(' ')]
    assert [body['message'] for body in bodies] == [name for name in told if heads[name] != ' cancelled']


@pytest.mark.usefixtures('rig')
def test_the_example_says_when_there_is_no_segment(build: Any, segments: dict[str, str]) -> None:
    program = build(EXAMPLE / 'experiment.c')
    done = subprocess.run([program, 'absent'], check=False, capture_output=True, text=True, env=segments, timeout=60)
    assert done.returncode == 1
    assert '(-8010)' in done.stderr
    assert segments['IBLBRIDGE_DIR'] in done.stderr
