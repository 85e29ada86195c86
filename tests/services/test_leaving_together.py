"""The datagrams of one command leave one behind the other: nothing is worked out, told or awaited in between."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from peers import ScriptedPeer, aux_of, echo_and_reply

from bridge.auxiliaries import Auxiliaries
from bridge.carrier import Command
from bridge.outcome import Reason
from bridge.services.line import Line
from bridge.services.link import Link

NAMES = ('a', 'b', 'c', 'd')


@pytest.fixture
def rig():
    """Give four services that answer at once, and Auxiliaries of them."""
    with ExitStack() as stack:
        peers = {name: stack.enter_context(ScriptedPeer(echo_and_reply)) for name in NAMES}
        aux = stack.enter_context(aux_of(**{name: peer.uri for name, peer in peers.items()}))
        aux.timing.reply_gap = 0.0
        yield aux


def watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the row of what links and lines do, as it is written."""
    row: list[str] = []

    def watch_one(kind: type, method: str) -> None:
        stock = getattr(kind, method)

        def watched(self: Any, *args: Any) -> Any:
            if method != '_transmit' or args[0].endswith(b' '):  # a command, not a confirmation
                row.append(method)
            return stock(self, *args)

        monkeypatch.setattr(kind, method, watched)

    watch_one(Link, '_transmit')
    watch_one(Line, 'next')
    watch_one(Line, 'left')
    return row


@pytest.mark.parametrize('message', ['EXPSTART', 'EXPEND', 'EXPINTERRUPT', 'EXPCLEANUP'])
def test_nothing_comes_between_the_datagrams_of_one_command(rig: Auxiliaries, monkeypatch, message) -> None:
    row = watch(monkeypatch)
    arguments = ['2026-01-01_1_subject'] if message == 'EXPSTART' else []
    assert all(outcome.ok for outcome in rig.submit(message, *arguments).result(5).values())
    first = row.index('_transmit')
    assert row[first : first + 8] == ['_transmit'] * 4 + ['left'] * 4, 'something came in between'
    assert row.count('_transmit') == 4


def test_the_gate_is_asked_once_when_all_is_ready_and_before_anything_leaves(rig: Auxiliaries, monkeypatch) -> None:
    row = watch(monkeypatch)
    command = Command('EXPINIT', names=NAMES, gate=lambda: row.append('gate'))
    assert all(outcome.ok for outcome in rig._carrier.submit(command).result(5).values())
    asked = row.index('gate')
    assert row[asked : asked + 5] == ['gate'] + ['_transmit'] * 4 and row.count('gate') == 1


def test_of_a_command_that_the_gate_refuses_nothing_leaves_and_the_next_one_does(rig: Auxiliaries, monkeypatch) -> None:
    row = watch(monkeypatch)

    def refuse() -> None:
        raise PermissionError('too late')

    with pytest.raises(PermissionError, match='too late'):
        rig._carrier.submit(Command('EXPINIT', names=NAMES, gate=refuse)).result(5)
    assert '_transmit' not in row
    assert all(outcome.ok for outcome in rig.submit('EXPINIT').result(5).values())


@pytest.mark.parametrize('step', ['next', 'left'])
def test_a_line_that_fails_ends_its_own_errand_and_no_other(rig: Auxiliaries, monkeypatch, step) -> None:
    stock, failed = getattr(Line, step), []

    def fails(self: Line, *args: Any) -> Any:
        if self.name == 'b' and not failed:
            failed.append(1)
            raise LookupError('a fault of ours')
        return stock(self, *args)

    monkeypatch.setattr(Line, step, fails)
    outcomes = rig.submit('EXPINIT').result(5)
    assert [name for name, outcome in outcomes.items() if not outcome.ok] == ['b']
    assert outcomes['b'].reason is Reason.INTERNAL
