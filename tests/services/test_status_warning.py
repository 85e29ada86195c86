"""A service that answers, and reports a status that contradicts the command: a warning, everywhere the same."""

from __future__ import annotations

import json
import logging
import subprocess
from typing import Any

import pytest
from iblutil.io import net
from peers import NOBODY, NobodyThere, StockServer, aux_of, free_port
from sessions import Session

import bridge
from bridge.cli import main
from bridge.config import ServiceConfig
from bridge.errors import ServiceFailure
from bridge.native import IBLB
from bridge.numbers import CODES

REF = '2026-01-01_1_subject'
WARNING = 5005
CONNECTED, INITIALIZED, RUNNING, STOPPED = (
    int(net.base.ExpStatus[name]) for name in ('CONNECTED', 'INITIALIZED', 'RUNNING', 'STOPPED')
)
NUMBERS = {message.name: int(message) for message in net.base.ExpMessage}
ARGS: dict[str, tuple[Any, ...]] = {'EXPSTART': (REF,)}


def reports(status: int, message: str = 'EXPEND') -> StockServer:
    """A service that answers one message with a status, as iblrig's camera does."""
    return StockServer({NUMBERS[message]: reply(message, status)})


def reply(message: str, status: int) -> list[Any]:
    return [*ARGS.get(message, ()), {'status': status, 'exp_ref': REF}]


CONTRADICTIONS = [
    ('EXPINIT', CONNECTED),
    ('EXPINIT', RUNNING),
    ('EXPINIT', STOPPED),
    ('EXPSTART', CONNECTED),
    ('EXPSTART', INITIALIZED),
    ('EXPSTART', STOPPED),
    ('EXPEND', RUNNING),
    ('EXPINTERRUPT', RUNNING),
    ('EXPCLEANUP', RUNNING),
]
FINE = [
    ('EXPINIT', INITIALIZED),
    ('EXPSTART', RUNNING),
    ('EXPEND', STOPPED),
    ('EXPINTERRUPT', STOPPED),
    ('EXPCLEANUP', STOPPED),
    ('EXPCLEANUP', CONNECTED),
]


def test_the_warning_has_its_number() -> None:
    assert CODES['IBLB_W_STATUS'] == WARNING


@pytest.mark.parametrize(('message', 'status'), CONTRADICTIONS)
def test_a_status_that_contradicts_is_a_warning_and_no_ok(serve, message, status) -> None:
    with reports(status, message) as server:
        serve('rig', {'cameras': server.uri})
        with bridge.Client('rig') as client:
            body = client.call(message, *ARGS.get(message, ()))
    assert body['code'] == WARNING
    assert 'cameras' in body['error'] and str(status) in body['error']
    (entry,) = body['services']
    assert (entry['ok'], entry['state'], entry['reason'], entry['status']) == (False, 'answered', 'status', status)
    assert str(status) in entry['error']
    replied = reply(message, status)
    assert entry['data'] == {'value': replied if len(replied) > 1 else replied[0]}, 'and what it said is there'


@pytest.mark.parametrize(('message', 'status'), FINE)
def test_a_status_that_fits_is_ok(serve, message, status) -> None:
    with reports(status, message) as server:
        serve('rig', {'cameras': server.uri})
        with bridge.Client('rig') as client:
            body = client.call(message, *ARGS.get(message, ()))
    (entry,) = body['services']
    assert (body['code'], entry['ok'], entry['reason'], entry['status']) == (0, True, '', status)


@pytest.mark.parametrize('answer', [[None], [{}], [{'status': None}], [{'status': 'RUNNING'}], [{'status': 21}], ['x']])
def test_a_reply_without_a_status_contradicts_nothing(serve, answer) -> None:
    with StockServer({4: answer}) as server:
        serve('rig', {'cameras': server.uri})
        with bridge.Client('rig') as client:
            body = client.call('EXPEND')
    (entry,) = body['services']
    assert (body['code'], entry['ok'], entry['reason'], entry['status']) == (0, True, '', -1)


@pytest.mark.parametrize('status', [CONNECTED, INITIALIZED, RUNNING, STOPPED])
def test_to_be_asked_for_a_status_is_contradicted_by_none(serve, status) -> None:
    with StockServer({32: [status], 64: [status, {}]}) as server:
        serve('rig', {'cameras': server.uri})
        with bridge.Client('rig') as client:
            for message, args in (('EXPSTATUS', (0,)), ('EXPINFO', ('CONNECTED', {}))):
                body = client.call(message, *args)
                assert (body['code'], body['services'][0]['status']) == (0, status)


def test_a_camera_that_says_its_status_in_front_of_its_map_is_understood(serve) -> None:
    with StockServer({1: [RUNNING, {'exp_ref': REF}]}) as server:
        serve('rig', {'cameras': server.uri})
        with bridge.Client('rig') as client:
            body = client.call('EXPINIT', {'exp_ref': REF})
    assert (body['code'], body['services'][0]['status']) == (WARNING, RUNNING)


def test_a_camera_session_that_only_its_operator_stops_is_told_as_running(serve) -> None:
    with Session('one-loop', '--camera-status') as session:
        serve('rig', {'cameras': session.uri})
        with bridge.Client('rig') as client:
            assert client.call('EXPINIT', {'exp_ref': REF})['code'] == 0
            assert client.call('EXPSTART', REF)['code'] == 0
            for message in ('EXPEND', 'EXPINTERRUPT', 'EXPCLEANUP'):
                body = client.call(message)
                assert (body['code'], body['services'][0]['status']) == (WARNING, RUNNING), message
            assert session.connected


# Beside other services


def test_with_another_service_failing_it_is_a_failure_of_one(serve) -> None:
    with reports(RUNNING) as cameras:
        serve('rig', {'cameras': cameras.uri, 'ephys': f'udp://127.0.0.1:{free_port()}'})
        with bridge.Client('rig') as client, pytest.raises(ServiceFailure) as failure:
            client.call('EXPEND')
    assert failure.value.name == 'IBLB_E_PARTIAL'
    first, second = failure.value.response['services']
    assert (first['reason'], first['status'], second['reason'], second['status']) == ('status', RUNNING, NOBODY, -1)
    assert 'cameras' in failure.value.response['error'] and 'ephys' in failure.value.response['error']


def test_with_another_service_fine_it_is_the_warning(serve) -> None:
    with reports(RUNNING) as cameras, reports(STOPPED) as ephys:
        serve('rig', {'cameras': cameras.uri, 'ephys': ephys.uri})
        with bridge.Client('rig') as client:
            body = client.call('EXPEND')
    assert body['code'] == WARNING and 'cameras' in body['error'] and 'ephys' not in body['error']
    assert [(entry['ok'], entry['status']) for entry in body['services']] == [(False, RUNNING), (True, STOPPED)]


def test_with_an_optional_service_failing_the_warning_is_that_of_the_status(serve) -> None:
    with reports(RUNNING) as cameras:
        lamp = ServiceConfig('lamp', f'udp://127.0.0.1:{free_port()}', optional=True)
        serve('rig', [ServiceConfig('cameras', cameras.uri), lamp])
        with bridge.Client('rig') as client:
            body = client.call('EXPEND')
    assert body['code'] == WARNING and 'cameras' in body['error'] and 'lamp' in body['error']


# Health


def test_the_health_of_a_service_follows_what_it_reports(serve) -> None:
    with StockServer({1: [{'status': INITIALIZED}], 2: [REF, {'status': RUNNING}], 4: [{'status': RUNNING}]}) as server:
        serve('rig', {'cameras': server.uri})
        with bridge.Client('rig') as client:
            told = []
            for message in ('', 'EXPINIT', 'EXPSTART', 'EXPEND'):
                if message:
                    client.call(message, *ARGS.get(message, ()))
                (entry,) = client.call('SERVICES')['services']
                assert entry['ok'] and entry['status'] == entry['data']['status']
                told.append(entry['status'])
            assert told == [-1, INITIALIZED, RUNNING, RUNNING]
            assert entry['data']['health'] == 'up', 'it did answer'


# Other ways to the same


def test_the_shell_client_exits_with_0_and_prints_the_warning(serve) -> None:
    with reports(RUNNING) as server:
        serve('rig', {'cameras': server.uri})
        command = [IBLB, 'call', 'rig', 'EXPEND']
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert body['code'] == WARNING and body['services'][0]['reason'] == 'status'
    assert str(RUNNING) in done.stderr, 'whoever looks at the screen is told, too'


def test_send_names_the_code_of_a_warning_as_of_an_error(serve, capsys) -> None:
    with reports(RUNNING) as server:
        serve('rig', {'cameras': server.uri})
        assert main(['send', 'rig', 'EXPEND']) == 0
    said = capsys.readouterr().err
    assert said.startswith('iblbridge send: IBLB_W_STATUS: ') and 'cameras' in said


def test_push_returns_the_replies_all_the_same_and_logs_a_warning(caplog) -> None:
    with reports(RUNNING) as cameras, reports(STOPPED) as ephys, aux_of(cameras=cameras.uri, ephys=ephys.uri) as aux:
        assert aux.push('EXPEND', wait=True) == {
            'cameras': reply('EXPEND', RUNNING),
            'ephys': reply('EXPEND', STOPPED),
        }
    assert_warned(caplog)


def test_a_push_that_nobody_waits_for_logs_a_warning(caplog) -> None:
    with reports(RUNNING) as cameras, aux_of(cameras=cameras.uri) as aux:
        key = aux.push('EXPEND')
        with aux.response_received:
            assert aux.response_received.wait_for(lambda: key in aux._log, 5)
        assert aux._log[key] == {'cameras': reply('EXPEND', RUNNING)}
    assert_warned(caplog)


def test_push_through_a_segment_returns_the_replies_all_the_same_and_logs_a_warning(serve, caplog) -> None:
    with reports(RUNNING) as cameras, reports(STOPPED) as ephys:
        serve('rig', {'cameras': cameras.uri, 'ephys': ephys.uri})
        aux = bridge.Auxiliaries.from_segment('rig')
        try:
            assert aux.push('EXPEND', wait=True) == {
                'cameras': reply('EXPEND', RUNNING),
                'ephys': reply('EXPEND', STOPPED),
            }
        finally:
            aux.close()
    assert_warned(caplog, 'bridge.auxiliaries')


def test_submit_says_which_status_it_is_through_a_segment_as_without(serve) -> None:
    with reports(RUNNING) as server, aux_of(cameras=server.uri) as direct:
        near = direct.submit('EXPEND').result(5)['cameras']
    with reports(RUNNING) as server:
        serve('rig', {'cameras': server.uri})
        remote = bridge.Auxiliaries.from_segment('rig')
        try:
            far = remote.submit('EXPEND').result(5)['cameras']
        finally:
            remote.close()
    for outcome in (near, far):
        assert (outcome.ok, outcome.state, outcome.reason, outcome.status) == (False, 'answered', 'status', RUNNING)
        assert outcome.reply == reply('EXPEND', RUNNING) and str(RUNNING) in outcome.error


def test_a_failure_of_another_service_is_what_push_returns(serve) -> None:
    with reports(RUNNING) as cameras, aux_of(cameras=cameras.uri, ephys=f'udp://127.0.0.1:{free_port()}') as aux:
        result = aux.push('EXPEND', wait=True)
    assert isinstance(result, NobodyThere) and 'ephys' in str(result) and 'cameras' not in str(result)


def assert_warned(caplog: pytest.LogCaptureFixture, logger: str = '') -> None:
    lines = [record for record in caplog.records if not logger or record.name == logger]
    (line,) = [record for record in lines if record.levelno >= logging.WARNING]
    assert line.levelno == logging.WARNING
    assert 'EXPEND' in line.getMessage() and 'cameras' in line.getMessage() and str(RUNNING) in line.getMessage()
