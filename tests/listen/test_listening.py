"""Where a worker listens: what can be configured, and how what cannot is refused."""

from __future__ import annotations

import errno
import socket

import pytest
from peers import free_port

from bridge import listening
from bridge.addresses import ConfigError
from bridge.cli import main
from bridge.config import ServiceConfig, check_listeners, load_rig, load_settings
from bridge.listen.server import not_to_be_had, why_not_bound
from bridge.listening import ListenerConfig
from bridge.worker import Worker


@pytest.mark.parametrize(
    ('listens', 'names', 'found'),
    [
        (['udp://0.0.0.0:11001'], ['cameras'], [ListenerConfig('cameras', '0.0.0.0', 11001)]),
        (['cameras=udp://:11001'], [], [ListenerConfig('cameras', '127.0.0.1', 11001)]),
        (['a=:5', 'udp://:6', 'c=127.0.0.1'], ['b'], [
            ListenerConfig('a', port=5), ListenerConfig('b', port=6), ListenerConfig('c', port=11001)
        ]),
        (['a=udp://localhost:0/'], [], [ListenerConfig('a', port=0)]),
        (['a=b=192.168.0.8:7'], [], [ListenerConfig('a=b', '192.168.0.8', 7)]),
    ],
)  # fmt: skip
def test_listeners_on_the_command_line_have_a_name_in_front_or_by_as(listens, names, found):
    assert listening.parse_options(listens, names) == found


@pytest.mark.parametrize(
    ('listens', 'names', 'says'),
    [
        (['udp://:11001'], [], '--listen: .* has no name; write --listen cameras='),
        ([], ['cameras'], "--as: 'cameras' has no --listen"),
        (['cameras'], [], "'cameras' has no address; write --listen cameras=udp://:11001"),
        (['cameras:5'], [], "'cameras:5' has no address; write --listen cameras=udp://:5"),
        (['192.168.0.3:5'], [], 'has no name; write --listen cameras=192.168.0.3:5'),
        ([':5'], [], 'has no name; write --listen cameras=:5'),
        (['rig-pc:5'], ['a'], 'host names are not looked up'),
        ([''], [], 'is empty; write --listen cameras=udp://:11001'),
        ([''], ['a'], 'is empty; write --listen cameras=udp://:11001'),
        (['a='], [], 'the address of a is empty'),
        (['a=11001'], [], 'no address to listen at; write udp://:11001 if it is a port'),
        (['a=udp://:soon'], [], "'soon' is no port; write a number from 1 to 65535, or 0 for a free one"),
        (['a=:'], [], "'' is no port"),
        (['a=:-1'], [], "'-1' is no port"),
        (['a=ws://:5'], [], 'no address to listen at; write udp://:11001'),
        (['a=rig-pc:5'], [], 'no address to listen at'),
        (['a=224.0.0.1:5'], [], 'no address to listen at'),
        (['a=:65536'], [], "'65536' is no port"),
        (['=:5'], [], 'empty name'),
        (['x' * 64 + '=:5'], [], 'takes 64 bytes'),
    ],
)
def test_what_is_no_listener_is_refused(listens, names, says):
    with pytest.raises(ConfigError, match=says):
        listening.parse_options(listens, names)


@pytest.mark.parametrize(
    ('listen', 'says'),
    [
        ('5', 'is a number instead of a mapping'),
        ('{a: }', 'its address is nothing'),
        ('{a: on}', 'its address is true or false'),
        ('{a: {masters: []}}', 'its address is nothing'),
        ('{a: {uri: ":5", port: 5}}', "'port' is not known; there are uri, masters, timeout and max_message_size"),
        ('{a: {uri: ":5", masters: [rig-pc]}}', "'rig-pc' is no IPv4 address"),
        ('{a: {uri: ":5", timeout: 0}}', 'timeout: is 0; write 0.01 to 3600 seconds'),
        ('{a: {uri: ":5", timeout: soon}}', 'timeout: is text'),
        ('{a: {uri: ":5", max_message_size: 10}}', 'write 64 to 65507 bytes, or 0'),
        ('{a: {uri: ":5", max_message_size: 64.5}}', 'write 64 to 65507 bytes, or 0'),
        ('{a: ":5", b: "0.0.0.0:5"}', 'a and b are both at'),
        ('{' + ', '.join(f'a{n}: ":{n + 1}"' for n in range(17)) + '}', 'a segment takes 16'),
    ],
)
def test_settings_of_listeners_that_make_no_sense_are_refused(tmp_path, listen, says):
    file = tmp_path / 'rig.yaml'
    file.write_text(f'_rig: {{listen: {listen}}}')
    with pytest.raises(ConfigError) as refused:
        load_rig(file)
    assert says in str(refused.value)


def test_listeners_stand_in_either_file(tmp_path):
    services, settings = tmp_path / 'a.yaml', tmp_path / 'b.yaml'
    services.write_text('_rig: {listen: {cameras: "udp://:5"}}')
    settings.write_text('_rig: {listen: {ephys: {uri: ":6", masters: 10.0.0.1, timeout: 20}}}')
    rig = load_settings(settings, load_rig(services))
    assert list(rig.listen.values()) == [
        ListenerConfig('cameras', port=5),
        ListenerConfig('ephys', port=6, masters=('10.0.0.1',), timeout=20.0),
    ]


def test_serve_says_what_is_wrong_with_a_listener(capsys):
    assert main(['serve', '--segment', 'rig', '--listen', 'udp://:1']) == 2
    assert 'has no name' in capsys.readouterr().err


SERVICES = {name: ServiceConfig(name, uri) for name, uri in {
    'here': 'udp://127.0.0.1:5', 'aside': 'udp://127.0.0.2:6', 'there': 'udp://203.0.113.1:7', 'named': 'udp://rig-pc:8',
}.items()}  # fmt: skip


@pytest.mark.parametrize(
    ('host', 'port', 'refused'),
    [
        ('127.0.0.1', 5, 'here'),
        ('0.0.0.0', 5, 'here'),
        ('0.0.0.0', 6, 'aside'),
        ('127.0.0.1', 6, ''),
        ('127.0.0.1', 9, ''),
        ('0.0.0.0', 7, ''),
        ('203.0.113.1', 7, 'there'),
        ('0.0.0.0', 8, ''),
    ],
)
def test_a_worker_that_would_command_itself_is_refused(host, port, refused):
    listeners = [ListenerConfig('cameras', host, port)]
    if not refused:
        check_listeners(SERVICES, listeners)
        return
    with pytest.raises(ConfigError, match=f'the service {refused} and the listener cameras are both at .*change one'):
        check_listeners(SERVICES, listeners)


def test_serve_refuses_to_command_itself(capsys):
    assert main(['serve', '--segment', 'rig', '--service', 'a=localhost:5', '--listen', 'b=udp://:5']) == 2
    assert 'would command itself' in capsys.readouterr().err


@pytest.mark.parametrize(
    'uri',
    [
        'udp://127.0.0.1',
        pytest.param(
            f'udp://{socket.gethostname()}', marks=pytest.mark.not_wine('there every address passes for our own')
        ),
    ],
)
def test_a_service_that_turns_out_to_be_a_listener_of_the_same_worker_is_refused(uri):
    with pytest.raises(ConfigError, match='would command itself'):
        port = free_port()
        Worker('rig', {'a': f'{uri}:{port}'}, listeners=[ListenerConfig('b', '0.0.0.0', port)])


@pytest.mark.parametrize(
    ('code', 'port', 'says'),
    [
        (errno.EADDRINUSE, 11001, 'another program listens there; end it, or choose another port'),
        (errno.EADDRNOTAVAIL, 11001, 'this computer has no such address; use one of its own, or 0.0.0.0'),
        (errno.ENOBUFS, 11001, 'choose another port or address'),
    ],
)
def test_why_an_address_is_not_to_be_had_says_what_to_do(code, port, says):
    assert says in why_not_bound(OSError(code, 'as the system says'), port)


@pytest.mark.not_wine('there every address passes for our own')
def test_an_address_that_may_be_had_later_is_no_misuse_after_which_nobody_tries_again(capsys):
    """An installed worker whose network came up after it was not started again: systemd was told that it was misuse."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(('127.0.0.1', 0))
        for address in ('192.0.2.1:11001', f'127.0.0.1:{other.getsockname()[1]}'):  # RFC 5737: of examples
            assert main(['serve', '--segment', 'rig', '--listen', f'cameras=udp://{address}']) == 3
            assert f'iblbridge serve: listen: cameras: udp://{address}: ' in capsys.readouterr().err


@pytest.mark.posix('a port below 1024 is like any other there')
def test_a_port_of_the_administrator_is_not_said_to_be_taken():
    assert type(not_to_be_had(OSError(errno.EACCES, 'Permission denied'), '')) is ConfigError
    assert 'only an administrator can listen at port 80' in why_not_bound(
        OSError(errno.EACCES, 'Permission denied'), 80
    )
