"""The service that examples/README.md shows is served by our worker, and comes back when iblutil has closed it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from manuals import ROOT, blocks, text
from peers import eventually, free_port

from bridge.errors import BridgeError
from bridge.segment.client import Client

PROGRAM = ROOT / 'examples' / 'service' / 'lamp.py'
REFERENCE = '2026-01-01_1_subject'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What iblutil prints in the lamp."""
    return tmp_path / 'lamp.log'


@pytest.fixture
def port(log: Path) -> Iterator[int]:
    """The port of the lamp, in a process of its own."""
    number = free_port()
    with log.open('wb') as out:
        lamp = subprocess.Popen([sys.executable, '-u', PROGRAM, f'127.0.0.1:{number}'], stdout=out)
    yield number
    lamp.kill()
    lamp.wait()


def answered(client: Client) -> bool:
    """Tell whether the lamp answers."""
    try:
        return client.call('EXPSTATUS')['code'] == 0
    except BridgeError:
        return False


def test_the_manual_shows_the_program():
    assert PROGRAM.read_text(encoding='utf-8') in blocks(text('examples/README.md'), 'python')


def test_the_lamp_goes_through_an_experiment(serve, port):
    serve('rig', {'lamp': f'127.0.0.1:{port}'})
    with Client('rig') as client:
        eventually(lambda: answered(client), 20)
        said = [client.call(*command)['services'][0] for command in (
            ('EXPINIT',), ('EXPSTART', REFERENCE), ('EXPINFO',), ('EXPEND',), ('EXPSTATUS',), ('EXPCLEANUP',)
        )]  # fmt: skip
        assert [entry['status'] for entry in said] == [10, 20, 20, 30, 30, 0]
        assert said[2]['data']['info']['exp_ref'] == REFERENCE and said[2]['data']['info']['on'] is True
        assert said[3]['data']['value']['exp_ref'] == REFERENCE, 'its end does not end what belongs to it'
        assert said[5]['data']['value']['exp_ref'] is None, 'EXPCLEANUP: it forgets the experiment'
        assert client.call('EXPINTERRUPT')['services'][0]['status'] == 30


def test_the_lamp_comes_back_after_a_reply_that_nobody_confirmed(serve, port, log):
    serve('rig', {'lamp': f'127.0.0.1:{port}'})
    with Client('rig') as client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rude:
        eventually(lambda: answered(client), 20)
        rude.settimeout(5)
        rude.connect(('127.0.0.1', port))
        rude.send(json.dumps([32, 0]).encode())
        assert rude.recv(100) and rude.recv(100)  # echo and reply: the lamp waits for a confirmation in vain
        eventually(lambda: log.read_bytes().count(b'Listening on') == 2, 10)
        eventually(lambda: answered(client), 20)
