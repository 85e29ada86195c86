"""Arguments and response bodies: plain values in, plain values out."""

from __future__ import annotations

import json
import math
from datetime import datetime

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.numbers import CODES, MESSAGES, STATUSES
from bridge.outcome import Outcome, reply_data, to_entry
from bridge.sayable import sayable
from bridge.segment import response
from bridge.segment.payload import (
    Refused,
    check_arguments,
    choose_services,
    decode_arguments,
    message_number,
    signature,
)
from bridge.segment.response import pack_response, response_body
from bridge.services import rules, simulate

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)

FITTING = [
    ('EXPINIT', None, ()),
    ('EXPINIT', [{'a': 1}], ({'a': 1},)),
    ('EXPINIT', {'a': 1}, ({'a': 1},)),
    ('EXPINIT', [[1, 2]], ([1, 2],)),
    ('EXPSTART', '2026-01-01_1_subject', ('2026-01-01_1_subject',)),
    ('EXPSTART', ['2026-01-01_1_subject', {'note': 1}], ('2026-01-01_1_subject', {'note': 1})),
    (
        'EXPSTART',
        [{'date': '2026-01-01', 'sequence': 1, 'subject': 's'}],
        ({'date': '2026-01-01', 'sequence': 1, 'subject': 's'},),
    ),
    ('EXPEND', None, ()),
    ('EXPCLEANUP', [], ()),
    ('EXPINTERRUPT', 'stop it', ('stop it',)),
    ('EXPSTATUS', None, (0,)),
    ('EXPSTATUS', 'running', (20,)),
    ('EXPSTATUS', [30], (30,)),
    ('EXPINFO', None, (0,)),
    ('EXPINFO', ['CONNECTED', {'exp_ref': None}], (0, {'exp_ref': None})),
    ('ALYX', None, ()),
    ('ALYX', [None], ()),
    ('ALYX', [None, None], ()),
    ('ALYX', [], ()),
    ('ALYX', 'https://alyx.example.org', ('https://alyx.example.org',)),
    ('ALYX', ['https://alyx.example.org'], ('https://alyx.example.org',)),
    ('ALYX', ['https://alyx.example.org', None], ('https://alyx.example.org',)),
    ('ALYX', ['https://alyx.example.org', {}], ('https://alyx.example.org',)),
    ('ALYX', ['https://alyx.example.org', {'user': 'token'}], ('https://alyx.example.org', {'user': 'token'})),
    ('PING', None, ()),
]

NOT_FITTING = [
    ('EXPSTART', None, 'exp_ref'),
    ('EXPSTART', [], 'exp_ref'),
    ('EXPSTART', [''], 'exp_ref'),
    ('EXPSTART', [7], 'exp_ref'),
    ('EXPSTART', [{'date': '2026-01-01'}], 'sequence, subject'),
    ('EXPSTART', [{'date': '2026-01-01', 'sequence': 'one', 'subject': 's'}], 'whole number'),
    ('EXPSTART', ['r', 1, 2], '3 arguments'),
    ('EXPINIT', [1, 2], '2 arguments'),
    ('EXPSTATUS', ['SLEEPING'], 'SLEEPING'),
    ('EXPSTATUS', [True], 'true'),
    ('EXPSTATUS', [5], '0 CONNECTED'),
    ('EXPINFO', [{}], 'status'),
    ('ALYX', [None, {'user': 'token'}], 'url and token'),
    ('ALYX', [''], 'url must be text'),
    ('ALYX', [None, {}], 'url and token'),
    ('ALYX', ['u', 'token'], 'object'),
    ('PING', [1], 'takes nothing'),
]


@pytest.mark.parametrize(('message', 'given_', 'expected'), FITTING)
def test_arguments_that_fit_become_positional_arguments(message, given_, expected):
    assert check_arguments(message, given_) == expected


@pytest.mark.parametrize(('message', 'given_', 'named'), NOT_FITTING)
def test_arguments_that_do_not_fit_are_refused_with_a_sentence_that_says_why(message, given_, named):
    with pytest.raises(Refused, match='takes') as refusal:
        check_arguments(message, given_)
    assert refusal.value.code == CODES['IBLB_E_ARGS']
    assert named in str(refusal.value)


@given(st.sampled_from(sorted(MESSAGES)), JSON)
def test_any_arguments_are_accepted_or_refused_and_nothing_else(message, raw):
    try:
        assert isinstance(check_arguments(message, raw), tuple)
    except Refused as refusal:
        assert refusal.code in CODES.values()


@given(st.integers(), st.text())
def test_any_text_in_place_of_json_is_accepted_or_refused_and_nothing_else(message, text):
    try:
        decode_arguments(message, text, True, 0)
    except Refused as refusal:
        assert refusal.code in CODES.values()


def test_a_number_of_more_digits_than_python_reads_is_refused_not_a_crash():
    with pytest.raises(Refused, match='cannot be read') as refusal:
        decode_arguments(MESSAGES['EXPINIT'], '9' * 10_000, True, 0)
    assert refusal.value.code == CODES['IBLB_E_JSON']


def test_a_command_larger_than_a_datagram_is_refused():
    payload = json.dumps(['x' * 65_500])
    with pytest.raises(Refused) as refusal:
        decode_arguments(MESSAGES['EXPINIT'], payload, True, len(payload))
    assert refusal.value.code == CODES['IBLB_E_TOO_LARGE']


def test_text_that_grows_beyond_a_datagram_when_it_is_escaped_is_refused():
    payload = json.dumps(['é' * 20_000], ensure_ascii=False)
    assert len(payload.encode()) < 65_507
    with pytest.raises(Refused) as refusal:
        decode_arguments(MESSAGES['EXPINIT'], payload, True, len(payload.encode()))
    assert refusal.value.code == CODES['IBLB_E_TOO_LARGE']


def test_messages_are_known_by_name_and_number():
    assert message_number(' expstart ') == message_number(2) == 2
    with pytest.raises(ValueError, match='EXPSTART'):
        message_number('EXPBAR')


def test_signatures_show_what_may_be_left_out():
    assert signature('EXPSTART') == 'exp_ref, [data]'
    assert signature('EXPINFO') == '[status], [data]'
    assert signature('PING') == 'nothing'


def test_services_come_in_configured_order_however_they_are_named():
    configured = ['cameras', 'ephys', 'sound']
    assert choose_services('', configured) == configured
    assert choose_services(' sound ,cameras', configured) == ['cameras', 'sound']


def test_an_unknown_service_is_named():
    with pytest.raises(Refused, match='"scope".*cameras, ephys') as refusal:
        choose_services('cameras,scope', ['cameras', 'ephys'])
    assert refusal.value.code == CODES['IBLB_E_SERVICE']


@pytest.mark.parametrize(
    ('message', 'reply', 'data'),
    [
        ('EXPINFO', [20, {'exp_ref': 'r'}], {'status': 20, 'info': {'exp_ref': 'r'}}),
        ('EXPINFO', [20], {'status': 20, 'info': None}),
        ('EXPSTATUS', [10], {'status': 10}),
        ('EXPINIT', ['ready'], {'value': 'ready'}),
        ('EXPSTART', ['r', None], {'value': ['r', None]}),
        ('ALYX', None, {}),
        ('EXPEND', [], {}),
    ],
)
def test_a_reply_becomes_the_map_of_its_message(message, reply, data):
    assert reply_data(message, reply) == data


@given(JSON | st.just('\ud800') | st.just(2**80) | st.just(10**400))
def test_whatever_a_service_answers_can_be_packed(value):
    said = sayable(value)
    again = msgpack.unpackb(msgpack.packb(said))
    assert again == said


def test_what_msgpack_cannot_say_is_said_as_near_as_can_be():
    assert sayable([math.nan, math.inf, 2**70, '\udc00', {1: True}]) == [None, None, float(2**70), '?', {'1': True}]


def test_data_nested_deeper_than_the_c_reader_goes_becomes_text():
    value: list = []
    for _ in range(100):
        value = [value]
    assert 'nested too deeply' in json.dumps(sayable(value))


def body_of(data: dict, count: int = 2) -> dict:
    entries = [
        to_entry(Outcome(f's{i}', True, 'answered', reply=[data], event=1, sent=1, echoed=2, answered=3), 'EXPINIT')
        for i in range(count)
    ]
    wall = '2026-01-01T00:00:00.000+00:00'
    return response_body(
        request=1, command_id='k', message='EXPINIT', code=0, error='', services=entries, sent=1, accepted=2, wall=wall
    )


def test_every_key_is_there_and_of_its_type():
    types = {
        'request': int,
        'command_id': str,
        'message': str,
        'code': int,
        'error': str,
        'services': list,
        'sent': int,
        'accepted': int,
        'finished': int,
        'wall': str,
    }
    body = body_of({})
    assert {key: type(value) for key, value in body.items()} == types
    empty = response_body(request=1, command_id='', message='PING', code=-1, error='', services=[], sent=0)
    assert {key: type(value) for key, value in empty.items()} == types
    entry_types = {'name': str, 'ok': bool, 'state': str, 'reason': str, 'error': str, 'data': dict, 'status': int}
    entry_types |= {'sent': int, 'echoed': int, 'answered': int}
    assert [(key, type(value)) for key, value in body['services'][0].items()] == list(entry_types.items())
    assert datetime.fromisoformat(body['wall']).tzinfo is not None


def test_a_response_that_fits_is_left_alone():
    body = body_of({'a': 1})
    code, packed = pack_response(body, 10_000)
    assert (code, msgpack.unpackb(packed)) == (0, body)


def test_text_of_json_is_read_without_a_decoder_of_its_own(monkeypatch):
    monkeypatch.setattr(json, 'JSONDecoder', None)
    assert decode_arguments(MESSAGES['EXPEND'], '[{"note": 1.5}]', True, 20) == ('EXPEND', ({'note': 1.5},))
    with pytest.raises(Refused, match='beyond the range'):
        decode_arguments(MESSAGES['EXPEND'], '[1e999]', True, 20)


def test_what_is_packed_with_a_token_in_it_is_packed_with_nothing_that_is_kept(monkeypatch):
    real, packed = response._kept.pack, []
    monkeypatch.setattr(response._kept, 'pack', lambda body: packed.append(body['message']) or real(body))
    for message in ('EXPINFO', 'ALYX', 'PING'):
        whole = body_of({'value': {'user': 'token'}}) | {'message': message}
        assert msgpack.unpackb(pack_response(whole, 10_000)[1]) == whole
    assert packed == ['EXPINFO', 'PING']


def test_half_a_surrogate_pair_spoils_neither_its_response_nor_the_next():
    broken = body_of({}) | {'error': 'caf\udce9'}
    for whole, error in ((broken, 'caf?'), (body_of({}), ''), (broken, 'caf?')):
        assert msgpack.unpackb(pack_response(whole, 10_000)[1]) == whole | {'error': error}


def test_a_response_that_is_too_large_loses_its_data_and_says_how_much():
    code, packed = pack_response(body_of({'a': 'x' * 50_000}), 10_000)
    short = msgpack.unpackb(packed)
    assert code == short['code'] == CODES['IBLB_W_SHORTENED']
    assert len(packed) <= 10_000
    for entry in short['services']:
        assert entry['ok'] and entry['state'] == 'answered' and entry['data'] == {}
        assert '500' in entry['error'] and 'left out' in entry['error']


def test_a_hundred_long_errors_fit_after_shortening():
    entries = [to_entry(Outcome(f's{i}', error='e' * 5000), 'EXPINIT') for i in range(128)]
    body = response_body(
        request=1, command_id='k', message='EXPINIT', code=-8071, error='e' * 600_000, services=entries, sent=1
    )
    code, packed = pack_response(body, 131_000)
    assert code == -8071
    assert len(packed) <= 131_000


def test_every_module_that_says_numbers_of_its_own_says_the_same():
    assert rules.MESSAGE_NUMBERS.items() <= MESSAGES.items()
    assert set(simulate.MESSAGES) == set(rules.MESSAGE_NUMBERS)
    assert {state.name: state.value for state in simulate.State} == STATUSES
