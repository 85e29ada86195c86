"""The wall clock as text is what datetime says, at every moment."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.wall import wall

SPRING, AUTUMN = 1774746000, 1792890000  # s: summer time begins and ends in Berlin in 2026


def said(now: int) -> str:
    moment = datetime.fromtimestamp(now // 10**9).replace(microsecond=now % 10**9 // 1000)
    return (
        moment.replace(fold=datetime.fromtimestamp(now // 10**9).fold).astimezone().isoformat(timespec='milliseconds')
    )


@given(st.integers(10**15, 4 * 10**18))
def test_a_moment_is_said_as_datetime_says_it(now):
    assert wall(now) == said(now)


@pytest.mark.posix('the zone of a process is not set by its environment')
def test_the_offset_follows_summer_time(monkeypatch):
    monkeypatch.setenv('TZ', 'CET-1CEST,M3.5.0,M10.5.0/3')
    time.tzset()
    try:
        for change, before, after in ((SPRING, '+01:00', '+02:00'), (AUTUMN, '+02:00', '+01:00')):
            for at, offset in ((change * 10**9 - 1, before), (change * 10**9, after), (change * 10**9 - 1, before)):
                assert wall(at).endswith(offset) and wall(at) == said(at)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_without_a_moment_it_is_now():
    assert time.time() - 60 < datetime.fromisoformat(wall()).timestamp() <= time.time()
