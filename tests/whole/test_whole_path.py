"""The whole path: a compiled C program, the worker as a process, and services of plain iblutil in processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import eventually, free_port
from sources import ROOT
from systems import APART, WINDOWS, ask_to_end, go_on, stop

from bridge.native import IBLB, PREFIX

EXAMPLE = ROOT / 'examples' / 'c' / 'experiment.c'

# What a laboratory would write with iblutil alone.
PLAIN_SERVICE = """
import asyncio, sys
from iblutil.io import net

async def main(port):
    com = await net.app.EchoProtocol.server(f'udp://127.0.0.1:{port}', name='service')
    com.logger.disabled = True
    status = [0]
    ref = [None]
    after = {1: 10, 2: 20, 4: 30, 8: 0, 16: 30}

    def reply(event):
        def callback(data, addr):
            print(event, data, flush=True)
            status[0] = after.get(event, status[0])
            if event == 2:
                ref[0] = data[0]
            answers = {32: [32, status[0]], 64: [64, status[0], {'exp_ref': ref[0], 'main_sync': True}]}
            asyncio.ensure_future(com.confirmed_send(answers.get(event, [event, *data]), addr=addr))
        return callback

    for message in net.base.ExpMessage:
        com.assign_callback(message, reply(int(message)))
    print('ready', flush=True)
    await asyncio.sleep(300)

asyncio.run(main(int(sys.argv[1])))
"""


class Process:
    """A child whose lines are read as they come."""

    def __init__(self, *command: object, ready: str) -> None:
        self.process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True, **APART)
        self.lines: list[str] = []
        while ready not in (line := self._line()):
            assert line, f'{command} ended before it was ready'

    def _line(self) -> str:
        line = self.process.stdout.readline()
        self.lines.append(line.strip())
        return line

    def end(self) -> None:
        ask_to_end(self.process)
        rest, _ = self.process.communicate(timeout=20)
        self.lines += rest.splitlines()


@pytest.fixture(scope='module')
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example program, built from the installed header and library alone."""
    if shutil.which('cc') is None:
        (pytest.fail if 'CI' in os.environ and not WINDOWS else pytest.skip)('there is no C compiler')
    program = tmp_path_factory.mktemp('c') / 'experiment'
    library = ['-L', PREFIX / 'lib', '-liblbridge', f'-Wl,-rpath,{PREFIX / "lib"}']
    subprocess.run(['cc', EXAMPLE, '-I', PREFIX / 'include', *library, '-o', program], check=True)
    return program


@pytest.fixture
def services() -> Iterator[dict[str, Process]]:
    """Two plain services; the key is the URI."""
    started = {}
    try:
        for _ in range(2):
            port = free_port()
            started[f'udp://127.0.0.1:{port}'] = Process(sys.executable, '-c', PLAIN_SERVICE, port, ready='ready')
        yield started
    finally:
        for service in started.values():
            service.process.kill()
            service.process.communicate(timeout=20)


def serve_from_file(directory: Path, text: str) -> Process:
    file = directory / 'remote_devices.yaml'
    file.write_text(text)
    command = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig0', '--services', file, '--timeout', 3]
    return Process(*command, '--no-ask', ready='READY')


def test_a_c_program_runs_an_experiment_on_plain_services(experiment, services, tmp_path):
    cameras, ephys = services
    worker = serve_from_file(tmp_path, f'cameras: {cameras}\nephys: {ephys.removeprefix("udp://")}\n')
    try:
        done = subprocess.run([experiment, 'rig0'], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        bodies = [json.loads(line[line.index('{') :]) for line in done.stdout.splitlines() if '{' in line]
        messages = ['EXPINIT', 'EXPSTART', 'EXPSTATUS', 'EXPINFO', 'EXPEND', 'EXPCLEANUP']
        assert [body['message'] for body in bodies] == messages
        for body in bodies:
            assert body['code'] == 0
            assert [(e['name'], e['ok'], e['state']) for e in body['services']] == [
                ('cameras', True, 'answered'),
                ('ephys', True, 'answered'),
            ]
        assert bodies[2]['services'][0]['data'] == {'status': 20}
        info = {'exp_ref': '2026-01-01_1_subject', 'main_sync': True}
        assert bodies[3]['services'][1]['data'] == {'status': 20, 'info': info}
    finally:
        worker.end()
    for service in services.values():
        service.end()
        numbers = [int(line.split()[0]) for line in service.lines if line and line[0].isdigit()]
        assert numbers == [1, 2, 32, 64, 4, 8], 'each command was carried out exactly once'


def test_the_shell_client_tells_success_and_failure_by_its_exit_status(services, tmp_path):
    cameras, ephys = services
    worker = serve_from_file(tmp_path, f'cameras: {cameras}\nephys: {ephys}\n')

    def iblb(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([IBLB, *words], capture_output=True, text=True, check=False, timeout=30)

    try:
        fine = iblb('call', 'rig0', 'EXPSTART', '["2026-01-01_1_subject"]')
        assert (fine.returncode, fine.stderr, json.loads(fine.stdout)['code']) == (0, '', 0)
        assert iblb('ping', 'rig0').stdout.endswith('us\n')
        assert iblb('state', 'rig0').stdout == 'worker alive, 2 services: 0 down, 2 up\n'
        assert iblb('notify', 'rig0', 'EXPEND').returncode == 0
        services[ephys].process.kill()
        services[ephys].process.wait(10)
        failed = iblb('call', 'rig0', 'EXPSTATUS')
        assert failed.returncode == 1 and 'ephys' in failed.stderr
        assert [entry['ok'] for entry in json.loads(failed.stdout)['services']] == [True, False]
        for words in (
            ['call', 'rig0'],
            ['call', 'rig0', 'EXPSTART'],
            ['call', 'rig0', 'FOO'],
            ['call', 'rig0', 'EXPINIT', '{'],
        ):
            wrong = iblb(*words)
            assert wrong.returncode == 2 and wrong.stderr, words
        for verb in ('call', 'notify'):  # whose shell has taken the quotation marks away sees it
            assert iblb(verb, 'rig0', 'EXPSTART', '[2026-01-01_1_x]').stderr.endswith(': [2026-01-01_1_x]\n')
        missing = iblb('call', 'rig9', 'EXPINIT', '--open', '0')
        assert missing.returncode == 3 and str(tmp_path / 'rig9') in missing.stderr
    finally:
        worker.end()
    assert worker.process.returncode == 0
    late = iblb('call', 'rig0', 'EXPINIT', '--open', '0', '--timeout', '500')
    assert late.returncode == 3 and 'withdrawn' in late.stderr


def test_a_second_serve_is_refused_and_names_the_first(tmp_path):
    worker = serve_from_file(tmp_path, '{}\n')
    try:
        stop(worker.process)
        command = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig0']
        second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert second.returncode == 3 and f'process {worker.process.pid}' in second.stderr
    finally:
        go_on(worker.process)
        worker.end()


def test_what_was_queued_before_a_worker_came_is_carried_out(services, tmp_path):
    cameras, _ = services
    first = serve_from_file(tmp_path, f'cameras: {cameras}\n')
    first.end()
    call = subprocess.Popen([IBLB, 'notify', 'rig0', 'EXPINIT', '--open', '0'], stderr=subprocess.PIPE, text=True)
    assert 'waits for one' in call.communicate(timeout=20)[1]
    assert call.returncode == 0
    second = serve_from_file(tmp_path, f'cameras: {cameras}\n')
    try:
        assert eventually(lambda: services[cameras]._line().startswith('1 '))
    finally:
        second.end()
