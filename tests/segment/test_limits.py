"""Everything is full: slots, rings, memory. What must still get in gets in, and nobody else notices."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from peers import ScriptedPeer, StockServer, echo_and_reply, eventually, is_command, only_echo
from processes import CLIENT, kill, program

from bridge.errors import BridgeError, NoSegment, ServiceFailure
from bridge.journal import Journal
from bridge.native import PREFIX
from bridge.numbers import CODES
from bridge.segment.client import Client
from bridge.segment.inspection import inspect
from bridge.segment.library import error_text
from bridge.segment.served import Segment

IBLB = PREFIX / 'bin' / 'iblb'
SMALL = 16 << 10
LONG = b'\xda' + (3800).to_bytes(2, 'big') + b'x' * 3800  # a msgpack str


def answer_all(segment: Segment, body: bytes = b'\x80') -> list[int]:
    """Answer what there is; return the messages."""
    commands = segment.take(0)[1]
    assert all(segment.respond(command, 0, body) for command in commands)
    return [command.message for command in commands]


def fill(client: Client, argument: object = None) -> list[int]:
    """Send until the ring is full; return the requests."""
    requests = []
    with pytest.raises(BridgeError) as full:
        while True:
            requests.append(client.send('EXPINIT', argument, ttl=None))
    assert full.value.name == 'IBLB_E_FULL'
    return requests


def test_the_tools_get_in_when_all_slots_are_taken():
    with Segment('rig', slots=4) as segment, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client('rig', f'client-{i}')) for i in range(3)]
        with pytest.raises(NoSegment, match='All 3 client slots') as refused:
            Client('rig', 'one-too-many', timeout=0)
        assert refused.value.name == 'IBLB_E_NO_SLOT'
        with Client('rig', 'iblb-top', timeout=0) as tool:
            tool.send('PING')
            assert answer_all(segment) == [4096]
            with pytest.raises(NoSegment, match='All 4 client slots'):
                Client('rig', 'iblb-second-tool', timeout=0)
        clients[1].close()
        segment.take(0)
        Client('rig', 'waited', timeout=0).close()


def test_without_a_worker_programs_that_left_nothing_behind_fill_nothing(segment_directory):
    Segment('rig', slots=3).close()
    for number in range(10):
        Client('rig', f'program-{number}', timeout=0).close()
    with Segment('rig') as segment, Client('rig', 'last', timeout=0) as client:
        assert segment.take(0)[1] == []
        client.send('EXPINIT')
        assert answer_all(segment) == [1]
        assert list(segment.lost_clients()) == []


def test_without_a_worker_whoever_is_lost_keeps_the_place_until_one_comes(segment_directory):
    Segment('rig', slots=2).close()
    with program(CLIENT, 'rig', 'killed') as client:
        kill(client)
    with pytest.raises(
        NoSegment, match='All 1 client slots .* Start the worker: iblbridge serve --segment rig'
    ) as full:
        Client('rig', 'second', timeout=0)
    assert full.value.name == 'IBLB_E_NO_SLOT'
    assert 'start the worker if none runs' in error_text(full.value.code)
    with Segment('rig') as segment:
        assert eventually(lambda: segment.take(0.01) and list(segment.lost_clients()) == ['killed'])


def test_commands_that_programs_leave_without_a_worker_share_the_slots_and_each_is_carried_out_once(segment_directory):
    Segment('rig', slots=3).close()
    for _ in range(40):
        words = [IBLB, 'notify', 'rig', 'EXPSTATUS', '--open', '0']
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    with Segment('rig') as segment:
        batch = segment.take(1)[1]
        assert all(segment.respond(command, 0, b'\x80') for command in batch)
        assert segment.take(0)[1] == []
        assert [command.message for command in batch] == [32] * 40
        assert list(segment.lost_clients()) == []
        assert eventually(lambda: segment.take(0.01) and not inspect('rig').slots)


def test_what_forty_programs_left_without_a_worker_reaches_the_service_once_each_and_in_order(serve, tmp_path):
    Segment('rig', slots=3).close()
    for number in range(40):
        with Client('rig', f'program-{number}', timeout=0) as client:
            assert client.notify('EXPINFO', 0, {'number': number}, ttl=None) is None
    book = Journal(tmp_path / 'journal')
    with ScriptedPeer(echo_and_reply) as peer, Client('rig', 'waits', timeout=0) as waits:
        request = waits.send('EXPINFO', 0, {'number': 40}, ttl=None)
        worker = serve('rig', {'cameras': peer.uri}, journal=book)
        assert waits.wait(request, 20)['code'] == 0
        asked = [json.loads(datagram)[2]['number'] for datagram in peer.datagrams if is_command(datagram)]
        assert asked == list(range(41))
        worker.end_of_test()
    book.close()
    lines = [json.loads(line) for line in (tmp_path / 'journal').read_text().splitlines()]
    clients = [line['client'] for line in lines if line['kind'] == 'command']
    assert clients == [''] * 39 + ['program-39', 'waits'], 'the last of each slot is known'


def test_a_program_that_comes_after_another_left_is_served_by_the_worker_that_starts(segment_directory):
    Segment('rig', slots=2).close()
    Client('rig', 'first', timeout=0).close()
    with Client('rig', 'second', timeout=0) as client, Segment('rig') as segment:
        request = client.send('EXPINIT')
        (command,) = segment.take(1)[1]
        assert segment.client_of(command) == 'second'
        assert segment.respond(command, 0, b'\x80')
        client.wait(request, 5)


def test_who_waits_for_a_slot_gets_the_one_of_a_killed_client():
    with Segment('rig', slots=2) as segment:
        with program(CLIENT, 'rig', 'dies') as client:
            kill(client)
        with pytest.raises(NoSegment):
            Client('rig', 'next', timeout=0)
        eventually(lambda: segment.take(0.01) and list(segment.lost_clients()) and attached())


def attached() -> bool:
    with contextlib.suppress(NoSegment):
        Client('rig', 'next', timeout=0).close()
        return True
    return False


def test_interrupts_get_into_a_full_ring_wherever_it_wraps():
    with Segment('rig', command_bytes=SMALL) as segment, Client('rig') as client:
        for step in range(40):  # each round begins at another place of the ring
            client.send('EXPINIT', 'x' * 64 * step)
            assert answer_all(segment)
            requests = fill(client, 'x' * 37 * step)
            interrupts = [client.send('EXPINTERRUPT', 'y' * 900) for _ in range(2)]
            messages = []
            while len(messages) < len(requests) + 2:
                messages += answer_all(segment)
            assert messages[:2] == [16, 16] and set(messages[2:]) == {1}
            for request in requests + interrupts:
                client.wait(request, 5)


def test_very_many_interrupts_are_all_answered_and_stay_first():
    """More than the worker keeps apart at a time: the later ones wait for the next look, none is forgotten."""
    with Segment('rig') as segment, Client('rig') as client:
        for _ in range(3):
            requests = [client.send('EXPINIT') for _ in range(300)] + [client.send('EXPINTERRUPT') for _ in range(40)]
            messages = []
            while len(messages) < len(requests):
                messages += answer_all(segment)
            assert messages[:16] == [16] * 16 and messages.count(16) == 40 and len(messages) == 340
            for request in requests:
                client.wait(request, 5)
        client.send('EXPINIT')
        client.send('EXPINTERRUPT')
        assert answer_all(segment) == [16, 1], 'an interrupt still overtakes'


def test_an_interrupt_from_a_full_ring_reaches_the_service_and_everything_is_answered(serve):
    def only_interrupts(peer, datagram):
        (echo_and_reply if b'[16' in datagram else only_echo)(peer, datagram)

    with ScriptedPeer(only_interrupts) as peer:
        serve('rig', {'cameras': peer.uri}, timeout=60.0, segment_options={'command_bytes': SMALL})
        with Client('rig') as client:
            requests = fill(client, 'x' * 100)
            interrupts = [client.send('EXPINTERRUPT') for _ in range(3)]
            for request in interrupts:
                assert client.wait(request, 20)['code'] == 0
            for request in requests:
                with pytest.raises(ServiceFailure) as aborted:
                    client.wait(request, 20)
                assert aborted.value.name == 'IBLB_E_ABORTED'
            client.call('PING')


def test_an_interrupt_is_sent_also_if_a_later_one_is_withdrawn():
    with Segment('rig') as segment, Client('rig', 'a') as a, Client('rig', 'b') as b:
        a.send('EXPINTERRUPT')
        later = b.send('EXPINTERRUPT')
        first, second = segment.take(1)[1]
        assert b.cancel(later) is True
        assert (segment.accept(second), segment.accept(first)) == (CODES['IBLB_E_CANCELLED'], 0)


def test_a_client_that_never_waits_still_gets_an_interrupt_in():
    with Segment('rig') as segment, Client('rig') as client:
        with pytest.raises(BridgeError) as refused:
            while True:
                client.send('EXPINIT')
                answer_all(segment)
        assert refused.value.name == 'IBLB_E_TOO_MANY'
        interrupt = client.send('EXPINTERRUPT')
        assert answer_all(segment) == [16]
        client.wait(interrupt, 5)
        with pytest.raises(BridgeError):
            client.send('EXPINIT')


def test_responses_that_a_killed_client_never_read_are_dropped_and_hold_up_nobody(serve):
    with StockServer() as server:
        worker = serve('rig', {'cameras': server.uri}, segment_options={'response_bytes': SMALL, 'slots': 3})
        with Client('rig', 'busy', timeout=5) as busy:
            with program(CLIENT, 'rig', 'lazy', *['PING'] * 200) as lazy:
                assert busy.call('EXPINIT')['code'] == 0
                assert busy.call('PING')['code'] == 0
                kill(lazy)
            assert eventually(attached)
            assert busy.call('PING')['code'] == 0
        assert not worker.end_of_test()


def test_a_full_response_ring_is_told_to_the_worker_and_only_its_own_client_is_late():
    with Segment('rig', response_bytes=SMALL) as segment, Client('rig', 'lazy') as lazy, Client('rig', 'busy') as busy:
        requests = [lazy.send('EXPINIT', i) for i in range(20)]
        held = [c for c in segment.take(1)[1] if not segment.respond(c, 0, LONG)]
        assert 0 < len(held) < 20
        other = busy.send('EXPINIT')
        assert answer_all(segment) == [1]
        assert busy.wait(other, 5) == {}
        for request in requests:
            held = [c for c in held if not segment.respond(c, 0, LONG)]
            assert lazy.wait(request, 5) == 'x' * 3800
        assert not held


def test_a_response_larger_than_its_ring_is_refused_before_a_byte_is_written():
    with Segment('rig', response_bytes=SMALL) as segment, Client('rig') as client:
        request = client.send('EXPINIT')
        (command,) = segment.take(1)[1]
        for size in (SMALL, SMALL // 2, 10 * SMALL):
            with pytest.raises(BridgeError) as refused:
                segment.respond(command, 0, bytes(size))
            assert refused.value.name == 'IBLB_E_TOO_LARGE'
        assert segment.respond(command, 0, b'\x80')
        assert client.wait(request, 5) == {}


def test_what_very_many_services_did_does_not_fit_the_least_ring_and_the_status_stays(serve):
    names = {f'service-{i:03}': 'ws://127.0.0.1:1' for i in range(100)}
    serve('rig', names, segment_options={'response_bytes': SMALL})
    with Client('rig') as client:
        with pytest.raises(ServiceFailure) as failed:
            client.call('EXPINIT')
        assert failed.value.name == 'IBLB_E_ALL_FAILED'
        assert '100 services' in failed.value.response['error'] and failed.value.response['services'] == []
        assert client.call('SERVICES')['code'] == CODES['IBLB_W_SHORTENED']
        assert client.call('PING')['code'] == 0


@pytest.mark.posix('mounts a small disk')
def test_no_room_for_a_segment_is_told_with_its_size_and_leaves_nothing_behind(monkeypatch, tmp_path):
    small = tmp_path / 'small'
    small.mkdir(mode=0o700)
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m,mode=700', 'tmpfs', small], check=False).returncode:
        pytest.skip('needs the right to mount')
    try:
        monkeypatch.setenv('IBLBRIDGE_DIR', str(small))
        with pytest.raises(BridgeError, match=r'no room for \d{8} bytes.*[Nn]o space') as refused:
            Segment('rig')
        assert refused.value.name == 'IBLB_E_MEMORY'
        assert list(small.iterdir()) == []
        with Segment('rig', slots=2, command_bytes=SMALL, response_bytes=SMALL, event_bytes=SMALL) as segment:
            with Client('rig') as client:
                client.send('PING')
                assert answer_all(segment) == [4096]
            segment.take(0)
            (small / 'filler').write_bytes(bytes(small_room(small)))
            with Client('rig') as client:  # full from now on; the segment has all it needs
                client.send('PING')
                assert answer_all(segment) == [4096]
    finally:
        subprocess.run(['umount', small], check=True)


def small_room(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
from bridge.errors import BridgeError
from bridge.segment.served import Segment
try:
    Segment('rig')
except BridgeError as error:
    print(error.name, error.text)
"""


OPENS_LAST_FILES = """
import os, resource, sys
from bridge.errors import BridgeError
from bridge.segment.client import Client
from bridge.segment.served import Segment
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
files = []
try:
    while True:
        files.append(os.open('/', os.O_RDONLY))
except OSError:
    pass
for _ in range(int(sys.argv[2])):
    os.close(files.pop())
try:
    opened = Segment('rig') if sys.argv[1] == 'worker' else Client('rig', timeout=0)
    said = 'replaced ' + opened.replaced if sys.argv[1] == 'worker' else 'open'
except BridgeError as error:
    said = f'{error.name} {error.text}'
print('ready', said, flush=True)
"""


@pytest.mark.posix('Windows has no such limit')
@pytest.mark.parametrize('left', range(5))
@pytest.mark.parametrize('who', ['client', 'worker'])
def test_who_has_no_more_files_does_not_take_a_segment_for_one_of_an_earlier_boot(segment_directory, who, left):
    """With two files left, a worker retired the segment with all that was in it, and a program was told so."""
    Segment('rig').close()
    with Client('rig', timeout=0) as client:
        request = client.send('EXPINIT', ttl=None)
        words = [sys.executable, '-c', OPENS_LAST_FILES, who, str(left)]
        said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
        assert 'earlier boot' not in said
        assert said.startswith('ready IBLB_E_SYSTEM ' if left < 3 else ('ready replaced \n', 'ready open\n'))
        with Segment('rig') as segment:
            assert [command.message for command in segment.take(1)[1]] == [1]
            assert client.cancel(request)


CLEANS_WITH_ITS_LAST_FILE = f"""
from bridge.segment.inspection import clean, inspect
{OPENS_LAST_FILES.partition('try:' + chr(10) + '    opened')[0]}
report = inspect('rig')
try:
    clean('rig')
    said = 'removed'
except BridgeError as error:
    said = error.name
print(report.boot, said)
"""


@pytest.mark.posix('Windows has no such limit')
def test_a_doctor_that_cannot_read_which_boot_this_is_removes_nothing(segment_directory):
    """It said that it was of another boot, and removed it with the commands that the next worker was to send."""
    Segment('rig').close()
    with Client('rig', timeout=0) as client:
        client.send('EXPINIT', ttl=None)
    words = [sys.executable, '-c', CLEANS_WITH_ITS_LAST_FILE, '', '1']
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    assert said.split() == ['unknown', 'IBLB_E_SYSTEM']
    with Segment('rig') as segment:
        assert [command.message for command in segment.take(1)[1]] == [1]


@pytest.mark.posix('Windows has no such limit')
def test_a_limit_on_file_sizes_is_told_with_the_size_and_leaves_nothing_behind(segment_directory):
    done = subprocess.run([sys.executable, '-c', LIMITED], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith('IBLB_E_MEMORY There is no room for ') and 'File too large' in done.stdout
    assert list(segment_directory.iterdir()) == []


TIMED = """
import signal, sys
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
from bridge.segment.served import Segment
for i in range(20):
    Segment(f'rig{i}').close(remove=True)
print('made')
"""


@pytest.mark.posix('nothing interrupts a system call of Windows')
def test_signals_that_come_while_a_segment_is_made_are_no_lack_of_room():
    done = subprocess.run([sys.executable, '-c', TIMED], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == 'made\n', done.stderr
