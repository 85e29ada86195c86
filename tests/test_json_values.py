"""JSON is one thing on every path: what it cannot say is refused, with one sentence, wherever a program enters."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import ScriptedPeer, StockServer, echo_and_reply

from bridge import plain
from bridge.auxiliaries import Auxiliaries
from bridge.errors import Misuse
from bridge.segment.client import Client
from bridge.segment.payload import Refused, decode_arguments

LOOP: list[Any] = []
LOOP.append(LOOP)
SAID = [
    ({'a': [1, 2.5, None, True, 'é']}, {'a': [1, 2.5, None, True, 'é']}),
    ((1, 2), [1, 2]),
    (2**70, 2**70),
    (np.int64(2**62 + 1), 2**62 + 1),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.float32(0.5), 0.5),
    (np.float64(0.1), 0.1),
    (np.bool_(True), True),
    (np.str_('text'), 'text'),
    (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    (np.array(5), 5),
    (np.array([], dtype='f4'), []),
    (np.array(['a', 'bc']), ['a', 'bc']),
    (np.array([{'a': np.int8(1)}, None], dtype=object), [{'a': 1}, None]),
    (np.datetime64('2026-01-01'), '2026-01-01'),
    (np.array(['2026-01-01', '2026-01-02'], dtype='M8[D]'), ['2026-01-01', '2026-01-02']),
    (Path('data') / 'x', str(Path('data') / 'x')),
    (date(2026, 1, 1), '2026-01-01'),
    (datetime(2026, 1, 1, 12, tzinfo=timezone.utc), '2026-01-01T12:00:00+00:00'),
]
REFUSED = [
    (math.nan, ValueError, 'NaN'),
    ({'a': [1, math.inf]}, ValueError, 'Infinity'),
    ((-math.inf,), ValueError, '-Infinity'),
    (np.float32('nan'), ValueError, 'NaN'),
    (np.array([1.0, np.nan]), ValueError, 'NaN'),
    (1 + 2j, TypeError, '(1+2j) (complex)'),
    (np.array([1j]), TypeError, 'array([0.+1.j]) (ndarray)'),
    ({1, 2}, TypeError, '{1, 2} (set)'),
    ([b'bytes'], TypeError, "b'bytes' (bytes)"),
    (np.bytes_(b'x'), TypeError, 'bytes'),
    (np.timedelta64(1, 's'), TypeError, 'timedelta64'),
    (np.longdouble(1), TypeError, 'longdouble'),
    (np.datetime64('NaT', 's'), TypeError, 'NaT'),
    (object, TypeError, "<class 'object'> (type)"),
    ({(1, 2): 3}, TypeError, 'a key that is not text, (1, 2) (tuple)'),
    (LOOP, ValueError, 'a list that holds itself'),
]


@pytest.mark.parametrize(('value', 'wanted'), SAID, ids=repr)
def test_what_python_programs_have_at_hand_is_said_exactly(value, wanted):
    assert json.loads(plain.dumps([value])) == [wanted]


@pytest.mark.parametrize(('value', 'kind', 'named'), REFUSED, ids=lambda value: repr(value)[:30])
def test_what_json_cannot_say_is_refused_and_named(value, kind, named):
    with pytest.raises(kind) as refused:
        plain.dumps([{'deep': value}])
    text = str(refused.value)
    assert text.startswith('JSON cannot express ') and text.endswith('; send null, text or a number instead')
    assert named in text


def test_what_is_nested_too_deeply_is_refused():
    value: Any = 0
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match='JSON cannot express what is nested so deeply'):
        plain.dumps(value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_text_that_comes_out_is_json_and_says_the_same(value):
    try:
        text = plain.dumps(value)
    except ValueError:
        assert 'nan' in repr(value) or 'inf' in repr(value)
    else:
        assert json.loads(text, parse_constant=pytest.fail) == value and text.isascii()


def test_both_faces_refuse_the_same_with_the_same_words(serve):
    with StockServer() as server, StockServer() as other:
        serve('rig', {'cameras': server.uri})
        direct, remote = Auxiliaries({'cameras': other.uri}), Auxiliaries.from_segment('rig')
        try:
            with Client('rig') as client:
                for value, kind, _ in REFUSED:
                    said = set()
                    for aux in (direct, remote):
                        error = aux.push('EXPINIT', {'x': value}, wait=True)
                        assert type(error) is kind
                        said.add(str(error))
                    for function in (client.call, client.send, client.notify):
                        with pytest.raises(kind) as refused:
                            function('EXPINIT', {'x': value})
                        said.add(str(refused.value))
                    assert len(said) == 1
        finally:
            direct.close()
            remote.close()
        assert server.saw == other.saw == []


def test_what_is_said_reaches_the_service_as_it_is(serve):
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig') as client:
            for value, _ in SAID:
                client.call('EXPINIT', value)
        assert server.saw == [[1, wanted] for _, wanted in SAID]


@pytest.mark.parametrize('text', ['1.0e999', '-1e400', '[[1e309]]', '{"a": 123456789e301}'])
def test_a_number_beyond_all_numbers_is_refused_and_not_sent_as_infinity(text):
    with pytest.raises(Refused, match='beyond the range of numbers') as refused:
        decode_arguments(1, f'[{text}]', True, len(text))
    assert refused.value.code == -8033


def test_numbers_within_the_range_pass():
    assert decode_arguments(1, '[[1e308, -1e-400, 1.5, 12345678901234567890123]]', True, 40)[1] == (
        [1e308, 0.0, 1.5, 12345678901234567890123],
    )


def test_a_program_that_writes_such_a_number_is_told_and_nothing_is_sent(serve):
    from bridge.segment.library import ffi, lib

    with ScriptedPeer(echo_and_reply) as peer:
        serve('rig', {'cameras': peer.uri})
        with Client('rig') as client:
            request = ffi.new('int *')
            assert lib.iblb_send(client._handle, b'', 1, b'[1.0e999]', 0, request) == 0
            with pytest.raises(Misuse, match='beyond the range of numbers'):
                client.wait(request[0], 20)
        assert peer.messages == []
