"""Where services are, and where they find us: names that move, refusals, our own port, a service's other address."""

from __future__ import annotations

import errno
import json
import logging
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from peers import ask, aux_of, eventually, free_port, is_command
from processes import WORKER, kill, program, serving
from sessions import Session
from systems import HOSTS, WINDOWS, ask_to_end

from bridge.errors import OutcomeUnknown, ServiceFailure
from bridge.outcome import Reason
from bridge.segment import ports
from bridge.segment.client import Client
from bridge.services.iblutil import Opener
from bridge.services.link import Link
from bridge.worker import Worker

pytestmark = pytest.mark.skipif(sys.platform == 'darwin', reason='has no 127.0.0.2')

REF = '2026-01-01_1_subject'
HERE, THERE = '127.0.0.1', '127.0.0.2'
NOWHERE = '255.255.255.255'  # where it is not refused, no datagram leaves for it: the socket says so itself
IP_PKTINFO = 8  # linux/in.h


class Place:
    """A service at an address of its own: healthy, unless `answer` is replaced.

    `came` holds all that arrived, each with the address that it came from.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, port))
        self.host, self.port = host, int(self.socket.getsockname()[1])
        self.uri = f'udp://{host}:{self.port}'
        self.came: list[tuple[bytes, tuple[str, int]]] = []
        self.answer: Callable[[Place, bytes], None] = healthy
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Place:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bell:
            bell.sendto(b'', (self.host, self.port))
        self._thread.join(5)
        self.socket.close()

    @property
    def peer(self) -> tuple[str, int]:
        """Who spoke to it last."""
        return self.came[-1][1]

    @property
    def commands(self) -> list[Any]:
        """The commands among what came, read."""
        return [json.loads(datagram) for datagram, _ in self.came if is_command(datagram)]

    def send(self, datagram: bytes, source: str = '') -> None:
        """Send to whom it heard last, if need be from another address of this computer."""
        if not source:
            self.socket.sendto(datagram, self.peer)
        elif WINDOWS:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
                there.bind((source, self.port))
                there.sendto(datagram, self.peer)
        else:
            about = struct.pack('=i4s4s', 0, socket.inet_aton(source), b'')
            self.socket.sendmsg([datagram], [(socket.IPPROTO_IP, IP_PKTINFO, about)], 0, self.peer)

    def _run(self) -> None:
        while True:
            try:
                datagram, address = self.socket.recvfrom(65535)
            except ConnectionError:  # Windows: what was sent before was refused
                continue
            if self._closing:
                return
            self.came.append((datagram, address))
            self.answer(self, datagram)


def healthy(place: Place, datagram: bytes) -> None:
    """Echo a command, and answer it with the same."""
    if is_command(datagram):
        place.send(datagram)
        place.send(datagram.rstrip())


def dumb(place: Place, datagram: bytes) -> None:
    """Say nothing."""


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A name server: what stands here by host name is answered, raised or called."""
    table: dict[str, Any] = {}

    def look_up(host: str) -> str:
        answer = table[host]
        if isinstance(answer, Exception):
            raise answer
        return str(answer() if callable(answer) else answer)

    monkeypatch.setattr(socket, 'gethostbyname', look_up)
    return table


# A host name that moves


@pytest.mark.not_wine('what 127.0.0.2 hears is answered from 127.0.0.1')
def test_a_service_that_has_moved_is_reached_after_it_was_unreachable(names) -> None:
    names['rig-pc'] = HERE
    with Place(THERE) as new, Place(HERE, new.port) as old, aux_of(a=f'udp://rig-pc:{new.port}') as aux:
        aux.timing.echo_timeout = 0.2
        assert ask(aux, 'EXPINIT').ok
        old.answer = dumb
        assert ask(aux, 'EXPSTART', REF).reason is Reason.NO_ECHO
        names['rig-pc'] = THERE
        assert ask(aux, 'EXPINIT', 'moved', timeout=2).ok
        assert new.commands == [[1, 'moved']]
        assert new.peer[1] == old.peer[1], 'it knows us by the same port'
        assert len(old.commands) == 2, 'nothing is sent to where it was'


@pytest.mark.not_wine('what 127.0.0.2 hears is answered from 127.0.0.1')
def test_with_default_settings_a_service_that_has_moved_gets_a_command_within_its_time_to_live(names, serve) -> None:
    names['rig-pc'] = HERE
    with Place(THERE) as new, Place(HERE, new.port) as old:
        old.answer = dumb
        serve('rig', {'cameras': f'udp://rig-pc:{new.port}'})
        with Client('rig') as client:
            with pytest.raises(ServiceFailure, match='is the service running'):
                client.call('EXPSTART', REF)
            names['rig-pc'] = THERE
            assert client.wait(client.send('EXPINIT'), 15)['code'] == 0
        assert new.commands == [[1, None]]


@pytest.mark.not_wine('what 127.0.0.2 hears is answered from 127.0.0.1')
def test_an_interrupt_reaches_a_service_that_has_moved(names) -> None:
    names['rig-pc'] = HERE
    with Place(THERE) as new, Place(HERE, new.port) as old, aux_of(a=f'udp://rig-pc:{new.port}') as aux:
        aux.timing.echo_timeout = 0.2
        old.answer = dumb
        assert ask(aux, 'EXPSTART', REF).reason is Reason.NO_ECHO
        names['rig-pc'] = THERE
        assert ask(aux, 'EXPINTERRUPT', timeout=2).ok
        assert new.commands == [[16, None]]


@pytest.mark.not_wine('what 127.0.0.2 hears is answered from 127.0.0.1')
def test_a_service_that_has_moved_is_reached_after_a_refusal(names) -> None:
    names['rig-pc'] = HERE
    with Place(THERE) as new, aux_of(a=f'udp://rig-pc:{new.port}') as aux:
        with Place(HERE, new.port) as old:
            assert ask(aux, 'EXPINIT').ok
            eventually(lambda: len(old.came) == 2)
        assert ask(aux, 'EXPSTART', REF).reason is Reason.REFUSED
        names['rig-pc'] = THERE
        assert ask(aux, 'EXPSTART', REF).ok
        assert new.commands == [[2, REF, None]]
        assert new.peer[1] == old.peer[1], 'it knows us by the same port'


@pytest.mark.not_wine('what 127.0.0.2 hears is answered from 127.0.0.1')
def test_a_service_that_has_moved_is_reached_after_an_error_of_the_socket(names, monkeypatch) -> None:
    monkeypatch.setattr(Opener, '_check', lambda *_: None)
    names['rig-pc'] = HERE
    with Place(THERE) as new, aux_of(a=f'udp://rig-pc:{new.port}') as aux:
        with Place(HERE, new.port) as old:
            assert ask(aux, 'EXPINIT').ok
            eventually(lambda: len(old.came) == 2)
        assert ask(aux, 'EXPSTART', REF).reason is Reason.REFUSED
        names['rig-pc'] = NOWHERE
        outcome = ask(aux, 'EXPSTART', REF)
        assert (outcome.state, outcome.reason) == ('not_sent', Reason.NETWORK), outcome
        names['rig-pc'] = THERE
        assert ask(aux, 'EXPSTART', REF).ok
        assert new.peer[1] == old.peer[1], 'it knows us by the same port'


def test_a_socket_that_could_not_be_opened_at_the_first_attempt_is_opened_at_the_next_command(
    names, monkeypatch
) -> None:
    monkeypatch.setattr(Opener, '_check', lambda *_: None)
    names['rig-pc'] = NOWHERE
    with Place(HERE) as new, aux_of(a=f'udp://rig-pc:{new.port}') as aux:
        outcome = ask(aux, 'EXPSTART', REF)
        assert (outcome.state, outcome.reason) == ('not_sent', Reason.NETWORK), outcome
        names['rig-pc'] = HERE
        assert ask(aux, 'EXPSTART', REF).ok
        assert new.commands == [[2, REF, None]]


def test_a_name_that_was_unknown_at_first_is_looked_up_at_the_next_command(names) -> None:
    names['rig-pc'] = socket.gaierror(-2, 'Name or service not known')
    with Place(HERE) as new, aux_of(a=f'udp://rig-pc:{new.port}') as aux:
        outcome = ask(aux, 'EXPSTART', REF)
        assert (outcome.state, outcome.reason) == ('not_sent', Reason.ADDRESS), outcome
        names['rig-pc'] = HERE
        assert ask(aux, 'EXPSTART', REF).ok


def test_a_name_that_no_thread_could_be_started_for_is_looked_up_at_the_next_command(names, monkeypatch) -> None:
    names['rig-pc'], start = HERE, threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == 'lookup':
            raise RuntimeError("can't start new thread")
        start(thread)

    with Place(HERE) as new, monkeypatch.context() as full:
        full.setattr(threading.Thread, 'start', refuse)
        with aux_of(a=f'udp://rig-pc:{new.port}') as aux:
            outcome = ask(aux, 'EXPSTART', REF)
            assert (outcome.state, outcome.reason) == ('not_sent', Reason.ADDRESS), outcome
            full.undo()
            assert ask(aux, 'EXPSTART', REF).ok


def test_while_all_goes_well_no_name_is_looked_up_a_second_time(names) -> None:
    lookups: list[None] = []

    def look_up() -> str:
        lookups.append(None)
        return HERE

    names['rig-pc'] = look_up
    with Place(HERE) as here, aux_of(a=f'udp://rig-pc:{here.port}') as aux:
        for _ in range(3):
            assert ask(aux, 'EXPSTATUS', 0).ok
    assert len(lookups) == 1


@pytest.mark.not_wine('it does not tell of a refusal')
@pytest.mark.parametrize('error', [socket.gaierror(-3, 'Temporary failure in name resolution'), OSError(5, 'broken')])
def test_a_name_server_that_fails_leaves_the_old_address_in_use(names, error) -> None:
    names['rig-pc'] = HERE
    port = free_port()
    with aux_of(a=f'udp://rig-pc:{port}') as aux:
        assert ask(aux, 'EXPSTART', REF).reason is Reason.REFUSED
        names['rig-pc'] = error
        assert ask(aux, 'EXPSTART', REF).reason is Reason.REFUSED, 'it was sent, to nobody'
        with Place(HERE, port) as back:
            assert ask(aux, 'EXPSTART', REF).ok
            assert back.commands == [[2, REF, None]]


class SlowLookUp:
    """A look-up of one name that is answered when it is released."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.asked, self._released = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.asked.set()
        self._released.wait(20)
        return self._address

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def slowly() -> Iterator[Callable[[str], SlowLookUp]]:
    """Give what makes a slow look-up; all are released at the end."""
    with ExitStack() as stack:

        def make(address: str) -> SlowLookUp:
            made = SlowLookUp(address)
            stack.callback(made.release)
            return made

        yield make


@pytest.mark.not_wine('it does not tell of a refusal')
def test_a_slow_look_up_of_one_service_does_not_hold_up_the_others(names, slowly) -> None:
    names['rig-pc'] = HERE
    port = free_port()
    with Place(HERE) as quick, aux_of(slow=f'udp://rig-pc:{port}', a=quick.uri) as aux:
        assert aux.submit('EXPSTART', REF).result(5)['slow'].reason is Reason.REFUSED
        names['rig-pc'] = look_up = slowly(THERE)
        with Place(HERE, port):
            started = time.perf_counter_ns()
            both = aux.submit('EXPINIT')
            assert look_up.asked.wait(5)
            assert ask(aux, 'EXPSTATUS', 0, timeout=5).ok and not both.done(), 'others go on meanwhile'
            outcomes = both.result(5)
        assert outcomes['a'].ok and outcomes['a'].answered - started < 0.5e9
        assert outcomes['slow'].ok, 'after a second the old address is used'
        assert outcomes['slow'].sent - started < 2e9


@pytest.mark.not_wine('it does not tell of a refusal')
def test_a_socket_that_is_closed_while_its_name_is_looked_up_is_opened_again(names, slowly) -> None:
    # Once the command behind the look-up was handed to the closed one.
    names['rig-pc'] = HERE
    port = free_port()
    with aux_of(a=f'udp://rig-pc:{port}') as aux:
        assert ask(aux, 'EXPSTART', REF).reason is Reason.REFUSED
        names['rig-pc'] = look_up = slowly(HERE)
        with Place(HERE, port):
            init = aux.submit('EXPINIT')
            assert look_up.asked.wait(5)
            opener = aux._carrier.opener
            aux._loop.call_soon_threadsafe(opener._sockets['a'].com.close)
            eventually(lambda: not opener._sockets['a'].is_open)
            look_up.release()
            assert init.result(10)['a'].ok


# Refusals


@pytest.mark.not_wine('it does not tell of a refusal')
def test_a_refusal_is_told_at_once_each_time_and_does_not_keep_the_loop_busy() -> None:
    with aux_of(a=f'udp://{HERE}:{free_port()}') as aux:
        for _ in range(50):
            started = time.monotonic()
            outcome = ask(aux, 'EXPSTART', REF, timeout=10)
            assert (outcome.state, outcome.reason) == ('unreachable', Reason.REFUSED), outcome
            assert time.monotonic() - started < 0.5
        assert cpu_time_of_an_idle_second() < 0.1


@pytest.mark.not_wine('it does not tell of a refusal')
def test_refusals_that_come_in_a_crowd_do_not_keep_the_loop_busy() -> None:
    with aux_of(a=f'udp://{HERE}:{free_port()}') as aux:
        for message in ('EXPSTATUS', 'EXPINTERRUPT', 'EXPINIT'):
            args = (0,) if message == 'EXPSTATUS' else ()
            crowd = [aux.submit(message, *args) for _ in range(20)]
            assert {future.result(10)['a'].reason for future in crowd} == {Reason.REFUSED}
        assert cpu_time_of_an_idle_second() < 0.1


@pytest.mark.not_wine('it does not tell of a refusal')
def test_refused_confirmations_do_not_keep_the_loop_busy() -> None:
    with aux_of(a=f'udp://{HERE}:{free_port()}') as aux:
        port = aux._carrier.communicators['a'].port
        with Place(HERE, port) as place:
            assert ask(aux, 'EXPINIT').ok
            eventually(lambda: len(place.came) == 2)
        stands_still, go_on = threading.Event(), threading.Event()
        aux._loop.call_soon_threadsafe(lambda: (stands_still.set(), go_on.wait(5)))
        assert stands_still.wait(5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as short_lived:
            short_lived.bind((HERE, port))
            for word in range(50):
                short_lived.sendto(b'[16, "%d"]' % word, place.peer)
        heard: list[Any] = []
        aux.on_event = lambda service, event, data: heard.append(data)
        go_on.set()
        eventually(lambda: len(heard) == 50)
        assert cpu_time_of_an_idle_second() < 0.1
        with Place(HERE, port):
            assert ask(aux, 'EXPINIT').ok


def test_what_is_too_large_to_leave_does_not_keep_the_loop_busy() -> None:
    """Linux reports that by way of the network, too."""
    with Place(HERE) as place, aux_of(a=place.uri) as aux:
        assert ask(aux, 'EXPINIT').ok
        link, failed = aux._carrier.links['a'], []
        assert isinstance(link, Link) and link.send is not None
        aux._loop.call_soon_threadsafe(lambda: failed.append(link.send(b'x' * 65508, 0)))
        assert isinstance(eventually(lambda: failed)[0], OSError)
        assert cpu_time_of_an_idle_second() < 0.1


@pytest.mark.parametrize('number', [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EPROTO])
def test_an_error_of_an_earlier_datagram_costs_no_later_one_whatever_it_is(number) -> None:
    with Place(HERE) as place, aux_of(a=place.uri) as aux:
        of_a = aux._carrier.opener._sockets['a']
        stock, told = of_a._socket, []

        class Telling:
            def __getattr__(self, name: str) -> Any:
                return getattr(stock, name)

            def sendto(self, *what: Any) -> int:
                if not told:
                    told.append(number)
                    raise OSError(number, 'of an earlier one')
                return stock.sendto(*what)

        of_a._socket = Telling()
        assert ask(aux, 'EXPINIT').ok and told


@pytest.mark.parametrize('message', ['EXPSTART', 'EXPINTERRUPT'])
@pytest.mark.parametrize('services', ['a', 'ab'])
def test_what_a_service_has_said_is_confirmed_before_a_command_leaves_although_the_loop_has_not_read_it(
    message, services
) -> None:
    """A plain service that reads a command instead of its confirmation closes."""
    word = b'[64, 20, "from itself"]'
    with Place(HERE) as a, Place(HERE) as b, aux_of(**{name: {'a': a, 'b': b}[name].uri for name in services}) as aux:
        assert all(outcome.ok for outcome in aux.submit('EXPINIT').result(5).values())
        eventually(lambda: len(a.came) == 2)
        aux.timing.reply_gap = 0.0  # what waits for the end of a pause leaves later
        stands_still, go_on = threading.Event(), threading.Event()
        aux._loop.call_soon_threadsafe(lambda: (stands_still.set(), go_on.wait(5)))
        assert stands_still.wait(5)
        a.send(word)
        command = aux.submit(message, *[REF] * (message == 'EXPSTART'))
        go_on.set()
        assert command.result(5)['a'].ok
        assert a.came[2][0] == word
        assert is_command(a.came[3][0])


def cpu_time_of_an_idle_second() -> float:
    """Return the CPU time that this process, which has nothing to do, takes in a second, s."""
    before = time.process_time()
    threading.Event().wait(1)
    return time.process_time() - before


@pytest.mark.not_wine('it does not tell of a refusal')
def test_a_service_that_is_there_again_after_refusals_is_reached_from_the_same_port() -> None:
    port = free_port()
    with aux_of(a=f'udp://{HERE}:{port}') as aux:
        with Place(HERE, port) as first:
            assert ask(aux, 'EXPINIT').ok
            eventually(lambda: len(first.came) == 2)
        for _ in range(5):
            assert ask(aux, 'EXPSTART', REF).reason is Reason.REFUSED
        with Place(HERE, port) as second:
            assert ask(aux, 'EXPSTART', REF).ok
            assert second.peer == first.peer


# Our own port


def end(process: subprocess.Popen[str]) -> str:
    """Stop a worker as a service manager does; return its log."""
    ask_to_end(process)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0, log
    return log


def terminate(process: subprocess.Popen[str]) -> None:
    end(process)


@pytest.mark.parametrize('ended', [kill, terminate])
def test_the_next_worker_speaks_to_each_service_from_the_port_of_the_one_before(ended) -> None:
    with Place(HERE) as cameras, Place(HOSTS[-1]) as ephys:
        services = '--service', f'cameras={cameras.uri}', '--service', f'ephys={ephys.uri}'
        with serving(*services) as worker:
            with Client('rig', timeout=5) as client:
                assert client.call('EXPINIT')['code'] == 0
            before = cameras.peer, ephys.peer
            ended(worker)
        with serving(*services) as worker:
            with Client('rig', timeout=5) as client:
                assert client.call('EXPSTART', REF)['code'] == 0
            assert (cameras.peer, ephys.peer) == before
            assert 'by which it knows us is not available' not in end(worker)
        assert before[0][1] != before[1][1]


@pytest.mark.parametrize('ended', [kill, terminate])
def test_a_session_that_speaks_after_a_restart_is_confirmed_and_heard(ended) -> None:
    with Session('one-loop') as session:
        service = '--service', f'cameras={session.uri}', '--no-ask'  # a question that crosses its word would close it
        with serving(*service) as first, Client('rig', timeout=5) as client:
            client.subscribe('EXPINTERRUPT', 'WORKER_RESTARTED')
            assert client.call('EXPINIT', {'exp_ref': REF})['code'] == 0
            has_heard_all(session)
            ended(first)
            with serving(*service) as second:
                assert client.next_event(5)['event'] == 'WORKER_RESTARTED'
                assert len(session.say('EXPINTERRUPT', 'disk-full')) == 1, 'it was confirmed'
                event = client.next_event(5)
                assert event is not None
                assert (event['event'], event['service']) == ('EXPINTERRUPT', 'cameras')
                assert event['data'] == {'value': 'disk-full'}
                assert session.connected, session.report()
                assert client.call('EXPSTART', REF)['code'] == 0
                end(second)


def test_what_is_said_while_the_next_worker_starts_is_confirmed_and_told(serve) -> None:
    """Its sockets are open before it looks for the first time which clients there are."""
    with Session('one-loop') as session, client_of_an_ended_worker(serve, session) as client:
        second = Worker('rig', {'cameras': session.uri})
        try:
            assert len(session.say('EXPINTERRUPT', 'disk-full')) == 1, 'it was confirmed'
            running = threading.Thread(target=second.run, daemon=True)
            running.start()
            heard = [event and event['event'] for event in (client.next_event(5), client.next_event(1))]
            second.stop()
            running.join(10)
        finally:
            second.close()
        assert session.connected, session.report()
        assert 'EXPINTERRUPT' in heard, heard


@contextmanager
def client_of_an_ended_worker(serve: Callable[..., Worker], session: Session) -> Iterator[Client]:
    """A subscribed client whose worker has ended after a first command."""
    first = serve('rig', {'cameras': session.uri})
    with Client('rig') as client:
        client.subscribe('EXPINTERRUPT', 'WORKER_RESTARTED')
        assert client.call('EXPINIT', {'exp_ref': REF})['code'] == 0
        first.end_of_test()  # type: ignore[attr-defined]
        yield client


def test_a_late_answer_to_the_worker_before_is_confirmed_by_the_next_one(serve) -> None:
    with Session('one-loop', '--work', 'EXPINIT=1.5') as session, a_worker_in_a_process(session) as (worker, client):
        request = client.send('EXPINIT', {'exp_ref': REF})
        eventually(lambda: 'EXPINIT' in session.heard)
        kill(worker)
        serve('rig', {'cameras': session.uri})
        with pytest.raises(OutcomeUnknown):
            client.wait(request, 5)
        assert client.call('EXPSTATUS', 0, timeout=5)['services'][0]['status'] == 10
        assert session.connected, session.report()
        assert client.call('EXPSTART', REF)['code'] == 0


@contextmanager
def a_worker_in_a_process(session: Session) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    with program(WORKER, 'rig', session.uri) as worker, Client('rig', timeout=5) as client:
        yield worker, client


def test_a_late_echo_of_a_command_of_the_worker_before_is_not_sent_back(serve) -> None:
    """It would be a command, and be carried out."""
    with Place(HERE) as place, program(WORKER, 'rig', place.uri) as worker:
        place.answer = dumb
        with Client('rig', timeout=5) as client:
            client.send('EXPSTART', REF)
            ((late, home),) = eventually(lambda: list(place.came))
            assert is_command(late)
        kill(worker)
        serve('rig', {'cameras': place.uri})
        place.send(late)
        place.send(b'[16, "disk full"]')
        eventually(lambda: len(place.came) > 1)
        assert place.came[1:] == [(b'[16, "disk full"]', home)], 'only what is no echo is confirmed'


@pytest.mark.posix('looks into /proc')
def test_a_session_held_up_over_a_restart_carries_out_its_command_once_and_stays(serve) -> None:
    with Session('one-loop') as session, a_worker_in_a_process(session) as (worker, client):
        assert client.call('EXPINIT', {'exp_ref': REF})['code'] == 0
        has_heard_all(session)
        session.process.send_signal(signal.SIGSTOP)
        client.send('EXPSTART', REF)
        eventually(lambda: unread(session.port))
        kill(worker)
        serve('rig', {'cameras': session.uri})
        session.process.send_signal(signal.SIGCONT)  # if it answered while no worker was there, it would close
        eventually(lambda: 'EXPSTART' in session.heard)
        assert client.call('EXPSTATUS', 0, timeout=5)['services'][0]['status'] == 20
        report = session.report()
        assert report['connected'], report['errors']
        assert session.heard.count('EXPSTART') == 1


def has_heard_all(session: Session) -> None:
    """Wait until its answer is confirmed: whoever called it may know the answer earlier."""
    assert session.say('EXPINFO', 'here')


def unread(port: int) -> int:
    """Return how many bytes wait in the socket that is bound to a port."""
    for line in Path('/proc/net/udp').read_text().splitlines()[1:]:
        _, local, _, _, queues, *_ = line.split()
        if int(local.rpartition(':')[2], 16) == port:
            return int(queues.rpartition(':')[2], 16)
    return 0


# Where the ports are kept


def restarted(serve: Callable[..., Worker], place: Place, between: Callable[[Path, int], None]) -> tuple[int, int]:
    """Return the ports of two workers, between which something happens to the file of ports."""
    services = {'cameras': place.uri}
    first = serve('rig', services)
    with Client('rig') as client:
        assert client.call('EXPINIT')['code'] == 0
        before = place.peer[1]
        first.end_of_test()  # type: ignore[attr-defined]
        between(ports.place(first.path), before)
        second = serve('rig', services)
        assert client.call('EXPSTART', REF)['code'] == 0
        second.end_of_test()  # type: ignore[attr-defined]
    return before, place.peer[1]


def test_without_a_file_of_ports_there_are_new_ones_and_nothing_else(serve, caplog) -> None:
    caplog.set_level(logging.WARNING)
    with Place(HERE) as place:
        before, after = restarted(serve, place, lambda file, port: file.unlink())
        assert before != after
    assert not caplog.records


GARBAGE = [
    b'',
    b'\xff\x00',
    b'[' * 100_000,
    b'{"cameras": 1',
    b'[4711]',
    b'4711',
    b'null',
    *(b'{"cameras": %s}' % port for port in (b'"4711"', b'-1', b'0', b'65536', b'1e400', b'true', b'null', b'[4711]')),
    b'{"cameras": ' + b'9' * 5000 + b'}',
]


@pytest.mark.parametrize('garbage', GARBAGE, ids=lambda garbage: repr(garbage[:20]))
def test_a_file_of_ports_that_makes_no_sense_costs_new_ports_and_nothing_else(serve, caplog, garbage) -> None:
    with Place(HERE) as place:
        before, after = restarted(serve, place, lambda file, port: file.write_bytes(garbage))
        assert before != after
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_port_that_another_program_has_costs_a_new_one_and_a_line_in_the_log(serve, caplog) -> None:
    with Place(HERE) as place, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        before, after = restarted(serve, place, lambda file, port: other.bind((HERE, port)))
        assert before != after
        (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert line.levelno == logging.WARNING
        assert 'cameras' in line.getMessage() and str(before) in line.getMessage()
        again, still = restarted(serve, place, lambda file, port: None)
        assert again == still == after, 'from then on it is the new one'


def test_two_services_with_one_port_in_the_file_get_one_each(serve, segment_directory) -> None:
    port = free_port()
    ports.place(segment_directory / 'rig').write_text(json.dumps({'cameras': port, 'ephys': port}))
    with Place(HERE) as cameras, Place(HERE) as ephys:
        serve('rig', {'cameras': cameras.uri, 'ephys': ephys.uri})
        with Client('rig') as client:
            assert client.call('EXPINIT')['code'] == 0
        assert port in (cameras.peer[1], ephys.peer[1]) and cameras.peer != ephys.peer


def test_ports_that_cannot_be_put_in_place_are_written_over(segment_directory, monkeypatch) -> None:
    """As on Windows while another program has the file open."""
    ports.save(segment_directory / 'rig', {'cameras': 4711})
    monkeypatch.setattr('os.replace', lambda *_: (_ for _ in ()).throw(PermissionError(13, 'in use')))
    ports.save(segment_directory / 'rig', {'cameras': 4712})
    assert ports.load(segment_directory / 'rig') == {'cameras': 4712}, 'it was not written over'
    assert list(segment_directory.iterdir()) == [ports.place(segment_directory / 'rig')]


def test_serve_keeps_the_ports_at_its_end_and_removes_them_with_the_segment(segment_directory) -> None:
    with Place(HERE) as place:
        service = '--service', f'cameras={place.uri}'
        with serving(*service) as worker:
            end(worker)
        assert ports.load(segment_directory / 'rig').keys() == {'cameras'}
        with serving(*service, '--remove') as worker:
            assert ports.place(segment_directory / 'rig').exists()
            end(worker)
        assert list(segment_directory.iterdir()) == []


def test_the_doctor_says_nothing_of_the_ports(segment_directory) -> None:
    def doctor(*options: str) -> str:
        command = [sys.executable, '-m', 'bridge', 'doctor', *options]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    with Place(HERE) as place, serving('--service', f'cameras={place.uri}'):
        assert ports.place(segment_directory / 'rig').exists()
        assert '.ports' not in doctor() and 'not looked at' not in doctor()
        assert json.loads(doctor('--json'))['ignored'] == []


# A service with two addresses


def answers_from_its_other_address(place: Place, datagram: bytes) -> None:
    if is_command(datagram):
        place.send(datagram, THERE)
        place.send(datagram.rstrip(), THERE)


@pytest.mark.not_wine('what 127.0.0.2 hears is answered from 127.0.0.1')
@pytest.mark.parametrize('message', ['EXPSTART', 'EXPSTATUS'])
def test_a_service_that_answers_from_its_other_address_is_told_with_that(message) -> None:
    with Place('0.0.0.0') as place, aux_of(a=f'udp://{HERE}:{place.port}') as aux:
        aux.timing.echo_timeout = 0.2
        place.answer = answers_from_its_other_address
        outcome = ask(aux, message, REF if message == 'EXPSTART' else 0)
        assert (outcome.ok, outcome.state, outcome.reason) == (False, 'unreachable', Reason.OTHER_ADDRESS)
        assert THERE in outcome.error and HERE in outcome.error
        assert all(is_command(datagram) for datagram, _ in place.came), 'its reply is not confirmed'


@pytest.mark.not_wine('what 127.0.0.2 hears is answered from 127.0.0.1')
def test_the_other_address_reaches_whoever_called_and_the_health(serve) -> None:
    with Place('0.0.0.0') as place:
        place.answer = answers_from_its_other_address
        serve('rig', {'cameras': f'udp://{HERE}:{place.port}'})
        with Client('rig') as client:
            with pytest.raises(ServiceFailure, match=THERE) as failure:
                client.call('EXPSTART', REF)
            (entry,) = failure.value.response['services']
            assert (entry['state'], entry['reason']) == ('unreachable', 'other_address')
            (entry,) = client.call('SERVICES')['services']
            assert THERE in entry['data']['last_error'] and entry['data']['health'] == 'down'


@pytest.mark.not_wine('what 127.0.0.2 hears is answered from 127.0.0.1')
def test_a_service_that_also_answers_from_where_it_is_configured_is_fine() -> None:
    def both(place: Place, datagram: bytes) -> None:
        answers_from_its_other_address(place, datagram)
        healthy(place, datagram)

    with Place('0.0.0.0') as place, aux_of(a=f'udp://{HERE}:{place.port}') as aux:
        place.answer = both
        assert ask(aux, 'EXPSTART', REF).ok


def test_what_strangers_say_changes_nothing() -> None:
    heard: list[Any] = []
    with Place(HERE) as place, aux_of(a=place.uri) as aux, Place(HOSTS[-1]) as stranger, Place(HERE) as neighbour:
        aux.on_event = lambda *event: heard.append(event)
        assert ask(aux, 'EXPINIT').ok
        said = [b'[16, "x"]', b'[2, "%s", null]' % REF.encode(), b'[0, "x", 2]', b'', b'\xff', b'[2, 1] ', b'[' * 9999]

        def interfered_with(place: Place, datagram: bytes) -> None:
            if is_command(datagram):
                for other in (stranger, neighbour):
                    for what in (*said, datagram):
                        other.socket.sendto(what, place.peer)
                healthy(place, datagram)

        place.answer = interfered_with
        outcome = ask(aux, 'EXPSTART', REF)
        assert outcome.ok and outcome.reply == [REF, None]
        place.answer = lambda place, datagram: is_command(datagram) and place.send(datagram)
        aux.timing.timeout = 0.2
        for other in (stranger, neighbour):
            for what in said:
                other.socket.sendto(what, place.peer)
        outcome = ask(aux, 'EXPSTART', REF)
        assert (outcome.state, outcome.reason) == ('echoed', Reason.NO_REPLY), 'not answered by a stranger'
        assert heard == [] and stranger.came == [] and neighbour.came == []


def test_of_many_datagrams_that_are_there_at_once_none_is_lost() -> None:
    stands_still, go_on = threading.Event(), threading.Event()
    heard: list[Any] = []
    with Place(HERE) as place, aux_of(a=place.uri) as aux:
        aux.on_event = lambda service, event, data: heard.append(data)

        def says_much(place: Place, datagram: bytes) -> None:
            if is_command(datagram):
                aux._loop.call_soon_threadsafe(lambda: (stands_still.set(), go_on.wait(5)))
                assert stands_still.wait(5)
                place.send(datagram)
                for word in range(40):
                    place.send(b'[16, %d]' % word)
                place.send(datagram.rstrip())
                go_on.set()

        place.answer = says_much
        assert ask(aux, 'EXPSTART', REF, timeout=2).ok
        eventually(lambda: len(heard) == 40)
        assert heard == [[word] for word in range(40)]
