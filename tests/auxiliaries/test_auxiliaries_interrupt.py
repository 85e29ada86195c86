"""EXPINTERRUPT overtakes everything, reaches everybody alive, and leaves nothing behind."""

import pytest
from peers import ScriptedPeer, StockServer, ask, aux_of, echo_and_reply, eventually, free_port, is_command, only_echo
from systems import PATIENCE


def test_an_interrupt_overtakes_a_long_wait_and_the_queue() -> None:
    def camera(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send(datagram)
            if datagram.startswith(b'[16'):
                peer.send([16, None])

    with ScriptedPeer(camera) as peer, aux_of(a=peer.uri) as aux:
        aux.timing.reply_gap = 60.0
        waiting = aux.submit('EXPSTART', 'x', timeout=60)
        queued = aux.submit('EXPINFO', 0, gate=lambda: pytest.fail('must not leave'))
        eventually(lambda: aux._carrier.links['a'].line.flying and aux._carrier.links['a'].line.flying[0].echoed)
        assert aux.submit('EXPINTERRUPT').result(20)['a'].ok
        assert waiting.result(5)['a'].state == 'echoed'
        assert queued.result(5)['a'].state == 'not_sent'
        for future in (waiting, queued):
            assert future.result()['a'].error == 'aborted by EXPINTERRUPT'
        eventually(lambda: [m[0] for m in peer.messages] == [2, 16, 16])
        assert aux.is_running


def test_commands_right_in_front_of_an_interrupt_do_not_close_a_stock_service() -> None:
    # Once it did, nearly always: a stock service that waits for the echo of its answer and reads an interrupt instead
    # closes its socket for good.
    with StockServer() as server, aux_of(a=server.uri) as aux:
        aux.timing.head_start, aux.timing.unread = 5.0, 10.0  # however slow this machine is
        for _ in range(10):
            start = aux.submit('EXPSTART', 'x')
            eventually(lambda start=start: aux._carrier.links['a'].line.flying or start.done())
            interrupts = [aux.submit('EXPINTERRUPT') for _ in range(3)]
            assert all(future.result(10)['a'].ok for future in (start, *interrupts))
        assert server.com.is_connected
        assert [event for event, *_ in server.saw] == [2, 16, 16, 16] * 10


def test_an_interrupt_does_not_wait_for_a_command_that_takes_its_time() -> None:
    for script in (only_echo, lambda *_: None):
        with ScriptedPeer(script) as peer, aux_of(a=peer.uri) as aux:
            # One that has not echoed does not read: it is given some time, for it would close if it read both at once.
            aux.timing.echo_timeout, aux.timing.patience, told = 0.3, 2.0, 'no echo'
            if script is only_echo:
                aux.timing.echo_timeout, told = 60.0, 'aborted by EXPINTERRUPT'
            waiting = aux.submit('EXPSTART', 'x')
            eventually(lambda peer=peer: peer.datagrams)
            aux.submit('EXPINTERRUPT')
            assert told in waiting.result(8)['a'].error
            eventually(lambda peer=peer: [16, None] in peer.messages)


@pytest.mark.not_wine('it does not tell of a refusal: the command before it is waited for')
def test_an_interrupt_reaches_the_living_with_one_dead_and_one_deaf() -> None:
    dead = f'udp://127.0.0.1:{free_port()}'
    with (
        ScriptedPeer(only_echo) as deaf,
        ScriptedPeer(echo_and_reply) as good,
        aux_of(dead=dead, deaf=deaf.uri, good=good.uri) as aux,
    ):
        aux.submit('EXPINIT')
        outcomes = aux.submit('EXPINTERRUPT', timeout=0.2).result(20)
        assert [o.state for o in outcomes.values()] == ['unreachable', 'echoed', 'answered']
        sent = [o.sent for o in outcomes.values()]
        assert max(sent) - min(sent) < 200_000_000, 'nobody waits for one that does not answer'


def test_the_late_echo_and_reply_of_an_interrupted_command_do_no_harm() -> None:
    def slow(peer: ScriptedPeer, datagram: bytes) -> None:
        if datagram.startswith(b'[2,') and is_command(datagram):
            peer.later(0.05 * PATIENCE, datagram)
            peer.later(0.3 * PATIENCE, [2, 'x', None])  # well behind it: the interrupt waits for the echo alone
        elif is_command(datagram):
            echo_and_reply(peer, datagram)

    with ScriptedPeer(slow) as peer, aux_of(a=peer.uri) as aux:
        waiting = aux.submit('EXPSTART', 'x')
        eventually(lambda: peer.datagrams)
        assert ask(aux, 'EXPINTERRUPT').ok
        assert waiting.result(5)['a'].state == 'echoed', 'the interrupt waited for the echo'
        eventually(lambda: [2, 'x', None] in peer.messages[1:])
        assert ask(aux, 'EXPEND').ok
        # start, interrupt, echo of its reply, echo of the late reply, end, and perhaps its reply's echo: no echo of an
        # echo
        assert len([d for d in peer.datagrams if d == peer.datagrams[0]]) == 1


def test_the_answers_to_a_repeated_interrupt_are_no_events() -> None:
    # Once they were: a program that reacts to an EXPINTERRUPT of a service would have interrupted again.
    def slow(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram) and peer.datagrams.count(datagram) == 2:  # it was held up, and finds both
            for answer in (datagram, datagram, [16, 'stopped'], [16, 'stopped again']):
                peer.send(answer)

    events = []
    with ScriptedPeer(slow) as peer, aux_of(a=peer.uri) as aux:
        aux.on_event = lambda *event: events.append(event)
        aux.timing.resend_at = 0.05
        assert ask(aux, 'EXPINTERRUPT', timeout=5).reply == ['stopped']
        eventually(lambda: [16, 'stopped again'] in peer.messages)
        peer.send([16, 'the camera died'])
        eventually(lambda: events)
        assert events == [('a', 16, ['the camera died'])]


def test_an_interrupt_does_not_end_what_was_submitted_after_it() -> None:
    with ScriptedPeer(echo_and_reply) as peer, aux_of(a=peer.uri) as aux:
        futures = [aux.submit('EXPINTERRUPT'), aux.submit('EXPINIT'), aux.submit('EXPINTERRUPT'), aux.submit('EXPEND')]
        states = [future.result(20)['a'].ok for future in futures]
        assert states == [True, False, True, True]


def test_an_interrupt_whose_gate_refuses_aborts_nothing() -> None:
    def gate() -> None:
        raise TimeoutError('too old')

    with ScriptedPeer(only_echo) as peer, aux_of(a=peer.uri) as aux:
        waiting = aux.submit('EXPINIT', timeout=0.3)
        eventually(lambda: peer.datagrams)
        with pytest.raises(TimeoutError):
            aux.submit('EXPINTERRUPT', gate=gate).result(20)
        assert 'reply' in waiting.result(20)['a'].error
        assert len(peer.datagrams) == 1
