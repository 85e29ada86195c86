"""Where the page may be, who may read it, and who may press its button."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config import ConfigError, load_settings, parse_rig
from bridge.web import guard
from bridge.web.address import PageConfig, parse_page, reached

TOKEN = 'a-long-word-of-your-own'


@pytest.mark.parametrize(
    ('given', 'meant'),
    [
        ('127.0.0.1:8650', ('127.0.0.1', 8650)), (':9000', ('127.0.0.1', 9000)), ('localhost', ('127.0.0.1', 8650)),
        ('0.0.0.0:80', ('0.0.0.0', 80)), ('http://192.168.0.3:8650/', ('192.168.0.3', 8650)), ('[::1]:0', ('::1', 0)),
        ({'address': '0.0.0.0:1', 'token': TOKEN}, ('0.0.0.0', 1)), ({}, ('127.0.0.1', 8650)),
    ],
)  # fmt: skip
def test_an_address_is_a_number_and_a_port_and_without_a_host_this_pc_alone(given, meant):
    page = parse_page(given, '--http')
    assert (page.host, page.port) == meant
    assert page.is_local == (meant[0] in ('127.0.0.1', '::1'))
    assert (parse_page(page.address, '').host, page.port) == meant


@pytest.mark.parametrize(
    ('given', 'says'),
    [
        ('', 'no address'), ('rig0.lab:8650', 'no address'), ('127.0.0.1:65536', 'no address'), ('1.2.3', 'no address'),
        ('https://127.0.0.1', 'no address'), ('224.0.0.1:1', 'no address'), ('8650', 'no address'),
        (8650, 'the address is'), ({'adress': ''}, "'adress' is not known"), ({'token': 'short'}, 'token'),
        ({'token': 'with a space in it, long'}, 'token'), ({'hosts': ['a b']}, 'hosts'), ({'hosts': [1]}, 'hosts'),
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_what_to_write(given, says):
    with pytest.raises(ConfigError) as refused:
        parse_page(given, 'rig.yaml: _rig: http')
    assert says in str(refused.value) and str(refused.value).startswith('rig.yaml: _rig: http')


def test_the_page_may_stand_in_the_file_of_services_and_in_that_of_settings(tmp_path):
    assert parse_rig({'cameras': '192.168.0.8'}).http is None
    rig = parse_rig({'_rig': {'http': '0.0.0.0:8650'}})
    assert rig.http == PageConfig('0.0.0.0', 8650)
    file = tmp_path / 'rig.yaml'
    file.write_text(f'_rig: {{http: {{address: ":9000", token: {TOKEN}, hosts: Rig0.lab}}}}')
    assert load_settings(file, rig).http == PageConfig('127.0.0.1', 9000, TOKEN, ('rig0.lab',))
    file.write_text('_rig: {heartbeat: 1}')
    assert load_settings(file, rig).http == rig.http


@pytest.mark.parametrize(
    'host',
    [
        'evil.example', 'rig0.evil.example', '127.0.0.1.evil.example:8650', '', 'a@127.0.0.1', '127.1', '0x7f000001',
        '127.0.0.1:8650, evil.example', '[evil]', '[localhost]',
    ],
)  # fmt: skip
def test_a_name_that_is_none_of_ours_is_not_answered(host):
    assert not guard.is_our_host(host, ('rig0',))


@given(st.ip_addresses(), st.integers(0, 65535))
def test_an_address_as_a_number_is_always_ours_for_no_page_can_make_it_point_elsewhere(address, port):
    assert guard.is_our_host(f'[{address}]:{port}' if address.version == 6 else f'{address}:{port}', ())


@given(st.text())
def test_whatever_stands_in_a_header_it_is_decided(text):
    guard.is_our_host(text, ())
    assert not guard.is_let_in(TOKEN, text, text)
    assert guard.press_refused({'Host': '127.0.0.1', 'Origin': text}, 'secret')
    assert guard.press_refused({'Host': '127.0.0.1', 'Origin': 'http://127.0.0.1', guard.PRESS: text}, 'secret')


def test_without_a_token_everybody_is_let_in_and_with_one_who_knows_it():
    assert guard.is_let_in('', '', '')
    assert guard.is_let_in(TOKEN, TOKEN, '') and guard.is_let_in(TOKEN, '', f'Bearer {TOKEN}')
    for cookie, authorization in (('', ''), ('x', ''), ('', TOKEN), ('', 'Bearer '), (TOKEN, 'Bearer x')):
        assert not guard.is_let_in(TOKEN, cookie, authorization)


def test_the_button_is_for_our_own_page_alone():
    good = {'Host': 'rig0:8650', 'Origin': 'http://rig0:8650', 'Sec-Fetch-Site': 'same-origin', guard.PRESS: 'secret'}
    assert guard.press_refused(good, 'secret') == ''
    for changes in (
        {'Origin': 'http://evil.example'}, {'Origin': 'null'}, {'Origin': ''}, {'Origin': 'http://rig0:80'},
        {'Origin': 'http://rig0:8650.evil.example'}, {'Sec-Fetch-Site': 'cross-site'}, {'Sec-Fetch-Site': 'same-site'},
        {guard.PRESS: ''}, {guard.PRESS: 'Secret'},
    ):  # fmt: skip
        assert guard.press_refused(good | changes, 'secret'), changes


def test_the_policy_of_the_page_lets_nothing_inline_and_nothing_from_elsewhere():
    policy = guard.HEADERS['Content-Security-Policy']
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert 'unsafe' not in policy and 'http' not in policy and '*' not in policy


@pytest.mark.parametrize('host', ['0.0.0.0', '::'])
def test_others_are_told_addresses_and_names_that_they_can_open_and_that_are_ours(host):
    found = reached(host)
    assert found
    for one in found:
        assert one not in ('0.0.0.0', '::', '')
        assert guard.is_our_host(f'[{one}]:8650' if ':' in one else f'{one}:8650', [socket.gethostname().lower()])


def test_a_pc_without_a_way_to_the_outside_is_told_by_its_name(monkeypatch):
    class Nowhere(socket.socket):
        def connect(self, address):
            raise OSError(101, 'Network is unreachable')

    monkeypatch.setattr(socket, 'socket', Nowhere)
    assert reached('0.0.0.0') == [socket.gethostname()]


def test_who_is_bound_to_one_address_is_found_there():
    assert [reached(host) for host in ('127.0.0.1', '192.168.0.2', '::1')] == [['127.0.0.1'], ['192.168.0.2'], ['::1']]
