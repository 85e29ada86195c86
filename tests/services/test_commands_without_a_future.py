"""A command of who neither waits nor cancels has no future: what becomes of it is told, once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from peers import StockServer

from bridge.carrier import Command, Outcomes
from bridge.outcome import Reason
from bridge.services.carrier import UdpCarrier

PATIENCE = 10.0  # s, against hangs


class Told:
    """Takes what is told."""

    def __init__(self) -> None:
        self.found: list[tuple[Outcomes, BaseException | None]] = []
        self.came = threading.Event()

    def __call__(self, outcomes: Outcomes, fault: BaseException | None) -> None:
        self.found.append((outcomes, fault))
        self.came.set()


@pytest.fixture
def carrier(server: StockServer) -> Iterator[UdpCarrier]:
    carrier = UdpCarrier({'cameras': server.uri})
    carrier.start()
    yield carrier
    carrier.close()


def test_its_outcomes_are_told_once(carrier):
    told = Told()
    command = Command('EXPINIT', ('x',), names=('cameras',), told=told)
    carrier.carry(command)
    assert told.came.wait(PATIENCE)
    command.resolve({})
    ((outcomes, fault),) = told.found
    assert (outcomes['cameras'].ok, outcomes['cameras'].reply, fault) == (True, ['x'], None)


def test_arguments_that_do_not_fit_are_told_before_it_returns(carrier):
    told = Told()
    carrier.carry(Command('EXPSTART', (), names=('cameras',), told=told))
    ((outcomes, fault),) = told.found
    assert (outcomes['cameras'].reason, fault) == (Reason.ARGUMENTS, None)


def test_what_its_gate_raises_is_told(carrier):
    def gate() -> None:
        raise ValueError('not given to us')

    told = Told()
    carrier.carry(Command('EXPINIT', ('x',), names=('cameras',), told=told, gate=gate))
    assert told.came.wait(PATIENCE)
    ((_, fault),) = told.found
    assert isinstance(fault, ValueError)


def test_it_is_told_when_the_carrier_is_closed(server, carrier):
    carrier.timing.reply_gap = 5.0
    first, second = Told(), Told()
    carrier.carry(Command('EXPINIT', ('x',), names=('cameras',), told=first))
    carrier.carry(Command('EXPINIT', ('y',), names=('cameras',), told=second))
    assert first.came.wait(PATIENCE)
    carrier.close()
    assert second.came.wait(PATIENCE)
    ((outcomes, fault),) = second.found
    assert (outcomes['cameras'].reason, fault) == (Reason.CLOSED, None)


def test_it_is_not_withdrawn_but_ends_when_the_queue_is_cleared(carrier):
    carrier.timing.reply_gap = 5.0
    first, second = Told(), Told()
    carrier.carry(Command('EXPINIT', ('x',), names=('cameras',), told=first))
    assert first.came.wait(PATIENCE)
    waiting = Command('EXPINIT', ('y',), names=('cameras',), told=second)
    carrier.carry(waiting)
    assert not carrier.withdraw(waiting)
    assert carrier.clear() == 1
    ((outcomes, _),) = second.found
    assert outcomes['cameras'].reason is Reason.WITHDRAWN


def test_what_fails_as_it_is_told_is_logged_and_costs_the_next_command_nothing(carrier, caplog):
    def fails(outcomes: Outcomes, fault: BaseException | None) -> None:
        raise ValueError('broken')

    with caplog.at_level(logging.ERROR):
        carrier.carry(Command('EXPINIT', ('x',), names=('cameras',), told=fails))
        assert carrier.submit(Command('EXPINIT', ('y',), names=('cameras',))).result(PATIENCE)['cameras'].ok
    assert 'broken' in caplog.text
