"""What many tests need: a directory of their own for segments, and a rig that is served in a thread."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import systems
from hypothesis import HealthCheck, settings

from bridge.worker import Worker

systems.hear_signals()

# How long an example takes says how busy this machine is, and nothing of what is tested.
ON_ANY_MACHINE = {'deadline': None, 'suppress_health_check': [HealthCheck.too_slow]}
settings.register_profile('on any machine', settings.default, **ON_ANY_MACHINE)
settings.load_profile('on any machine')


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what can not hold on this system, with the reason that its marker gives."""
    for name, here in (('posix', systems.WINDOWS), ('not_wine', systems.WINE)):
        if here and (marker := item.get_closest_marker(name)):
            pytest.skip(f'{name}: {marker.args[0]}')


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many tests were skipped, in one line per reason."""
    reports = terminalreporter.stats.get('skipped', [])
    reasons = Counter(str(report.longrepr[2]).removeprefix('Skipped: ') for report in reports)
    for reason, number in sorted(reasons.items()):
        terminalreporter.write_line(f'skipped {number}: {reason}')


@pytest.fixture(autouse=True)
def segment_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for segments that no other test, and no real worker, uses."""
    monkeypatch.setenv('IBLBRIDGE_DIR', str(tmp_path))
    return tmp_path


@pytest.fixture
def serve() -> Iterator[Callable[..., Worker]]:
    """Return a function that starts a worker in a thread; all are stopped at the end."""
    with contextlib.ExitStack() as stack:

        def start(segment: str = 'rig', services: Mapping[str, str] | Any = (), **options: Any) -> Worker:
            worker = Worker(segment, services, **options)
            thread = threading.Thread(target=worker.run, name='worker', daemon=True)
            thread.start()

            def end() -> None:
                worker.stop()
                thread.join(1.5)
                if thread.is_alive():  # services that never answer
                    worker.stop()
                    thread.join(10)
                assert not thread.is_alive(), 'the worker does not stop'
                worker.close()

            stack.callback(end)
            worker.end_of_test = end  # type: ignore[attr-defined]
            return worker

        yield start


@pytest.fixture
def server() -> Iterator[Any]:
    """One service of plain iblutil."""
    from peers import StockServer  # imports iblutil, which most tests can do without

    with StockServer() as server:
        yield server


@pytest.fixture
def aux(server: Any) -> Iterator[Any]:
    """Auxiliaries of that service, which must end when they are closed."""
    from bridge.auxiliaries import Auxiliaries

    aux = Auxiliaries({'cameras': server.uri})
    yield aux
    aux.close()
    assert not aux._thread.is_alive()
