"""Strangers cannot fill the log by way of the page."""

from __future__ import annotations

import io
import logging

import pytest

from bridge.web.seldom import PAUSE, STRANGERS, Seldom


class Said:
    """A handler with the filter, and a clock to be set."""

    def __init__(self) -> None:
        self.now, self.text = 0.0, io.StringIO()
        self.handler = logging.StreamHandler(self.text)
        self.handler.addFilter(Seldom(lambda: self.now))

    @property
    def lines(self) -> list[str]:
        return self.text.getvalue().splitlines()


@pytest.fixture
def said():
    return Said()


def logger(said: Said, name: str) -> logging.Logger:
    made = logging.Logger(name)
    made.addHandler(said.handler)
    return made


def fails(log: logging.Logger, who: str) -> None:
    try:
        raise ValueError('a bad\nrequest')
    except ValueError:
        log.exception('Error handling request from %s', who)


def test_malformed_requests_are_one_line_in_a_minute_and_no_traceback(said):
    log = logger(said, 'aiohttp.server')
    for number in range(200):
        fails(log, f'10.0.0.{number}')
    assert said.lines == ['Error handling request from 10.0.0.0 (ValueError)']
    said.now += PAUSE
    fails(log, '10.0.0.7')
    assert said.lines[1:] == ['Error handling request from 10.0.0.7 (ValueError); and 199 more like it']


def test_what_strangers_cannot_cause_is_all_said(said):
    log = logger(said, 'bridge.web.server')
    for _ in range(3):
        log.warning('the button was pressed')
        log.warning('the button was refused to %s', 'x', extra=STRANGERS)
    assert said.lines == ['the button was pressed', 'the button was refused to x', *['the button was pressed'] * 2]
