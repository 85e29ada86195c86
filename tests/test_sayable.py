"""What a service says breaks nothing of what others are told, whatever it is."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import ScriptedPeer, StockServer, is_command

from bridge.errors import ServiceFailure
from bridge.journal import Journal, Reading
from bridge.outcome import Outcome, Reason, to_entry
from bridge.sayable import LONGEST_SENTENCE, sayable, sentence
from bridge.segment.client import Client
from bridge.segment.response import event_body, pack, pack_response, response_body
from bridge.services import rules

REF = '2026-01-01_1_subject'
TEXT = st.text(st.characters() | st.characters(categories=('Cs', 'Cc')), max_size=20)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
DEEP = '[' * 900 + ']' * 900


@given(st.sampled_from([0, 1, 2, 16, 32, 64, 128, 999]), st.lists(ANYTHING, max_size=3))
def test_whatever_a_service_says_can_be_passed_on_in_every_way(event, data):
    message = rules.read(json.dumps([event, *data]).encode())
    if message is None:
        return
    number, said = message
    assert msgpack.unpackb(msgpack.packb(said)) == said
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    json.dumps(said, ensure_ascii=False).encode()
    if number == rules.ERROR:
        assert len(said[0]) <= LONGEST_SENTENCE and (said[0].isprintable() or not said[0])
    assert rules.read(json.dumps([number, *said]).encode()) == message, 'once is enough'


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message_are_none_and_raise_nothing(datagram):
    rules.read(datagram)


@pytest.mark.parametrize('opening', ['[', '{"a":'])
def test_an_error_that_is_nested_deeply_is_an_error_like_others(opening):
    closing = ']' if opening == '[' else '}'
    found = rules.read(f'[0, {opening * 900}1{closing * 900}, 2]'.encode().replace(b'[]', b'[1]'))
    assert found is not None and 'nested too deeply' in found[1][0]


def test_values_that_only_python_has_are_said_as_near_as_can_be():
    assert sayable([b'caf\xe9', {1}, (2, 3), {None: b'x'}, math.nan]) == ['caf\ufffd', [1], [2, 3], {'None': 'x'}, None]


def test_a_sentence_is_one_line_and_says_where_it_was_cut():
    assert sentence('no\r\n2026-01-01 ERROR  forged\x1b[31m\u2028\u202e') == 'no 2026-01-01 ERROR forged [31m'
    assert sentence('é' * LONGEST_SENTENCE) == 'é' * LONGEST_SENTENCE
    cut = sentence('é' * 60_000)
    assert len(cut) == LONGEST_SENTENCE and cut.endswith(' [...]')


def entry(name: str, data: str) -> dict:
    return to_entry(Outcome(name, True, 'answered', reply=[data], event=1, sent=1, echoed=2, answered=3), 'EXPINIT')


def test_of_a_response_that_is_too_large_only_the_largest_data_are_left_out():
    entries = [entry('a', 'x' * 5000), *(entry(f's{i}', 'short') for i in range(20)), entry('b', 'x' * 6000)]
    body = response_body(request=1, command_id='k', message='EXPINIT', code=0, error='', services=entries, sent=1)
    _, packed = pack_response(body, 10_000)
    kept = {one['name']: one['data'] for one in msgpack.unpackb(packed)['services']}
    assert kept.pop('b') == {}
    assert kept.pop('a') == {'value': 'x' * 5000}, 'one was enough'
    assert all(data == {'value': 'short'} for data in kept.values())


@given(ANYTHING)
def test_an_event_and_a_response_say_whatever_a_service_said(value):
    _, data = rules.read(json.dumps([64, 20, value]).encode())
    body = event_body('EXPINFO', service='a', data=data, time=1, wall='2026-01-01T00:00:00.000+00:00')
    assert msgpack.unpackb(pack(body)) == body
    outcome = Outcome('a', True, 'answered', reply=data, event=64, sent=1, echoed=2, answered=3)
    entries = [to_entry(outcome, 'EXPINFO')]
    body = response_body(request=1, command_id='k', message='EXPINFO', code=0, error='', services=entries, sent=1)
    assert msgpack.unpackb(pack_response(body, 1 << 20)[1]) == body


@given(TEXT)
def test_a_sentence_of_ours_may_quote_anything(text):
    entries = [to_entry(Outcome('a', error=text, reason=Reason.NETWORK), 'EXPINFO')]
    body = response_body(request=1, command_id='k', message='EXPINFO', code=-1, error=text, services=entries, sent=1)
    told = msgpack.unpackb(pack_response(body, 1 << 20)[1])
    assert told['error'] == told['services'][0]['error'] == sayable(text)
    event = event_body('SERVICE_DOWN', data=[text], time=1, wall='2026-01-01T00:00:00.000+00:00')
    assert msgpack.unpackb(pack(event))['data'] == {'value': sayable(text)}


def test_what_a_service_says_is_gone_through_once(serve, monkeypatch):
    deep = []
    original = rules.sayable

    def watched(value, depth=0):
        deep.append(value)
        return original(value, depth)

    monkeypatch.setattr('bridge.services.rules.sayable', watched)
    for module in ('bridge.segment.response', 'bridge.worker.commands', 'bridge.worker.housekeeping'):
        monkeypatch.setattr(f'{module}.sayable', lambda value: pytest.fail(f'again: {value}'), raising=False)
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig') as client:
            client.subscribe('SERVICE_UP')
            assert client.call('EXPINIT', {'exp_ref': REF})['code'] == 0
            assert client.next_event(5)['event'] == 'SERVICE_UP'
    assert deep


def saying(answer: str) -> Callable[[ScriptedPeer, bytes], None]:
    """A peer that echoes, and answers with a text in which EVENT stands for the command's number."""

    def script(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send(datagram)
            peer.send(answer.replace('EVENT', str(json.loads(datagram)[0])).encode())

    return script


ANSWERS = {
    'half a surrogate pair in an error': r'[0, "OSError: caf\udce9.txt", EVENT]',
    'an error of 60 kB': f'[0, "{"x" * 60_000}", EVENT]',
    'an error of two lines': r'[0, "no\n2026-01-01 00:00:00,000 ERROR   forged\r\u001b[31m", EVENT]',
    'an error that is not text': '[0, {"a": [NaN]}, EVENT]',
    'an error that is nested deeply': f'[0, {DEEP}, EVENT]',
    'half a surrogate pair in a reference': r'[EVENT, "caf\udce9", {"exp_ref": "caf\udce9", "caf\udcea": 1}]',
    'a reference of 60 kB': f'[EVENT, "{"x" * 60_000}", null]',
    'no numbers': '[EVENT, NaN, {"status": Infinity, "a": -Infinity, "b": 1e999}]',
    'a number of 4000 digits': f'[EVENT, {"9" * 4000}, {{"status": 1{"0" * 400}}}]',
    'deep nesting': f'[EVENT, {DEEP}, {DEEP}]',
}


@pytest.mark.parametrize('message', ['EXPINIT', 'EXPSTART', 'EXPINFO'])
@pytest.mark.parametrize('answer', ANSWERS.values(), ids=ANSWERS)
def test_whatever_a_service_answers_everybody_is_told_the_rest(serve, caplog, tmp_path, message, answer):
    caplog.set_level(logging.DEBUG)
    journal = Journal(tmp_path / 'journal')
    with ScriptedPeer(saying(answer)) as bad, ScriptedPeer(saying(answer)) as worse, StockServer() as good:
        serve('rig', {'bad': bad.uri, 'worse': worse.uri, 'good': good.uri}, timeout=5.0, journal=journal)
        with Client('rig') as client:
            try:
                body = client.call(message, *([REF] if message == 'EXPSTART' else []), timeout=4)
            except ServiceFailure as failure:
                body = failure.response
            told = {one['name']: one for one in body['services']}
            assert told['good']['ok'] and told['good']['data']
            for name in ('bad', 'worse'):
                assert told[name]['reason'] in ('', 'callback_failed', 'status'), told[name]
                assert len(told[name]['error']) < 600 and '\n' not in told[name]['error']
            rig = client.call('SERVICES')
            assert rig['code'] == 0
            assert [one['data']['health'] for one in rig['services']] == ['up', 'up', 'up']
    journal.close()
    assert [one['kind'] for one in Reading(journal.path)].count('outcome') == 2
    assert not [record for record in caplog.records if record.exc_info or '\n' in record.getMessage()]
    assert all(len(record.getMessage()) < 5000 for record in caplog.records)
