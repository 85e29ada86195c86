"""Other services while the worker runs: who stays is not touched, what is under way ends on the old list."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import replace

import pytest
from peers import StockServer, aux_of, eventually
from processes import program

from bridge.auxiliaries import Auxiliaries
from bridge.cli.lines import details
from bridge.config import ClientLost, ConfigError, ListenerConfig, RigConfig, ServiceConfig, load_rig
from bridge.errors import BridgeError, Misuse, OutcomeUnknown, ServiceFailure, error_for
from bridge.journal import Journal, Reading
from bridge.numbers import CODES, MESSAGES
from bridge.segment import inspection
from bridge.segment.carrier import SegmentCarrier
from bridge.segment.client import Client
from bridge.segment.library import ffi, lib
from bridge.segment.served import RELOAD
from bridge.services import changing
from bridge.services.rules import Channel
from bridge.worker import reloading

REF = '2026-01-01_1_subject'
INIT, START, STATUS, INTERRUPT = (MESSAGES[name] for name in ('EXPINIT', 'EXPSTART', 'EXPSTATUS', 'EXPINTERRUPT'))


class Rig:
    """A worker whose files are this object, and a program."""

    def __init__(self, serve, *services, **options):
        self.now = RigConfig(by_name(services), ask=False)
        self.refused = ''
        self.worker = serve('rig', services, reread=self.read, **options)
        self.client = Client('rig', 'stimulus')

    def read(self):
        if self.refused:
            raise ConfigError(self.refused)
        return self.now

    def change(self, *services, **settings):
        self.now = replace(self.now, services=by_name(services), **settings)

    def reload(self, *services, check=False, **settings):
        """Change the files, and have them read; return what is different."""
        self.change(*services, **settings)
        return self.client.call(RELOAD, *([True] if check else []), timeout=20)['services'][0]['data']

    def names(self):
        entries = self.client.call('SERVICES')['services']
        return [entry['name'] for entry in entries if entry['data']['role'] == 'service']

    def known(self, name):
        return next(one['data'] for one in self.client.call('SERVICES')['services'] if one['name'] == name)

    @property
    def links(self):
        return self.worker._carrier.links


def by_name(services):
    return {service.name: service for service in services}


def of(name, server, **settings):
    return ServiceConfig(name, server.uri, **{'reply_gap': 0.005, **settings})


@pytest.fixture
def peers():
    with StockServer() as a, StockServer() as b, StockServer() as c:
        yield a, b, c


@pytest.fixture
def rig(serve):
    made = []

    def make(*services, **options):
        made.append(Rig(serve, *services, **options))
        return made[-1]

    yield make
    for one in made:
        one.client.close()


def outcome(rig, request):
    """Return the response, be it one of a failure."""
    try:
        return rig.client.wait(request, 20)
    except BridgeError as error:
        assert error.response is not None, error
        return error.response


def source_ports(server):
    """Return the ports by which a service was spoken to, oldest first."""
    return [addr[1] for addr in server.spoke]


@pytest.fixture(autouse=True)
def spoke(monkeypatch):
    """Have the servers note who speaks to them."""
    before = StockServer._callback

    def callback(self, event):
        inner = before(self, event)
        self.spoke = getattr(self, 'spoke', [])

        def call(data, addr):
            self.spoke.append(addr)
            inner(data, addr)

        return call

    monkeypatch.setattr(StockServer, '_callback', callback)


def test_services_come_and_go_and_the_others_keep_their_lines(rig, peers):
    a, b, c = peers
    it = rig(of('a', a), of('b', b))
    it.client.call('EXPINIT', {'exp_ref': REF})
    line, port = it.links['a'].line, source_ports(a)[0]
    found = it.reload(of('c', c), of('a', a))
    assert (found['added'], found['removed'], found['changed']) == (['c'], ['b'], [])
    assert it.names() == ['c', 'a'] and it.client.worker_state().services == 2
    assert it.links['a'].line is line
    assert it.known('a')['exp_ref'] == REF and it.known('c')['age_ms'] == -1
    body = it.client.call('EXPSTATUS', services=['a'])
    assert body['code'] == 0
    assert [entry['name'] for entry in it.client.call('EXPINIT', 'x')['services']] == ['c', 'a']
    assert set(source_ports(a)) == {port}
    assert [one[0] for one in b.saw] == [INIT]


def test_who_is_called_otherwise_keeps_its_line_so_that_no_second_master_speaks_to_it(rig, peers):
    a, b, _ = peers
    it = rig(of('left', a), of('right', b))
    it.client.call('EXPINIT', {'exp_ref': REF})
    lines = [it.links[name].line for name in ('left', 'right')]
    it.reload(of('right', a), of('left', b))  # the names are swapped
    assert [it.links[name].line for name in ('right', 'left')] == lines
    it.reload(of('ephys', a), of('left', b))
    assert it.links['ephys'].line is lines[0] and it.known('ephys')['exp_ref'] == REF
    assert it.client.call('EXPINIT', 'x')['code'] == 0
    assert len(set(source_ports(a))) == len(set(source_ports(b))) == 1
    assert a.saw[-1] == [INIT, 'x'] and a.saw.count([INIT, 'x']) == 1


def test_an_address_that_is_written_otherwise_is_the_same_service(rig, peers):
    a, *_ = peers
    it = rig(of('a', a))
    line = it.links['a'].line
    found = it.reload(ServiceConfig('a', f'udp://localhost:{a.port}', reply_gap=0.005))
    assert found['changed'] == ['a'] and it.links['a'].line is line
    assert it.client.call('EXPINIT')['code'] == 0


def test_a_service_at_another_address_is_another_one(rig, peers):
    a, b, _ = peers
    it = rig(of('cameras', a))
    it.client.call('EXPINIT', {'exp_ref': REF})
    assert it.reload(of('cameras', b))['changed'] == ['cameras']
    assert it.known('cameras') | {'uri': ''} == {
        'name': 'cameras', 'role': 'service', 'uri': '', 'health': 'unknown', 'age_ms': -1, 'rtt_us': 0, 'status': -1,
        'exp_ref': '', 'last_error': '',
    }  # fmt: skip
    assert it.client.call('EXPINIT', 'x')['code'] == 0
    assert a.saw == [[INIT, {'exp_ref': REF}]] and b.saw == [[INIT, 'x']]


def test_what_is_under_way_at_the_old_address_says_nothing_of_the_new_one(rig, peers):
    a, b, _ = peers
    a.answers[INIT] = None
    it = rig(of('cameras', a, timeout=1.0))
    it.client.subscribe('EXPINTERRUPT', 'SERVICE_DOWN', 'SERVICE_UP')
    request = it.client.send('EXPINIT', 'slow', ttl=None)
    eventually(lambda: [INIT, 'slow'] in a.saw)
    it.reload(of('cameras', b))
    _answer(a, [INTERRUPT, 'it died'])
    assert outcome(it, request)['services'][0]['reason'] == 'no_reply'
    known = it.known('cameras')
    assert (known['health'], known['age_ms'], known['last_error']) == ('unknown', -1, '')
    assert it.client.next_event(0.3) is None


def test_what_is_under_way_is_learned_of_a_service_under_its_new_name(rig, peers):
    a, b, _ = peers
    a.answers[STATUS] = lambda data: None if data == [10] else data
    it = rig(of('old', a, timeout=30.0), of('b', b))
    request = it.client.send('EXPSTATUS', 10, services=['old'], ttl=None)
    eventually(lambda: [STATUS, 10] in a.saw)
    it.reload(of('new', a), of('b', b))
    _answer(a, [STATUS, 20])
    assert outcome(it, request)['services'][0]['name'] == 'old'
    assert (it.known('new')['status'], it.known('new')['health']) == (20, 'up')


def test_a_service_is_optional_as_it_was_when_the_command_was_begun(rig, peers):
    a, b, _ = peers
    a.answers[INIT] = None
    it = rig(of('a', a, timeout=1.0, optional=True), of('b', b))
    request = it.client.send('EXPINIT', 'slow', ttl=None)
    eventually(lambda: [INIT, 'slow'] in a.saw)
    it.reload(of('b', b))
    assert outcome(it, request)['code'] == CODES['IBLB_W_OPTIONAL']


def test_who_looks_at_the_segment_sees_the_services_that_stay_as_they_were(rig, peers):
    a, b, c = peers
    it = rig(of('a', a), of('b', b))
    it.client.call('EXPINIT', services=['b'])
    it.reload(of('c', c), of('b', b))
    health = {service.name: service.age is not None for service in inspection.inspect('rig').health}
    assert health == {'c': False, 'b': True}
    assert it.client.worker_state().services_up == 1


def test_a_service_whose_name_is_just_looked_up_keeps_the_socket_that_it_gets(rig, peers, monkeypatch):
    a, b, _ = peers
    asked, answered = threading.Event(), threading.Event()
    answered.set()

    def look_up(host):
        asked.set()
        if not answered.wait(20) or host != 'slow-pc':
            raise OSError(f'{host} is unknown')
        return '127.0.0.1'

    monkeypatch.setattr(socket, 'gethostbyname', look_up)
    it = rig(of('b', b), ServiceConfig('old', f'udp://slow-pc:{a.port}', reply_gap=0.005))
    assert it.client.call('EXPINIT')['code'] == 0
    it.links['old'].close_socket()
    eventually(lambda: it.links['old'].line.channel is Channel.CLOSED)
    asked.clear()
    answered.clear()
    request = it.client.send('EXPINIT', 'x', services=['old'], ttl=None)
    assert asked.wait(5)
    it.reload(of('b', b), ServiceConfig('new', f'udp://slow-pc:{a.port}', reply_gap=0.005, timeout=5.0))
    answered.set()
    assert outcome(it, request)['code'] == 0
    ports = it.worker._carrier.ports
    assert set(ports) == {'b', 'new'}
    link = it.links['new']
    doubted = threading.Event()  # before the next one leaves, which looks again then

    def doubt():
        link.line.refused(OSError('in doubt'), 0)
        doubted.set()

    it.worker._carrier.thread.ring(doubt)
    assert doubted.wait(5)
    assert it.client.call('EXPINIT', 'y')['code'] == 0
    assert source_ports(a)[-1] == source_ports(a)[-2] == it.worker._carrier.ports['new']


def test_a_line_that_is_to_come_back_is_not_closed_meanwhile(rig, peers, monkeypatch):
    a, b, _ = peers
    a.answers[INIT] = lambda data: None if data == ['slow'] else data
    it = rig(of('a', a, timeout=30.0), of('b', b))
    request = it.client.send('EXPINIT', 'slow', services=['a'], ttl=None)
    eventually(lambda: [INIT, 'slow'] in a.saw)
    it.reload(of('b', b))
    prepared = changing.Prepared.open

    async def opened_and_then_over(self):
        await prepared(self)
        await asyncio.to_thread(_answer, a, [INIT, 'slow'])
        while not all(link.is_over() for link in it.worker._carrier.former):
            await asyncio.sleep(0.001)
        monkeypatch.setattr(it.worker._carrier, 'uses', lambda link: False)
        changing._tidy(it.worker._carrier)

    monkeypatch.setattr(changing.Prepared, 'open', opened_and_then_over)
    with monkeypatch.context() as here:
        here.setattr(changing, 'LOOK', 1000.0)
        it.reload(of('b', b), of('a', a))
    assert outcome(it, request)['code'] == 0
    assert it.client.call('EXPINIT', 'x')['code'] == 0


def test_settings_change_without_another_line(rig, peers):
    a, *_ = peers
    a.answers[INIT] = None  # it never answers
    it = rig(of('a', a, timeout=30.0))
    line = it.links['a'].line
    assert it.reload(of('a', a, timeout=0.3, optional=True))['changed'] == ['a']
    assert it.links['a'].line is line
    assert it.client.call('EXPINIT')['code'] == CODES['IBLB_W_OPTIONAL']


def test_what_is_under_way_ends_on_the_old_list(rig, peers):
    a, b, c = peers
    slow = a.answers[INIT] = lambda data: None if data == ['slow'] else data
    it = rig(of('a', a, timeout=30.0), of('b', b, optional=True))
    b.answers[INIT] = lambda data: None if data == ['slow'] else data
    request = it.client.send('EXPINIT', 'slow', ttl=None)
    eventually(lambda: [INIT, 'slow'] in a.saw and [INIT, 'slow'] in b.saw)
    it.reload(of('b', b), of('c', c))
    assert slow
    _answer(a, [INIT, 'slow'])
    _answer(b, [INIT, 'slow'])
    body = outcome(it, request)
    assert [(entry['name'], entry['ok']) for entry in body['services']] == [('a', True), ('b', True)]
    assert [entry['name'] for entry in it.client.call('EXPINIT', 'x')['services']] == ['b', 'c']
    assert 'closed itself' not in [one[0] for one in a.saw + b.saw]
    eventually(lambda: not it.worker._carrier.former, 10)  # and its socket is closed


def _answer(server, message):
    """Answer a command that was held back."""
    server.say(message, server.spoke[-1])


def test_a_service_that_is_back_before_all_is_over_has_its_line_back(rig, peers):
    """Else two masters would speak to it at once."""
    a, b, _ = peers
    a.answers[INIT] = lambda data: None if data == ['slow'] else data
    it = rig(of('a', a, timeout=30.0), of('b', b))
    request = it.client.send('EXPINIT', 'slow', services=['a'], ttl=None)
    eventually(lambda: [INIT, 'slow'] in a.saw)
    line = it.links['a'].line
    it.reload(of('b', b))
    it.reload(of('b', b), of('again', a))
    assert it.links['again'].line is line and not it.worker._carrier.former
    second = it.client.send('EXPINIT', 'next', services=['again'], ttl=None)
    eventually(lambda: line.waiting)
    _answer(a, [INIT, 'slow'])
    assert outcome(it, request)['code'] == outcome(it, second)['code'] == 0
    assert len(set(source_ports(a))) == 1 and 'closed itself' not in [one[0] for one in a.saw]
    assert set(it.worker._carrier.ports) == {'b', 'again'}


def test_what_waits_for_its_turn_at_a_service_that_is_removed_still_gets_it(rig, peers):
    a, b, _ = peers
    a.answers[INIT] = lambda data: None if data == ['slow'] else data
    it = rig(of('a', a, timeout=30.0), of('b', b))
    first, second = (it.client.send('EXPINIT', which, services=['a'], ttl=None) for which in ('slow', 'next'))
    eventually(lambda: [INIT, 'slow'] in a.saw)
    eventually(lambda: len(it.links['a'].line.waiting) == 1)
    it.reload(of('b', b))
    _answer(a, [INIT, 'slow'])
    assert outcome(it, first)['code'] == outcome(it, second)['code'] == 0
    assert [one for one in a.saw if one[0] == INIT] == [[INIT, 'slow'], [INIT, 'next']]


def test_a_late_answer_of_a_service_that_was_removed_is_still_confirmed(rig, peers):
    """One that nobody confirms closes a plain iblutil service."""
    a, b, _ = peers
    a.answers[INIT] = None
    it = rig(of('a', a, timeout=0.2), of('b', b))
    with pytest.raises(ServiceFailure):
        it.client.call('EXPINIT', services=['a'])
    it.reload(of('b', b))
    _answer(a, [INIT, 'late'])  # raises if it is not confirmed
    assert it.worker._carrier.former


def test_an_interrupt_ends_what_is_under_way_at_a_service_that_was_removed(rig, peers):
    a, b, _ = peers
    a.answers[INIT] = None
    it = rig(of('a', a, timeout=30.0), of('b', b))
    requests = [it.client.send('EXPINIT', which, services=['a'], ttl=None) for which in ('slow', 'next')]
    eventually(lambda: it.links['a'].line.waiting)
    it.reload(of('b', b))
    it.client.call('EXPINTERRUPT')
    assert [outcome(it, request)['services'][0]['reason'] for request in requests] == ['aborted', 'aborted']
    assert [one for one in a.saw if one[0] == INIT] == [[INIT, 'slow']]


def test_a_service_that_was_removed_while_it_was_at_work_is_sent_the_interrupt_too(rig, peers, caplog):
    """It was told "aborted by EXPINTERRUPT" of a camera that went on to record, and could no longer be addressed."""
    a, b, c = peers
    a.answers[START] = None
    it = rig(of('a', a, timeout=30.0), of('b', b), of('c', c))
    request = it.client.send('EXPSTART', REF, services=['a'], ttl=None)
    eventually(lambda: a.saw)
    it.reload(of('b', b))
    assert [one['name'] for one in it.client.call('EXPINTERRUPT')['services']] == ['b']
    assert outcome(it, request)['services'][0]['reason'] == 'aborted'
    eventually(lambda: 'a, which was removed and was at work, was sent EXPINTERRUPT: it has answered' in caplog.text)
    assert [one[0] for one in a.saw] == [START, INTERRUPT] and not c.saw


def test_files_that_cannot_be_read_in_time_are_given_up_and_the_next_reload_is_not_in_their_way(
    rig, peers, monkeypatch
):
    """A FIFO in place of the file ended reloads for the life of the worker."""
    monkeypatch.setattr(reloading, 'MOST', 0.2)
    a, b, _ = peers
    it, free = rig(of('a', a)), threading.Event()
    read = it.worker._reloading._read
    it.worker._reloading._read = lambda: free.wait(60) and read()
    with pytest.raises(Misuse, match='could not be read within'):
        it.reload(of('b', b))
    it.worker._reloading._read = read
    monkeypatch.setattr(reloading, 'MOST', 30.0)
    assert it.reload(of('a', a), of('b', b))['added'] == ['b']
    free.set()
    assert it.names() == ['a', 'b']


def test_programs_are_told_and_the_journal_knows(rig, peers, tmp_path):
    a, b, _ = peers
    with_journal = Journal(tmp_path / 'j.jsonl')
    it = rig(of('a', a), journal=with_journal)
    it.client.subscribe('SERVICES_CHANGED')
    it.reload(of('a', a), of('b', b, after=('a',)))
    event = it.client.next_event(5)
    assert event['event'] == 'SERVICES_CHANGED'
    assert event['data'] == {'value': {'added': ['b'], 'removed': [], 'changed': [], 'services': ['a', 'b']}}
    assert it.reload(of('a', a), of('b', b, after=('a',)))['said'] == 'nothing has changed'
    assert it.reload(of('a', a), of('b', b, after=('a',)), heartbeat=100.0)['said'] == 'changed heartbeat of the rig'
    it.refused = 'services.yaml: is nonsense.'
    with pytest.raises(Misuse, match='is nonsense'):
        it.reload()
    assert it.client.next_event(0) is None
    it.worker.end_of_test()
    with_journal.close()
    found = list(Reading(tmp_path / 'j.jsonl'))
    entries = [one for one in found if one['kind'] == 'reload' or one.get('event') == 'SERVICES_CHANGED']
    assert not [one for one in found if one.get('message') == 'RELOAD']
    changed, told, same, rig_only, refused = entries
    assert (changed['by'], changed['ok'], changed['added']) == ('stimulus', True, ['b'])
    assert [one['name'] for one in changed['services']] == ['a', 'b'] and told['event'] == 'SERVICES_CHANGED'
    assert same['ok'] and rig_only['settings']['heartbeat'] == 100.0
    assert rig_only['changed_settings'] == ['heartbeat of the rig'] and rig_only['changed'] == []
    assert details(same) == 'by stimulus: nothing has changed'
    assert details(rig_only) == 'by stimulus: changed heartbeat of the rig', 'it was called no other services'
    assert (refused['ok'], refused['error']) == (False, 'services.yaml: is nonsense')


def test_what_can_not_be_used_is_refused_and_the_old_list_stays(rig, peers):
    a, b, c = peers
    it = rig(of('a', a), of('b', b))
    before = dict(it.links)
    listener = ListenerConfig('cameras', port=0)
    for services, settings, says in (
        ([of('a', a), of('c', a)], {}, 'have the same address'),
        ([of('a', a), ServiceConfig('c', f'udp://LOCALHOST:{a.port}')], {}, 'have the same address'),
        ([of('a', a, after=('d',))], {}, "there is no service 'd'"),
        ([ServiceConfig('c', 'udp://127.255.255.255:9')], {}, 'c: udp://127.255.255.255:9 '),
        (
            [of('c', c)],
            {'listen': {'cameras': listener}},
            'listen: cameras: listeners that come, go or move take a restart',
        ),
    ):
        with pytest.raises(Misuse, match=says):
            it.reload(*services, **settings)
        it.change(listen={})
        assert it.names() == ['a', 'b'] and it.links == before
    assert it.client.call('EXPINIT')['code'] == 0


def test_a_service_at_a_port_that_a_listener_was_given_is_refused(rig, peers):
    a, *_ = peers
    listener = ListenerConfig('cameras', port=0)
    it = rig(of('a', a), listeners=[listener])
    with pytest.raises(Misuse, match='cameras'):
        it.reload(
            of('a', a),
            ServiceConfig('c', f'udp://127.0.0.1:{it.worker.ports["cameras"]}'),
            listen={'cameras': listener},
        )
    assert it.names() == ['a']


def test_who_may_command_a_listener_changes_where_it_is(rig, peers):
    a, *_ = peers
    listener = ListenerConfig('recorder', port=0)
    it = rig(of('a', a), listeners=[listener])
    it.change(of('a', a), listen={'recorder': listener})
    port = it.worker.ports['recorder']
    desk = it.worker._programs._servers['recorder'].desk
    other = replace(listener, masters=('192.168.0.3',), timeout=3.0, max_message_size=4096)
    assert it.reload(of('a', a), listen={'recorder': other})['said'] == 'changed listener recorder'
    assert (desk.masters, desk.timeout, desk.cut) == ({'192.168.0.3'}, 3_000_000_000, 4096)
    assert it.worker.ports['recorder'] == port
    with aux_of(recorder=f'udp://127.0.0.1:{port}') as master:
        assert 'may not command recorder' in str(master.push('EXPSTATUS', 0, wait=True))


def test_a_reload_can_be_tried_without_changing_anything(rig, peers):
    a, b, _ = peers
    it = rig(of('a', a))
    before = dict(it.links)
    assert it.reload(of('b', b), check=True)['said'] == 'added b; removed a'
    with pytest.raises(Misuse, match='have the same address'):
        it.reload(of('a', a), of('b', a), check=True)
    assert it.names() == ['a'] and it.links == before


def test_a_worker_without_files_says_that_it_has_none(serve, server):
    serve('rig', {'a': server.uri})
    with Client('rig') as client, pytest.raises(Misuse, match='has no file of services'):
        client.call(RELOAD)


@pytest.mark.parametrize('arguments', [b'[' + b'9' * 5000 + b']', b'9' * 5000])
def test_a_wish_that_python_cannot_read_is_refused_and_ends_no_worker(rig, peers, arguments):
    """A number of more digits than Python reads: the worker ended, and with it what was under way."""
    a, b, _ = peers
    it, request = rig(of('a', a)), ffi.new('int *')
    it.change(of('b', b))
    assert lib.iblb_send(it.client._handle, ffi.NULL, RELOAD, arguments, 20_000, request) == 0
    with pytest.raises(BridgeError, match='cannot be read') as refused:
        it.client.wait(request[0], 20)
    assert refused.value.name == 'IBLB_E_JSON' and it.names() == ['a']
    assert it.reload(of('b', b))['said'] == 'added b; removed a'


def test_a_service_that_was_removed_is_refused_with_the_nearest_name(rig, peers):
    a, b, _ = peers
    it = rig(of('cameras', a), of('ephys', b))
    it.reload(of('camera', a))
    with pytest.raises(Misuse, match='no service "cameras"; did you mean camera'):
        it.client.call('EXPINIT', services=['cameras'])


def test_what_a_service_says_that_was_removed_is_no_event_and_changes_no_health(rig, peers):
    a, b, _ = peers
    a.answers[INIT] = None
    it = rig(of('a', a, timeout=30.0), of('b', b))
    it.client.subscribe()
    request = it.client.send('EXPINIT', 'slow', services=['a'], ttl=None)
    eventually(lambda: [INIT, 'slow'] in a.saw)
    it.reload(of('b', b))
    _answer(a, [INTERRUPT, 'it died'])  # while the other is not answered yet
    _answer(a, [INIT, 'slow'])
    assert outcome(it, request)['code'] == 0
    it.client.call('EXPINIT', services=['b'])
    events = [one['event'] for one in iter(lambda: it.client.next_event(0.3), None)]
    assert events == ['SERVICES_CHANGED', 'SERVICE_UP']
    report = inspection.inspect('rig')
    assert [service.name for service in report.health] == ['b']


def test_several_wishes_at_once_are_all_answered(rig, peers):
    a, b, _ = peers
    it = rig(of('a', a))
    it.change(of('a', a), of('b', b))
    said = []

    def wish(check):
        with Client('rig', timeout=5) as client:
            said.append(client.call(RELOAD, *[True] * check, timeout=20)['services'][0]['data']['said'])

    wishes = [threading.Thread(target=wish, args=(i % 2 == 0,)) for i in range(6)]
    for one in wishes:
        one.start()
    for one in wishes:
        one.join(30)
    assert len(said) == 6 and set(said) <= {'added b', 'nothing has changed'} and it.names() == ['a', 'b']


def test_a_worker_that_can_start_no_thread_refuses_and_goes_on(rig, peers, monkeypatch):
    a, b, _ = peers
    it, start = rig(of('a', a)), threading.Thread.start

    def refuse(thread):
        if thread.name == 'reload':
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, 'start', refuse)
        with pytest.raises(Misuse, match="cannot read them at the moment: can't start new thread"):
            it.reload(of('b', b))
        assert it.names() == ['a']
    assert it.reload(of('b', b))['said'] == 'added b; removed a'


def test_a_worker_that_is_stopped_while_it_reads_says_so(rig, peers):
    a, *_ = peers
    it = rig(of('a', a))
    reading, go_on = threading.Event(), threading.Event()

    def read():
        reading.set()
        go_on.wait(20)
        return it.now

    it.worker._reloading._read = read
    request = it.client.send(RELOAD, ttl=None)
    assert reading.wait(5)
    it.worker.stop()
    with pytest.raises(ServiceFailure, match='stopped') as told:
        it.client.wait(request, 10)
    assert told.value.name == 'IBLB_E_ABORTED'
    go_on.set()


def test_what_is_due_for_a_lost_program_follows_the_new_rules(rig, peers):
    a, b, _ = peers
    it = rig(of('a', a), on_client_lost=[ClientLost('gone', 'EXPEND', 1000.0)])
    it.now = replace(it.now, on_client_lost=(ClientLost('gone', 'EXPEND', 1000.0),))
    Client('rig', 'gone').abandon()
    eventually(it.worker._watch.owed)
    it.reload(of('b', b), on_client_lost=(ClientLost('gone', 'EXPEND', 0.0),))
    eventually(lambda: any(one[0] == MESSAGES['EXPEND'] for one in b.saw), 10)
    assert not any(one[0] == MESSAGES['EXPEND'] for one in a.saw)


def test_the_port_by_which_a_service_knows_us_is_kept_for_the_next_worker_under_its_new_name(rig, peers, serve):
    a, b, _ = peers
    it = rig(of('a', a))
    it.client.call('EXPINIT')
    it.reload(of('new', a), of('b', b))
    it.worker.end_of_test()
    serve('rig', [of('new', a), of('b', b)])
    assert it.client.call('EXPINIT')['code'] == 0
    assert len(set(source_ports(a))) == 1


def test_auxiliaries_through_the_worker_follow_it_and_all_services_are_those_there_are(rig, peers):
    a, b, c = peers
    it = rig(of('a', a), of('b', b))
    remote = Auxiliaries.from_segment('rig', 'task')
    heard = []
    try:
        remote.services.assign_callback('EXPINTERRUPT', lambda data, addr: heard.append((addr[0], data)))
        assert remote.push('EXPINIT', 1, wait=True) == {'a': [1], 'b': [1]}
        follow = remote._carrier._look_who_is_there
        remote._carrier._look_who_is_there = lambda: None  # as long as it was not told
        it.reload(of('b', b), of('c', c))
        assert remote.push('EXPINIT', 2, wait=True) == {'b': [2], 'c': [2]}
        remote._carrier._look_who_is_there = follow
        it.reload(of('b', b), of('c', c, timeout=3.0))
        eventually(lambda: list(remote.services) == ['b', 'c'])
        assert remote.submit('EXPINIT', 3, services=['c']).result(5)['c'].reply == [3]
        with pytest.raises(KeyError):
            remote.submit('EXPINIT', services=['a'])
        _answer(c, [INTERRUPT, 'it died'])
        eventually(lambda: heard == [('c', ['it died'])])
    finally:
        remote.close()


def test_auxiliaries_of_a_worker_without_services_find_those_that_it_gets(rig, peers):
    it = rig()
    remote = Auxiliaries.from_segment('rig', 'task')
    try:
        assert remote.services is None and not remote.is_connected
        follow = remote._carrier._look_who_is_there
        remote._carrier._look_who_is_there = lambda: None  # as long as it was not told
        it.reload(of('a', peers[0]))
        assert remote.push('EXPINIT', 1, wait=True) == {'a': [1]}, 'it reached nobody'
        assert remote.submit('EXPINIT', services=[]).result(5) == {}
        remote._carrier._look_who_is_there = follow
        it.reload(of('a', peers[0]), of('b', peers[1]))
        eventually(lambda: remote.is_connected and list(remote.services) == ['a', 'b'])
        assert repr(remote) == '<Auxiliaries of a, b>'
        it.reload()
        eventually(lambda: remote.services is None and not remote.is_connected)
        assert remote.push('EXPINIT', 1, wait=True) == {}
    finally:
        remote.close()


def test_auxiliaries_that_are_just_made_see_the_services_that_the_worker_gets_meanwhile(rig, peers, monkeypatch):
    """They had asked which there were, and did not hear yet that there are others."""
    it, start = rig(), SegmentCarrier.start

    def reloaded_before(carrier, main):
        it.reload(of('a', peers[0]))
        start(carrier, main)

    monkeypatch.setattr(SegmentCarrier, 'start', reloaded_before)
    remote = Auxiliaries.from_segment('rig', 'task')
    try:
        eventually(lambda: remote.is_connected and list(remote.services) == ['a'])
    finally:
        remote.close()


def test_auxiliaries_ask_again_which_services_a_worker_has_that_did_not_say(rig, peers, monkeypatch):
    it = rig(of('a', peers[0]))
    remote = Auxiliaries.from_segment('rig', 'task')
    client, asked = remote._carrier._client, []
    call = client.call

    def busy(*args, **kwargs):
        asked.append(args)
        if len(asked) == 1:
            raise error_for(CODES['IBLB_E_NOT_SENT'])
        return call(*args, **kwargs)

    try:
        monkeypatch.setattr(client, 'call', busy)
        it.reload(of('b', peers[1]))
        eventually(lambda: list(remote.services) == ['b'])
    finally:
        remote.close()


def test_auxiliaries_that_missed_events_ask_which_services_the_worker_has(rig, peers):
    it = rig(of('a', peers[0]))
    remote, begins, goes_on = Auxiliaries.from_segment('rig', 'task'), threading.Event(), threading.Event()

    def hold_up(*event):
        begins.set()
        goes_on.wait(30)

    tell = it.worker._house.tell
    try:
        remote.on_event = hold_up
        tell('EXPSTATUS', service='a', data=[0])
        assert begins.wait(5)
        for size in (1000, 1):  # until there is no room for anything
            for _ in range(300):
                tell('EXPSTATUS', service='a', data=['x' * size])
        it.reload(of('b', peers[1]))
        eventually(lambda: it.names() == ['b'])
        assert list(remote.services) == ['a']
        goes_on.set()

        def follows():
            tell('EXPSTATUS', service='b', data=[0])
            return list(remote.services) == ['b']

        eventually(follows)
    finally:
        goes_on.set()
        remote.close()


POINTS = ('read', 'prepare', 'adopt', 'publish', 'tell')
DIES = """
import os, sys
from bridge.config import load_rig
from bridge.worker import Worker
point, path = sys.argv[1:]
worker = Worker('rig', list(load_rig(path).services.values()), reread=lambda: die('read') or load_rig(path))

def die(here):
    if here == point:
        os._exit(9)

def before(what, name, here):
    do = getattr(what, name)
    setattr(what, name, lambda *args, **more: die(here) or do(*args, **more))

before(worker._reloading, '_opened', 'prepare')
before(worker._reloading, '_adopt', 'adopt')
tell = worker._house.tell
worker._house.tell = lambda event, **more: event == 'SERVICES_CHANGED' and die('tell') or tell(event, **more)
publish = type(worker._segment).publish_services
type(worker._segment).publish_services = lambda self, names: die('publish') or publish(self, names)
print('ready', flush=True)
worker.run()
"""


@pytest.mark.parametrize('point', POINTS)
def test_a_worker_that_is_killed_in_the_middle_of_a_reload_leaves_nothing_behind(serve, peers, tmp_path, point):
    a, b, c = peers
    a.answers[INIT] = lambda data: None if data == ['slow'] else data
    path = tmp_path / 'services.yaml'
    path.write_text(f'a: {a.uri}\nb: {b.uri}\n')
    with program(DIES, point, str(path)) as process, Client('rig', 'stimulus', timeout=10) as client:
        slow = client.send('EXPINIT', 'slow', services=['a'], ttl=None)
        eventually(lambda: [INIT, 'slow'] in a.saw)
        path.write_text(f'b: {b.uri}\nc: {c.uri}\n')
        wish = client.send(RELOAD, ttl=None)
        assert process.wait(20) == 9
        after = client.send('EXPINIT', 'after', ttl=None)
        serve('rig', list(load_rig(path).services.values()), reread=lambda: load_rig(path), ask=True)
        assert [one['name'] for one in client.wait(after, 20)['services']] == ['b', 'c']
        for request in (slow, wish):
            with pytest.raises(OutcomeUnknown):
                client.wait(request, 20)
        assert client.call(RELOAD, timeout=20)['services'][0]['data']['said'] == 'nothing has changed'
        assert [one['name'] for one in client.call('SERVICES')['services']] == ['b', 'c']
    assert [INIT, 'after'] not in a.saw and b.saw.count([INIT, 'after']) == c.saw.count([INIT, 'after']) == 1
