"""Fixtures of all languages: their kits, and a rig of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from guides import commands, require, run
from workflows import Operators, compile_operators

from bridge import kit
from bridge.cli.demo.children import Halt, Rig
from bridge.worker import Worker

SEGMENT = 'rig0'  # as in the guides


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is not asked for
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.languages)


@pytest.fixture(scope='session')
def kit_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes a kit as ``iblbridge kit`` does, builds it as its guide says, and returns where.

    Each kit is written and built once.
    """
    built: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in built:
            place = tmp_path_factory.mktemp(f'kit-{name}') / 'kit'
            kit.write(name, place)
            for line in commands(place)[:-1]:
                done = run(line, place, timeout=300)
                assert done.returncode == 0, f'{line}\n{done.stdout}{done.stderr}'
            built[name] = place
        return built[name]

    return make


@pytest.fixture(scope='session')
def csharp_names(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, int], list[str]]:
    """Where the C# client looks: ("beside" or "package", "linux", "osx" or "win", bits) to paths in a folder."""
    require('mcs', 'mono')
    place = tmp_path_factory.mktemp('csharp-names')
    checks = Path(__file__).with_name('csharp') / 'Checks.cs'
    sources = [kit.examples() / 'csharp' / name for name in ('BridgeClient.cs', 'Native.cs')]
    done = run(['mcs', '-out:Checks.exe', checks, checks.with_name('Checking.cs'), *sources], place)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in run(['mono', 'Checks.exe', 'NamesOfTheLibrary'], place).stdout.splitlines()]
    return {(line[0], line[1], int(line[2])): line[3:] for line in lines}


@pytest.fixture
def serve(serve: Callable[..., Worker]) -> Callable[..., Worker]:
    """The same of all tests, but what programs test texts with is sent, though it is no reference."""
    return partial(serve, any_reference=True)


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[Callable[..., Rig]]:
    """Return a function that starts a worker and simulated services, by name with their options, as processes."""
    options = [] if 'example' in request.fixturenames else ['--any-reference']  # the kits' own examples do without
    with ExitStack() as stack:

        def start(**services: Sequence[str]) -> Rig:
            named = {name.replace('__', ':'): ['--verbose', *options] for name, options in services.items()}
            rig = Rig(SEGMENT, named, Halt(), options)
            rig.start()
            stack.callback(rig.end)
            return rig

        yield start


@pytest.fixture(scope='session')
def assemblies(kit_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of Bonsai's operators, compiled, and of the program of the tests."""
    require('mcs', 'mono')
    place = tmp_path_factory.mktemp('Extensions')
    compile_operators(kit_of('bonsai'), place)
    return place


@pytest.fixture
def operators(assemblies: Path, kit_of: Callable[[str], Path]) -> Iterator[Callable[..., Operators]]:
    """Return a function that starts a case of Operators.cs."""
    with ExitStack() as stack:

        def start(*words: str) -> Operators:
            program = Operators(assemblies / 'Operators.exe', kit_of('bonsai'), *words)
            stack.callback(program.process.wait)
            stack.callback(program.process.kill)
            return program

        yield start
