"""A program that writes random bytes into a live segment, while a real worker and real clients use it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import BridgeError
from bridge.numbers import CODE_NAMES
from bridge.segment.client import Client
from bridge.segment.library import ffi, lib

ROOT = Path(__file__).resolve().parents[2]
SIZES = {'slots': 6, 'command_bytes': 16384, 'response_bytes': 16384, 'event_bytes': 16384, 'incoming_bytes': 16384}
SECONDS = float(os.environ.get('IBLBRIDGE_SCRIBBLE_SECONDS', '2.5'))

WORKER = """
import json, logging, sys
from bridge.worker import Worker
logging.basicConfig(level=logging.WARNING)
worker = Worker('rig', {}, segment_options=json.loads(sys.argv[1]))
print(worker.path, flush=True)
worker.run()
"""


class WorkerProcess:
    """A worker in a process of its own, as on a rig."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, '-c', WORKER, json.dumps(SIZES)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        self.path = self.process.stdout.readline().strip()
        assert self.path, self.process.communicate()[1]

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def end(self) -> str:
        """Kill it if it lives; return what it said."""
        self.process.kill()
        return self.process.communicate()[1]


@pytest.fixture(scope='module')
def scribbler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which('gcc') or shutil.which('clang')
    if not compiler:
        if 'CI' in os.environ:
            pytest.fail('no C compiler')
        pytest.skip('no C compiler')
    program = tmp_path_factory.mktemp('scribbler') / 'scribbler'
    source = Path(__file__).with_name('scribbler.c')
    options = ['-std=c11', '-O1', '-Wall', '-Wextra', '-D_POSIX_C_SOURCE=200809L', '-I', str(ROOT / 'csrc')]
    subprocess.run([compiler, *options, str(source), '-o', str(program)], check=True)
    return program


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    process = WorkerProcess()
    yield process
    process.end()


def start(scribbler: Path, path: str, mode: str, client: str, seed: int, seconds: float) -> subprocess.Popen[str]:
    command = [str(scribbler), path, mode, client, str(seed), str(round(1000 * seconds))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Traffic(threading.Thread):
    """A client that calls as fast as it can and notes what it gets."""

    def __init__(self, name: str, *, reopen: bool = False) -> None:
        super().__init__(name=name, daemon=True)
        self.reopen = reopen
        self.codes: dict[int, int] = {}
        self.longest = 0.0
        self.wrong: list[str] = []
        self._stopping = threading.Event()

    def run(self) -> None:
        """Call until `finish`; a client whose slot is lost opens again if it may."""
        handle, request, capacity = ffi.new('int *'), ffi.new('int *'), 4096
        buffer = ffi.new('char[]', capacity)
        code = lib.iblb_open(b'rig', self.name.encode(), 2000, handle)
        while not self._stopping.is_set():
            self.codes[code] = self.codes.get(code, 0) + 1
            if code < 0 and self.reopen:
                lib.iblb_close(handle[0])
                lib.iblb_open(b'rig', self.name.encode(), 50, handle)
            began = time.monotonic()
            code = lib.iblb_call(handle[0], b'', lib.IBLB_PING, ffi.NULL, 500, buffer, capacity, request)
            self.longest = max(self.longest, time.monotonic() - began)
            text = bytes(ffi.string(buffer))
            if code == 0 and not self.reopen:
                body = json.loads(text)
                if (body['request'], body['message'], body['code']) != (request[0], 'PING', 0):
                    self.wrong.append(text.decode())
        lib.iblb_close(handle[0])

    def finish(self) -> dict[str, int]:
        """Stop and return how often each code came."""
        self._stopping.set()
        self.join(10)
        assert not self.is_alive(), f'{self.name} hangs'
        return {CODE_NAMES.get(code, f'unknown {code}'): count for code, count in self.codes.items()}


@pytest.mark.parametrize('seed', [1, 2])
def test_who_scribbles_in_its_own_slot_harms_itself_alone(seed, scribbler, worker):
    guilty, innocents = Client('rig', 'guilty'), [Traffic(f'innocent-{i}') for i in range(2)]
    for innocent in innocents:
        innocent.start()
    scribbling = start(scribbler, worker.path, 'slot', 'guilty', seed, SECONDS)
    told: set[str] = set()
    while scribbling.poll() is None:
        try:
            guilty.call('PING', timeout=0.2)
        except BridgeError as error:
            told.add(error.name)
        if 'IBLB_E_QUARANTINED' in told or 'IBLB_E_SEGMENT' in told:
            time.sleep(0.05)
    out, err = scribbling.communicate()
    assert int(out) > 100, err
    assert 'IBLB_E_QUARANTINED' in told or 'IBLB_E_SEGMENT' in told
    assert all(name.startswith('IBLB_') for name in told)
    guilty.close()
    assert worker.alive
    for innocent in innocents:
        codes = innocent.finish()
        assert set(codes) == {'IBLB_OK'} and codes['IBLB_OK'] > 100, codes
        assert not innocent.wrong
        assert innocent.longest < 0.5
    # Its slot can be used again: all five that are for everybody, by clients that come now.
    clients, until = [], time.monotonic() + 5
    while len(clients) < SIZES['slots'] - 1:
        assert time.monotonic() < until, 'the slot is lost'
        try:
            clients.append(Client('rig', f'new-{len(clients)}', timeout=0.5))
        except BridgeError as error:
            assert error.name == 'IBLB_E_NO_SLOT', error
    for client in clients:
        assert client.call('PING')['code'] == 0
        client.close()
    assert 'Traceback' not in worker.end()


@pytest.mark.parametrize('seed', [1, 2])
def test_after_scribbling_anywhere_a_new_worker_serves_whoever_comes(seed, scribbler, worker):
    clients = [Traffic(f'client-{i}', reopen=True) for i in range(2)]
    for client in clients:
        client.start()
    scribbling = start(scribbler, worker.path, 'anywhere', '-', seed, SECONDS)
    while scribbling.poll() is None:
        if (
            not worker.alive
        ):  # it may say that the segment is damaged, and end; then another comes, as under a supervisor
            said = worker.end()
            assert worker.process.returncode == 1 and 'bridge.errors.' in said, said
            worker.__init__()
        time.sleep(0.02)
    assert int(scribbling.communicate()[0]) > 100
    for client in clients:
        codes = client.finish()
        assert not [name for name in codes if name.startswith('unknown')], codes
        assert client.longest < 0.5 + 0.1 + 0.5  # the time-out, its bound, and a busy machine
    said = worker.end()
    assert 'Segmentation' not in said and 'Bus error' not in said
    worker.__init__()
    with Client('rig', 'afterwards', timeout=2) as client:
        assert client.call('PING')['code'] == 0
