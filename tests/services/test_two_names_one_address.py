"""Two names with one address: that PC would get every command twice, and both names would say ok."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from peers import StockServer, aux_of, eventually

from bridge.addresses import is_broadcast, is_ours
from bridge.config import ConfigError, ServiceConfig, load_rig, merge_services, parse_service_option, parse_services
from bridge.errors import ServiceFailure
from bridge.segment.client import Client
from bridge.worker import Worker

REF = '2026-01-01_1_subject'

SAME = [
    ('192.168.0.8', 'udp://192.168.0.8:11001'),
    ('192.168.0.8:5', 'UDP://192.168.0.8:00005'),
    ('localhost', '127.0.0.1'),
    ('LocalHost:7', 'udp://127.0.0.1:7'),
    ('rig-pc.lab', 'RIG-PC.lab:11001'),
]
OTHERS = [
    ('192.168.0.8', '192.168.0.9'),
    ('192.168.0.8', '192.168.0.8:11002'),
    ('127.0.0.1', '127.0.0.2'),
    ('rig-pc', 'rig-pc2'),
    ('ws://192.168.0.8:1', 'ws://192.168.0.8:1'),  # not served, with a sentence of its own
]


@pytest.mark.parametrize(('one', 'other'), SAME)
def test_two_names_with_one_address_are_refused_and_both_are_named(one, other, tmp_path):
    path = tmp_path / 'remote_devices.yaml'
    path.write_text(f'cameras: {one}\nlamp: 10.0.0.7\nephys: {other}\n')
    for refuse in (
        lambda: load_rig(path),
        lambda: parse_services({'cameras': one, 'ephys': {'uri': other}}),
        lambda: merge_services(map(parse_service_option, (f'cameras={one}', f'ephys={other}'))),
    ):
        with pytest.raises(ConfigError, match='cameras and ephys have the same address') as refusal:
            refuse()
        assert 'twice' in str(refusal.value) and 'udp://' in str(refusal.value)


@pytest.mark.parametrize(('one', 'other'), OTHERS)
def test_two_names_with_two_addresses_are_two_services(one, other):
    assert list(parse_services({'cameras': one, 'ephys': other})) == ['cameras', 'ephys']


def test_serve_refuses_them_before_it_starts(tmp_path):
    options = ['--service', 'cameras=127.0.0.1:5', '--service', 'ephys=localhost:5']
    command = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig', *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.count('\n') == 1 and 'cameras and ephys' in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def names(monkeypatch) -> dict[str, str]:
    """A name server."""
    table: dict[str, str] = {}

    def look_up(host: str) -> str:
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, 'no such name')
        return table[host]

    monkeypatch.setattr(socket, 'gethostbyname', look_up)
    return table


@pytest.mark.parametrize('hosts', [('127.0.0.1', 'rig-pc'), ('rig-pc', '127.0.0.1'), ('rig-pc', 'camera-pc')])
def test_two_names_that_turn_out_to_be_one_address_are_refused_at_the_start(names, hosts, segment_directory):
    names |= {'rig-pc': '127.0.0.1', 'camera-pc': '127.0.0.1'}
    with StockServer() as server:
        services = {name: f'udp://{host}:{server.port}' for name, host in zip(('cameras', 'ephys'), hosts, strict=True)}
        with pytest.raises(ConfigError, match='have the same address') as refusal:
            Worker('rig', services)
        assert 'cameras' in str(refusal.value) and 'ephys' in str(refusal.value)
        with Worker('rig', {'cameras': server.uri}):
            pass  # nothing was left behind that keeps the next one out


def test_a_name_that_turns_out_later_to_be_another_service_s_address_is_not_sent_to(serve, names):
    with StockServer() as server:
        serve('rig', {'ephys': f'udp://rig-pc:{server.port}', 'cameras': server.uri})
        with Client('rig') as client:
            for known in (False, True):
                if known:
                    names['rig-pc'] = '127.0.0.1'
                with pytest.raises(ServiceFailure) as failure:
                    client.call('EXPSTART', REF)
                ephys, cameras = failure.value.response['services']
                assert cameras['ok'] and (ephys['state'], ephys['reason']) == ('not_sent', 'address')
            assert 'cameras and ephys have the same address' in ephys['error']
            assert [message[0] for message in server.saw] == [2, 2], 'it got each command once'
            names['rig-pc'] = '127.0.0.2'
            with pytest.raises(ServiceFailure) as failure:
                client.call('EXPSTART', REF)
            assert failure.value.response['services'][0]['state'] == 'unreachable', 'it is somewhere else now'


def own_address() -> str:
    """Return this computer's address in its network, "" if it is in none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(('203.0.113.1', 9))  # sends nothing
        except OSError:
            return ''
        return str(probe.getsockname()[0])


@pytest.mark.not_wine('a socket can be bound to the address of any computer')
@pytest.mark.skipif(not own_address() or is_ours('203.0.113.1'), reason='this computer is in no network, or in any')
@pytest.mark.parametrize('turned', [False, True])
def test_our_own_address_in_the_network_is_our_loopback_as_a_literal_and_after_a_look_up(names, turned):
    """A service that listens everywhere hears at both."""
    names['rig-pc'] = own_address()
    with StockServer() as server:
        for host in (own_address(), 'rig-pc'):
            uris = [f'udp://{host}:{server.port}', f'udp://127.0.0.1:{server.port}'][:: -1 if turned else 1]
            with pytest.raises(ConfigError, match='this computer, as udp://[0-9.:]+ is') as refusal:
                Worker('rig', dict(zip(('cameras', 'ephys'), uris, strict=True)))
            assert 'cameras' in str(refusal.value) and 'twice' in str(refusal.value)
    assert list(parse_services({'a': own_address(), 'b': '127.0.0.1:5', 'c': '127.0.0.2'})) == ['a', 'b', 'c']


UNUSABLE = [('0.0.0.0', 'means "any address"'), ('255.255.255.255', 'broadcast'), ('224.0.0.1', 'multicast')]


@pytest.mark.parametrize(('host', 'why'), UNUSABLE)
def test_a_name_that_stands_for_nobody_in_particular_is_refused_as_the_address_is(names, host, why):
    names['rig-pc'] = host
    with pytest.raises(ConfigError, match=f'cameras: udp://rig-pc:5, which stands for {host}, is .*{why}'):
        Worker('rig', {'cameras': 'udp://rig-pc:5'})


@pytest.mark.parametrize('host', [host for host, _ in UNUSABLE])
def test_it_is_not_sent_to_if_that_turns_out_later(serve, names, host):
    serve('rig', {'cameras': 'udp://rig-pc:5'})
    names['rig-pc'] = host
    with Client('rig') as client, pytest.raises(ServiceFailure) as failure:
        client.call('EXPSTART', REF)
    entry = failure.value.response['services'][0]
    assert (entry['state'], entry['reason']) == ('not_sent', 'address') and host in entry['error']


@pytest.mark.skipif(sys.platform != 'linux', reason='its loopback is a network with an address of all')
def test_the_address_of_all_in_a_network_of_ours_is_refused(names):
    names['rig-pc'] = '127.255.255.255'
    for host in ('127.255.255.255', 'rig-pc'):
        with pytest.raises(ConfigError, match=r'is a broadcast address') as refusal:
            Worker('rig', {'cameras': f'udp://{host}:5'})
        assert 'cameras: ' in str(refusal.value)
    assert not is_broadcast('127.0.0.1') and not is_broadcast('203.0.113.255')


def test_two_names_that_swap_their_addresses_are_not_kept_apart_for_ever(names):
    from bridge.outcome import Reason
    from bridge.services.iblutil import Opener
    from bridge.services.link import Unreachable

    opener = Opener(lambda *_: None, 1.0, {}, lambda *_: None)
    opener.exclusive = True
    opener._claim('a', 'udp://10.0.0.1:5')
    opener._claim('b', 'udp://10.0.0.2:5')
    with pytest.raises(Unreachable) as refusal:
        opener._claim('a', 'udp://10.0.0.2:5')
    assert refusal.value.reason is Reason.ADDRESS
    opener._claim('b', 'udp://10.0.0.1:5')
    opener._claim('a', 'udp://10.0.0.2:5')


def test_a_drop_in_opens_both_as_iblrig_does_and_says_so(caplog):
    with StockServer() as server, aux_of(a=server.uri, b=server.uri) as aux:
        assert aux.submit('EXPINIT').result(5)['a'].ok
        eventually(lambda: 'a and b have the same address' in caplog.text)


def test_a_worker_is_as_strict_as_the_file():
    services = [ServiceConfig('a', 'udp://127.0.0.1:5'), ServiceConfig('b', 'udp://localhost:5')]
    with pytest.raises(ConfigError, match='a and b'):
        Worker('rig', services)
