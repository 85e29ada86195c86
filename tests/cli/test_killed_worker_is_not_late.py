"""A worker that is killed with a command: nobody says that the time is up, for it is not."""

from __future__ import annotations

import subprocess
import sys

import pytest
from peers import StockServer, eventually
from processes import kill, serving

from bridge.cli import main
from bridge.errors import error_for
from bridge.native import IBLB
from bridge.segment.client import Client
from bridge.segment.library import error_text

TOOLS = {'iblb': [str(IBLB), 'call'], 'iblbridge': [sys.executable, '-m', 'bridge', 'send']}
INIT = 1
PENDING = -8054


@pytest.mark.parametrize('tool', TOOLS)
def test_a_shell_is_told_that_the_worker_died_and_not_that_the_time_is_up(tool):
    with StockServer({INIT: None}) as server, serving('--service', f'cameras={server.uri}') as worker:
        command = [*TOOLS[tool], 'rig', 'EXPINIT', '--timeout', '60s']
        sender = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        eventually(lambda: any(event == INIT for event, *_ in server.saw), 20)
        kill(worker)
        said = sender.communicate(timeout=30)[1]
    assert sender.returncode == 4
    assert 'The worker died with the command. The answer is lost here: ask EXPSTATUS before you repeat it.' in said
    assert 'time is up' not in said and 'wait for the same request' not in said


@pytest.mark.parametrize('tool', TOOLS)
def test_a_shell_whose_time_is_up_is_told_what_is_so_then(tool):
    with StockServer({INIT: None}) as server, serving('--service', f'cameras={server.uri}'):
        for patience in ('1s', '4s', '16s'):  # a busy machine has not begun within the first
            command = [*TOOLS[tool], 'rig', 'EXPINIT', '--timeout', patience]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            if done.returncode == 4:
                break
    assert done.returncode == 4, done.stderr
    assert 'a worker has accepted the command' in done.stderr and 'died' not in done.stderr
    assert 'ask EXPSTATUS before you repeat it' in done.stderr and 'Wait for this request' not in done.stderr


def test_the_text_of_the_code_is_true_whatever_ended_the_wait():
    assert 'time' not in error_text(PENDING) and 'died' not in error_text(PENDING)


def test_a_reload_whose_worker_died_is_not_said_to_have_waited(serve, monkeypatch, capsys):
    def call(self, *command, **options):
        raise error_for(PENDING, 'The worker died with the command. Start it again.')

    serve('rig')
    monkeypatch.setattr(Client, 'call', call)
    assert main(['reload', 'rig']) == 4
    said = capsys.readouterr().err
    assert said == 'iblbridge reload: The worker died with the command. The log of the worker says what came of it.\n'
