"""The configuration: what is accepted, and what each refusal says."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.config import (
    ClientLost,
    ConfigError,
    RigConfig,
    ServiceConfig,
    load_rig,
    load_services,
    merge_services,
    parse_rig,
    parse_service_option,
    parse_services,
    parse_uri,
)
from bridge.services.rules import Timing


@pytest.fixture
def load(tmp_path: Path):
    """Return a function that loads services from a YAML text."""
    path = tmp_path / 'remote_devices.yaml'

    def load_text(text: str | bytes) -> dict[str, ServiceConfig]:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_services(path)

    return load_text


def test_a_file_in_iblrigs_form_is_read_in_its_order(load):
    services = load('ephys: udp://192.168.0.9:11002\ncameras: 192.168.0.8\n"cameras:left": rig-pc.lab:4000\n')
    assert list(services.values()) == [
        ServiceConfig('ephys', 'udp://192.168.0.9:11002'),
        ServiceConfig('cameras', 'udp://192.168.0.8:11001'),
        ServiceConfig('cameras:left', 'udp://rig-pc.lab:4000'),
    ]
    assert list(services) == ['ephys', 'cameras', 'cameras:left']


@pytest.mark.parametrize('text', ['', '{}', '---\n', '# nothing yet\n', b'\xef\xbb\xbf{}'])
def test_an_empty_file_means_no_services(load, text):
    assert load(text) == {}


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_what_editors_and_shells_of_windows_write_is_read(load, encoding):
    assert list(load('Zoë: 127.0.0.1\r\n'.encode(encoding))) == ['Zoë']


@pytest.mark.parametrize('encoding', ['cp1252', 'utf-16-le'])
def test_a_file_in_another_encoding_is_refused_with_the_one_that_it_needs(load, encoding):
    with pytest.raises(ConfigError, match=r'remote_devices\.yaml: is not UTF-8 .*; save it with this encoding\.'):
        load('Zoë: 127.0.0.1\r\n'.encode(encoding))


def test_stream_services_are_kept_and_say_why_they_are_unsupported(load):
    services = load('mesoscope: ws://86.167.0.224:8888\nold: TCP://host\nsafe: wss://host:1\ncameras: 127.0.0.1\n')
    assert [bool(s.unsupported) for s in services.values()] == [True, True, True, False]
    assert 'udp://' in services['mesoscope'].unsupported
    assert services['mesoscope'].uri == 'ws://86.167.0.224:8888'


def test_a_service_can_be_made_optional(load):
    services = load('lamp: {uri: 127.0.0.1, optional: true}\ncameras: {uri: "127.0.0.1:5"}\n')
    assert services['lamp'] == ServiceConfig('lamp', 'udp://127.0.0.1:11001', optional=True)
    assert services['cameras'].optional is False


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('cameras: 127.0.0.1\ncameras: 127.0.0.2\n', ['cameras', 'twice', 'line 2']),
        ('cameras: {uri: 127.0.0.1, uri: 127.0.0.2}\n', ['uri', 'twice']),
        (
            'cameras: {uri: 127.0.0.1, port: 5}\n',
            ['cameras', "'port'", 'uri, optional, timeout', 'after and max_message_size'],
        ),
        ('cameras: {optional: true}\n', ['cameras', 'uri', 'missing']),
        ('cameras: {uri: 127.0.0.1, optional: "yes"}\n', ['cameras', 'optional', 'true or false']),
        ('cameras:\n', ['cameras', 'no address']),
        ('cameras: 11001\n', ['cameras', 'a number']),
        ('cameras: [127.0.0.1]\n', ['cameras', 'a list']),
        ('on: 127.0.0.1\n', ['the name on', 'line 1', '"on"', 'quotes']),
        ('"a,b": 127.0.0.1\n', ["'a,b'", 'comma', "'a-b'"]),
        ('" a": 127.0.0.1\n', ['space', "'a'"]),
        ('"a\\tb": 127.0.0.1\n', ['control']),
        ('"": 127.0.0.1\n', ['empty']),
        ('- cameras\n', ['a list', 'mapping']),
        ('cameras\n', ['text', 'mapping']),
        ('cameras: [\n', ['YAML']),
        ('a: 127.0.0.1\n---\nb: 127.0.0.1\n', ['YAML']),
        ('a: !!python/object/apply:os.getcwd []\n', ['YAML']),
        (b'cameras: \xff\n', ['UTF-8']),
        ('a: ' + '[' * 5000, ['nested too deeply']),
        ('? [1]\n: 127.0.0.1\n', ['YAML']),
        ('? {a: 1}\n: 127.0.0.1\n', ['YAML']),
        ('a: &a [*a, *a]\n', ['aliases']),
        ('a: 2026-99-99\n', ['YAML']),
        ('a: !!timestamp foo\n', ['YAML', 'tag']),
        ('a: !!bool foo\n', ['YAML', 'tag']),
        ('a: !!int ""\n', ['YAML', 'tag']),
        ('a: {uri: 127.0.0.1, timeout: 1' + 400 * '0' + '}\n', ['timeout', 'a number', '3600']),
        ('a: {uri: 127.0.0.1, timeout: 0x' + 5000 * 'f' + '}\n', ['timeout', 'a number', '3600']),
        ('a: {uri: 127.0.0.1, max_message_size: 0x' + 5000 * 'f' + '}\n', ['max_message_size', 'a number']),
        ('_rig: {on_client_lost: {client: ' + 64 * 'a' + ', send: EXPEND}}\n', ['on_client_lost', '63 bytes']),
    ],
)
def test_what_cannot_be_used_is_refused_naming_file_and_fault(load, text, says):
    with pytest.raises(ConfigError) as error:
        load(text)
    message = str(error.value)
    assert 'remote_devices.yaml' in message
    assert '\n' not in message
    for word in says:
        assert word in message


def test_a_service_has_settings_of_its_own_and_the_others_the_defaults(load):
    services = load(
        'ephys: {uri: 127.0.0.1, timeout: 30, echo_timeout: 0.5, reply_gap: 0, heartbeat: 5, repeat: [EXPINIT]}\n'
        'cameras: 127.0.0.2\n'
    )
    ephys, cameras = (service.timing(12.0) for service in services.values())
    assert (ephys.timeout, ephys.echo_timeout, ephys.reply_gap, ephys.repeat) == (30, 0.5, 0, {1})
    assert cameras == Timing(timeout=12.0)
    assert (services['ephys'].heartbeat, services['cameras'].heartbeat) == (5, None)


def test_settings_of_the_rig_stand_under_a_key_that_no_service_may_have(tmp_path):
    path = tmp_path / 'remote_devices.yaml'
    path.write_text(
        'cameras: 127.0.0.1\n'
        '_rig:\n'
        '  heartbeat: 10\n'
        '  on_client_lost: [{client: stimulus, send: EXPEND, after_s: 60}, {client: eye}]\n'
    )
    rig = load_rig(path)
    assert list(rig.services) == ['cameras'] == list(load_services(path))
    assert rig.heartbeat == 10
    assert rig.on_client_lost == (ClientLost('stimulus', 'EXPEND', 60.0), ClientLost('eye', 'nothing', 0.0))
    with pytest.raises(ConfigError, match='reserved'):
        parse_service_option('_rig=127.0.0.1')


def test_a_rig_without_settings_does_nothing_by_itself():
    assert parse_rig({}) == RigConfig({}, 0.0, ())
    assert parse_rig({'_rig': None}) == parse_rig({'_rig': {}}) == RigConfig()


@pytest.mark.parametrize(
    ('settings', 'says'),
    [
        ('a: {uri: 127.0.0.1, timeout: 0}', 'a: timeout: is 0; write 0.001 to 3600 seconds'),
        ('a: {uri: 127.0.0.1, timeout: .nan}', 'timeout: is nan'),
        ('a: {uri: 127.0.0.1, reply_gap: true}', 'reply_gap: is true or false'),
        ('a: {uri: 127.0.0.1, echo_timeout: 1 s}', 'echo_timeout: is text'),
        ('a: {uri: 127.0.0.1, heartbeat: -1}', 'heartbeat: is -1'),
        ('a: {uri: 127.0.0.1, repeat: EXPINIT}', 'repeat: is text instead of a list'),
        ('a: {uri: 127.0.0.1, repeat: [EXPBAR]}', "there is no message 'EXPBAR'"),
        ('a: {uri: 127.0.0.1, repeat: [~]}', 'repeat: nothing stands where a message should'),
        ('a: {uri: 127.0.0.1, after: }', 'after: nothing stands where a name should; write one'),
        ('a: {uri: 127.0.0.1, after: [~]}', 'after: nothing stands where a name should; write one'),
        ('a: {uri: 127.0.0.1, after: {b: 1}}', 'after: a mapping stands where a name should; write one'),
        ('_Rig: {heartbeat: 10}', '_Rig: has no address; did you mean _rig? '),
        ('_RIG: {on_client_lost: {client: a}}', '_RIG: has no address; did you mean _rig? '),
        ('_rig: 5', '_rig: is a number instead of a mapping'),
        ('_rig: 0', '_rig: is a number instead of a mapping'),
        ('_rig: []', '_rig: is a list instead of a mapping'),
        ('_rig: {on_client_lost: false}', 'on_client_lost: is true or false (false) instead of a mapping'),
        ('_rig: {on_client_lost: {client: a, send: }}', 'nothing stands behind send; write one of nothing, EXPEND'),
        ('_rig: {on_client_lost: {client: a, send: [EXPEND]}}', 'send is a list; write one of nothing, EXPEND'),
        (
            '_rig: {heart: 5}',
            'any_reference, ask, listen, journal_rotate and http',
        ),
        ('_rig: {ask: 1}', '_rig: ask is a number; write true or false'),
        ('cameras: {uri: 127.0.0.1, ask: sometimes}', 'cameras: ask is text; write true or false'),
        ('_rig: {on_client_lost: {send: EXPEND}}', 'on_client_lost: names no client'),
        ('_rig: {on_client_lost: {client: a, send: EXPINIT}}', "send is 'EXPINIT'; write one of nothing, EXPEND"),
        ('_rig: {on_client_lost: {client: a, after_s: soon}}', 'after_s: is text'),
        ('_rig: {on_client_lost: {client: a, after: 5}}', "the setting 'after' is not known"),
        ('_rig: {on_client_lost: [{client: a}, {client: a}]}', 'a client is named twice'),
        ('_rig: {on_client_lost: nobody}', 'on_client_lost: is text instead of a mapping'),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(load, settings, says):
    with pytest.raises(ConfigError) as error:
        load(settings)
    assert says in str(error.value)


def test_a_missing_file_is_refused_naming_it(tmp_path):
    with pytest.raises(ConfigError, match=r'absent\.yaml: No such file'):
        load_services(tmp_path / 'absent.yaml')
    with pytest.raises(ConfigError, match='YAML file'):
        load_services(tmp_path)


def test_a_name_may_take_111_bytes_and_no_more():
    assert list(parse_services({'ä' * 55 + 'b': '127.0.0.1'})) == ['ä' * 55 + 'b']
    with pytest.raises(ConfigError, match='112 bytes'):
        parse_services({'ä' * 56: '127.0.0.1'})


def test_a_segment_takes_128_services_and_no_more():
    assert len(parse_services({f's{i}': f'127.0.0.1:{i + 1}' for i in range(128)})) == 128
    with pytest.raises(ConfigError, match='129 services'):
        parse_services({f's{i}': f'127.0.0.1:{i + 1}' for i in range(129)})


def test_file_and_options_together_may_not_name_a_service_twice():
    one, two = ServiceConfig('cameras', 'udp://127.0.0.1:1'), ServiceConfig('cameras', 'udp://127.0.0.1:2')
    with pytest.raises(ConfigError, match='cameras is given twice'):
        merge_services([one], [two])
    with pytest.raises(ConfigError, match=r'both times as udp://127.0.0.1:1; leave one of the two out\.$'):
        merge_services([one], [one])
    assert list(merge_services([one], [ServiceConfig('ephys', 'udp://127.0.0.1:2')])) == ['cameras', 'ephys']


def test_the_service_option_takes_name_and_address():
    assert parse_service_option('cameras=127.0.0.1:5') == ServiceConfig('cameras', 'udp://127.0.0.1:5')
    assert parse_service_option('m=ws://h:1').unsupported


@pytest.mark.parametrize(
    'option', ['cameras', 'cameras=', '=127.0.0.1', 'a,b=127.0.0.1', 'a= 127.0.0.1', 'a=b=c', '\udcff=127.0.0.1']
)
def test_a_service_option_that_makes_no_sense_is_refused(option):
    with pytest.raises(ConfigError, match='--service'):
        parse_service_option(option)


@pytest.mark.parametrize(
    ('uri', 'complete'),
    [
        ('192.168.0.8', 'udp://192.168.0.8:11001'),
        ('192.168.0.8:1', 'udp://192.168.0.8:1'),
        ('UDP://rig_pc-2:065', 'udp://rig_pc-2:65'),
        ('udp://localhost', 'udp://localhost:11001'),
        ('3com.example', 'udp://3com.example:11001'),
        ('udp://192.168.0.8:21001/', 'udp://192.168.0.8:21001'),
        ('udp://rig-pc/', 'udp://rig-pc:11001'),
    ],
)
def test_an_address_is_completed(uri, complete):
    assert parse_uri(uri, 'here') == complete
    assert parse_uri(complete, 'here') == complete


@pytest.mark.parametrize('uri', ['host:21001/', 'udp://host:21001/x', 'host:21001 ', 'udp://host:21001//'])
def test_a_port_that_is_nearly_one_is_not_advised_as_another(uri):
    with pytest.raises(ConfigError, match=r'write host:21001\b'):
        parse_uri(uri, 'here')


@pytest.mark.parametrize(
    ('uri', 'says'),
    [
        ('udp:10.0.0.1:21001', 'did you mean udp://10.0.0.1:21001?'),
        ('udp//10.0.0.1', 'did you mean udp://10.0.0.1?'),
        ('UDP:/rig.lab', 'did you mean udp://rig.lab?'),
        ('udp://me:secret@10.0.0.1:5', 'names a user'),
        ('10.0.0.1:21001:21002', 'the port'),
        ('rig-pc:eth0:5', 'the port'),
        ('::1', 'IPv6'),
        ('fe80::1%eth0', 'IPv6'),
        ('udp://[::1]:5', 'IPv6'),
        ('::ffff:10.0.0.1', 'IPv6'),
    ],
)
def test_an_address_is_called_ipv6_only_if_it_may_be_one(uri, says):
    with pytest.raises(ConfigError) as refusal:
        parse_uri(uri, 'here')
    assert says in str(refusal.value) and ('IPv6' in str(refusal.value)) == (says == 'IPv6')


@pytest.mark.parametrize(
    'name', ['cam\u200beras', 'a\xa0b', '\u202ecam', 'a\ufeffb', 'a\u2028b', 'a\x1b[31mb', 'a\u3000b']
)
def test_a_name_that_looks_like_another_one_is_refused(name):
    with pytest.raises(ConfigError, match='invisible'):
        parse_services({name: '127.0.0.1'})


@pytest.mark.parametrize(
    ('host', 'says'),
    [
        ('255.255.255.255', 'broadcast'),
        ('224.0.0.1', 'multicast'),
        ('239.1.2.3', 'multicast'),
        ('0.0.0.0', 'not an address to send to'),
        ('0.1.2.3', 'not an address to send to'),
        ('240.0.0.1', 'reserved'),
    ],
)
def test_an_address_that_no_pc_can_have_is_refused(host, says):
    for uri in (host, f'{host}:5', f'udp://{host}:5'):
        with pytest.raises(ConfigError, match=says) as refusal:
            parse_uri(uri, 'here')
        assert host in str(refusal.value) and "service's PC" in str(refusal.value)


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('no: 10.0.0.1\n', ['the name no ', '"no"']),
        ('10.0.0.1:\n? 5\n: 10.0.0.1\n', ['the name 5 ', 'a number', '"5"']),
        ('cameras: off\n', ['cameras', 'true or false (off)']),
        ('cameras: {uri: 10.0.0.1, timeout: Yes}\n', ['timeout', 'true or false (Yes)']),
        ('cameras: {uri: 10.0.0.1, repeat: [on]}\n', ["'on'"]),
        ('cameras: {uri: 10.0.0.1, max_message_size: off}\n', ["'off'"]),
        ('_rig: {on_client_lost: {client: eye, send: on}}\n', ["'on'"]),
        ('_rig: no\n', ['true or false (no)']),
    ],
)
def test_a_sentence_shows_what_stands_in_the_file_not_what_python_makes_of_it(load, text, says):
    with pytest.raises(ConfigError) as error:
        load(text)
    assert not {'True', 'False'} & set(str(error.value).replace(',', ' ').split())
    for word in says:
        assert word in str(error.value)


def test_yes_and_no_are_yes_and_no_where_they_are_asked_for_and_names_where_names_are(tmp_path):
    path = tmp_path / 'rig.yaml'
    path.write_text(
        '"no": {uri: 10.0.0.1, optional: yes}\nb: {uri: 10.0.0.2, optional: Off, after: [no]}\n'
        '_rig: {on_client_lost: {client: on, send: EXPEND}}\n'
    )
    rig = load_rig(path)
    first, second = rig.services.values()
    assert (first.optional, second.optional, second.after) == (True, False, ('no',))
    assert rig.on_client_lost == (ClientLost('on', 'EXPEND'),)
    assert {type(first.optional), type(second.after[0]), type(rig.on_client_lost[0].client)} == {bool, str}


def bomb(key: str) -> str:
    """Nine lines that stand for a billion values."""
    lines = [
        f'l0: &l0 [{",".join("x" * 10)}]',
        *(f'l{i}: &l{i} [{",".join([f"*l{i - 1}"] * 10)}]' for i in range(1, 9)),
    ]
    return '\n'.join([*lines, f'cameras: {{uri: 10.0.0.1, {key}: *l8}}', ''])


@pytest.mark.parametrize(
    'text',
    [
        *map(bomb, ('after', 'repeat', 'timeout', 'heartbeat')),
        'm0: &m {uri: 10.0.0.1}\n' + ''.join(f'm{i + 1}: &m {{<<: [*m, *m, *m, *m]}}\n' for i in range(20)),
        'cameras: {uri: 10.0.0.1, after: &a [*a, *a]}\n',
        '_rig: &r {heartbeat: *r}\n',
        'a: 10.0.0.1\n' * 50_000,
    ],
)
def test_a_small_file_that_amounts_to_very_much_is_refused_at_once(load, text):
    with pytest.raises(ConfigError) as error:
        load(text)
    assert len(str(error.value)) < 400


def test_a_file_without_an_end_is_refused(tmp_path):
    endless = Path('/dev/zero')
    if not endless.exists():
        pytest.skip('there is no such file here')
    with pytest.raises(ConfigError, match='KiB'):
        load_rig(endless)


def test_settings_that_several_services_share_may_be_written_once(load):
    text = 'a: &usual {uri: 10.0.0.1, timeout: 30}\nb: {<<: *usual, uri: 10.0.0.2}\n'
    assert [service.timeout for service in load(text).values()] == [30, 30]


@pytest.mark.parametrize(
    'uri',
    [
        '192.168.0.300', '1.2.3', '192.168.0.8:', '192.168.0.8:0', '192.168.0.8:65536', '192.168.0.8:port',
        '192.168.0.8:1/', 'udp://', 'ws://', 'udp://user@host', 'http://host', 'host/path', 'a b', 'host.',
        '-host', '::1', '[::1]:5', 'udp://[::1]', 'host:٣', '٣', 'hôst', ' host', 'a' * 64, 'host\n',
        'host:5\n', 'a..b', '.',
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_an_example(uri):
    with pytest.raises(ConfigError, match=r'^here: .*11001'):
        parse_uri(uri, 'here')


@given(st.text())
def test_any_text_is_an_address_or_a_config_error(text):
    try:
        uri = parse_uri(text, 'here')
    except ConfigError as e:
        assert '\n' not in str(e)  # noqa: PT017
    else:
        assert '://' in uri


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text() | st.integers(), v),
        max_leaves=8,
    )
)
def test_any_yaml_value_is_a_configuration_or_a_config_error(value):
    services = value if isinstance(value, dict) else {'cameras': value}
    with suppress(ConfigError):
        parse_rig({'_rig': value})
    with suppress(ConfigError):
        assert all(isinstance(s, ServiceConfig) for s in parse_services(services).values())
