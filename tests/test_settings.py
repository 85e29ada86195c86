"""Settings in a file of their own, beside the plain ``remote_devices.yaml`` that iblrig reads and rewrites."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from peers import ScriptedPeer, echo_and_reply, eventually, only_echo
from systems import APART, ask_to_end

from bridge.config import ClientLost, ConfigError, RigConfig, ServiceConfig, check_order, load_rig, load_settings
from bridge.errors import BridgeError
from bridge.numbers import CODES
from bridge.segment.client import Client

PLAIN = 'cameras: udp://192.168.0.8:11001\nephys: udp://192.168.0.9:11002\nlamp: udp://192.168.0.11:11001\n'

Load = Callable[..., RigConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a function that loads settings for some services."""

    def load(settings: str | bytes, services: str = PLAIN) -> RigConfig:
        (tmp_path / 'remote_devices.yaml').write_text(services)
        (tmp_path / 'rig.yaml').write_bytes(settings if isinstance(settings, bytes) else settings.encode())
        return load_settings(tmp_path / 'rig.yaml', load_rig(tmp_path / 'remote_devices.yaml'))

    return load


def test_settings_are_those_of_the_services_of_the_other_file(load) -> None:
    rig = load(
        'ephys: {after: [cameras], timeout: 30}\nlamp: {optional: true, max_message_size: 4096, reply_gap: 0.005}\n'
    )
    assert list(rig.services) == ['cameras', 'ephys', 'lamp']
    assert rig.services['cameras'] == ServiceConfig('cameras', 'udp://192.168.0.8:11001')
    ephys = ServiceConfig('ephys', 'udp://192.168.0.9:11002', after=('cameras',), timeout=30.0)
    assert rig.services['ephys'] == ephys
    lamp = ServiceConfig('lamp', 'udp://192.168.0.11:11001', optional=True, max_message_size=4096, reply_gap=0.005)
    assert rig.services['lamp'] == lamp
    check_order(rig.services)


def test_one_service_may_be_named_without_a_list(load) -> None:
    assert load('ephys: {after: cameras}\n').services['ephys'].after == ('cameras',)


@pytest.mark.parametrize('text', ['', '{}', '# none yet\n', 'cameras: {}\n'])
def test_a_file_without_settings_changes_nothing(load, text) -> None:
    assert load(text) == load('')
    assert load(text).services['cameras'] == ServiceConfig('cameras', 'udp://192.168.0.8:11001')


def test_settings_of_both_files_count_and_those_of_the_settings_file_more(load) -> None:
    services = 'cameras: {uri: 192.168.0.8, timeout: 30, echo_timeout: 2}\n'
    cameras = load('cameras: {timeout: 5, optional: true}\n', services).services['cameras']
    assert (cameras.timeout, cameras.echo_timeout, cameras.optional) == (5.0, 2.0, True)


def test_settings_of_the_rig_stand_there_too(load) -> None:
    rig = load('_rig: {heartbeat: 10, on_client_lost: {client: stimulus, send: EXPEND, after_s: 60}}\n')
    assert rig.heartbeat == 10.0
    assert rig.on_client_lost == (ClientLost('stimulus', 'EXPEND', 60.0),)
    assert list(rig.services) == ['cameras', 'ephys', 'lamp']


def test_settings_of_the_rig_that_are_not_named_stay_as_they_were(load) -> None:
    services = PLAIN + '_rig: {heartbeat: 10, on_client_lost: {client: a, send: EXPEND}}\n'
    assert load('_rig: {heartbeat: 5}\n', services).on_client_lost == (ClientLost('a', 'EXPEND'),)
    assert load('_rig: {on_client_lost: [{client: b}]}\n', services).heartbeat == 10.0
    assert load('lamp: {optional: true}\n', services).heartbeat == 10.0


def test_settings_of_the_rig_can_be_taken_back(load) -> None:
    services = PLAIN + '_rig: {heartbeat: 10, on_client_lost: {client: a, send: EXPEND}}\n'
    assert load('_rig: {heartbeat: 0}\n', services).heartbeat == 0.0
    assert load('_rig: {on_client_lost: []}\n', services).on_client_lost == ()


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('camras: {timeout: 30}\n', ['camras', 'there is no service', 'did you mean cameras?', 'cameras, ephys, lamp']),
        ('on: {timeout: 30}\n', ['the name on', 'quotes']),
        ('cameras: {timout: 30}\n', ['cameras', "'timout'", 'optional, timeout', 'max_message_size']),
        ('cameras: {uri: 192.168.0.8}\n', ['cameras', "'uri'"]),
        ('cameras: 192.168.0.8\n', ['cameras', 'text', 'mapping']),
        ('cameras:\n', ['cameras', 'nothing', 'mapping']),
        ('cameras: [timeout]\n', ['cameras', 'a list', 'mapping']),
        ('cameras: {timeout: soon}\n', ['cameras', 'timeout', 'text', 'seconds']),
        ('cameras: {optional: 1}\n', ['cameras', 'optional', 'true or false']),
        ('cameras: {repeat: [EXPBAR]}\n', ['cameras', 'repeat', 'EXPBAR']),
        ('cameras: {max_message_size: 4}\n', ['cameras', 'max_message_size', '64']),
        ('cameras: {max_message_size: true}\n', ['cameras', 'max_message_size', '64']),
        ('cameras: {after: 5}\n', ['cameras', 'after']),
        ('cameras: {after: [_rig]}\n', ['cameras', 'after', '_rig']),
        ('cameras: {timeout: 1}\ncameras: {timeout: 2}\n', ['cameras', 'twice', 'line 2']),
        ('_rig: {timeout: 30}\n', ['_rig', "'timeout'", 'heartbeat']),
        ('_rig: {heartbeat: -1}\n', ['_rig', 'heartbeat', '-1']),
        ('_rig: 5\n', ['_rig', 'a number', 'mapping']),
        ('_Rig: {heartbeat: 5}\n', ['_Rig', 'did you mean _rig?']),
        ('cameras: {after: }\n', ['cameras', 'nothing stands where a name should']),
        ('- cameras\n', ['a list', 'mapping']),
        ('cameras: {\n', ['YAML']),
        (b'cameras: \xff\n', ['UTF-8']),
    ],
)
def test_what_can_not_be_used_is_refused_with_a_sentence(load, text, says) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    sentence = str(caught.value)
    assert 'rig.yaml' in sentence and '\n' not in sentence and sentence.endswith('.')
    for word in says:
        assert word in sentence


@pytest.mark.parametrize('text', ['- cameras\n', 'cameras: {\n', 'cameras: 192.168.0.8\n', 'cameras: {uri: a}\n'])
def test_a_refusal_does_not_advise_to_write_addresses_where_there_must_be_none(load, text) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    advice = str(caught.value).partition(';')[2]
    assert 'address' not in advice and 'uri' not in advice


def test_a_file_that_is_not_there_is_refused_with_a_sentence(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r'rig\.yaml: .*; .*timeout'):
        load_settings(tmp_path / 'rig.yaml', RigConfig())


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('cameras: {after: [ephys]}\nephys: {after: [cameras]}\n', ['cameras', 'ephys', 'each other']),
        ('cameras: {after: [lamp]}\nephys: {after: [cameras]}\nlamp: {after: [ephys]}\n', ['cameras', 'ephys', 'lamp']),
        ('cameras: {after: [cameras]}\n', ['cameras']),
        ('cameras: {after: [ephy]}\n', ['cameras', 'there is no service', 'did you mean ephys?']),
        ('cameras: {after: [mesoscope]}\n', ['cameras', 'mesoscope', 'there is no service']),
    ],
)
def test_an_order_that_can_not_be_kept_is_refused_with_a_sentence(load, text, says) -> None:
    with pytest.raises(ConfigError) as caught:
        check_order(load(text).services, 'rig.yaml')
    sentence = str(caught.value)
    assert sentence.startswith('rig.yaml: ') and sentence.endswith(('.', '?')) and '\n' not in sentence
    for word in says:
        assert word in sentence


def test_an_order_of_many_is_kept(load) -> None:
    check_order(load('lamp: {after: [cameras, ephys]}\nephys: {after: cameras}\n').services)


# iblbridge serve --settings


def command(*arguments: object) -> list[str]:
    return [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig0', *map(str, arguments)]


@contextmanager
def served(*arguments: object) -> Iterator[Client]:
    """Run the worker in a process of its own, which ends well."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command(*arguments), stdout=pipe, stderr=pipe, text=True, **APART)
    try:
        said = process.stdout.readline()
        assert said.startswith('READY rig0'), process.stderr.read()
        with Client('rig0', timeout=5) as client:
            yield client
        ask_to_end(process)
        _, log = process.communicate(timeout=20)
        assert process.returncode == 0, log
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[object]]:
    """Return a function that writes both files and returns the options that name them."""

    def write(services: str, settings: str) -> list[object]:
        devices, own = tmp_path / 'remote_devices.yaml', tmp_path / 'rig0.yaml'
        devices.write_text(services)
        own.write_text(settings)
        return ['--services', devices, '--settings', own]

    return write


@pytest.mark.parametrize(
    ('settings', 'says'),
    [
        ('camras: {timeout: 30}\n', 'camras'),
        ('cameras: {timout: 30}\n', 'timout'),
        ('cameras: {uri: 127.0.0.1}\n', 'uri'),
        ('cameras: {after: ephys}\nephys: {after: cameras}\n', 'each other'),
        ('cameras: {after: [mesoscope]}\n', 'mesoscope'),
        ('_rig: {timeout: 3}\n', '_rig'),
        ('- cameras\n', 'a list'),
    ],
)
def test_serve_refuses_settings_that_can_not_be_used_in_one_line(files, settings, says) -> None:
    done = subprocess.run(command(*files(PLAIN, settings)), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2 and done.stdout == ''
    (line,) = done.stderr.splitlines()
    assert line.startswith('iblbridge serve: ') and 'rig0.yaml' in line and says in line


def test_serve_takes_the_plain_file_as_it_is_and_the_settings_from_the_other(files, tmp_path) -> None:
    with ScriptedPeer(echo_and_reply) as good, ScriptedPeer(only_echo) as deaf:
        plain = f'cameras: {good.uri}\nlamp: {deaf.uri}\n'
        with served(*files(plain, 'lamp: {timeout: 0.3, optional: true}\n_rig: {ask: false}\n')) as client:
            body = client.call('EXPINIT', {'exp_ref': '2026-01-01_1_x'})
        cameras, lamp = body['services']
        assert body['code'] == CODES['IBLB_W_OPTIONAL']
        assert cameras['ok'] and lamp['reason'] == 'no_reply'
        assert lamp['sent'] - cameras['sent'] < 100_000_000
        assert body['finished'] - lamp['sent'] < 5_000_000_000, 'it has the time-out of all'
        assert (tmp_path / 'remote_devices.yaml').read_text() == plain


def test_serve_sends_in_the_stages_that_the_settings_say(files) -> None:
    def refuse(peer: ScriptedPeer, datagram: bytes) -> None:
        peer.send(datagram)
        event = json.loads(datagram)[0]
        peer.send([event, None] if event == 4 else [0, 'RuntimeError: no', event])

    with ScriptedPeer(refuse) as cameras, ScriptedPeer(echo_and_reply) as ephys:
        plain = f'ephys: {ephys.uri}\ncameras: {cameras.uri}\n'
        with served(*files(plain, 'ephys: {after: cameras}\n_rig: {ask: false}\n')) as client:
            with pytest.raises(BridgeError) as caught:
                client.call('EXPINIT')
            assert [entry['reason'] for entry in caught.value.response['services']] == ['after', 'callback_failed']
            assert not ephys.datagrams
            first, then = client.call('EXPEND')['services']
            assert first['answered'] <= then['sent']


def test_serve_takes_the_settings_of_the_rig_and_of_services_from_the_command_line(files) -> None:
    with ScriptedPeer(echo_and_reply) as one, ScriptedPeer(echo_and_reply) as two:
        options = files(f'cameras: {one.uri}\n', '_rig: {heartbeat: 0.2, ask: false}\nlamp: {heartbeat: 0}\n')
        with served(*options, '--service', f'lamp={two.uri}') as client:
            eventually(lambda: one.datagrams)
            assert json.loads(one.datagrams[0])[0] == 32
            assert len(client.call('EXPINIT')['services']) == 2
            assert [json.loads(datagram)[0] for datagram in two.datagrams if datagram.endswith(b' ')] == [1]
