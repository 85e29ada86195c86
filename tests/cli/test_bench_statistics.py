"""What `iblbridge bench` makes of its times."""

from __future__ import annotations

import pytest

from bridge.cli.bench.statistics import percentile, ratio, summary, verdict


@pytest.mark.parametrize(('percent', 'value'), [(0, 1), (1, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)])
def test_a_percentile_is_one_of_the_times(percent, value):
    assert percentile(list(range(100, 0, -1)), percent) == value


def test_of_no_times_there_is_no_percentile():
    with pytest.raises(ValueError, match='no times'):
        percentile([], 50)


def test_one_disturbed_round_does_not_show():
    quiet = [[10.0] * 99 + [20.0]] * 2
    assert summary([*quiet, [1000.0] * 100]) == (10, 10)
    assert ratio([*quiet, [1000.0]], [[20.0], [20.0], [1.0]]) == 0.5


def test_a_slow_hour_that_meets_both_leaves_the_ratio():
    assert ratio([[1.0], [100.0]], [[2.0], [200.0]]) == 0.5


@pytest.mark.parametrize(
    ('times', 'said'), [(0.5, 'faster'), (0.83, 'faster'), (0.84, '≈'), (1, '≈'), (1.19, '≈'), (1.2, 'slower')]
)
def test_a_ratio_under_one_point_two_is_no_win(times, said):
    assert verdict(times) == said
