"""References of experiments: what iblrig's services can parse is sent, and nothing else, unless the lab says so."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import StockServer, eventually

from bridge.config import ConfigError, load_settings, parse_rig
from bridge.errors import Misuse
from bridge.segment import references
from bridge.segment.client import Client
from bridge.segment.payload import Refused, check_arguments

GOOD = [
    '2026-01-01_1_subject',
    '2026-01-01_001_subject',
    '2024-02-29_12_a',
    '2026-01-01_1_ZFM-01577',
    '2026-01-01_1_two words_and.more',
    '2026-01-01_1_Mäuschen→x',
    {'date': '2026-01-01', 'sequence': 1, 'subject': 'subject'},
    {'date': '2026-01-01', 'sequence': '001', 'subject': 'subject', 'more': [1]},
]
PARTS = {'date': '2026-01-01', 'sequence': 1, 'subject': 'subject'}
BAD = [
    (None, 'exp_ref must be text like "2026-01-01_1_subject" or an object, not null'),
    (5, 'or an object, not 5'),
    (['2026-01-01', 1, 'x'], 'or an object, not ["2026-01-01", 1, "x"]'),
    ('', 'exp_ref must be date_sequence_subject, such as "2026-01-01_1_subject", not ""'),
    ('x', 'must be date_sequence_subject'),
    ('2026-01-01_subject', 'must be date_sequence_subject'),
    ('../..', 'must be date_sequence_subject'),
    ('01-Jan-2026_1_x', 'the date of exp_ref must be text like "2026-01-01", not "01-Jan-2026"'),
    ('20260101_1_x', 'the date of exp_ref'),
    ('２０２６-01-01_1_x', 'the date of exp_ref'),
    ('2026-02-30_1_x', 'the date of exp_ref, "2026-02-30", is not in the calendar: day is out of range for month'),
    (' 2026-01-01_1_x', 'the date of exp_ref'),
    ('2026-01-01\n_1_x', 'the date of exp_ref'),
    ('2026-01-01_0_x', 'the sequence of exp_ref must be a whole number from 1, not "0"'),
    ('2026-01-01_-1_x', 'the sequence of exp_ref'),
    ('2026-01-01_1.5_x', 'the sequence of exp_ref'),
    ('2026-01-01_²_x', 'the sequence of exp_ref'),
    ('2026-01-01__x', 'the sequence of exp_ref'),
    ('2026-01-01_1_', 'the subject of exp_ref must be non-empty text, not ""'),
    ('2026-01-01_1_ ', 'the subject of exp_ref must be non-empty text'),
    ('2026-01-01_1_x\n', 'contains "\\n", which a folder name cannot'),
    ('2026-01-01_1_../..', 'contains "/", which'),
    ('2026-01-01_1_..\\x', 'contains "\\\\", which'),
    ('2026-01-01_1_..', 'cannot be the name of a folder'),
    ('2026-01-01_1_x.', 'cannot be the name of a folder'),
    ('2026-01-01_1_ x', 'cannot be the name of a folder'),
    ('2026-01-01_1_NUL', 'cannot be the name of a folder'),
    ('2026-01-01_1_a:b', 'contains ":", which'),
    ('2026-01-01_1_a\0b', 'contains "\\u0000", which'),
    ('2026-01-01_1_\ud800', 'contains "\\ud800", which'),
    ('2026-01-01_1_' + 'é' * 128, 'is longer than the 255 bytes that a name may have'),
    ({}, 'exp_ref lacks date, sequence, subject'),
    ({'date': '2026-01-01', 'subject': 'x'}, 'exp_ref lacks sequence'),
    *(({**PARTS, 'date': wrong}, 'the date of exp_ref must be') for wrong in (None, [], {}, '', 20260101, True)),
    *(({**PARTS, 'sequence': wrong}, 'the sequence of exp_ref') for wrong in (None, [], {}, '', 1.0, True, 0, -1, 'x')),
    *(({**PARTS, 'subject': wrong}, 'the subject of exp_ref') for wrong in (None, [], {}, '', 5, '../..', 'x\n')),
]
KEYS = [repr(value)[:40] for value, _ in BAD]


@pytest.mark.parametrize('value', GOOD, ids=lambda value: repr(value)[:40])
def test_what_can_be_parsed_passes_as_it_is(value):
    assert check_arguments('EXPSTART', [value]) == (value,)
    assert check_arguments('EXPINIT', [{'exp_ref': value}]) == ({'exp_ref': value},)
    assert check_arguments('EXPINFO', [0, {'exp_ref': value}]) == (0, {'exp_ref': value})


@pytest.mark.parametrize(('value', 'sentence'), BAD, ids=KEYS)
def test_what_cannot_is_refused_with_what_is_wrong(value, sentence):
    with pytest.raises(Refused) as refused:
        check_arguments('EXPSTART', [value])
    assert sentence in str(refused.value) and str(refused.value).startswith('EXPSTART takes exp_ref, [data]: ')
    with pytest.raises(Refused):
        check_arguments('EXPINIT', [{'exp_ref': value}])
    if value is not None:
        with pytest.raises(Refused):
            check_arguments('EXPINFO', [0, {'exp_ref': value}])


def test_a_rig_without_an_experiment_says_so():
    assert check_arguments('EXPINFO', ['CONNECTED', {'exp_ref': None}]) == (0, {'exp_ref': None})
    assert check_arguments('EXPINIT', []) == ()
    assert check_arguments('EXPINIT', ['anything']) == ('anything',)
    assert check_arguments('EXPEND', [{'exp_ref': 'x'}]) == ({'exp_ref': 'x'},)


@given(
    st.one_of(
        st.text(),
        st.dictionaries(st.sampled_from(['date', 'sequence', 'subject']), st.none() | st.text() | st.integers()),
    )
)
def test_whatever_passes_has_a_date_a_number_and_a_name(value):
    from datetime import date

    try:
        references.check(value)
    except ValueError as error:
        assert str(error) and '\n' not in str(error)
    else:
        parts = (
            [value[key] for key in ('date', 'sequence', 'subject')] if isinstance(value, dict) else value.split('_', 2)
        )
        assert isinstance(date.fromisoformat(parts[0]), date) and int(parts[1]) > 0 and parts[2].encode()


def test_another_form_is_sent_if_the_lab_says_so():
    for value in ('x', '01-Jan-2026', {'date': '01-Jan-2026', 'sequence': '1', 'subject': 'a/b'}):
        assert check_arguments('EXPSTART', [value], any_reference=True) == (value,)
        assert check_arguments('EXPINIT', [{'exp_ref': value}], any_reference=True) == ({'exp_ref': value},)
    for wrong in ('', ' ', None, [], {}, {**PARTS, 'sequence': 'x'}, {**PARTS, 'date': None}):
        with pytest.raises(Refused):
            check_arguments('EXPSTART', [wrong], any_reference=True)


def test_nothing_of_a_wrong_one_reaches_a_service(serve):
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig') as client:
            for wrong in ('01-Jan-2026_1_x', {**PARTS, 'subject': None}):
                with pytest.raises(Misuse) as refused:
                    client.call('EXPSTART', wrong)
                assert refused.value.name == 'IBLB_E_ARGS'
            client.call('EXPSTART', {**PARTS, 'sequence': '001'})
        assert server.saw == [[2, '2026-01-01_1_subject', None]]


@pytest.mark.parametrize('how', ['option', 'file'])
def test_serve_takes_any_reference_by_option_and_by_setting(how, tmp_path):
    with StockServer() as server:
        file = tmp_path / 'rig.yaml'
        file.write_text(f'cameras: {server.uri}\n' + '_rig: {any_reference: true}\n' * (how == 'file'))
        words = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig', '--services', str(file)]
        words += ['--no-ask', '--until-eof']  # what it asks by itself would be counted
        pipe = subprocess.PIPE
        with subprocess.Popen([*words, *['--any-reference'] * (how == 'option')], stdin=pipe, stderr=pipe) as worker:
            with Client('rig', timeout=60) as client:
                client.call('EXPSTART', 'monday', timeout=30)
            worker.communicate()
        assert eventually(lambda: server.saw) == [[2, 'monday', None]]


def test_the_setting_is_checked_and_a_file_of_settings_has_the_last_word(tmp_path):
    file = tmp_path / 'settings.yaml'
    for text, wanted in (('_rig: {heartbeat: 5}', True), ('_rig: {any_reference: false}', False)):
        file.write_text(text)
        assert load_settings(file, parse_rig({'_rig': {'any_reference': True}})).any_reference is wanted
    with pytest.raises(ConfigError, match='any_reference is text; write true or false'):
        parse_rig({'_rig': {'any_reference': json.dumps(True)}})
