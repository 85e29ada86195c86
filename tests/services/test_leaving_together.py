"""The datagrams of one command leave one behind the other: nothing is worked out, told or awaited in between."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from peers import ScriptedPeer, aux_of, echo_and_reply, free_port

from bridge import datagrams
from bridge.auxiliaries import Auxiliaries
from bridge.carrier import Command
from bridge.outcome import Reason
from bridge.segment.client import Client
from bridge.services.line import Line
from bridge.services.link import Link

NAMES = ('a', 'b', 'c', 'd')


Parcels = Sequence[tuple[int, int, int, bytes]]


@pytest.fixture(params=['one by one', 'by one call'])
def rig(request: pytest.FixtureRequest) -> Iterator[Auxiliaries]:
    """Give four services that answer at once, and Auxiliaries of them, by themselves and as the worker has them."""
    with ExitStack() as stack:
        peers = {name: stack.enter_context(ScriptedPeer(echo_and_reply)) for name in NAMES}
        aux = stack.enter_context(aux_of(**{name: peer.uri for name, peer in peers.items()}))
        aux.timing.reply_gap = 0.0
        if request.param == 'by one call':
            aux._carrier.send_all = datagrams.send
        yield aux


by_one_call = pytest.mark.parametrize('rig', ['by one call'], indirect=True)


def leaving(rig: Auxiliaries) -> list[str]:
    """Return how the datagrams of one command to all are written in the row."""
    return ['transmit'] * 4 if rig._carrier.send_all is None else ['send_all']


def watch(rig: Auxiliaries, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the row of what links and lines do, as it is written."""
    row: list[str] = []
    if (send_all := rig._carrier.send_all) is not None:
        monkeypatch.setattr(rig._carrier, 'send_all', lambda them: [row.append('send_all'), send_all(them)][1])

    def watch_one(kind: type, method: str) -> None:
        stock = getattr(kind, method)

        def watched(self: Any, *args: Any) -> Any:
            if method != 'transmit' or args[0].endswith(b' '):  # a command, not a confirmation
                row.append(method)
            return stock(self, *args)

        monkeypatch.setattr(kind, method, watched)

    watch_one(Link, 'transmit')
    watch_one(Line, 'next')
    watch_one(Line, 'left')
    return row


@pytest.mark.parametrize('message', ['EXPSTART', 'EXPEND', 'EXPINTERRUPT', 'EXPCLEANUP'])
def test_nothing_comes_between_the_datagrams_of_one_command(rig: Auxiliaries, monkeypatch, message) -> None:
    row = watch(rig, monkeypatch)
    arguments = ['2026-01-01_1_subject'] if message == 'EXPSTART' else []
    assert all(outcome.ok for outcome in rig.submit(message, *arguments).result(5).values())
    wanted = leaving(rig)
    first = row.index(wanted[0])
    assert row[first : first + len(wanted) + 4] == wanted + ['left'] * 4, 'something came in between'
    assert [what for what in row if what in ('send_all', 'transmit')] == wanted


def test_the_gate_is_asked_once_when_all_is_ready_and_before_anything_leaves(rig: Auxiliaries, monkeypatch) -> None:
    row = watch(rig, monkeypatch)
    command = Command('EXPINIT', names=NAMES, gate=lambda: row.append('gate'))
    assert all(outcome.ok for outcome in rig._carrier.submit(command).result(5).values())
    asked = row.index('gate')
    wanted = ['gate', *leaving(rig)]
    assert row[asked : asked + len(wanted)] == wanted and row.count('gate') == 1


def test_of_a_command_that_the_gate_refuses_nothing_leaves_and_the_next_one_does(rig: Auxiliaries, monkeypatch) -> None:
    row = watch(rig, monkeypatch)

    def refuse() -> None:
        raise PermissionError('too late')

    with pytest.raises(PermissionError, match='too late'):
        rig._carrier.submit(Command('EXPINIT', names=NAMES, gate=refuse)).result(5)
    assert not {'send_all', 'transmit'} & set(row)
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


# --- by one call: of each datagram what would have come of it alone ---


def spoil(rig: Auxiliaries, spoiler: Callable[[], object]) -> list[Parcels]:
    """Have something done when the next datagrams are about to leave; return what left together."""
    stock, calls = rig._carrier.send_all, []

    def send_all(parcels: Parcels) -> Any:
        if not calls:
            spoiler()
        calls.append(parcels)
        return stock(parcels)

    rig._carrier.send_all = send_all
    return calls


def socket_of(rig: Auxiliaries, name: str) -> socket.socket:
    return rig._carrier.opener._sockets[name]._socket


def test_what_a_worker_sends_to_several_services_leaves_by_one_call(serve, monkeypatch) -> None:
    stock, calls = datagrams.send, []
    monkeypatch.setattr(datagrams, 'send', lambda parcels: [calls.append(len(parcels)), stock(parcels)][1])
    with ScriptedPeer(echo_and_reply) as one, ScriptedPeer(echo_and_reply) as two:
        serve('rig', {'one': one.uri, 'two': two.uri}, ask=False)
        with Client('rig') as client:
            assert client.call('EXPINIT', timeout=5)['code'] == 0
    assert calls == [2]


@by_one_call
def test_a_single_datagram_leaves_without_that_call(rig: Auxiliaries) -> None:
    calls = spoil(rig, lambda: None)
    assert rig.submit('EXPINIT', services=['b']).result(5)['b'].ok
    assert not calls


@by_one_call
def test_each_errand_has_the_time_of_its_own_datagram(rig: Auxiliaries) -> None:
    stock, told = rig._carrier.send_all, []
    rig._carrier.send_all = lambda parcels: told.append(stock(parcels)) or told[-1]
    outcomes = rig.submit('EXPINIT').result(5)
    assert [outcomes[name].sent for name in NAMES] == [stamp for stamp, _ in told[0]]
    assert len({outcome.sent for outcome in outcomes.values()}) == 4


@by_one_call
@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells a socket that is not connected')
def test_the_refusal_of_an_earlier_datagram_costs_no_later_one(rig: Auxiliaries) -> None:
    nobody = ('127.0.0.1', free_port())
    calls = spoil(rig, lambda: socket_of(rig, 'b').sendto(b'x', nobody))
    assert all(outcome.ok for outcome in rig.submit('EXPINIT').result(5).values())
    assert len(calls) == 1
    with pytest.raises(BlockingIOError):  # nothing is left that would wake the loop up for ever
        socket_of(rig, 'b').recvmsg(1, 512, socket.MSG_ERRQUEUE)


@by_one_call
def test_a_socket_that_was_closed_meanwhile_is_said_and_opened_again_and_the_others_go_on(rig: Auxiliaries) -> None:
    spoil(rig, lambda: socket_of(rig, 'b').close())
    outcomes = rig.submit('EXPINIT').result(5)
    assert [name for name, outcome in outcomes.items() if not outcome.ok] == ['b']
    assert outcomes['b'].reason is Reason.NETWORK and not outcomes['b'].sent
    assert all(outcomes[name].ok for name in NAMES if name != 'b')
    assert all(outcome.ok for outcome in rig.submit('EXPINIT').result(5).values()), 'it was not opened again'


@by_one_call
def test_what_finds_no_room_is_left_to_the_transport(rig: Auxiliaries) -> None:
    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(full, name)

        def sendto(self, *_: Any) -> None:
            raise BlockingIOError

    stock, of_b = rig._carrier.send_all, rig._carrier.opener._sockets['b']
    full, of_b._socket = of_b._socket, Full()

    def send_all(parcels: Parcels) -> Any:
        told = stock([one for one in parcels if one[0] != full.fileno()])
        return [*told[:1], (told[0][0], errno.EAGAIN), *told[1:]]

    rig._carrier.send_all = send_all
    assert all(outcome.ok for outcome in rig.submit('EXPINIT').result(5).values())


@by_one_call
def test_what_has_others_before_it_that_wait_for_room_leaves_behind_them(rig: Auxiliaries, monkeypatch) -> None:
    transport = rig._carrier.opener._sockets['b'].com._transport
    monkeypatch.setattr(transport, 'get_write_buffer_size', lambda: 1)
    calls = spoil(rig, lambda: None)
    handed, stock = [], transport.sendto
    monkeypatch.setattr(transport, 'sendto', lambda *what: [handed.append(what[0][-1:]), stock(*what)])
    assert all(outcome.ok for outcome in rig.submit('EXPINIT').result(5).values())
    assert [len(parcels) for parcels in calls] == [3] and handed[0] == b' '


@by_one_call
def test_a_call_that_raises_ends_the_errands_and_the_next_command_works(rig: Auxiliaries) -> None:
    def fail() -> None:
        rig._carrier.send_all = stock
        raise MemoryError('no room')

    stock = rig._carrier.send_all
    spoil(rig, fail)
    outcomes = rig.submit('EXPINIT').result(5)
    assert {outcome.reason for outcome in outcomes.values()} == {Reason.INTERNAL}
    assert all(outcome.ok for outcome in rig.submit('EXPINIT').result(5).values())
