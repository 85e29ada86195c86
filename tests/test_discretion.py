"""What may be logged or written down of a command."""

from __future__ import annotations

import json

import pytest

from bridge import discretion

TOKEN = 's3cret'


@pytest.mark.parametrize('message', ['ALYX', 128])
def test_of_a_message_that_may_hold_a_token_nothing_is_told_that_could_quote_it(message):
    told = [
        discretion.error(message, f'bad token {TOKEN}'),
        discretion.error(message, ValueError(TOKEN)),
        discretion.said(message, f'its callback failed with {TOKEN}'),
        *discretion.arguments(message, ['https://alyx', {'user': TOKEN}]),
    ]
    assert TOKEN not in json.dumps(told) and all(told)
    assert discretion.error(message, ValueError(TOKEN)) == 'ValueError'
    assert discretion.error(message, '') == discretion.said(message, '') == ''


@pytest.mark.parametrize('message', ['EXPINIT', 16, None, [128], {}, 'alyx2'])
def test_of_every_other_message_everything_is_told(message):
    assert discretion.error(message, 'words') == discretion.said(message, 'words') == 'words'
    assert discretion.error(message, ValueError('words')) == 'words'
    assert discretion.arguments(message, (1, 2)) == (1, 2)


@pytest.mark.parametrize(
    'body',
    [
        {'message': 'ALYX', 'args': ('https://alyx', {'user': TOKEN}), 'services': 'cameras,ephys', 'sent': 5},
        {'message': 'ALYX', 'error': TOKEN, 'services': [{'name': 'a', 'error': TOKEN, 'data': {'value': TOKEN}}]},
        {'message': 'ALYX', 'error': '', 'services': []},
        {'event': 'ALYX', 'service': 'cameras', 'data': {'value': ['https://alyx', {'user': TOKEN}]}},
    ],
)
def test_an_entry_is_written_without_a_token_and_with_all_its_keys(body):
    before = repr(body)
    clean = discretion.entry(body)
    assert TOKEN not in json.dumps(clean) and clean.keys() == body.keys()
    assert clean.get('services') in ('cameras,ephys', [], None) or clean['services'][0]['name'] == 'a'
    assert repr(body) == before, 'the response itself is as it was'


def test_other_entries_are_left_as_they_are():
    body = {'message': 'EXPINIT', 'args': (1,), 'error': 'words'}
    assert discretion.entry(body) is body
