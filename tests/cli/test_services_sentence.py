"""How the services do, in the same words from every tool."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import StockServer, eventually, free_port
from processes import SEGMENT, kill, program

from bridge.cli import main, top
from bridge.cli.send import show
from bridge.errors import ServiceFailure
from bridge.native import PREFIX
from bridge.segment import inspection
from bridge.segment.client import Client
from bridge.segment.words import HEARD_WITHIN, services_sentence

IBLB = PREFIX / 'bin' / 'iblb'


@given(st.lists(st.tuples(st.booleans(), st.none() | st.floats(0, 1e6)), max_size=9))
def test_every_service_is_counted_once_whatever_is_known_of_it(services):
    said = services_sentence(services)
    if not services:
        assert said == 'no services'
        return
    total, parts = said.split(': ')
    assert int(total.split()[0]) == len(services) == sum(int(part.split()[0]) for part in parts.split(', '))
    assert parts.startswith(f'{sum(down for down, _ in services)} down')


def said_by_all(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return what each tool says about the services of the segment "rig"."""
    capsys.readouterr()
    main(['doctor'])
    doctor = capsys.readouterr().out
    main(['send', 'rig', 'SERVICES'])
    send = capsys.readouterr().out.splitlines()[-1]
    state = subprocess.run([IBLB, 'state', 'rig'], capture_output=True, text=True, check=True, timeout=30).stdout
    return {'doctor': doctor, 'send': send, 'state': state}


def test_all_tools_say_the_same_of_one_that_is_up_and_one_that_is_down(serve, capsys):
    with StockServer() as server:
        serve('rig', {'cameras': server.uri, 'ephys': f'udp://127.0.0.1:{free_port()}'})
        with Client('rig') as client:
            before = said_by_all(capsys)
            with pytest.raises(ServiceFailure):
                client.call('EXPSTATUS')
            after = said_by_all(capsys)
    assert {name: '2 services: 0 down, 2 never heard' in said for name, said in before.items()} == dict.fromkeys(
        before, True
    )
    assert {name: '2 services: 1 down, 1 up' in said for name, said in after.items()} == dict.fromkeys(after, True)


@pytest.fixture
def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the clock of the worker and of those who look at its segment be 38 s ahead."""

    def ahead() -> None:
        real, clock = time.perf_counter_ns, inspection._clock_ns
        monkeypatch.setattr('bridge.worker.worker.time.perf_counter_ns', lambda: real() + 38_000_000_000)
        monkeypatch.setattr(inspection, '_clock_ns', lambda: clock() + 38e9)

    return ahead


def test_an_idle_rig_is_well_in_the_words_of_all_tools(serve, capsys, an_hour_later):
    """It said "2 services, 0 up", and at the same time "all is well"."""
    with StockServer() as one, StockServer() as two:
        serve('rig', {'cameras': one.uri, 'ephys': two.uri})
        with Client('rig') as client:
            client.call('EXPSTATUS')
            an_hour_later()
            said = said_by_all(capsys)
            assert main(['doctor']) == 0 and 'all is well' in capsys.readouterr().out
    for words in said.values():
        assert '2 services: 0 down, 2 not heard for 3' in words and HEARD_WITHIN < 38  # noqa: PLR2004


def test_what_is_down_is_named_by_doctor_and_a_rig_that_was_stopped_in_order_is_no_fault(serve, capsys):
    worker = serve('rig', {'cameras': f'udp://127.0.0.1:{free_port()}'})
    with Client('rig', 'bonsai') as client:
        with pytest.raises(ServiceFailure):
            client.call('EXPSTATUS')
        assert main(['doctor', '--json']) == 1
        (report,) = json.loads(capsys.readouterr().out)['segments']
        assert len(report['findings']) == 1 and report['findings'][0].startswith(
            'Service cameras is down (never heard).'
        )
        worker.end_of_test()
        assert main(['doctor']) == 0, 'also while a program is still there'
        shown = capsys.readouterr().out
        assert 'stopped in order' in shown and 'all is well' in shown
        client.send('EXPSTATUS', ttl=None)
        assert main(['doctor']) == 1
        assert '1 command of 1 program without an answer. Start the worker' in capsys.readouterr().out
    eventually(lambda: main(['doctor']) == 1)


def said_of_the_worker(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return what each tool says about the worker of the segment "rig", which has ended."""
    found = {}
    for tool in ('doctor', 'top'):
        status = main([tool] if tool == 'doctor' else [tool, 'rig'])
        assert tool == 'doctor' or status == 3, 'as iblb state and send'
        found[tool] = capsys.readouterr().out
    done = subprocess.run([IBLB, 'state', 'rig'], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (3, ''), 'a script took a rig that nobody serves for one that is'
    found['state'] = done.stdout
    matches = {tool: re.search('worker (gone|stopped in order)', said) for tool, said in found.items()}
    return {tool: match[0] if match else found[tool] for tool, match in matches.items()}


def test_a_worker_that_stopped_in_order_did_so_in_the_words_of_all_tools(serve, capsys):
    """`iblb state` said that it was gone, and `top` that its services were up."""
    with StockServer() as server:
        worker = serve('rig', {'cameras': server.uri})
        with Client('rig') as client:
            client.call('EXPSTATUS')
            worker.end_of_test()
            assert said_of_the_worker(capsys) == dict.fromkeys(('doctor', 'top', 'state'), 'worker stopped in order')


def test_a_worker_that_was_killed_is_gone_in_the_words_of_all_tools(capsys):
    with program(SEGMENT, 'rig') as worker:
        kill(worker)
        assert said_of_the_worker(capsys) == dict.fromkeys(('doctor', 'top', 'state'), 'worker gone')


@pytest.mark.parametrize(('services', 'said'), [(['a'], '1 service'), (['a', 'b'], '2 services')])
def test_a_worker_that_does_not_answer_is_said_to_be_alive_and_no_script_takes_it_for_well(
    services, said, capsys, monkeypatch
):
    monkeypatch.setattr(top, 'PATIENCE_ONCE', 0.1)
    from bridge.segment.served import Segment

    with Segment('rig') as segment:
        segment.publish_services(services)
        done = subprocess.run([IBLB, 'state', 'rig', '--timeout', '100'], capture_output=True, text=True, check=False)
        assert main(['top', 'rig']) == 1
    assert 'served by process' in capsys.readouterr().out
    assert done.stdout == f'worker alive, {said}: it does not answer\n' and done.returncode == 1


def test_services_that_run_fit_into_a_terminal_of_80_columns(monkeypatch, capsys):
    """The address and the reference of the experiment were folded, a letter or two below."""
    monkeypatch.setenv('COLUMNS', '80')
    known = {'uri': 'udp://192.168.0.18:11001', 'health': 'up', 'age_ms': 200, 'status': 20}
    known |= {'exp_ref': '2026-01-01_1_subject', 'last_error': ''}
    services = [{'name': name, 'data': {'name': name, **known}} for name in ('cameras', 'ephys')]
    show({'message': 'SERVICES', 'code': 0, 'services': services}, as_json=False)
    said = capsys.readouterr().out
    assert said.count(' 192.168.0.18:11001 ') == said.count(' 2026-01-01_1_subject') == 2, said
    assert max(map(len, said.splitlines())) <= 80
