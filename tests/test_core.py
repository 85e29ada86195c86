"""The decisions, as functions of values."""

from __future__ import annotations

import pytest

from bridge.core import UNKNOWN_AFTER, Health, command_id, shown_request, status_of
from bridge.native import CODES
from bridge.outcomes import Outcome

FINE = Outcome('ephys', True, 'answered', '', [0], 32, 1, 2, 3)
DEAD = Outcome('cameras', False, 'unreachable', 'no echo', sent=1)
STOPPED = Outcome('sound', False, 'echoed', 'aborted by EXPINTERRUPT', sent=1, echoed=2, aborted=True)


@pytest.mark.parametrize(
    ('outcomes', 'optional', 'name', 'error'),
    [
        ([], (), 'IBLB_OK', ''),
        ([FINE], (), 'IBLB_OK', ''),
        ([FINE, DEAD], (), 'IBLB_E_PARTIAL', 'cameras: no echo'),
        ([DEAD], (), 'IBLB_E_ALL_FAILED', 'cameras: no echo'),
        ([FINE, DEAD], ('cameras',), 'IBLB_W_OPTIONAL', 'cameras: no echo'),
        ([DEAD], ('ephys',), 'IBLB_E_ALL_FAILED', 'cameras: no echo'),
        ([FINE, STOPPED], (), 'IBLB_E_ABORTED', 'sound: aborted by EXPINTERRUPT'),
        ([DEAD, STOPPED], (), 'IBLB_E_ABORTED', 'cameras: no echo; sound: aborted by EXPINTERRUPT'),
        (
            [FINE, DEAD, STOPPED],
            ('cameras', 'sound'),
            'IBLB_W_OPTIONAL',
            'cameras: no echo; sound: aborted by EXPINTERRUPT',
        ),
    ],
)
def test_the_status_is_0_only_if_every_service_did_what_was_asked(outcomes, optional, name, error):
    assert status_of(outcomes, optional) == (CODES[name], error)


def test_a_service_is_unknown_up_and_down_as_its_outcomes_tell():
    health = Health()
    assert health.state(5) == 'unknown'
    health.note(FINE)
    assert health.state(5) == 'up'
    assert health.state(3 + UNKNOWN_AFTER) == 'unknown'
    health.note(DEAD)
    assert health.state(5) == 'down'
    assert health.describe(2_000_003) == {'health': 'down', 'age_ms': 2, 'rtt_us': 0, 'last_error': 'no echo'}
    health.note(FINE)
    assert health.state(5) == 'up' and not health.error


def test_a_command_that_never_left_says_nothing_about_the_service():
    health = Health()
    health.note(FINE)
    health.note(Outcome('ephys', False, 'not_sent', 'too long'))
    assert health.state(5) == 'up'


def test_a_command_has_one_key_and_the_number_its_client_knows():
    assert command_id(0xABC, 3, 2**31 + 5) == '0000000000000abc-03-2147483653'
    assert shown_request(2**31 + 5) == 5
